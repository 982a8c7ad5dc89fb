//! A browser for the tests of the page: Chromium, driven by `chromedriver` (WebDriver).

use crate::harness::{Service, cache_directory, wait_until, write_file};
use crate::http::{Answer, Connection, TIMEOUT};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

/// The key codes of WebDriver.
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const DOWN: &str = "\u{e015}";
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ESCAPE: &str = "\u{e00c}";

pub(crate) struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: Rc<tempfile::TempDir>,
}

/// Starts `chromedriver`, and returns it with its port, or returns `None` if it has ended. It listens on a port of IPv6 that the kernel
/// chooses, and then on the same port of IPv4, which another test may use.
fn start_driver(profile: &Path) -> Option<(Child, String)> {
    let mut driver = Command::new("chromedriver")
        .args(["--port=0", "--log-level=SEVERE"])
        .env("HOME", profile)
        .env("TMPDIR", profile)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver: install the package chromium-driver");
    let (sender, receiver) = mpsc::channel();
    let mut lines = BufReader::new(driver.stdout.take().unwrap());
    thread::spawn(move || {
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            if let Some(port) = line.split("successfully on port ").nth(1) {
                let _ = sender.send(port.trim().trim_end_matches('.').to_owned());
            }
            line.clear();
        }
        let _ = lines.read_to_string(&mut line);
    });
    let answer = receiver.recv_timeout(TIMEOUT);
    if answer.is_err() {
        let _ = driver.kill();
        driver.wait().unwrap();
    }
    match answer {
        Ok(port) => Some((driver, port)),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => panic!("chromedriver prints its port"),
    }
}

impl Browser {
    /// An expression: the number of times that the page has read the list.
    pub(crate) const READS: &str =
        "performance.getEntriesByType('resource').filter((one) => one.name.includes('/locks/list')).length";

    /// Starts a browser with a light screen of 1,280 x 800 pixels.
    pub(crate) fn start() -> Self {
        let profile = Rc::new(tempfile::tempdir().unwrap());
        let (driver, port) =
            (0..10).find_map(|_| start_driver(profile.path())).expect("chromedriver ends before it listens, ten times");
        let mut browser = Self {
            driver,
            address: format!("127.0.0.1:{port}"),
            session: String::new(),
            _profile: Rc::clone(&profile),
        };
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--user-data-dir={}", profile.path().join("profile").display()),
        ];
        let request = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"browser": "WARNING"}}}});
        let session = browser.call("POST", "/session", &request);
        session["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser.set_screen(1280, 800, false);
        browser
    }

    /// Calls a command of the `DevTools` protocol.
    pub(crate) fn call_developer_tools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.call("POST", &self.session_path("/goog/cdp/execute"), &body)
    }

    /// Changes the size of the screen, which may be smaller than a window can be, and the color scheme that the user prefers.
    pub(crate) fn set_screen(&self, width: u32, height: u32, dark: bool) {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call_developer_tools("Emulation.setDeviceMetricsOverride", &screen);
        let scheme = if dark { "dark" } else { "light" };
        // Without transitions, a color is final as soon as it has changed.
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"}]});
        self.call_developer_tools("Emulation.setEmulatedMedia", &features);
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = if method == "GET" || method == "DELETE" { String::new() } else { body.to_string() };
        let json = [("Content-Type", "application/json; charset=utf-8")];
        let answer: Answer = Connection::new(&self.address).call(method, path, &json, &text);
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text);
        answer.json()["value"].clone()
    }

    fn session_path(&self, path: &str) -> String {
        format!("/session/{}{path}", self.session)
    }

    pub(crate) fn open(&self, service: &Service) {
        self.open_with_query(service, "");
    }

    pub(crate) fn open_with_query(&self, service: &Service, query: &str) {
        self.call("POST", &self.session_path("/url"), &json!({"url": format!("http://{}/{query}", service.rest)}));
    }

    /// Returns the names of the locks that the page shows, in their order.
    pub(crate) fn list_locks(&self) -> Vec<String> {
        let names = self.run("return [...document.querySelectorAll('#rows .where')].map((one) => one.innerText)");
        names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// Runs a script, and returns its result.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.call("POST", &self.session_path("/execute/sync"), &json!({"script": script, "args": []}))
    }

    /// Waits until an expression is true.
    pub(crate) fn wait_until(&self, script: &str) {
        wait_until(script, || self.run(&format!("return !!({script})")) == true);
    }

    /// Opens the details of the lock of `resource`.
    pub(crate) fn open_details(&self, resource: &str) {
        self.click(&format!("button[aria-label^='Details of web / prod / {resource},']"));
        self.wait_until("document.querySelector('dialog[open]')");
    }

    /// Unlocks the lock of `resource` with the mouse.
    pub(crate) fn unlock(&self, resource: &str) {
        self.open_details(resource);
        self.click("#ask");
        self.click("#go");
    }

    pub(crate) fn wait_for_text(&self, text: &str) {
        self.wait_until(&format!("document.body.innerText.includes({})", json!(text)));
    }

    pub(crate) fn wait_for_rows(&self, number: usize) {
        self.wait_until(&format!("document.querySelectorAll('#rows tr').length === {number}"));
    }

    /// Returns the visible text of the page.
    pub(crate) fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap().to_owned()
    }

    pub(crate) fn type_keys(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})])
            .collect();
        let keys = json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]});
        self.call("POST", &self.session_path("/actions"), &keys);
    }

    /// Clicks next to an element: `distance` pixels from its left edge, at half of its height.
    pub(crate) fn click_next_to(&self, selector: &str, distance: i32) {
        let place = self.run(&format!(
            "const place = document.querySelector('{selector}').getBoundingClientRect(); return [place.left, (place.top + place.bottom) / 2]"
        ));
        let (x, y) = (place[0].as_f64().unwrap() + f64::from(distance), &place[1]);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1});
            self.call_developer_tools("Input.dispatchMouseEvent", &event);
        }
    }

    pub(crate) fn click(&self, selector: &str) {
        let found =
            self.call("POST", &self.session_path("/element"), &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        self.call("POST", &self.session_path(&format!("/element/{id}/click")), &json!({}));
    }

    /// Saves a screenshot below `target`, for people to look at.
    ///
    /// `python3 -m base64 -d` decodes it.
    pub(crate) fn save_screenshot(&self, name: &str) {
        let picture = self.call("GET", &self.session_path("/screenshot"), &json!({}));
        write_file(&cache_directory().join(format!("{name}.png.base64")), picture.as_str().unwrap());
    }

    /// Checks that no script has failed, and that the page has fetched nothing from another origin and tried nothing
    /// that its policy forbids.
    pub(crate) fn expect_no_errors(&self) {
        let log = self.call("POST", &self.session_path("/se/log"), &json!({"type": "browser"}));
        assert_eq!(log, json!([]));
        let fetched = self.run("return performance.getEntriesByType('resource').map((one) => one.name)");
        let own = self.run("return location.origin");
        for one in fetched.as_array().unwrap() {
            assert!(one.as_str().unwrap().starts_with(own.as_str().unwrap()), "{one}");
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let path = self.session_path("");
            let _ = std::panic::catch_unwind(|| Connection::new(&self.address)).map(|mut connection| {
                let _ = connection.try_call("DELETE", &path, "");
            });
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
