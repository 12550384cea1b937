//! Request bodies that are made while they are sent.

use std::convert::Infallible;
use std::pin::pin;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::client::Shared;
use super::error::HttpError;
use super::response::{Exchange, Response};

/// Sends a request once with a body of these pieces.
///
/// The pieces go through a channel and not into the connection itself, so that an error among them comes out as what it is,
/// and so that it shows when nobody takes them.
///
/// # Errors
///
/// The first error of `pieces`; the connection is then broken off before the length that the headers promise.
pub(super) async fn send<E>(
    exchange: &Exchange<'_>,
    shared: &Shared,
    pieces: impl Stream<Item = Result<Bytes, E>> + Send,
) -> Result<Result<Response, HttpError>, E> {
    let timeouts = shared.options.timeouts;
    let stalled =
        |limit: std::time::Duration| HttpError::Stalled { url: (&exchange.url).into(), seconds: limit.as_secs() };
    let (sender, mut receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let body = StreamBody::new(stream::poll_fn(move |context| receiver.poll_recv(context)));
    let mut answer = pin!(exchange.send_body(shared, reqwest::Body::wrap(body)));
    let mut pieces = pin!(pieces);
    let mut sending = pin!(async {
        while let Some(piece) = pieces.next().await {
            match tokio::time::timeout(timeouts.stall, sender.send(Ok(Frame::data(piece?)))).await {
                Ok(Ok(())) => {}
                // The connection is gone, and the answer says why.
                Ok(Err(_)) => return Ok(Ok(false)),
                Err(_) => return Ok(Err(stalled(timeouts.stall))),
            }
        }
        drop(sender);
        Ok(Ok(true))
    });
    let (sent, early) = tokio::select! {
        sent = &mut sending => (sent, None),
        early = &mut answer => match early {
            // Some say that they have begun. What that is worth shows when they have everything.
            Ok(response) if response.status().is_success() => (sending.await, Some(response)),
            refused => return Ok(refused),
        },
    };
    let whole = match sent? {
        Ok(whole) => whole,
        Err(stalled) => return Ok(Err(stalled)),
    };
    let answer = match early {
        Some(response) => Ok(response),
        None => match tokio::time::timeout(timeouts.answer, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(stalled(timeouts.answer)),
        },
    };
    Ok(match answer {
        Ok(response) if !whole && response.status().is_success() => {
            Err(response.invalid("it says that all is well before it had everything"))
        }
        answer => answer,
    })
}
