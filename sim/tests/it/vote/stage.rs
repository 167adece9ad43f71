//! The deployed bytecode as the stage of a model: every lease, commit, draw, reveal and settlement is a transaction there, and what the model
//! says of stakes, records and payments is held against the Escrow's words.

use std::collections::HashMap;

use alloy::{
    consensus::TxEip1559,
    primitives::{Address, B256, Bytes, TxKind, U256, keccak256},
    rpc::types::{TransactionReceipt, TransactionRequest},
    sol_types::{SolCall, SolEvent, SolValue},
};
use conun_bindings::{
    Contracts, Rules,
    abi::{
        ConunToken,
        Deployment::Settings,
        Escrow, JobRegistry, ProviderRegistry,
        ReplicaRegistry::{self, Assurance, ReplicatedJob},
    },
    commit::{BoundTree, ResultLeaf, ResultTree},
    deploy::{CREATE2_FACTORY, Plan, TOKEN, standard_settings},
    job, replicas, revert,
};
use conun_chain::{ChainConfig, Clock, SharedChain, dev_accounts};
use conun_sim::vote::{
    market::{Answer, Cast, Ending, Provider, Stage, Who},
    tables,
};
use serde_json::json;

/// UNIX time of the first block.
const EPOCH: u64 = 1_800_000_000;

/// Gas limit of every transaction, and of those that deploy.
const GAS: u64 = 2_000_000;
const DEPLOYING_GAS: u64 = 16_000_000;

const NO_PERMIT: ProviderRegistry::Permit =
    ProviderRegistry::Permit { value: U256::ZERO, deadline: U256::ZERO, v: 0, r: B256::ZERO, s: B256::ZERO };

/// States of a ballot, as the contract numbers them.
const COMMITTING: u8 = 1;
const SETTLED: u8 = 5;
const UNDECIDED: u8 = 6;

/// What the chain has of a job.
struct Posted {
    job: ReplicatedJob,
    id: B256,
    commits: Vec<Commit>,
}

struct Commit {
    provider: Who,
    answer: Answer,
    block: u64,
    /// Others had revealed before.
    late: bool,
    revealed: bool,
}

pub(super) struct Bytecode {
    chain: SharedChain,
    contracts: Contracts,
    requester: Address,
    providers: Vec<Address>,
    now: u64,
    jobs: HashMap<u64, Posted>,
    current: u64,
    /// Token wei that each has withdrawn to stake it anew.
    withdrawn: Vec<U256>,
    /// Jobs that were settled here as the model says.
    pub(super) settled: u64,
    pub(super) reached: Reached,
}

/// How often something happened that does not happen to every job.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reached {
    pub(super) audits: u64,
    pub(super) extra_rounds: u64,
    pub(super) lost_votes: u64,
    pub(super) undecided: u64,
    pub(super) staked_anew: u64,
}

fn settings(rules: &Rules, holder: Address) -> Settings {
    Settings { auditFloorBps: rules.audit_floor_bps, ..standard_settings(holder) }
}

impl Bytecode {
    /// A deployment on which these providers are registered, with the records and stakes that they have in the model.
    pub(super) fn new(rules: &Rules, models: &[Provider]) -> Self {
        let holder = dev_accounts()[0].address();
        let requester = dev_accounts()[1].address();
        let number = |who: Who| Address::from_word(keccak256(format!("provider {who}")));
        let providers: Vec<_> = (0..models.len()).map(number).collect();
        let mut config = ChainConfig { clock: Clock::Manual(EPOCH), ..ChainConfig::default() };
        config.balances.extend(providers.iter().map(|account| (*account, U256::from(1_000 * TOKEN))));
        let chain_id = config.chain_id;
        let plan = Plan::new(settings(rules, holder), B256::ZERO);
        let chain = SharedChain::new(config);
        chain.by_hand();
        let contracts = plan.contracts(chain_id, 1);
        let withdrawn = vec![U256::ZERO; providers.len()];
        let (jobs, current, settled, reached) = (HashMap::new(), 0, 0, Reached::default());
        let mut stage =
            Self { chain, contracts, requester, providers, now: EPOCH, jobs, current, withdrawn, settled, reached };
        for step in &plan.steps {
            stage.block([(holder, step.to, step.calldata.to_vec())]);
        }
        let transfer = |to: Address, tokens: u128| {
            (contracts.token, ConunToken::transferCall { to, value: U256::from(tokens * TOKEN) }.abi_encode())
        };
        // The Escrow has to have what the model's providers have earned.
        for (to, tokens) in [(requester, 1_000_000), (contracts.escrow, 10_000_000)] {
            let (token, call) = transfer(to, tokens);
            stage.block([(holder, token, call)]);
        }
        let approve = ConunToken::approveCall { spender: contracts.escrow, value: U256::MAX }.abi_encode();
        stage.block([(requester, contracts.token, approve.clone())]);
        let register = ProviderRegistry::registerCall {
            payout: Address::ZERO,
            contact: ProviderRegistry::Contact { endpoint: B256::repeat_byte(1), hint: String::new() },
            stake: rules.min_stake,
            permit: NO_PERMIT,
        };
        let of_all = stage.providers.clone();
        stage.block(of_all.iter().map(|provider| {
            let (token, call) = transfer(*provider, 200);
            (holder, token, call)
        }));
        stage.block(of_all.iter().map(|provider| (*provider, contracts.token, approve.clone())));
        stage.block(of_all.iter().map(|provider| {
            let call = ProviderRegistry::registerCall { payout: *provider, ..register.clone() };
            (*provider, contracts.providers, call.abi_encode())
        }));
        of_all.iter().zip(models).for_each(|(provider, model)| stage.set(*provider, model));
        stage
    }

    /// Writes stake, earnings and record into the account's words in the Escrow (contracts/README.md, Storage).
    fn set(&self, provider: Address, model: &Provider) {
        assert_eq!(model.held, U256::ZERO, "everything is settled");
        let first = U256::from_be_bytes(keccak256((provider, U256::ZERO).abi_encode()).0);
        let money = model.earned | model.stake << 88;
        let staked_block = self.chain.slot(self.contracts.escrow, first + U256::from(2)) & U256::from(u32::MAX);
        let record = staked_block | U256::from(model.checks) << 32 | U256::from(model.failed) << 96;
        for (slot, value) in [(1u8, money), (2, record)] {
            let params = json!([self.contracts.escrow, first + U256::from(slot), value]);
            self.chain.handle("anvil_setStorageAt", params).expect("a slot and a value");
        }
        let found = self.balance(provider);
        assert_eq!(
            (found.checks, found.stake.to::<U256>()),
            (model.checks, model.stake),
            "the layout is as written down"
        );
    }

    fn balance(&self, account: Address) -> Escrow::Balance {
        self.read(self.contracts.escrow, &Escrow::balanceOfCall { account })
    }

    fn read<C: SolCall>(&self, to: Address, call: &C) -> C::Return {
        let request = TransactionRequest::default().to(to).input(Bytes::from(call.abi_encode()).into());
        let (answer, _) = self.chain.try_call(request).expect("views do not revert");
        C::abi_decode_returns(&answer).expect("a view answers as its signature says")
    }

    /// Mines these transactions, two seconds after the block before. All have to succeed.
    fn block(&mut self, calls: impl IntoIterator<Item = (Address, Address, Vec<u8>)>) -> Vec<TransactionReceipt> {
        self.now += 2;
        let fee = u128::from(self.chain.next_base_fee()) * 4 + 1;
        for (from, to, input) in calls {
            let nonce = self.chain.next_nonce(from);
            let tx = TxEip1559 {
                chain_id: self.contracts.chain_id,
                nonce,
                gas_limit: if to == CREATE2_FACTORY || to == self.contracts.deployment { DEPLOYING_GAS } else { GAS },
                max_fee_per_gas: fee,
                max_priority_fee_per_gas: 1,
                to: TxKind::Call(to),
                value: U256::ZERO,
                access_list: Default::default(),
                input: input.into(),
            };
            self.chain.queue(from, tx).expect("all have ether and send one after the other");
        }
        let mut receipts = Vec::new();
        loop {
            let mined = self.chain.mine_at(self.now, None, |_, _| false);
            for receipt in &*mined.receipts {
                assert!(receipt.status(), "a transaction failed: {}", self.reason(receipt));
            }
            receipts.extend(mined.receipts.iter().cloned());
            if self.chain.waiting() == 0 {
                return receipts;
            }
        }
    }

    /// Why a transaction failed, or would fail now.
    fn reason(&self, receipt: &TransactionReceipt) -> String {
        let sent = self.chain.handle("eth_getTransactionByHash", json!([receipt.transaction_hash]));
        let sent = sent.expect("it was mined");
        let again = json!([{ "from": sent["from"], "to": sent["to"], "data": sent["input"] }, "pending"]);
        match self.chain.handle("eth_call", again) {
            Ok(_) => format!("{receipt:?}"),
            Err(error) => error.data.map_or("no reason".to_owned(), |data| revert::describe(&data)),
        }
    }

    fn here(&self) -> &Posted {
        &self.jobs[&self.current]
    }

    fn leaf(&self, answer: Answer) -> ResultLeaf {
        let fuel = self.here().job.job.fuelLimit;
        let (root, _) = answer.result(fuel);
        ResultLeaf { index: 0, ok: true, exit_code: 0, output_root: root, output_length: 1, fuel }
    }

    fn tree(&self, answer: Answer) -> ResultTree {
        ResultTree::new(&[self.leaf(answer)]).expect("one leaf makes a tree")
    }

    fn reveal_of(&self, who: Who, answer: Answer) -> ReplicaRegistry::Reveal {
        let provider = self.providers[who];
        let tree = self.tree(answer);
        ReplicaRegistry::Reveal {
            batch: 0,
            provider,
            root: tree.root(),
            fuel: tree.fuel(),
            outputs: keccak256("manifest"),
            bound: BoundTree::new(provider, &[self.leaf(answer)]).root(),
            salt: keccak256(provider),
        }
    }

    /// Reveals what is not; those who came once roots were public show the leaf that was drawn.
    fn reveal(&mut self) {
        // So that the block after the last commit can be read.
        (0..2).for_each(|_| drop(self.block([])));
        let job = self.here().job.clone();
        let mut together = Vec::new();
        let mut calls = Vec::new();
        for commit in self.here().commits.iter().filter(|commit| !commit.revealed) {
            let given = self.reveal_of(commit.provider, commit.answer);
            if commit.late {
                let (provider, leaves) = (self.providers[commit.provider], [self.leaf(commit.answer)]);
                let opening = replicas::opening(provider, &leaves, &self.tree(commit.answer), 0);
                let call = ReplicaRegistry::revealOpenedCall { job: job.clone(), given, opening };
                calls.push((self.requester, self.contracts.replicas, call.abi_encode()));
            } else {
                together.push(given);
            }
        }
        if !together.is_empty() {
            let call = ReplicaRegistry::revealCall { job, reveals: together };
            calls.push((self.requester, self.contracts.replicas, call.abi_encode()));
        }
        self.block(calls);
        let current = self.current;
        let commits = &mut self.jobs.get_mut(&current).expect("it was posted").commits;
        commits.iter_mut().for_each(|commit| commit.revealed = true);
    }

    fn finalise(&mut self, job: u64) -> Vec<TransactionReceipt> {
        self.current = job;
        let posted = self.here();
        let vote = |commit: &Commit| {
            let tree = self.tree(commit.answer);
            let provider = self.providers[commit.provider];
            ReplicaRegistry::Vote { provider, root: tree.root(), fuel: tree.fuel() }
        };
        let mut votes: Vec<_> = posted.commits.iter().map(vote).collect();
        votes.sort_by_key(|vote| vote.provider);
        let tallies = vec![ReplicaRegistry::Tally { batch: 0, votes }];
        let call = ReplicaRegistry::finaliseCall { job: posted.job.clone(), tallies };
        self.block([(self.requester, self.contracts.replicas, call.abi_encode())])
    }

    fn ballot_state(&self) -> u8 {
        let call = ReplicaRegistry::ballotOfCall { jobId: self.here().id, batch: 0 };
        (self.read(self.contracts.replicas, &call) & U256::from(15)).to()
    }

    /// Who lost stake in the model and earned enough stakes anew.
    fn stake_anew(&mut self, who: Who, model: &Provider) {
        let provider = self.providers[who];
        let found = self.balance(provider);
        let missing = model.stake - found.stake.to::<U256>();
        if missing.is_zero() {
            return;
        }
        self.withdrawn[who] += found.earned.to::<U256>();
        let withdraw = ProviderRegistry::withdrawCall { provider }.abi_encode();
        let add = ProviderRegistry::addStakeCall { amount: missing, permit: NO_PERMIT }.abi_encode();
        self.block([(provider, self.contracts.providers, withdraw)]);
        self.block([(provider, self.contracts.providers, add)]);
        self.withdrawn[who] -= missing;
        self.reached.staked_anew += 1;
    }
}

fn event<E: SolEvent>(receipts: &[TransactionReceipt]) -> Option<E> {
    let mut logs = receipts.iter().flat_map(|receipt| receipt.logs());
    logs.find_map(|log| log.log_decode::<E>().ok()).map(|log| log.inner.data)
}

impl Stage for Bytecode {
    fn posted(&mut self, number: u64, assurance: &Assurance) {
        let spec = JobRegistry::Spec {
            program: B256::repeat_byte(1),
            programRoot: B256::repeat_byte(2),
            inputs: B256::repeat_byte(3),
            inputRoot: B256::repeat_byte(4),
            memoryLimit: 65_536,
            category: 0,
        };
        // The next block is two seconds from now; the one after the next is the first with leases.
        let ramp = (self.now + 4) as u32;
        let job = JobRegistry::Job {
            requester: self.requester,
            nonce: number,
            spec: job::spec_hash(&spec),
            rampStart: ramp,
            ..tables::job()
        };
        let job = ReplicatedJob { job: job.into(), assurance: assurance.clone() };
        let call = ReplicaRegistry::postCall {
            job: job.clone(),
            spec: spec.into(),
            contact: ReplicaRegistry::Contact { endpoint: B256::ZERO, hint: String::new() },
            permit: ReplicaRegistry::Permit {
                value: U256::ZERO,
                deadline: U256::ZERO,
                v: 0,
                r: B256::ZERO,
                s: B256::ZERO,
            },
        };
        self.block([(self.requester, self.contracts.replicas, call.abi_encode())]);
        let id = replicas::id(self.contracts.chain_id, self.contracts.replicas, &job);
        self.jobs.insert(number, Posted { job, id, commits: Vec::new() });
        self.current = number;
    }

    fn leased(&mut self, votes: &[Cast]) {
        // The hash of the block after the one that opened the round decides its lot.
        self.block([]);
        let (job, registry) = (self.here().job.clone(), self.contracts.replicas);
        let call = ReplicaRegistry::leaseCall { job, batches: vec![0] }.abi_encode();
        let calls: Vec<_> = votes.iter().map(|vote| (self.providers[vote.provider], registry, call.clone())).collect();
        self.block(calls);
    }

    fn committed(&mut self, vote: &Cast) {
        let given = self.reveal_of(vote.provider, vote.answer);
        let posted = self.here();
        let commitments = vec![ReplicaRegistry::Commitment { batch: 0, hash: replicas::commitment(posted.id, &given) }];
        let late = posted.commits.iter().any(|commit| commit.revealed);
        let call = ReplicaRegistry::commitCall { job: posted.job.clone(), commitments };
        self.block([(given.provider, self.contracts.replicas, call.abi_encode())]);
        let block = self.chain.height();
        let commit = Commit { provider: vote.provider, answer: vote.answer, block, late, revealed: false };
        let current = self.current;
        self.jobs.get_mut(&current).expect("it was posted").commits.push(commit);
    }

    fn is_audited(&mut self, lacks_commits: bool, _: u16) -> bool {
        (0..2).for_each(|_| drop(self.block([])));
        if lacks_commits {
            self.now += 2 * u64::from(self.here().job.job.leaseSeconds);
        }
        let posted = self.here();
        let last = posted.commits.last().expect("some have committed").block;
        let hash = self.chain.hash_of(last + 1).expect("two blocks were mined");
        let is_audited = lacks_commits || replicas::is_audited(hash, posted.id, 0, &posted.job.assurance);
        if is_audited {
            let draw = ReplicaRegistry::drawCall { job: posted.job.clone(), number: 0 };
            let receipts = self.block([(self.requester, self.contracts.replicas, draw.abi_encode())]);
            let drawn: ReplicaRegistry::Drawn = event(&receipts).expect("a draw has an event");
            assert!(drawn.audited, "the contract draws the same");
            self.reached.audits += 1;
        }
        is_audited
    }

    fn continued(&mut self, _: &[Cast]) {
        self.reveal();
        let receipts = self.finalise(self.current);
        let opened = event::<ReplicaRegistry::RoundOpened>(&receipts);
        assert!(opened.is_some(), "the contract believes what the model does not, or gives up earlier");
        self.reached.extra_rounds += 1;
    }

    fn revealed(&mut self, _: &[Cast]) {
        if self.here().commits.iter().any(|commit| !commit.revealed) {
            self.reveal();
        }
    }

    fn settled(&mut self, ending: &Ending, models: &[Provider]) {
        self.current = ending.job;
        if self.ballot_state() == COMMITTING {
            // Nobody came to the last slot: its round has to be over.
            self.now += 2 * u64::from(self.here().job.job.leaseSeconds);
        }
        let receipts = self.finalise(ending.job);
        let ended: ReplicaRegistry::BatchEnded = event(&receipts).expect("the batch is over");
        let state = if ending.tally.accepted { SETTLED } else { UNDECIDED };
        assert_eq!(ended.state, state, "job {}: {ending:?}", ending.job);
        if ending.tally.accepted {
            let best = [Answer::Right, Answer::Agreed].into_iter().chain(ending.votes.iter().map(|vote| vote.answer));
            let best = best.into_iter().find(|answer| answer.result(ended.fuel) == ending.tally.best);
            let best = best.expect("the best is one of the answers");
            assert_eq!(ended.root, self.tree(best).root(), "job {}: what is believed", ending.job);
        }
        for vote in &ending.votes {
            let model = &models[vote.provider];
            self.stake_anew(vote.provider, model);
            let found = self.balance(self.providers[vote.provider]);
            let earned = found.earned.to::<U256>() + self.withdrawn[vote.provider];
            assert_eq!(
                (found.checks, found.failed, found.stake.to::<U256>(), found.held.to::<U256>(), earned),
                (model.checks, model.failed, model.stake, model.held, model.earned),
                "job {}: checks, failed, stake, held, earned of provider {}",
                ending.job,
                vote.provider
            );
        }
        let lost = |vote: &&Cast| vote.answer.result(ended.fuel) != ending.tally.best;
        if ending.tally.accepted {
            self.reached.lost_votes += ending.votes.iter().filter(lost).count() as u64;
        } else {
            self.reached.undecided += 1;
        }
        self.jobs.remove(&ending.job);
        self.settled += 1;
    }
}
