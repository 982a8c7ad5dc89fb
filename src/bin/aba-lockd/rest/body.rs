//! Reads the body of a request for the handlers, within limits of size and time.

use crate::error::CallError;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{self, Instant};
use tokio_stream::StreamExt;

/// Maximum number of bytes of a body.
const MAX_SIZE: usize = 64 * 1024;

/// Maximum time for a client to send the body.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct RequestBody(pub(super) Result<Vec<u8>, CallError>);

impl<S: Sync> FromRequest<S> for RequestBody {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        Ok(Self(read_body(request.into_body()).await))
    }
}

async fn read_body(body: Body) -> Result<Vec<u8>, CallError> {
    let deadline = Instant::now() + TIMEOUT;
    let (mut chunks, mut bytes, mut is_too_large) = (body.into_data_stream(), Vec::new(), false);
    loop {
        match time::timeout_at(deadline, chunks.next()).await {
            Ok(Some(Ok(chunk))) if !is_too_large && bytes.len() + chunk.len() <= MAX_SIZE => {
                bytes.extend_from_slice(&chunk);
            }
            // The rest is read and dropped: closing a connection with unread bytes resets it, and the client may lose
            // the answer.
            Ok(Some(Ok(_))) => is_too_large = true,
            _ if is_too_large => return Err(CallError::TooLarge),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(error))) => return Err(CallError::Invalid(format!("cannot read the body: {error}"))),
            Err(_) => return Err(CallError::Invalid("the body did not arrive in time".to_owned())),
        }
    }
}
