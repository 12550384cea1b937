//! What services differ in beside their words: who asks is proven in other ways, headers have other names, and lists are asked
//! for and told in other documents. Everything else of a store in a bucket is the same for all of them.

use std::sync::Arc;
use std::time::SystemTime;

use ::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH};
use ::http::{HeaderName, HeaderValue, Method};

use super::super::Md5;
use super::bounded::Bounds;
use super::client::Call;
use super::listing::Page;
use super::{
    AzureCredentialSource, AzureKey, BucketError, Cloud, CredentialSource, GoogleCredentialSource, azure, google, sign,
    xml,
};
use crate::http::Exchange;

/// Whose API is spoken, and who asks; nobody in particular without credentials.
#[derive(Debug)]
pub(super) enum Service {
    S3 { region: String, credentials: Option<Arc<dyn CredentialSource>>, requester_pays: bool },
    Azure { account: String, container: String, credentials: Option<Arc<dyn AzureCredentialSource>>, bounds: Bounds },
    Google { bucket: String, credentials: Option<Arc<dyn GoogleCredentialSource>>, storage_class: Option<String> },
}

/// The names of an object's headers.
pub(super) struct Names {
    /// When it is written.
    pub(super) content_type: HeaderName,
    pub(super) cache_control: HeaderName,
    /// This one also when it is read: a bucket hands out no others than those it knows and these.
    pub(super) digest: HeaderName,
    /// What its version is called by.
    pub(super) version: HeaderName,
    /// And how one is meant that is read.
    pub(super) unchanged: HeaderName,
}

impl Service {
    pub(super) fn cloud(&self) -> Cloud {
        match self {
            Self::S3 { .. } => Cloud::S3,
            Self::Azure { .. } => Cloud::Azure,
            Self::Google { .. } => Cloud::Google,
        }
    }

    pub(super) fn names(&self) -> Names {
        match self {
            Self::S3 { .. } => Names {
                content_type: CONTENT_TYPE,
                cache_control: CACHE_CONTROL,
                digest: HeaderName::from_static("x-amz-meta-docker-content-digest"),
                version: ETAG,
                unchanged: IF_MATCH,
            },
            Self::Azure { .. } => Names {
                content_type: HeaderName::from_static("x-ms-blob-content-type"),
                cache_control: HeaderName::from_static("x-ms-blob-cache-control"),
                digest: azure::DIGEST,
                version: ETAG,
                unchanged: IF_MATCH,
            },
            Self::Google { .. } => Names {
                content_type: CONTENT_TYPE,
                cache_control: CACHE_CONTROL,
                digest: google::DIGEST,
                version: google::GENERATION,
                unchanged: google::IF_GENERATION,
            },
        }
    }

    /// Whether that is how the service says that what it was sent has come too late.
    pub(super) fn is_too_late(&self, code: &str) -> bool {
        match self {
            Self::S3 { .. } | Self::Google { .. } => code == "RequestTimeTooSkewed",
            // The emulator's word is the other one.
            Self::Azure { .. } => matches!(code, "AuthenticationFailed" | "AuthorizationFailure"),
        }
    }

    /// A version that no object has.
    pub(super) fn no_version(&self) -> &'static str {
        match self {
            Self::S3 { .. } | Self::Azure { .. } => "\"00000000000000000000000000000000\"",
            Self::Google { .. } => "1",
        }
    }

    /// The storage class of what is written, where no header says it.
    pub(super) fn storage_class(&self) -> Option<&str> {
        match self {
            Self::Google { storage_class, .. } => storage_class.as_deref(),
            _ => None,
        }
    }

    /// What the service compares a body with.
    pub(super) fn checksum(&self, body: &[u8]) -> String {
        match self {
            Self::S3 { .. } => sign::sha256(body),
            Self::Azure { .. } => Md5::of(body).to_base64(),
            // It is in the body.
            Self::Google { .. } => String::new(),
        }
    }

    /// Makes a request one that the service carries out. `checksum` is that of its body; `bound` is what proves to Azure who asks,
    /// if that has to end.
    pub(super) async fn sign(
        &self,
        exchange: &mut Exchange<'_>,
        checksum: &str,
        now: SystemTime,
        bound: Option<AzureKey>,
    ) -> Result<(), BucketError> {
        let bad = |problem: String| BucketError::Credentials(problem.into());
        match self {
            Self::S3 { region, credentials, requester_pays } => {
                if *requester_pays {
                    let payer = HeaderName::from_static("x-amz-request-payer");
                    exchange.headers.insert(payer, HeaderValue::from_static("requester"));
                }
                let Some(source) = credentials else { return Ok(()) };
                let keys = source.keys().await.map_err(BucketError::Credentials)?;
                sign::sign(&exchange.method, &exchange.url, &mut exchange.headers, checksum, &keys, region, now)
                    .map_err(|_| bad("they have characters that no key has".to_owned()))
            }
            Self::Azure { account, credentials, .. } => {
                let length = exchange.body.as_ref().map_or(0, bytes::Bytes::len);
                if length == 0 && exchange.body.is_some() {
                    // Azure insists on being told.
                    exchange.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                } else if length > 0
                    && let Ok(checksum) = HeaderValue::try_from(checksum)
                {
                    exchange.headers.insert(azure::CONTENT_MD5, checksum);
                }
                let key = match (bound, credentials) {
                    (None, Some(source)) => Some(source.key().await.map_err(BucketError::Credentials)?),
                    (bound, _) => bound,
                };
                let (method, proof) = (exchange.method.clone(), (account.as_str(), key.as_ref()));
                azure::sign(&method, &mut exchange.url, &mut exchange.headers, length, proof, now)
                    .map_err(|error| bad(error.to_string()))
            }
            Self::Google { credentials, .. } => {
                // What anybody may read would come from a cache, as old as its time to live allows, whoever asks.
                if matches!(exchange.method, Method::GET | Method::HEAD) {
                    exchange.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                }
                let Some(source) = credentials else { return Ok(()) };
                let token = source.token().await.map_err(BucketError::Credentials)?;
                google::sign(&exchange.url, &mut exchange.headers, &token).map_err(bad)
            }
        }
    }

    /// The call for a page of a list of the names that begin like this: folded, of the next component of each.
    pub(super) fn list<'a>(&self, inside: &'a str, token: Option<&'a str>, folded: bool) -> Call<'a> {
        let call = Call::new(Method::GET, None, "s3:ListBucket");
        let (call, continuation) = match self {
            Self::S3 { .. } => {
                (call.parameter("list-type", "2").parameter("encoding-type", "url"), "continuation-token")
            }
            Self::Azure { .. } => (call.parameter("restype", "container").parameter("comp", "list"), "marker"),
            Self::Google { bucket, .. } => (google::list(bucket), "pageToken"),
        };
        let call = call.parameter("prefix", inside);
        let call = if folded { call.parameter("delimiter", "/") } else { call };
        match token {
            Some(token) => call.parameter(continuation, token),
            None => call,
        }
    }

    /// A page of a list.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn page(&self, answer: &[u8]) -> Result<Page, String> {
        match self {
            Self::S3 { .. } => xml::read::<xml::Page>(answer).map(Into::into),
            Self::Azure { .. } => xml::read::<azure::Page>(answer).map(Into::into),
            Self::Google { .. } => google::read::<google::Page>(answer)?.try_into(),
        }
    }

    /// What is needed to be allowed to do what Amazon has this name for.
    pub(super) fn permission(&self, action: &'static str) -> &'static str {
        match (self, action) {
            (Self::S3 { .. }, action) => action,
            (Self::Azure { .. }, "s3:GetObject") => "blobs/read",
            (Self::Azure { .. }, "s3:ListBucket") => "blobs/read (of a signature: list)",
            (Self::Azure { .. }, "s3:DeleteObject") => "blobs/delete",
            (Self::Azure { .. }, _) => "blobs/write",
            (Self::Google { .. }, "s3:GetObject") => "storage.objects.get",
            (Self::Google { .. }, "s3:ListBucket") => "storage.objects.list",
            (Self::Google { .. }, "s3:DeleteObject") => "storage.objects.delete",
            (Self::Google { .. }, "s3:AbortMultipartUpload") => "storage.multipartUploads.abort",
            // What replaces another object deletes that.
            (Self::Google { .. }, _) => "storage.objects.create (and to replace one storage.objects.delete)",
        }
    }
}
