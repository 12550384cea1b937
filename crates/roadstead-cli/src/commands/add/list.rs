//! Images on standard input, one a line.

use anyhow::{Context as _, bail};
use futures::stream::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncBufReadExt as _;

use crate::transport::Place;

/// The longest line of a list of images on standard input.
const MAX_LINE: usize = 4096;

/// Images from standard input; empty lines and those that begin with # don't count.
pub(super) async fn read(places: &mut Vec<Place>) -> anyhow::Result<()> {
    let mut lines = lines();
    while let Some(line) = lines.try_next().await? {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            places.push(line.parse().with_context(|| format!("{line:?} on standard input names no image"))?);
        }
    }
    Ok(())
}

/// The lines of standard input, each bounded.
fn lines() -> futures::stream::BoxStream<'static, anyhow::Result<String>> {
    let stdin = tokio::io::BufReader::new(tokio::io::stdin());
    futures::stream::try_unfold(stdin, |mut stdin| async move {
        let mut line = Vec::new();
        loop {
            let buffer = stdin.fill_buf().await.context("standard input can't be read")?;
            if buffer.is_empty() {
                break;
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(buffer.len(), |end| end + 1);
            line.extend_from_slice(&buffer[..taken]);
            stdin.consume(taken);
            if line.len() > MAX_LINE {
                bail!("standard input has a line of more than {MAX_LINE} bytes, which names no image");
            }
            if end.is_some() {
                break;
            }
        }
        let text = String::from_utf8(line).context("standard input is not text")?;
        Ok((!text.is_empty()).then_some((text, stdin)))
    })
    .boxed()
}
