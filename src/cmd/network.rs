//! How the command's endpoint reaches others.

use clap::Args;
use conun_agent::net::{NetworkSettings, Relay};

use crate::exit::Ending;

#[derive(Debug, Default, Args)]
pub(crate) struct NetworkArgs {
    /// Through whom peers talk that cannot dial each other: none, the URL of a relay of your own (`conun relay`), or n0, the public relays of iroh's makers.
    #[arg(long, value_name = "RELAY", env = "CONUN_RELAY", default_value_t = Relay::None)]
    relay: Relay,
    /// Announce this endpoint in the local network (mDNS), and find others there.
    #[arg(long)]
    local_discovery: bool,
    /// Most bytes of blobs a second that all peers together are sent; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bytes_sec_up: u64,
    /// Most bytes of blobs a second that each peer is sent; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bytes_sec_up_per_peer: u64,
}

impl NetworkArgs {
    /// The settings, if they can be used.
    pub(crate) fn settings(&self) -> Result<NetworkSettings, Ending> {
        let Self { relay, local_discovery, max_bytes_sec_up, max_bytes_sec_up_per_peer } = self;
        let settings = NetworkSettings {
            relay: relay.clone(),
            local_discovery: *local_discovery,
            max_bytes_sec_up: *max_bytes_sec_up,
            max_bytes_sec_up_per_peer: *max_bytes_sec_up_per_peer,
        };
        settings.validate().map_err(Ending::Usage)?;
        Ok(settings)
    }
}
