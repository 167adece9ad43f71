//! Calls about replicated jobs as the contracts take them.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol_types::{SolCall, SolValue},
};
use conun_bindings::{
    abi::{Disputes, ReplicaRegistry},
    commit::{ResultLeaf, ResultTree},
};

use super::{
    ballots::{Assurance, Stage, Vote},
    calls::{Given, Opened, Permit, PollAct, Shown},
    disputes::About,
    encode::{Signature, job as encode_job, leaves, permit, root, spec},
    jobs::Fields,
    reference::{State, Who},
    world::World,
};

pub(super) fn poll(world: &World, fields: &Fields, assurance: &Assurance) -> ReplicaRegistry::ReplicatedJob {
    let job = encode_job(world, fields);
    ReplicaRegistry::ReplicatedJob {
        job: ReplicaRegistry::Job {
            requester: job.requester,
            nonce: job.nonce,
            spec: job.spec,
            taskCount: job.taskCount,
            batchSize: job.batchSize,
            fuelLimit: job.fuelLimit,
            startPrice: job.startPrice,
            maxPrice: job.maxPrice,
            rampStart: job.rampStart,
            rampSeconds: job.rampSeconds,
            leaseSeconds: job.leaseSeconds,
            windowSeconds: job.windowSeconds,
        },
        assurance: ReplicaRegistry::Assurance {
            replicas: assurance.replicas,
            limit: assurance.limit,
            target: assurance.target,
            auditBps: assurance.audit_bps,
            minChecks: assurance.min_checks,
            widenSeconds: assurance.widen as u32,
            revealSeconds: assurance.reveal as u32,
        },
    }
}

fn signature(world: &World, who: Who, signed: Permit) -> ReplicaRegistry::Permit {
    let Signature { value, deadline, v, r, s } = permit(world, who, signed);
    ReplicaRegistry::Permit { value, deadline, v, r, s }
}

pub(super) fn post(
    world: &World,
    who: Who,
    fields: &Fields,
    assurance: &Assurance,
    signed: Permit,
) -> (Address, Vec<u8>) {
    let spec = spec();
    let post = ReplicaRegistry::postCall {
        job: poll(world, fields, assurance),
        spec: ReplicaRegistry::Spec {
            program: spec.program,
            programRoot: spec.programRoot,
            inputs: spec.inputs,
            inputRoot: spec.inputRoot,
            memoryLimit: spec.memoryLimit,
            category: spec.category,
        },
        contact: ReplicaRegistry::Contact { endpoint: B256::ZERO, hint: String::new() },
        permit: signature(world, who, signed),
    };
    (world.contracts.replicas, post.abi_encode())
}

fn abi(leaf: &ResultLeaf) -> ReplicaRegistry::ResultLeaf {
    ReplicaRegistry::ResultLeaf {
        index: leaf.index,
        ok: leaf.ok,
        exitCode: leaf.exit_code,
        outputRoot: leaf.output_root,
        outputLength: leaf.output_length,
        fuel: leaf.fuel,
    }
}

fn pair(two: &[B256]) -> B256 {
    keccak256([two[0].as_slice(), two[1].as_slice()].concat())
}

/// The levels of the tree that binds leaves to who made them, the root's last.
fn bound_tree(provider: Address, leaves: &[ResultLeaf]) -> Vec<Vec<B256>> {
    let mut level: Vec<B256> = leaves.iter().map(|leaf| keccak256((provider, abi(leaf)).abi_encode())).collect();
    level.resize(leaves.len().next_power_of_two(), B256::ZERO);
    let mut levels = vec![level];
    while let Some(below) = levels.last().filter(|level| level.len() > 1) {
        let above = below.chunks_exact(2).map(pair).collect();
        levels.push(above);
    }
    levels
}

fn bound(provider: Address, fields: &Fields, batch: u32, vote: Vote) -> B256 {
    if !vote.bound || fields.tasks_in(batch) == 0 {
        return B256::ZERO;
    }
    bound_tree(provider, &leaves(fields, batch, vote.work)).last().map_or(B256::ZERO, |top| top[0])
}

fn reveal_of(provider: Address, fields: &Fields, batch: u32, vote: Vote) -> ReplicaRegistry::Reveal {
    ReplicaRegistry::Reveal {
        batch,
        provider,
        root: root(fields, batch, vote.work),
        fuel: vote.work.fuel(fields, batch),
        outputs: keccak256("manifest"),
        bound: bound(provider, fields, batch, vote),
        salt: keccak256((provider, batch).abi_encode()),
    }
}

fn commitment(job_id: B256, given: &ReplicaRegistry::Reveal) -> B256 {
    keccak256(
        (job_id, given.batch, given.provider, given.root, given.fuel, given.outputs, given.bound, given.salt)
            .abi_encode(),
    )
}

/// What the registry keeps the end of, of a commit and of a reveal.
pub(super) fn commitment_of(world: &World, state: &State, poll: usize, batch: u32, who: Who, vote: Vote) -> B256 {
    let given = reveal_of(world.address(who), &state.polls[poll].fields, batch, vote);
    commitment(world.poll_id(poll), &given)
}

pub(super) fn vote_hash(state: &State, poll: usize, batch: u32, vote: Vote) -> B256 {
    let fields = &state.polls[poll].fields;
    keccak256((root(fields, batch, vote.work), vote.work.fuel(fields, batch)).abi_encode())
}

fn stage(state: &State, poll: usize, batch: u32, who: Who) -> Option<Stage> {
    let ballot = state.polls[poll].ballots.get(batch as usize)?;
    ballot.replicas.get(&who).map(|replica| replica.at)
}

fn shown(world: &World, state: &State, poll: usize, given: Shown) -> ReplicaRegistry::Reveal {
    let fields = &state.polls[poll].fields;
    let provider = world.address(given.provider);
    let vote = match stage(state, poll, given.batch, given.provider) {
        Some(Stage::Committed { vote, .. } | Stage::Revealed { vote, .. }) => Some(vote),
        _ => None,
    };
    let mut made = vote.map_or_else(
        || ReplicaRegistry::Reveal {
            batch: given.batch,
            provider,
            root: keccak256("never made"),
            fuel: 1,
            outputs: B256::ZERO,
            bound: B256::ZERO,
            salt: B256::ZERO,
        },
        |vote| reveal_of(provider, fields, given.batch, vote),
    );
    if given.wrong {
        made.salt = keccak256(made.salt);
    }
    made
}

fn opening(world: &World, state: &State, poll: usize, given: Shown, opened: Opened) -> ReplicaRegistry::Opening {
    let fields = &state.polls[poll].fields;
    let found = stage(state, poll, given.batch, given.provider);
    let Some(Stage::Committed { block, vote, .. }) = found else {
        return ReplicaRegistry::Opening::default();
    };
    let all = leaves(fields, given.batch, vote.work);
    let provider = world.address(given.provider);
    let lot = (world.block_hash(block + 1).unwrap_or_default(), world.poll_id(poll), given.batch, provider);
    let drawn: u64 = (U256::from_be_bytes(keccak256(lot.abi_encode()).0) % U256::from(all.len())).to();
    let position = match opened {
        Opened::Drawn => drawn as usize,
        Opened::Another => (drawn as usize + 1) % all.len(),
    };
    let mut leaf = abi(&all[position]);
    if all.len() == 1 && opened == Opened::Another {
        leaf.exitCode += 1;
    }
    let proof = ResultTree::new(&all).expect("a batch has tasks").proof(position);
    let tree = bound_tree(provider, &all);
    let sibling = |(height, level): (usize, &Vec<B256>)| level[position >> height ^ 1];
    ReplicaRegistry::Opening {
        leaf,
        siblingHashes: proof.iter().map(|node| node.hash).collect(),
        siblingFuels: proof.iter().map(|node| node.fuel).collect(),
        boundSiblings: tree[..tree.len() - 1].iter().enumerate().map(sibling).collect(),
    }
}

/// All votes of a batch, in the order of addresses; or something that they are not.
fn tally(world: &World, state: &State, poll: usize, given: Given) -> ReplicaRegistry::Tally {
    let found = &state.polls[poll];
    let votes = found.ballots.get(given.batch as usize).map(|ballot| ballot.votes()).unwrap_or_default();
    let vote = |(who, _, vote): &(Who, _, Option<Vote>)| ReplicaRegistry::Vote {
        provider: world.address(*who),
        root: vote.map_or(B256::ZERO, |vote| root(&found.fields, given.batch, vote.work)),
        fuel: vote.map_or(0, |vote| vote.work.fuel(&found.fields, given.batch)),
    };
    let mut votes: Vec<_> = votes.iter().map(vote).collect();
    votes.sort_by_key(|vote| vote.provider);
    if given.wrong {
        match (state.now % 4, votes.len()) {
            (_, 0) => votes.push(ReplicaRegistry::Vote { provider: world.address(0), root: B256::ZERO, fuel: 0 }),
            (0, _) => drop(votes.pop()),
            (1, count) if count > 1 => votes.reverse(),
            (2, count) => votes.push(votes[count - 1].clone()),
            _ => votes[0].fuel += 1,
        }
    }
    ReplicaRegistry::Tally { batch: given.batch, votes }
}

/// Whom to call about a replicated job, and with what.
pub(super) fn act(
    world: &World,
    state: &State,
    who: Who,
    (number, forged): (usize, bool),
    act: &PollAct,
) -> (Address, Vec<u8>) {
    let fields = &state.polls[number].fields;
    let mut job = world.polls[number].clone();
    if forged {
        job.job.nonce += 1_000;
    }
    let me = world.address(who);
    let one = |given: Given| tally(world, state, number, given);
    let all = |given: &[Given]| given.iter().map(|given| one(*given)).collect::<Vec<_>>();
    let reveals = |given: &[Shown]| {
        let mut made: Vec<_> = given.iter().map(|given| shown(world, state, number, *given)).collect();
        made.sort_by_key(|reveal| (reveal.batch, reveal.provider));
        made
    };
    let (replicas, disputes) = (world.contracts.replicas, world.contracts.disputes);
    let standing =
        |job: ReplicaRegistry::ReplicatedJob, given: Given| Bytes::from((job, one(given)).abi_encode_params());
    let no_permit = || Disputes::Permit { value: U256::ZERO, deadline: U256::ZERO, v: 0, r: B256::ZERO, s: B256::ZERO };
    let data = match *act {
        PollAct::SetContact => {
            let contact = ReplicaRegistry::Contact { endpoint: B256::ZERO, hint: String::new() };
            ReplicaRegistry::setContactCall { job, contact }.abi_encode()
        }
        PollAct::Cancel => ReplicaRegistry::cancelCall { job }.abi_encode(),
        PollAct::Amend(ref fields, ref assurance, signed) => {
            let (terms, permit) = (poll(world, fields, assurance), signature(world, who, signed));
            ReplicaRegistry::amendCall { job, terms, permit }.abi_encode()
        }
        PollAct::Lease(ref batches) => ReplicaRegistry::leaseCall { job, batches: batches.clone() }.abi_encode(),
        PollAct::BackUp { batch, straggler } => {
            let straggler = world.address(straggler);
            ReplicaRegistry::backUpCall { job, number: batch, straggler }.abi_encode()
        }
        PollAct::Release(ref batches) => ReplicaRegistry::releaseCall { job, batches: batches.clone() }.abi_encode(),
        PollAct::Expire { batch, provider } => {
            ReplicaRegistry::expireCall { job, number: batch, provider: world.address(provider) }.abi_encode()
        }
        PollAct::Commit(ref given) => {
            let made = |&(batch, vote, _): &(u32, Vote, bool)| {
                let hash = commitment(world.poll_id(number), &reveal_of(me, fields, batch, vote));
                ReplicaRegistry::Commitment { batch, hash }
            };
            ReplicaRegistry::commitCall { job, commitments: given.iter().map(made).collect() }.abi_encode()
        }
        PollAct::Draw(batch) => ReplicaRegistry::drawCall { job, number: batch }.abi_encode(),
        PollAct::Reveal(ref given) => ReplicaRegistry::revealCall { job, reveals: reveals(given) }.abi_encode(),
        PollAct::RevealOpened(given, opened) => {
            let opening = opening(world, state, number, given, opened);
            let given = shown(world, state, number, given);
            ReplicaRegistry::revealOpenedCall { job, given, opening }.abi_encode()
        }
        PollAct::Accept(ref given) => ReplicaRegistry::acceptCall { job, tallies: all(given) }.abi_encode(),
        PollAct::RevealAndAccept(ref given) => {
            ReplicaRegistry::revealAndAcceptCall { job, reveals: reveals(given) }.abi_encode()
        }
        PollAct::Finalise(ref given) => ReplicaRegistry::finaliseCall { job, tallies: all(given) }.abi_encode(),
        PollAct::Freeze(given) => ReplicaRegistry::freezeCall { job, tally: one(given) }.abi_encode(),
        PollAct::Resolve(given) => ReplicaRegistry::resolveCall { job, tally: one(given) }.abi_encode(),
        PollAct::Challenge(given, About::Wrong { task, commitment }) => {
            let (standing, commitment) = (standing(job, given), B256::with_last_byte(commitment));
            let permit = no_permit();
            let call = Disputes::challengeCall { registry: replicas, standing, task, commitment, permit };
            return (disputes, call.abi_encode());
        }
        PollAct::Demand(given, About::Withheld { task, chunk }) => {
            let (standing, permit) = (standing(job, given), no_permit());
            return (disputes, Disputes::demandCall { registry: replicas, standing, task, chunk, permit }.abi_encode());
        }
        PollAct::Challenge(..) | PollAct::Demand(..) => unreachable!("each names what it is about"),
    };
    (replicas, data)
}
