//! How the command's endpoint reaches others.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use alloy::transports::http::reqwest::Url;
use clap::Args;
use conun_agent::net::{NetworkSettings, Relay};

use crate::exit::Ending;

#[derive(Debug, Default, Args)]
pub(crate) struct NetworkArgs {
    /// Where to listen for peers (UDP); port 0 takes the one used last, or any.  [default: 0.0.0.0:0, all of this machine's addresses;
    /// 127.0.0.1:0 if --rpc-url is on this machine]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Through whom peers talk that cannot dial each other: none, the URL of a relay of your own (`conun relay`), or n0, the public relays of iroh's makers.
    #[arg(long, value_name = "RELAY", env = "CONUN_RELAY", default_value_t = Relay::None)]
    relay: Relay,
    /// Announce this endpoint in the local network (mDNS), and find others there.
    #[arg(long)]
    local_discovery: bool,
    /// Tell other members of the deployment nothing of where this endpoint is and what it holds, and pass on nothing of theirs.
    #[arg(long)]
    no_gossip: bool,
    /// Most bytes of blobs a second that all peers together are sent; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bytes_sec_up: u64,
    /// Most bytes of blobs a second that each peer is sent; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bytes_sec_up_per_peer: u64,
}

impl NetworkArgs {
    /// Where to listen. Beside an endpoint on this machine, everybody else is here, too.
    pub(crate) fn listen(&self, rpc_url: &str) -> SocketAddr {
        self.listen.unwrap_or_else(|| {
            let ip = if is_here(rpc_url) { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
            (ip, 0).into()
        })
    }

    /// The settings, if they can be used.
    pub(crate) fn settings(&self) -> Result<NetworkSettings, Ending> {
        let Self { relay, listen: _, local_discovery, no_gossip, max_bytes_sec_up, max_bytes_sec_up_per_peer } = self;
        let settings = NetworkSettings {
            relay: relay.clone(),
            local_discovery: *local_discovery,
            gossip: !no_gossip,
            max_bytes_sec_up: *max_bytes_sec_up,
            max_bytes_sec_up_per_peer: *max_bytes_sec_up_per_peer,
        };
        settings.validate().map_err(Ending::Usage)?;
        Ok(settings)
    }
}

/// Whether an endpoint is on this machine.
fn is_here(rpc_url: &str) -> bool {
    let url = rpc_url.parse::<Url>().ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_elsewhere_are_listened_for_where_the_chain_is_elsewhere() {
        let args = NetworkArgs::default();
        for here in ["http://127.0.0.1:8545", "http://localhost:8545", "ws://[::1]:1"] {
            assert!(args.listen(here).ip().is_loopback(), "{here}");
        }
        for elsewhere in ["https://rpc.example.org", "http://10.0.0.2:8545", "http://localhost.example.org"] {
            assert!(args.listen(elsewhere).ip().is_unspecified(), "{elsewhere}");
        }
        let given = NetworkArgs { listen: Some(([192, 0, 2, 1], 7).into()), ..NetworkArgs::default() };
        assert_eq!(given.listen("http://localhost").to_string(), "192.0.2.1:7");
    }
}
