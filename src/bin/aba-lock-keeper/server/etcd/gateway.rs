//! Requests to the JSON gateway of an etcd cluster.
//!
//! An answer is from etcd if it has a gRPC code, or the revision of the cluster in its header. Any other answer,
//! whatever its HTTP status, is from a program at a wrong address, and says nothing about locks.

use crate::fault::Fault;
use crate::lease::WaitLimit;
use crate::os::clock::Moment;
use crate::os::signal;
use crate::server::etcd::json::{encode, read_number};
use crate::server::http::{HttpAnswer, HttpClient, TRY_LIMIT};
use crate::server::lease_server::WaitObserver;
use crate::server::retry::{PAUSE, Retry};
use crate::settings::Settings;
use aba_lock_protocol::code::{
    CANCELLED, DEADLINE_EXCEEDED, FAILED_PRECONDITION, INTERNAL, INVALID_ARGUMENT, OK, PERMISSION_DENIED,
    RESOURCE_EXHAUSTED, UNAUTHENTICATED, UNAVAILABLE, UNKNOWN,
};
use serde_json::{Value, json};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The codes after which another endpoint may succeed.
const RETRY_ELSEWHERE: [u64; 6] = [CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE];

/// Not a gRPC code: the answer is not from etcd.
const NOT_ETCD: u64 = 1000;

/// A client for the gateway.
pub(super) struct Gateway {
    http: HttpClient,
    secret: Option<String>,
}

/// An answer of the gateway.
pub(super) struct GatewayReply {
    pub(super) body: Value,
    pub(super) code: u64,
    message: String,
    /// The moment at which the request was sent.
    pub(super) sent_at: Moment,
}

impl Gateway {
    pub(super) fn new(settings: &Settings) -> Result<Self, Fault> {
        Ok(Self { http: HttpClient::new(settings)?, secret: settings.secret.clone() })
    }

    /// The fault for an answer that etcd would not give.
    pub(super) fn not_etcd(&self) -> Fault {
        not_etcd(self.http.endpoint())
    }

    pub(super) fn endpoint_count(&self) -> usize {
        self.http.endpoint_count()
    }

    /// Sends a request to each endpoint once, until one answers.
    pub(super) fn call(&mut self, path: &str, body: &Value) -> Result<GatewayReply, Fault> {
        if self.secret.is_some() && self.http.authorization.is_none() {
            self.authenticate()?;
        }
        let reply = self.try_endpoints(path, body)?;
        if self.secret.is_some() && reply.needs_authentication() {
            self.http.authorization = None;
            self.authenticate()?;
            return self.try_endpoints(path, body)?.check_authentication();
        }
        reply.check_authentication()
    }

    fn authenticate(&mut self) -> Result<(), Fault> {
        let Some((name, password)) = self.secret.as_deref().and_then(|secret| secret.split_once(':')) else {
            return Err(Fault::Misused {
                what: "invalid secret for etcd: it must be USER:PASSWORD".to_owned(),
                hint: "correct the file that ABA_LOCK_SERVER_SECRET_FILE names".to_owned(),
            });
        };
        let reply = self.try_endpoints("/v3/auth/authenticate", &json!({ "name": name, "password": password }))?;
        match reply.code {
            OK => self.http.authorization = reply.body["token"].as_str().map(str::to_owned),
            // Authentication is not enabled.
            FAILED_PRECONDITION => self.secret = None,
            _ => return Err(reply.refusal()),
        }
        Ok(())
    }

    fn try_endpoints(&mut self, path: &str, body: &Value) -> Result<GatewayReply, Fault> {
        let (mut what, mut not_etcd_count) = (String::new(), 0);
        for _ in 0..self.http.endpoint_count() {
            match self.http.request("POST", path, Some(body), TRY_LIMIT).map(GatewayReply::from_answer) {
                Ok(reply) if reply.code == NOT_ETCD => {
                    self.http.endpoint().clone_into(&mut what);
                    not_etcd_count += 1;
                }
                Ok(reply) if !RETRY_ELSEWHERE.contains(&reply.code) => return Ok(reply),
                Ok(reply) => what = reply.message,
                Err(reason) => what = reason,
            }
            self.http.use_next_endpoint();
        }
        Err(if not_etcd_count == self.http.endpoint_count() { not_etcd(&what) } else { Fault::Unreachable { what } })
    }

    /// Sends a request once, in a thread, while the caller sends another one. `None`: that is impossible now.
    pub(super) fn call_in_background(
        &self,
        path: &'static str,
        body: Value,
    ) -> Option<JoinHandle<Option<GatewayReply>>> {
        if self.secret.is_some() && self.http.authorization.is_none() {
            return None;
        }
        let http = self.http.clone();
        let call = move || http.request("POST", path, Some(&body), TRY_LIMIT).map(GatewayReply::from_answer).ok();
        signal::with_signals_blocked(|| thread::Builder::new().spawn(call)).ok()
    }

    /// Repeats [`Self::call`] until a server answers, or the time is over.
    pub(super) fn call_until_answered(
        &mut self,
        path: &str,
        body: &Value,
        limit: WaitLimit,
        observer: &mut dyn WaitObserver,
    ) -> Result<GatewayReply, Fault> {
        let retry = Retry::begin(limit);
        loop {
            match self.call(path, body) {
                Err(Fault::Unreachable { what }) => retry.pause(what, observer)?,
                result => return result,
            }
        }
    }

    /// Waits until the key is deleted after this revision, or the time limit is reached. With an end, waits for the deletion of
    /// any key of that range.
    pub(super) fn watch_deletion(&mut self, key: &str, end: Option<&str>, after: u64, limit: Duration) {
        let mut watch = json!({ "create_request": { "key": encode(key), "filters": ["NOPUT"], "start_revision": (after + 1).to_string() } });
        if let Some(end) = end {
            watch["create_request"]["range_end"] = encode(end).into();
        }
        let begin = Moment::now();
        let mut is_etcd = false;
        let watched = self.http.request_lines("/v3/watch", &watch, limit, |line| {
            let result = &line["result"];
            is_etcd |= line["error"].is_object() || result["header"].is_object();
            line["error"].is_object() || result["canceled"] == json!(true) || result["events"].is_array()
        });
        if (watched.is_err() || !is_etcd) && begin.plus(limit).left() > PAUSE {
            self.http.use_next_endpoint();
            thread::sleep(PAUSE);
        }
    }
}

impl GatewayReply {
    fn from_answer(answer: HttpAnswer) -> Self {
        let HttpAnswer { status, body, sent_at } = answer;
        let error = if body["error"].is_object() { &body["error"] } else { &body };
        let code = error["code"].as_u64().or(error["grpc_code"].as_u64());
        let code = match (status, code) {
            (200, None) if read_number(&header(&body)["revision"]) > 0 => OK,
            (_, Some(code)) => code,
            (401, None) => UNAUTHENTICATED,
            (500.., None) => UNAVAILABLE,
            (_, None) => NOT_ETCD,
        };
        let message = error["message"].as_str().map_or_else(|| format!("HTTP status {status}"), str::to_owned);
        Self { body, code, message, sent_at }
    }

    /// The revision of the whole cluster.
    pub(super) fn revision(&self) -> u64 {
        read_number(&header(&self.body)["revision"])
    }

    /// The raft term of the leader at the time of the answer.
    pub(super) fn term(&self) -> u64 {
        read_number(&header(&self.body)["raft_term"])
    }

    /// The first key that an operation of a transaction found.
    pub(super) fn first_key(&self, operation: usize) -> &Value {
        &self.body["responses"][operation]["response_range"]["kvs"][0]
    }

    fn check_authentication(self) -> Result<Self, Fault> {
        if self.needs_authentication() { Err(self.refusal()) } else { Ok(self) }
    }

    /// Returns true for a missing token, and for one that is older than the last change of the users.
    fn needs_authentication(&self) -> bool {
        self.code == UNAUTHENTICATED
            || (self.code == INVALID_ARGUMENT && self.message.contains("auth: revision in header is old"))
    }

    /// The fault for a reply that is an error.
    pub(super) fn refusal(&self) -> Fault {
        let message = self.message.trim_start_matches("etcdserver: ");
        let wants_user = match self.code {
            PERMISSION_DENIED | UNAUTHENTICATED => true,
            // The code for a missing user and for a wrong password.
            INVALID_ARGUMENT => message.contains("user") || message.contains("auth"),
            _ => false,
        };
        let hint = wants_user.then(|| {
            "write USER:PASSWORD into a file that only you can read, and set ABA_LOCK_SERVER_SECRET_FILE to its path".to_owned()
        });
        Fault::Failed { what: format!("etcd refused the request: {message}"), hint }
    }

    /// Fails unless the request succeeded.
    pub(super) fn check_success(self) -> Result<Self, Fault> {
        if self.code == OK { Ok(self) } else { Err(self.refusal()) }
    }
}

/// Returns the header of an answer. The answers of streams are wrapped.
fn header(body: &Value) -> &Value {
    if body["result"].is_object() { &body["result"]["header"] } else { &body["header"] }
}

fn not_etcd(endpoint: &str) -> Fault {
    Fault::Failed {
        what: format!("{endpoint} does not answer like an etcd server"),
        hint: Some(
            "use the client address of etcd 3.4 or newer; the address of a lock service starts with https:// or http://"
                .to_owned(),
        ),
    }
}
