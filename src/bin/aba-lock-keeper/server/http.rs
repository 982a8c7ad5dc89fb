//! Requests to one of several endpoints that stand for the same server.
//!
//! Each is sent to the endpoint that answered last; if that fails in a way that may be its own fault, to the next. So a
//! request may arrive twice, and have an effect although no answer came: whoever sends one sees to it that this does no
//! harm. An endpoint that was stopped accepts connections and never answers: hence a limit for each try.

use crate::clock::Moment;
use crate::server::Fault;
use crate::server::resolver::Lookup;
use crate::settings::Settings;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, http};

/// How long an endpoint may take to answer.
pub(crate) const TRY: Duration = Duration::from_millis(1500);

/// The largest answer that is read: a list of all leases.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Null, if it is no JSON.
    pub(crate) body: Value,
    /// When the request was sent to the endpoint that answered.
    pub(crate) sent: Moment,
}

/// The endpoints, and how to talk to them.
#[derive(Clone)]
pub(crate) struct Http {
    agent: Agent,
    endpoints: Vec<String>,
    at: usize,
    /// The value of the header `Authorization`.
    pub(crate) authorization: Option<String>,
}

impl Http {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Fault> {
        let mut tls = TlsConfig::builder();
        if let Some(pem) = &settings.authorities {
            let certificates = certificates(pem)?;
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates)));
        }
        if let Some((certificate, key)) = &settings.identity {
            let key = PrivateKey::from_pem(key).map_err(|error| unreadable("key", &error))?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&certificates(certificate)?, key)));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("aba-lock/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::default(), Lookup);
        Ok(Self { agent, endpoints: settings.endpoints.clone(), at: 0, authorization: None })
    }

    /// How many endpoints there are.
    pub(crate) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// A way to the endpoint whose turn it is alone.
    pub(crate) fn alone(&self) -> Self {
        Self { endpoints: vec![self.endpoint().to_owned()], at: 0, ..self.clone() }
    }

    /// The one whose turn it is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoints[self.at]
    }

    /// Goes on with the next endpoint.
    pub(crate) fn next_endpoint(&mut self) {
        self.at = (self.at + 1) % self.endpoints.len();
    }

    /// Sends it to the endpoint whose turn it is. The reason if there is no answer.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Answer, String> {
        let sent = Moment::now();
        let mut response = self.call(method, path, body, limit)?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(LARGEST).read_to_string();
        let text = text.map_err(|error| self.unanswered(&error))?;
        // Some answers are a stream of one: a line.
        let body = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
        Ok(Answer { status, body, sent })
    }

    /// The same for an answer that comes in lines, until `take` has enough of them or the time is up.
    pub(crate) fn stream(
        &self,
        path: &str,
        body: &Value,
        limit: Duration,
        mut take: impl FnMut(Value) -> bool,
    ) -> Result<(), String> {
        let mut response = self.call("POST", path, Some(body), limit)?;
        let reader = BufReader::new(response.body_mut().as_reader());
        for line in reader.lines() {
            // At the end of the time this is an error like others.
            let line = line.map_err(|error| error.to_string())?;
            if !line.is_empty() && take(serde_json::from_str(&line).unwrap_or(Value::Null)) {
                break;
            }
        }
        Ok(())
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<http::Response<Body>, String> {
        let url = format!("{}{path}", self.endpoint());
        let mut request = http::Request::builder().method(method).uri(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(text).map_err(|error| error.to_string())?;
        let request = self.agent.configure_request(request).timeout_global(Some(limit)).build();
        self.agent.run(request).map_err(|error| self.unanswered(&error))
    }

    fn unanswered(&self, error: &ureq::Error) -> String {
        let endpoint = self.endpoint();
        match error {
            ureq::Error::Timeout(_) => format!("{endpoint} does not answer"),
            ureq::Error::Io(error) => format!("{endpoint}: {}", aba_lock::base::text::format_io_error(error)),
            ureq::Error::HostNotFound => format!("{endpoint}: no such host"),
            ureq::Error::ConnectionFailed => format!("{endpoint}: no connection"),
            error => format!("{endpoint}: {error}"),
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, Fault> {
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(pem) {
        if let ureq::tls::PemItem::Certificate(certificate) = item.map_err(|error| unreadable("certificate", &error))? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(Fault::Failed {
            what: "there is no certificate in the file that was given".to_owned(),
            hint: Some("it is to be in PEM form".to_owned()),
        });
    }
    Ok(found)
}

fn unreadable(what: &str, error: &ureq::Error) -> Fault {
    Fault::Failed {
        what: format!("the {what} could not be read: {error}"),
        hint: Some("it is to be in PEM form".to_owned()),
    }
}
