//! `conun relay`: carries packets between peers that cannot dial each other.

use std::{net::SocketAddr, process::ExitCode};

use clap::Args;
use conun_agent::net::RelayServer;
use serde_json::json;

use crate::{context::Context, exit::Ending, output};

#[derive(Debug, Args)]
pub(crate) struct RelayArgs {
    /// Where to listen (TCP): peers have to reach it, so for others than this machine 0.0.0.0:3340 or [::]:3340.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3340")]
    listen: SocketAddr,
    /// Name or address by which peers reach this machine.  [default: the address it listens on]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Most bytes a second that are taken from each peer; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 4 << 20)]
    max_bytes_sec_per_peer: u32,
}

pub(crate) async fn run(context: &Context, args: RelayArgs) -> eyre::Result<ExitCode> {
    let relay = RelayServer::start(args.listen, args.max_bytes_sec_per_peer).await?;
    let Some(url) = relay.url(args.host.as_deref()) else {
        relay.shutdown().await;
        let text = format!("{} is every address of this machine: say with --host which one peers reach", args.listen);
        return Err(Ending::Usage(text).into());
    };
    output::result(context.json(), &json!({ "url": url }), |_| {
        format!(
            "{url}\n\nProviders write this into provider.toml, requesters give --relay {url}; only those who name the same relay meet there:\n\n\
             [network]\nrelay = \"{url}\""
        )
    })?;
    crate::exit::signalled().await;
    relay.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
