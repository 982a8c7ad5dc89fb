//! The body of a request.

use crate::model::Problem;
use axum::body;
use axum::extract::{FromRequest, Request};
use std::time::Duration;
use tokio::time;
use tokio_stream::StreamExt;

/// Maximum number of bytes.
const LARGEST: usize = 64 * 1024;

/// A body that is larger is read on to here. If the connection were closed with bytes unread, then the client would get a
/// reset in the place of the answer.
const READ_ON: usize = 8 * 1024 * 1024;

/// How long a client may take to send it.
const SLOWEST: Duration = Duration::from_secs(30);

/// The body, or why there is none.
pub(super) struct Body(pub(super) Result<Vec<u8>, Problem>);

impl<S: Sync> FromRequest<S> for Body {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        let late = || Err(Problem::Invalid("the body did not arrive in time".to_owned()));
        Ok(Self(time::timeout(SLOWEST, read(request.into_body())).await.unwrap_or_else(|_| late())))
    }
}

async fn read(body: body::Body) -> Result<Vec<u8>, Problem> {
    let (mut chunks, mut bytes, mut length) = (body.into_data_stream(), Vec::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Problem::Invalid(format!("the body could not be read: {error}")))?;
        length += chunk.len();
        match length {
            0..=LARGEST => bytes.extend_from_slice(&chunk),
            _ if length > READ_ON => break,
            _ => (),
        }
    }
    if length > LARGEST { Err(Problem::TooLarge) } else { Ok(bytes) }
}
