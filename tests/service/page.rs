//! The page for people, in a browser.

use crate::browser::{Browser, DOWN, ENTER, ESCAPE};
use crate::harness::{LOCK, Service, Start, request_body};
use serde_json::json;

#[test]
fn the_page_shows_locks_and_waiters_and_unlocks_after_a_question() {
    let service = Service::new();
    let special = "<b>bob</b> & \\\"co\\\"";
    let db = service.request("db", "ann", r#""eventId":"release 7","ttl":"1h""#).id();
    let cache = service.request("cache", special, "").id();
    let mut waiter = service.start_waiting("carl", r#""wait":"600s""#);
    service.wait_for_waiters("db", 1);
    let browser = Browser::start(1100, 700, false);
    browser.open(&service);
    browser.wait_until("document.querySelectorAll('tbody tr').length === 2");
    let text = browser.text();
    for words in
        ["2 locks", "web / prod / db", "ann", "event release 7", "carl", "when unlocked", "<b>bob</b> & \"co\""]
    {
        assert!(text.contains(words), "{words:?} is not in {text:?}");
    }
    // The page rounds the time to live, and shows it a moment after the lock was granted.
    assert!(text.contains("in 59m") || text.contains("in 1h"), "{text:?}");
    browser.save_screenshot("wide");

    // The filter, with the keyboard alone.
    browser.type_keys("/carl");
    browser.wait_until("document.querySelectorAll('tbody tr').length === 1");
    assert!(browser.text().contains("1 of 2 locks"));
    browser.type_keys(" nobody");
    browser.wait_until("document.getElementById('table').hidden");
    assert!(browser.text().contains("No lock contains all these words."));
    browser.type_keys(ESCAPE);
    browser.wait_until("document.querySelectorAll('tbody tr').length === 2");

    // The question has the focus on the button that does not unlock.
    browser.type_keys(DOWN);
    browser.type_keys(ENTER);
    browser.wait_until("document.querySelector('dialog[open]')");
    let text = browser.text();
    assert!(
        text.contains("Unlock this lock?")
            && text.contains("web / prod / db, held by ann")
            && text.contains("carl is next"),
        "{text}"
    );
    browser.save_screenshot("sure");
    browser.type_keys(ENTER);
    browser.wait_until("!document.querySelector('dialog[open]')");
    assert_eq!(service.list("").len(), 2);
    // The other button unlocks, and the lock is granted to the waiter.
    browser.click(&format!("tr[data-id='{db}'] button.danger"));
    browser.wait_until("document.querySelector('dialog[open]')");
    browser.click("#go");
    assert_eq!(waiter.answer("POST").lock()["who"], "carl");
    browser.wait_until("[...document.querySelectorAll('tbody tr')].some((row) => row.innerText.includes('carl') && !row.innerText.includes('ann'))");
    // The page shows changes by other clients without any action.
    service.unlock(&cache).ok();
    browser.wait_until("document.querySelectorAll('tbody tr').length === 1");
    browser.expect_no_errors();
}

#[test]
fn the_page_fits_a_narrow_and_dark_screen() {
    let service = Service::new();
    service.request(
        "a-resource-with-a-name-that-is-rather-long-and-has-no-place-to-break",
        "somebody@some.where.example",
        r#""ttl":"1h""#,
    );
    service.acquire("db", "ann");
    let browser = Browser::start(500, 800, true);
    browser.open(&service);
    browser.wait_until("document.querySelectorAll('tbody tr').length === 2");
    assert_eq!(
        browser.run("return document.documentElement.scrollWidth > document.documentElement.clientWidth"),
        false
    );
    assert_eq!(browser.run("return getComputedStyle(document.body).backgroundColor"), "rgb(20, 23, 26)");
    browser.save_screenshot("narrow");
    browser.expect_no_errors();
}

#[test]
fn the_page_reports_an_empty_list_and_a_service_that_is_down() {
    let mut service = Service::new();
    let browser = Browser::start(800, 600, false);
    browser.open(&service);
    browser.wait_until("document.body.innerText.includes('Nothing is locked.')");
    service.kill();
    browser.wait_until("document.body.innerText.includes('The service does not answer.')");
    assert!(browser.text().contains("0 locks, as of "));
    let service = service.restart(&[]);
    service.acquire("db", "ann");
    browser
        .wait_until("document.querySelectorAll('tbody tr').length === 1 && document.getElementById('problem').hidden");
}

#[test]
fn the_page_asks_for_a_token_if_one_is_needed() {
    let service = Start::new().token_file("board lock:read look\n").start();
    let browser = Browser::start(800, 600, false);
    browser.open(&service);
    browser.wait_until("document.getElementById('who').open");
    assert!(browser.text().contains("Token required"));
    // The message for a wrong token differs from that for a missing one.
    browser.type_keys("wrong");
    browser.type_keys(ENTER);
    browser.wait_until("document.body.innerText.includes('Unknown token')");
    browser.save_screenshot("token");
    browser.type_keys("look");
    browser.type_keys(ENTER);
    browser.wait_until(
        "document.body.innerText.includes('Nothing is locked.') && !document.querySelector('dialog[open]')",
    );
}

#[test]
fn the_page_forbids_content_of_other_origins() {
    let service = Service::new();
    let answer = service.get("/");
    assert_eq!(answer.status, 200);
    for header in [
        "content-security-policy: default-src 'none'",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(answer.headers.contains(header), "{header} is not in {}", answer.headers);
    }
    assert!(
        !answer.text.contains("http://") && !answer.text.contains("https://") && !answer.text.contains("innerHTML")
    );
}

#[test]
fn the_filter_finds_locks_beyond_the_oldest_thousand() {
    let service = Service::new();
    let mut connection = service.connect();
    for number in 0..1005 {
        connection.call("POST", LOCK, &[], &request_body(&format!("r{number}"), "ann", "")).ok();
    }
    service.acquire("newest", "bob");
    let browser = Browser::start(1024, 700, false);
    browser.open(&service);
    browser.wait_until("document.body.innerText.includes('1006 locks, showing the oldest 1000')");
    browser.type_keys("/NEWEST bob");
    browser.wait_until("document.querySelectorAll('tbody tr').length === 1");
    assert_eq!(browser.list_locks(), ["web / prod / newest"]);
    assert!(browser.text().contains("1 of 1006 locks") && !browser.text().contains("showing"));
    // The filter can be given in the address. "No lock" is shown only after the search.
    browser.open_with_query(&service, "?q=newest");
    browser.wait_until("document.querySelectorAll('tbody tr').length === 1");
    browser.type_keys("/ nobody");
    browser.wait_until("document.body.innerText.includes('No lock contains all these words.')");
    assert!(browser.text().contains("0 of 1006 locks"));
    browser.expect_no_errors();
}

#[test]
fn the_message_of_a_refused_unlock_stays_until_it_is_dismissed() {
    let service = Start::new().token_file("board lock:read look\nci lock:write,lock:read all\n").start();
    let token = [("Authorization", "Bearer all")];
    service.connect().call("POST", LOCK, &token, &request_body("db", "ann", "")).ok();
    let browser = Browser::start(1024, 700, false);
    browser.open(&service);
    browser.wait_until("document.getElementById('who').open");
    browser.type_keys("look");
    browser.type_keys(ENTER);
    browser.wait_until("document.querySelector('tbody button.danger')");
    browser.click("tbody button.danger");
    browser.click("#go");
    browser.wait_until("!document.getElementById('refusal').hidden");
    browser.wait_for_refresh();
    let text = browser.text();
    assert!(
        text.contains("web / prod / db was not unlocked: the token of board does not permit lock:write."),
        "{text}"
    );
    browser.save_screenshot("refused");
    browser.click("#dismiss");
    browser.wait_until("document.getElementById('refusal').hidden");
    // Another token permits the unlock.
    browser.click("#other-token");
    browser.type_keys("all");
    browser.type_keys(ENTER);
    browser.wait_until("!document.querySelector('dialog[open]')");
    browser.click("tbody button.danger");
    browser.click("#go");
    browser.wait_until("document.body.innerText.includes('Nothing is locked.')");
}

#[test]
fn an_id_can_be_selected_and_copied_while_the_page_refreshes() {
    let service = Service::new();
    let id = service.request("db", "ann", r#""ttl":"1h""#).id();
    let browser = Browser::start(1024, 700, false);
    browser.open(&service);
    browser.wait_until("document.querySelector('tbody .id')");
    browser.run("getSelection().selectAllChildren(document.querySelector('tbody .id'))");
    // The selection stays while other rows are added and removed.
    let other = service.acquire("cache", "bob");
    browser.wait_until("document.querySelectorAll('tbody tr').length === 2");
    service.unlock(&other).ok();
    browser.wait_until("document.querySelectorAll('tbody tr').length === 1");
    browser.wait_for_refresh();
    assert_eq!(browser.run("return getSelection().toString()"), id.as_str());
    browser.click("tbody .copy");
    browser.wait_until("['Copied', 'Selected'].includes(document.querySelector('tbody .copy').innerText)");
}

#[test]
fn while_the_service_is_down_the_page_shows_its_age_and_cannot_unlock() {
    let mut service = Service::new();
    service.acquire("db", "ann");
    let browser = Browser::start(1024, 700, false);
    browser.open(&service);
    browser.wait_until("document.querySelector('tbody button.danger')");
    browser.type_keys(DOWN);
    service.kill();
    browser.wait_until("document.querySelector('tbody button.danger').getAttribute('aria-disabled') === 'true'");
    browser.type_keys(ENTER);
    assert_eq!(browser.run("return !!document.querySelector('dialog[open]')"), false);
    let text = browser.text();
    assert!(text.contains("The service does not answer.") && text.contains("1 lock, as of "), "{text}");
    browser.save_screenshot("down");
    let service = service.restart(&[]);
    browser.wait_until("document.querySelector('tbody button.danger').getAttribute('aria-disabled') === 'false'");
    // The button has kept the focus.
    browser.type_keys(ENTER);
    browser.wait_until("document.querySelector('dialog[open]')");
    browser.click("#go");
    browser.wait_until("document.body.innerText.includes('Nothing is locked.')");
    assert!(service.list("").is_empty());
}

#[test]
fn the_page_treats_a_service_that_hangs_as_down() {
    let service = Service::new();
    service.acquire("db", "ann");
    let browser = Browser::start(1024, 700, false);
    browser.open(&service);
    browser.wait_until("document.querySelector('tbody button.danger')");
    service.signal("STOP");
    browser.wait_until("document.querySelector('tbody button.danger').getAttribute('aria-disabled') === 'true'");
    assert!(browser.text().contains("The service does not answer."), "{}", browser.text());
    service.signal("CONT");
    browser.wait_until("document.querySelector('tbody button.danger').getAttribute('aria-disabled') === 'false'");
}

#[test]
fn the_address_contains_the_order_and_the_filter() {
    let service = Service::new();
    for (resource, who, more) in [("b", "carl", r#""ttl":"2h""#), ("a", "bob", ""), ("c", "ann", r#""ttl":"1h""#)] {
        service.request(resource, who, more).ok();
    }
    let browser = Browser::start(1024, 700, false);
    browser.open(&service);
    browser.wait_until("document.querySelectorAll('tbody tr').length === 3");
    let shown =
        || browser.list_locks().iter().map(|name| name.rsplit(' ').next().unwrap().to_owned()).collect::<String>();
    let address = || browser.run("return location.search").as_str().unwrap().to_owned();
    assert_eq!((shown(), address()), ("bac".to_owned(), String::new()));
    for (column, order, query) in [
        ("lock", "abc", "?sort=lock"),
        ("lock", "cba", "?sort=-lock"),
        ("lock", "bac", ""),
        ("owner", "cab", "?sort=owner"),
        ("age", "cab", "?sort=age"),
        ("end", "cba", "?sort=end"),
        ("end", "abc", "?sort=-end"),
    ] {
        browser.click(&format!("th[data-key={column}] button"));
        assert_eq!((shown(), address()), (order.to_owned(), query.to_owned()), "{column}");
    }
    browser.type_keys("/web c");
    browser.wait_until("location.search === '?q=web+c&sort=-end'");
    browser.save_screenshot("sorted");
    browser.open_with_query(&service, &address());
    browser.wait_until("document.querySelectorAll('tbody tr').length > 0");
    assert_eq!(browser.run("return document.getElementById('filter').value"), "web c");
    assert_eq!(browser.run("return document.querySelector('th[data-key=end]').ariaSort"), "descending");
    browser.expect_no_errors();
}

#[test]
fn the_text_of_a_button_stays_on_one_line() {
    let service = Service::new();
    let long = "a-resource-with-a-name-that-is-rather-long-and-has-no-place-to-break".repeat(2);
    service.request(&long, &long, r#""ttl":"1h","eventId":"a-rather-long-event-without-any-place-to-break-it""#).ok();
    let _waiter = service.start_waiting_for(&long, &long, r#""wait":"60s""#);
    service.wait_for_waiters(&long, 1);
    for width in [1024, 900, 750] {
        let browser = Browser::start(width, 700, false);
        browser.open(&service);
        browser.wait_until("document.querySelector('tbody button.danger')");
        let lines = "[...document.querySelectorAll('button')].filter((one) => one.offsetHeight > 48).map((one) => one.innerText)";
        assert_eq!(browser.run(&format!("return {lines}")), json!([]), "{width}");
        let too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(browser.run(&format!("return {too_wide}")), false, "{width}");
        browser.save_screenshot(&format!("long-{width}"));
    }
}
