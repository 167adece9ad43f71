//! I9: what must be refused is refused. Nothing that was sent works twice, or for somebody else, or with other content, or before its time:
//! it is tried, in the state that everybody sees, and leaves no trace.

use alloy::{
    consensus::Transaction as _,
    primitives::{Address, B256, Bytes, U256},
    rpc::types::TransactionRequest,
    sol_types::SolCall,
};
use conun_agent::chain::{BallotStage, BatchStage, Index, JobEntry, ReplicaStage};
use conun_bindings::abi::{
    Disputes::{self, DisputesCalls},
    JobRegistry::{self, JobRegistryCalls},
    ReplicaRegistry::{self, ReplicaRegistryCalls},
};
use conun_chain::Mined;

use crate::{
    agent::Part,
    error::{Invariant, Violation},
    keeper::request,
    world::World,
};

/// Transactions of a block that are tried again: a run takes time enough.
const TRIED: usize = 4;

/// A transaction that waits for a block.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    hash: B256,
    sender: Address,
    to: Address,
    input: Bytes,
}

/// Whose call it is: what a stranger makes of it must come to nothing.
pub(crate) fn is_personal(input: &[u8]) -> bool {
    use JobRegistry as J;
    use ReplicaRegistry as R;
    let Some(selector) = input.get(..4) else { return false };
    [
        J::postCall::SELECTOR,
        J::cancelCall::SELECTOR,
        J::releaseCall::SELECTOR,
        J::submitCall::SELECTOR,
        J::acceptCall::SELECTOR,
        J::rejectCall::SELECTOR,
        R::postCall::SELECTOR,
        R::cancelCall::SELECTOR,
        R::releaseCall::SELECTOR,
        R::commitCall::SELECTOR,
        R::acceptCall::SELECTOR,
        Disputes::demandCall::SELECTOR,
        Disputes::ruleCall::SELECTOR,
    ]
    .iter()
    .any(|known| known == selector)
}

/// The same call with content that nobody can have committed to.
fn forged(input: &[u8]) -> Option<Vec<u8>> {
    if let Ok(mut call) = ReplicaRegistry::revealCall::abi_decode(input) {
        call.reveals.first_mut()?.salt[0] ^= 1;
        return Some(call.abi_encode());
    }
    if let Ok(mut call) = ReplicaRegistry::revealOpenedCall::abi_decode(input) {
        call.opening.leaf.outputRoot[0] ^= 1;
        return Some(call.abi_encode());
    }
    let mut call = Disputes::answerCall::abi_decode(input).ok()?;
    call.given.leaf.outputRoot[0] ^= 1;
    Some(call.abi_encode())
}

/// The name of a call of the market's contracts.
fn name(input: &[u8]) -> &'static str {
    let selector = input.get(..4).and_then(|selector| selector.try_into().ok()).unwrap_or_default();
    JobRegistryCalls::name_by_selector(selector)
        .or_else(|| ReplicaRegistryCalls::name_by_selector(selector))
        .or_else(|| DisputesCalls::name_by_selector(selector))
        .unwrap_or("a call")
}

/// Whether an account has, or had, a part in a job.
pub(crate) fn has_part(entry: &JobEntry, account: Address) -> bool {
    entry.job.requester == account
        || entry.batches.iter().any(|batch| batch.provider == account || batch.previous == account)
        || entry.ballots().any(|ballot| ballot.replicas.contains_key(&account))
}

/// What must not work at block time `now` with a batch, in words, and the call.
fn too_early(
    world: &World,
    index: &Index,
    (id, entry): (B256, &JobEntry),
    number: u32,
    now: u64,
) -> Option<(&'static str, TransactionRequest)> {
    let contracts = &world.node.contracts;
    let Some(job) = entry.replicated() else {
        let (to, job, batch) = (contracts.jobs, entry.job.clone(), entry.batches.get(number as usize)?);
        let given = batch.submission(number);
        return match batch.stage {
            BatchStage::Submitted if now + 1 < batch.deadline => Some((
                "finalise before the window is over",
                request(to, JobRegistry::finaliseCall { job, submissions: vec![given] }),
            )),
            BatchStage::Leased if now < batch.deadline => {
                Some(("expire a lease that runs", request(to, JobRegistry::expireCall { job, batches: vec![number] })))
            }
            BatchStage::Frozen if now + 1 < index.resolvable_at(id, number, batch.deadline) => {
                Some(("resolve a dispute that goes on", request(to, JobRegistry::resolveCall { job, given })))
            }
            BatchStage::Settled | BatchStage::Cancelled => {
                Some(("lease what is over", request(to, JobRegistry::leaseCall { job, batches: vec![number] })))
            }
            _ => None,
        };
    };
    let (to, (assurance, ballot)) = (contracts.replicas, entry.ballot(number)?);
    match ballot.stage {
        BallotStage::Committing => {
            let running = ballot.replicas.iter().find_map(|(provider, replica)| match replica.stage {
                ReplicaStage::Leased { deadline, active_block: None, rival: None } => {
                    (now < deadline.min(ballot.time)).then_some(*provider)
                }
                _ => None,
            });
            let call = ReplicaRegistry::expireCall { job, number, provider: running? };
            Some(("expire a lease that runs", request(to, call)))
        }
        BallotStage::Revealing => {
            let believed = ballot.count(assurance, &index.rules).is_some_and(|count| count.accepted);
            let waits = believed && now + 1 < ballot.final_at(&entry.job)
                || ballot.revealed() < ballot.committed() && now + 1 < ballot.time;
            let call = ReplicaRegistry::finaliseCall { job, tallies: vec![ballot.tally(number)] };
            waits.then(|| ("finalise before the window is over", request(to, call)))
        }
        BallotStage::Frozen if now + 1 < index.resolvable_at(id, number, ballot.time) => {
            let call = ReplicaRegistry::resolveCall { job, tally: ballot.tally(number) };
            Some(("resolve a dispute that goes on", request(to, call)))
        }
        _ if ballot.is_final() => {
            Some(("lease what is over", request(to, ReplicaRegistry::leaseCall { job, batches: vec![number] })))
        }
        _ => None,
    }
}

impl World {
    pub(crate) fn works(&self, sender: Address, to: Address, input: impl Into<Bytes>) -> bool {
        let call = TransactionRequest::default().from(sender).to(to).input(input.into().into());
        self.node.chain.try_call(call).is_ok()
    }

    /// A registered provider of whom `unwelcome` is not true, another one each block.
    pub(crate) fn stranger(&self, index: &Index, unwelcome: impl Fn(Address) -> bool) -> Option<Address> {
        let start = self.node.chain.height() as usize % self.agents.len();
        let mut order = self.agents[start..].iter().chain(&self.agents[..start]);
        let fits = |account: &Address| {
            index.providers.get(account).is_some_and(|entry| entry.registered && !entry.is_exiting())
                && !unwelcome(*account)
        };
        order.find(|agent| matches!(agent.part, Part::Provider(_)) && fits(&agent.address)).map(|agent| agent.address)
    }

    fn refusal_missing(&self, what: String, about: Address) -> Violation {
        let who = self.by_address.get(&about).map(|who| format!("#{who} "));
        self.violation(Invariant::I9, what, who.as_slice())
    }

    /// What waits for the next block, tried by a stranger, and with other content.
    pub(crate) fn check_waiting(&mut self) -> Result<(), Violation> {
        self.node.chain.set_clock(self.unix());
        let contracts = self.node.contracts;
        let ours = [contracts.jobs, contracts.replicas, contracts.disputes];
        let waiting = self.node.chain.pool().into_iter().filter_map(|(sender, tx)| {
            let to = tx.to().filter(|to| ours.contains(to))?;
            Some(Waiting { hash: *tx.tx_hash(), sender, to, input: tx.input().clone() })
        });
        self.invariants.waiting = waiting.collect();
        let Ok(view) = self.node.look(self.honest_feed) else { return Ok(()) };
        for Waiting { sender, to, input, .. } in self.invariants.waiting.iter().take(TRIED) {
            let kind = name(input);
            let about = view.index.jobs.values().find(|entry| is_about(input, entry));
            if is_personal(input)
                && let Some(stranger) = self.stranger(&view.index, |account| {
                    account == *sender || about.is_some_and(|entry| has_part(entry, account))
                })
                && self.works(stranger, *to, input.clone())
            {
                let what = format!("{stranger}, who has no part in it, may {kind} for {sender}");
                return Err(self.refusal_missing(what, *sender));
            }
            if let Some(input) = forged(input)
                && self.works(*sender, *to, input)
            {
                return Err(self.refusal_missing(format!("{sender} may {kind} what is not so"), *sender));
            }
        }
        Ok(())
    }

    /// What a block brought does not work again; and one batch does nothing before its time.
    pub(crate) fn check_refused(&mut self, mined: &Mined) -> Result<(), Violation> {
        self.node.chain.set_clock(self.unix());
        let waiting = std::mem::take(&mut self.invariants.waiting);
        let done = |waiting: &&Waiting| {
            mined.receipts.iter().any(|receipt| receipt.transaction_hash == waiting.hash && receipt.status())
        };
        for Waiting { sender, to, input, .. } in waiting.iter().filter(done).take(TRIED) {
            if self.works(*sender, *to, input.clone()) {
                return Err(self.refusal_missing(format!("{sender} may {} a second time", name(input)), *sender));
            }
        }
        let Ok(view) = self.node.look(self.honest_feed) else { return Ok(()) };
        let Some(turn) = (mined.number as usize).checked_rem(view.index.order.len()) else { return Ok(()) };
        let id = view.index.order[turn];
        let Some(entry) = view.index.job(&id) else { return Ok(()) };
        let number = (mined.number as usize / view.index.order.len()) % entry.batch_count().max(1);
        let Some((what, call)) = too_early(self, &view.index, (id, entry), number as u32, self.unix()) else {
            return Ok(());
        };
        let Some(stranger) = self.stranger(&view.index, |account| has_part(entry, account)) else { return Ok(()) };
        if self.node.chain.try_call(call.from(stranger)).is_ok() {
            let what = format!("anybody may {what}: batch {number} of job {id}");
            return Err(self.violation(Invariant::I9, what, &[id.to_string()]));
        }
        Ok(())
    }
}

/// Whether a call's first argument is that job.
pub(crate) fn is_about(input: &[u8], entry: &JobEntry) -> bool {
    // The requester and the requester's own number of the job are its first two words, in both registries.
    let Some(words) = input.get(4..68) else { return false };
    Address::from_slice(&words[12..32]) == entry.job.requester
        && U256::from_be_slice(&words[32..]) == U256::from(entry.job.nonce)
}
