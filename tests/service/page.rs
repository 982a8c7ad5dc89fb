//! The page, in a browser: Chromium, driven by `chromedriver` (WebDriver).

use crate::harness::{Answer, Connection, LOCK, PATIENCE, Service, Start, kept, until, wanted};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

/// How WebDriver says Enter and the like.
const ENTER: &str = "\u{e007}";
const DOWN: &str = "\u{e015}";
const ESCAPE: &str = "\u{e00c}";

struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: Rc<tempfile::TempDir>,
}

impl Browser {
    fn start(width: u32, height: u32, dark: bool) -> Self {
        let profile = Rc::new(tempfile::tempdir().unwrap());
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver: install the package chromium-driver");
        let (said, heard) = mpsc::channel();
        let mut lines = BufReader::new(driver.stdout.take().unwrap());
        thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
                if let Some(port) = line.split("successfully on port ").nth(1) {
                    let _ = said.send(port.trim().trim_end_matches('.').to_owned());
                }
                line.clear();
            }
            let _ = lines.read_to_string(&mut line);
        });
        let port = heard.recv_timeout(PATIENCE).expect("chromedriver tells its port");
        let mut browser = Self {
            driver,
            address: format!("127.0.0.1:{port}"),
            session: String::new(),
            _profile: Rc::clone(&profile),
        };
        let mut args = vec![
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.path().join("profile").display()),
        ];
        if dark {
            args.push("--force-dark-mode".to_owned());
            args.push("--blink-settings=preferredColorScheme=0".to_owned());
        }
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"browser": "WARNING"}}}});
        let made = browser.call("POST", "/session", &wanted);
        made["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = if method == "GET" || method == "DELETE" { String::new() } else { body.to_string() };
        let json = [("Content-Type", "application/json; charset=utf-8")];
        let answer: Answer = Connection::to(&self.address).call(method, path, &json, &text);
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text);
        answer.json()["value"].clone()
    }

    fn at(&self, path: &str) -> String {
        format!("/session/{}{path}", self.session)
    }

    fn goes_to(&self, service: &Service) {
        self.goes_to_page(service, "");
    }

    /// The same with a query in the address.
    fn goes_to_page(&self, service: &Service, query: &str) {
        self.call("POST", &self.at("/url"), &json!({"url": format!("http://{}/{query}", service.rest)}));
    }

    /// Waits until the page has read the list twice more: the first time, it may have begun before what was done here.
    fn until_refreshed(&self) {
        let reads = "performance.getEntriesByType('resource').filter((one) => one.name.includes('/locks/list')).length";
        let before = self.says(&format!("return {reads}")).as_u64().unwrap();
        self.until(&format!("{reads} >= {}", before + 2));
    }

    /// Which locks are shown, in this order.
    fn places(&self) -> Vec<String> {
        let places = self.says("return [...document.querySelectorAll('tbody .where')].map((one) => one.innerText)");
        places.as_array().unwrap().iter().map(|place| place.as_str().unwrap().to_owned()).collect()
    }

    /// What a script returns.
    fn says(&self, script: &str) -> Value {
        self.call("POST", &self.at("/execute/sync"), &json!({"script": script, "args": []}))
    }

    /// Waits until a script says yes.
    fn until(&self, script: &str) {
        until(script, || self.says(&format!("return !!({script})")) == true);
    }

    /// What is read on the page.
    fn text(&self) -> String {
        self.says("return document.body.innerText").as_str().unwrap().to_owned()
    }

    fn types(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})])
            .collect();
        let keys = json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]});
        self.call("POST", &self.at("/actions"), &keys);
    }

    fn clicks(&self, selector: &str) {
        let found = self.call("POST", &self.at("/element"), &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        self.call("POST", &self.at(&format!("/element/{id}/click")), &json!({}));
    }

    /// Kept under `target/`, to be looked at.
    fn pictures(&self, name: &str) {
        let picture = self.call("GET", &self.at("/screenshot"), &json!({}));
        aba_lock::os::replace::replace(
            &kept().join(format!("{name}.png.base64")),
            picture.as_str().unwrap().as_bytes(),
        )
        .unwrap();
    }

    /// Nothing was refused by the policy, nothing was fetched from elsewhere, no script failed.
    fn is_content(&self) {
        let log = self.call("POST", &self.at("/se/log"), &json!({"type": "browser"}));
        assert_eq!(log, json!([]));
        let fetched = self.says("return performance.getEntriesByType('resource').map((one) => one.name)");
        let own = self.says("return location.origin");
        for one in fetched.as_array().unwrap() {
            assert!(one.as_str().unwrap().starts_with(own.as_str().unwrap()), "{one}");
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let path = self.at("");
            let _ = std::panic::catch_unwind(|| Connection::to(&self.address)).map(|mut connection| {
                let _ = connection.try_call("DELETE", &path, "");
            });
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[test]
fn the_page_shows_who_has_what_and_unlocks_after_asking() {
    let service = Service::new();
    let odd = "<b>bob</b> & \\\"co\\\"";
    let db = service.ask("db", "ann", r#""eventId":"release 7","ttl":"1h""#).id();
    let cache = service.ask("cache", odd, "").id();
    let mut waits = service.connect();
    waits.send("POST", LOCK, &[], &wanted("db", "carl", r#""wait":"600s""#));
    service.until_waiting("db", 1);
    let browser = Browser::start(1100, 700, false);
    browser.goes_to(&service);
    browser.until("document.querySelectorAll('tbody tr').length === 2");
    let text = browser.text();
    for words in [
        "2 locks",
        "web / prod / db",
        "ann",
        "event release 7",
        "carl",
        "in 59m",
        "when unlocked",
        "<b>bob</b> & \"co\"",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text:?}");
    }
    browser.pictures("wide");

    // A filter, by the keyboard alone.
    browser.types("/carl");
    browser.until("document.querySelectorAll('tbody tr').length === 1");
    assert!(browser.text().contains("1 of 2 locks"));
    browser.types(" nobody");
    browser.until("document.getElementById('table').hidden");
    assert!(browser.text().contains("No lock has all these words."));
    browser.types(ESCAPE);
    browser.until("document.querySelectorAll('tbody tr').length === 2");

    // To be asked is not to unlock: what has the focus keeps it.
    browser.types(DOWN);
    browser.types(ENTER);
    browser.until("document.querySelector('dialog[open]')");
    let text = browser.text();
    assert!(
        text.contains("Unlock this?") && text.contains("web / prod / db, held by ann") && text.contains("carl is next"),
        "{text}"
    );
    browser.pictures("sure");
    browser.types(ENTER);
    browser.until("!document.querySelector('dialog[open]')");
    assert_eq!(service.found("").len(), 2);
    // Said again, it is unlocked, and goes to who waited.
    browser.clicks(&format!("tr[data-id='{db}'] button.danger"));
    browser.until("document.querySelector('dialog[open]')");
    browser.clicks("#go");
    assert_eq!(waits.answer("POST").lock()["who"], "carl");
    browser.until("[...document.querySelectorAll('tbody tr')].some((row) => row.innerText.includes('carl') && !row.innerText.includes('ann'))");
    // What others do is seen without doing anything.
    service.unlock(&cache).ok();
    browser.until("document.querySelectorAll('tbody tr').length === 1");
    browser.is_content();
}

#[test]
fn the_page_fits_a_narrow_and_dark_screen() {
    let service = Service::new();
    service.ask(
        "a-resource-with-a-name-that-is-rather-long-and-has-no-place-to-break",
        "somebody@some.where.example",
        r#""ttl":"1h""#,
    );
    service.take("db", "ann");
    let browser = Browser::start(500, 800, true);
    browser.goes_to(&service);
    browser.until("document.querySelectorAll('tbody tr').length === 2");
    assert_eq!(
        browser.says("return document.documentElement.scrollWidth > document.documentElement.clientWidth"),
        false
    );
    assert_eq!(browser.says("return getComputedStyle(document.body).backgroundColor"), "rgb(20, 23, 26)");
    browser.pictures("narrow");
    browser.is_content();
}

#[test]
fn the_page_says_that_nothing_is_locked_and_when_the_service_is_gone() {
    let mut service = Service::new();
    let browser = Browser::start(800, 600, false);
    browser.goes_to(&service);
    browser.until("document.body.innerText.includes('Nothing is locked.')");
    service.kill();
    browser.until("document.body.innerText.includes('The service does not answer.')");
    assert!(browser.text().contains("0 locks, as of "));
    let service = service.again(&[]);
    service.take("db", "ann");
    browser.until("document.querySelectorAll('tbody tr').length === 1 && document.getElementById('problem').hidden");
}

#[test]
fn the_page_asks_for_a_token_where_one_is_needed() {
    let start = Start::new();
    let file = start.path("tokens");
    aba_lock::os::replace::replace(&file, b"board lock:read look\n").unwrap();
    let service = start.args(&["--token-file", file.to_str().unwrap()]).go();
    let browser = Browser::start(800, 600, false);
    browser.goes_to(&service);
    browser.until("document.getElementById('who').open");
    assert!(browser.text().contains("A token is needed"));
    // A wrong one is not as if there were none.
    browser.types("wrong");
    browser.types(ENTER);
    browser.until("document.body.innerText.includes('This token is not known')");
    browser.pictures("token");
    browser.types("look");
    browser.types(ENTER);
    browser.until("document.body.innerText.includes('Nothing is locked.') && !document.querySelector('dialog[open]')");
}

#[test]
fn the_page_lets_nothing_in_from_elsewhere() {
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
fn a_lock_that_is_not_among_the_oldest_thousand_is_found_by_the_filter() {
    let service = Service::new();
    let mut connection = service.connect();
    for number in 0..1005 {
        connection.call("POST", LOCK, &[], &wanted(&format!("r{number}"), "ann", "")).ok();
    }
    service.take("newest", "bob");
    let browser = Browser::start(1024, 700, false);
    browser.goes_to(&service);
    browser.until("document.body.innerText.includes('1006 locks, the oldest 1000 here')");
    browser.types("/NEWEST bob");
    browser.until("document.querySelectorAll('tbody tr').length === 1");
    assert_eq!(browser.places(), ["web / prod / newest"]);
    assert!(browser.text().contains("1 of 1006 locks") && !browser.text().contains("here"));
    // From the address, too, and what nothing has is said when it is known.
    browser.goes_to_page(&service, "?q=newest");
    browser.until("document.querySelectorAll('tbody tr').length === 1");
    browser.types("/ nobody");
    browser.until("document.body.innerText.includes('No lock has all these words.')");
    assert!(browser.text().contains("0 of 1006 locks"));
    browser.is_content();
}

#[test]
fn an_unlock_that_is_refused_stays_on_the_page_until_it_is_dismissed() {
    let start = Start::new();
    let file = start.path("tokens");
    aba_lock::os::replace::replace(&file, b"board lock:read look\nci lock:write,lock:read all\n").unwrap();
    let service = start.args(&["--token-file", file.to_str().unwrap()]).go();
    let token = [("Authorization", "Bearer all")];
    service.connect().call("POST", LOCK, &token, &wanted("db", "ann", "")).ok();
    let browser = Browser::start(1024, 700, false);
    browser.goes_to(&service);
    browser.until("document.getElementById('who').open");
    browser.types("look");
    browser.types(ENTER);
    browser.until("document.querySelector('tbody button.danger')");
    browser.clicks("tbody button.danger");
    browser.clicks("#go");
    browser.until("!document.getElementById('refusal').hidden");
    browser.until_refreshed();
    let text = browser.text();
    assert!(text.contains("web / prod / db was not unlocked: the token of board is not for lock:write."), "{text}");
    browser.pictures("refused");
    browser.clicks("#dismiss");
    browser.until("document.getElementById('refusal').hidden");
    // With another token it works.
    browser.clicks("#other-token");
    browser.types("all");
    browser.types(ENTER);
    browser.until("!document.querySelector('dialog[open]')");
    browser.clicks("tbody button.danger");
    browser.clicks("#go");
    browser.until("document.body.innerText.includes('Nothing is locked.')");
}

#[test]
fn an_id_can_be_selected_and_copied_while_the_page_refreshes() {
    let service = Service::new();
    let id = service.ask("db", "ann", r#""ttl":"1h""#).id();
    let browser = Browser::start(1024, 700, false);
    browser.goes_to(&service);
    browser.until("document.querySelector('tbody .id')");
    browser.says("getSelection().selectAllChildren(document.querySelector('tbody .id'))");
    // Also while other rows come and go.
    let other = service.take("cache", "bob");
    browser.until("document.querySelectorAll('tbody tr').length === 2");
    service.unlock(&other).ok();
    browser.until("document.querySelectorAll('tbody tr').length === 1");
    browser.until_refreshed();
    assert_eq!(browser.says("return getSelection().toString()"), id.as_str());
    browser.clicks("tbody .copy");
    browser.until("['Copied', 'Selected'].includes(document.querySelector('tbody .copy').innerText)");
}

#[test]
fn while_the_service_is_down_nothing_can_be_unlocked_and_the_page_says_how_old_it_is() {
    let mut service = Service::new();
    service.take("db", "ann");
    let browser = Browser::start(1024, 700, false);
    browser.goes_to(&service);
    browser.until("document.querySelector('tbody button.danger')");
    browser.types(DOWN);
    service.kill();
    browser.until("document.querySelector('tbody button.danger').getAttribute('aria-disabled') === 'true'");
    browser.types(ENTER);
    assert_eq!(browser.says("return !!document.querySelector('dialog[open]')"), false);
    let text = browser.text();
    assert!(text.contains("The service does not answer.") && text.contains("1 lock, as of "), "{text}");
    browser.pictures("down");
    let service = service.again(&[]);
    browser.until("document.querySelector('tbody button.danger').getAttribute('aria-disabled') === 'false'");
    // The button has kept the focus.
    browser.types(ENTER);
    browser.until("document.querySelector('dialog[open]')");
    browser.clicks("#go");
    browser.until("document.body.innerText.includes('Nothing is locked.')");
    assert!(service.found("").is_empty());
}

#[test]
fn a_service_that_hangs_is_as_good_as_down() {
    let service = Service::new();
    service.take("db", "ann");
    let browser = Browser::start(1024, 700, false);
    browser.goes_to(&service);
    browser.until("document.querySelector('tbody button.danger')");
    service.signal("STOP");
    browser.until("document.querySelector('tbody button.danger').getAttribute('aria-disabled') === 'true'");
    assert!(browser.text().contains("The service does not answer."), "{}", browser.text());
    service.signal("CONT");
    browser.until("document.querySelector('tbody button.danger').getAttribute('aria-disabled') === 'false'");
}

#[test]
fn the_order_and_the_filter_are_in_the_address() {
    let service = Service::new();
    for (resource, who, more) in [("b", "carl", r#""ttl":"2h""#), ("a", "bob", ""), ("c", "ann", r#""ttl":"1h""#)] {
        service.ask(resource, who, more).ok();
    }
    let browser = Browser::start(1024, 700, false);
    browser.goes_to(&service);
    browser.until("document.querySelectorAll('tbody tr').length === 3");
    let shown =
        || browser.places().iter().map(|place| place.rsplit(' ').next().unwrap().to_owned()).collect::<String>();
    let address = || browser.says("return location.search").as_str().unwrap().to_owned();
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
        browser.clicks(&format!("th[data-key={column}] button"));
        assert_eq!((shown(), address()), (order.to_owned(), query.to_owned()), "{column}");
    }
    browser.types("/web c");
    browser.until("location.search === '?q=web+c&sort=-end'");
    browser.pictures("sorted");
    browser.goes_to_page(&service, &address());
    browser.until("document.querySelectorAll('tbody tr').length > 0");
    assert_eq!(browser.says("return document.getElementById('filter').value"), "web c");
    assert_eq!(browser.says("return document.querySelector('th[data-key=end]').ariaSort"), "descending");
    browser.is_content();
}

#[test]
fn the_words_of_a_button_stay_in_one_line_at_1024_pixels() {
    let service = Service::new();
    let long = "a-resource-with-a-name-that-is-rather-long-and-has-no-place-to-break".repeat(2);
    service.ask(&long, &long, r#""ttl":"1h","eventId":"a-rather-long-event-without-any-place-to-break-it""#).ok();
    let mut waits = service.connect();
    waits.send("POST", LOCK, &[], &wanted(&long, &long, r#""wait":"60s""#));
    service.until_waiting(&long, 1);
    for width in [1024, 900, 750] {
        let browser = Browser::start(width, 700, false);
        browser.goes_to(&service);
        browser.until("document.querySelector('tbody button.danger')");
        let lines = "[...document.querySelectorAll('button')].filter((one) => one.offsetHeight > 48).map((one) => one.innerText)";
        assert_eq!(browser.says(&format!("return {lines}")), json!([]), "{width}");
        let too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(browser.says(&format!("return {too_wide}")), false, "{width}");
        browser.pictures(&format!("long-{width}"));
    }
}
