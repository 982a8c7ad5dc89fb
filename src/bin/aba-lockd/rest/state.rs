//! The state that all handlers share: the lock manager, and the rules by which they check and record a call.

use super::request::RestCaller;
use crate::access::AccessPolicy;
use crate::error::CallError;
use crate::lock_manager::{GrantedLock, LockManager};
use crate::model::LockRequest;
use crate::permission::Scope;
use crate::telemetry::CallInfo;
use axum::extract::State;
use std::sync::Arc;
use std::time::Duration;
use tokio::time;

/// Time from the moment at which a caller that does not wait closes its sending side until it is treated as gone. A
/// caller that still reads has usually got its answer much sooner.
const GONE_DELAY: Duration = Duration::from_secs(1);

pub(crate) struct RestState {
    pub(crate) manager: Arc<LockManager>,
    pub(crate) access: Arc<AccessPolicy>,
}

pub(super) type SharedState = State<Arc<RestState>>;

impl RestState {
    pub(super) fn authorize(
        &self,
        caller: &RestCaller,
        operation: &'static str,
        scope: Scope,
    ) -> Result<CallInfo, CallError> {
        self.authorize_one_of(caller, operation, &[scope])
    }

    /// Returns the call if one of the scopes permits it.
    pub(super) fn authorize_one_of(
        &self,
        caller: &RestCaller,
        operation: &'static str,
        scopes: &[Scope],
    ) -> Result<CallInfo, CallError> {
        caller.authorize(&self.access, &self.manager.telemetry, operation, scopes)
    }

    /// Records the refusal of a permitted call, for example because its arguments are invalid.
    pub(super) fn record_invalid<T>(&self, call: &CallInfo, parsed: Result<T, CallError>) -> Result<T, CallError> {
        parsed.inspect_err(|error| self.manager.telemetry.record_call(call, Err(error), None))
    }

    /// Acquires a lock for a caller, unless the caller goes away first.
    pub(super) async fn acquire(
        &self,
        caller: &RestCaller,
        call: &CallInfo,
        request: LockRequest,
    ) -> Result<GrantedLock, CallError> {
        let waits = request.wait.is_some();
        let permit = request.wait.map(|_| caller.peer.permit_wait()).transpose();
        let _permit = self.record_invalid(call, permit)?;
        let gone = async {
            caller.peer.wait_until_gone().await;
            if !waits {
                time::sleep(GONE_DELAY).await;
            }
        };
        tokio::select! {
            // In this order, a lock that is granted at the moment when the client goes is taken back.
            biased;
            () = gone => Err(CallError::Invalid("the caller closed the connection, or its side of it, before the answer".to_owned())),
            granted = self.manager.create(call, request) => granted,
        }
    }
}
