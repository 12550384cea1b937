//! How registries are reached: interim.

use roadstead::http::{Client, ClientOptions, EndpointOptions};
use roadstead::medium::registry::RegistrySource;
use roadstead::oci::Registry;

/// Interim
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RegistryArgs {
    /// Use plain HTTP
    #[arg(long)]
    plain_http: bool,
}

/// Registries, each reached in one way for the whole run.
pub(crate) struct Registries {
    client: Client,
    plain_http: bool,
}

impl RegistryArgs {
    pub(crate) fn registries(&self) -> anyhow::Result<Registries> {
        Ok(Registries { client: Client::new(ClientOptions::default())?, plain_http: self.plain_http })
    }
}

impl Registries {
    pub(crate) fn source(&self, registry: &Registry) -> anyhow::Result<RegistrySource> {
        let options = EndpointOptions { plain_http: self.plain_http, ..EndpointOptions::default() };
        Ok(RegistrySource::new(self.client.endpoint(registry, options)?, Vec::new()))
    }
}
