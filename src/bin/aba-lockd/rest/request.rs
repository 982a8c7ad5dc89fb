//! The caller of a REST request: its headers and its connection. The handlers use it to check whether the call is
//! permitted.

use crate::access::{AccessPolicy, RequestOrigin};
use crate::connection::peer::Peer;
use crate::error::CallError;
use crate::permission::Scope;
use crate::telemetry::{CallInfo, Telemetry};
use aba_lock_protocol::path;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use std::convert::Infallible;

pub(super) struct RestCaller {
    headers: HeaderMap,
    /// The name of the API in the log and in the metrics.
    api: &'static str,
    pub(super) peer: Peer,
}

impl<S: Sync> FromRequestParts<S> for RestCaller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.clone());
        let api = if parts.uri.path().starts_with(path::TERRAFORM) { "terraform" } else { "rest" };
        Ok(Self { headers: parts.headers.clone(), api, peer: peer.unwrap_or_default() })
    }
}

impl RestCaller {
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Refuses a request that a browser sends for a page of another site.
    pub(super) fn check_origin(&self, access: &AccessPolicy, scope: Scope) -> Result<(), CallError> {
        let named = |name| self.header(&HeaderName::from_static(name));
        let origin = RequestOrigin {
            host: self.header(&header::HOST),
            origin: self.header(&header::ORIGIN),
            fetch_site: named("sec-fetch-site"),
            purpose: named("sec-purpose").or_else(|| named("purpose")),
        };
        access.check_origin(&origin, scope)
    }

    /// Returns the call if one of the scopes permits it. Records the refusal otherwise.
    pub(super) fn authorize(
        &self,
        access: &AccessPolicy,
        telemetry: &Telemetry,
        operation: &'static str,
        scopes: &[Scope],
    ) -> Result<CallInfo, CallError> {
        let mut call = self.peer.describe_call(self.api, operation);
        let caller = self
            .check_origin(access, scopes.first().copied().unwrap_or(Scope::Admin))
            .and_then(|()| access.identify_caller(&self.headers, call.certificate.as_deref(), scopes));
        match caller {
            Ok(caller) => {
                self.peer.mark_permitted();
                call.caller = caller;
                Ok(call)
            }
            Err(error) => {
                telemetry.record_call(&call, Err(&error), None);
                Err(error)
            }
        }
    }
}
