// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IDeployment, Part, Settings} from "./interfaces/IDeployment.sol";
import {IEscrow, Permit} from "./interfaces/IEscrow.sol";
import {Batch, BatchState, Contact, IJobRegistry, Job, JobState, Result} from "./interfaces/IJobRegistry.sol";
import {IProviderRegistry} from "./interfaces/IProviderRegistry.sol";
import {IReputation} from "./interfaces/IReputation.sol";

/// @title Jobs, their batches, leases and results: the one-replica way
/// @dev A job's fields live in calldata and in `JobPosted`; its id is their hash. Every external call checks the id first.
contract JobRegistry is IJobRegistry {
    using SafeCast for uint256;

    uint256 private constant GIGAFUEL = 1e9;
    uint256 private constant BPS = 10_000;
    uint8 private constant POSTED = 1;
    uint8 private constant CANCELLED = 2;

    /// What consecutive batches of one provider come to when one call settles them, token wei.
    struct Settlement {
        uint32 provider;
        uint256 unlocked;
        uint256 paid;
        uint256 refunded;
    }

    IEscrow private immutable _ESCROW;
    IProviderRegistry private immutable _PROVIDERS;
    IReputation private immutable _REPUTATION;
    uint256 private immutable _MAX_COMMITMENT;
    uint256 private immutable _SUCCESSOR_DELAY;
    uint256 private immutable _EXPIRY_BOND_BPS;
    uint256 private immutable _AUDIT_FLOOR_BPS;

    mapping(bytes32 jobId => JobState) private _jobs;
    mapping(bytes32 jobId => mapping(uint32 batch => Batch)) private _batches;

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        Settings memory settings = deployment.settings();
        _ESCROW = IEscrow(deployment.addressOf(Part.Escrow));
        _PROVIDERS = IProviderRegistry(deployment.addressOf(Part.ProviderRegistry));
        _REPUTATION = IReputation(deployment.addressOf(Part.Reputation));
        _MAX_COMMITMENT = settings.maxCommitmentSeconds;
        _SUCCESSOR_DELAY = settings.successorDelayBlocks;
        _EXPIRY_BOND_BPS = settings.expiryBondBps;
        _AUDIT_FLOOR_BPS = settings.auditFloorBps;
    }

    /// @inheritdoc IJobRegistry
    function post(Job calldata job, Contact calldata contact, Permit calldata permit) external returns (bytes32 jobId) {
        if (msg.sender != job.requester) revert NotRequester(msg.sender, job.requester);
        uint256 deposit = depositOf(job);
        jobId = jobIdOf(job);
        JobState storage state = _jobs[jobId];
        if (state.status != 0) revert JobExists(jobId);
        uint32 count = _batchCount(job);
        _jobs[jobId] = JobState({locked: deposit.toUint96(), open: count, unsettled: count, status: POSTED});
        emit JobPosted(jobId, msg.sender, job, contact, deposit);
        _ESCROW.lock(msg.sender, deposit, permit);
    }

    /// @inheritdoc IJobRegistry
    function setContact(Job calldata job, Contact calldata contact) external {
        (bytes32 jobId,) = _asRequester(job);
        emit JobContactChanged(jobId, contact);
    }

    /// @inheritdoc IJobRegistry
    function cancel(Job calldata job) external {
        (bytes32 jobId, JobState storage state) = _asRequester(job);
        if (state.status == CANCELLED) revert JobIsCancelled(jobId);
        uint32 open = state.open;
        uint256 refund;
        if (open != 0) {
            uint32 last = _batchCount(job) - 1;
            bool lastIsOpen = _batches[jobId][last].state == BatchState.Open;
            refund = (lastIsOpen ? open - 1 : open) * _worst(job, 0) + (lastIsOpen ? _worst(job, last) : 0);
        }
        state.status = CANCELLED;
        state.open = 0;
        state.unsettled -= open;
        state.locked -= refund.toUint96();
        emit JobCancelled(jobId, open, refund);
        if (refund != 0) _ESCROW.settle(msg.sender, msg.sender, 0, refund);
    }

    /// @inheritdoc IJobRegistry
    function lease(Job calldata job, uint32[] calldata batches) external {
        (bytes32 jobId, JobState storage state) = _posted(job);
        if (state.status == CANCELLED) revert JobIsCancelled(jobId);
        if (batches.length == 0) revert NothingGiven();
        uint256 stake;
        for (uint256 i = 0; i < batches.length; ++i) {
            Batch storage batch = _batchAt(job, jobId, batches[i]);
            if (batch.state == BatchState.Leased && block.timestamp > batch.deadline) {
                _expire(job, jobId, state, batch, batches[i]);
            }
            if (batch.state != BatchState.Open) revert WrongState(batches[i], batch.state);
            stake += leaseLock(job, batches[i]);
        }
        uint32 provider = _PROVIDERS.lockStake(msg.sender, stake);
        uint40 deadline = (block.timestamp + job.leaseSeconds).toUint40();
        uint40[] memory activeBlocks = new uint40[](batches.length);
        for (uint256 i = 0; i < batches.length; ++i) {
            Batch storage batch = _batches[jobId][batches[i]];
            // The same batch twice in one call: the first turn has leased it.
            if (batch.state != BatchState.Open) revert WrongState(batches[i], batch.state);
            uint32 previous = batch.previous == provider ? 0 : batch.previous;
            uint256 delay = previous == 0 ? 0 : _SUCCESSOR_DELAY;
            activeBlocks[i] = (block.number + delay).toUint40();
            batch.state = BatchState.Leased;
            batch.provider = provider;
            batch.previous = previous;
            batch.deadline = deadline;
            batch.activeBlock = activeBlocks[i];
        }
        state.open -= batches.length.toUint32();
        emit BatchesLeased(jobId, provider, batches, activeBlocks, deadline);
    }

    /// @inheritdoc IJobRegistry
    function release(Job calldata job, uint32[] calldata batches) external {
        (bytes32 jobId, JobState storage state) = _posted(job);
        if (batches.length == 0) revert NothingGiven();
        uint32 provider = _PROVIDERS.indexOf(msg.sender);
        uint256 unlocked;
        uint256 refund;
        for (uint256 i = 0; i < batches.length; ++i) {
            Batch storage batch = _batchAt(job, jobId, batches[i]);
            if (batch.state != BatchState.Leased) revert WrongState(batches[i], _stateOf(state, batch));
            if (provider == 0 || batch.provider != provider) revert NotHolder(batches[i], provider);
            uint256 leasedAt = batch.deadline - job.leaseSeconds;
            if (block.timestamp > leasedAt + job.leaseSeconds / 4) revert TooLateToRelease(batches[i]);
            unlocked += leaseLock(job, batches[i]);
            refund += _reopen(job, state, batch, batches[i]);
            emit LeaseReleased(jobId, provider, batches[i]);
        }
        _PROVIDERS.unlockStake(provider, unlocked, 0);
        if (refund != 0) _ESCROW.settle(job.requester, job.requester, 0, refund);
    }

    /// @inheritdoc IJobRegistry
    function submit(Job calldata job, Result[] calldata results) external {
        (bytes32 jobId, JobState storage state) = _posted(job);
        if (results.length == 0) revert NothingGiven();
        uint32 provider = _PROVIDERS.indexOf(msg.sender);
        uint40 finalAt = (block.timestamp + job.windowSeconds).toUint40();
        for (uint256 i = 0; i < results.length; ++i) {
            Result calldata result = results[i];
            Batch storage batch = _batchAt(job, jobId, result.batch);
            _takeSlot(job, state, batch, result.batch, provider);
            uint64 limit = (_tasksIn(job, result.batch) * job.fuelLimit).toUint64();
            if (result.fuel > limit) revert FuelAboveLimit(result.batch, result.fuel, limit);
            if (result.root == bytes32(0)) revert EmptyRoot(result.batch);
            batch.state = BatchState.Submitted;
            batch.provider = provider;
            batch.previous = 0;
            batch.deadline = finalAt;
            batch.fuel = result.fuel;
            batch.root = result.root;
            emit ResultSubmitted(jobId, provider, result.batch, result.root, result.fuel, result.outputs, finalAt);
        }
    }

    /// @inheritdoc IJobRegistry
    function accept(Job calldata job, uint32 first, uint256 bitmap) external {
        (bytes32 jobId, JobState storage state) = _asRequester(job);
        if (bitmap == 0) revert NothingGiven();
        Settlement memory run;
        for (uint32 batch = first; bitmap != 0; ++batch) {
            if (bitmap & 1 == 1) _settle(job, jobId, state, batch, true, run);
            bitmap >>= 1;
        }
        _pay(job, run);
    }

    /// @inheritdoc IJobRegistry
    function finalise(Job calldata job, uint32[] calldata batches) external {
        (bytes32 jobId, JobState storage state) = _posted(job);
        if (batches.length == 0) revert NothingGiven();
        Settlement memory run;
        for (uint256 i = 0; i < batches.length; ++i) {
            _settle(job, jobId, state, batches[i], false, run);
        }
        _pay(job, run);
    }

    /// @inheritdoc IJobRegistry
    function expire(Job calldata job, uint32[] calldata batches) external {
        (bytes32 jobId, JobState storage state) = _posted(job);
        if (batches.length == 0) revert NothingGiven();
        for (uint256 i = 0; i < batches.length; ++i) {
            Batch storage batch = _batchAt(job, jobId, batches[i]);
            if (batch.state != BatchState.Leased) revert WrongState(batches[i], _stateOf(state, batch));
            if (block.timestamp <= batch.deadline) revert LeaseRunning(batches[i], batch.deadline);
            uint256 refund = _expire(job, jobId, state, batch, batches[i]);
            if (refund != 0) _ESCROW.settle(job.requester, job.requester, 0, refund);
        }
    }

    /// @inheritdoc IJobRegistry
    function jobIdOf(Job calldata job) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), job));
    }

    /// @inheritdoc IJobRegistry
    function jobState(bytes32 jobId) external view returns (JobState memory) {
        return _jobs[jobId];
    }

    /// @inheritdoc IJobRegistry
    function batchState(bytes32 jobId, uint32 batch) external view returns (Batch memory state) {
        state = _batches[jobId][batch];
        state.state = _stateOf(_jobs[jobId], _batches[jobId][batch]);
    }

    /// @inheritdoc IJobRegistry
    function depositOf(Job calldata job) public view returns (uint256 deposit) {
        if (job.program == 0 || job.programRoot == 0) revert InvalidJob("the program's hash or root is missing");
        if (job.inputs == 0 || job.inputRoot == 0) revert InvalidJob("the inputs' hash or root is missing");
        if (job.taskCount == 0) revert InvalidJob("a job has at least one task");
        if (job.batchSize == 0 || job.batchSize > job.taskCount || job.batchSize > 65_536) {
            revert InvalidJob("batchSize must be from 1 to taskCount, at most 65536");
        }
        if (job.fuelLimit == 0) revert InvalidJob("fuelLimit must be at least 1");
        if (uint256(job.fuelLimit) * job.batchSize > type(uint64).max) {
            revert InvalidJob("fuelLimit x batchSize must be below 2^64");
        }
        if (job.memoryLimit < 65_536 || job.memoryLimit > 1 << 32) {
            revert InvalidJob("memoryLimit must be from 64 KiB to 4 GiB");
        }
        if (job.pricePerGigafuel == 0) revert InvalidJob("pricePerGigafuel must be at least 1");
        if (job.leaseSeconds == 0 || job.windowSeconds == 0) {
            revert InvalidJob("leaseSeconds and windowSeconds must be at least 1");
        }
        if (uint256(job.leaseSeconds) + job.windowSeconds > _MAX_COMMITMENT) {
            revert InvalidJob("leaseSeconds + windowSeconds exceed the deployment's cap");
        }
        uint32 last = _batchCount(job) - 1;
        deposit = last * _worst(job, 0) + _worst(job, last);
        if (deposit > type(uint96).max) revert InvalidJob("the deposit must be below 2^96 token wei");
    }

    /// @inheritdoc IJobRegistry
    function leaseLock(Job calldata job, uint32 batch) public view returns (uint256) {
        return Math.mulDiv(_worst(job, batch), BPS - _AUDIT_FLOOR_BPS, _AUDIT_FLOOR_BPS, Math.Rounding.Ceil);
    }

    /// The job's id and state, if it was posted here with these very fields.
    function _posted(Job calldata job) private view returns (bytes32 jobId, JobState storage state) {
        jobId = jobIdOf(job);
        state = _jobs[jobId];
        if (state.status == 0) revert UnknownJob(jobId);
    }

    function _asRequester(Job calldata job) private view returns (bytes32 jobId, JobState storage state) {
        (jobId, state) = _posted(job);
        if (msg.sender != job.requester) revert NotRequester(msg.sender, job.requester);
    }

    function _batchAt(Job calldata job, bytes32 jobId, uint32 batch) private view returns (Batch storage) {
        if (batch >= _batchCount(job)) revert NoSuchBatch(batch, _batchCount(job));
        return _batches[jobId][batch];
    }

    /// `cancel` writes nothing to the batches: what is stored as open is cancelled when the job is.
    function _stateOf(JobState storage state, Batch storage batch) private view returns (BatchState) {
        bool cancelled = batch.state == BatchState.Open && state.status == CANCELLED;
        return cancelled ? BatchState.Cancelled : batch.state;
    }

    function _batchCount(Job calldata job) private pure returns (uint32) {
        return uint32(Math.ceilDiv(job.taskCount, job.batchSize));
    }

    function _tasksIn(Job calldata job, uint32 batch) private pure returns (uint256) {
        return Math.min(job.batchSize, uint256(job.taskCount) - uint256(batch) * job.batchSize);
    }

    /// Most that a batch may cost, token wei, rounded up.
    function _worst(Job calldata job, uint32 batch) private pure returns (uint256) {
        return Math.ceilDiv(_tasksIn(job, batch) * job.fuelLimit * job.pricePerGigafuel, GIGAFUEL);
    }

    /// Lets `provider` submit: it holds the batch, or held it last and its successor is not active yet.
    function _takeSlot(Job calldata job, JobState storage state, Batch storage batch, uint32 number, uint32 provider)
        private
    {
        if (provider == 0) revert NotHolder(number, provider);
        if (batch.state == BatchState.Leased) {
            if (batch.provider == provider) {
                if (block.number < batch.activeBlock) revert NotYetActive(number, batch.activeBlock);
                return;
            }
            if (batch.previous != provider || block.number >= batch.activeBlock) revert NotHolder(number, provider);
            uint256 stake = leaseLock(job, number);
            _PROVIDERS.unlockStake(batch.provider, stake, 0);
            _PROVIDERS.lockStake(msg.sender, stake);
        } else if (batch.state == BatchState.Open && state.status == POSTED) {
            if (batch.previous != provider) revert NotHolder(number, provider);
            state.open -= 1;
            _PROVIDERS.lockStake(msg.sender, leaseLock(job, number));
        } else {
            revert WrongState(number, _stateOf(state, batch));
        }
    }

    /// Burns the holder's bond and opens the batch. Returns what the requester gets back because the job is cancelled.
    function _expire(Job calldata job, bytes32 jobId, JobState storage state, Batch storage batch, uint32 number)
        private
        returns (uint256 refund)
    {
        uint32 provider = batch.provider;
        uint256 stake = leaseLock(job, number);
        uint256 bond = (_worst(job, number) * _EXPIRY_BOND_BPS / BPS) << Math.min(batch.expiries, 64);
        if (bond > stake) bond = stake;
        // A batch that expired 255 times has long reached the cap.
        if (batch.expiries != type(uint8).max) batch.expiries += 1;
        // A successor that was never active could only have copied a result: the one before it keeps its turn.
        if (block.number >= batch.activeBlock) batch.previous = provider;
        refund = _reopen(job, state, batch, number);
        emit LeaseExpired(jobId, provider, number, bond);
        _PROVIDERS.unlockStake(provider, stake - bond, bond);
        _REPUTATION.recordExpired(provider);
    }

    function _reopen(Job calldata job, JobState storage state, Batch storage batch, uint32 number)
        private
        returns (uint256 refund)
    {
        batch.state = BatchState.Open;
        batch.provider = 0;
        batch.deadline = 0;
        batch.activeBlock = 0;
        if (state.status == CANCELLED) {
            refund = _worst(job, number);
            state.locked -= refund.toUint96();
            state.unsettled -= 1;
        } else {
            state.open += 1;
        }
    }

    /// Makes a submitted batch final and adds what it pays to `run`, which the caller pays at the end with {_pay}.
    function _settle(
        Job calldata job,
        bytes32 jobId,
        JobState storage state,
        uint32 number,
        bool accepted,
        Settlement memory run
    ) private {
        Batch storage batch = _batchAt(job, jobId, number);
        if (batch.state != BatchState.Submitted) revert WrongState(number, _stateOf(state, batch));
        if (!accepted && block.timestamp < batch.deadline) revert WindowOpen(number, batch.deadline);
        uint256 worst = _worst(job, number);
        uint64 fuel = batch.fuel;
        uint256 payment = uint256(fuel) * job.pricePerGigafuel / GIGAFUEL;
        uint32 provider = batch.provider;
        batch.state = BatchState.Settled;
        state.locked -= worst.toUint96();
        state.unsettled -= 1;
        emit BatchSettled(jobId, provider, number, payment, worst - payment, accepted);
        if (run.provider != provider) {
            _pay(job, run);
            (run.provider, run.unlocked, run.paid, run.refunded) = (provider, 0, 0, 0);
        }
        run.unlocked += leaseLock(job, number);
        run.paid += payment;
        run.refunded += worst - payment;
        _REPUTATION.recordSettled(provider, job.requester, fuel, accepted);
    }

    function _pay(Job calldata job, Settlement memory run) private {
        if (run.provider == 0) return;
        address payout = _PROVIDERS.unlockStake(run.provider, run.unlocked, 0);
        _ESCROW.settle(job.requester, payout, run.paid, run.refunded);
    }
}
