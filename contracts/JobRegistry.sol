// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IDeployment, Part, Settings} from "./interfaces/IDeployment.sol";
import {IEscrow, Permit} from "./interfaces/IEscrow.sol";
import {
    Batch,
    BatchState,
    Contact,
    IJobRegistry,
    Job,
    JobState,
    Result,
    Spec,
    Submission
} from "./interfaces/IJobRegistry.sol";
import {IProviderRegistry} from "./interfaces/IProviderRegistry.sol";
import {Slot, Slots} from "./libraries/Slots.sol";

/// @title Jobs, their batches, leases and results: the one-replica way
/// @dev A job's fields live in calldata and in `JobPosted`; its id is their hash. Every external call checks the id first.
contract JobRegistry is IJobRegistry {
    using SafeCast for uint256;

    uint256 private constant GIGAFUEL = 1e9;
    uint256 private constant BPS = 10_000;

    /// A provider whose lease ran out, and until when it may submit although another holds the batch.
    struct Former {
        // slot 0: 160 + 40 bits
        address provider;
        uint40 activeBlock;
    }

    /// What consecutive batches of one provider come to when one call settles them, token wei.
    struct Settlement {
        address provider;
        uint256 freed;
        uint256 paid;
        uint256 refunded;
        uint256 batches;
    }

    IEscrow private immutable _ESCROW;
    IProviderRegistry private immutable _PROVIDERS;
    uint256 private immutable _MAX_COMMITMENT;
    uint256 private immutable _SUCCESSOR_DELAY;
    uint256 private immutable _EXPIRY_BOND_BPS;
    uint256 private immutable _AUDIT_FLOOR_BPS;

    mapping(bytes32 jobId => mapping(uint32 batch => Slot)) private _slots;
    mapping(bytes32 jobId => mapping(uint32 batch => Former)) private _formers;

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        Settings memory settings = deployment.settings();
        _ESCROW = IEscrow(deployment.addressOf(Part.Escrow));
        _PROVIDERS = IProviderRegistry(deployment.addressOf(Part.ProviderRegistry));
        _MAX_COMMITMENT = settings.maxCommitmentSeconds;
        _SUCCESSOR_DELAY = settings.successorDelayBlocks;
        _EXPIRY_BOND_BPS = settings.expiryBondBps;
        _AUDIT_FLOOR_BPS = settings.auditFloorBps;
    }

    /// @inheritdoc IJobRegistry
    function post(Job calldata job, Spec calldata spec, Contact calldata contact, Permit calldata permit)
        external
        returns (bytes32 jobId)
    {
        if (msg.sender != job.requester) revert NotRequester(msg.sender, job.requester);
        uint256 deposit = depositOf(job, spec);
        jobId = _jobId();
        if (_slots[jobId][0].isPosted()) revert JobExists(jobId);
        // forge-lint: disable-next-line(unsafe-typecast) `depositOf` allows no more.
        _slots[jobId][0] = Slots.posted(uint24(_batchCount(job)));
        emit JobPosted(jobId, msg.sender, job, spec, contact, deposit);
        _ESCROW.lock(msg.sender, deposit, permit);
    }

    /// @inheritdoc IJobRegistry
    function setContact(Job calldata job, Contact calldata contact) external {
        (bytes32 jobId,) = _asRequester(job);
        emit JobContactChanged(jobId, contact);
    }

    /// @inheritdoc IJobRegistry
    function cancel(Job calldata job) external {
        (bytes32 jobId, Slot head) = _asRequester(job);
        if (head.isCancelled()) revert JobIsCancelled(jobId);
        uint32 open = head.openCount();
        uint256 refund;
        if (open != 0) {
            uint32 last = _batchCount(job) - 1;
            bool lastIsOpen = _slots[jobId][last].state() == BatchState.Open;
            refund = (lastIsOpen ? open - 1 : open) * _worst(job, 0) + (lastIsOpen ? _worst(job, last) : 0);
        }
        _slots[jobId][0] = head.cancelled();
        emit JobCancelled(jobId, open, refund);
        if (refund != 0) _ESCROW.refund(msg.sender, refund);
    }

    /// @inheritdoc IJobRegistry
    function lease(Job calldata job, uint32[] calldata batches) external {
        (bytes32 jobId, Slot head) = _posted();
        if (head.isCancelled()) revert JobIsCancelled(jobId);
        if (batches.length == 0) revert NothingGiven();
        uint32 deadline = (block.timestamp + job.leaseSeconds).toUint32();
        uint16 step = _step(job);
        uint40[] memory activeBlocks = new uint40[](batches.length);
        uint256 stake;
        for (uint256 i = 0; i < batches.length; ++i) {
            uint32 number = batches[i];
            Slot slot = _slotAt(job, jobId, number);
            if (slot.state() == BatchState.Leased && block.timestamp > slot.time()) {
                (slot,) = _expire(job, jobId, slot, number);
            }
            if (slot.state() != BatchState.Open) revert WrongState(number, slot.state());
            bool contested = slot.provider() != address(0) && slot.provider() != msg.sender;
            if (contested) {
                activeBlocks[i] = (block.number + _SUCCESSOR_DELAY).toUint40();
                _formers[jobId][number] = Former({provider: slot.provider(), activeBlock: activeBlocks[i]});
            }
            uint16 fixedStep = slot.isPriced() ? slot.step() : step;
            _set(jobId, number, Slots.leased(msg.sender, deadline, fixedStep, slot.expiries(), contested));
            stake += leaseLock(job, number);
        }
        head = _slots[jobId][0];
        _slots[jobId][0] = head.withOpenCount(head.openCount() - uint24(batches.length));
        emit BatchesLeased(jobId, msg.sender, batches, activeBlocks, deadline);
        _ESCROW.hold(msg.sender, stake);
    }

    /// @inheritdoc IJobRegistry
    function release(Job calldata job, uint32[] calldata batches) external {
        (bytes32 jobId, Slot head) = _posted();
        if (batches.length == 0) revert NothingGiven();
        uint256 freed;
        uint256 refund;
        for (uint256 i = 0; i < batches.length; ++i) {
            uint32 number = batches[i];
            Slot slot = _slotAt(job, jobId, number);
            if (slot.state() != BatchState.Leased) revert WrongState(number, _stateOf(head, slot));
            if (slot.provider() != msg.sender) revert NotHolder(number, msg.sender);
            uint256 leasedAt = slot.time() - job.leaseSeconds;
            if (block.timestamp > leasedAt + job.leaseSeconds / 4) revert TooLateToRelease(number);
            freed += leaseLock(job, number);
            address last = slot.isContested() ? _formers[jobId][number].provider : address(0);
            // What was never held to the end has no price yet: else whoever leases and gives back could hold a ramp down.
            bool untouched = slot.expiries() == 0;
            Slot opened = untouched ? Slot.wrap(0) : Slots.open(last, slot.step(), slot.expiries());
            refund += _reopen(job, jobId, number, opened);
            emit LeaseReleased(jobId, msg.sender, number);
        }
        _ESCROW.free(msg.sender, freed);
        if (refund != 0) _ESCROW.refund(job.requester, refund);
    }

    /// @inheritdoc IJobRegistry
    function submit(Job calldata job, Result[] calldata results) external {
        (bytes32 jobId, Slot head) = _posted();
        if (results.length == 0) revert NothingGiven();
        uint32 finalAt = (block.timestamp + job.windowSeconds).toUint32();
        for (uint256 i = 0; i < results.length; ++i) {
            Result calldata result = results[i];
            Slot slot = _slotAt(job, jobId, result.batch);
            uint256 limit = _tasksIn(job, result.batch) * job.fuelLimit;
            if (result.fuel > limit) revert FuelAboveLimit(result.batch, result.fuel, limit);
            if (result.root == bytes32(0)) revert EmptyRoot(result.batch);
            _take(job, jobId, head, slot, result.batch);
            uint128 price = _priceAt(job, slot.step());
            uint192 hash = Slots.hash(Submission(result.batch, msg.sender, price, result.root, result.fuel));
            _set(jobId, result.batch, Slots.submitted(finalAt, hash));
            emit ResultSubmitted(
                jobId, msg.sender, result.batch, price, result.root, result.fuel, result.outputs, finalAt
            );
        }
    }

    /// @inheritdoc IJobRegistry
    function accept(Job calldata job, Submission[] calldata submissions) external {
        (bytes32 jobId, Slot head) = _asRequester(job);
        _settle(job, jobId, head, submissions, true);
    }

    /// @inheritdoc IJobRegistry
    function finalise(Job calldata job, Submission[] calldata submissions) external {
        (bytes32 jobId, Slot head) = _posted();
        _settle(job, jobId, head, submissions, false);
    }

    /// @inheritdoc IJobRegistry
    function expire(Job calldata job, uint32[] calldata batches) external {
        (bytes32 jobId, Slot head) = _posted();
        if (batches.length == 0) revert NothingGiven();
        for (uint256 i = 0; i < batches.length; ++i) {
            Slot slot = _slotAt(job, jobId, batches[i]);
            if (slot.state() != BatchState.Leased) revert WrongState(batches[i], _stateOf(head, slot));
            if (block.timestamp <= slot.time()) revert LeaseRunning(batches[i], slot.time());
            (, uint256 refund) = _expire(job, jobId, slot, batches[i]);
            if (refund != 0) _ESCROW.refund(job.requester, refund);
        }
    }

    /// @inheritdoc IJobRegistry
    function jobIdOf(Job calldata) external view returns (bytes32) {
        return _jobId();
    }

    /// @inheritdoc IJobRegistry
    function jobState(bytes32 jobId) external view returns (JobState memory) {
        Slot head = _slots[jobId][0];
        return JobState({posted: head.isPosted(), cancelled: head.isCancelled(), open: head.openCount()});
    }

    /// @inheritdoc IJobRegistry
    function batchState(Job calldata job, uint32 number) external view returns (Batch memory batch) {
        (bytes32 jobId, Slot head) = _posted();
        Slot slot = _slotAt(job, jobId, number);
        (batch.state, batch.time) = (_stateOf(head, slot), slot.time());
        if (slot.state() == BatchState.Submitted || slot.state() == BatchState.Settled) {
            batch.submission = slot.submission();
            return batch;
        }
        (batch.provider, batch.expiries) = (slot.provider(), slot.expiries());
        if (slot.isPriced()) batch.price = _priceAt(job, slot.step());
        if (slot.isContested()) {
            Former storage former = _formers[jobId][number];
            (batch.former, batch.activeBlock) = (former.provider, former.activeBlock);
        }
    }

    /// @inheritdoc IJobRegistry
    function depositOf(Job calldata job, Spec calldata spec) public view returns (uint256 deposit) {
        if (job.spec != keccak256(abi.encode(spec))) revert InvalidJob("spec is not the hash of the given one");
        if (spec.program == 0 || spec.programRoot == 0) revert InvalidJob("the program's hash or root is missing");
        if (spec.inputs == 0 || spec.inputRoot == 0) revert InvalidJob("the inputs' hash or root is missing");
        if (spec.memoryLimit < 65_536 || spec.memoryLimit > 1 << 32) {
            revert InvalidJob("memoryLimit must be from 64 KiB to 4 GiB");
        }
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
        if (_batchCount(job) > type(uint24).max) revert InvalidJob("a job has at most 16777215 batches");
        uint32 last = _batchCount(job) - 1;
        deposit = last * _worst(job, 0) + _worst(job, last);
        if (deposit > type(uint96).max) revert InvalidJob("the deposit must be below 2^96 token wei");
    }

    /// @inheritdoc IJobRegistry
    function priceOf(Job calldata job) external view returns (uint128) {
        return _priceAt(job, _step(job));
    }

    /// @inheritdoc IJobRegistry
    function leaseLock(Job calldata job, uint32 batch) public view returns (uint256) {
        return _lock(_worst(job, batch));
    }

    /// The job is the first argument of every call, twelve words without a pointer: these bytes are abi.encode(job).
    function _jobId() private view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), keccak256(msg.data[4:388])));
    }

    /// The job's id and state, if it was posted here with these very fields.
    function _posted() private view returns (bytes32 jobId, Slot head) {
        jobId = _jobId();
        head = _slots[jobId][0];
        if (!head.isPosted()) revert UnknownJob(jobId);
    }

    function _asRequester(Job calldata job) private view returns (bytes32 jobId, Slot head) {
        (jobId, head) = _posted();
        if (msg.sender != job.requester) revert NotRequester(msg.sender, job.requester);
    }

    /// Stores a batch; the slot of batch 0 keeps the job's state.
    function _set(bytes32 jobId, uint32 number, Slot slot) private {
        _slots[jobId][number] = number == 0 ? slot.withJob(_slots[jobId][0]) : slot;
    }

    function _slotAt(Job calldata job, bytes32 jobId, uint32 batch) private view returns (Slot) {
        if (batch >= _batchCount(job)) revert NoSuchBatch(batch, _batchCount(job));
        return _slots[jobId][batch];
    }

    /// `cancel` writes nothing to the batches: what is stored as open is cancelled when the job is.
    function _stateOf(Slot head, Slot slot) private pure returns (BatchState) {
        bool cancelled = slot.state() == BatchState.Open && head.isCancelled();
        return cancelled ? BatchState.Cancelled : slot.state();
    }

    function _batchCount(Job calldata job) private pure returns (uint32) {
        return uint32(Math.ceilDiv(job.taskCount, job.batchSize));
    }

    function _tasksIn(Job calldata job, uint32 batch) private pure returns (uint256) {
        return Math.min(job.batchSize, uint256(job.taskCount) - uint256(batch) * job.batchSize);
    }

    /// Most that a batch may cost, token wei, rounded up.
    function _worst(Job calldata job, uint32 batch) private pure returns (uint256) {
        return Math.ceilDiv(_tasksIn(job, batch) * job.fuelLimit * job.maxPrice, GIGAFUEL);
    }

    /// Stake that a batch of this worst case locks.
    function _lock(uint256 worst) private view returns (uint256) {
        return Math.ceilDiv(worst * (BPS - _AUDIT_FLOOR_BPS), _AUDIT_FLOOR_BPS);
    }

    /// How far the ramp has come, in 1/65,535.
    function _step(Job calldata job) private view returns (uint16) {
        uint256 elapsed = block.timestamp > job.rampStart ? block.timestamp - job.rampStart : 0;
        if (elapsed >= job.rampSeconds) return type(uint16).max;
        // forge-lint: disable-next-line(unsafe-typecast) Below 65,535: elapsed is below rampSeconds.
        return uint16(elapsed * type(uint16).max / job.rampSeconds);
    }

    function _priceAt(Job calldata job, uint16 step) private pure returns (uint128) {
        // forge-lint: disable-next-line(unsafe-typecast) It is at most maxPrice.
        return job.startPrice + uint128(uint256(job.maxPrice - job.startPrice) * step / type(uint16).max);
    }

    /// Lets the caller submit: it holds the batch, or held it last and its successor is not active yet.
    function _take(Job calldata job, bytes32 jobId, Slot head, Slot slot, uint32 number) private {
        if (slot.state() == BatchState.Leased) {
            if (!slot.isContested()) {
                if (slot.provider() != msg.sender) revert NotHolder(number, msg.sender);
                return;
            }
            Former memory former = _formers[jobId][number];
            if (slot.provider() == msg.sender) {
                if (block.number < former.activeBlock) revert NotYetActive(number, former.activeBlock);
                return;
            }
            if (former.provider != msg.sender || block.number >= former.activeBlock) {
                revert NotHolder(number, msg.sender);
            }
            uint256 stake = leaseLock(job, number);
            _ESCROW.free(slot.provider(), stake);
            _ESCROW.hold(msg.sender, stake);
        } else if (slot.state() == BatchState.Open && !head.isCancelled()) {
            if (slot.provider() != msg.sender) revert NotHolder(number, msg.sender);
            head = _slots[jobId][0];
            _slots[jobId][0] = head.withOpenCount(head.openCount() - 1);
            _ESCROW.hold(msg.sender, leaseLock(job, number));
        } else {
            revert WrongState(number, _stateOf(head, slot));
        }
    }

    /// Burns the holder's bond and opens the batch. Returns what the requester gets back because the job is cancelled.
    function _expire(Job calldata job, bytes32 jobId, Slot slot, uint32 number)
        private
        returns (Slot opened, uint256 refund)
    {
        address provider = slot.provider();
        uint8 expiries = slot.expiries();
        uint256 worst = _worst(job, number);
        uint256 stake = _lock(worst);
        uint256 bond = (worst * _EXPIRY_BOND_BPS / BPS) << Math.min(expiries, 64);
        if (bond > stake) bond = stake;
        // A successor that was never active could only have copied a result: the one before it keeps its turn.
        bool neverActive = slot.isContested() && block.number < _formers[jobId][number].activeBlock;
        address last = neverActive ? _formers[jobId][number].provider : provider;
        // A batch that expired 255 times has long reached the cap.
        opened = Slots.open(last, slot.step(), expiries == type(uint8).max ? expiries : expiries + 1);
        refund = _reopen(job, jobId, number, opened);
        emit LeaseExpired(jobId, provider, number, bond);
        _ESCROW.slash(provider, stake, bond);
        _PROVIDERS.recordExpired(provider);
    }

    /// Opens a batch. Returns what the requester gets back because the job is cancelled.
    function _reopen(Job calldata job, bytes32 jobId, uint32 number, Slot opened) private returns (uint256 refund) {
        _set(jobId, number, opened);
        Slot head = _slots[jobId][0];
        if (head.isCancelled()) refund = _worst(job, number);
        else _slots[jobId][0] = head.withOpenCount(head.openCount() + 1);
    }

    /// Makes submitted batches final and pays them, consecutive ones of one provider together.
    function _settle(Job calldata job, bytes32 jobId, Slot head, Submission[] calldata submissions, bool accepted)
        private
    {
        if (submissions.length == 0) revert NothingGiven();
        Settlement memory run;
        for (uint256 i = 0; i < submissions.length; ++i) {
            Submission calldata given = submissions[i];
            Slot slot = _slotAt(job, jobId, given.batch);
            if (slot.state() != BatchState.Submitted) revert WrongState(given.batch, _stateOf(head, slot));
            if (slot.submission() != Slots.hash(given)) revert WrongSubmission(given.batch);
            if (!accepted && block.timestamp < slot.time()) revert WindowOpen(given.batch, slot.time());
            _slots[jobId][given.batch] = slot.settled();
            uint256 worst = _worst(job, given.batch);
            uint256 payment = uint256(given.fuel) * given.price / GIGAFUEL;
            emit BatchSettled(jobId, given.provider, given.batch, payment, worst - payment, accepted);
            if (run.provider != given.provider) {
                _pay(job, run, accepted);
                run = Settlement(given.provider, 0, 0, 0, 0);
            }
            run.freed += _lock(worst);
            run.paid += payment;
            run.refunded += worst - payment;
            run.batches += 1;
        }
        _pay(job, run, accepted);
    }

    function _pay(Job calldata job, Settlement memory run, bool accepted) private {
        if (run.batches == 0) return;
        _ESCROW.pay(job.requester, run.provider, run.paid, run.refunded, run.freed, run.batches, accepted);
    }
}
