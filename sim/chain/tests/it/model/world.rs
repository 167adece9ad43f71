//! The contracts, on a chain in the process.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, U256, address, aliases::U96, hex, keccak256},
    rpc::types::TransactionRequest,
    sol_types::{SolCall, SolValue},
};
use conun_bindings::{
    Contracts,
    abi::{ConunToken, Deployment::Settings, Disputes, Escrow, JobRegistry, ProviderRegistry, ReplicaRegistry},
    deploy::{Plan, deploy},
    job, revert,
};
use conun_chain::{ChainConfig, Clock, SharedChain, dev_accounts};
use serde_json::{Value, json};

use super::{
    ballots::Phase,
    calls::{Act, Call, Move, PollAct},
    encode, encode_polls,
    reference::{
        ARBITER, AUDIT_FLOOR_BPS, CHALLENGE_BOND, CHECK_FEE, DEMAND_BOND, DEMANDING, DISPUTES, EXIT_DELAY,
        EXPIRY_BOND_BPS, FAULTY_BPS, FEE_BPS, FIRST_BLOCK, FIRST_SECOND, KEEPER, MAX_COMMITMENT, MIN_STAKE, Outcome,
        PURSE, RULING, SUCCESSOR_DELAY, State, Who,
    },
};

/// Where the arbiter is: code that does nothing, since it is called as a contract.
const ARBITER_ADDRESS: Address = address!("00000000000000000000000000000000000a4b17");
/// Whose calls no rule of the chain lets through but impersonation; gas for any call.
const CALL_GAS: u64 = 4_000_000;

/// A deployment, and what it called the things that the reference numbers.
#[derive(Clone)]
pub(super) struct World {
    pub(super) chain: SharedChain,
    pub(super) contracts: Contracts,
    pub(super) jobs: Vec<JobRegistry::Job>,
    pub(super) polls: Vec<ReplicaRegistry::ReplicatedJob>,
    pub(super) cases: Vec<B256>,
    addresses: Vec<Address>,
    /// Batches whose audit the next block decides.
    undrawn: Vec<Undrawn>,
}

/// A batch with one commit, and what the hash of the block after it has to say.
#[derive(Clone)]
struct Undrawn {
    poll: usize,
    batch: u32,
    audited: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("chain", &self.chain).finish_non_exhaustive()
    }
}

fn settings(has_arbiter: bool) -> Settings {
    let seconds = |value: u64| value.try_into().expect("settings are small");
    Settings {
        tokenHolder: dev_accounts()[9].address(),
        tokenSupply: U256::from(100 * PURSE),
        minStake: U96::from(MIN_STAKE),
        exitDelaySeconds: seconds(EXIT_DELAY),
        maxCommitmentSeconds: seconds(MAX_COMMITMENT),
        successorDelayBlocks: seconds(SUCCESSOR_DELAY),
        expiryBondBps: EXPIRY_BOND_BPS as u16,
        auditFloorBps: AUDIT_FLOOR_BPS as u16,
        faultyBps: FAULTY_BPS as u16,
        feeBps: FEE_BPS as u16,
        checkFee: U96::from(CHECK_FEE),
        arbiter: if has_arbiter { ARBITER_ADDRESS } else { Address::ZERO },
        rulingSeconds: seconds(RULING),
        challengeBond: U96::from(CHALLENGE_BOND),
        demandSeconds: seconds(DEMANDING),
        demandBond: U96::from(DEMAND_BOND),
    }
}

impl World {
    /// A fresh deployment at the first second and block of the reference.
    pub(super) fn new(has_arbiter: bool) -> Self {
        let chain = SharedChain::new(ChainConfig { clock: Clock::Manual(FIRST_SECOND), ..ChainConfig::default() });
        let holder = dev_accounts()[9].address();
        chain.handle("anvil_setCode", json!([ARBITER_ADDRESS, "0x00"])).expect("an address and code");
        let plan = Plan::new(settings(has_arbiter), B256::ZERO);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
        let provider = chain.dev_provider();
        let deployment = deploy(&provider, holder, &plan, None, |_| {});
        let contracts = runtime.block_on(deployment).expect("the contracts can be deployed");
        let mut addresses: Vec<_> = dev_accounts().iter().take(KEEPER + 1).map(|signer| signer.address()).collect();
        addresses.extend([ARBITER_ADDRESS, contracts.disputes]);
        let mut world = Self {
            chain,
            contracts,
            jobs: Vec::new(),
            polls: Vec::new(),
            cases: Vec::new(),
            addresses,
            undrawn: Vec::new(),
        };
        world.rpc("anvil_impersonateAccount", json!([ARBITER_ADDRESS]));
        world.rpc("anvil_setBalance", json!([ARBITER_ADDRESS, "0xde0b6b3a7640000"]));
        for who in 0..KEEPER {
            let (to, purse) = (world.address(who), U256::from(PURSE));
            world.send(holder, contracts.token, ConunToken::transferCall { to, value: purse }.abi_encode());
            world.send(
                to,
                contracts.token,
                ConunToken::approveCall { spender: contracts.escrow, value: purse }.abi_encode(),
            );
        }
        let blocks = FIRST_BLOCK - 1 - world.chain.height();
        world.rpc("anvil_mine", json!([blocks]));
        world
    }

    pub(super) fn address(&self, who: Who) -> Address {
        self.addresses[who]
    }

    /// The number of whom an address belongs to.
    pub(super) fn who(&self, address: Address) -> Option<Who> {
        self.addresses.iter().position(|have| *have == address)
    }

    fn rpc(&self, method: &str, params: Value) -> Value {
        self.chain.handle(method, params).unwrap_or_else(|error| panic!("{method}: {error:?}"))
    }

    fn request(from: Address, to: Address, data: Vec<u8>) -> TransactionRequest {
        TransactionRequest { gas: Some(CALL_GAS), ..TransactionRequest::default() }
            .from(from)
            .to(to)
            .input(Bytes::from(data).into())
    }

    /// What a call would answer in the next block, or why it would not.
    fn try_call(&self, from: Address, to: Address, data: Vec<u8>) -> Result<Bytes, Bytes> {
        match self.chain.handle("eth_call", json!([Self::request(from, to, data), BlockNumberOrTag::Pending])) {
            Ok(answer) => Ok(serde_json::from_value(answer).expect("a call answers with bytes")),
            Err(error) => Err(error.data.clone().unwrap_or_else(|| panic!("neither answer nor revert: {error:?}"))),
        }
    }

    fn send(&mut self, from: Address, to: Address, data: Vec<u8>) {
        let hash = self.rpc("eth_sendTransaction", json!([Self::request(from, to, data)]));
        let receipt = self.rpc("eth_getTransactionReceipt", json!([hash]));
        assert_eq!(receipt["status"], "0x1", "a transaction failed although the call before did not");
    }

    pub(super) fn read<C: SolCall>(&self, to: Address, call: &C) -> C::Return {
        let answer = self.try_call(Address::ZERO, to, call.abi_encode());
        let answer = answer.unwrap_or_else(|data| panic!("{}: {}", C::SIGNATURE, revert::describe(&data)));
        C::abi_decode_returns(&answer).expect("a view answers as its signature says")
    }

    /// Makes the move and holds what comes of it against what the reference foretold.
    pub(super) fn make(&mut self, before: &State, step: &Move, after: &State) {
        let (who, call) = match step {
            Move::Wait { seconds, blocks } => {
                self.rpc("evm_increaseTime", json!([seconds]));
                for _ in 0..*blocks {
                    self.rpc("anvil_mine", json!([1]));
                    self.decide(before);
                }
                return;
            }
            Move::Call(who, call) => (*who, call),
        };
        let (to, data) = encode::call(self, before, who, call);
        let from = self.address(who);
        match (self.try_call(from, to, data.clone()), &after.last) {
            (Ok(answer), Outcome::Done) => {
                self.send(from, to, data);
                self.decide(before);
                self.note(after, call, &answer);
            }
            (Err(data), Outcome::Refused(faults)) => {
                let name = name_of(&data);
                assert!(
                    faults.0.contains(name.as_str()),
                    "refused with {}, expected {:?}",
                    revert::describe(&data),
                    faults.0
                );
            }
            (Ok(_), foretold) => panic!("it succeeded, expected {foretold:?}"),
            (Err(data), foretold) => panic!("refused with {}, expected {foretold:?}", revert::describe(&data)),
        }
    }

    /// What came about has a name from now on.
    fn note(&mut self, after: &State, call: &Call, answer: &Bytes) {
        let id = || B256::abi_decode(answer).expect("the call answers with an id");
        match call {
            Call::Post(..) | Call::Job { act: Act::Amend(..), .. } => {
                let fields = &after.jobs.last().expect("the reference has the job as well").fields;
                let made = encode::job(self, fields);
                assert_eq!(job::id(self.contracts.chain_id, self.contracts.jobs, &made), id(), "the id of a job");
                self.jobs.push(made);
            }
            Call::PostPoll(fields, assurance, _) | Call::Poll { act: PollAct::Amend(fields, assurance, _), .. } => {
                self.polls.push(encode_polls::poll(self, fields, assurance));
                assert_eq!(self.poll_id(self.polls.len() - 1), id(), "the id of a replicated job");
            }
            Call::Job { act: Act::Challenge(..) | Act::Demand(..), .. }
            | Call::Poll { act: PollAct::Challenge(..) | PollAct::Demand(..), .. } => self.cases.push(id()),
            Call::Poll { poll, act: PollAct::Commit(given), .. } => {
                let drawing = |batch: u32| after.polls[*poll].ballots[batch as usize].phase == Phase::Drawing;
                let undrawn = given.iter().filter(|(batch, ..)| drawing(*batch));
                let undrawn = undrawn.map(|&(batch, _, audited)| Undrawn { poll: *poll, batch, audited });
                self.undrawn = undrawn.collect();
            }
            _ => {}
        }
    }

    /// The reference says what lots decide, so that the block that decides is made anew until it says the same.
    fn decide(&mut self, state: &State) {
        for undrawn in std::mem::take(&mut self.undrawn) {
            let share = state.polls[undrawn.poll].assurance.audit_bps;
            // Where all are audited there is no lot.
            let want = undrawn.audited || share == 10_000;
            let is_audited = || {
                let lot = (self.block_hash(self.chain.height()), self.poll_id(undrawn.poll), undrawn.batch);
                let lot = keccak256((lot.0.unwrap_or_default(), lot.1, lot.2).abi_encode());
                U256::from_be_bytes(lot.0) % U256::from(10_000) < U256::from(share)
            };
            while is_audited() != want {
                self.rpc("anvil_reorg", json!([1, true]));
            }
        }
    }

    /// `None` if the block is still to come.
    pub(super) fn block_hash(&self, number: u64) -> Option<B256> {
        let block = self.rpc("eth_getBlockByNumber", json!([format!("{number:#x}"), false]));
        serde_json::from_value(block["hash"].clone()).ok()
    }

    pub(super) fn poll_id(&self, number: usize) -> B256 {
        let job = keccak256(self.polls[number].abi_encode());
        keccak256((U256::from(self.contracts.chain_id), self.contracts.replicas, job).abi_encode())
    }

    pub(super) fn job_id(&self, number: usize) -> B256 {
        job::id(self.contracts.chain_id, self.contracts.jobs, &self.jobs[number])
    }

    pub(super) fn escrow_balance(&self, who: Who) -> Escrow::Balance {
        self.read(self.contracts.escrow, &Escrow::balanceOfCall { account: self.address(who) })
    }

    pub(super) fn tokens(&self, of: Address) -> u128 {
        self.read(self.contracts.token, &ConunToken::balanceOfCall { account: of }).to()
    }

    pub(super) fn burnable(&self) -> u128 {
        self.read(self.contracts.escrow, &Escrow::burnableCall {}).to()
    }

    pub(super) fn provider(&self, who: Who) -> ProviderRegistry::Provider {
        self.read(self.contracts.providers, &ProviderRegistry::providerOfCall { account: self.address(who) })
    }

    pub(super) fn lost_by(&self, who: Who) -> u64 {
        self.read(self.contracts.disputes, &Disputes::lostByCall { account: self.address(who) }).to()
    }
}

/// The name of an error of ours or of the token's.
fn name_of(data: &Bytes) -> String {
    let text = revert::describe(data);
    let name = text.split([' ', '{', '(']).next().unwrap_or_default();
    if name.is_empty() { hex::encode(data) } else { name.to_owned() }
}

const _: () = assert!(DISPUTES == ARBITER + 1 && ARBITER == KEEPER + 1, "addresses are in the order of the numbers");
