//! A relay of one's own: it carries packets between peers that cannot dial each other. They are encrypted from end to end; who talks to
//! whom, and how much, it sees.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
};

use iroh_relay::server::{ClientRateLimit, RelayConfig, Server, ServerConfig};

use super::Error;

/// The server, until it is shut down.
#[derive(Debug)]
pub struct RelayServer {
    server: Server,
    address: SocketAddr,
}

impl RelayServer {
    /// Listens (HTTP, without TLS) and takes at most so many bytes a second from each peer; 0 for no limit.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn start(listen: SocketAddr, max_bytes_sec_per_peer: u32) -> Result<Self, Error> {
        let refused = |reason: String| Error::Relay { listen, reason };
        let mut relay = RelayConfig::new(listen);
        relay.limits.client_rx = NonZeroU32::new(max_bytes_sec_per_peer).map(ClientRateLimit::new);
        let mut config = ServerConfig::default();
        config.relay = Some(relay);
        let server = Server::spawn(config).await.map_err(|error| refused(format!("{error:#}")))?;
        let address = server.http_addr().ok_or_else(|| refused("it has no address".to_owned()))?;
        Ok(Self { server, address })
    }

    /// What peers name it by, if they reach this machine by `host`, or else by the address that it listens on. None if that is every
    /// address.
    pub fn url(&self, host: Option<&str>) -> Option<String> {
        let port = self.address.port();
        match (host, self.address.ip()) {
            (Some(host), _) if host.parse::<Ipv6Addr>().is_ok() => Some(format!("http://[{host}]:{port}")),
            (Some(host), _) => Some(format!("http://{host}:{port}")),
            (None, ip) if ip == Ipv4Addr::UNSPECIFIED || ip == Ipv6Addr::UNSPECIFIED => None,
            (None, _) => Some(format!("http://{}", self.address)),
        }
    }

    /// Ends it.
    pub async fn shutdown(self) {
        // It has ended by itself at worst.
        let _ = self.server.shutdown().await;
    }
}
