// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IDeployment, Part, Settings} from "./interfaces/IDeployment.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";
import {Consent, IEscrow, Share} from "./interfaces/IEscrow.sol";
import {Job} from "./interfaces/IJobRegistry.sol";
import {IJobRules} from "./interfaces/IJobRules.sol";
import {BallotState, IReplicaRegistry, ReplicaState, ReplicatedJob} from "./interfaces/IReplicaRegistry.sol";
import {Ballot, Replica} from "./libraries/Ballots.sol";
import {BlockHash} from "./libraries/BlockHash.sol";
import {Jobs} from "./libraries/Jobs.sol";
import {Votes} from "./libraries/Votes.sol";

/// @title What a ReplicaRegistry stores, and what it was deployed with
abstract contract ReplicaStore is IReplicaRegistry {
    using Votes for ReplicatedJob;
    using Jobs for Job;
    using SafeCast for uint256;

    uint256 internal constant BPS = 10_000;
    /// What an audit share counts as for stake, at least and at most: a lease locks 19 times what it may earn, or once.
    uint256 internal constant LEAST_AUDIT_BPS = 500;
    uint256 internal constant MOST_AUDIT_BPS = 5000;
    /// Words of a ReplicatedJob.
    uint256 internal constant JOB_WORDS = 19;

    /// Of the deployment: a chain that takes another id keeps its jobs.
    uint256 internal immutable _CHAIN_ID = block.chainid;
    IEscrow internal immutable _ESCROW;
    IJobRules internal immutable _RULES;
    IDisputes internal immutable _DISPUTES;
    uint256 internal immutable _BACKUP_DELAY;
    uint256 internal immutable _EXPIRY_BOND_BPS;
    uint256 internal immutable _AUDIT_FLOOR_BPS;
    uint256 internal immutable _FAULTY_BPS;
    uint256 internal immutable _FEE_BPS;
    uint256 internal immutable _CHECK_FEE;
    uint256 internal immutable _MIN_STAKE;

    mapping(bytes32 jobId => mapping(uint32 batch => Ballot)) internal _ballots;
    mapping(bytes32 jobId => mapping(uint32 batch => mapping(address provider => Replica))) internal _replicas;
    /// What a job continues.
    mapping(bytes32 jobId => bytes32) internal _parents;

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        Settings memory settings = deployment.settings();
        _ESCROW = IEscrow(deployment.addressOf(Part.Escrow));
        _DISPUTES = IDisputes(deployment.addressOf(Part.Disputes));
        _RULES = IJobRules(deployment.addressOf(Part.JobRules));
        _BACKUP_DELAY = settings.successorDelayBlocks;
        _EXPIRY_BOND_BPS = settings.expiryBondBps;
        _AUDIT_FLOOR_BPS = settings.auditFloorBps;
        _FAULTY_BPS = settings.faultyBps;
        _FEE_BPS = settings.feeBps;
        _CHECK_FEE = settings.checkFee;
        _MIN_STAKE = settings.minStake;
    }

    /// @inheritdoc IReplicaRegistry
    function jobIdOf(ReplicatedJob calldata) external view returns (bytes32) {
        return _jobId();
    }

    /// @inheritdoc IReplicaRegistry
    function ballotOf(bytes32 jobId, uint32 batch) external view returns (Ballot) {
        return _ballots[jobId][batch];
    }

    /// @inheritdoc IReplicaRegistry
    function replicaOf(bytes32 jobId, uint32 batch, address provider) external view returns (Replica) {
        return _replicas[jobId][batch][provider];
    }

    /// @inheritdoc IReplicaRegistry
    function leaseLock(ReplicatedJob calldata job, uint32 batch) public view returns (uint256) {
        uint256 share = job.assurance.auditBps;
        share = share == 0 ? _AUDIT_FLOOR_BPS : Math.min(Math.max(share, LEAST_AUDIT_BPS), MOST_AUDIT_BPS);
        // A worst case is below 2^192.
        unchecked {
            return (job.job.worst(batch) * (BPS - share) + share - 1) / share;
        }
    }

    /// The job is the first argument of every call, nineteen words without a pointer: these bytes are abi.encode(job).
    function _jobId() internal view returns (bytes32) {
        return _idOf(msg.data[4:4 + 32 * JOB_WORDS]);
    }

    function _idOf(bytes calldata encodedJob) internal view returns (bytes32) {
        return keccak256(abi.encode(_CHAIN_ID, address(this), keccak256(encodedJob)));
    }

    function _posted() internal view returns (bytes32 jobId, Ballot head) {
        jobId = _jobId();
        head = _ballots[jobId][0];
        if (!head.isPosted()) revert UnknownJob(jobId);
    }

    function _asRequester(ReplicatedJob calldata job) internal view returns (bytes32 jobId, Ballot head) {
        (jobId, head) = _posted();
        if (msg.sender != job.job.requester) revert NotRequester(msg.sender, job.job.requester);
    }

    function _ballotAt(ReplicatedJob calldata job, bytes32 jobId, uint32 batch) internal view returns (Ballot) {
        uint32 count = job.job.batchCount();
        if (batch >= count) revert NoSuchBatch(batch, count);
        return _ballots[jobId][batch];
    }

    function _replicaIn(bytes32 jobId, uint32 batch, address provider, ReplicaState state)
        internal
        view
        returns (Replica replica)
    {
        replica = _replicas[jobId][batch][provider];
        if (replica.state() != state) revert WrongReplicaState(batch, provider, replica.state());
    }

    /// Stores a batch; the slot of batch 0 keeps the job's state.
    function _set(bytes32 jobId, uint32 number, Ballot ballot) internal {
        _ballots[jobId][number] = number == 0 ? ballot.withJob(_ballots[jobId][0]) : ballot;
    }

    /// Whether a batch was open in all the jobs that this one continues. They are cancelled, so that it still is.
    function _isInherited(bytes32 jobId, Ballot head, uint32 number) internal view returns (bool) {
        if (!head.isContinued()) return true;
        for (bytes32 from = _parents[jobId]; from != 0; from = _parents[from]) {
            if (_ballots[from][number].state() != BallotState.Open) return false;
        }
        return true;
    }

    /// Whether the other of straggler and backup has taken the slot of a lease.
    function _isBeaten(bytes32 jobId, uint32 number, Replica replica) internal view returns (bool) {
        address rival = replica.rival();
        return rival != address(0) && _replicas[jobId][number][rival].state() != ReplicaState.Leased;
    }

    /// Reverts unless leases of the batch may be taken and served.
    function _checkRound(uint32 number, Ballot ballot) internal view {
        _checkState(number, ballot, BallotState.Committing);
        if (block.timestamp > ballot.time()) revert TooLate(number, ballot.time());
    }

    function _checkState(uint32 number, Ballot ballot, BallotState state) internal pure {
        if (ballot.state() != state) revert WrongState(number, ballot.state());
    }

    /// When a round that opens now is over.
    function _roundEnd(ReplicatedJob calldata job) internal view returns (uint32) {
        return _after(2 * uint256(job.job.leaseSeconds));
    }

    /// Block time in so many seconds.
    function _after(uint256 seconds_) internal view returns (uint32) {
        return (block.timestamp + seconds_).toUint32();
    }

    /// Reverts unless block time has passed `end`.
    function _checkPast(uint32 number, uint256 end) internal view {
        if (block.timestamp <= end) revert TooEarly(number, end);
    }

    function _reopen(ReplicatedJob calldata job, bytes32 jobId, uint32 number, Ballot ballot) internal {
        ballot = ballot.reopened();
        Ballot head = _ballots[jobId][0];
        if (!head.isCancelled()) {
            _ballots[jobId][0] = head.withOpenCount(head.openCount() + 1);
            _set(jobId, number, ballot);
            return;
        }
        // Else a job that continues this one would take it for one of the batches that it was given.
        _set(jobId, number, ballot.withState(BallotState.Cancelled));
        (uint256 refund, uint256 burned) = _giveBack(job, job.costOf(number, _FEE_BPS));
        emit BatchCancelled(jobId, number, refund, burned);
    }

    /// Gives the requester back what open batches cost, less a fee: posting a sorted job again until the lot suits has its price.
    function _giveBack(ReplicatedJob calldata job, uint256 cost) internal returns (uint256 refund, uint256 burned) {
        if (job.isSorted()) burned = cost * _FEE_BPS / BPS;
        refund = cost - burned;
        _ESCROW.settle(job.job.requester, refund, burned, 0, Consent.None, new Share[](0));
    }

    /// Hash of the block after `number`; 0 if it is past reading.
    function _hashAfter(uint256 number) internal view returns (bytes32) {
        if (block.number <= number + 1) revert BlockToCome(number + 1);
        return BlockHash.read(number + 1);
    }
}
