//! How an endpoint reaches others, and how much it gives them.

use std::{fmt, str::FromStr};

use iroh::RelayUrl;
use serde::{Deserialize, Serialize};

/// Least limit of bytes a second: below it, a transfer of a few peers at once would count as stalled.
const LEAST_BYTES_SEC: u64 = 65_536;

/// `[network]` of `provider.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct NetworkSettings {
    /// What helps where peers cannot dial each other directly.
    pub relay: Relay,
    /// Whether to announce this endpoint in the local network (mDNS), and to find others there.
    pub local_discovery: bool,
    /// Whether to tell other members of the deployment where this endpoint is and which jobs' programs it holds, and to pass on what they tell.
    pub gossip: bool,
    /// Most bytes of blobs a second that all peers together are sent; 0 for no limit.
    pub max_bytes_sec_up: u64,
    /// Most bytes of blobs a second that each peer is sent; 0 for no limit.
    pub max_bytes_sec_up_per_peer: u64,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            relay: Relay::None,
            local_discovery: false,
            gossip: true,
            max_bytes_sec_up: 0,
            max_bytes_sec_up_per_peer: 0,
        }
    }
}

impl NetworkSettings {
    /// Whether they can be used.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        let limits = [
            ("max-bytes-sec-up", self.max_bytes_sec_up),
            ("max-bytes-sec-up-per-peer", self.max_bytes_sec_up_per_peer),
        ];
        match limits.into_iter().find(|(_, limit)| (1..LEAST_BYTES_SEC).contains(limit)) {
            Some((name, limit)) => Err(format!(
                "`{name}` is {limit}: nobody could fetch anything in time; write {LEAST_BYTES_SEC} or more, or 0 for no limit"
            )),
            None => Ok(()),
        }
    }
}

/// Through whom peers talk that cannot dial each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Relay {
    /// Nobody.
    #[default]
    None,
    /// The public relays and the public discovery of iroh's makers, n0.
    N0,
    /// A relay of somebody's own, by its URL (`conun relay`).
    Own(String),
}

impl Relay {
    /// One of somebody's own.
    pub(super) fn url(&self) -> Option<RelayUrl> {
        match self {
            Self::Own(url) => url.parse().ok(),
            Self::None | Self::N0 => None,
        }
    }
}

impl FromStr for Relay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_url = |text: &str| text.parse::<RelayUrl>().is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        match text {
            "none" => Ok(Self::None),
            "n0" => Ok(Self::N0),
            url if is_url(url) => Ok(Self::Own(url.to_owned())),
            _ => Err(format!(
                "`{text}` is no relay: write none, n0 (public relays), or the URL that `conun relay` prints, such as http://192.0.2.1:3340"
            )),
        }
    }
}

impl TryFrom<String> for Relay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Relay> for String {
    fn from(relay: Relay) -> Self {
        relay.to_string()
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::N0 => f.write_str("n0"),
            Self::Own(url) => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_as_they_were_written_and_what_cannot_work_is_refused() {
        let read = |text: &str| toml::from_str::<NetworkSettings>(text).map_err(|error| error.to_string());
        for relay in ["none", "n0", "http://127.0.0.1:3340", "https://relay.example"] {
            let settings = read(&format!("relay = '{relay}'\nmax-bytes-sec-up = 65536")).unwrap();
            assert_eq!(settings.relay.to_string(), relay);
            assert_eq!(read(&toml::to_string(&settings).unwrap()).unwrap(), settings);
            settings.validate().unwrap();
        }
        for wrong in ["'relay.example'", "'ftp://relay.example'", "''"] {
            let error = read(&format!("relay = {wrong}")).unwrap_err();
            assert!(error.contains("conun relay"), "{error}");
        }
        for name in ["max-bytes-sec-up", "max-bytes-sec-up-per-peer"] {
            let error = read(&format!("{name} = 65535")).unwrap().validate().unwrap_err();
            assert!(error.contains(&format!("`{name}` is 65535")) && error.contains("65536 or more"), "{error}");
        }
    }
}
