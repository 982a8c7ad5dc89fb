//! The operations of the service. REST and gRPC translate their requests into calls of [`LockManager`], which checks
//! the arguments, passes the call to the store, and records the answer.

use crate::access::AccessPolicy;
use crate::credential;
use crate::error::CallError;
use crate::event_feed::EventFeed;
use crate::model::{Lock, LockFields, LockKey, LockOrigin, LockPage, LockQuery, LockRequest, Waiter};
use crate::past_lock::{EndCause, EndKind, HistoryPage, HistoryQuery};
use crate::permission::Scope;
use crate::store::lock_store::LockStore;
use crate::telemetry::{CallInfo, Telemetry};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Maximum number of bytes of an id or a field.
const MAX_LENGTH: usize = 1024;

/// Maximum number of locks on a page of a list.
const MAX_PAGE: u32 = 100_000;

/// Maximum number of locks in an answer with the history.
pub(crate) const MAX_HISTORY_PART: usize = 1000;

/// The time for which the result of a health check is reused.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct LockManager {
    store: Arc<dyn LockStore>,
    access: Arc<AccessPolicy>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) feed: Arc<EventFeed>,
    is_stopping: AtomicBool,
    /// The time and the result of the last health check.
    last_check: Mutex<Option<(Instant, Result<(), CallError>)>>,
}

/// A lock that a call has acquired.
pub(crate) struct GrantedLock {
    pub(crate) lock: Lock,
    /// Permits other callers to change and release the lock. `None`: the service has no token file.
    pub(crate) secret: Option<String>,
}

impl LockManager {
    pub(crate) fn new(
        store: Arc<dyn LockStore>,
        access: Arc<AccessPolicy>,
        telemetry: Arc<Telemetry>,
        feed: Arc<EventFeed>,
    ) -> Self {
        Self { store, access, telemetry, feed, is_stopping: AtomicBool::new(false), last_check: Mutex::default() }
    }

    /// Refuses new requests for locks and all waiters from now on, and ends the streams of events. Locks can still be released
    /// and renewed.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.store.stop();
        self.feed.close();
    }

    pub(crate) async fn create(&self, call: &CallInfo, mut request: LockRequest) -> Result<GrantedLock, CallError> {
        let (waits, mut secret) = (request.wait.is_some(), None);
        let work = async {
            let LockKey { service, environment, resource } = &request.key;
            check_not_empty("service", service)?;
            check_not_empty("who", &request.who)?;
            check_lengths(&[service, environment, resource, &request.who, &request.event_id])?;
            if let Some(caller) = &call.caller {
                caller.check_service(Scope::Write, service)?;
                let new = credential::new_secret().map_err(CallError::Fault)?;
                let digest = credential::format_digest(&credential::hash_token(&new));
                request.origin = LockOrigin { name: caller.name.to_string(), secret: digest, ..request.origin };
                secret = Some(new);
            }
            if self.is_stopping.load(Ordering::SeqCst) {
                return Err(CallError::Stopping);
            }
            let lock = self.store.create(request).await?;
            let permitted = self.access.check_again(call.caller.as_ref(), Scope::Write, &lock.key.service);
            if permitted.is_err() && waits {
                self.store.remove(&lock.id, EndCause::without_caller(EndKind::TakenBack)).await?;
                permitted?;
            }
            Ok(lock)
        };
        let begun = Instant::now();
        let result = work.await;
        let duration = (!waits).then(|| begun.elapsed());
        self.telemetry.record_call(call, result.as_ref().map(Some), duration);
        result.map(|lock| GrantedLock { lock, secret })
    }

    pub(crate) async fn get(&self, call: &CallInfo, id: &str) -> Result<Lock, CallError> {
        let work = async {
            let lock = self.store.get(id).await?;
            call.caller.as_ref().map_or(Ok(()), |caller| caller.check_lock(Scope::Read, &lock)).map(|()| lock)
        };
        self.record(call, id, work).await
    }

    pub(crate) async fn update(&self, call: &CallInfo, id: &str, changes: LockFields) -> Result<Lock, CallError> {
        let work = async {
            let LockFields { service, environment, resource, who, event_id } = &changes;
            check_lengths(&[service, environment, resource, who, event_id])?;
            self.check_change(call, id).await?;
            if let Some(caller) = &call.caller
                && !service.is_empty()
            {
                caller.check_service(Scope::Write, service)?;
            }
            self.store.update(id, changes, &name_of(call)).await
        };
        self.record(call, id, work).await
    }

    /// Releases a lock. `kind` is [`EndKind::Released`], or [`EndKind::Forced`] if the caller says that it does not own the lock.
    pub(crate) async fn unlock(&self, call: &CallInfo, id: &str, kind: EndKind) -> Result<Lock, CallError> {
        let work = async {
            let owns = self.check_change(call, id).await?;
            let kind = if owns { kind } else { EndKind::Forced };
            self.store.remove(id, EndCause { kind, by: name_of(call) }).await
        };
        self.record(call, id, work).await
    }

    pub(crate) async fn renew(&self, call: &CallInfo, id: &str, ttl: Option<Duration>) -> Result<Lock, CallError> {
        let work = async {
            self.check_change(call, id).await?;
            self.store.renew(id, ttl).await
        };
        self.record(call, id, work).await
    }

    /// Returns the locks whose key has only this service. The caller may create such a lock.
    pub(crate) async fn list_holders(&self, call: &CallInfo, service: &str) -> Result<Vec<Lock>, CallError> {
        let work = async {
            check_lengths(&[&service.to_owned()])?;
            if let Some(caller) = &call.caller {
                caller.check_service(Scope::Write, service)?;
            }
            let fields = LockFields { service: service.to_owned(), ..LockFields::default() };
            let found = self.store.list(LockQuery { page: 1, fields, ..LockQuery::default() }).await?;
            let has_no_more = |lock: &Lock| lock.key.environment.is_empty() && lock.key.resource.is_empty();
            Ok(found.locks.into_iter().filter(has_no_more).collect())
        };
        let result = work.await;
        if let Err(error) = &result {
            self.telemetry.record_call(call, Err(error), None);
        }
        result
    }

    /// Refuses a caller that may not change this lock. Returns true if the caller owns it. The owner of a lock never changes, so
    /// the check need not be a part of the change.
    async fn check_change(&self, call: &CallInfo, id: &str) -> Result<bool, CallError> {
        let Some(caller) = &call.caller else { return Ok(true) };
        let lock = self.store.get(id).await?;
        caller.check_change(&lock).map(|()| caller.owns(&lock))
    }

    pub(crate) async fn list(&self, call: &CallInfo, mut query: LockQuery) -> Result<LockPage, CallError> {
        let begun = Instant::now();
        let result = match select_visible(call, &mut query).and_then(|()| check_page(&query)) {
            Ok(()) => self.store.list(query).await,
            Err(error) => Err(error),
        };
        self.telemetry.record_call(call, result.as_ref().map(|_| None), Some(begun.elapsed()));
        result
    }

    /// Returns locks that have ended, of the services that the caller may read.
    pub(crate) async fn list_history(
        &self,
        call: &CallInfo,
        mut query: HistoryQuery,
    ) -> Result<HistoryPage, CallError> {
        let begun = Instant::now();
        query.selection.services = call.caller.as_ref().and_then(|caller| caller.list_services(Scope::Read));
        let result = match check_named_service(call, &query.selection.fields.service) {
            Ok(()) if (1..=MAX_HISTORY_PART).contains(&query.limit) => self.store.list_history(query).await,
            Ok(()) => Err(CallError::Invalid(format!("limit must be a number from 1 to {MAX_HISTORY_PART}"))),
            Err(error) => Err(error),
        };
        self.telemetry.record_call(call, result.as_ref().map(|_| None), Some(begun.elapsed()));
        result
    }

    /// Returns the present waiters for a key, for the events about it.
    pub(crate) fn list_waiters(&self, key: &LockKey) -> Vec<Waiter> {
        self.store.list_waiters(key)
    }

    /// Returns an error if no lock could be granted now. Any client may call this as often as it likes, so the store is
    /// asked at most once a second.
    pub(crate) async fn check(&self) -> Result<(), CallError> {
        if self.is_stopping.load(Ordering::SeqCst) {
            return Err(CallError::Stopping);
        }
        let mut last_check = self.last_check.lock().await;
        if let Some((at, result)) = &*last_check
            && at.elapsed() < CHECK_INTERVAL
        {
            return result.clone();
        }
        let result = self.store.check().await;
        *last_check = Some((Instant::now(), result.clone()));
        result
    }

    pub(crate) async fn collect_metrics(&self) -> String {
        let one = LockQuery { page: 1, per_page: Some(1), ..LockQuery::default() };
        let held = self.store.list(one).await.ok().map(|page| page.total);
        let (waiting, clients) = (self.store.count_waiters(), self.feed.count_clients());
        self.telemetry.format_metrics(self.check().await.is_ok(), held, waiting, clients)
    }

    /// Runs an operation on the lock of this id, if the id is valid, and records the answer.
    async fn record(
        &self,
        call: &CallInfo,
        id: &str,
        operation: impl Future<Output = Result<Lock, CallError>>,
    ) -> Result<Lock, CallError> {
        let begun = Instant::now();
        let result = match check_id(id) {
            Ok(()) => operation.await,
            Err(error) => Err(error),
        };
        self.telemetry.record_call(call, result.as_ref().map(Some), Some(begun.elapsed()));
        result
    }
}

/// Refuses a caller that may not read the service that its query names: an empty answer would mean that the service has no
/// locks. A query without a service selects those that the caller may read.
pub(crate) fn check_named_service(call: &CallInfo, service: &str) -> Result<(), CallError> {
    match &call.caller {
        Some(caller) if !service.is_empty() => caller.check_service(Scope::Read, service),
        _ => Ok(()),
    }
}

/// Limits a query to the locks that the caller may see. A caller that does not know the result of its request searches for
/// the id of its event, so it finds its own lock without the permission to read the service.
fn select_visible(call: &CallInfo, query: &mut LockQuery) -> Result<(), CallError> {
    query.services = call.caller.as_ref().and_then(|caller| caller.list_services(Scope::Read));
    if query.fields.event_id.is_empty() {
        return check_named_service(call, &query.fields.service);
    }
    query.owner = name_of(call);
    Ok(())
}

fn check_page(query: &LockQuery) -> Result<(), CallError> {
    let why = match query {
        LockQuery { page: 0, .. } => "page must be at least 1".to_owned(),
        LockQuery { per_page: Some(0), .. } => "per_page must be at least 1".to_owned(),
        LockQuery { per_page: Some(number), .. } if *number > MAX_PAGE => {
            format!("per_page must be at most {MAX_PAGE}")
        }
        _ => return Ok(()),
    };
    Err(CallError::Invalid(why))
}

/// Returns the name of the caller in the token file. Empty: the service has none.
fn name_of(call: &CallInfo) -> String {
    call.caller.as_ref().map(|caller| caller.name.to_string()).unwrap_or_default()
}

fn check_not_empty(name: &str, field: &str) -> Result<(), CallError> {
    if field.is_empty() { Err(CallError::Invalid(format!("{name} is required"))) } else { Ok(()) }
}

fn check_id(id: &str) -> Result<(), CallError> {
    check_not_empty("id", id)?;
    if id.len() <= MAX_LENGTH {
        return Ok(());
    }
    Err(CallError::Invalid(format!("id is longer than {MAX_LENGTH} bytes")))
}

fn check_lengths(fields: &[&String]) -> Result<(), CallError> {
    if fields.iter().all(|field| field.len() <= MAX_LENGTH) {
        return Ok(());
    }
    Err(CallError::Invalid(format!(
        "`service`, `environment`, `resource`, `who` and `event_id` may have at most {MAX_LENGTH} bytes each"
    )))
}
