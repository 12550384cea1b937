//! Manifests that come, and what is deleted.

use std::collections::BTreeSet;

use bytes::BytesMut;
use futures::TryStreamExt as _;
use http::StatusCode;
use http::header::LOCATION;

use super::answer::{self, Problem, headers, success};
use super::{Content, Inner, MAX_TAGS, OCI_SUBJECT, OCI_TAG, Request, Target};
use crate::oci::{Algorithm, ErrorCode, MAX_MANIFEST_SIZE, Manifest, Reference, Repository, Tag};
use crate::server::auth::Session;
use crate::server::lists::values;
use crate::server::pull::Response;
use crate::site::DOCKER_CONTENT_DIGEST;
use crate::store::StoreError;
use crate::tree::{Lack, TreeError};

impl Inner {
    pub(super) async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        session: Option<&Session>,
        request: &Request,
        content: &mut Content,
    ) -> Result<Response, Problem> {
        let query = request.query.as_deref();
        let mut tags = Vec::new();
        for tag in values(query, "tag") {
            let tag = tag.and_then(|tag| tag.parse::<Tag>().ok());
            tags.push(tag.ok_or_else(|| Problem::new(ErrorCode::ManifestInvalid, "a tag in the query is none"))?);
        }
        if tags.len() > MAX_TAGS {
            return Err(Problem::new(ErrorCode::ManifestInvalid, format!("more than {MAX_TAGS} tags")).too_many_tags());
        }
        let asked = tags.clone();
        let algorithm = match reference {
            Reference::Tag(tag) => {
                tags.push(tag.clone());
                Algorithm::Sha256
            }
            Reference::Digest(digest) => digest.algorithm(),
        };
        if let Some(tag) = tags.iter().find(|tag| tag.is_referrers_fallback()) {
            let what = format!("{tag} is a list of referrers, which is made from the manifests with that subject");
            return Err(Problem::new(ErrorCode::Unsupported, what));
        }
        if request.content_length.is_some_and(|length| length > MAX_MANIFEST_SIZE) {
            return Err(Problem::too_large(MAX_MANIFEST_SIZE));
        }
        let mut bytes = BytesMut::new();
        while let Some(piece) = content.try_next().await.map_err(Problem::cut)? {
            if (bytes.len() + piece.len()) as u64 > MAX_MANIFEST_SIZE {
                return Err(Problem::too_large(MAX_MANIFEST_SIZE));
            }
            bytes.extend_from_slice(&piece);
        }
        let invalid = |what: String| Problem::new(ErrorCode::ManifestInvalid, what);
        let manifest = Manifest::parse(bytes.freeze(), algorithm).map_err(|error| invalid(answer::chain(&error)))?;
        if let Some(given) = &request.content_type {
            let given = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if !given.is_empty() && given != manifest.media_type().as_str() {
                let what = format!("Content-Type is {given:?}, and the manifest is {}", manifest.media_type());
                return Err(invalid(what));
            }
        }
        let digest = *manifest.digest();
        if let Reference::Digest(expected) = reference
            && digest != *expected
        {
            return Err(Problem::new(
                ErrorCode::DigestInvalid,
                format!("the manifest is {digest}, expected {expected}"),
            ));
        }
        loop {
            // From here to where they are written nobody else in this process may name anything by these tags.
            let (mut tags, mut fixed) = (tags.clone(), BTreeSet::new());
            let _held = match session {
                Some(session) if !tags.is_empty() => {
                    let held = session.hold_tags(repository, &tags).await;
                    fixed = self.judge_tags(session, repository, &mut tags, &digest).await?;
                    Some(held)
                }
                _ => None,
            };
            match self.tree.push_manifest(repository, &manifest, &tags, &fixed).await? {
                None => break,
                // By another server: what it names now is judged anew.
                Some(Lack::Free(_)) => {}
                Some(Lack::Size(blob)) => {
                    let what = format!("blob {blob} has another size than the manifest says");
                    return Err(Problem::new(ErrorCode::SizeInvalid, what));
                }
                Some(Lack::Blob(lacking) | Lack::Manifest(lacking)) => {
                    let what = format!("{} has no {lacking}", self.shown(repository));
                    return Err(Problem::new(ErrorCode::ManifestBlobUnknown, what));
                }
            }
        }
        let location = format!("/v2/{}/manifests/{reference}", self.shown(repository));
        let mut created = headers([(LOCATION, location), (DOCKER_CONTENT_DIGEST, digest.to_string())]);
        if let Some(subject) = manifest.subject() {
            created.extend(headers([(OCI_SUBJECT, subject.digest.to_string())]));
        }
        created.extend(asked.iter().flat_map(|tag| headers([(OCI_TAG, tag.to_string())])));
        Ok(success(StatusCode::CREATED, created))
    }

    pub(super) async fn delete(&self, target: &Target, session: Option<&Session>) -> Result<Response, Problem> {
        if !self.options.delete {
            return Err(Problem::not_allowed("deleting is switched off"));
        }
        let _held = match session {
            Some(session) => self.hold_to_delete(session, target).await?,
            None => None,
        };
        let (done, unknown) = match target {
            Target::Manifest(repository, Reference::Tag(tag)) => {
                (self.tree.delete_tag(repository, tag).await, ErrorCode::ManifestUnknown)
            }
            Target::Manifest(repository, Reference::Digest(digest)) => {
                (self.tree.delete_manifest(repository, digest).await, ErrorCode::ManifestUnknown)
            }
            Target::Blob(repository, digest) => {
                (self.tree.delete_blob(repository, digest).await, ErrorCode::BlobUnknown)
            }
            Target::Uploads(_) | Target::Upload(..) => return Err(Problem::not_allowed("no such request")),
        };
        match done {
            Ok(()) => Ok(success(StatusCode::ACCEPTED, Vec::new())),
            Err(error @ TreeError::Unknown(_)) => Err(Problem::new(unknown, error.to_string()).missing()),
            Err(error @ TreeError::Needed { .. }) => Err(Problem::not_allowed(error.to_string())),
            Err(TreeError::Store(error @ StoreError::Unfenced { .. })) => Err(Problem::not_allowed(
                "nothing can be deleted here: the bucket's service can't keep what is removed from what is just being \
                 pushed, unless the operator says that nobody else writes there (--exclusive)",
            )
            .because(error)),
            Err(error) => Err(error.into()),
        }
    }
}
