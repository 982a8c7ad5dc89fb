//! The page for people, in a browser: the list of locks, the details of one lock, and the address.

use crate::browser::{Browser, DOWN, ENTER, ESCAPE, TAB};
use crate::harness::{LOCK, Service, request_body};
use serde_json::json;

#[test]
fn the_page_shows_locks_and_waiters_and_unlocks_after_a_question() {
    let service = Service::new();
    let special = "<b>bob</b> & \\\"co\\\"";
    service.request("db", "ann", r#""eventId":"release 7","ttl":"1h""#).ok();
    let cache = service.request("cache", special, "").id();
    let mut waiter = service.start_waiting("carl", r#""wait":"600s""#);
    service.wait_for_waiters("db", 1);
    let browser = Browser::start();
    browser.open(&service);
    browser.wait_for_rows(2);
    let text = browser.text();
    for words in [
        "2 locks",
        "web / prod / db",
        "ann",
        "event release 7",
        "exclusive",
        "since ",
        "TTL 1h",
        "carl",
        "when unlocked",
        "<b>bob</b> & \"co\"",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text:?}");
    }
    // The page rounds the time to live, and shows it a moment after the lock was granted.
    assert!(text.contains("in 59m") || text.contains("in 1h"), "{text:?}");
    // No button of a row unlocks.
    assert!(!text.to_lowercase().contains("force") && !text.contains("Unlock"), "{text:?}");
    browser.save_screenshot("held");

    // The filter, with the keyboard alone.
    browser.type_keys("/carl");
    browser.wait_for_rows(1);
    assert!(browser.text().contains("1 of 2 locks"));
    browser.type_keys(" zoe");
    browser.wait_for_text("No lock contains all these words.");
    browser.type_keys(ESCAPE);
    browser.wait_for_rows(2);

    // The details, and the question, whose focus is on the button that does not unlock.
    browser.type_keys(DOWN);
    browser.type_keys(ENTER);
    browser.wait_until("document.querySelector('dialog[open]')");
    assert!(!browser.text().contains("Unlock the lock of"));
    browser.type_keys(&format!("{TAB}{TAB}{TAB}"));
    assert_eq!(browser.run("return document.activeElement.innerText"), "Force unlock …");
    browser.type_keys(ENTER);
    browser.wait_for_text("Unlock the lock of ann?");
    let text = browser.text();
    assert!(text.contains("ann has held web / prod / db for ") && text.contains("carl is next"), "{text}");
    browser.type_keys(ENTER);
    browser.wait_until("document.activeElement.id === 'ask'");
    // Escape leaves the question, and then the details.
    browser.type_keys(ENTER);
    browser.wait_for_text("Unlock the lock of ann?");
    browser.type_keys(ESCAPE);
    browser.wait_until("document.activeElement.id === 'ask'");
    browser.type_keys(ESCAPE);
    browser.wait_until("!document.querySelector('dialog[open]')");
    assert_eq!(browser.run("return document.activeElement.closest('tr').innerText.includes('ann')"), true);
    assert_eq!(service.list("").len(), 2);
    // The other button unlocks, and the lock is granted to the waiter.
    browser.unlock("db");
    assert_eq!(waiter.answer("POST").lock()["who"], "carl");
    browser.wait_for_text("web / prod / db, held by ann, was unlocked.");
    browser.wait_until("[...document.querySelectorAll('#rows tr')].some((row) => row.innerText.includes('carl') && !row.innerText.includes('ann'))");
    // The page shows changes by other clients without any action, also in the details.
    browser.open_details("cache");
    service.unlock(&cache).ok();
    browser.wait_for_text("This lock is no longer held.");
    assert_eq!(browser.run("return document.getElementById('ask').ariaDisabled"), "true");
    browser.type_keys(ESCAPE);
    browser.wait_for_rows(1);
    browser.expect_no_errors();
}

#[test]
fn the_page_shows_shared_locks_and_slots_with_their_other_holders() {
    let service = Service::new();
    for who in ["ann", "bob"] {
        service.request("report", who, r#""mode":"shared""#).ok();
        service.request("runner", who, r#""slots":3,"ttl":"1h""#).ok();
    }
    let mut waiter = service.start_waiting_for("report", "carl", r#""wait":"600s""#);
    service.wait_for_waiters("report", 1);
    let browser = Browser::start();
    browser.open_with_query(&service, "?sort=mode");
    browser.wait_for_rows(4);
    let modes = browser.run("return [...document.querySelectorAll('#rows .pill')].map((one) => one.innerText)");
    assert_eq!(modes, json!(["shared", "shared", "slot 1 of 3", "slot 2 of 3"]));
    browser.open_details("report");
    let text = browser.run("return document.getElementById('facts').innerText");
    let text = text.as_str().unwrap();
    for words in ["Also held by\nbob", "Mode\nshared", "Ends\nwhen it is unlocked", "1. carl, for "] {
        assert!(text.contains(words), "{words:?} is not in {text:?}");
    }
    browser.type_keys(ESCAPE);
    browser.open_details("runner");
    let text = browser.text();
    assert!(text.contains("bob (slot 2)") && text.contains("(TTL 1h)"), "{text}");
    // A click next to the dialog closes it, and one on its margin does not.
    browser.click_next_to("#details", 5);
    assert_eq!(browser.run("return document.getElementById('details').open"), true);
    browser.click_next_to("#details", -5);
    assert_eq!(browser.run("return document.getElementById('details').open"), false);
    for lock in service.list("resource=report") {
        service.unlock(lock["id"].as_str().unwrap()).ok();
    }
    waiter.answer("POST").lock();
    browser.expect_no_errors();
}

#[test]
fn the_filter_finds_locks_beyond_the_oldest_thousand() {
    let service = Service::new();
    let mut connection = service.connect();
    for number in 0..1005 {
        connection.call("POST", LOCK, &[], &request_body(&format!("r{number}"), "ann", "")).ok();
    }
    service.acquire("newest", "bob");
    let browser = Browser::start();
    browser.open(&service);
    browser.wait_for_text("1006 locks, showing the oldest 1000");
    browser.type_keys("/NEWEST bob");
    browser.wait_for_rows(1);
    assert_eq!(browser.list_locks(), ["web / prod / newest"]);
    assert!(browser.text().contains("1 of 1006 locks") && !browser.text().contains("showing"));
    // The filter can be given in the address. "No lock" is shown only after the search.
    browser.open_with_query(&service, "?q=newest");
    browser.wait_for_rows(1);
    browser.type_keys("/ zoe");
    browser.wait_for_text("No lock contains all these words.");
    assert!(browser.text().contains("0 of 1006 locks"));
    browser.expect_no_errors();
}

#[test]
fn an_id_can_be_selected_and_copied_while_the_page_refreshes() {
    let service = Service::new();
    let id = service.request("db", "ann", r#""ttl":"1h""#).id();
    let browser = Browser::start();
    browser.open(&service);
    browser.wait_for_rows(1);
    browser.run("getSelection().selectAllChildren(document.querySelector('#rows .id'))");
    // The selection stays while other rows are added and removed, and while the lock is renewed.
    let other = service.acquire("cache", "bob");
    browser.wait_for_rows(2);
    service.unlock(&other).ok();
    service.call("PUT", &format!("{LOCK}/{id}/renew"), r#"{"ttl":"2h"}"#).ok();
    browser.wait_for_text("TTL 2h");
    browser.wait_for_rows(1);
    assert_eq!(browser.run("return getSelection().toString()"), id.as_str());
    browser.run("getSelection().removeAllRanges()");
    browser.click("#rows .copy");
    browser.wait_until("document.querySelector('#rows .copy').innerText === 'Copied'");
    assert_eq!(browser.run("return document.getElementById('said').innerText"), "The id was copied.");
    // Without a clipboard for scripts, as over plain HTTP on another machine, the selection is copied.
    browser.wait_until("document.querySelector('#rows .copy').innerText === 'Copy'");
    browser.run("Object.defineProperty(navigator, 'clipboard', { value: undefined })");
    browser.click("#rows .copy");
    browser.wait_until("document.querySelector('#rows .copy').innerText === 'Copied'");
    assert_eq!(browser.run("return getSelection().toString()"), id.as_str());
    browser.expect_no_errors();
}

#[test]
fn the_address_contains_the_order_and_the_filter() {
    let service = Service::new();
    for (resource, who, more) in [("b", "carl", r#""ttl":"2h""#), ("a", "bob", ""), ("c", "ann", r#""ttl":"1h""#)] {
        service.request(resource, who, more).ok();
    }
    let browser = Browser::start();
    browser.open(&service);
    browser.wait_for_rows(3);
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
    ] {
        browser.click(&format!("th[data-key={column}] button"));
        assert_eq!((shown(), address()), (order.to_owned(), query.to_owned()), "{column}");
    }
    // The button has the focus, so the keyboard sorts, too.
    browser.type_keys(ENTER);
    assert_eq!((shown(), address()), ("abc".to_owned(), "?sort=-end".to_owned()));
    let sorted =
        "return [...document.querySelectorAll('th[aria-sort]')].map((one) => `${one.dataset.key} ${one.ariaSort}`)";
    assert_eq!(browser.run(sorted), json!(["end descending"]));
    browser.type_keys("/web carl");
    browser.wait_until("location.search === '?q=web+carl&sort=-end'");
    browser.open_with_query(&service, &address());
    browser.wait_for_rows(1);
    assert_eq!(browser.run("return document.getElementById('filter').value"), "web carl");
    assert_eq!(browser.run(sorted), json!(["end descending"]));
    browser.expect_no_errors();
}
