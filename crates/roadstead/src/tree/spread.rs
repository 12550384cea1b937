//! Work on many names, on all threads of the runtime.

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::task::{JoinError, JoinSet};
use tokio_util::task::AbortOnDropHandle;

use super::{Tree, TreeError};
use crate::store::{Naming, StoreError};

/// How many manifests one task reads at most.
pub(super) const CHUNK: usize = 256;
/// How many such tasks there are at once; the runtime has as many threads for them as the machine has processors.
const CHUNKS_AT_ONCE: usize = 8;
/// How many questions each task asks at once, for stores that are far away.
pub(super) const QUESTIONS_AT_ONCE: usize = 16;

impl Tree {
    /// Does `work` on each item, on all threads of the runtime: questions to a directory are answered where they are asked, so
    /// one task alone would do them one by one. In a store that is far away each task asks several at once.
    pub(super) async fn spread<T, R, F>(
        &self,
        items: Vec<T>,
        work: impl Fn(T) -> F + Clone + Send + 'static,
    ) -> Result<Vec<R>, TreeError>
    where
        T: Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<R, TreeError>> + Send + 'static,
    {
        let at_once = self.questions_at_once();
        self.spread_chunks(chunks(items), move |items: Vec<T>| {
            let questions = stream::iter(items).map(work.clone());
            async move { questions.buffer_unordered(at_once).try_collect().await }
        })
        .await
    }

    /// A directory answers where it is asked, one question after the other.
    pub(super) fn questions_at_once(&self) -> usize {
        if self.0.store.naming() == Naming::Links { 1 } else { QUESTIONS_AT_ONCE }
    }

    /// Does `work` on chunks of items, as they come, on all threads of the runtime.
    pub(super) async fn spread_chunks<T, R, F>(
        &self,
        mut chunks: BoxStream<'_, Result<Vec<T>, TreeError>>,
        work: impl Fn(Vec<T>) -> F + Clone + Send + 'static,
    ) -> Result<Vec<R>, TreeError>
    where
        T: Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<Vec<R>, TreeError>> + Send + 'static,
    {
        let mut results = Vec::new();
        // Who stops waiting stops the tasks.
        let mut tasks = JoinSet::new();
        loop {
            while tasks.len() < CHUNKS_AT_ONCE
                && let Some(chunk) = chunks.try_next().await?
            {
                tasks.spawn(work(chunk));
            }
            match tasks.join_next().await {
                None => return Ok(results),
                Some(task) => results.extend(done(task)?),
            }
        }
    }

    /// The same, chunk by chunk, in the order in which they came.
    pub(super) fn spread_in_order<'a, T, R, F>(
        &self,
        chunks: BoxStream<'a, Result<T, TreeError>>,
        work: impl Fn(T) -> F + Send + 'a,
    ) -> BoxStream<'a, Result<R, TreeError>>
    where
        T: Send + 'a,
        R: Send + 'static,
        F: Future<Output = Result<R, TreeError>> + Send + 'static,
    {
        // Elsewhere each chunk asks several questions at once.
        let at_once = if self.0.store.naming() == Naming::Links { CHUNKS_AT_ONCE } else { 1 };
        let task = move |chunk| {
            let task = AbortOnDropHandle::new(tokio::spawn(work(chunk)));
            async { done(task.await) }
        };
        chunks.map_ok(task).try_buffered(at_once).boxed()
    }
}

/// What came of a task.
pub(super) fn done<T>(task: Result<Result<T, TreeError>, JoinError>) -> Result<T, TreeError> {
    match task {
        Ok(done) => done,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(e) => {
                let (operation, what) = ("running", "a task".to_owned());
                Err(StoreError::Io { operation, what, source: e.into() }.into())
            }
        },
    }
}

/// Items in chunks for all threads, also if they are few.
pub(super) fn chunks<T: Send + 'static>(items: Vec<T>) -> BoxStream<'static, Result<Vec<T>, TreeError>> {
    let most = items.len().div_ceil(CHUNKS_AT_ONCE).clamp(QUESTIONS_AT_ONCE, CHUNK);
    stream::iter(items).chunks(most).map(Ok).boxed()
}
