//! The page for people, in a browser: its looks on each screen, and what it offers to a screen reader. Its headers.

use crate::browser::{Browser, ESCAPE};
use crate::harness::{LOCK, Service, Start};
use crate::http::Connection;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Returns the texts whose contrast with their background is less than that of WCAG AA, 4.5, each with its colors.
const LOW_CONTRAST: &str = r"
const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return { r, g, b, a }; };
const light = ({ r, g, b }) => { const part = (one) => { one /= 255; return one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4; };
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
const behind = (element) => { for (; element; element = element.parentElement) { const color = parse(getComputedStyle(element).backgroundColor);
  if (color.a === 1) return color; } return { r: 255, g: 255, b: 255 }; };
const found = [], top = document.querySelector('dialog[open]') || document.body;
for (const element of top.querySelectorAll('*')) {
  if (!element.checkVisibility() || element.ariaDisabled === 'true' || ![...element.childNodes].some((one) => one.nodeType === 3 && one.data.trim())) continue;
  const [one, other] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
  const ratio = (one + 0.05) / (other + 0.05);
  if (ratio < 4.5) found.push(`${element.textContent} ${ratio.toFixed(2)}`);
}
return found;";

/// Returns the visible elements that take part of their text outside of the screen, and the buttons with more than one line.
const CROOKED: &str = r"
const width = document.documentElement.clientWidth, top = document.querySelector('dialog[open]') || document.body;
const wide = [...top.querySelectorAll('*')].filter((one) => one.checkVisibility() && !one.closest('.hidden, thead') && (one.getBoundingClientRect().right > width + 0.5 || one.getBoundingClientRect().left < -0.5));
const high = [...top.querySelectorAll('button')].filter((one) => one.offsetHeight > 48);
return [...wide, ...high].map((one) => one.outerHTML.slice(0, 200));";

/// Returns the controls to which a screen reader gives no name.
fn list_unnamed(browser: &Browser) -> Vec<Value> {
    let tree = browser.call_developer_tools("Accessibility.getFullAXTree", &json!({}));
    let controls = ["button", "textbox", "searchbox", "combobox", "link", "dialog", "table", "form"];
    let nodes = tree["nodes"].as_array().unwrap();
    let is_unnamed = |node: &&Value| {
        node["ignored"] == false
            && controls.contains(&node["role"]["value"].as_str().unwrap_or_default())
            && node["name"]["value"].as_str().unwrap_or_default().is_empty()
    };
    assert!(nodes.iter().any(|node| node["role"]["value"] == "button"), "{tree}");
    nodes.iter().filter(is_unnamed).cloned().collect()
}

/// Checks the present state of the page on a screen of each kind, and saves a picture of it.
fn check_looks(browser: &Browser, state: &str) {
    for (width, height) in [(1280, 800), (900, 700), (375, 740)] {
        for dark in [false, true] {
            browser.set_screen(width, height, dark);
            let name = format!("{state}-{width}-{}", if dark { "dark" } else { "light" });
            assert_eq!(browser.run(LOW_CONTRAST), json!([]), "{name}");
            assert_eq!(browser.run(CROOKED), json!([]), "{name}");
            if width != 900 {
                browser.save_screenshot(&name);
            }
        }
    }
    assert_eq!(list_unnamed(browser), Vec::<Value>::new(), "{state}");
}

#[test]
fn the_page_can_be_read_on_each_screen() {
    let service = Service::new();
    let long = "a-resource-with-a-name-that-is-rather-long-and-has-no-place-to-break".repeat(2);
    service.request(&long, &long, r#""ttl":"1h","eventId":"a-rather-long-event-without-any-place-to-break-it""#).ok();
    // A lock that ends soon has another color. A thread renews it, so that it does not end while a slow browser starts.
    let short = service.request("db", "somebody@some.where.example", r#""ttl":"20s""#).id();
    let (renewals, over) = (service.rest.clone(), Arc::new(AtomicBool::new(false)));
    let is_over = Arc::clone(&over);
    let renewer = thread::spawn(move || {
        while !is_over.load(Ordering::SeqCst) {
            Connection::new(&renewals).call("PUT", &format!("{LOCK}/{short}/renew"), &[], "").ok();
            thread::park_timeout(Duration::from_secs(4));
        }
    });
    service.request("runner", "ann", r#""slots":1024"#).ok();
    let _waiter = service.start_waiting_for(&long, &long, r#""wait":"60s""#);
    service.wait_for_waiters(&long, 1);
    let browser = Browser::start();
    browser.open(&service);
    browser.wait_for_rows(3);
    check_looks(&browser, "held");
    assert_eq!(browser.run("return getComputedStyle(document.body).backgroundColor"), "rgb(20, 23, 26)");
    browser.click("#rows button.open");
    check_looks(&browser, "details");
    // The user prefers reduced motion.
    let animation = browser.run("return getComputedStyle(document.querySelector('dialog[open]')).animationName");
    assert_eq!(animation, "none");
    browser.click("#ask");
    check_looks(&browser, "question");
    browser.type_keys(ESCAPE);
    browser.type_keys(ESCAPE);
    let ended = service.acquire("ended", "ann");
    service.unlock(&ended).ok();
    browser.click("#to-history");
    browser.wait_for_text("1 lock in the history");
    check_looks(&browser, "history");
    browser.click("#to-locks");
    browser.type_keys("/zoe");
    browser.wait_for_text("No lock contains all these words.");
    check_looks(&browser, "nothing");
    browser.type_keys(ESCAPE);
    browser.wait_for_rows(3);
    browser.expect_no_errors();
    over.store(true, Ordering::SeqCst);
    renewer.thread().unpark();
    renewer.join().unwrap();
    drop(service);
    browser.wait_for_text("The service does not answer.");
    check_looks(&browser, "offline");
    let guarded = Start::new().token_file("board lock:read look\n").start();
    browser.open(&guarded);
    browser.wait_for_text("Token required");
    check_looks(&browser, "token");
}

#[test]
fn the_page_forbids_content_of_other_origins() {
    let service = Service::new();
    let page = service.get("/");
    let files = page.text.split('"').filter(|part| part.starts_with("page/"));
    let script = service.get("/page/main.js").text;
    let modules = script.split('"').filter_map(|part| part.strip_prefix("./"));
    let files: Vec<String> =
        files.map(|file| format!("/{file}")).chain(modules.map(|file| format!("/page/{file}"))).collect();
    assert!(files.len() >= 9, "{files:?}");
    for file in files.iter().map(String::as_str).chain(["/"]) {
        let answer = service.get(file);
        assert_eq!(answer.status, 200, "{file}");
        for header in [
            "content-security-policy: default-src 'none'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.headers.contains(header), "{file}: {header} is not in {}", answer.headers);
        }
        assert!(!answer.headers.contains("unsafe-inline"), "{}", answer.headers);
        let text = answer.text.replace("http://www.w3.org/2000/svg", "");
        for other in ["http://", "https://", "innerHTML", "<style", "onclick"] {
            assert!(!text.contains(other), "{file} contains {other}");
        }
    }
    service.get("/page/other.js").expect_refusal(404, 5);
}
