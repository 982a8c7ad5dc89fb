//! Looks up the addresses of an endpoint.
//!
//! A thread looks a name up, as that may take longer than the request may. An address needs no thread; and where none can be
//! created, the caller looks the name up, as long as that takes. (The resolver of ureq would panic there.)

use crate::sys;
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The resolver of the agent.
#[derive(Debug)]
pub(super) struct Lookup;

impl Resolver for Lookup {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        if uri.host().is_some_and(is_address) {
            return look_up(uri, config);
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let (theirs, limits) = (uri.clone(), config.clone());
        let work = move || {
            let _ = sender.send(look_up(&theirs, &limits));
        };
        match sys::without_signals(|| thread::Builder::new().spawn(work)) {
            Ok(_) => receiver.recv_timeout(*timeout.after).unwrap_or(Err(ureq::Error::Timeout(timeout.reason))),
            Err(_) => look_up(uri, config),
        }
    }
}

fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

fn look_up(uri: &Uri, config: &Config) -> Result<ResolvedSocketAddrs, ureq::Error> {
    // Without a limit it creates no thread.
    DefaultResolver::default().resolve(uri, config, NextTimeout::default())
}
