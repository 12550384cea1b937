//! What refers to a manifest: the API, and the tag where a registry has none.
//!
//! Source: distribution specification, "Listing Referrers" and "Referrers Tag Schema".

use ::http::header::ACCEPT;
use ::http::{HeaderValue, Method, StatusCode};

use super::fault;
use super::repository::fetch_manifest;
use crate::http::{Endpoint, Request, Response, Scope};
use crate::image::SourceError;
use crate::oci::{
    Algorithm, Descriptor, Digest, Kind, MAX_DESCRIPTORS, MAX_MANIFEST_SIZE, Manifest, MediaType, Reference,
    Repository, Tag,
};

/// What refers to `subject`, empty if nothing does.
pub(super) async fn of(place: &Endpoint, name: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
    match by_api(place, name, subject).await? {
        Some(found) => Ok(found),
        None => by_tag(place, name, subject).await,
    }
}

fn what(place: &Endpoint, name: &Repository, subject: &Digest) -> String {
    format!("the referrers of {}/{name}@{subject}", place.registry())
}

/// What the API says; `None` if there is none. Registries that don't know the path answer it in all the ways in which
/// they answer paths that they don't know.
async fn by_api(place: &Endpoint, name: &Repository, subject: &Digest) -> Result<Option<Vec<Descriptor>>, SourceError> {
    let failed = |error| fault::of(place.registry(), what(place, name, subject), error);
    let invalid = |problem: String| SourceError::Invalid { what: what(place, name, subject), problem };
    let mut found = Vec::new();
    let mut left = MAX_SIZE;
    let mut next = Some(format!("/v2/{name}/referrers/{subject}"));
    while let Some(path) = next.take() {
        let accept = HeaderValue::from_static(OCI_INDEX);
        let request = Request::new(Method::GET, path.clone(), Scope::Pull(name.clone())).header(ACCEPT, accept);
        let response = place.send(&request).await.map_err(failed)?;
        match response.status() {
            StatusCode::OK if is_index(&response) => {}
            StatusCode::OK
            | StatusCode::NOT_FOUND
            | StatusCode::BAD_REQUEST
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED
                if found.is_empty() =>
            {
                return Ok(None);
            }
            StatusCode::OK => return Err(invalid("a later page is no index".to_owned())),
            _ => return Err(failed(response.into_error().await)),
        }
        next = place.next_page(&response).map_err(invalid)?;
        if next.as_ref() == Some(&path) {
            return Err(invalid("the list's next page is the same page again".to_owned()));
        }
        let body = response.bytes(left.min(MAX_MANIFEST_SIZE)).await.map_err(failed)?;
        left -= body.len() as u64;
        let unusable = |source| SourceError::Manifest { what: what(place, name, subject), source: Box::new(source) };
        let index = Manifest::parse(body, Algorithm::Sha256).map_err(unusable)?;
        if index.kind() != Kind::Index {
            return Err(invalid("the answer is no index".to_owned()));
        }
        found.extend_from_slice(index.manifests());
        if found.len() > MAX_DESCRIPTORS {
            return Err(invalid(format!("there are more than {MAX_DESCRIPTORS}")));
        }
        // An empty page that names a next one would let the list go on for ever.
        if index.manifests().is_empty() {
            break;
        }
    }
    Ok(Some(found))
}

/// The most bytes that the pages of a list have together.
const MAX_SIZE: u64 = 4 * MAX_MANIFEST_SIZE;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A server that answers every path with a page says 200, too; the type is what tells.
fn is_index(response: &Response) -> bool {
    response.content_type().as_deref() == Some(MediaType::OCI_INDEX.as_str())
}

async fn by_tag(place: &Endpoint, name: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
    let reference = Reference::Tag(Tag::referrers_fallback(subject));
    match fetch_manifest(place, name, &Scope::Pull(name.clone()), &reference, || what(place, name, subject)).await {
        Ok(index) if index.kind() == Kind::Index => Ok(index.manifests().to_vec()),
        Ok(_) => Err(SourceError::Invalid {
            what: what(place, name, subject),
            problem: format!("the tag {reference} names no index"),
        }),
        Err(SourceError::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
