//! The page for people, in a browser: changes that the events of the service report, and the history.

use crate::browser::{Browser, ENTER};
use crate::harness::{LOCK, Service, Start, request_body, wait_until};
use serde_json::json;
use std::time::Instant;

#[test]
fn the_page_shows_changes_from_events_and_reads_the_list_where_it_gets_none() {
    let mut service = Service::new();
    let browser = Browser::start();
    browser.open(&service);
    browser.wait_until("document.getElementById('state').innerText === 'Live'");
    browser.wait_for_text("Nothing is locked.");
    // The page reads the list once more when the stream begins. Then it only reads it every 30 seconds.
    browser.wait_until(&format!("{} >= 2", Browser::READS));
    let reads = || browser.run(&format!("return {}", Browser::READS)).as_u64().unwrap();
    let (before, begun) = (reads(), Instant::now());
    let id = service.request("db", "ann", r#""ttl":"1h""#).id();
    browser.wait_for_rows(1);
    let waiter = service.start_waiting("carl", r#""wait":"600s""#);
    browser.wait_until("document.querySelector('#rows li')?.innerText === 'carl'");
    service.call("PUT", &format!("{LOCK}/{id}/renew"), r#"{"ttl":"2h"}"#).ok();
    browser.wait_for_text("TTL 2h");
    service.call("PUT", &format!("{LOCK}/{id}"), r#"{"who":"zoe"}"#).ok();
    browser.wait_for_text("zoe");
    drop(waiter);
    browser.wait_until("!document.querySelector('#rows li')");
    // It ends by itself after the page has shown it.
    let short = service.request("short", "bob", r#""ttl":"1h""#).id();
    browser.wait_for_text("2 locks");
    service.call("PUT", &format!("{LOCK}/{short}/renew"), r#"{"ttl":"50ms"}"#).ok();
    browser.wait_for_text("1 lock");
    service.unlock(&id).ok();
    browser.wait_for_text("Nothing is locked.");
    let most = 1 + begun.elapsed().as_secs() / 30;
    assert!(reads() <= before + most, "{} reads", reads() - before);
    browser.expect_no_errors();

    // A page in the background uses no connection.
    let wait_for_clients = |number: u32| {
        let line = format!("aba_lockd_event_clients {number}\n");
        wait_until(&line, || service.get("/metrics").text.contains(&line));
    };
    let hide = |is_hidden: bool| {
        browser.run(&format!(
            "Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }});
            document.dispatchEvent(new Event('visibilitychange'))"
        ));
    };
    wait_for_clients(1);
    hide(true);
    wait_for_clients(0);
    hide(false);
    wait_for_clients(1);

    // The page returns to the events after a restart.
    service.kill();
    browser.wait_for_text("Offline: trying again");
    let service = service.restart(&[]);
    service.acquire("db", "ann");
    browser.wait_for_rows(1);
    browser.wait_until("document.getElementById('state').innerText === 'Live'");

    // A proxy that does not pass the events on.
    browser.call_developer_tools("Network.enable", &json!({}));
    browser.call_developer_tools("Network.setBlockedURLs", &json!({"urls": ["*/locks/events*"]}));
    browser.open(&service);
    browser.wait_for_rows(1);
    service.acquire("cache", "bob");
    browser.wait_for_rows(2);
    assert_eq!(browser.run("return document.getElementById('state').innerText"), "Every 3 s");
}

#[test]
fn the_history_shows_how_each_lock_ended() {
    let service = Start::new().token_file("ci lock:read,lock:write ci\nops lock:admin admin\n").start();
    let mut connection = service.connect();
    let token = [("Authorization", "Bearer ci")];
    let mut call = |method: &str, path: &str, body: &str| connection.call(method, path, &token, body);
    for number in 0..101 {
        let id = call("POST", LOCK, &request_body(&format!("old-{number}"), "ann", "")).id();
        call("DELETE", &format!("{LOCK}/{id}"), "").ok();
    }
    call("POST", LOCK, &request_body("forced", "ann", r#""mode":"shared""#)).ok();
    let browser = Browser::start();
    browser.open(&service);
    browser.wait_for_text("Token required");
    browser.type_keys(&format!("admin{ENTER}"));
    browser.wait_for_rows(1);
    browser.unlock("forced");
    browser.wait_for_text("Nothing is locked.");
    browser.click("#to-history");
    let first = "document.querySelector('#past-rows tr')?.innerText";
    browser.wait_until(&format!("{first}.includes('force-unlocked by ops')"));
    let text = browser.run(&format!("return {first}"));
    for words in ["web / prod / forced", "ann", "shared", "since ", " ago, at "] {
        assert!(text.as_str().unwrap().contains(words), "{words:?} is not in {text}");
    }
    assert!(browser.text().contains("100 newest locks in the history"));
    // Events bring new rows, also next to older ones.
    browser.click("#older");
    browser.wait_for_text("102 locks in the history");
    assert_eq!(browser.run("return document.getElementById('older').hidden"), true);
    call("POST", LOCK, &request_body("short", "bob", r#""ttl":"1s""#)).ok();
    browser.wait_until(&format!("{first}.includes('expired')"));
    assert!(browser.text().contains("103 locks in the history"));
    browser.save_screenshot("history");
    // The service searches, and the address keeps the search.
    browser.type_keys("/ann old-99");
    browser.wait_until("document.querySelectorAll('#past-rows tr').length === 1");
    assert!(browser.text().contains("released by ci"));
    browser.click("#service");
    browser.type_keys("shop");
    browser.wait_for_text("No lock in the history matches.");
    assert_eq!(browser.run("return location.search"), "?view=history&service=shop&q=ann+old-99");
    browser.open_with_query(&service, "?view=history&service=web&q=old-98");
    browser.wait_until("document.querySelectorAll('#past-rows tr').length === 1");
    // The views are links with the same filter, and the browser's button leads back.
    browser.click("#to-locks");
    browser.wait_until("location.search === '?q=old-98' && !document.getElementById('held').hidden");
    browser.run("history.back()");
    browser.wait_until("!document.getElementById('history').hidden");
}
