//! What a server of leases is, whichever it is: a queue for each name, whose first has the lock as long as its lease lives.
//!
//! A **lease** is good until the moment `good + ttl`: `good` is when the last request was *sent* by which the server
//! renewed it, on a clock of ours that does not stop. The server counts from when it got that request, so it never takes
//! a lease away before we know that it may.

pub(crate) mod etcd;
pub(crate) mod http;
mod resolver;
pub(crate) mod service;

use crate::clock::Moment;
use crate::settings::{Kind, Settings};
use serde_json::{Value, json};
use std::time::Duration;

/// A place in the queue of a name, that of the holder most often.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// What is locked.
    pub(crate) name: String,
    /// What the server calls it: enough to renew or release it.
    pub(crate) id: String,
    /// The fencing token: it grows with every acquisition of the name.
    pub(crate) token: u64,
    /// How long it lives without renewal, as the server says.
    pub(crate) ttl: Duration,
    /// When the last good renewal was sent.
    pub(crate) good: Moment,
    /// A keeper sees to it that its holder ends before it does.
    pub(crate) kept: bool,
}

/// Who wants a lease: what others are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) user: String,
    pub(crate) command: String,
    pub(crate) who: Option<String>,
    /// RFC 3339, UTC.
    pub(crate) since: String,
}

impl Owner {
    pub(crate) fn to_json(&self) -> Value {
        json!({ "host": self.host, "pid": self.pid, "user": self.user, "command": self.command, "who": self.who,
            "since": self.since })
    }

    /// `None`: somebody else's program left no such word.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let pid = u32::try_from(value["pid"].as_u64()?).ok()?;
        let who = value["who"].as_str().map(str::to_owned);
        Some(Self { host: text("host"), pid, user: text("user"), command: text("command"), who, since: text("since") })
    }
}

/// One that stands in the queue of a name.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) token: u64,
    pub(crate) owner: Option<Owner>,
    /// What another kind of server says of the owner, in its words.
    pub(crate) said: Option<String>,
    /// How long it will live without renewal, if that was asked for.
    pub(crate) left: Option<Duration>,
}

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Want<'a> {
    pub(crate) name: &'a str,
    pub(crate) ttl: Duration,
    pub(crate) owner: &'a Owner,
    pub(crate) patience: Patience,
    /// Whether a keeper sees to it that the holder ends before its lease does.
    pub(crate) kept: bool,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    Until(Moment),
    Forever,
}

impl Patience {
    /// Whether it is at its end.
    pub(crate) fn is_out(self) -> bool {
        match self {
            Self::None => true,
            Self::Until(moment) => moment.is_past(),
            Self::Forever => false,
        }
    }

    /// At most this.
    pub(crate) fn at_most(self, span: Duration) -> Duration {
        match self {
            Self::Until(moment) => span.min(moment.left()),
            Self::None | Self::Forever => span,
        }
    }
}

/// Is told how an acquisition goes.
pub(crate) trait Watcher {
    /// There may be something at the server from now on: to be given back if nothing comes of it.
    fn begun(&mut self, id: &str);
    /// Another has it, and we wait.
    fn waits(&mut self, holder: &Entry);
    /// The server does not answer, and we try again.
    fn unanswered(&mut self, what: &str);
}

/// Why there is no lease.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Another has it.
    Busy { name: String, holder: Option<Box<Entry>> },
    /// Another had it all the time.
    TimedOut { name: String, holder: Option<Box<Entry>> },
    /// No server answers. What is at the server is not known.
    Unreachable { what: String },
    /// The lease is there no more.
    Gone { name: String },
    /// The server refused, or something here failed.
    Failed { what: String, hint: Option<String> },
    /// The command cannot be run; whether it was found.
    NotRun { command: String, found: bool, reason: String },
    /// What was asked for makes no sense.
    Misused { what: String, hint: String },
}

/// A server of leases.
pub(crate) trait Server {
    /// Stands in the queue until the lease is ours. What is not ours in the end is given back.
    fn acquire(&mut self, want: &Want, watcher: &mut dyn Watcher) -> Result<Lease, Fault>;
    /// Makes it last longer. [`Fault::Gone`]: it is lost.
    fn renew(&mut self, lease: &mut Lease) -> Result<(), Fault>;
    /// Gives it back: the next one can have the name. Fine if it is gone.
    fn free(&mut self, id: &str) -> Result<(), Fault>;
    /// Clears away what is left of it then, and is in nobody's way.
    fn clear(&mut self, id: &str) -> Result<(), Fault>;
    /// Both.
    fn release(&mut self, id: &str) -> Result<(), Fault> {
        self.free(id)?;
        self.clear(id)
    }
    /// The lease with this id, as another process got it.
    fn find(&mut self, id: &str) -> Result<Lease, Fault>;
    /// Who stands in the queue of a name, the holder first; of all names without one.
    fn queue(&mut self, name: Option<&str>) -> Result<Vec<Entry>, Fault>;
}

/// The server that the settings lead to. Nothing is sent yet.
pub(crate) fn connect(settings: &Settings) -> Result<Box<dyn Server>, Fault> {
    match settings.kind {
        Kind::Etcd => Ok(Box::new(etcd::Etcd::new(settings)?)),
        Kind::Service => Ok(Box::new(service::Service::new(settings)?)),
    }
}
