//! The resolver for the names of endpoints.
//!
//! A thread looks a name up, because that may take longer than the time limit of the request. A numeric address needs
//! no thread. If no thread can be created, the calling thread looks the name up, without a time limit. (The default
//! resolver of ureq panics in that case.)

use crate::os::signal;
use std::net::IpAddr;
use std::sync::mpsc;
use std::thread;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The resolver that [`crate::server::http::HttpClient`] uses.
#[derive(Debug)]
pub(super) struct EndpointResolver;

impl Resolver for EndpointResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        if uri.host().is_some_and(is_address) {
            return look_up(uri, config);
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let (thread_uri, thread_config) = (uri.clone(), config.clone());
        let work = move || {
            let _ = sender.send(look_up(&thread_uri, &thread_config));
        };
        match signal::with_signals_blocked(|| thread::Builder::new().spawn(work)) {
            Ok(_) => receiver.recv_timeout(*timeout.after).unwrap_or(Err(ureq::Error::Timeout(timeout.reason))),
            Err(_) => look_up(uri, config),
        }
    }
}

fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

fn look_up(uri: &Uri, config: &Config) -> Result<ResolvedSocketAddrs, ureq::Error> {
    // Without a time limit, this resolver creates no thread.
    DefaultResolver::default().resolve(uri, config, NextTimeout::default())
}
