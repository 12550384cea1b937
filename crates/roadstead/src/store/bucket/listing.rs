//! Lists: of what comes next below a key, or of everything.

use ::http::Method;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::super::{Md5, Named};
use super::client::Call;
use super::{BucketError, BucketStore, Key, Listed, StoreError, xml};

/// What is directly below a key.
pub(super) fn list<'a>(store: &'a BucketStore, prefix: &Key) -> BoxStream<'a, Result<Listed, StoreError>> {
    let inside = format!("{}/", store.0.at.object(prefix));
    let of = prefix.clone();
    let pages = pages(store, prefix, true).map_ok(move |page| {
        let listed: Vec<_> = page.names().filter_map(|name| listed(&of, &inside, &name)).map(Ok).collect();
        stream::iter(listed)
    });
    pages.try_flatten().boxed()
}

/// Everything below a key. Amazon's buckets and their likes list names in the order of their bytes; what lists them otherwise
/// can't be compared with another list as both go on.
pub(super) fn walk<'a>(store: &'a BucketStore, prefix: &Key) -> BoxStream<'a, Result<Named, StoreError>> {
    let root = store.0.at.prefix().map(|root| format!("{root}/")).unwrap_or_default();
    let (of, index) = (prefix.clone(), prefix.index());
    let mut before = String::new();
    let pages = pages(store, prefix, false).map_ok(move |mut page| {
        let mut found = Vec::new();
        for object in page.objects() {
            if object.name <= before {
                let problem = format!("the list has {} behind {before}, and is in no order", object.name);
                found.push(Err(store.failed("listing", of.as_str(), BucketError::Answer(problem))));
                break;
            }
            let key = object.name.strip_prefix(&root).filter(|key| *key != index.as_str());
            // Those that can't be keys were not put there by a store.
            if let Some(Ok(key)) = key.map(str::parse::<Key>) {
                let (size, md5) = (object.size, Md5::of_tag(&object.etag));
                found.push(Ok(Named { key, size, target: None, md5 }));
            }
            before = object.name;
        }
        stream::iter(found)
    });
    pages.try_flatten().boxed()
}

/// The pages of a list: of the next component of each name, or of whole names.
fn pages<'a>(store: &'a BucketStore, prefix: &Key, folded: bool) -> BoxStream<'a, Result<xml::Page, StoreError>> {
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
            let mut call = Call::new(Method::GET, None, "s3:ListBucket")
                .parameter("list-type", "2")
                .parameter("prefix", &inside)
                .parameter("encoding-type", "url");
            if folded {
                call = call.parameter("delimiter", "/");
            }
            if let Some(token) = &token {
                call = call.parameter("continuation-token", token);
            }
            let failed = |error| store.failed("listing", prefix.as_str(), error);
            let (answer, _) = store.0.calls.ask(&call).await.map_err(|e| failed(e.error))?;
            let page: xml::Page = xml::read(&answer).map_err(|e| failed(BucketError::Answer(e)))?;
            let next = match page.next() {
                Some(next) if Some(next) == token.as_deref() => {
                    return Err(failed(BucketError::Answer("a list goes on where it began".to_owned())));
                }
                Some(next) => Next::Page(Some(next.to_owned())),
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
