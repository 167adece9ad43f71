//! What a market of 100,000 open jobs costs an agent: `cargo bench -p conun-agent --bench index`.
//!
//! The logs are as the registries write them; the index takes them in, the core decides on all of it, and the process's memory is
//! looked at. Prints a table of its own.

use std::time::Instant;

use alloy::{
    primitives::{Address, B256, Log as Inner, U256, keccak256},
    rpc::types::Log,
    sol_types::SolEvent,
};
use conun_agent::{
    chain::{Index, OwnJobs},
    core::{Core, Event, Policy},
};
use conun_bindings::{
    Contracts, Rules,
    abi::JobRegistry::{BatchesLeased, Contact, Job, JobPosted, Spec},
};

const JOBS: u64 = 100_000;

/// Batches of a job, one of which is leased.
const BATCHES: u32 = 4;

fn contracts() -> Contracts {
    let at = Address::repeat_byte;
    Contracts {
        chain_id: 1,
        block: 0,
        deployment: at(1),
        token: at(2),
        escrow: at(3),
        providers: at(4),
        jobs: at(5),
        reputation: at(6),
        replicas: at(7),
        disputes: at(8),
        rules: at(9),
    }
}

fn log(event: &impl SolEvent, number: u64) -> Log {
    Log {
        inner: Inner { address: contracts().jobs, data: event.encode_log_data() },
        block_hash: Some(keccak256(number.to_be_bytes())),
        block_number: Some(number / 100),
        block_timestamp: Some(1_000_000 + number / 100),
        transaction_hash: Some(keccak256(number.to_be_bytes())),
        transaction_index: Some(0),
        log_index: Some(number),
        removed: false,
    }
}

fn posted(number: u64) -> JobPosted {
    let job = Job {
        requester: Address::repeat_byte(10),
        nonce: number,
        spec: B256::repeat_byte(1),
        taskCount: BATCHES,
        batchSize: 1,
        fuelLimit: 1_000_000_000,
        startPrice: 1_000 + u128::from(number % 1_000),
        maxPrice: 1_000 + u128::from(number % 1_000),
        rampStart: 0,
        rampSeconds: 0,
        leaseSeconds: 600,
        windowSeconds: 600,
    };
    let spec = Spec {
        program: B256::repeat_byte(1),
        programRoot: B256::repeat_byte(2),
        inputs: B256::repeat_byte(3),
        inputRoot: B256::repeat_byte(4),
        memoryLimit: 65_536,
        category: 0,
    };
    let contact = Contact { endpoint: B256::repeat_byte(5), hint: "127.0.0.1:4433".to_owned() };
    let job_id = keccak256(number.to_le_bytes());
    JobPosted { jobId: job_id, requester: job.requester, job, spec, contact, deposit: U256::from(4_000) }
}

fn leased(number: u64) -> BatchesLeased {
    BatchesLeased {
        jobId: keccak256(number.to_le_bytes()),
        provider: Address::repeat_byte(11),
        batches: vec![0],
        activeBlocks: vec![Default::default()],
        deadline: 1_010_000,
    }
}

/// Resident memory, MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

fn main() {
    // `cargo test` runs benchmarks, too: without its own flag it is only built.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let rules = Rules {
        min_stake: U256::ZERO,
        audit_floor_bps: 5_000,
        faulty_bps: 2_000,
        fee_bps: 100,
        check_fee: U256::ZERO,
        arbiter: Address::ZERO,
    };
    let before = resident();
    // A follower keeps a second one that lags behind.
    let (mut index, mut base) = (Index::new(rules), Index::new(rules));
    let mut seconds = 0.0;
    for number in 0..JOBS {
        let logs = [log(&posted(number), 2 * number), log(&leased(number), 2 * number + 1)];
        let start = Instant::now();
        logs.iter().for_each(|log| index.apply(&contracts(), log));
        seconds += start.elapsed().as_secs_f64();
        logs.iter().for_each(|log| base.apply(&contracts(), log));
        base.share(&index, 2 * number, number / 50);
    }
    println!("{} open jobs of {BATCHES} batches", index.jobs.len());
    println!("events a second, taken in   {:>10.0}", 2.0 * JOBS as f64 / seconds);
    println!("memory of both indexes, MiB {:>10.0}", resident() - before);
    own(&mut index);

    for (what, min_price) in [("none", 2_000), ("one in a hundred", 1_990), ("all", 1_000)] {
        println!("of interest: {what}");
        decide(&index, Policy { min_price, ..Policy::default() });
    }
}

/// Times how jobs in which an account has a part are kept: a look at all of them, and one after another job was leased.
fn own(index: &mut Index) {
    let mut own = OwnJobs::new(Address::repeat_byte(12));
    let start = Instant::now();
    own.look(index);
    println!("own jobs, first look, ms    {:>10.1}", start.elapsed().as_secs_f64() * 1e3);
    let rounds = 1_000;
    let mut seconds = 0.0;
    for number in 0..rounds {
        let lease = BatchesLeased { provider: Address::repeat_byte(12), batches: vec![1], ..leased(number) };
        index.apply(&contracts(), &log(&lease, 2 * JOBS + number));
        let start = Instant::now();
        own.look(index);
        seconds += start.elapsed().as_secs_f64();
    }
    println!("own jobs, one leased, ms    {:>10.4} ({} kept)", seconds * 1e3 / rounds as f64, own.jobs().len());
}

/// Times a core that takes the jobs `policy` says.
fn decide(index: &Index, policy: Policy) {
    let mut core = Core::new(Address::repeat_byte(13), policy);
    let free_stake = U256::from(u64::MAX);
    let head = |number: u64| Event::Head { number, now: 1_000_500 + number, free_stake };
    let millis = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    core.step(index, head(0));
    println!("  the first look, ms        {:>10.1}", millis(start));
    let start = Instant::now();
    let rounds = 20;
    (1..=rounds).for_each(|number| drop(std::hint::black_box(core.step(index, head(number)))));
    println!("  a decision, ms            {:>10.3}", millis(start) / rounds as f64);
    let start = Instant::now();
    std::hint::black_box(core.overview(index));
    println!("  an overview, ms           {:>10.1}", millis(start));
    let start = Instant::now();
    std::hint::black_box(core.verdicts(index));
    println!("  all verdicts, ms          {:>10.1}", millis(start));
    println!("  memory of it all, MiB     {:>10.0}", resident());
}
