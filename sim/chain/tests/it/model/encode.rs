//! The reference's calls as the contracts take them.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    signers::SignerSync,
    sol_types::{Eip712Domain, SolCall, SolStruct, SolValue},
};
use conun_bindings::{
    abi::{ConunToken, Disputes, Escrow, JobRegistry, ProviderRegistry},
    commit::{ResultLeaf, ResultTree, region_root},
    job::spec_hash,
};
use conun_chain::dev_accounts;

use super::{
    calls::{Act, Call, Given, INTRUSIONS, Permit, Reply, Work},
    disputes::{About, Dispute, Place},
    encode_polls,
    jobs::{Fields, Submission},
    reference::{State, Who},
    region,
    world::World,
};

mod token {
    alloy::sol! {
        struct Permit { address owner; address spender; uint256 value; uint256 nonce; uint256 deadline; }
    }
}

/// `IEscrow.Permit` and the like, which each contract's bindings have for themselves.
pub(super) struct Signature {
    pub(super) value: U256,
    pub(super) deadline: U256,
    pub(super) v: u8,
    pub(super) r: B256,
    pub(super) s: B256,
}

pub(super) fn spec() -> JobRegistry::Spec {
    JobRegistry::Spec {
        program: keccak256("program"),
        programRoot: keccak256("program root"),
        inputs: keccak256("inputs"),
        inputRoot: keccak256("input root"),
        memoryLimit: 65_536,
        category: 0,
    }
}

pub(super) fn job(world: &World, fields: &Fields) -> JobRegistry::Job {
    JobRegistry::Job {
        requester: world.address(fields.requester),
        nonce: fields.nonce,
        spec: spec_hash(&spec()),
        taskCount: fields.tasks,
        batchSize: fields.batch_size,
        fuelLimit: fields.fuel_limit,
        startPrice: fields.start_price,
        maxPrice: fields.max_price,
        rampStart: fields.ramp_start as u32,
        rampSeconds: fields.ramp as u32,
        leaseSeconds: fields.lease as u32,
        windowSeconds: fields.window as u32,
    }
}

/// A permit that the token takes, or one that somebody else signed.
pub(super) fn permit(world: &World, owner: Who, permit: Permit) -> Signature {
    let (value, signer) = match permit {
        Permit::None => {
            return Signature { value: U256::ZERO, deadline: U256::ZERO, v: 0, r: B256::ZERO, s: B256::ZERO };
        }
        Permit::Good(value) => (U256::from(value), owner),
        Permit::Bad(value) => (U256::from(value), owner + 1),
    };
    let (token, owner) = (world.contracts.token, world.address(owner));
    let signed = token::Permit {
        owner,
        spender: world.contracts.escrow,
        value,
        nonce: world.read(token, &ConunToken::noncesCall { owner }),
        deadline: U256::MAX,
    };
    let domain = Eip712Domain {
        name: Some("CONUN".into()),
        version: Some("1".into()),
        chain_id: Some(U256::from(world.contracts.chain_id)),
        verifying_contract: Some(token),
        salt: None,
    };
    let signature = dev_accounts()[signer].sign_hash_sync(&signed.eip712_signing_hash(&domain)).expect("a key signs");
    let (r, s) = (signature.r().into(), signature.s().into());
    Signature { value, deadline: signed.deadline, v: 27 + u8::from(signature.v()), r, s }
}

macro_rules! permit_of {
    ($contract:ident, $world:expr, $owner:expr, $permit:expr) => {{
        let Signature { value, deadline, v, r, s } = permit($world, $owner, $permit);
        $contract::Permit { value, deadline, v, r, s }
    }};
}

fn output(task: u32, length: u64) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31) ^ task as u8).collect()
}

pub(super) fn leaves(fields: &Fields, batch: u32, work: Work) -> Vec<ResultLeaf> {
    let first = batch * fields.batch_size;
    let leaf = |task| {
        let length = work.output_length(task);
        ResultLeaf {
            index: task,
            ok: true,
            exit_code: u32::from(work.flavour),
            output_root: region_root(&output(task, length)),
            output_length: length,
            fuel: work.leaf_fuel(fields, task),
        }
    };
    (first..first + fields.tasks_in(batch)).map(leaf).collect()
}

pub(super) fn root(fields: &Fields, batch: u32, work: Work) -> B256 {
    if !work.has_root() {
        return B256::ZERO;
    }
    ResultTree::new(&leaves(fields, batch, work)).map_or(keccak256("of a batch that is not there"), |tree| tree.root())
}

/// What the registry keeps the hash of.
pub(super) fn submission(world: &World, fields: &Fields, batch: u32, found: Submission) -> JobRegistry::Submission {
    JobRegistry::Submission {
        batch,
        provider: world.address(found.by),
        price: found.price,
        root: root(fields, batch, found.work),
        fuel: found.work.fuel(fields, batch),
    }
}

/// Of a batch without a result: one that was never made.
fn given(world: &World, state: &State, job: usize, given: Given) -> JobRegistry::Submission {
    let found = &state.jobs[job];
    let standing = found.batches.get(given.batch as usize).and_then(|batch| batch.submission());
    let mut made = standing.map_or_else(
        || JobRegistry::Submission {
            batch: given.batch,
            provider: Address::ZERO,
            price: 1,
            root: keccak256("never made"),
            fuel: 1,
        },
        |standing| submission(world, &found.fields, given.batch, standing),
    );
    if given.wrong {
        // One field after the other, as time goes on.
        match state.now % 4 {
            0 => made.provider = world.address((state.now % 5) as usize + 1),
            1 => made.price += 1,
            2 => made.root = keccak256(made.root),
            _ => made.fuel ^= 1,
        }
        if standing.is_some_and(|standing| made == submission(world, &found.fields, given.batch, standing)) {
            made.price += 1;
        }
    }
    made
}

fn standing(world: &World, state: &State, dispute: &Dispute) -> Disputes::Standing {
    let fields = state.fields(dispute.place);
    Disputes::Standing {
        jobId: match dispute.place {
            Place::Job(job) => world.job_id(job),
            Place::Poll(poll) => world.poll_id(poll),
        },
        batch: dispute.batch,
        requester: world.address(fields.requester),
        root: root(fields, dispute.batch, dispute.work),
        fuel: dispute.work.fuel(fields, dispute.batch),
        firstTask: dispute.batch * fields.batch_size,
        tasks: fields.tasks_in(dispute.batch),
        finalAt: dispute.final_at as u32,
    }
}

pub(super) fn result_id(world: &World, state: &State, dispute: &Dispute) -> B256 {
    keccak256(standing(world, state, dispute).abi_encode())
}

fn answer(world: &World, state: &State, number: usize, reply: Reply) -> Disputes::answerCall {
    let Some(case) = state.cases.get(number) else {
        return Disputes::answerCall { caseId: B256::ZERO, standing: Default::default(), given: Default::default() };
    };
    let dispute = &state.disputes[case.dispute];
    let fields = state.fields(dispute.place);
    let (task, chunk) = match case.about {
        About::Withheld { task, chunk } => (task, chunk),
        About::Wrong { .. } => (dispute.batch * fields.batch_size, 0),
    };
    let all = leaves(fields, dispute.batch, dispute.work);
    let position = (task - dispute.batch * fields.batch_size) as usize;
    let leaf = all[position];
    let proof = ResultTree::new(&all).expect("a batch has tasks").proof(position);
    let (part, siblings) = region::chunk(&output(task, leaf.output_length), chunk);
    let mut standing = standing(world, state, dispute);
    standing.fuel += u64::from(reply == Reply::OtherResult);
    Disputes::answerCall {
        caseId: world.cases[number],
        standing,
        given: Disputes::Answer {
            chunk: chunk + u32::from(reply == Reply::OtherChunk),
            leaf: Disputes::ResultLeaf {
                index: leaf.index,
                ok: leaf.ok,
                exitCode: leaf.exit_code + u32::from(reply == Reply::ForgedLeaf),
                outputRoot: leaf.output_root,
                outputLength: leaf.output_length,
                fuel: leaf.fuel,
            },
            siblingHashes: proof.iter().map(|node| node.hash).collect(),
            siblingFuels: proof.iter().map(|node| node.fuel).collect(),
            part: part.into(),
            chunkSiblings: siblings,
        },
    }
}

fn intrusion(world: &World, me: Address, which: u8) -> (Address, Vec<u8>) {
    let (amount, provider, account) = (U256::from(1), me, me);
    let permit = Escrow::Permit { value: U256::ZERO, deadline: U256::ZERO, v: 0, r: B256::ZERO, s: B256::ZERO };
    let data = match which % INTRUSIONS {
        0 => Escrow::lockCall { account, amount, permit }.abi_encode(),
        1 => Escrow::stakeCall { provider, amount, permit }.abi_encode(),
        2 => Escrow::holdCall { provider, amount }.abi_encode(),
        3 => Escrow::holdVoterCall { provider, amount }.abi_encode(),
        4 => Escrow::freeCall { provider, amount }.abi_encode(),
        5 => Escrow::expireCall { provider, amount, bond: amount }.abi_encode(),
        6 => {
            let (zero, one) = (U256::ZERO, amount);
            let call = Escrow::payCall {
                requester: me,
                provider,
                paid: zero,
                refunded: zero,
                freed: zero,
                batches: one,
                accepted: true,
            };
            call.abi_encode()
        }
        7 => Escrow::refundCall { account, amount }.abi_encode(),
        8 => {
            let zero = U256::ZERO;
            Escrow::settleCall {
                requester: me,
                refunded: zero,
                burned: zero,
                award: amount,
                consent: 1,
                shares: vec![],
            }
            .abi_encode()
        }
        9 => Escrow::collectCall { account, amount, permit }.abi_encode(),
        10 => Escrow::giveCall { account, amount, burned: U256::ZERO }.abi_encode(),
        11 => Escrow::setExitingCall { provider, exiting: true }.abi_encode(),
        12 => Escrow::leaveCall { provider, payout: me }.abi_encode(),
        13 => Escrow::payOutCall { provider, payout: me }.abi_encode(),
        _ => {
            let data = Disputes::concludeCall { result: B256::ZERO, award: amount }.abi_encode();
            return (world.contracts.disputes, data);
        }
    };
    (world.contracts.escrow, data)
}

fn contact(endpoint: u64) -> (B256, String) {
    (B256::from(U256::from(endpoint)), "127.0.0.1:4433".to_owned())
}

/// Whom to call, and with what.
pub(super) fn call(world: &World, state: &State, who: Who, call: &Call) -> (Address, Vec<u8>) {
    let me = world.address(who);
    let address_of = |who: Option<Who>| who.map_or(Address::ZERO, |who| world.address(who));
    let (token, escrow) = (world.contracts.token, world.contracts.escrow);
    let (providers, disputes) = (world.contracts.providers, world.contracts.disputes);
    match *call {
        Call::Approve(value) => {
            (token, ConunToken::approveCall { spender: escrow, value: U256::from(value) }.abi_encode())
        }
        Call::Donate(value) => (token, ConunToken::transferCall { to: escrow, value: U256::from(value) }.abi_encode()),
        Call::Deposit { to, amount, permit: Permit::None } => {
            (escrow, Escrow::depositCall { account: world.address(to), amount: U256::from(amount) }.abi_encode())
        }
        Call::Deposit { to, amount, permit: signed } => {
            let permit = permit_of!(Escrow, world, who, signed);
            let (account, amount) = (world.address(to), U256::from(amount));
            (escrow, Escrow::depositWithPermitCall { account, amount, permit }.abi_encode())
        }
        Call::Withdraw(amount) => (escrow, Escrow::withdrawCall { amount: U256::from(amount) }.abi_encode()),
        Call::Burn => (escrow, Escrow::burnCall {}.abi_encode()),
        Call::Intrude(which) => intrusion(world, me, which),
        Call::Register { payout, endpoint, stake, permit: signed } => {
            let permit = permit_of!(ProviderRegistry, world, who, signed);
            let (endpoint, hint) = contact(endpoint);
            let contact = ProviderRegistry::Contact { endpoint, hint };
            let (payout, stake) = (address_of(payout), U256::from(stake));
            (providers, ProviderRegistry::registerCall { payout, contact, stake, permit }.abi_encode())
        }
        Call::SetEndpoint(endpoint) => {
            let (endpoint, hint) = contact(endpoint);
            let contact = ProviderRegistry::Contact { endpoint, hint };
            (providers, ProviderRegistry::setContactCall { contact }.abi_encode())
        }
        Call::SetPayout { provider, payout } => {
            let (provider, payout) = (world.address(provider), address_of(payout));
            (providers, ProviderRegistry::setPayoutCall { provider, payout }.abi_encode())
        }
        Call::AddStake(amount, signed) => {
            let permit = permit_of!(ProviderRegistry, world, who, signed);
            (providers, ProviderRegistry::addStakeCall { amount: U256::from(amount), permit }.abi_encode())
        }
        Call::RequestExit => (providers, ProviderRegistry::requestExitCall {}.abi_encode()),
        Call::CancelExit => (providers, ProviderRegistry::cancelExitCall {}.abi_encode()),
        Call::Exit => (providers, ProviderRegistry::exitCall {}.abi_encode()),
        Call::PayOut(provider) => {
            (providers, ProviderRegistry::withdrawCall { provider: world.address(provider) }.abi_encode())
        }
        Call::Post(ref fields, signed) => {
            let permit = permit_of!(JobRegistry, world, who, signed);
            let contact = JobRegistry::Contact { endpoint: B256::ZERO, hint: String::new() };
            let post = JobRegistry::postCall { job: job(world, fields), spec: spec(), contact, permit };
            (world.contracts.jobs, post.abi_encode())
        }
        Call::Job { job, forged, ref act } => about_job(world, state, who, (job, forged), act),
        Call::PostPoll(ref fields, ref assurance, signed) => encode_polls::post(world, who, fields, assurance, signed),
        Call::Poll { poll, forged, ref act } => encode_polls::act(world, state, who, (poll, forged), act),
        Call::Rule { case, upheld, defender } => {
            let case_id = world.cases.get(case).copied().unwrap_or_default();
            let rule = Disputes::ruleCall { caseId: case_id, upheld, defender: world.address(defender) };
            (disputes, rule.abi_encode())
        }
        Call::Answer { case, reply } => (disputes, answer(world, state, case, reply).abi_encode()),
        Call::Claim(case) => {
            let case_id = world.cases.get(case).copied().unwrap_or_default();
            (disputes, Disputes::claimCall { caseId: case_id }.abi_encode())
        }
    }
}

fn about_job(world: &World, state: &State, who: Who, job: (usize, bool), act: &Act) -> (Address, Vec<u8>) {
    let (number, forged) = job;
    let fields = &state.jobs[number].fields;
    let mut job = world.jobs[number].clone();
    if forged {
        job.nonce += 1_000;
    }
    let one = |found: Given| given(world, state, number, found);
    let all = |found: &[Given]| found.iter().map(|found| one(*found)).collect::<Vec<_>>();
    let (jobs, disputes) = (world.contracts.jobs, world.contracts.disputes);
    let standing = |job: JobRegistry::Job, found: Given| Bytes::from((job, one(found)).abi_encode_params());
    let data = match *act {
        Act::SetContact => {
            let contact = JobRegistry::Contact { endpoint: B256::ZERO, hint: String::new() };
            JobRegistry::setContactCall { job, contact }.abi_encode()
        }
        Act::Cancel => JobRegistry::cancelCall { job }.abi_encode(),
        Act::Amend(ref terms, signed) => {
            let permit = permit_of!(JobRegistry, world, who, signed);
            JobRegistry::amendCall { job, terms: self::job(world, terms), permit }.abi_encode()
        }
        Act::Lease(ref batches) => JobRegistry::leaseCall { job, batches: batches.clone() }.abi_encode(),
        Act::Release(ref batches) => JobRegistry::releaseCall { job, batches: batches.clone() }.abi_encode(),
        Act::Submit(ref results) => {
            let result = |&(batch, work): &(u32, Work)| JobRegistry::Result {
                batch,
                root: root(fields, batch, work),
                fuel: work.fuel(fields, batch),
                outputs: keccak256("manifest"),
            };
            JobRegistry::submitCall { job, results: results.iter().map(result).collect() }.abi_encode()
        }
        Act::Accept(ref found) => JobRegistry::acceptCall { job, submissions: all(found) }.abi_encode(),
        Act::Finalise(ref found) => JobRegistry::finaliseCall { job, submissions: all(found) }.abi_encode(),
        Act::Expire(ref batches) => JobRegistry::expireCall { job, batches: batches.clone() }.abi_encode(),
        Act::Reject(found, signed) => {
            let permit = permit_of!(JobRegistry, world, who, signed);
            JobRegistry::rejectCall { job, given: one(found), permit }.abi_encode()
        }
        Act::Freeze(found) => JobRegistry::freezeCall { job, given: one(found) }.abi_encode(),
        Act::Resolve(found) => JobRegistry::resolveCall { job, given: one(found) }.abi_encode(),
        Act::Challenge(found, About::Wrong { task, commitment }) => {
            let permit = permit_of!(Disputes, world, who, Permit::None);
            let commitment = B256::with_last_byte(commitment);
            let standing = standing(job, found);
            let call = Disputes::challengeCall { registry: jobs, standing, task, commitment, permit };
            return (disputes, call.abi_encode());
        }
        Act::Demand(found, About::Withheld { task, chunk }) => {
            let permit = permit_of!(Disputes, world, who, Permit::None);
            let call = Disputes::demandCall { registry: jobs, standing: standing(job, found), task, chunk, permit };
            return (disputes, call.abi_encode());
        }
        Act::Challenge(..) | Act::Demand(..) => {
            unreachable!("a challenge names what is wrong, a demand what is withheld")
        }
    };
    (jobs, data)
}
