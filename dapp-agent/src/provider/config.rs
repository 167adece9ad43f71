//! `provider.toml`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use conun_bindings::Contracts;
use serde::{Deserialize, Serialize};

use super::{Error, io_error};
use crate::{core::Policy, fabric::Preferences};

/// What a provider is told once and keeps in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProviderConfig {
    /// Name of the keystore account that signs.
    pub account: String,
    /// Ethereum JSON-RPC endpoint.
    pub rpc_url: String,
    /// Where iroh listens (UDP); port 0 takes the last one used if it is free.
    pub listen: SocketAddr,
    /// Whether to use public relays and discovery for peers that cannot be dialled directly.
    #[serde(default)]
    pub relay: bool,
    /// Milliseconds between looks at the chain.
    #[serde(default = "poll_millis")]
    pub poll_millis: u64,
    /// Blocks that must lie above a block before it is acted on.
    #[serde(default)]
    pub confirmations: u64,
    /// Which jobs to take.
    #[serde(default)]
    pub policy: Policy,
    /// When, and how much of, this computer may be used.
    #[serde(default)]
    pub preferences: Preferences,
    /// Where the contracts are.
    pub contracts: Contracts,
}

fn poll_millis() -> u64 {
    1_000
}

impl ProviderConfig {
    /// The file in a data folder.
    pub fn file(folder: &Path) -> PathBuf {
        folder.join("provider.toml")
    }

    /// Reads a data folder's configuration.
    ///
    /// # Errors
    /// If there is none, or it is malformed.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = Self::file(folder);
        let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::NoFolder(folder.to_owned()),
            _ => io_error(&path)(source),
        })?;
        let read = toml::from_str(&text).map_err(|error| error.to_string());
        let checked = read.and_then(|config: Self| config.preferences.validate().map(|()| config));
        checked.map_err(|reason| Error::Config { path, reason })
    }

    /// Writes it into a data folder, which is made if need be.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = Self::file(folder);
        std::fs::create_dir_all(folder).map_err(io_error(folder))?;
        let text = toml::to_string_pretty(self)
            .map_err(|error| Error::Config { path: path.clone(), reason: error.to_string() })?;
        std::fs::write(&path, text).map_err(io_error(&path))
    }
}
