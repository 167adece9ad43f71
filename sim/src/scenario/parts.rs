//! The parts of a scenario. Times are seconds of the virtual clock, amounts whole tokens, fuel 10^9 instructions ("gigafuel").

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::random::Distribution;

/// The chain and its faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChainTerms {
    /// Seconds between blocks; default 12.
    pub block_seconds: Distribution,
    /// Base fee, gwei, as long as blocks are half full; default 1.
    pub base_fee_gwei: f64,
    /// Blocks that must lie above a block before agents read it; default 0.
    pub confirmations: u64,
    /// Who decides challenges; default nobody.
    pub arbiter: Arbiter,
    /// Least stake, tokens; default 100.
    pub min_stake: f64,
    /// Blocks until a successor's lease is active; default 3.
    pub successor_delay_blocks: u64,
    /// Least fee, tokens, that makes an agreeing vote a passed check; default 0.01.
    pub check_fee: f64,
    /// Folder of artifacts (`Escrow.json` and so on) that are deployed instead of the contracts that are built in; relative to where
    /// the command runs.
    pub artifacts: Option<PathBuf>,
    /// Re-orgs.
    pub reorgs: Option<Reorgs>,
    /// Times at which gas is dear.
    pub fee_spikes: Option<FeeSpikes>,
    /// Times at which blocks leave some accounts' transactions out.
    pub censorship: Option<Censorship>,
    /// Endpoints that do not tell the truth.
    pub lies: Option<Lies>,
}

impl Default for ChainTerms {
    fn default() -> Self {
        Self {
            block_seconds: Distribution::Constant(12.0),
            base_fee_gwei: 1.0,
            confirmations: 0,
            arbiter: Arbiter::None,
            min_stake: 100.0,
            successor_delay_blocks: 3,
            check_fee: 0.01,
            artifacts: None,
            reorgs: None,
            fee_spikes: None,
            censorship: None,
            lies: None,
        }
    }
}

/// Who decides challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arbiter {
    /// Nobody: nothing can be challenged.
    None,
    /// Somebody who executes the task and tells the truth.
    Honest,
    /// Somebody who never rules.
    Silent,
}

/// Re-orgs: the latest blocks are taken back and mined anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reorgs {
    /// Blocks between one and the next.
    pub every_blocks: Distribution,
    /// Blocks taken back.
    pub depth: Distribution,
    /// Share of their transactions that no node has any more; the others come into later blocks in another order. Default 0.
    #[serde(default)]
    pub lost: f64,
}

/// Times at which gas costs a multiple.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FeeSpikes {
    /// Seconds from one's end to the next.
    pub every_seconds: Distribution,
    /// Seconds that one lasts.
    pub seconds: Distribution,
    /// Times the usual base fee.
    pub factor: f64,
}

/// Times at which some accounts' transactions are left out of blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Censorship {
    /// Seconds from one's end to the next.
    pub every_seconds: Distribution,
    /// Seconds that one lasts.
    pub seconds: Distribution,
    /// Share of all accounts that it hits, others each time.
    pub share: f64,
}

/// Endpoints that do not tell the truth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lies {
    /// What they do.
    pub lie: Lie,
    /// Share of the agents that use one.
    pub share: f64,
    /// How often an answer that could be bent is; default 1.
    #[serde(default = "always")]
    pub chance: f64,
    /// Whether these agents compare it with a second endpoint, that is honest; default true.
    #[serde(default = "yes")]
    pub compared: bool,
}

fn always() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

/// What an endpoint does to the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// It leaves out the first log of an answer.
    Missing,
    /// It tells the first log twice.
    Twice,
    /// It changes a log's data.
    Forged,
    /// Its latest block is ten blocks old.
    Stale,
    /// It refuses: too many requests.
    Refusing,
}

/// The network between requesters and providers, and its faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkTerms {
    /// Round trip between two of them, milliseconds; default 50.
    pub latency_millis: Distribution,
    /// Bandwidth of each, megabits a second; default 20.
    pub megabits: Distribution,
    /// Share of packets that are lost; default 0.
    pub loss: f64,
    /// Times at which some are cut off from everybody, the chain included.
    pub partitions: Option<Spells>,
}

impl Default for NetworkTerms {
    fn default() -> Self {
        Self {
            latency_millis: Distribution::Constant(50.0),
            megabits: Distribution::Constant(20.0),
            loss: 0.0,
            partitions: None,
        }
    }
}

/// Times at which something hits some of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spells {
    /// Seconds from one's end to the next, for each.
    pub every_seconds: Distribution,
    /// Seconds that one lasts.
    pub seconds: Distribution,
    /// Share of all that are hit at all; default 1.
    #[serde(default = "always")]
    pub share: f64,
}

/// A machine's faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MachineTerms {
    /// Crashes, and how long until the agent runs again.
    pub crashes: Option<Spells>,
    /// Probability that what was being written when it crashed is lost.
    pub unsynced: f64,
    /// Times at which the disk takes nothing.
    pub full_disk: Option<Spells>,
    /// Times at which the machine sleeps: everything stands still, and goes on afterwards.
    pub sleeps: Option<Spells>,
}

/// What a group of providers is up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum ProviderStrategy {
    /// As the agent is made.
    #[default]
    Honest,
    /// Makes results up instead of executing, this share of the time.
    Lazy {
        /// Share of batches.
        share: f64,
    },
    /// Executes nothing and takes what others show, from the chain or from transactions that wait.
    Copying,
    /// Gives a wrong result on which the group agrees.
    Colluding {
        /// Share of batches.
        rate: f64,
        /// Share of those in which it says the same as the rest of the group.
        agreement: f64,
    },
    /// Commits, and does not show it.
    NeverRevealing {
        /// Share of batches.
        rate: f64,
    },
    /// Leases all it can and does nothing.
    Squatting,
    /// Honest for a while, then always wrong, as the rest of its group.
    Sleeper {
        /// Batches before it wakes.
        honest_batches: u32,
        /// Whether it comes back under a new name once its stake is slashed.
        whitewash: bool,
    },
    /// Executes, and lets nobody have the outputs, whatever is demanded.
    Withholding,
}

/// A group of providers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProviderTerms {
    /// Name of the group.
    pub name: String,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// What they are up to; default honest.
    #[serde(default)]
    pub strategy: ProviderStrategy,
    /// Gigafuel a second of one worker; default 1.
    #[serde(default = "constant_one")]
    pub speed: Distribution,
    /// Workers; default 1.
    #[serde(default = "constant_one")]
    pub workers: Distribution,
    /// Least price, tokens a gigafuel; default 0.
    #[serde(default = "nothing")]
    pub min_price: Distribution,
    /// What executing a gigafuel costs them, tokens, for the books only; default 0.
    #[serde(default)]
    pub cost: f64,
    /// Stake, tokens; default 500.
    #[serde(default = "default_stake")]
    pub stake: Distribution,
    /// Seconds between looks at the chain; default 12.
    #[serde(default = "default_poll")]
    pub poll_seconds: Distribution,
    /// Second at which each joins; default 0.
    #[serde(default = "nothing")]
    pub joins: Distribution,
    /// Most gwei for a gas; default no limit.
    #[serde(default)]
    pub max_fee_gwei: Option<f64>,
    /// Tokens that the account holds besides; default 0.
    #[serde(default)]
    pub hot: f64,
    /// Second at which somebody else has its key, takes what the account holds and wastes the stake; default never.
    #[serde(default)]
    pub stolen: Option<Distribution>,
    /// Their machines' faults.
    #[serde(default)]
    pub machine: MachineTerms,
}

fn one() -> u32 {
    1
}

fn constant_one() -> Distribution {
    Distribution::Constant(1.0)
}

fn nothing() -> Distribution {
    Distribution::Constant(0.0)
}

fn default_stake() -> Distribution {
    Distribution::Constant(500.0)
}

fn default_poll() -> Distribution {
    Distribution::Constant(12.0)
}

/// What a group of requesters is up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequesterStrategy {
    /// Serves inputs, fetches outputs, accepts what is in order.
    #[default]
    Honest,
    /// Serves no inputs.
    Withholding,
    /// Never accepts, and rejects what it can where there is no arbiter.
    NonPaying,
    /// Is not there any more once it has posted and served the inputs.
    Vanishing,
    /// Demands a chunk of every result; where there is an arbiter, of every other one, and challenges the rest.
    Spamming,
    /// Its program's results are chance.
    NonDeterministic,
}

/// When jobs come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Independently, so many an hour on average, for each requester.
    PoissonPerHour(f64),
    /// At these seconds, for each requester.
    At(Vec<f64>),
}

/// A group of requesters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RequesterTerms {
    /// Name of the group.
    pub name: String,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// What they are up to; default honest.
    #[serde(default)]
    pub strategy: RequesterStrategy,
    /// Tokens that each has; default 1,000,000.
    #[serde(default = "million")]
    pub tokens: f64,
    /// When jobs come.
    pub arrivals: Arrivals,
    /// What the jobs are.
    #[serde(default)]
    pub job: JobTerms,
    /// Share of tasks that they execute themselves, to compare; default 0.
    #[serde(default)]
    pub check_share: f64,
    /// Seconds after which what nobody has leased is cancelled; default an hour.
    #[serde(default = "patience")]
    pub patience_seconds: u64,
    /// Seconds between looks at the chain; default 12.
    #[serde(default = "default_poll")]
    pub poll_seconds: Distribution,
}

fn million() -> f64 {
    1_000_000.0
}

fn patience() -> u64 {
    3_600
}

/// What a group's jobs are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct JobTerms {
    /// Tasks; default 20.
    pub tasks: Distribution,
    /// Tasks in a batch; default 5.
    pub batch_size: Distribution,
    /// Most gigafuel of a task; tasks burn a quarter to three quarters of it. Default 10.
    pub fuel: Distribution,
    /// Price at the end of the ramp, tokens a gigafuel; default 0.1.
    pub price: Distribution,
    /// Share of it at which the ramp begins; default 1.
    pub start_share: f64,
    /// Seconds of the ramp; default 0.
    pub ramp_seconds: u32,
    /// Seconds of a lease; default 600.
    pub lease_seconds: u32,
    /// Seconds in which a result can be disputed; default 300.
    pub window_seconds: u32,
    /// Kibibytes of program and manifest together; default 200.
    pub program_kib: f64,
    /// Kibibytes of a task's input; default 10.
    pub input_kib: f64,
    /// How results are assured, if several providers execute each batch, or some batches.
    pub assurance: Option<AssuranceTerms>,
}

impl Default for JobTerms {
    fn default() -> Self {
        Self {
            tasks: Distribution::Constant(20.0),
            batch_size: Distribution::Constant(5.0),
            fuel: Distribution::Constant(10.0),
            price: Distribution::Constant(0.1),
            start_share: 1.0,
            ramp_seconds: 0,
            lease_seconds: 600,
            window_seconds: 300,
            program_kib: 200.0,
            input_kib: 10.0,
            assurance: None,
        }
    }
}

/// How results are assured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AssuranceTerms {
    /// Executions of each batch at first.
    pub replicas: u8,
    /// Most executions of a batch.
    pub limit: u8,
    /// Credibility that a result needs.
    pub target: f64,
    /// Share of batches that are audited, with one replica; default 0.
    #[serde(default)]
    pub audit_share: f64,
    /// Checks that a provider must have passed; default 0.
    #[serde(default)]
    pub min_checks: u32,
    /// Seconds in which the lot opens to everybody; default 60.
    #[serde(default = "minute")]
    pub widen_seconds: u32,
    /// Seconds to reveal; default 120.
    #[serde(default = "two_minutes")]
    pub reveal_seconds: u32,
}

fn minute() -> u32 {
    60
}

fn two_minutes() -> u32 {
    120
}

/// What has to come of all runs together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expectations {
    /// Groups that lose tokens on average, what executing costs them counted.
    pub losing: Vec<String>,
    /// Groups that gain.
    pub earning: Vec<String>,
    /// Groups, requesters among them, that lose tokens when what they have is taken together.
    pub losing_together: Vec<Vec<String>>,
    /// Most tokens that any agent of a group loses.
    pub loss_at_most: BTreeMap<String, f64>,
    /// Groups each of whose agents ends with less than one of another group: what executing costs them counted.
    pub worse_off: BTreeMap<String, String>,
    /// Groups of providers that lose no stake.
    pub unharmed: Vec<String>,
    /// Most wrong results among those that were paid by others than groups that lose together, as a share.
    pub wrong_share: Option<f64>,
    /// Least share of posted batches that are paid for.
    pub settled_share: Option<f64>,
    /// Most share of posted batches that are paid for.
    pub settled_share_most: Option<f64>,
    /// Most calls that would have failed, and were not sent, among all that agents wanted to send.
    pub vain_share: Option<f64>,
    /// The same of those alone whose sender, a provider, had seen the latest block, and so should have known.
    pub foreseeable_share: Option<f64>,
    /// Most demands for outputs that nobody answered, as a share of all.
    pub unanswered_share: Option<f64>,
    /// Most calls left to whoever may make them when everything was to be over, for each batch.
    pub left_share: Option<f64>,
}
