// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Standing, Verdict} from "./IDisputes.sol";
import {Permit} from "./IEscrow.sol";

/// @notice What is computed. Only its hash enters a job: who leases, submits or pays need not repeat it.
struct Spec {
    /// BLAKE3 hash of the program, a WebAssembly module: how providers fetch it.
    bytes32 program;
    /// Keccak root of the program: what providers check before they risk stake.
    bytes32 programRoot;
    /// BLAKE3 hash of the input manifest: how providers fetch it.
    bytes32 inputs;
    /// Keccak root over each task's input (root, length).
    bytes32 inputRoot;
    /// Most linear memory that one task may have, in bytes.
    uint64 memoryLimit;
    /// Application category, 0 for none; providers filter by it.
    uint32 category;
}

/// @notice What a requester asks for and pays. Never stored: a job's id is its hash (see {IJobRegistry-jobIdOf}), and every
/// call that needs it takes it again in calldata, where {IJobRegistry-JobPosted} has put it for everybody to read.
struct Job {
    /// Who posted the job and is refunded.
    address requester;
    /// Chosen by the requester; makes the ids of equal jobs differ.
    uint64 nonce;
    /// keccak256(abi.encode(Spec)).
    bytes32 spec;
    /// Number of tasks, at least 1.
    uint32 taskCount;
    /// Tasks in a batch, at least 1; the last batch may hold fewer.
    uint32 batchSize;
    /// Most fuel that one task may burn, in instructions.
    uint64 fuelLimit;
    /// Token wei for 10^9 units of fuel up to the start of the ramp.
    uint128 startPrice;
    /// The same at the end of the ramp, at least `startPrice`.
    uint128 maxPrice;
    /// Block time at which the price begins to rise.
    uint32 rampStart;
    /// Seconds of block time in which the price rises linearly from the one to the other.
    uint32 rampSeconds;
    /// Seconds of block time between lease and deadline.
    uint32 leaseSeconds;
    /// Seconds of block time between a result's submission and the moment anyone may finalise it.
    uint32 windowSeconds;
}

/// @notice Where a peer can be dialled: its iroh endpoint id and, optionally, direct addresses ("127.0.0.1:4433", comma separated).
struct Contact {
    bytes32 endpoint;
    string hint;
}

/// @notice One batch's result, as its provider submits it.
struct Result {
    uint32 batch;
    /// Root of the batch's result sum tree ({ResultTree}).
    bytes32 root;
    /// Total fuel of the batch: the sum that the root commits to.
    uint64 fuel;
    /// BLAKE3 hash of the result manifest: how anyone fetches leaves and outputs.
    bytes32 outputs;
}

/// @notice A result that stands on the chain, as {IJobRegistry-ResultSubmitted} told: the registry keeps only its hash.
struct Submission {
    uint32 batch;
    address provider;
    /// Token wei for 10^9 fuel, from the lease.
    uint128 price;
    bytes32 root;
    uint64 fuel;
}

enum BatchState {
    /// Nobody holds it.
    Open,
    /// A provider holds it until `time`.
    Leased,
    /// A result stands unless something happens before `time`, the end of its window.
    Submitted,
    /// Paid; final.
    Settled,
    /// Cancelled by the requester while open; final.
    Cancelled,
    /// Its result is disputed ({IDisputes}).
    Frozen
}

/// @notice A batch, as far as the registry's storage tells.
struct Batch {
    BatchState state;
    /// Leased: block time at which the lease expires. Submitted, frozen, settled: block time from which anyone may finalise.
    /// Open: when a lease of it was released, if that is how the last one ended. Else 0.
    uint32 time;
    /// Leased: the holder. Open: whose lease ran out last and who has not released the batch since, who may still submit; 0 for none.
    address provider;
    /// Leased: whose lease ran out before, who may still submit before `activeBlock`; 0 for none.
    address former;
    /// Leased: block number from which the holder may submit, 0 for at once.
    uint40 activeBlock;
    /// Open or leased: how many leases of this batch ran out, since it was posted or a result of it fell.
    uint8 expiries;
    /// Leased, or once expired: token wei for 10^9 fuel. Else 0.
    uint128 price;
    /// Submitted, frozen, settled: last 189 bits of keccak256(abi.encode(Submission)).
    uint192 submission;
}

/// @notice What the registry stores of a job beyond its batches.
struct JobState {
    bool posted;
    /// Its open batches are final.
    bool cancelled;
    /// Batches that nobody holds and that are not final.
    uint24 open;
}

/// @title Jobs, their batches, leases and results
/// @notice The one-replica way: post, lease, submit, accept or finalise; expire, release, cancel. Settings: {IDeployment-Settings}.
/// Block times are 32 bits wide: until the year 2106.
interface IJobRegistry {
    /// A job that providers may lease from now on; `deposit` token wei are locked for it.
    event JobPosted(
        bytes32 indexed jobId, address indexed requester, Job job, Spec spec, Contact contact, uint256 deposit
    );
    /// The requester can now be reached there.
    event JobContactChanged(bytes32 indexed jobId, Contact contact);
    /// `activeBlocks[i]` belongs to `batches[i]`. The former holder and the price of each follow from earlier events.
    event BatchesLeased(
        bytes32 indexed jobId, address indexed provider, uint32[] batches, uint40[] activeBlocks, uint32 deadline
    );
    /// A result stands; anybody may finalise it from `finalAt`, block time, on. `outputs` is where its outputs are ({Result}).
    event ResultSubmitted(
        bytes32 indexed jobId,
        address indexed provider,
        uint32 batch,
        uint128 price,
        bytes32 root,
        uint64 fuel,
        bytes32 outputs,
        uint32 finalAt
    );
    /// `accepted` is true when the requester accepted it, false when the window ran out.
    event BatchSettled(
        bytes32 indexed jobId, address indexed provider, uint32 batch, uint256 payment, uint256 refund, bool accepted
    );
    /// `bond` was burned from the provider's stake.
    event LeaseExpired(bytes32 indexed jobId, address indexed provider, uint32 batch, uint256 bond);
    /// The holder gave the batch back in time.
    event LeaseReleased(bytes32 indexed jobId, address indexed provider, uint32 batch);
    /// `batches` were open and are now final; `refund` went back to the requester's Escrow balance.
    event JobCancelled(bytes32 indexed jobId, uint32 batches, uint256 refund);
    /// The open batches of job `from`, which is cancelled next, go on as those of the new job with fields `terms`.
    event JobAmended(bytes32 indexed from, bytes32 indexed jobId, Job terms, uint256 deposit);
    /// Its result is disputed.
    event BatchFrozen(bytes32 indexed jobId, uint32 batch);
    /// Its disputes are over: it is submitted again (stands), or else open, or cancelled as its job is.
    /// The provider lost `slashed` of its stake.
    event BatchResolved(
        bytes32 indexed jobId, address indexed provider, uint32 batch, Verdict verdict, uint256 slashed
    );
    /// It is settled; `payment` of the requester and `bond` of the provider were burned.
    event BatchRejected(
        bytes32 indexed jobId, address indexed provider, uint32 batch, uint256 payment, uint256 refund, uint256 bond
    );

    /// Only the requester of the job may do that.
    error NotRequester(address caller, address requester);
    /// The very same job was posted before; choose another nonce.
    error JobExists(bytes32 jobId);
    /// The job was never posted here, or the calldata differs from what was posted.
    error UnknownJob(bytes32 jobId);
    /// The job takes no new leases.
    error JobIsCancelled(bytes32 jobId);
    /// Batches are numbered from 0 to `batchCount` - 1.
    error NoSuchBatch(uint32 batch, uint32 batchCount);
    /// An empty list, or a job with nothing open.
    error NothingGiven();
    /// The batch is in `state`, which the call does not allow.
    error WrongState(uint32 batch, BatchState state);
    /// Somebody else holds the batch, or nobody does.
    error NotHolder(uint32 batch, address caller);
    /// The former holder may still submit, until block `activeBlock`.
    error NotYetActive(uint32 batch, uint40 activeBlock);
    /// The lease's deadline has not passed.
    error LeaseRunning(uint32 batch, uint32 deadline);
    /// The batch was released in this very second: others have a chance before it is leased again.
    error JustReleased(uint32 batch);
    /// The first quarter of the lease is over: too late to release it without a mark.
    error TooLateToRelease(uint32 batch);
    /// Only the requester may have it paid before `finalAt`, block time.
    error WindowOpen(uint32 batch, uint32 finalAt);
    /// More fuel than all tasks of the batch may burn together.
    error FuelAboveLimit(uint32 batch, uint64 fuel, uint256 limit);
    /// A result has a root.
    error EmptyRoot(uint32 batch);
    /// What is given differs from what was submitted.
    error WrongSubmission(uint32 batch);
    /// {amend} keeps what is computed and who asks for it.
    error OtherWork();
    /// Only Disputes freezes.
    error NotDisputes(address caller);
    /// There is an arbiter: {IDisputes-challenge} instead.
    error HasArbiter();
    /// The window ended at `finalAt`, block time.
    error WindowOver(uint32 batch, uint32 finalAt);

    /// @notice Posts a job and locks its worst case ({IJobRules-depositOf}) from the caller's Escrow balance; what that lacks is pulled from the
    /// caller's token balance by allowance or `permit` (a failing permit is tolerated when the allowance suffices;
    /// `permit.deadline` 0 means none).
    function post(Job calldata job, Spec calldata spec, Contact calldata contact, Permit calldata permit)
        external
        returns (bytes32 jobId);
    /// @notice Requester: tells providers where it can be reached now.
    function setContact(Job calldata job, Contact calldata contact) external;
    /// @notice Requester: ends all open batches and refunds their worst case. Leased and submitted ones go on.
    function cancel(Job calldata job) external;
    /// @notice Requester: gives the open batches other prices, times or nonce: they leave `job`, which is cancelled, and are the open
    /// batches of the new job `terms`, under the same numbers. Leased and submitted ones go on as they were. The difference of the
    /// deposits is refunded, or taken as {post} does.
    function amend(Job calldata job, Job calldata terms, Permit calldata permit) external returns (bytes32 jobId);
    /// @notice Provider: takes open batches at the price of the moment (a batch whose lease once expired keeps its price), locking
    /// {leaseLock} of stake for each. A batch whose lease has expired but was not reopened is expired on the way. One that was released can
    /// be leased a second later: else whoever releases and leases in one transaction keeps it from others for nothing.
    function lease(Job calldata job, uint32[] calldata batches) external;
    /// @notice Holder, within the first quarter of the lease time: gives batches back, without a mark (inputs cannot be had).
    function release(Job calldata job, uint32[] calldata batches) external;
    /// @notice Holder: submits results. Late is allowed until a successor's lease is active.
    function submit(Job calldata job, Result[] calldata results) external;
    /// @notice Requester: accepts submitted batches, which pays them at once. Cheapest in order of provider.
    function accept(Job calldata job, Submission[] calldata submissions) external;
    /// @notice Anyone: pays submitted batches whose window is over. Cheapest in order of provider.
    function finalise(Job calldata job, Submission[] calldata submissions) external;
    /// @notice Anyone: reopens batches whose lease is over; the holder loses a bond that doubles with each expiry of the batch.
    function expire(Job calldata job, uint32[] calldata batches) external;

    /// @notice Disputes: stops payment of a submitted batch.
    function freeze(Job calldata job, Submission calldata submission) external returns (Standing memory);
    /// @notice Anyone, once a frozen batch's disputes are over ({IDisputes-conclude}): it is submitted again if its result stands, else open
    /// (or cancelled, as its job is). A result that is wrong costs its provider the stake that the lease held, of which one half
    /// goes to who challenged it.
    function resolve(Job calldata job, Submission calldata submission) external returns (Verdict verdict);
    /// @notice Requester, in the window, where there is no arbiter: the batch is final, its payment burned, and with it a bond of
    /// Settings.challengeBond, taken as {post} does, and as much of the provider's stake as a first expiry costs. Nobody gains.
    function reject(Job calldata job, Submission calldata submission, Permit calldata permit) external;

    /// @notice keccak256(abi.encode(chain id, this registry, keccak256(abi.encode(job)))).
    function jobIdOf(Job calldata job) external view returns (bytes32);
    /// @notice What is stored of a job; all zero if it was never posted.
    function jobState(bytes32 jobId) external view returns (JobState memory);
    /// @notice Where a batch stands.
    function batchState(Job calldata job, uint32 batch) external view returns (Batch memory);
    /// @notice Token wei for 10^9 fuel that a batch leased for the first time would be paid now.
    function priceOf(Job calldata job) external view returns (uint128);
    /// @notice Stake that a lease of `batch` locks, token wei: worst-case price x (1 - a) / a, a the assumed audit share.
    function leaseLock(Job calldata job, uint32 batch) external view returns (uint256);
}
