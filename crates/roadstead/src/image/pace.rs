//! Copying no faster than was asked for.

use std::fmt;
use std::num::NonZero;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use super::source::ByteStream;
use crate::oci::excerpt;

/// What passes at once at most, so that a slow copy is an even one and no connection waits long for its next bytes.
const PIECE: usize = 16 << 10;

/// How far back time counts in which nothing passed: timers are late by a millisecond, and bytes come in bursts.
const CREDIT: Duration = Duration::from_millis(50);

/// How many bytes a second are copied at most, all blobs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bandwidth(NonZero<u64>);

impl Bandwidth {
    /// So many bytes a second.
    #[must_use]
    pub const fn new(bytes: NonZero<u64>) -> Self {
        Self(bytes)
    }

    /// How many bytes a second that is.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0.get()
    }

    /// How long so many bytes take.
    #[must_use]
    pub fn time(self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.0.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// What isn't a number of bytes a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BandwidthError(String);

impl fmt::Display for BandwidthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no number of bytes a second; examples: 500kB/s, 10M, 1MiB/s", self.0)
    }
}

impl std::error::Error for BandwidthError {}

impl FromStr for Bandwidth {
    type Err = BandwidthError;

    /// A whole number and a unit: `k`, `M`, `G` and `kB`, `MB`, `GB` are powers of 1000, `KiB`, `MiB`, `GiB` of 1024; `/s` may
    /// follow.
    fn from_str(text: &str) -> Result<Self, BandwidthError> {
        let parse = || {
            let amount = text.strip_suffix("/s").unwrap_or(text);
            let digits = amount.bytes().take_while(u8::is_ascii_digit).count();
            let unit: u64 = match amount[digits..].trim_start().to_ascii_lowercase().as_str() {
                "" | "b" => 1,
                "k" | "kb" => 1000,
                "m" | "mb" => 1_000_000,
                "g" | "gb" => 1_000_000_000,
                "kib" => 1 << 10,
                "mib" => 1 << 20,
                "gib" => 1 << 30,
                _ => return None,
            };
            NonZero::new(amount[..digits].parse::<u64>().ok()?.checked_mul(unit)?).map(Self)
        };
        parse().ok_or_else(|| BandwidthError(excerpt(text)))
    }
}

/// Lets bytes pass at a rate. Streams that share one share the rate, whoever of them has something.
#[derive(Debug)]
pub(crate) struct Pace {
    bandwidth: Bandwidth,
    /// When the next bytes may pass.
    free: Mutex<Instant>,
}

impl Pace {
    pub(crate) fn new(bandwidth: Bandwidth) -> Self {
        Self { bandwidth, free: Mutex::new(Instant::now()) }
    }

    /// The same bytes, each piece when its turn has come.
    pub(crate) fn slow(self: &Arc<Self>, bytes: ByteStream) -> ByteStream {
        let pace = Arc::clone(self);
        bytes
            .map_ok(|bytes| stream::iter(pieces(bytes).map(Ok)))
            .try_flatten()
            .and_then(move |piece| {
                let turn = pace.turn(piece.len());
                async move {
                    tokio::time::sleep_until(turn).await;
                    Ok(piece)
                }
            })
            .boxed()
    }

    /// When so many bytes may pass; whatever comes later waits for them.
    fn turn(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let turn = (*free).max(now.checked_sub(CREDIT).unwrap_or(now));
        *free = turn + self.bandwidth.time(bytes as u64);
        turn
    }
}

/// Cuts bytes.
fn pieces(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = bytes.split_to(bytes.len().min(PIECE));
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_typed() {
        let parsed = |text: &str| text.parse::<Bandwidth>().map(|bandwidth| bandwidth.0.get());
        for (text, bytes) in [
            ("1", 1),
            ("500k", 500_000),
            ("500 kB/s", 500_000),
            ("10M", 10_000_000),
            ("10MB/s", 10_000_000),
            ("2G", 2_000_000_000),
            ("1KiB", 1024),
            ("1MiB/s", 1 << 20),
        ] {
            assert_eq!(parsed(text), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "0M", "M", "-1M", "1.5M", "1T", "10Mbit/s", "18446744073709551615k", "1/s/s", "٣M"] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    /// The clock is tokio's own, which goes on by itself when everybody waits.
    #[tokio::test(start_paused = true)]
    async fn blobs_share_the_rate_and_keep_their_bytes() {
        let pace = Arc::new(Pace::new("100k".parse().unwrap()));
        let blob = |byte: u8, length: usize| -> (Bytes, ByteStream) {
            let bytes = Bytes::from(vec![byte; length]);
            (bytes.clone(), pace.slow(stream::iter([Ok(bytes)]).boxed()))
        };
        let begin = Instant::now();
        let ((first, one), (second, other)) = (blob(1, 700_000), blob(2, 300_000));
        let (one, other): (Vec<Bytes>, Vec<Bytes>) =
            tokio::try_join!(one.try_collect(), other.try_collect()).expect("bytes");
        assert_eq!((one.concat(), other.concat()), (first.to_vec(), second.to_vec()));
        let took = begin.elapsed();
        let (least, most) = (Duration::from_millis(9_800), Duration::from_millis(10_000));
        assert!(least <= took && took <= most, "a megabyte at 100 kB/s took {took:?}");
    }
}
