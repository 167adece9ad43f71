// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IDeployment, Part, Settings} from "./interfaces/IDeployment.sol";
import {IDisputes, Standing, Verdict} from "./interfaces/IDisputes.sol";
import {Consent, IEscrow, Mark, Permit, Share} from "./interfaces/IEscrow.sol";
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
import {IJobRules} from "./interfaces/IJobRules.sol";
import {Jobs} from "./libraries/Jobs.sol";
import {Slot, Slots} from "./libraries/Slots.sol";

/// @title Jobs, their batches, leases and results: the one-replica way
/// @dev A job's fields live in calldata and in `JobPosted`; its id is their hash. Every external call checks the id first.
contract JobRegistry is IJobRegistry {
    using Jobs for Job;
    using SafeCast for uint256;

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

    /// Of the deployment: a chain that takes another id keeps its jobs.
    uint256 private immutable _CHAIN_ID = block.chainid;
    IEscrow private immutable _ESCROW;
    IJobRules private immutable _RULES;
    IDisputes private immutable _DISPUTES;
    uint256 private immutable _SUCCESSOR_DELAY;
    uint256 private immutable _EXPIRY_BOND_BPS;
    uint256 private immutable _AUDIT_FLOOR_BPS;
    uint256 private immutable _REJECT_BOND;
    bool private immutable _HAS_ARBITER;

    mapping(bytes32 jobId => mapping(uint32 batch => Slot)) private _slots;
    mapping(bytes32 jobId => mapping(uint32 batch => Former)) private _formers;
    /// What a job continues.
    mapping(bytes32 jobId => bytes32) private _parents;

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        Settings memory settings = deployment.settings();
        _ESCROW = IEscrow(deployment.addressOf(Part.Escrow));
        _DISPUTES = IDisputes(deployment.addressOf(Part.Disputes));
        _RULES = IJobRules(deployment.addressOf(Part.JobRules));
        _SUCCESSOR_DELAY = settings.successorDelayBlocks;
        _EXPIRY_BOND_BPS = settings.expiryBondBps;
        _AUDIT_FLOOR_BPS = settings.auditFloorBps;
        _REJECT_BOND = settings.challengeBond;
        _HAS_ARBITER = settings.arbiter != address(0);
    }

    /// @inheritdoc IJobRegistry
    function post(Job calldata job, Spec calldata spec, Contact calldata contact, Permit calldata permit)
        external
        returns (bytes32 jobId)
    {
        if (msg.sender != job.requester) revert NotRequester(msg.sender, job.requester);
        uint256 deposit = _RULES.depositOf(job, spec);
        jobId = _jobId();
        if (_slots[jobId][0].isPosted()) revert JobExists(jobId);
        // forge-lint: disable-next-line(unsafe-typecast) `depositOf` allows no more.
        _slots[jobId][0] = Slots.posted(uint24(job.batchCount()), false);
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
        uint256 refund = _end(job, jobId, head);
        if (refund != 0) _ESCROW.refund(msg.sender, refund);
    }

    /// @inheritdoc IJobRegistry
    function amend(Job calldata job, Job calldata terms, Permit calldata permit) external returns (bytes32 jobId) {
        (bytes32 from, Slot head) = _asRequester(job);
        if (head.isCancelled()) revert JobIsCancelled(from);
        uint24 open = head.openCount();
        if (open == 0) revert NothingGiven();
        // forge-lint: disable-next-line(asm-keccak256)
        if (
            keccak256(abi.encode(job.requester, job.spec, job.taskCount, job.batchSize, job.fuelLimit))
                != keccak256(abi.encode(terms.requester, terms.spec, terms.taskCount, terms.batchSize, terms.fuelLimit))
        ) {
            revert OtherWork();
        }
        _RULES.checkTerms(terms);
        // The second argument follows the twelve words of the first.
        jobId = _idOf(msg.data[388:772]);
        if (_slots[jobId][0].isPosted()) revert JobExists(jobId);
        uint256 deposit = terms.worstOf(open, _isOpen(from, head, job.batchCount() - 1));
        emit JobAmended(from, jobId, terms, deposit);
        uint256 refund = _end(job, from, head);
        _slots[jobId][0] = Slots.posted(open, true);
        _parents[jobId] = from;
        _ESCROW.refund(msg.sender, refund);
        _ESCROW.lock(msg.sender, deposit, permit);
    }

    /// @inheritdoc IJobRegistry
    function lease(Job calldata job, uint32[] calldata batches) external {
        (bytes32 jobId, Slot head) = _posted();
        if (head.isCancelled()) revert JobIsCancelled(jobId);
        if (batches.length == 0) revert NothingGiven();
        uint32 deadline = (block.timestamp + job.leaseSeconds).toUint32();
        uint16 step = job.step();
        uint40[] memory activeBlocks = new uint40[](batches.length);
        uint256 stake;
        for (uint256 i = 0; i < batches.length; ++i) {
            uint32 number = batches[i];
            Slot slot = _slotAt(job, jobId, number);
            if (slot.state() == BatchState.Leased && block.timestamp > slot.time()) {
                (slot,) = _expire(job, jobId, slot, number);
            }
            if (slot.state() != BatchState.Open) revert WrongState(number, slot.state());
            if (slot.time() == block.timestamp) revert JustReleased(number);
            if (head.isContinued() && !_isInherited(jobId, number)) revert WrongState(number, BatchState.Cancelled);
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
            refund += _reopen(job, jobId, number, opened.released());
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
        uint32 count = job.batchCount();
        for (uint256 i = 0; i < results.length; ++i) {
            Result calldata result = results[i];
            Slot slot = _slotOf(jobId, result.batch, count);
            uint256 limit = job.fuelIn(result.batch);
            if (result.fuel > limit) revert FuelAboveLimit(result.batch, result.fuel, limit);
            if (result.root == bytes32(0)) revert EmptyRoot(result.batch);
            _take(job, jobId, head, slot, result.batch);
            uint128 price = job.priceAt(slot.step());
            uint192 hash = Slots.hash(result.batch, msg.sender, price, result.root, result.fuel);
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
    function freeze(Job calldata job, Submission calldata given) external returns (Standing memory) {
        if (msg.sender != address(_DISPUTES)) revert NotDisputes(msg.sender);
        (bytes32 jobId, Slot head) = _posted();
        Slot slot = _slotAt(job, jobId, given.batch);
        if (slot.state() != BatchState.Frozen) {
            slot = _standing(job.batchCount(), jobId, head, given, BatchState.Submitted);
            _slots[jobId][given.batch] = slot.as_(BatchState.Frozen);
            emit BatchFrozen(jobId, given.batch);
        } else if (slot.submission() != Slots.hash(given)) {
            revert WrongSubmission(given.batch);
        }
        return _describe(job, jobId, given, slot);
    }

    function _describe(Job calldata job, bytes32 jobId, Submission calldata given, Slot slot)
        private
        pure
        returns (Standing memory)
    {
        uint32 firstTask = given.batch * job.batchSize;
        // forge-lint: disable-next-line(unsafe-typecast) At most batchSize.
        uint32 tasks = uint32(job.tasksIn(given.batch));
        return Standing(jobId, given.batch, job.requester, given.root, given.fuel, firstTask, tasks, slot.time());
    }

    /// @inheritdoc IJobRegistry
    function resolve(Job calldata job, Submission calldata given) external returns (Verdict verdict) {
        (bytes32 jobId, Slot head) = _posted();
        Slot slot = _standing(job.batchCount(), jobId, head, given, BatchState.Frozen);
        uint256 stake = leaseLock(job, given.batch);
        uint256 award = stake / 2;
        verdict = _DISPUTES.conclude(keccak256(abi.encode(_describe(job, jobId, given, slot))), award);
        bool wrong = verdict == Verdict.Wrong;
        emit BatchResolved(jobId, given.provider, given.batch, verdict, wrong ? stake : 0);
        if (verdict == Verdict.Stands) {
            _slots[jobId][given.batch] = slot.as_(BatchState.Submitted);
            return verdict;
        }
        uint256 refund = _reopen(job, jobId, given.batch, Slot.wrap(0));
        Share[] memory shares = new Share[](1);
        shares[0] =
            wrong ? Share(given.provider, 0, 0, stake, Mark.Failed) : Share(given.provider, 0, stake, 0, Mark.Withheld);
        _ESCROW.settle(job.requester, refund, 0, wrong ? award : 0, Consent.None, shares);
    }

    /// @inheritdoc IJobRegistry
    function reject(Job calldata job, Submission calldata given, Permit calldata permit) external {
        (bytes32 jobId, Slot head) = _asRequester(job);
        if (_HAS_ARBITER) revert HasArbiter();
        Slot slot = _standing(job.batchCount(), jobId, head, given, BatchState.Submitted);
        if (block.timestamp >= slot.time()) revert WindowOver(given.batch, slot.time());
        _slots[jobId][given.batch] = slot.as_(BatchState.Settled);
        uint256 worst = job.worst(given.batch);
        uint256 payment = Jobs.payment(given.fuel, given.price);
        uint256 stake = _lock(worst);
        uint256 bond = Math.min(worst * _EXPIRY_BOND_BPS / BPS, stake);
        emit BatchRejected(jobId, given.provider, given.batch, payment, worst - payment, bond);
        Share[] memory shares = new Share[](1);
        shares[0] = Share(given.provider, 0, stake - bond, bond, Mark.None);
        _ESCROW.settle(msg.sender, worst - payment, payment, 0, Consent.None, shares);
        _ESCROW.lock(msg.sender, _REJECT_BOND, permit);
        _ESCROW.settle(msg.sender, 0, _REJECT_BOND, 0, Consent.None, new Share[](0));
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
        if (head.isContinued() && batch.state == BatchState.Open && !_isInherited(jobId, number)) {
            batch.state = BatchState.Cancelled;
        }
        if (
            batch.state == BatchState.Submitted || batch.state == BatchState.Settled || batch.state == BatchState.Frozen
        ) {
            batch.submission = slot.submission();
            return batch;
        }
        (batch.provider, batch.expiries) = (slot.provider(), slot.expiries());
        if (slot.isPriced()) batch.price = job.priceAt(slot.step());
        if (slot.isContested()) {
            Former storage former = _formers[jobId][number];
            (batch.former, batch.activeBlock) = (former.provider, former.activeBlock);
        }
    }

    /// @inheritdoc IJobRegistry
    function priceOf(Job calldata job) external view returns (uint128) {
        return job.priceAt(job.step());
    }

    /// @inheritdoc IJobRegistry
    function leaseLock(Job calldata job, uint32 batch) public view returns (uint256) {
        return _lock(job.worst(batch));
    }

    /// The job is the first argument of every call, twelve words without a pointer: these bytes are abi.encode(job).
    function _jobId() private view returns (bytes32) {
        return _idOf(msg.data[4:388]);
    }

    function _idOf(bytes calldata encodedJob) private view returns (bytes32) {
        return keccak256(abi.encode(_CHAIN_ID, address(this), keccak256(encodedJob)));
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
        return _slotOf(jobId, batch, job.batchCount());
    }

    function _slotOf(bytes32 jobId, uint32 batch, uint32 batchCount) private view returns (Slot) {
        if (batch >= batchCount) revert NoSuchBatch(batch, batchCount);
        return _slots[jobId][batch];
    }

    /// `cancel` writes nothing to the batches: what is stored as open is cancelled when the job is.
    function _stateOf(Slot head, Slot slot) private pure returns (BatchState) {
        bool cancelled = slot.state() == BatchState.Open && head.isCancelled();
        return cancelled ? BatchState.Cancelled : slot.state();
    }

    /// Stake that a batch of this worst case locks.
    function _lock(uint256 worst) private view returns (uint256) {
        // A worst case is below 2^192.
        unchecked {
            return (worst * (BPS - _AUDIT_FLOOR_BPS) + _AUDIT_FLOOR_BPS - 1) / _AUDIT_FLOOR_BPS;
        }
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
        uint256 worst = job.worst(number);
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
        _ESCROW.expire(provider, stake, bond);
    }

    /// Opens a batch, or makes it final if the job is cancelled: then returns what the requester gets back.
    function _reopen(Job calldata job, bytes32 jobId, uint32 number, Slot opened) private returns (uint256 refund) {
        Slot head = _slots[jobId][0];
        if (head.isCancelled()) {
            refund = job.worst(number);
            // Else a job that continues this one would take it for one of the batches that it was given.
            opened = opened.as_(BatchState.Cancelled);
        } else {
            _slots[jobId][0] = head.withOpenCount(head.openCount() + 1);
        }
        _set(jobId, number, opened);
    }

    /// Ends the open batches of a job. Returns their worst case, which the requester gets back.
    function _end(Job calldata job, bytes32 jobId, Slot head) private returns (uint256 refund) {
        uint24 open = head.openCount();
        if (open != 0) refund = job.worstOf(open, _isOpen(jobId, head, job.batchCount() - 1));
        _slots[jobId][0] = head.cancelled();
        emit JobCancelled(jobId, open, refund);
    }

    /// Whether a batch of a job that is not cancelled is open.
    function _isOpen(bytes32 jobId, Slot head, uint32 number) private view returns (bool) {
        return _slots[jobId][number].state() == BatchState.Open && (!head.isContinued() || _isInherited(jobId, number));
    }

    /// Whether a batch was open in all the jobs that this one continues. They are cancelled, so that it still is.
    function _isInherited(bytes32 jobId, uint32 number) private view returns (bool) {
        for (bytes32 from = _parents[jobId]; from != 0; from = _parents[from]) {
            if (_slots[from][number].state() != BatchState.Open) return false;
        }
        return true;
    }

    /// Makes submitted batches final and pays them, consecutive ones of one provider together.
    function _settle(Job calldata job, bytes32 jobId, Slot head, Submission[] calldata submissions, bool accepted)
        private
    {
        if (submissions.length == 0) revert NothingGiven();
        Settlement memory run;
        uint32 count = job.batchCount();
        for (uint256 i = 0; i < submissions.length; ++i) {
            Submission calldata given = submissions[i];
            Slot slot = _standing(count, jobId, head, given, BatchState.Submitted);
            if (!accepted && block.timestamp < slot.time()) revert WindowOpen(given.batch, slot.time());
            _slots[jobId][given.batch] = slot.as_(BatchState.Settled);
            uint256 worst = job.worst(given.batch);
            uint256 payment = Jobs.payment(given.fuel, given.price);
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

    /// The batch of a submission that is in `state`.
    function _standing(uint32 batchCount, bytes32 jobId, Slot head, Submission calldata given, BatchState state)
        private
        view
        returns (Slot slot)
    {
        slot = _slotOf(jobId, given.batch, batchCount);
        if (slot.state() != state) revert WrongState(given.batch, _stateOf(head, slot));
        if (slot.submission() != Slots.hash(given)) revert WrongSubmission(given.batch);
    }

    function _pay(Job calldata job, Settlement memory run, bool accepted) private {
        if (run.batches == 0) return;
        _ESCROW.pay(job.requester, run.provider, run.paid, run.refunded, run.freed, run.batches, accepted);
    }
}
