//! HTTP requests to a server that has several endpoints.
//!
//! Each request goes to the endpoint that answered last. If the request fails for a reason that may concern only this
//! endpoint, the caller sends it to the next one. So the server may get a request twice, and may act on a request that
//! seemed to fail: callers make sure that this does no harm. Each try has a time limit, because an endpoint whose
//! process is stopped accepts connections and never answers.

use crate::fault::Fault;
use crate::os::clock::Moment;
use crate::server::in_flight::{self, InFlight};
use crate::server::resolver::EndpointResolver;
use crate::server::tls;
use crate::settings::Settings;
use serde_json::Value;
use std::io::{self, BufRead, BufReader};
use std::time::Duration;
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, http};

/// The time limit for one try at one endpoint.
pub(crate) const TRY_LIMIT: Duration = Duration::from_millis(1500);

/// The size of the largest answer that is read: a list of all leases.
const LARGEST: u64 = 64 * 1024 * 1024;

/// An answer of an endpoint.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    /// The parsed body; null if it is not JSON.
    pub(crate) body: Value,
    /// The moment at which the request was sent to the endpoint that answered.
    pub(crate) sent_at: Moment,
}

/// A client for the endpoints of a server.
#[derive(Clone)]
pub(crate) struct HttpClient {
    agent: Agent,
    endpoints: Vec<String>,
    current: usize,
    /// The value of the header `Authorization`.
    pub(crate) authorization: Option<String>,
}

impl HttpClient {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Fault> {
        let uses_tls = settings.address.endpoints.iter().any(|endpoint| endpoint.starts_with("https:"));
        let tls = if uses_tls { tls::build_config(settings)? } else { TlsConfig::default() };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("aba-lock/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), EndpointResolver);
        Ok(Self { agent, endpoints: settings.address.endpoints.clone(), current: 0, authorization: None })
    }

    pub(crate) fn endpoint_count(&self) -> usize {
        self.endpoints.len()
    }

    /// Returns a client for the current endpoint alone.
    pub(crate) fn with_one_endpoint(&self) -> Self {
        Self { endpoints: vec![self.endpoint().to_owned()], current: 0, ..self.clone() }
    }

    /// The current endpoint.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoints[self.current]
    }

    pub(crate) fn use_next_endpoint(&mut self) {
        self.current = (self.current + 1) % self.endpoints.len();
    }

    /// Sends a request to the current endpoint. The error is the reason why there is no answer.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<HttpAnswer, String> {
        // It counts until the answer was read.
        let _in_flight = InFlight::begin(limit > TRY_LIMIT);
        let sent_at = Moment::now();
        let answer = self.send(method, path, body, limit).and_then(|mut response| {
            let text = response.body_mut().with_config().limit(LARGEST).read_to_string();
            text.map(|text| (response.status().as_u16(), text))
        });
        // A proxy answers with such a status, too, while the server works on the request.
        if method != "GET" && answer.as_ref().map_or_else(may_have_arrived, |(status, _)| *status >= 500) {
            in_flight::note_doubt();
        }
        let (status, text) = answer.map_err(|error| self.describe(&error))?;
        // Some answers are streams of JSON lines; these have one line, which ends with a line break.
        let body = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
        Ok(HttpAnswer { status, body, sent_at })
    }

    /// Sends a request whose answer is a stream of lines. Reads them until `take` returns true or the time limit is
    /// reached.
    pub(crate) fn request_lines(
        &self,
        path: &str,
        body: &Value,
        limit: Duration,
        mut take: impl FnMut(Value) -> bool,
    ) -> Result<(), String> {
        let mut response = self.send("POST", path, Some(body), limit).map_err(|error| self.describe(&error))?;
        let reader = BufReader::new(response.body_mut().as_reader());
        for line in reader.lines() {
            // The time limit is an error, too.
            let line = line.map_err(|error| error.to_string())?;
            if !line.is_empty() && take(serde_json::from_str(&line).unwrap_or(Value::Null)) {
                break;
            }
        }
        Ok(())
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<http::Response<Body>, ureq::Error> {
        let url = format!("{}{path}", self.endpoint());
        let mut request = http::Request::builder().method(method).uri(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(text)?;
        let request = self.agent.configure_request(request).timeout_global(Some(limit)).build();
        self.agent.run(request)
    }

    fn describe(&self, error: &ureq::Error) -> String {
        let endpoint = self.endpoint();
        match error {
            ureq::Error::Timeout(_) => format!("{endpoint} does not answer"),
            ureq::Error::Io(error) => format!("{endpoint}: {}", aba_lock::base::text::format_io_error(error)),
            ureq::Error::HostNotFound => format!("{endpoint}: no such host"),
            ureq::Error::ConnectionFailed => format!("{endpoint}: cannot connect"),
            error => format!("{endpoint}: {error}"),
        }
    }
}

/// Returns true unless the request cannot have arrived at the server.
fn may_have_arrived(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error.kind() != io::ErrorKind::ConnectionRefused,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => false,
        _ => true,
    }
}
