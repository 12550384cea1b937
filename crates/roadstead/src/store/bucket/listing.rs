//! Lists: of what comes next below a key, or of everything.

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;

use super::super::{self as store, Md5};
use super::{BucketError, BucketStore, Key, Listed, StoreError};

/// How many pages wait to be looked at: some megabytes.
const PAGES_AHEAD: usize = 4;

/// A page of a list, whatever it was written in.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<Named>,
    /// What the names of others begin with, each with its slash.
    pub(super) prefixes: Vec<String>,
    /// Where the next page begins, if this isn't the last.
    pub(super) next: Option<String>,
}

/// An object in a list.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) md5: Option<Md5>,
}

/// What is directly below a key.
pub(super) fn list<'a>(store: &'a BucketStore, prefix: &Key) -> BoxStream<'a, Result<Listed, StoreError>> {
    let inside = format!("{}/", store.0.at.object(prefix));
    let of = prefix.clone();
    let pages = pages(store, prefix, true).map_ok(move |page| {
        let names = page.objects.iter().map(|object| &object.name).chain(&page.prefixes);
        let listed: Vec<_> = names.filter_map(|name| listed(&of, &inside, name)).map(Ok).collect();
        stream::iter(listed)
    });
    pages.try_flatten().boxed()
}

/// Everything below a key. Buckets list names in the order of their bytes; what lists them otherwise
/// can't be compared with another list as both go on.
pub(super) fn walk<'a>(store: &'a BucketStore, prefix: &Key) -> BoxStream<'a, Result<store::Named, StoreError>> {
    let root = store.0.at.prefix().map(|root| format!("{root}/")).unwrap_or_default();
    let (of, index) = (prefix.clone(), prefix.index());
    let mut before = String::new();
    let pages = pages_ahead(store.clone(), prefix.clone()).map_ok(move |page| {
        let mut found = Vec::new();
        for object in page.objects {
            if object.name <= before {
                let problem = format!("the list has {} behind {before}, and is in no order", object.name);
                found.push(Err(store.failed("listing", of.as_str(), BucketError::Answer(problem))));
                break;
            }
            let key = object.name.strip_prefix(&root).filter(|key| *key != index.as_str());
            // Those that can't be keys were not put there by a store.
            if let Some(Ok(key)) = key.map(str::parse::<Key>) {
                found.push(Ok(store::Named { key, size: object.size, target: None, md5: object.md5 }));
            }
            before = object.name;
        }
        stream::iter(found)
    });
    pages.try_flatten().boxed()
}

/// The pages of a list of whole names, asked for while those in front of them are looked at: a page far away takes its time, and
/// so does whatever names are compared with.
fn pages_ahead(store: BucketStore, prefix: Key) -> impl Stream<Item = Result<Page, StoreError>> + Send {
    let begin = async move {
        let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
        // Ends when nobody reads any more.
        tokio::spawn(async move {
            let mut pages = pages(&store, &prefix, false);
            while let Some(page) = pages.next().await {
                if sender.send(page).await.is_err() {
                    break;
                }
            }
        });
        stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
    };
    stream::once(begin).flatten()
}

/// The pages of a list: of the next component of each name, or of whole names.
fn pages<'a>(store: &'a BucketStore, prefix: &Key, folded: bool) -> BoxStream<'a, Result<Page, StoreError>> {
    enum Next {
        Page(Option<String>),
        End,
    }
    let inside = format!("{}/", store.0.at.object(prefix));
    let prefix = prefix.clone();
    stream::try_unfold(Next::Page(None), move |next| {
        let (inside, prefix) = (inside.clone(), prefix.clone());
        async move {
            let Next::Page(token) = next else { return Ok(None) };
            let service = &store.0.calls.service;
            let call = service.list(&inside, token.as_deref(), folded);
            let failed = |error| store.failed("listing", prefix.as_str(), error);
            let (answer, _) = store.0.calls.ask(&call).await.map_err(|e| failed(e.error))?;
            let mut page = service.page(&answer).map_err(|e| failed(BucketError::Answer(e)))?;
            let next = match page.next.take().filter(|next| !next.is_empty()) {
                next @ Some(_) if next == token => {
                    return Err(failed(BucketError::Answer("a list goes on where it began".to_owned())));
                }
                next @ Some(_) => Next::Page(next),
                None => Next::End,
            };
            Ok::<_, StoreError>(Some((page, next)))
        }
    })
    .boxed()
}

/// A name of a list. Those that can't be keys were not put there by a store.
fn listed(prefix: &Key, inside: &str, name: &str) -> Option<Listed> {
    let rest = name.strip_prefix(inside)?;
    match rest.strip_suffix('/') {
        Some(below) => prefix.child(below).ok().map(Listed::Prefix),
        None if rest.is_empty() || rest.contains('/') => None,
        None => prefix.child(rest).ok().map(Listed::Object),
    }
}
