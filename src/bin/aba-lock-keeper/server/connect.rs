//! The choice of the client for a kind of server.

use crate::address::ServerKind;
use crate::fault::Fault;
use crate::server::etcd::cluster::EtcdCluster;
use crate::server::lease_server::LeaseServer;
use crate::server::service::client::ServiceClient;
use crate::settings::Settings;

/// Returns a client for the server in the settings. It sends nothing yet.
pub(crate) fn connect(settings: &Settings) -> Result<Box<dyn LeaseServer>, Fault> {
    match settings.address.kind {
        ServerKind::Etcd => Ok(Box::new(EtcdCluster::new(settings)?)),
        ServerKind::Service => Ok(Box::new(ServiceClient::new(settings)?)),
    }
}
