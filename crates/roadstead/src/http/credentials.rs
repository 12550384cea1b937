//! Credentials.
use super::secret::Secret;
use crate::oci::{Registry, Repository};

/// What proves to a registry who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user's name and password, or an access token in a password's place.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token that is exchanged for access tokens, in place of a password.
    IdentityToken(Secret),
}

#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct CredentialError;

/// Where credentials are found.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    explicit: Option<Credential>,
}

impl Credentials {
    /// This credential, whatever is asked for.
    pub fn only(credential: Credential) -> Self {
        Self { explicit: Some(credential) }
    }

    pub async fn find(
        &self,
        _registry: &Registry,
        _repository: Option<&Repository>,
    ) -> Result<Option<Credential>, CredentialError> {
        Ok(self.explicit.clone())
    }
}
