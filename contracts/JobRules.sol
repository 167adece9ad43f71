// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDeployment, Settings} from "./interfaces/IDeployment.sol";
import {Job, Spec} from "./interfaces/IJobRegistry.sol";
import {IJobRules} from "./interfaces/IJobRules.sol";
import {Assurance, Opening, ReplicatedJob, Reveal} from "./interfaces/IReplicaRegistry.sol";
import {Ballots} from "./libraries/Ballots.sol";
import {Jobs} from "./libraries/Jobs.sol";
import {Odds} from "./libraries/Odds.sol";
import {Openings} from "./libraries/Openings.sol";
import {Votes} from "./libraries/Votes.sol";

/// @title Which jobs can be posted, and what they lock
contract JobRules is IJobRules {
    using Jobs for Job;
    using Votes for ReplicatedJob;

    uint256 private constant BPS = 10_000;
    /// Seconds after the post within which a lot has to begin.
    uint256 private constant LATEST_LOT = 10 minutes;

    /// Seconds, several blocks: who has no time to reveal loses its stake.
    uint256 private constant LEAST_REVEAL = 1 minutes;

    uint256 private immutable _MAX_COMMITMENT;
    uint256 private immutable _FAULTY_BPS;
    uint256 private immutable _FEE_BPS;

    constructor() {
        Settings memory settings = IDeployment(msg.sender).settings();
        _MAX_COMMITMENT = settings.maxCommitmentSeconds;
        _FAULTY_BPS = settings.faultyBps;
        _FEE_BPS = settings.feeBps;
    }

    /// @inheritdoc IJobRules
    function depositOf(Job calldata job, Spec calldata spec) external view returns (uint256 deposit) {
        _checkSpec(spec, job.spec);
        checkTerms(job);
        deposit = job.worstOf(job.batchCount(), true);
        _checkDeposit(deposit);
    }

    /// @inheritdoc IJobRules
    function depositOfReplicated(ReplicatedJob calldata job, Spec calldata spec)
        external
        view
        returns (uint256 deposit)
    {
        _checkSpec(spec, job.job.spec);
        deposit = _depositOf(job, job.job.batchCount(), true);
    }

    /// @inheritdoc IJobRules
    function depositOfAmended(ReplicatedJob calldata job, ReplicatedJob calldata terms, uint256 open, bool withLast)
        external
        view
        returns (uint256)
    {
        if (open == 0) revert InvalidJob("none of its batches is open");
        if (_workOf(job.job) != _workOf(terms.job)) {
            revert InvalidJob("an amended job keeps requester, spec, taskCount, batchSize and fuelLimit");
        }
        return _depositOf(terms, open, withLast);
    }

    /// @inheritdoc IJobRules
    function isOpened(
        ReplicatedJob calldata job,
        bytes32 jobId,
        bytes32 hash,
        Reveal calldata given,
        Opening calldata opening
    ) external pure returns (bool) {
        // Not {Jobs-tasksIn}: with one use more the compiler calls it where it is now part of {depositOf}, 150 gas for each post.
        uint256 tasks = job.job.taskCount - uint256(given.batch) * job.job.batchSize;
        if (tasks > job.job.batchSize) tasks = job.job.batchSize;
        uint256 position = uint256(keccak256(abi.encode(hash, jobId, given.batch, given.provider))) % tasks;
        if (opening.leaf.index != uint256(given.batch) * job.job.batchSize + position) return false;
        // forge-lint: disable-next-line(unsafe-typecast) At most 65,536 tasks.
        return Openings.verify(given, opening, uint32(tasks), uint32(position));
    }

    /// @inheritdoc IJobRules
    function checkTerms(Job calldata job) public view {
        if (job.taskCount == 0) revert InvalidJob("a job has at least one task");
        if (job.batchSize == 0 || job.batchSize > job.taskCount || job.batchSize > 65_536) {
            revert InvalidJob("batchSize must be from 1 to taskCount, at most 65536");
        }
        if (job.fuelLimit == 0) revert InvalidJob("fuelLimit must be at least 1");
        if (uint256(job.fuelLimit) * job.batchSize > type(uint64).max) {
            revert InvalidJob("fuelLimit x batchSize must be below 2^64");
        }
        if (job.startPrice == 0 || job.startPrice > job.maxPrice) {
            revert InvalidJob("startPrice must be from 1 to maxPrice");
        }
        if (job.rampSeconds == 0 && job.startPrice != job.maxPrice) {
            revert InvalidJob("without rampSeconds startPrice must be maxPrice");
        }
        if (job.leaseSeconds == 0 || job.windowSeconds == 0) {
            revert InvalidJob("leaseSeconds and windowSeconds must be at least 1");
        }
        if (uint256(job.leaseSeconds) + job.windowSeconds > _MAX_COMMITMENT) {
            revert InvalidJob("leaseSeconds + windowSeconds exceed the deployment's cap");
        }
        if (job.batchCount() > type(uint24).max) revert InvalidJob("a job has at most 16777215 batches");
    }

    function _workOf(Job calldata job) private pure returns (bytes32) {
        // forge-lint: disable-next-line(asm-keccak256)
        return keccak256(abi.encode(job.requester, job.spec, job.taskCount, job.batchSize, job.fuelLimit));
    }

    /// Most that `count` batches of a replicated job may cost. Reverts if it cannot be posted.
    function _depositOf(ReplicatedJob calldata job, uint256 count, bool withLast)
        private
        view
        returns (uint256 deposit)
    {
        checkTerms(job.job);
        _checkAssurance(job);
        deposit = job.costOf(count, withLast, _FEE_BPS);
        _checkDeposit(deposit);
    }

    function _checkSpec(Spec calldata spec, bytes32 hash) private pure {
        if (hash != keccak256(abi.encode(spec))) revert InvalidJob("spec is not the hash of the given one");
        if (spec.program == 0 || spec.programRoot == 0) revert InvalidJob("the program's hash or root is missing");
        if (spec.inputs == 0 || spec.inputRoot == 0) revert InvalidJob("the inputs' hash or root is missing");
        if (spec.memoryLimit < 65_536 || spec.memoryLimit > 1 << 32) {
            revert InvalidJob("memoryLimit must be from 64 KiB to 4 GiB");
        }
    }

    function _checkDeposit(uint256 deposit) private pure {
        if (deposit > type(uint96).max) revert InvalidJob("the deposit must be below 2^96 token wei");
    }

    function _checkAssurance(ReplicatedJob calldata job) private view {
        Assurance calldata assurance = job.assurance;
        uint256 limit = assurance.limit;
        if (assurance.replicas == 0 || limit < assurance.replicas || limit > Ballots.MOST_REPLICAS) {
            revert InvalidJob("replicas must be from 1 to limit, limit at most 15");
        }
        if (assurance.auditBps > BPS || assurance.auditBps != 0 && limit == assurance.replicas) {
            revert InvalidJob("auditBps, at most 10000, needs a limit above replicas");
        }
        if (assurance.auditBps == 0 && assurance.replicas == 1 && limit > 1) {
            revert InvalidJob("one replica and a limit above 1 go with auditBps");
        }
        if (limit > 1) {
            _checkVote(job);
        } else if (assurance.target != 0 || assurance.widenSeconds != 0) {
            revert InvalidJob("with a limit of 1 target and widenSeconds must be 0");
        }
        if (assurance.minChecks > Ballots.MOST_CHECKS) revert InvalidJob("minChecks must be below 2^20");
        if (assurance.revealSeconds < LEAST_REVEAL) revert InvalidJob("revealSeconds must be at least 60");
        uint256 round = 2 * uint256(job.job.leaseSeconds) + assurance.revealSeconds;
        // Each ends with one commit more than the one before, but that of an audit, which may find nobody.
        uint256 rounds = assurance.auditBps == 0 ? limit : limit + 1;
        if (rounds * round + job.job.windowSeconds > _MAX_COMMITMENT) {
            revert InvalidJob("rounds of 2 leaseSeconds and revealSeconds, and windowSeconds, exceed the deployment's cap");
        }
    }

    function _checkVote(ReplicatedJob calldata job) private view {
        // Else both sides of a tie would be believed.
        if (job.assurance.target < Odds.CERTAIN / 2) revert InvalidJob("target must be at least 500000000, a half");
        uint256 group = Odds.ofNewcomers(job.assurance.limit, _FAULTY_BPS);
        // Else a requester would have its batches computed, and all of them undecided.
        if (!Odds.exceeds(group, group, job.assurance.target)) {
            revert InvalidJob("limit newcomers that agree must exceed target");
        }
        if (job.assurance.widenSeconds == 0 || job.assurance.widenSeconds > job.job.leaseSeconds) {
            revert InvalidJob("widenSeconds must be from 1 to leaseSeconds");
        }
        uint256 first = block.timestamp + job.assurance.widenSeconds;
        // The block that decides the lot must be readable while the lot counts.
        if (job.job.rampStart < first || job.job.rampStart > first + LATEST_LOT) {
            revert InvalidJob("rampStart must be widenSeconds, or up to ten minutes more, from now");
        }
    }
}
