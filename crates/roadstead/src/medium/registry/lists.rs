//! Lists of tags and repositories, page by page.
//!
//! Source: distribution specification, "Listing Tags"; the catalogue is an extension that most registries have.

use std::collections::VecDeque;
use std::str::FromStr;

use ::http::{Method, StatusCode};
use futures::stream::{self, BoxStream, StreamExt};

use super::{Places, fault};
use crate::http::{Endpoint, Request, Scope};
use crate::image::SourceError;
use crate::oci::{Repository, Tag};

/// How many entries a page is asked to have: the most that common registries give.
const PAGE: u32 = 1000;

/// The largest page. A thousand tags of 128 characters are a tenth of it, but some registries ignore the limit.
const MAX_PAGE_SIZE: u64 = 64 << 20;

/// The most pages of one list.
const MAX_PAGES: u32 = 100_000;

/// The fields of either list that are read.
#[derive(Default, serde::Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    repositories: Option<Vec<String>>,
}

/// A list on its way.
struct List<T> {
    endpoint: Endpoint,
    what: String,
    scope: Scope,
    entries: fn(Page) -> Option<Vec<String>>,
    next: Option<String>,
    pages: u32,
    ready: VecDeque<T>,
}

impl<T: FromStr> List<T> {
    async fn read_page(&mut self, path: String) -> Result<(), SourceError> {
        self.pages += 1;
        if self.pages > MAX_PAGES {
            return Err(self.invalid(format!("the list does not end after {MAX_PAGES} pages")));
        }
        let failed = |error| fault::of(self.endpoint.registry(), &self.what, error);
        let request = Request::new(Method::GET, path.clone(), self.scope.clone());
        let response = self.endpoint.expect_success(&request).await.map_err(failed)?;
        let html = response.is_html();
        let next = self.endpoint.next_page(&response);
        let body = response.bytes(MAX_PAGE_SIZE).await.map_err(failed)?;
        let Ok(page) = serde_json::from_slice::<Page>(&body) else {
            let problem = if html { "an HTML page came instead of a list" } else { "the answer is no list" };
            return Err(self.invalid(problem.to_owned()));
        };
        self.next = next.map_err(|problem| self.invalid(problem))?;
        if self.next.as_deref() == Some(&path) {
            return Err(self.invalid("the list's next page is the same page again".to_owned()));
        }
        for entry in (self.entries)(page).unwrap_or_default() {
            let entry = entry.parse().map_err(|_| {
                self.invalid(format!("the list holds {:?}, which is no name", crate::oci::excerpt(&entry)))
            })?;
            self.ready.push_back(entry);
        }
        Ok(())
    }

    fn invalid(&self, problem: String) -> SourceError {
        SourceError::Invalid { what: self.what.clone(), problem }
    }

    async fn next(mut self) -> Result<Option<(T, Self)>, SourceError> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some((entry, self)));
            }
            let Some(path) = self.next.take() else {
                return Ok(None);
            };
            self.read_page(path).await?;
        }
    }
}

fn tag_list(endpoint: &Endpoint, name: &Repository, what: String) -> List<Tag> {
    List {
        endpoint: endpoint.clone(),
        what,
        scope: Scope::Pull(name.clone()),
        entries: |page| page.tags,
        next: None,
        pages: 0,
        ready: VecDeque::new(),
    }
}

/// The tags of a repository. The place that gives the first page gives all of them.
pub(super) fn tags<'a>(places: &'a Places, name: &'a Repository) -> BoxStream<'a, Result<Tag, SourceError>> {
    let first = async move {
        let list = places.ask(|place| async move {
            let what = format!("the tags of {}{name}", places.shown);
            let mut list = tag_list(place, name, what);
            list.read_page(format!("/v2/{name}/tags/list?n={PAGE}")).await?;
            Ok(list)
        });
        match list.await {
            Ok(list) => stream::try_unfold(list, List::next).boxed(),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    };
    stream::once(first).flatten().boxed()
}

/// The repositories of a registry.
pub(super) async fn repositories(
    places: &Places,
) -> Result<BoxStream<'static, Result<Repository, SourceError>>, SourceError> {
    let (endpoint, shown) = (&places.upstream, places.shown.trim_end_matches('/'));
    let mut list = List::<Repository> {
        endpoint: endpoint.clone(),
        what: format!("the repositories of {shown}"),
        scope: Scope::Catalog,
        entries: |page| page.repositories,
        next: None,
        pages: 0,
        ready: VecDeque::new(),
    };
    match list.read_page(format!("/v2/_catalog?n={PAGE}")).await {
        Ok(()) => Ok(stream::try_unfold(list, List::next).boxed()),
        Err(SourceError::NotFound { .. }) => {
            Err(SourceError::Unsupported(format!("{shown} does not list its repositories")))
        }
        Err(SourceError::Failed { source, .. })
            if source
                .downcast_ref::<crate::http::HttpError>()
                .and_then(crate::http::HttpError::status)
                .is_some_and(|status| {
                    matches!(status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
                }) =>
        {
            Err(SourceError::Unsupported(format!("{shown} does not list its repositories")))
        }
        Err(error) => Err(error),
    }
}
