//! Metrics for Prometheus, in its text format, on loopback only. No job and no address is ever a label.

use std::{io, net::SocketAddr, sync::atomic::AtomicU64};

use alloy::primitives::U256;
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use tokio::net::TcpListener;

use super::{Running, Status};
use crate::chain::Sender;

/// The format of what is served ([OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/)).
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the classes of a batch's execution time, seconds.
const SECONDS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// What is counted. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    jobs: Family<Outcome, Counter>,
    job_duration: Histogram,
    fuel_used: Counter,
    head: Gauge,
    lag: Gauge,
    reorgs: Counter,
    reorg_depth: Gauge,
    escrow: Family<Kind, Gauge<f64, AtomicU64>>,
    troubles: Counter,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            jobs: Family::default(),
            job_duration: Histogram::new(SECONDS),
            fuel_used: Counter::default(),
            head: Gauge::default(),
            lag: Gauge::default(),
            reorgs: Counter::default(),
            reorg_depth: Gauge::default(),
            escrow: Family::default(),
            troubles: Counter::default(),
        }
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("conun");
        let blocks = || Unit::Other("blocks".to_owned());
        registry.register("jobs", "Batches of jobs, by what became of them", self.jobs.clone());
        let help = "Time that a batch took to be executed";
        registry.register_with_unit("job_duration", help, Unit::Seconds, self.job_duration.clone());
        registry.register("fuel_used", "Fuel of executed batches", self.fuel_used.clone());
        registry.register("chain_head_block", "Latest block seen", self.head.clone());
        let help = "Age of the latest block seen, by this machine's clock";
        registry.register_with_unit("chain_lag", help, Unit::Seconds, self.lag.clone());
        registry.register("reorgs", "Times that the chain took back blocks that had been read", self.reorgs.clone());
        let help = "Blocks that the last re-org took back";
        registry.register_with_unit("reorg_depth", help, blocks(), self.reorg_depth.clone());
        let tokens = Unit::Other("tokens".to_owned());
        registry.register_with_unit("escrow", "Tokens of this provider", tokens, self.escrow.clone());
        registry.register("troubles", "Things that did not work out", self.troubles.clone());
        registry.register("build", "The program", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        registry
    }

    fn job(&self, outcome: &'static str, batches: usize) {
        self.jobs.get_or_create(&Outcome { outcome }).inc_by(batches as u64);
    }

    /// Counts an event.
    pub(super) fn note(&self, event: &Running) {
        match event {
            Running::Looked(look) => {
                self.head.set(i64::try_from(look.head.number).unwrap_or(i64::MAX));
                self.lag.set(i64::try_from(look.lag_seconds).unwrap_or(i64::MAX));
                self.reorgs.inc_by(look.reorgs.saturating_sub(self.reorgs.get()));
                self.reorg_depth.set(i64::try_from(look.reorg_depth).unwrap_or(i64::MAX));
            }
            Running::Leased(_, batches) => self.job("leased", batches.len()),
            Running::Executed(_, fuel, took) => {
                self.job("executed", 1);
                self.fuel_used.inc_by(*fuel);
                self.job_duration.observe(took.as_secs_f64());
            }
            Running::NotExecuted(..) => self.job("not_executed", 1),
            Running::Submitted(_, batches) => self.job("submitted", batches.len()),
            Running::Trouble(_) => drop(self.troubles.inc()),
            Running::Did(kind, _, batches) => self.job(kind, batches.len()),
            Running::Ready { .. } | Running::Guest(_) => {}
        }
    }

    /// Takes over amounts.
    pub(super) fn status(&self, status: &Status) {
        let amounts = [("stake", status.stake), ("locked", status.locked), ("earned", status.earnings.earned)];
        for (kind, wei) in amounts {
            self.escrow.get_or_create(&Kind { kind }).set(tokens(wei));
        }
    }

    /// Serves `GET /metrics` at `address` for as long as the future is polled. The account's waiting transactions are asked for
    /// anew each time.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub(super) async fn serve(
        self,
        address: SocketAddr,
        sender: Sender,
    ) -> io::Result<impl Future<Output = ()> + use<>> {
        let mut registry = self.registry();
        let (pending, gap) = (Gauge::<i64>::default(), Gauge::<i64>::default());
        registry.register("pending_transactions", "Transactions of the account that wait", pending.clone());
        let help = "Waiting transactions of the account that this agent did not send";
        registry.register("nonce_gap", help, gap.clone());
        let shared = std::sync::Arc::new(Scrape { registry, pending, gap, sender });
        let router = Router::new().route("/metrics", get(scrape)).with_state(shared);
        let listener = TcpListener::bind(address).await?;
        Ok(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(target: "conun::provider", %error, "metrics are served no more");
            }
        })
    }
}

struct Scrape {
    registry: Registry,
    pending: Gauge,
    gap: Gauge,
    sender: Sender,
}

async fn scrape(State(scrape): State<std::sync::Arc<Scrape>>, request: Request) -> impl IntoResponse {
    // A page in a browser may have a name of its own point here (DNS rebinding).
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_loopback(host) {
        return Err((StatusCode::FORBIDDEN, "metrics are for this machine: ask for them at 127.0.0.1\n"));
    }
    if let Ok((waiting, own)) = scrape.sender.waiting().await {
        scrape.pending.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        scrape.gap.set(i64::try_from(waiting.saturating_sub(own)).unwrap_or(i64::MAX));
    }
    let mut text = String::new();
    match encode(&mut text, &scrape.registry) {
        Ok(()) => Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text)),
        Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n")),
    }
}

/// Whether a `Host` header names this machine by a loopback address.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whole tokens: a figure to look at, not to reckon with.
fn tokens(wei: U256) -> f64 {
    f64::from(wei) / 1e18
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_served() {
        for host in ["127.0.0.1:9615", "localhost:9615", "[::1]:9615", "localhost", "127.0.0.1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "example.org:9615",
            "192.168.0.1:9615",
            "localhost.example.org",
            "127.0.0.1.example.org:1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn names_and_units_are_those_of_the_documentation() {
        let metrics = Metrics::new();
        metrics.job("executed", 2);
        metrics.fuel_used.inc_by(7);
        let mut text = String::new();
        encode(&mut text, &metrics.registry()).unwrap();
        for line in [
            "conun_jobs_total{outcome=\"executed\"} 2",
            "conun_fuel_used_total 7",
            "conun_reorgs_total 0",
            "conun_chain_head_block 0",
            "conun_chain_lag_seconds 0",
            "conun_reorg_depth_blocks 0",
            "conun_job_duration_seconds_count 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in {text}");
        }
        assert!(text.contains("conun_build_info{version=\""), "{text}");
    }
}
