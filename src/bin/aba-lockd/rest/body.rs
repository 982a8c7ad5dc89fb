//! The body of a request.

use crate::model::Problem;
use axum::body;
use axum::extract::{FromRequest, Request};
use std::time::Duration;
use tokio::time::{self, Instant};
use tokio_stream::StreamExt;

/// Maximum number of bytes.
const LARGEST: usize = 64 * 1024;

/// How long a client may take to send it.
const SLOWEST: Duration = Duration::from_secs(30);

/// The body, or why there is none.
pub(super) struct Body(pub(super) Result<Vec<u8>, Problem>);

impl<S: Sync> FromRequest<S> for Body {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(read(request.into_body()).await))
    }
}

async fn read(body: body::Body) -> Result<Vec<u8>, Problem> {
    let deadline = Instant::now() + SLOWEST;
    let (mut chunks, mut bytes, mut is_too_large) = (body.into_data_stream(), Vec::new(), false);
    loop {
        match time::timeout_at(deadline, chunks.next()).await {
            Ok(Some(Ok(chunk))) if !is_too_large && bytes.len() + chunk.len() <= LARGEST => {
                bytes.extend_from_slice(&chunk);
            }
            // The rest is read, too: a connection that is closed with bytes unread is reset, and the client then sees no answer.
            Ok(Some(Ok(_))) => is_too_large = true,
            _ if is_too_large => return Err(Problem::TooLarge),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(error))) => return Err(Problem::Invalid(format!("the body could not be read: {error}"))),
            Err(_) => return Err(Problem::Invalid("the body did not arrive in time".to_owned())),
        }
    }
}
