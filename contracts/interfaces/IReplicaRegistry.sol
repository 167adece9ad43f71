// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ballot, Replica} from "../libraries/Ballots.sol";
import {ResultLeaf} from "../libraries/ResultTree.sol";
import {Standing, Verdict} from "./IDisputes.sol";
import {Consent, Permit} from "./IEscrow.sol";
import {Contact, Job, Spec} from "./IJobRegistry.sol";

/// @notice How a requester wants its results assured.
struct Assurance {
    /// Executions of each batch that are asked for at first, at least 1.
    uint8 replicas;
    /// Most executions of a batch, at most 15: what the deposit is for. More than `replicas` come about one at a time, while no group of
    /// equal results is believed.
    uint8 limit;
    /// Credibility, in 1/10^9, that a group of equal results must exceed ({Odds}). `limit` newcomers that agree must reach it.
    uint32 target;
    /// Share of the batches, in 1/10,000, that are audited: one execution more, drawn by lot once all of the first round are committed.
    /// Not 0 where one replica is asked for and more are allowed.
    uint16 auditBps;
    /// Least number of checks that a provider has passed.
    uint32 minChecks;
    /// Sortition: seconds from the moment at which nobody may lease a slot to that at which everybody may. At least 1 and at most
    /// leaseSeconds, or 0 for jobs of one execution a batch.
    uint32 widenSeconds;
    /// Seconds to reveal, at least 60.
    uint32 revealSeconds;
}

/// @notice A job whose batches are executed several times, or audited, or both. Its id is the hash of all its fields.
struct ReplicatedJob {
    /// `rampStart` is also when everybody may lease: at least `widenSeconds` after the post.
    Job job;
    Assurance assurance;
}

/// @notice What a provider commits to for one batch.
struct Commitment {
    uint32 batch;
    /// keccak256(abi.encode(jobId, batch, provider, root, fuel, outputs, bound, salt)), see {Reveal}.
    bytes32 hash;
}

/// @notice What was committed to.
struct Reveal {
    uint32 batch;
    /// Who committed; anyone who knows the salt may reveal for it, so that one transaction can reveal all.
    address provider;
    /// Root of the batch's result sum tree ({ResultTree}).
    bytes32 root;
    /// Total fuel of the batch.
    uint64 fuel;
    /// BLAKE3 hash of the result manifest: how anyone fetches leaves and outputs.
    bytes32 outputs;
    /// 0, but in a round that opened when roots were public: root of the Merkle tree, of the result tree's depth and padded with zeros,
    /// over keccak256(abi.encode(provider, ResultLeaf)), node = keccak256(left . right). Who only copied the root cannot make it.
    bytes32 bound;
    bytes32 salt;
}

/// @notice The leaf that the block after a commit draws, in both of its trees.
struct Opening {
    ResultLeaf leaf;
    bytes32[] siblingHashes;
    uint64[] siblingFuels;
    bytes32[] boundSiblings;
}

/// @notice One provider's vote, as {IReplicaRegistry-Revealed} told; root and fuel are 0 for a commit that was not revealed.
struct Vote {
    address provider;
    bytes32 root;
    uint64 fuel;
}

/// @notice All votes of a batch: of everybody that committed, in ascending order of provider.
struct Tally {
    uint32 batch;
    Vote[] votes;
}

enum BallotState {
    /// Nobody holds or has done any of it.
    Open,
    /// Until `time`, or until as many have committed as are wanted.
    Committing,
    /// As many as are wanted at first have committed; the next block decides whether the batch is audited.
    Drawing,
    /// Until `time`; once all are revealed, `time` is the end of the window.
    Revealing,
    /// The result is disputed ({IDisputes}).
    Frozen,
    /// Paid; final.
    Settled,
    /// No group was believed; final.
    Undecided,
    /// A dispute was won; final.
    Overturned,
    /// Cancelled by the requester while open; final.
    Cancelled
}

enum ReplicaState {
    None,
    /// Holds a slot of the batch, or a backup of one.
    Leased,
    Committed,
    Revealed,
    /// It released its lease, let it run out, lost the slot, or never revealed: no second try at this batch.
    Done
}

/// @title Jobs whose batches several providers execute: commit, reveal, vote; audits by lot
/// @notice A round: slots are leased, in the order of a lot; holders commit, until as many have as are wanted or two lease times are over
/// since the first lease; then they reveal. A group of equal results that is believed ({Odds}) is paid once the window is over,
/// the others lose their stake; else one more slot opens, up to the limit. Where an audited batch has votes that differ all count as a newcomer's:
/// records are what an audit puts to the test.
interface IReplicaRegistry {
    /// A job that providers may lease as its lot says; `deposit` token wei are locked for it.
    event ReplicatedJobPosted(
        bytes32 indexed jobId, address indexed requester, ReplicatedJob job, Spec spec, Contact contact, uint256 deposit
    );
    /// The requester can now be reached there.
    event JobContactChanged(bytes32 indexed jobId, Contact contact);
    /// That many open batches are final. `burned` is the fee of a sorted job: posting again until the lot suits has its price.
    event JobCancelled(bytes32 indexed jobId, uint32 batches, uint256 refund, uint256 burned);
    /// A batch of a cancelled job was open again, and is final. `burned`: as for those that were open at once.
    event BatchCancelled(bytes32 indexed jobId, uint32 batch, uint256 refund, uint256 burned);
    /// The open batches of job `from`, which was cancelled just before, go on as those of the new job with fields `terms`.
    event ReplicatedJobAmended(bytes32 indexed from, bytes32 indexed jobId, ReplicatedJob terms, uint256 deposit);
    /// `provider` holds a slot of each batch until `deadline`, block time, or the end of the round if that is earlier, at `price` token wei for 10^9 fuel.
    event ReplicasLeased(
        bytes32 indexed jobId, address indexed provider, uint32[] batches, uint128 price, uint32 deadline
    );
    /// `provider` may commit from `activeBlock` on unless `straggler` did before.
    event BackupLeased(
        bytes32 indexed jobId,
        address indexed provider,
        uint32 batch,
        address straggler,
        uint128 price,
        uint256 activeBlock
    );
    /// The provider gave its slot, or its backup, back.
    event LeaseReleased(bytes32 indexed jobId, address indexed provider, uint32 batch);
    /// The provider's lease ran out; `bond` token wei of its stake were burned.
    event LeaseExpired(bytes32 indexed jobId, address indexed provider, uint32 batch, uint256 bond);
    /// The provider committed to a result ({Commitment}).
    event Committed(bytes32 indexed jobId, address indexed provider, uint32 batch, bytes32 commitment);
    /// Whether the batch is audited: one more execution before anything is revealed.
    event Drawn(bytes32 indexed jobId, uint32 batch, bool audited);
    /// What the provider had committed to, and where its outputs are ({Reveal}).
    event Revealed(
        bytes32 indexed jobId, address indexed provider, uint32 batch, bytes32 root, uint64 fuel, bytes32 outputs
    );
    /// All have revealed, or the time for it is over: what the votes say can be disputed until `finalAt`.
    event AllRevealed(bytes32 indexed jobId, uint32 batch, uint32 finalAt);
    /// No group was believed: one more slot is open for commits until `end`.
    event RoundOpened(bytes32 indexed jobId, uint32 batch, uint256 wanted, uint32 end);
    /// The provider's vote was wrong, or never revealed: it lost the stake that the lease held, and its record. Each other vote's stake
    /// is free, and those that were paid follow from `Revealed`, `BatchEnded` and the price of the lease.
    event ReplicaSlashed(bytes32 indexed jobId, address indexed provider, uint32 batch, uint256 stake);
    /// `state`: settled, undecided, overturned, or open again because nobody revealed. `burned` is the fee, or half the price of an
    /// undecided batch. `root` and `fuel` are those of the best group of equal results: what was paid, or overturned.
    event BatchEnded(
        bytes32 indexed jobId,
        uint32 batch,
        BallotState state,
        bytes32 root,
        uint64 fuel,
        uint256 refund,
        uint256 burned,
        Consent consent
    );
    /// Its result is disputed.
    event BatchFrozen(bytes32 indexed jobId, uint32 batch);
    /// Its disputes are over: `BatchEnded` follows unless the result stands.
    event BatchResolved(bytes32 indexed jobId, uint32 batch, Verdict verdict);

    /// Only the requester of the job may do that.
    error NotRequester(address caller, address requester);
    /// The very same job was posted before; choose another nonce.
    error JobExists(bytes32 jobId);
    /// The job was never posted here, or the calldata differs from what was posted.
    error UnknownJob(bytes32 jobId);
    /// The job opens no more batches.
    error JobIsCancelled(bytes32 jobId);
    /// Batches are numbered from 0 to `batchCount` - 1.
    error NoSuchBatch(uint32 batch, uint32 batchCount);
    /// An empty list.
    error NothingGiven();
    /// The batch is in `state`, which the call does not allow.
    error WrongState(uint32 batch, BallotState state);
    /// What the provider does for the batch is in `state`, which the call does not allow.
    error WrongReplicaState(uint32 batch, address provider, ReplicaState state);
    /// The job asks for providers that passed `need` checks.
    error RecordTooSmall(uint256 have, uint256 need);
    /// The lot lets the provider lease this batch from `opensAt` on.
    error NotDrawnYet(uint32 batch, uint256 opensAt);
    /// The block whose hash decides is still to come.
    error BlockToCome(uint256 number);
    /// The block whose hash decides is too long past.
    error BlockTooOld(uint256 number);
    /// As many as are wanted hold or have done the batch.
    error NoFreeSlot(uint32 batch);
    /// A backup needs that no batch of the job is open, and that the straggler's lease is half over, and neither a backup nor
    /// backed.
    error NoBackupNeeded(uint32 batch);
    /// Straggler or backup has committed: {release}.
    error SlotTaken(uint32 batch);
    /// The straggler may still commit alone, until block `activeBlock`.
    error NotYetActive(uint32 batch, uint256 activeBlock);
    /// Block time has to reach, or to pass, `time` first.
    error TooEarly(uint32 batch, uint256 time);
    /// Not after `time`: block time, or the block of a backup that is released.
    error TooLate(uint32 batch, uint256 time);
    /// What is revealed is not what was committed to.
    error WrongCommitment(uint32 batch);
    /// It is not the leaf that was drawn, or not in both trees.
    error WrongOpening(uint32 batch);
    /// The round opened when roots were public: {revealOpened}; or it did not: {reveal}.
    error WrongReveal(uint32 batch);
    /// More fuel than all tasks of the batch may burn together.
    error FuelAboveLimit(uint32 batch, uint64 fuel, uint256 limit);
    /// A result has a root.
    error EmptyRoot(uint32 batch);
    /// Not all that committed, not in ascending order, or not what they revealed.
    error WrongVotes(uint32 batch);
    /// Leases have run out and not been expired.
    error LeasesToExpire(uint32 batch);
    /// No group of equal results is believed.
    error NotAccepted(uint32 batch);
    /// Only Disputes freezes.
    error NotDisputes(address caller);

    /// @notice Posts a job and locks {IJobRules-depositOfReplicated}, as `IJobRegistry.post` does.
    function post(ReplicatedJob calldata job, Spec calldata spec, Contact calldata contact, Permit calldata permit)
        external
        returns (bytes32 jobId);
    /// @notice Requester: tells providers where it can be reached now.
    function setContact(ReplicatedJob calldata job, Contact calldata contact) external;
    /// @notice Requester: ends all open batches, and others once they are open again. Of what a sorted job is refunded then, the fee is
    /// burned.
    function cancel(ReplicatedJob calldata job) external;
    /// @notice Requester: gives the open batches other prices, times, assurance or nonce, as `IJobRegistry.amend` does. It is a
    /// cancellation and a post in one: of a sorted job the fee is burned, and the new job has a lot of its own.
    function amend(ReplicatedJob calldata job, ReplicatedJob calldata terms, Permit calldata permit)
        external
        returns (bytes32 jobId);
    /// @notice Provider: takes a free slot of each batch, from {opensAt} on, locking {leaseLock} for each.
    function lease(ReplicatedJob calldata job, uint32[] calldata batches) external;
    /// @notice Provider: takes a backup of the straggler's lease, until the end of the round, when no batch is open and half of that lease
    /// is over. Its turn comes as long after that as {opensAt} is after the begin of the lot. The first of the two to commit has the slot,
    /// the other's stake is free ({release}).
    function backUp(ReplicatedJob calldata job, uint32 batch, address straggler) external;
    /// @notice Holder: gives leases back in their first quarter, backups until they are active, either when the other has committed. It
    /// leases these batches no more: else whoever leases and releases without end keeps a slot from others for nothing.
    function release(ReplicatedJob calldata job, uint32[] calldata batches) external;
    /// @notice Anyone: ends a lease that ran out; its holder loses a bond that doubles with each expiry of the batch.
    function expire(ReplicatedJob calldata job, uint32 batch, address provider) external;
    /// @notice Holder: commits, late as well while the round lasts.
    function commit(ReplicatedJob calldata job, Commitment[] calldata commitments) external;
    /// @notice Anyone, from the second block after the last commit of the first round on: whether the batch is audited. A draw whose block
    /// is past reading is an audit, and so is that of a first round which is over with fewer commits than it wanted.
    function draw(ReplicatedJob calldata job, uint32 batch) external;
    /// @notice Anyone who knows the salts: shows what was committed to.
    function reveal(ReplicatedJob calldata job, Reveal[] calldata reveals) external;
    /// @notice The same in a round that opened when roots were public; from the second block after the commit on.
    function revealOpened(ReplicatedJob calldata job, Reveal calldata given, Opening calldata opening) external;
    /// @notice Requester: pays unanimous batches before their window is over.
    function accept(ReplicatedJob calldata job, Tally[] calldata tallies) external;
    /// @notice Requester: {reveal} and {accept} of one batch in one call, with its makers' salts in ascending order of provider.
    function revealAndAccept(ReplicatedJob calldata job, Reveal[] calldata reveals) external;
    /// @notice Anyone: brings batches whose reveals are over to their end, or opens one more slot.
    function finalise(ReplicatedJob calldata job, Tally[] calldata tallies) external;
    /// @notice Disputes: stops payment of an accepted result in its window.
    function freeze(ReplicatedJob calldata job, Tally calldata tally) external returns (Standing memory);
    /// @notice Anyone, once a frozen batch's disputes are over: as `IJobRegistry.resolve`, but a result that falls is not done again.
    function resolve(ReplicatedJob calldata job, Tally calldata tally) external returns (Verdict verdict);

    /// @notice keccak256(abi.encode(chain id, this registry, keccak256(abi.encode(job)))).
    function jobIdOf(ReplicatedJob calldata job) external view returns (bytes32);
    /// @notice A batch's slot, as the table in `libraries/Ballots.sol` tells; batch 0's holds the job's state as well. A batch that is stored
    /// as open is final when its job is cancelled.
    function ballotOf(bytes32 jobId, uint32 batch) external view returns (Ballot);
    /// @notice What `provider` does for a batch, as the table in `libraries/Ballots.sol` tells.
    function replicaOf(bytes32 jobId, uint32 batch, address provider) external view returns (Replica);
    /// @notice Block time from which `provider`, who is registered, may lease the batch: the later the more stake the others have that the lot puts before it.
    function opensAt(ReplicatedJob calldata job, uint32 batch, address provider) external view returns (uint256);
    /// @notice Stake that a lease of `batch` locks, token wei: worst-case price of one execution x (1 - a) / a. `a` is the job's audit share,
    /// counted as at least a twentieth and at most a half; without one, the share that the deployment assumes.
    function leaseLock(ReplicatedJob calldata job, uint32 batch) external view returns (uint256);
}
