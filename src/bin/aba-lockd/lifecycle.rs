//! From the options to a service, and to its end: what was asked is answered, who waits is told, then it stops. A second signal
//! ends it at once.

use crate::access::Access;
use crate::args::Serve;
use crate::connection::{Incoming, Limits};
use crate::lock_manager::Desk;
use crate::reload::{self, Reloader};
use crate::rest::House;
use crate::store::{self, Opened};
use crate::telemetry::Journal;
use crate::{environment, grpc, report, rest, tls};
use rustls::ServerConfig;
use serde_json::{Map, json};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::panic;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time;

/// How long what was asked may take to be answered after the signal to end.
const GRACE: Duration = Duration::from_secs(10);

/// How long the creation of a thread may take.
const THREAD: Duration = Duration::from_secs(5);

/// Why it could not be started.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) sentence: String,
    pub(crate) hint: Option<String>,
    /// Whether that is for the options to mend.
    pub(crate) misused: bool,
}

impl Failure {
    pub(crate) fn new(sentence: String) -> Self {
        Self { sentence, hint: None, misused: false }
    }

    pub(crate) fn misused(sentence: String) -> Self {
        Self { sentence, hint: None, misused: true }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Serves until it is told to end. Whether all that was asked was answered by then.
pub(crate) fn run(args: Serve) -> Result<bool, Failure> {
    let writer = report::start();
    let writer = writer.map_err(|error| Failure::new(format!("could not start threads: {error}")))?;
    let done = start(args);
    report::finish(&writer);
    done
}

fn start(args: Serve) -> Result<bool, Failure> {
    let (rest_address, grpc_address) =
        (address("--listen", &args.listen)?, address("--grpc-listen", &args.grpc_listen)?);
    for address in [rest_address, grpc_address] {
        if !address.ip().is_loopback() && args.token_file.is_none() && args.tls_client_ca.is_none() && !args.insecure {
            let sentence = format!("{address} can be reached from other machines, and everyone there could unlock");
            return Err(Failure::misused(sentence).hint("give --token-file or --tls-client-ca, or say --insecure"));
        }
    }
    let runtime = start_threads()?;
    // First of all: until then SIGHUP ends the process.
    let reloads = runtime.block_on(async { signal(SignalKind::hangup()) });
    let reloads = reloads.map_err(|error| Failure::new(error.to_string()))?;
    let tokens = args.token_file.as_deref().map(reload::tokens).transpose()?;
    // From elsewhere it is called by names that we cannot know, and who may ask is known by other means.
    let only_those = rest_address.ip().is_loopback() && tokens.is_none();
    let access = Access { tokens: tokens.map(RwLock::new), hosts: args.allow_host.clone(), only_those };
    let tls = tls::config(&args)?.map(watch::Sender::new);
    if access.tokens.is_some() && tls.is_none() {
        for address in [rest_address, grpc_address].iter().filter(|address| !address.ip().is_loopback()) {
            report::warn(&format!(
                "tokens are sent to {address} in clear text: give --tls-cert and --tls-key, or have a proxy speak TLS"
            ));
        }
    }
    let journal = Arc::new(Journal::new(args.log_all));
    let opened = runtime.block_on(store::open(args.store.as_deref(), args.token_base, Arc::clone(&journal)))?;
    let service = Service { rest_address, grpc_address, args: Arc::new(args), tls, access: Arc::new(access), reloads };
    let done = runtime.block_on(serve(service, &opened, journal));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

/// Starts all threads that a call needs: later there may be none to be created.
fn start_threads() -> Result<Runtime, Failure> {
    fn failed(why: &str) -> Failure {
        Failure::new(format!("could not start threads: {why}")).hint("see `ulimit -u`, and TasksMax= of a unit")
    }
    // Tokio panics if it cannot create a worker, and unwinding would wait for those that it has created.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| crate::end(&failed("the system refuses to create more"))));
    let mut runtime = runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().thread_keep_alive(Duration::from_secs(u32::MAX.into())).build();
    let runtime = runtime.map_err(|error| failed(&error.to_string()))?;
    // The store is read on threads that may block. One stays forever; where there can be no other, reads take turns.
    let blocking = async { time::timeout(THREAD, tokio::task::spawn_blocking(|| ())).await };
    let is_there = runtime.block_on(blocking);
    panic::set_hook(hook);
    if !matches!(is_there, Ok(Ok(()))) {
        runtime.shutdown_background();
        return Err(failed("the system refuses to create more"));
    }
    Ok(runtime)
}

/// A service that does not listen yet.
struct Service {
    rest_address: SocketAddr,
    grpc_address: SocketAddr,
    args: Arc<Serve>,
    tls: Option<watch::Sender<Arc<ServerConfig>>>,
    access: Arc<Access>,
    reloads: Signal,
}

async fn serve(service: Service, opened: &Opened, journal: Arc<Journal>) -> Result<bool, Failure> {
    let Service { rest_address, grpc_address, args, tls, access, mut reloads } = service;
    let certificates = || tls.as_ref().map(watch::Sender::subscribe);
    let listening =
        |address: SocketAddr, error: &io::Error| Failure::new(format!("could not listen on {address}: {error}"));
    let limits = Limits::new();
    let (end, ends) = watch::channel(());
    let rest_in = Incoming::bind(rest_address, certificates(), &["http/1.1"], Arc::clone(&limits), ends.clone()).await;
    let rest_in = rest_in.map_err(|error| listening(rest_address, &error))?;
    let grpc_in = Incoming::bind(grpc_address, certificates(), &["h2"], limits, ends.clone()).await;
    let grpc_in = grpc_in.map_err(|error| listening(grpc_address, &error))?;
    let (rest_at, grpc_at) = (rest_in.address(), grpc_in.address());
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Failure::new(error.to_string()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Failure::new(error.to_string()))?;

    let desk = Arc::new(Desk::new(Arc::clone(&opened.store), journal));
    let router = rest::routes(House { desk: Arc::clone(&desk), access: Arc::clone(&access) });
    let rest_side = tokio::spawn(rest::serve(rest_in, router, access.tokens.is_none(), ends.clone()));
    let grpc_side = tokio::spawn(grpc::serve(grpc_in, Arc::clone(&desk), Arc::clone(&access), ended(ends)));
    let reloader = Arc::new(Reloader::new(args, access, tls));
    let reload = tokio::spawn(async move {
        while reloads.recv().await.is_some() {
            tell_starter("RELOADING=1");
            let reloader = Arc::clone(&reloader);
            let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
            tell_starter("READY=1");
        }
    });

    say("started", &[("listen", rest_at.to_string()), ("grpc", grpc_at.to_string()), ("store", opened.name.clone())]);
    tell_starter("READY=1");
    let mut told = async || {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        name.to_owned()
    };
    say("stopping", &[("signal", told().await)]);
    reload.abort();
    tell_starter("STOPPING=1");
    desk.stop();
    drop(end);
    let sides = async {
        let _ = rest_side.await;
        let _ = grpc_side.await;
    };
    let (answered, why) = tokio::select! {
        () = sides => ("all", None),
        () = time::sleep(GRACE) => ("not all", None),
        // Who asks twice is in a hurry.
        signal = told() => ("not all", Some(signal)),
    };
    if why.is_none() {
        opened.store.end().await;
    }
    let signal = why.map(|signal| ("signal", signal));
    let members: Vec<_> = [("answered", answered.to_owned())].into_iter().chain(signal).collect();
    say("stopped", &members);
    Ok(answered == "all")
}

/// Until the end begins.
pub(crate) async fn ended(mut ends: watch::Receiver<()>) {
    // It never changes: this is when its sender is dropped.
    let _ = ends.changed().await;
}

fn address(option: &str, text: &str) -> Result<SocketAddr, Failure> {
    let found = text.to_socket_addrs().map_err(|error| error.to_string());
    let found = found.and_then(|mut found| found.next().ok_or_else(|| "it leads nowhere".to_owned()));
    found.map_err(|why| {
        Failure::misused(format!("{option} {text} is no address: {why}"))
            .hint("it is HOST:PORT, such as 127.0.0.1:8080")
    })
}

fn say(event: &str, members: &[(&str, String)]) {
    let mut line = Map::new();
    line.insert("event".to_owned(), json!(event));
    line.extend(members.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    report::log("info", line);
}

/// Who started us may want to know when we are ready; if it cannot be told, that is its own concern.
fn tell_starter(word: &str) {
    let Some(path) = environment::notify_socket() else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => UnixAddr::from_abstract_name(name),
        None => UnixAddr::from_pathname(&path),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(word.as_bytes(), &address);
    }
}
