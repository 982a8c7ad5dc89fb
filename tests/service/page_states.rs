//! The page for people, in a browser: a service that is empty, down or hangs, tokens, and permissions.

use crate::browser::{Browser, DOWN, ENTER, ESCAPE};
use crate::harness::{LOCK, Service, Start, request_body};

#[test]
fn the_page_says_that_the_service_is_down_shows_its_age_and_cannot_unlock() {
    let mut service = Service::new();
    let browser = Browser::start();
    browser.open(&service);
    browser.wait_for_text("Nothing is locked.");
    service.acquire("db", "ann");
    browser.wait_for_rows(1);
    browser.type_keys(DOWN);
    service.kill();
    browser.wait_for_text("The service does not answer. The page shows the locks as of ");
    let text = browser.text();
    assert!(text.contains("1 lock, as of ") && text.contains("Offline: trying again"), "{text}");
    browser.save_screenshot("down");
    // The button of the row has kept the focus.
    browser.type_keys(ENTER);
    browser.wait_until("document.querySelector('dialog[open]')");
    browser.click("#ask");
    assert_eq!(browser.run("return document.getElementById('sure').hidden"), true);
    let service = service.restart(&[]);
    browser.wait_until("document.getElementById('ask').ariaDisabled === 'false'");
    browser.wait_until("document.getElementById('problem').hidden");
    browser.click("#ask");
    browser.click("#go");
    browser.wait_for_text("Nothing is locked.");
    assert!(service.list("").is_empty());

    // A service that hangs is treated as down, here after a shorter time than usual.
    service.acquire("db", "ann");
    browser.wait_for_rows(1);
    browser.run("const limit = AbortSignal.timeout.bind(AbortSignal); AbortSignal.timeout = () => limit(500)");
    service.signal("STOP");
    // As if the user had come back to the page, which reads the list then.
    browser.run("document.dispatchEvent(new Event('visibilitychange'))");
    browser.wait_for_text("The service does not answer.");
    browser.open_details("db");
    browser.click("#ask");
    assert_eq!(browser.run("return document.getElementById('sure').hidden"), true);
    browser.run("AbortSignal.timeout = () => undefined");
    service.signal("CONT");
    browser.wait_until("document.getElementById('problem').hidden");
}

#[test]
fn the_page_asks_for_a_token_if_one_is_needed_and_names_a_missing_permission() {
    let tokens = "board lock:read look\nwriter lock:write write\nci lock:write,lock:read all\nops lock:admin admin\n";
    let service = Start::new().token_file(tokens).start();
    let browser = Browser::start();
    browser.open(&service);
    browser.wait_for_text("Token required");
    assert_eq!(browser.run("return document.getElementById('tools').hidden"), true);
    // The message for a wrong token differs from that for a missing one, and that for a missing permission from both.
    for (token, message) in [
        ("wrong", "The service refused the token."),
        ("größe", "A token has only ASCII letters"),
        ("write", "The service refused: the token of writer does not permit lock:read."),
    ] {
        browser.type_keys(&format!("{token}{ENTER}"));
        browser.wait_for_text(message);
        browser.save_screenshot(&format!("token-{token}"));
        browser.wait_until("document.activeElement.id === 'token'");
    }
    browser.type_keys(&format!("look{ENTER}"));
    browser.wait_for_text("Nothing is locked.");
    let used = browser.run("return document.activeElement.id");
    assert_eq!(used, "filter");

    // Only the owner and lock:admin may unlock, and the refusal says so. It stays until the question is closed.
    let token = [("Authorization", "Bearer all")];
    let lock = |resource| service.connect().call("POST", LOCK, &token, &request_body(resource, "ann", "")).ok();
    let secret = lock("db")["secret"].as_str().unwrap().to_owned();
    browser.wait_for_rows(1);
    browser.unlock("db");
    browser.wait_for_text("web / prod / db was not unlocked: the token of board does not permit lock:write.");
    let other = lock("other")["id"].as_str().unwrap().to_owned();
    browser.wait_for_rows(2);
    service.connect().call("DELETE", &format!("{LOCK}/{other}"), &token, "").ok();
    browser.wait_for_rows(1);
    assert!(browser.text().contains("Only the owner's token, a token with lock:admin, or the secret of the lock"));
    browser.type_keys(ESCAPE);
    browser.type_keys(ESCAPE);
    // A token that may write needs the secret of the lock.
    let change_token = |token: &str| {
        browser.click("#other-token");
        browser.type_keys(&format!("{token}{ENTER}"));
        browser.wait_until("document.getElementById('gate').hidden");
    };
    browser.click("#other-token");
    browser.click("#keep-token");
    browser.wait_for_text("web / prod / db");
    service.connect();
    std::fs::write(service.path("tokens"), tokens.replace("write write", "write,lock:read write")).unwrap();
    service.signal("HUP");
    service.wait_for_log(&["\"event\":\"reloaded\""]);
    change_token("write");
    browser.unlock("db");
    browser.wait_for_text("the lock belongs to ci, and the token of writer does not permit lock:admin.");
    browser.save_screenshot("refused");
    browser.click("#secret");
    browser.type_keys(&format!("{secret}{ENTER}"));
    browser.wait_for_text("web / prod / db, held by ann, was unlocked.");
    lock("db");
    browser.wait_for_rows(1);
    change_token("admin");
    browser.unlock("db");
    browser.wait_for_text("Nothing is locked.");
    // A token that is not valid any more.
    std::fs::write(service.path("tokens"), "board lock:read look\n").unwrap();
    service.signal("HUP");
    browser.wait_for_text("The service refused the token.");
}
