//! A notification that the service stops. `lifecycle` sends it; the two API servers and the connections without a
//! permitted call wait for it.

use tokio::sync::watch;

/// The side of the service: dropping it starts the shutdown.
pub(crate) type ShutdownSender = watch::Sender<()>;

/// The side of a connection or a server.
#[derive(Clone)]
pub(crate) struct ShutdownReceiver(watch::Receiver<()>);

pub(crate) fn channel() -> (ShutdownSender, ShutdownReceiver) {
    let (sender, receiver) = watch::channel(());
    (sender, ShutdownReceiver(receiver))
}

impl ShutdownReceiver {
    /// Waits until the shutdown starts.
    pub(crate) async fn wait(mut self) {
        // The value never changes: this returns when the sender is dropped.
        let _ = self.0.changed().await;
    }
}
