//! The life of the service: check the options, open the store, listen, serve until a signal, and stop.
//!
//! `main` calls [`run`]. After the first SIGTERM or SIGINT, the service accepts no new connections, refuses waiters and
//! requests for locks with an error that makes the callers ask again, and answers all other calls that it has received.
//! A second signal ends it at once.

use crate::access::AccessPolicy;
use crate::args::ServeOptions;
use crate::connection::limits::ConnectionLimits;
use crate::connection::listener::Listener;
use crate::error::StartError;
use crate::event_feed::EventFeed;
use crate::lock_manager::LockManager;
use crate::reload::Reloader;
use crate::rest::state::RestState;
use crate::store::open::{OpenStore, open_store};
use crate::telemetry::Telemetry;
use crate::{grpc, report, rest, runtime, shutdown, systemd, tls, token_file};
use aba_lock::base::text::format_io_error;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time;

/// The time in which the service answers the calls that it has received before the signal.
const GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT. Returns true if all calls were answered.
pub(crate) fn run(options: ServeOptions) -> Result<bool, StartError> {
    let log = report::LogWriter::start();
    let log = log.map_err(|error| StartError::new(format!("cannot start threads: {}", format_io_error(&error))))?;
    let result = prepare_and_serve(options);
    log.finish();
    result
}

fn prepare_and_serve(options: ServeOptions) -> Result<bool, StartError> {
    let rest_address = resolve_address("--listen", &options.listen)?;
    let grpc_address = resolve_address("--grpc-listen", &options.grpc_listen)?;
    let is_guarded = options.token_file.is_some() || options.tls_client_ca.is_some() || options.insecure;
    for address in [rest_address, grpc_address] {
        if !address.ip().is_loopback() && !is_guarded {
            let message = format!(
                "cannot listen on {address} without access control: other machines can reach it, and could release locks"
            );
            return Err(StartError::usage(message)
                .with_hint("use --token-file or --tls-client-ca; to allow all callers, use --insecure"));
        }
    }
    let runtime = runtime::start_runtime()?;
    // The handler of SIGHUP is installed first, because a SIGHUP without a handler would end the process.
    let reloads = runtime.block_on(async { handle_signal(SignalKind::hangup()) })?;
    let tokens = options.token_file.as_deref();
    let tokens = tokens.map(|file| token_file::read(file, options.tls_client_ca.is_some())).transpose()?;
    // The host name is checked only on a loopback address without tokens. Other machines may call the service by names
    // that it does not know; there, tokens or certificates protect it, unless --insecure is given.
    let checks_host = rest_address.ip().is_loopback() && tokens.is_none();
    let access =
        AccessPolicy { tokens: tokens.map(RwLock::new), allowed_hosts: options.allow_host.clone(), checks_host };
    let tls = tls::load_config(&options)?.map(watch::Sender::new);
    if access.tokens.is_some() && tls.is_none() {
        for address in [rest_address, grpc_address].iter().filter(|address| !address.ip().is_loopback()) {
            report::log_warning(&format!(
                "tokens are sent to {address} in clear text: use --tls-cert and --tls-key, or a proxy that terminates TLS"
            ));
        }
    }
    let telemetry = Arc::new(Telemetry::new(options.log_all));
    let feed = EventFeed::new();
    let (name, token_base) = (options.store.as_deref(), options.token_base);
    let store = runtime.block_on(open_store(name, token_base, Arc::clone(&telemetry), Arc::clone(&feed)))?;
    let reloader = Reloader { options: Arc::new(options), access: Arc::new(access), tls };
    let service = PreparedService { rest_address, grpc_address, reloader, reloads };
    let result = runtime.block_on(serve(service, &store, telemetry, feed));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// A service that does not listen yet.
struct PreparedService {
    rest_address: SocketAddr,
    grpc_address: SocketAddr,
    reloader: Reloader,
    reloads: Signal,
}

async fn serve(
    service: PreparedService,
    store: &OpenStore,
    telemetry: Arc<Telemetry>,
    feed: Arc<EventFeed>,
) -> Result<bool, StartError> {
    let PreparedService { rest_address, grpc_address, reloader, reloads } = service;
    let access = Arc::clone(&reloader.access);
    let tls = || reloader.tls.as_ref().map(watch::Sender::subscribe);
    let cannot_listen = |address: SocketAddr, error: &io::Error| {
        StartError::new(format!("cannot listen on {address}: {}", format_io_error(error)))
    };
    let limits = ConnectionLimits::new();
    let (stop, shutdown) = shutdown::channel();
    let rest_in = Listener::bind(rest_address, tls(), &["http/1.1"], Arc::clone(&limits), shutdown.clone()).await;
    let rest_in = rest_in.map_err(|error| cannot_listen(rest_address, &error))?;
    let grpc_in = Listener::bind(grpc_address, tls(), &["h2"], limits, shutdown.clone()).await;
    let grpc_in = grpc_in.map_err(|error| cannot_listen(grpc_address, &error))?;
    let (rest_at, grpc_at) = (rest_in.address(), grpc_in.address());
    let mut terminate = handle_signal(SignalKind::terminate())?;
    let mut interrupt = handle_signal(SignalKind::interrupt())?;

    let manager = Arc::new(LockManager::new(Arc::clone(&store.backend), Arc::clone(&access), telemetry, feed));
    let router = rest::handlers::build_router(RestState { manager: Arc::clone(&manager), access: Arc::clone(&access) });
    let rest_side = tokio::spawn(rest::server::serve(rest_in, router, access.tokens.is_none(), shutdown.clone()));
    let grpc_side = tokio::spawn(grpc::serve(grpc_in, Arc::clone(&manager), access, shutdown.wait()));
    let reload = tokio::spawn(reload_at_each_signal(reloader, reloads));

    let (rest_at, grpc_at) = (rest_at.to_string(), grpc_at.to_string());
    log_state("started", [("listen", &*rest_at), ("grpc", &grpc_at), ("store", &store.name)]);
    systemd::notify("READY=1");
    let mut next_signal = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    log_state("stopping", [("signal", next_signal().await)]);
    reload.abort();
    systemd::notify("STOPPING=1");
    manager.stop();
    drop(stop);
    let sides = async {
        let _ = rest_side.await;
        let _ = grpc_side.await;
    };
    let (answered, signal) = tokio::select! {
        () = sides => ("all", None),
        () = time::sleep(GRACE_PERIOD) => ("not all", None),
        signal = next_signal() => ("not all", Some(signal)),
    };
    if signal.is_none() {
        store.backend.close().await;
    }
    log_state("stopped", [("answered", answered)].into_iter().chain(signal.map(|signal| ("signal", signal))));
    Ok(answered == "all")
}

async fn reload_at_each_signal(reloader: Reloader, mut reloads: Signal) {
    let reloader = Arc::new(reloader);
    while reloads.recv().await.is_some() {
        systemd::notify("RELOADING=1");
        let reloader = Arc::clone(&reloader);
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
        systemd::notify("READY=1");
    }
}

fn handle_signal(kind: SignalKind) -> Result<Signal, StartError> {
    signal(kind).map_err(|error| StartError::new(error.to_string()))
}

fn resolve_address(option: &str, text: &str) -> Result<SocketAddr, StartError> {
    let found = text.to_socket_addrs().map_err(|error| format_io_error(&error));
    let found = found.and_then(|mut found| found.next().ok_or_else(|| "the name has no address".to_owned()));
    found.map_err(|why| {
        StartError::usage(format!("invalid address: {option} {text}: {why}"))
            .with_hint("use HOST:PORT, such as 127.0.0.1:8080")
    })
}

fn log_state<'a>(event: &str, members: impl IntoIterator<Item = (&'a str, &'a str)>) {
    report::log_event("info", event, members.into_iter().map(|(name, value)| (name, value.into())));
}
