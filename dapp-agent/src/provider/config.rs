//! `provider.toml`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use alloy::primitives::Address;
use conun_bindings::Contracts;
use serde::{Deserialize, Serialize};

use super::{Error, io_error};
use crate::{core::Policy, fabric::Preferences, net::NetworkSettings};

/// What a provider is told once and keeps in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProviderConfig {
    /// Name of the keystore account that signs.
    pub account: String,
    /// Its address, so that it can be looked at without its password.
    #[serde(default)]
    pub address: Option<Address>,
    /// Ethereum JSON-RPC endpoint.
    pub rpc_url: String,
    /// A second endpoint of another operator: nothing is believed that only one of them says. None by default.
    #[serde(default)]
    pub second_rpc_url: Option<String>,
    /// Where iroh listens (UDP); port 0 takes the last one used if it is free.
    pub listen: SocketAddr,
    /// Milliseconds between looks at the chain.
    #[serde(default = "poll_millis")]
    pub poll_millis: u64,
    /// Blocks that must lie above a block before it is acted on.
    #[serde(default)]
    pub confirmations: u64,
    /// Most gwei for a gas; nothing is sent while it costs more, and nothing is raised beyond. No limit if it is not given.
    #[serde(default)]
    pub max_fee_gwei: Option<u64>,
    /// Where metrics are served for Prometheus, a loopback address such as 127.0.0.1:9615; nowhere if it is not given.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// Which jobs to take.
    #[serde(default)]
    pub policy: Policy,
    /// When, and how much of, this computer may be used.
    #[serde(default)]
    pub preferences: Preferences,
    /// How peers are reached, and how much they are given.
    #[serde(default)]
    pub network: NetworkSettings,
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
            _ => io_error(&path)(source).into(),
        })?;
        let read = toml::from_str(&text).map_err(|error| error.to_string());
        let checked = read.and_then(|config: Self| config.validate().map(|()| config));
        checked.map_err(|reason| Error::Config { path, reason })
    }

    fn validate(&self) -> Result<(), String> {
        self.preferences.validate()?;
        self.network.validate()?;
        match self.metrics.filter(|address| !address.ip().is_loopback()) {
            Some(address) => Err(format!(
                "`metrics` is {address}: metrics are for this machine alone, write 127.0.0.1:{}",
                address.port()
            )),
            None => Ok(()),
        }
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
        let text = commented(&text);
        Ok(std::fs::write(&path, text).map_err(io_error(&path))?)
    }
}

/// What stands above each setting in a new file, and above each table.
const COMMENTS: [(&str, &str); 39] = [
    (
        "account",
        "Name of the keystore account that signs; it needs ether for gas, and can lose no more than that and the stake.",
    ),
    ("address", "Its address."),
    (
        "rpc-url",
        "Ethereum JSON-RPC endpoint. With a second one, of another operator, nothing is believed that only one of them says:\n\
         second-rpc-url = \"https://...\"",
    ),
    ("second-rpc-url", "A second endpoint, of another operator: nothing is believed that only one of them says."),
    (
        "listen",
        "Where peers reach this machine (UDP). 127.0.0.1 means: peers on this machine alone; 0.0.0.0 means: all.",
    ),
    ("poll-millis", "Milliseconds between looks at the chain."),
    (
        "confirmations",
        "Blocks that must lie above a block before it is acted on.\n\
         Most gwei for a gas; no limit without it:\n\
         max-fee-gwei = 50\n\
         Metrics for Prometheus, for this machine alone:\n\
         metrics = \"127.0.0.1:9615\"",
    ),
    ("max-fee-gwei", "Most gwei for a gas: nothing is sent while it costs more."),
    ("metrics", "Where metrics are served for Prometheus: a loopback address."),
    ("[policy]", "Which jobs to take. `conun provider why` says which are left, and for which of these reasons."),
    ("min-price", "Least price for 10^9 fuel: tokens as \"0.5\", or wei as \"1wei\"."),
    ("max-memory-bytes", "Most memory that a task may ask for, bytes."),
    ("max-fuel", "Most fuel that a task may ask for."),
    ("categories", "Categories taken; [] means all."),
    (
        "groups",
        "Groups to whose members' jobs this provider keeps, as [\"0x...\"]: contracts with balanceOf, such as a collection of membership\n\
         cards (EIP-721); [] means everybody's.",
    ),
    ("blocked", "Requesters whose jobs are not taken, as [\"0x...\"]."),
    (
        "workers",
        "Batches executed at once. With what an ether is worth to you, in tokens, gas is held against payments:\n\
         tokens-per-ether = \"2000\"",
    ),
    ("tokens-per-ether", "What an ether is worth to you, in tokens: gas is held against payments by it."),
    ("[preferences]", "When, and how much of, this computer may be used. The first seven have BOINC's meanings."),
    ("run-if-user-active", "Whether to work while somebody uses the computer."),
    ("idle-time-to-run", "Minutes without input after which nobody uses it."),
    ("run-on-batteries", "Whether to work on battery."),
    (
        "suspend-cpu-usage",
        "Work stops while other programs use more than so many percent of all processors; 0 for never.",
    ),
    ("cpu-usage-limit", "Percent of the time in which work may use its processors."),
    ("max-ncpus-pct", "Percent of the processors that work may use."),
    ("disk-max-used-gb", "Most disk space of the data folder, GB; 0 for no limit."),
    (
        "days",
        "Days on which to work, as [\"sat\", \"sun\"]; [] means all. Hours, in local time; all day without it:\n\
         hours = \"22:00-07:00\"",
    ),
    ("hours", "Local time in which to work."),
    ("max-celsius", "Work stops while a sensor is hotter; 0 for never."),
    ("network-bytes-per-day", "Most bytes that peers may send and get in a day; 0 for no limit."),
    ("only-on-unmetered-network", "Whether to take nothing new while the network is known to be metered."),
    ("suspended-memory-mib", "Most memory that stopped work may hold, MiB."),
    ("[network]", "How peers are reached, and how much they are given."),
    (
        "relay",
        "Through whom peers talk that cannot dial each other: \"none\", the URL of a relay of your own (`conun relay`), or \"n0\", the\n\
         public relays and discovery of iroh's makers.",
    ),
    ("local-discovery", "Whether to announce this provider in the local network (mDNS), and to find peers there."),
    (
        "gossip",
        "Whether to tell other members of the deployment where this provider is and which programs it holds, and to pass on what they tell.",
    ),
    ("max-bytes-sec-up", "Most bytes of blobs a second that all peers together are sent; 0 for no limit."),
    ("max-bytes-sec-up-per-peer", "Most bytes of blobs a second that each peer is sent; 0 for no limit."),
    ("[contracts]", "The deployment. Do not change it by hand: another one needs `conun provider init`."),
];

/// The file's text with a comment above each setting that has one.
fn commented(text: &str) -> String {
    let mut out = String::from("# Settings of a CONUN provider. The agent reads them when it starts.\n\n");
    for line in text.lines() {
        let key = line.split_once(" = ").map_or(line, |(key, _)| key);
        let comment = COMMENTS.iter().find(|(name, _)| *name == key).into_iter().flat_map(|(_, text)| text.lines());
        comment.for_each(|text| out += &format!("# {text}\n"));
        out += &format!("{line}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> ProviderConfig {
        let none = Address::ZERO;
        ProviderConfig {
            account: "lender".to_owned(),
            address: Some(Address::repeat_byte(7)),
            rpc_url: "http://127.0.0.1:8545".to_owned(),
            second_rpc_url: Some("http://127.0.0.1:8546".to_owned()),
            listen: "127.0.0.1:0".parse().unwrap(),
            poll_millis: 1_000,
            confirmations: 2,
            max_fee_gwei: Some(50),
            metrics: Some("127.0.0.1:9615".parse().unwrap()),
            policy: Policy {
                categories: [3].into(),
                groups: [Address::repeat_byte(3)].into(),
                tokens_per_ether: Some(2_000_000_000_000_000_000_000),
                ..Policy::default()
            },
            preferences: Preferences::default(),
            network: NetworkSettings::default(),
            contracts: Contracts {
                chain_id: 1,
                block: 2,
                deployment: none,
                token: none,
                escrow: none,
                providers: none,
                jobs: none,
                reputation: none,
                replicas: none,
                disputes: none,
                rules: none,
            },
        }
    }

    #[test]
    fn a_new_file_explains_each_setting_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let config = example();
        config.write(folder.path()).unwrap();
        assert_eq!(ProviderConfig::read(folder.path()).unwrap(), config);
        let text = std::fs::read_to_string(ProviderConfig::file(folder.path())).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let settings = lines.iter().take_while(|line| **line != "[contracts]").enumerate();
        for (at, line) in settings.filter(|(_, line)| line.contains(" = ") && !line.starts_with('#')) {
            assert!(lines[at - 1].starts_with("# "), "`{line}` is not explained in {text}");
        }
    }

    #[test]
    fn prices_are_written_as_people_read_them() {
        let folder = tempfile::tempdir().unwrap();
        for (wei, text) in [
            (1, "\"1wei\""),
            (999_999_999, "\"999999999wei\""),
            (5 * 10u128.pow(17), "\"0.5\""),
            (10u128.pow(19), "\"10\""),
            (10u128.pow(21), "\"1000\""),
            (10u128.pow(18) + 1, "\"1.000000000000000001\""),
        ] {
            let mut config = example();
            config.policy.min_price = wei;
            config.write(folder.path()).unwrap();
            let written = std::fs::read_to_string(ProviderConfig::file(folder.path())).unwrap();
            assert!(written.contains(&format!("min-price = {text}\n")), "{written}");
            assert_eq!(ProviderConfig::read(folder.path()).unwrap(), config);
        }
    }

    #[test]
    fn a_wrong_setting_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        example().write(folder.path()).unwrap();
        let path = ProviderConfig::file(folder.path());
        let text = std::fs::read_to_string(&path).unwrap();
        for (wrong, word) in [
            (text.replace("workers", "worker"), "worker"),
            (text.replace("127.0.0.1:9615", "1.2.3.4:9615"), "write 127.0.0.1:9615"),
            (text.replace("1wei", "x"), "no price: write tokens"),
        ] {
            std::fs::write(&path, wrong).unwrap();
            let error = ProviderConfig::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("provider.toml"), "{error}");
        }
    }
}
