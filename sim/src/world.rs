//! One market under one seed: a queue of events, the chain, and everybody on it.

use std::collections::{BTreeMap, HashMap};

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolCall,
};
use conun_agent::core::{BatchId, Core, Event, Policy};
use conun_bindings::abi::ProviderRegistry;

use crate::{
    agent::{Agent, Disk, Part, Provider, Requester, Wallet, Who, address, millis, payout},
    books::Books,
    error::Violation,
    faults::Fault,
    invariants::{Invariants, Pace},
    machine::Machine,
    node::{EPOCH, Node, token_wei},
    queue::Queue,
    random::Random,
    scenario::{Arbiter, Arrivals, ProviderStrategy, ProviderTerms, Scenario},
    trace::Trace,
    truth::{Truth, Variant},
};

/// Something that is planned.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The next block is due.
    Block,
    /// An agent joins.
    Join(Who),
    /// An agent does or hears something in that life.
    Of(Who, u32, Doing),
    /// A fault begins or ends.
    Fault(Fault),
    /// A provider's key is stolen.
    Theft(Who),
}

/// What an agent does or hears.
#[derive(Debug)]
pub(crate) enum Doing {
    /// Looks at the chain, as it does from time to time.
    Poll,
    /// Has program and manifest, or not.
    Prepared(B256, Result<(), String>),
    /// Has the inputs of a batch, or not.
    Inputs(BatchId, u64, Result<(), String>),
    /// Has executed a batch.
    Executed(BatchId, u64, Variant, u64),
    /// Reads the hash of a block.
    Hash(u64),
    /// Sends what is next.
    Send,
    /// Hears of the fate of a transaction.
    Receipt(B256),
    /// A transaction is not mined yet.
    Stall(u64, u32),
    /// What it was to send is not sent.
    Failed(String),
    /// Has the outputs of a batch, or not.
    Collected(BatchId, B256, Result<Variant, String>),
    /// Has work.
    Arrival,
    /// Rules on a challenge.
    Rule(B256),
}

/// A whole market.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) scenario: Scenario,
    /// Virtual time, milliseconds since [`EPOCH`].
    pub(crate) now: u64,
    pub(crate) queue: Queue<Happening>,
    pub(crate) pace: Pace,
    pub(crate) trace: Trace,
    pub(crate) node: Node,
    pub(crate) truth: Truth,
    pub(crate) agents: Vec<Agent>,
    pub(crate) by_address: HashMap<Address, Who>,
    pub(crate) invariants: Invariants,
    pub(crate) books: Books,
    pub(crate) chance: Chance,
    /// No new jobs and no new faults any more.
    pub(crate) is_ending: bool,
    /// Base fee is this many times the usual one.
    pub(crate) fee_factor: f64,
    /// Whose transactions blocks leave out.
    pub(crate) censored: Vec<Address>,
    /// Blocks until the next re-org.
    pub(crate) reorg_in: u64,
    /// Endpoint of honest agents.
    pub(crate) agents_feed: usize,
    /// Endpoint that tells the truth at once: for the books.
    pub(crate) honest_feed: usize,
    /// When each job was posted, and whether its results are chance.
    pub(crate) posted: BTreeMap<B256, (u64, bool)>,
    /// Names that are left for those who come back.
    pub(crate) spare: std::ops::Range<Who>,
}

/// Streams of chance that belong to nobody.
#[derive(Debug)]
pub(crate) struct Chance {
    pub(crate) chain: Random,
    pub(crate) network: Random,
    pub(crate) faults: Random,
}

impl World {
    /// Sets the stage: contracts deployed, everybody funded, providers of the first hour registered.
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Self {
        let requesters: u32 = scenario.requesters.iter().map(|group| group.count).sum();
        let providers: u32 = scenario.providers.iter().map(|group| group.count).sum();
        let arbiter = (requesters + providers) as usize;
        let spare = arbiter + 1..arbiter + 1 + 2 * providers as usize;
        let accounts: Vec<_> = (0..spare.end).flat_map(|who| [address(who), payout(who)]).collect();
        let mut node = Node::new(&scenario.chain, &accounts, address(arbiter));
        let honest_feed = node.open_feed(0, None);
        let mut world = Self {
            seed,
            scenario: scenario.clone(),
            now: 0,
            queue: Queue::new(),
            pace: Pace::default(),
            trace: Trace::default(),
            invariants: Invariants::new(&node),
            node,
            truth: Truth::new(scenario.real_vm.then(Machine::get)),
            agents: Vec::new(),
            by_address: HashMap::new(),
            books: Books::new(scenario),
            chance: Chance {
                chain: Random::new(seed, "chain", 0),
                network: Random::new(seed, "network", 0),
                faults: Random::new(seed, "faults", 0),
            },
            is_ending: false,
            fee_factor: 1.0,
            censored: Vec::new(),
            reorg_in: 0,
            honest_feed,
            agents_feed: honest_feed,
            posted: BTreeMap::new(),
            spare,
        };
        world.populate();
        world.node.settle_stage();
        world.register_first();
        world.invariants.begin(world.node.chain.height());
        world.plan_faults();
        world.queue.plan(0, Happening::Block);
        world
    }

    fn populate(&mut self) {
        let scenario = self.scenario.clone();
        // Who sees the same shares an endpoint.
        self.agents_feed = match scenario.chain.confirmations {
            0 => self.honest_feed,
            confirmations => self.node.open_feed(confirmations, None),
        };
        let feeds = [self.agents_feed];
        for (group, terms) in scenario.requesters.iter().enumerate() {
            for _ in 0..terms.count {
                let who = self.add(group, feeds[0], token_wei(terms.tokens), |random| {
                    let requester = Requester {
                        strategy: terms.strategy,
                        terms: group,
                        backlog: Default::default(),
                        posting: None,
                        jobs: BTreeMap::new(),
                        nonce: 0,
                    };
                    (Part::Requester(Box::new(requester)), millis(&terms.poll_seconds, random))
                });
                self.agents[who].up = true;
                self.start_polling(who);
                self.plan_arrivals(who, &terms.arrivals);
            }
        }
        for (group, terms) in scenario.providers.iter().enumerate() {
            for _ in 0..terms.count {
                let who = self.add_provider(scenario.requesters.len() + group, terms, feeds[0]);
                if let Some(lies) = &scenario.chain.lies
                    && self.chance.faults.chance(lies.share)
                {
                    let random = Random::new(self.seed, "lies", who as u64);
                    self.agents[who].feed = self.node.open_feed(scenario.chain.confirmations, Some((lies, random)));
                }
                let joins = (terms.joins.draw(&mut self.agents[who].random) * 1_000.0) as u64;
                if joins > 0 {
                    self.queue.plan(joins, Happening::Join(who));
                }
                self.agents[who].up = joins == 0;
            }
        }
        if scenario.chain.arbiter != Arbiter::None {
            let who = self.add(usize::MAX, feeds[0], U256::ZERO, |_| (Part::Arbiter(Default::default()), 12_000));
            self.agents[who].up = true;
            self.start_polling(who);
        }
    }

    /// Adds an agent, and lets the transactions that fund it wait for a block.
    fn add(&mut self, group: usize, feed: usize, tokens: U256, part: impl FnOnce(&mut Random) -> (Part, u64)) -> Who {
        let who = self.agents.len();
        let mut random = Random::new(self.seed, "agent", who as u64);
        let (part, poll_ms) = part(&mut random);
        let bits_per_ms = self.scenario.network.megabits.draw(&mut random) * 1_000.0;
        let address = address(who);
        self.node.fund(address, tokens);
        self.by_address.insert(address, who);
        self.invariants.watch(address);
        self.invariants.watch(payout(who));
        self.agents.push(Agent {
            address,
            group,
            wallet: Wallet::default(),
            random,
            feed,
            view: None,
            bits_per_ms,
            poll_ms,
            up: false,
            cut_off: false,
            asleep_until: 0,
            life: 0,
            began_with: tokens,
            part,
        });
        who
    }

    /// Adds a provider of a group.
    pub(crate) fn add_provider(&mut self, group: usize, terms: &ProviderTerms, feed: usize) -> Who {
        let mut drawn = Random::new(self.seed, "machine", self.agents.len() as u64);
        let stake = token_wei(terms.stake.draw(&mut drawn).max(self.scenario.chain.min_stake));
        let who = self.agents.len();
        self.add(group, feed, stake + token_wei(terms.hot), |random| {
            let policy = Policy {
                min_price: token_wei(terms.min_price.draw(&mut drawn)).to::<u128>().max(1),
                max_memory_bytes: u64::MAX,
                max_fuel: u64::MAX,
                workers: (terms.workers.draw(&mut drawn) as u32).max(1),
                ..Policy::default()
            };
            let provider = Provider {
                core: Core::new(address(who), policy.clone()),
                policy,
                strategy: terms.strategy,
                fuel_per_ms: (terms.speed.draw(&mut drawn) * 1e6).max(1.0),
                max_fee: terms.max_fee_gwei.map(|gwei| (gwei * 1e9) as u128),
                stake,
                disk: Disk::default(),
                executing: BTreeMap::new(),
                executions: 0,
                prepared: Default::default(),
                copying: Default::default(),
                done: 0,
                remembers: true,
                retired: false,
            };
            (Part::Provider(Box::new(provider)), millis(&terms.poll_seconds, random))
        })
    }

    /// Lets a provider's registration wait for a block.
    pub(crate) fn stage_registration(&mut self, who: Who) {
        let agent = &mut self.agents[who];
        let (account, Part::Provider(provider)) = (agent.address, &agent.part) else { return };
        let call = ProviderRegistry::registerCall {
            payout: payout(who),
            contact: ProviderRegistry::Contact { endpoint: alloy::primitives::keccak256(account), hint: String::new() },
            stake: provider.stake,
            permit: ProviderRegistry::Permit::default(),
        };
        self.node.stage(account, self.node.contracts.providers, call.abi_encode().into());
    }

    fn register_first(&mut self) {
        let first: Vec<_> = (0..self.agents.len()).filter(|who| self.agents[*who].up).collect();
        for who in &first {
            self.stage_registration(*who);
        }
        self.node.settle_stage();
        for who in first {
            if matches!(self.agents[who].part, Part::Provider(_)) {
                self.start_polling(who);
            }
        }
    }

    /// Plans the first look at the chain at a moment of the agent's own.
    pub(crate) fn start_polling(&mut self, who: Who) {
        let agent = &mut self.agents[who];
        let offset = (agent.random.unit() * agent.poll_ms as f64) as u64;
        self.plan_for(who, offset, Doing::Poll);
    }

    fn plan_arrivals(&mut self, who: Who, arrivals: &Arrivals) {
        match arrivals {
            Arrivals::At(seconds) => {
                for second in seconds {
                    self.queue.plan((second * 1_000.0) as u64, Happening::Of(who, 0, Doing::Arrival));
                }
            }
            Arrivals::PoissonPerHour(rate) => self.plan_arrival(who, *rate),
        }
    }

    /// Plans the next job of a requester whose jobs come independently.
    pub(crate) fn plan_arrival(&mut self, who: Who, per_hour: f64) {
        if per_hour > 0.0 {
            let pause = self.agents[who].random.exponential(3_600.0 / per_hour);
            self.plan_for(who, (pause * 1_000.0) as u64, Doing::Arrival);
        }
    }

    /// Plans something for an agent's present life, `after` milliseconds from now.
    pub(crate) fn plan_for(&mut self, who: Who, after: u64, doing: Doing) {
        let life = self.agents[who].life;
        self.queue.plan(self.now + after, Happening::Of(who, life, doing));
    }

    /// UNIX time.
    pub(crate) fn unix(&self) -> u64 {
        EPOCH + self.now / 1_000
    }

    /// Plays until `until`, a millisecond, or until `enough` says so after a block.
    pub(crate) fn play(&mut self, until: u64, mut enough: impl FnMut(&mut Self) -> bool) -> Result<(), Violation> {
        while let Some((at, what)) = self.queue.next() {
            if at > until {
                self.queue.plan(at, what);
                break;
            }
            self.now = at;
            self.check_pace()?;
            let is_block = matches!(what, Happening::Block);
            self.happen(what)?;
            if is_block && enough(self) {
                return Ok(());
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn happen(&mut self, what: Happening) -> Result<(), Violation> {
        match what {
            Happening::Block => return self.block(),
            Happening::Join(who) => self.join(who),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Theft(who) => return self.theft(who),
            Happening::Of(who, life, doing) => {
                let agent = &self.agents[who];
                let lives = matches!(doing, Doing::Arrival) || (agent.life == life && agent.up);
                if !lives {
                    return Ok(());
                }
                if agent.asleep_until > self.now {
                    // Everything stands still, and goes on afterwards.
                    self.queue.plan(agent.asleep_until, Happening::Of(who, life, doing));
                    return Ok(());
                }
                let doing = self.cut(who, doing);
                return self.doing(who, doing);
            }
        }
        Ok(())
    }

    fn doing(&mut self, who: Who, doing: Doing) -> Result<(), Violation> {
        match doing {
            Doing::Poll => {
                self.poll(who)?;
                let pause = self.agents[who].poll_ms;
                self.plan_for(who, pause, Doing::Poll);
            }
            Doing::Prepared(job, Ok(())) => self.step(who, Event::Prepared(job))?,
            Doing::Prepared(job, Err(text)) => self.step(who, Event::Unavailable(job, text))?,
            Doing::Inputs(batch, run, got) => self.inputs(who, batch, run, got)?,
            Doing::Executed(batch, run, variant, took) => self.executed(who, batch, run, variant, took)?,
            Doing::Hash(number) => {
                let hash = self.node.chain.hash_of(number).filter(|_| !self.agents[who].cut_off);
                self.step(who, Event::BlockHash(number, hash))?;
            }
            Doing::Send => self.send_next(who)?,
            Doing::Receipt(hash) => self.receipt(who, hash)?,
            Doing::Stall(nonce, attempts) => self.stall(who, nonce, attempts)?,
            Doing::Failed(text) => self.step(who, Event::NotSent(text))?,
            Doing::Collected(batch, root, got) => self.collected(who, batch, root, got),
            Doing::Arrival => self.arrival(who),
            Doing::Rule(case) => self.rule(who, case),
        }
        Ok(())
    }

    /// Looks at the chain, and goes on from what is seen.
    pub(crate) fn poll(&mut self, who: Who) -> Result<(), Violation> {
        if self.agents[who].cut_off {
            return Ok(());
        }
        let feed = self.agents[who].feed;
        match self.node.look(feed) {
            Ok(view) => {
                self.check_compared(who, &view)?;
                self.agents[who].view = Some(view);
                match self.agents[who].part {
                    Part::Provider(_) => self.provide(who),
                    Part::Requester(_) => {
                        self.request(who);
                        Ok(())
                    }
                    Part::Arbiter(_) => {
                        self.look_for_challenges(who);
                        Ok(())
                    }
                }
            }
            Err(text) => {
                self.note(who, format_args!("cannot see the chain: {text}"));
                Ok(())
            }
        }
    }

    fn join(&mut self, who: Who) {
        self.agents[who].up = true;
        self.note(who, "joins");
        self.stage_registration(who);
        self.start_polling(who);
    }

    /// A sleeper that was found out comes back under a new name, if there is one left.
    pub(crate) fn whitewash(&mut self, who: Who) {
        let group = self.agents[who].group;
        let terms = self.scenario.providers[group - self.scenario.requesters.len()].clone();
        if !matches!(terms.strategy, ProviderStrategy::Sleeper { .. }) || self.agents.len() >= self.spare.end {
            return;
        }
        let feed = self.agents[who].feed;
        let new = self.add_provider(group, &terms, feed);
        self.note(who, format_args!("comes back as {new}"));
        // Once it is funded.
        self.queue.plan(self.now + 30_000, Happening::Join(new));
    }

    pub(crate) fn note(&mut self, who: Who, what: impl std::fmt::Display) {
        self.trace.note(self.now, format_args!("#{who}"), what);
    }
}
