//! Requests to the JSON gateway of an etcd cluster, and what comes back.
//!
//! An answer is etcd's if it has a code of gRPC, or the revision of the cluster in its header. Anything else, whatever its HTTP
//! status, comes from something that stands where etcd was thought to be, and says nothing about locks.

use crate::clock::Moment;
use crate::server::http::{Answer, Http, TRY};
use crate::server::{Fault, Patience, Watcher};
use crate::settings::Settings;
use crate::sys;
use aba_lock_protocol::code::{
    CANCELLED, DEADLINE_EXCEEDED, FAILED_PRECONDITION, INTERNAL, INVALID_ARGUMENT, OK, PERMISSION_DENIED,
    RESOURCE_EXHAUSTED, UNAUTHENTICATED, UNAVAILABLE, UNKNOWN,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long to pause when nobody answers.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

/// How long to go on trying, for one who does not wait, when nobody answers.
const TRIES: Duration = Duration::from_secs(8);

/// The codes with which another endpoint may answer better.
const ELSEWHERE: [u64; 6] = [CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE];
/// Not a code of gRPC: the answer is not from etcd.
const STRANGE: u64 = 1000;

pub(super) struct Gateway {
    http: Http,
    secret: Option<String>,
}

/// What the server said.
pub(super) struct Reply {
    pub(super) body: Value,
    pub(super) code: u64,
    message: String,
    /// When it was asked.
    pub(super) sent: Moment,
}

impl Gateway {
    pub(super) fn new(settings: &Settings) -> Result<Self, Fault> {
        Ok(Self { http: Http::new(settings)?, secret: settings.secret.clone() })
    }

    /// What answered is not etcd.
    pub(super) fn strange(&self) -> Fault {
        strange(self.http.endpoint())
    }

    /// How many endpoints there are.
    pub(super) fn endpoints(&self) -> usize {
        self.http.endpoints()
    }

    /// Asks each endpoint once, until one answers.
    pub(super) fn call(&mut self, path: &str, body: &Value) -> Result<Reply, Fault> {
        if self.secret.is_some() && self.http.authorization.is_none() {
            self.authenticate()?;
        }
        let reply = self.ask(path, body)?;
        if self.secret.is_some() && (reply.code == UNAUTHENTICATED || is_old(&reply)) {
            self.http.authorization = None;
            self.authenticate()?;
            return self.ask(path, body).and_then(known);
        }
        known(reply)
    }

    fn authenticate(&mut self) -> Result<(), Fault> {
        let Some((name, password)) = self.secret.as_deref().and_then(|secret| secret.split_once(':')) else {
            return Err(Fault::Misused {
                what: "the secret of an etcd server is USER:PASSWORD".to_owned(),
                hint: "see ABA_LOCK_SERVER_SECRET_FILE".to_owned(),
            });
        };
        let reply = self.ask("/v3/auth/authenticate", &json!({ "name": name, "password": password }))?;
        match reply.code {
            OK => self.http.authorization = reply.body["token"].as_str().map(str::to_owned),
            // It asks for no authentication.
            FAILED_PRECONDITION => self.secret = None,
            _ => return Err(refused(&reply)),
        }
        Ok(())
    }

    fn ask(&mut self, path: &str, body: &Value) -> Result<Reply, Fault> {
        let (mut what, mut strangers) = (String::new(), 0);
        for _ in 0..self.http.endpoints() {
            match self.http.send("POST", path, Some(body), TRY).map(reply) {
                Ok(reply) if reply.code == STRANGE => {
                    self.http.endpoint().clone_into(&mut what);
                    strangers += 1;
                }
                Ok(reply) if !ELSEWHERE.contains(&reply.code) => return Ok(reply),
                Ok(reply) => what = reply.message,
                Err(reason) => what = reason,
            }
            self.http.next_endpoint();
        }
        Err(if strangers == self.http.endpoints() { strange(&what) } else { Fault::Unreachable { what } })
    }

    /// Asks once, while we ask something else. `None`: that cannot be done now.
    pub(super) fn beside(&self, path: &'static str, body: Value) -> Option<JoinHandle<Option<Reply>>> {
        if self.secret.is_some() && self.http.authorization.is_none() {
            return None;
        }
        let http = self.http.clone();
        let ask = move || http.send("POST", path, Some(&body), TRY).map(reply).ok();
        sys::without_signals(|| thread::Builder::new().spawn(ask)).ok()
    }

    /// The same until an answer comes, or patience is out.
    pub(super) fn insist(
        &mut self,
        path: &str,
        body: &Value,
        patience: Patience,
        watcher: &mut dyn Watcher,
    ) -> Result<Reply, Fault> {
        let end = Moment::now().plus(TRIES);
        loop {
            match self.call(path, body) {
                Err(Fault::Unreachable { what }) => {
                    let over = if patience == Patience::None { end.is_past() } else { patience.is_out() };
                    if over {
                        return Err(Fault::Unreachable { what });
                    }
                    watcher.unanswered(&what);
                    thread::sleep(patience.at_most(PAUSE));
                }
                done => return done,
            }
        }
    }

    /// Waits until the key is deleted after this revision, or it is time to look again.
    pub(super) fn watch(&mut self, key: &str, after: u64, limit: Duration) {
        let ask = json!({ "create_request": { "key": encoded(key), "filters": ["NOPUT"], "start_revision": (after + 1).to_string() } });
        let begin = Moment::now();
        let mut is_etcd = false;
        let watched = self.http.stream("/v3/watch", &ask, limit, |line| {
            let result = &line["result"];
            is_etcd |= line["error"].is_object() || result["header"].is_object();
            line["error"].is_object() || result["canceled"] == json!(true) || result["events"].is_array()
        });
        if (watched.is_err() || !is_etcd) && begin.plus(limit).left() > PAUSE {
            self.http.next_endpoint();
            thread::sleep(PAUSE);
        }
    }
}

impl Reply {
    /// Of the whole cluster.
    pub(super) fn revision(&self) -> u64 {
        count(&header(&self.body)["revision"])
    }

    /// In which term of its leader it was answered.
    pub(super) fn term(&self) -> u64 {
        count(&header(&self.body)["raft_term"])
    }

    /// What one operation of a transaction has found first.
    pub(super) fn found(&self, operation: usize) -> &Value {
        &self.body["responses"][operation]["response_range"]["kvs"][0]
    }
}

/// Streams wrap it.
fn header(body: &Value) -> &Value {
    if body["result"].is_object() { &body["result"]["header"] } else { &body["header"] }
}

fn reply(answer: Answer) -> Reply {
    let Answer { status, body, sent } = answer;
    let error = if body["error"].is_object() { &body["error"] } else { &body };
    let code = error["code"].as_u64().or(error["grpc_code"].as_u64());
    let code = match (status, code) {
        (200, None) if count(&header(&body)["revision"]) > 0 => OK,
        (_, Some(code)) => code,
        (401, None) => UNAUTHENTICATED,
        (500.., None) => UNAVAILABLE,
        (_, None) => STRANGE,
    };
    let message = error["message"].as_str().map_or_else(|| format!("HTTP status {status}"), str::to_owned);
    Reply { body, code, message, sent }
}

/// Not one by which it asks who we are.
fn known(reply: Reply) -> Result<Reply, Fault> {
    if reply.code == UNAUTHENTICATED || is_old(&reply) { Err(refused(&reply)) } else { Ok(reply) }
}

/// A token from before the users were changed.
fn is_old(reply: &Reply) -> bool {
    reply.code == INVALID_ARGUMENT && reply.message.contains("auth: revision in header is old")
}

pub(super) fn refused(reply: &Reply) -> Fault {
    let message = reply.message.trim_start_matches("etcdserver: ");
    let wants_user = match reply.code {
        PERMISSION_DENIED | UNAUTHENTICATED => true,
        // So it says that there is no user, or another password.
        INVALID_ARGUMENT => message.contains("user") || message.contains("auth"),
        _ => false,
    };
    let hint = wants_user
        .then(|| "put USER:PASSWORD into a file of yours, and set ABA_LOCK_SERVER_SECRET_FILE to its path".to_owned());
    Fault::Failed { what: format!("etcd refused: {message}"), hint }
}

/// It answers, and is not etcd.
fn strange(endpoint: &str) -> Fault {
    Fault::Failed {
        what: format!("{endpoint} does not speak the protocol of etcd"),
        hint: Some(
            "etcd 3.4 or newer is needed, at the address that its clients use; a lock service is at http:// or https://"
                .to_owned(),
        ),
    }
}

pub(super) fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

pub(super) fn decoded(value: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()
}

/// A number as the gateway writes it; 0 where it leaves it out.
pub(super) fn count(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or(value.as_u64()).unwrap_or(0)
}
