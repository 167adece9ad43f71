//! Requesters: post, fetch, accept, dispute, cancel; and the arbiter. Not the agent's own requester, which has no pure core.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use conun_agent::chain::{BallotStage, BatchStage, Claim, Index, JobEntry};
use conun_bindings::{
    Contracts,
    abi::{
        Disputes,
        JobRegistry::{self, Job, Spec},
        ReplicaRegistry::{self, Assurance, ReplicatedJob},
    },
    job, replicas,
};

use crate::{
    agent::{OwnJob, Part, Purpose, Who},
    keeper::{self, Errand, request},
    machine::Machine,
    node::token_wei,
    scenario::{Arbiter, Arrivals, JobTerms, ProviderStrategy, RequesterStrategy},
    truth::Variant,
    world::{Doing, World},
};

/// Attempts to fetch outputs before they are demanded on chain.
const TRIES: u32 = 4;

/// Batches accepted in one transaction.
const MAX_ACCEPTED: usize = 16;

/// Seconds that a requester leaves to others what anybody may do.
const GRACE: u64 = 120;

/// Seconds from the post until a lot may begin: the post itself may take a while.
const LOT_SLACK: u64 = 300;

/// Milliseconds in which the arbiter executes a task again.
const RULING_MS: u64 = 60_000;

/// Parts in 10^9 and 10^4.
const CERTAIN: f64 = 1e9;
const BPS: f64 = 1e4;

/// A result that waits in its window: root, manifest, and who has it.
type Found = (B256, B256, Vec<Address>);

impl World {
    /// A requester has work.
    pub(crate) fn arrival(&mut self, who: Who) {
        if self.is_ending {
            return;
        }
        let now = self.now;
        let Some(requester) = self.agents[who].requester() else { return };
        requester.backlog.push_back(now);
        let terms = requester.terms;
        if let Arrivals::PoissonPerHour(rate) = self.scenario.requesters[terms].arrivals {
            self.plan_arrival(who, rate);
        }
    }

    /// A requester has looked at the chain.
    pub(crate) fn request(&mut self, who: Who) {
        let me = self.agents[who].address;
        let Some(view) = self.agents[who].view.clone() else { return };
        let (now, index) = (view.head.timestamp, &view.index);
        let Some(requester) = self.agents[who].requester() else { return };
        for (id, own) in &mut requester.jobs {
            let Some(entry) = index.job(id) else { continue };
            if own.seen == 0 {
                own.seen = now;
            }
            own.leased |= entry.batches.iter().any(|batch| batch.stage != BatchStage::Open)
                || entry.ballots().any(|ballot| ballot.stage != BallotStage::Open);
            own.over = entry.is_over() && !index.cases.values().any(|case| case.job == *id && !case.claimed);
        }
        let strategy = requester.strategy;
        let fetches = !matches!(strategy, RequesterStrategy::NonPaying | RequesterStrategy::Vanishing);
        if fetches {
            self.collect(who, index, now);
        }
        let wallet = &self.agents[who].wallet;
        if wallet.is_busy() || view.head.number < wallet.latest_block {
            return;
        }
        if let Some((kind, request)) = self.errand(who, me, index, now) {
            self.send(who, kind, request, Purpose::Errand);
        }
    }

    /// The next thing to send, the most urgent first.
    fn errand(&mut self, who: Who, me: Address, index: &Index, now: u64) -> Option<Errand> {
        let contracts = self.node.contracts;
        let has_arbiter = self.scenario.chain.arbiter != Arbiter::None;
        let requester = self.agents[who].requester()?;
        let (strategy, patience) = (requester.strategy, requester.terms);
        // A post that came to nothing is made again.
        if let Some(posting) = requester.posting.take()
            && index.job(&posting).is_none()
        {
            requester.jobs.remove(&posting);
            requester.backlog.push_front(0);
        }
        if let Some(due) = requester.backlog.pop_front() {
            return self.post(who, me, due);
        }
        if strategy == RequesterStrategy::Vanishing {
            return None;
        }
        let patience = self.scenario.requesters[patience].patience_seconds;
        let is_ending = self.is_ending;
        let requester = self.agents[who].requester()?;
        let open: Vec<_> = requester.jobs.iter().filter(|(_, own)| !own.over).map(|(id, _)| *id).collect();
        let claims = |case: &(&B256, &conun_agent::chain::CaseEntry)| {
            let claimant = if let Claim::Wrong(challenger) = case.1.claim { challenger } else { me };
            let mine = index.job(&case.1.job).is_some_and(|entry| entry.job.requester == me) || claimant == me;
            mine && claimant == me && case.1.concluded && !case.1.claimed && (case.1.open || case.1.won)
        };
        if let Some((case, _)) = index.cases.iter().find(claims) {
            return Some(("claim", request(contracts.disputes, Disputes::claimCall { caseId: *case })));
        }
        for id in open {
            let Some(entry) = index.job(&id) else { continue };
            let own = requester.jobs.get_mut(&id)?;
            let dispute = dispute(&contracts, index, (id, entry), own, now, (strategy, has_arbiter));
            if dispute.is_some() {
                return dispute;
            }
            let pays = matches!(strategy, RequesterStrategy::Honest | RequesterStrategy::NonDeterministic);
            if pays && let Some(errand) = accept(&contracts, index, entry, own, now) {
                return Some(errand);
            }
            let tired = own.seen != 0 && now >= own.seen + patience;
            if keeper::has_open(entry)
                && ((tired && !own.leased) || now >= own.seen + 4 * patience || is_ending && tired)
            {
                return Some(keeper::cancel(&contracts, entry));
            }
            // What nobody else has an interest in.
            let due = |number| keeper::due(&contracts, index, id, number, now.saturating_sub(GRACE));
            if let Some(errand) = (0..entry.batch_count() as u32).find_map(due)
                && (entry.assured.is_some() || entry.cancelled || errand.0 != "expire")
            {
                return Some(errand);
            }
        }
        None
    }

    fn post(&mut self, who: Who, me: Address, due: u64) -> Option<Errand> {
        let contracts = self.node.contracts;
        let unix = self.unix();
        let agent = &mut self.agents[who];
        let Part::Requester(requester) = &mut agent.part else { return None };
        let terms = self.scenario.requesters[requester.terms].job.clone();
        requester.nonce += 1;
        let nonce = requester.nonce;
        let is_chance = requester.strategy == RequesterStrategy::NonDeterministic;
        let (job, spec) = make_job(&terms, me, nonce, unix, self.truth.machine, &mut agent.random);
        let contact = JobRegistry::Contact { endpoint: keccak256(me), hint: String::new() };
        let (id, errand) = match &terms.assurance {
            None => {
                let id = job::id(contracts.chain_id, contracts.jobs, &job);
                let call = JobRegistry::postCall { job, spec, contact, permit: JobRegistry::Permit::default() };
                (id, request(contracts.jobs, call))
            }
            Some(assurance) => {
                let assurance = Assurance {
                    replicas: assurance.replicas,
                    limit: assurance.limit,
                    target: (assurance.target * CERTAIN) as u32,
                    auditBps: (assurance.audit_share * BPS) as u16,
                    minChecks: assurance.min_checks,
                    widenSeconds: assurance.widen_seconds,
                    revealSeconds: assurance.reveal_seconds,
                };
                let job = ReplicatedJob { job: job.into(), assurance };
                let id = replicas::id(contracts.chain_id, contracts.replicas, &job);
                let contact = ReplicaRegistry::Contact { endpoint: contact.endpoint, hint: contact.hint };
                let permit = ReplicaRegistry::Permit::default();
                (id, request(contracts.replicas, ReplicaRegistry::postCall { job, spec: spec.into(), contact, permit }))
            }
        };
        requester.posting = Some(id);
        requester.jobs.insert(id, OwnJob::default());
        let at = if due == 0 { self.now } else { due };
        self.posted.insert(id, (at, is_chance));
        self.note(who, format_args!("has job {id}"));
        Some(("post", errand))
    }

    /// Begins to fetch outputs that are there and not here.
    fn collect(&mut self, who: Who, index: &Index, now: u64) {
        let Some(requester) = self.agents[who].requester() else { return };
        let mut wanted = Vec::new();
        for (id, own) in requester.jobs.iter_mut().filter(|(_, own)| !own.over) {
            let Some(entry) = index.job(id) else { continue };
            for number in 0..entry.batch_count() as u32 {
                let Some((root, outputs, makers)) = found(index, entry, number, now) else { continue };
                let known = own.verified.get(&number) == Some(&root)
                    || own.wrong.get(&number).is_some_and(|(wrong, _)| *wrong == root);
                if known || own.tries.get(&number).copied().unwrap_or(0) >= TRIES || !own.collecting.insert(number) {
                    continue;
                }
                wanted.push(((*id, number), root, outputs, makers, job::tasks_in(&entry.job, number).len()));
            }
        }
        for (batch, root, outputs, makers, tasks) in wanted {
            let (after, got) = self.outputs_from(who, batch, outputs, &makers, tasks);
            self.plan_for(who, after, Doing::Collected(batch, root, got));
        }
    }

    /// Fetches a batch's outputs from one of its makers.
    fn outputs_from(
        &mut self,
        who: Who,
        batch: (B256, u32),
        outputs: B256,
        makers: &[Address],
        tasks: usize,
    ) -> (u64, Result<Variant, String>) {
        let mut after = 0;
        for maker in makers {
            let Some(from) = self.by_address.get(maker).copied() else { continue };
            let Part::Provider(provider) = &self.agents[from].part else { continue };
            // Who only copied a hash has nothing to serve.
            let has = provider.disk.results.get(&batch).is_some_and(|(record, _)| record.outputs == outputs)
                && !matches!(provider.strategy, ProviderStrategy::Withholding | ProviderStrategy::Copying);
            let (took, got) = if has {
                self.transfer(from, who, 1_000.0 + 200.0 * tasks as f64)
            } else {
                (1_000, Err("it has not got it".to_owned()))
            };
            after += took;
            if got.is_ok() {
                return (after, self.truth.variant(outputs).ok_or_else(|| "no such manifest".to_owned()));
            }
        }
        (after.max(1), Err("nobody lets it have the outputs".to_owned()))
    }

    /// Outputs have come, or not: some of them are executed again, to compare.
    pub(crate) fn collected(&mut self, who: Who, (id, number): (B256, u32), root: B256, got: Result<Variant, String>) {
        let is_chance = self.posted.get(&id).is_some_and(|(_, chance)| *chance);
        let agent = &mut self.agents[who];
        let Some(view) = agent.view.clone() else { return };
        let Part::Requester(requester) = &mut agent.part else { return };
        let share = self.scenario.requesters[requester.terms].check_share;
        let Some(own) = requester.jobs.get_mut(&id) else { return };
        own.collecting.remove(&number);
        let Some(entry) = view.index.job(&id) else { return };
        match got {
            Err(_) => *own.tries.entry(number).or_default() += 1,
            Ok(variant) => {
                let mut tasks = job::tasks_in(&entry.job, number);
                let truth = &mut self.truth;
                let wrong = tasks.find(|task| {
                    agent.random.chance(share) && !is_chance && truth.is_wrong((id, number), &entry.job, *task, variant)
                });
                match wrong {
                    Some(task) => drop(own.wrong.insert(number, (root, task))),
                    None => drop(own.verified.insert(number, root)),
                }
            }
        }
        let (verified, wrong) = (own.verified.contains_key(&number), own.wrong.contains_key(&number));
        let text = if wrong {
            "finds wrong"
        } else if verified {
            "has the outputs of"
        } else {
            "cannot have the outputs of"
        };
        self.note(who, format_args!("{text} batch {number} of {id}"));
    }

    /// The arbiter takes note of new challenges.
    pub(crate) fn look_for_challenges(&mut self, who: Who) {
        if self.scenario.chain.arbiter != Arbiter::Honest {
            return;
        }
        let Some(view) = self.agents[who].view.clone() else { return };
        let Part::Arbiter(known) = &mut self.agents[who].part else { return };
        let open = view.index.cases.iter().filter(|(_, case)| case.open && matches!(case.claim, Claim::Wrong(_)));
        let new: Vec<_> = open.map(|(id, _)| *id).filter(|id| known.insert(*id)).collect();
        for case in new {
            self.plan_for(who, RULING_MS, Doing::Rule(case));
        }
    }

    /// The arbiter rules, once nothing else of its is under way.
    pub(crate) fn rule(&mut self, who: Who, case: B256) {
        let Some(view) = self.agents[who].view.clone() else { return };
        let Some(entry) = view.index.cases.get(&case).filter(|entry| entry.open) else { return };
        if self.agents[who].wallet.is_busy() {
            return self.plan_for(who, RULING_MS / 10, Doing::Rule(case));
        }
        let Some(job) = view.index.job(&entry.job) else { return };
        let makers = standing_result(&view.index, job, entry.batch);
        let (_, outputs, makers) = makers.unwrap_or_default();
        let upheld = self.truth.variant(outputs).is_none_or(|variant| variant != 0);
        let defender = makers.first().copied().unwrap_or(job.job.requester);
        self.note(who, format_args!("rules {case}: {}", if upheld { "wrong" } else { "right" }));
        let call = Disputes::ruleCall { caseId: case, upheld, defender };
        self.send(who, "rule", request(self.node.contracts.disputes, call), Purpose::Errand);
        // Seen again later, should this come to nothing.
        self.plan_for(who, 20 * RULING_MS, Doing::Rule(case));
    }
}

fn make_job(
    terms: &JobTerms,
    requester: Address,
    nonce: u64,
    now: u64,
    machine: Option<&Machine>,
    random: &mut crate::random::Random,
) -> (Job, Spec) {
    let tasks = (terms.tasks.draw(random) as u32).max(1);
    let batch_size = (terms.batch_size.draw(random) as u32).clamp(1, tasks);
    let max_price = token_wei(terms.price.draw(random)).to::<u128>().max(1);
    let start_price = if terms.ramp_seconds == 0 {
        max_price
    } else {
        ((max_price as f64 * terms.start_share) as u128).clamp(1, max_price)
    };
    let name = |what: &str| keccak256([what.as_bytes(), requester.as_slice(), &nonce.to_be_bytes()].concat());
    let spec = match machine {
        Some(machine) => machine.spec(requester, nonce, tasks),
        None => Spec {
            program: name("program"),
            programRoot: name("program root"),
            inputs: name("inputs"),
            inputRoot: name("input root"),
            memoryLimit: 64 << 20,
            category: 0,
        },
    };
    let widen =
        terms.assurance.as_ref().filter(|assurance| assurance.limit > 1).map(|assurance| assurance.widen_seconds);
    let job = Job {
        requester,
        nonce,
        spec: job::spec_hash(&spec),
        taskCount: tasks,
        batchSize: batch_size,
        fuelLimit: ((terms.fuel.draw(random) * 1e9) as u64).max(8),
        startPrice: start_price,
        maxPrice: max_price,
        rampStart: (now + widen.map_or(0, |widen| u64::from(widen) + LOT_SLACK)) as u32,
        rampSeconds: terms.ramp_seconds,
        leaseSeconds: terms.lease_seconds,
        windowSeconds: terms.window_seconds,
    };
    (job, spec)
}

/// The result of a batch that is in its window.
fn found(index: &Index, entry: &JobEntry, number: u32, now: u64) -> Option<Found> {
    let in_window = match entry.ballot(number) {
        Some((_, ballot)) => ballot.stage == BallotStage::Revealing && now < ballot.final_at(&entry.job),
        None => {
            let batch = entry.batches.get(number as usize)?;
            batch.stage == BatchStage::Submitted && now < batch.deadline
        }
    };
    if in_window {
        standing_result(index, entry, number).filter(|_| believed_now(index, entry, number, now))
    } else {
        None
    }
}

fn believed_now(index: &Index, entry: &JobEntry, number: u32, now: u64) -> bool {
    let Some((assurance, ballot)) = entry.ballot(number) else { return true };
    ballot.believed(assurance, &index.rules, now).is_some()
}

/// The result of a batch that stands, disputed or not.
pub(crate) fn standing_result(index: &Index, entry: &JobEntry, number: u32) -> Option<Found> {
    match entry.ballot(number) {
        Some((assurance, ballot)) => {
            let best = ballot.count(assurance, &index.rules)?.best;
            let makers: Vec<_> = ballot.makers(best).collect();
            let outputs = makers.first()?.1;
            Some((best.0, outputs.into(), makers.into_iter().map(|(maker, _)| maker).collect()))
        }
        None => {
            let batch = entry.batches.get(number as usize)?;
            Some((batch.root, batch.outputs.into(), vec![batch.provider]))
        }
    }
}

/// Registry and ABI-encoded arguments of its `freeze`.
fn standing(contracts: &Contracts, entry: &JobEntry, number: u32) -> Option<(Address, Bytes)> {
    use alloy::sol_types::SolCall as _;
    match (entry.replicated(), entry.ballot(number)) {
        (Some(job), Some((_, ballot))) => {
            let call = ReplicaRegistry::freezeCall { job, tally: ballot.tally(number) };
            Some((contracts.replicas, call.abi_encode()[4..].to_vec().into()))
        }
        _ => {
            let given = entry.batches.get(number as usize)?.submission(number);
            let call = JobRegistry::freezeCall { job: entry.job.clone(), given };
            Some((contracts.jobs, call.abi_encode()[4..].to_vec().into()))
        }
    }
}

/// What speaks against a result, as far as the requester's strategy has it.
fn dispute(
    contracts: &Contracts,
    index: &Index,
    (id, entry): (B256, &JobEntry),
    own: &mut OwnJob,
    now: u64,
    (strategy, has_arbiter): (RequesterStrategy, bool),
) -> Option<Errand> {
    for number in 0..entry.batch_count() as u32 {
        let Some((root, _, _)) = found(index, entry, number, now) else { continue };
        if own.disputed.get(&number) == Some(&root) {
            continue;
        }
        let first = job::tasks_in(&entry.job, number).start;
        let wrong = own.wrong.get(&number).filter(|(wrong, _)| *wrong == root).map(|(_, task)| *task);
        let spams = strategy == RequesterStrategy::Spamming;
        let refuses = strategy == RequesterStrategy::NonPaying;
        let withheld =
            own.tries.get(&number).is_some_and(|tries| *tries >= TRIES) && !own.verified.contains_key(&number);
        // Of every other result it demands a chunk.
        let challenged = if (spams && number.is_multiple_of(2)) || refuses { Some(first) } else { wrong };
        let errand = if let Some(task) = challenged
            && has_arbiter
        {
            let (registry, standing) = standing(contracts, entry, number)?;
            let permit = Disputes::Permit::default();
            let call = Disputes::challengeCall { registry, standing, task, commitment: keccak256(id), permit };
            Some(("challenge", request(contracts.disputes, call)))
        } else if (wrong.is_some() || refuses) && !has_arbiter && entry.assured.is_none() {
            let given = entry.batches.get(number as usize)?.submission(number);
            let call =
                JobRegistry::rejectCall { job: entry.job.clone(), given, permit: JobRegistry::Permit::default() };
            Some(("reject", request(contracts.jobs, call)))
        } else if withheld || spams {
            let (registry, standing) = standing(contracts, entry, number)?;
            let call =
                Disputes::demandCall { registry, standing, task: first, chunk: 0, permit: Disputes::Permit::default() };
            Some(("demand", request(contracts.disputes, call)))
        } else {
            None
        };
        if errand.is_some() {
            own.disputed.insert(number, root);
            return errand;
        }
    }
    None
}

/// Accepts what is verified and, where there is a vote, unanimous.
fn accept(contracts: &Contracts, index: &Index, entry: &JobEntry, own: &OwnJob, now: u64) -> Option<Errand> {
    let ready = (0..entry.batch_count() as u32).filter(|number| {
        let Some((root, _, makers)) = found(index, entry, *number, now) else { return false };
        let unanimous = entry.ballot(*number).is_none_or(|(_, ballot)| makers.len() == ballot.committed());
        unanimous && own.verified.get(number) == Some(&root) && own.disputed.get(number) != Some(&root)
    });
    let ready: Vec<_> = ready.take(MAX_ACCEPTED).collect();
    if ready.is_empty() {
        return None;
    }
    let call = match entry.replicated() {
        Some(job) => {
            let tallies = ready.iter().filter_map(|number| Some(entry.ballot(*number)?.1.tally(*number))).collect();
            request(contracts.replicas, ReplicaRegistry::acceptCall { job, tallies })
        }
        None => {
            let mut submissions: Vec<_> =
                ready.iter().map(|number| entry.batches[*number as usize].submission(*number)).collect();
            submissions.sort_by_key(|submission| submission.provider);
            request(contracts.jobs, JobRegistry::acceptCall { job: entry.job.clone(), submissions })
        }
    };
    Some(("accept", call))
}

/// Whether a result that was paid is wrong; `None` if nothing was paid.
pub(crate) fn paid_wrong(world: &World, index: &Index, entry: &JobEntry, number: u32) -> Option<bool> {
    let paid = match entry.ballot(number) {
        Some((_, ballot)) => ballot.stage == BallotStage::Settled,
        None => {
            let batch = entry.batches.get(number as usize)?;
            batch.stage == BatchStage::Settled && batch.payment != U256::ZERO
        }
    };
    let (_, outputs, _) = standing_result(index, entry, number).filter(|_| paid)?;
    Some(world.truth.variant(outputs).is_none_or(|variant| variant != 0))
}
