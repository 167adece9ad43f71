// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "forge-std/Vm.sol";

import {Settings} from "../../interfaces/IDeployment.sol";
import {Standing, Verdict} from "../../interfaces/IDisputes.sol";
import {Balance} from "../../interfaces/IEscrow.sol";
import {BatchState, Contact, IJobRegistry, Job, Spec, Submission} from "../../interfaces/IJobRegistry.sol";
import {Books, Parts} from "./Books.sol";
import {Calls} from "./Calls.sol";

/// @notice A batch as the events told it.
struct Ghost {
    BatchState state;
    /// Leased: deadline. Submitted: end of the window.
    uint32 time;
    /// Leased: the holder. Open: whose lease ran out last.
    address holder;
    /// Leased: who held it before and may still submit.
    address former;
    uint40 activeBlock;
    uint8 expiries;
    bool priced;
    uint128 price;
    Submission submission;
    uint256 settledTimes;
    uint256 payment;
}

/// @notice The books of jobs of one execution: batches, and what they do to balances.
abstract contract Model is Calls {
    Job[] internal _posted;
    mapping(bytes32 jobId => uint256) private _numbers;
    mapping(bytes32 jobId => bool) public isCancelled;
    /// Goes on with what was open of another.
    mapping(bytes32 jobId => bool) public isContinued;
    mapping(bytes32 jobId => mapping(uint32 batch => Ghost)) private _ghosts;
    /// Of the job that was amended last: what its cancellation has to tell.
    uint256 private _amendedRefund;
    uint32 private _amendedBatches;
    bytes32 private _amended;

    constructor(Parts memory parts, Settings memory settings, address[] memory accounts)
        Books(parts, settings, accounts)
    {}

    // What the invariants read

    function jobCount() external view returns (uint256) {
        return _posted.length;
    }

    function jobAt(uint256 i) external view returns (Job memory) {
        return _posted[i];
    }

    function ghostOf(Job memory job, uint32 batch) external view returns (Ghost memory) {
        return _ghostOf(job, batch);
    }

    // What happened

    function _learnOfJob(address from, Vm.Log memory log) internal override {
        bytes32 topic = log.topics[0];
        bytes32 id = log.topics[1];
        if (topic == IJobRegistry.JobPosted.selector) {
            _onPosted(id, from, log);
        } else if (topic == IJobRegistry.BatchesLeased.selector) {
            _onLeased(id, from, log);
        } else if (topic == IJobRegistry.ResultSubmitted.selector) {
            _onSubmitted(id, from, log);
        } else if (topic == IJobRegistry.BatchSettled.selector) {
            _onSettled(id, from, log);
        } else if (topic == IJobRegistry.LeaseExpired.selector) {
            _onExpired(id, log);
        } else if (topic == IJobRegistry.LeaseReleased.selector) {
            _onReleased(id, from, log);
        } else if (topic == IJobRegistry.JobCancelled.selector) {
            _onCancelled(id, from, log);
        } else if (topic == IJobRegistry.JobContactChanged.selector) {
            _check(from == _jobOf(id).requester, "by its requester");
        } else if (topic == IJobRegistry.JobAmended.selector) {
            _onAmended(id, from, log);
        } else if (topic == IJobRegistry.BatchFrozen.selector) {
            uint32 batch = abi.decode(log.data, (uint32));
            _check(_ghosts[id][batch].state == BatchState.Submitted, "what was submitted is frozen");
            _check(block.timestamp < _ghosts[id][batch].time, "in its window");
            _onFrozen(id, batch);
            _ghosts[id][batch].state = BatchState.Frozen;
        } else if (topic == IJobRegistry.BatchResolved.selector) {
            _onBatchResolved(id, log);
        } else if (topic == IJobRegistry.BatchRejected.selector) {
            _onRejected(id, from, log);
        } else {
            _check(false, "an event of the JobRegistry");
        }
    }

    function _onPosted(bytes32 id, address from, Vm.Log memory log) private {
        (Job memory job, Spec memory given,, uint256 deposit) = abi.decode(log.data, (Job, Spec, Contact, uint256));
        _check(_numbers[id] == 0, "a job is posted once");
        _check(from == job.requester && _address(log.topics[2]) == from, "by its requester");
        _check(job.spec == keccak256(abi.encode(given)), "spec");
        _check(deposit == _depositOf(job), "the worst case");
        _posted.push(job);
        _numbers[id] = _posted.length;
        _lock(from, deposit);
    }

    function _onAmended(bytes32 from, address caller, Vm.Log memory log) private {
        (Job memory terms, uint256 deposit) = abi.decode(log.data, (Job, uint256));
        Job memory job = _jobOf(from);
        bytes32 id = log.topics[2];
        _check(caller == job.requester && !isCancelled[from], "its requester, while it is not cancelled");
        _check(_numbers[id] == 0 && id == _idOf(terms), "another job");
        (uint32 count, bytes32 worked) = (_batchCount(job), _workOf(job));
        _check(worked == _workOf(terms), "the same work");
        for (uint32 b = 0; b < count; ++b) {
            bool open = _ghosts[from][b].state == BatchState.Open;
            _ghosts[id][b].state = open ? BatchState.Open : BatchState.Cancelled;
            if (!open) continue;
            _amendedBatches += 1;
            _amendedRefund += _worstOf(job, b);
            deposit -= _worstOf(terms, b);
            _end(from, job, b);
            _lock(caller, _worstOf(terms, b));
        }
        _check(deposit == 0, "the worst case of what is open");
        (_amended, isCancelled[from], isContinued[id]) = (from, true, true);
        _posted.push(terms);
        _numbers[id] = _posted.length;
    }

    function _workOf(Job memory job) private pure returns (bytes32) {
        return keccak256(abi.encode(job.requester, job.spec, job.taskCount, job.batchSize, job.fuelLimit));
    }

    function _onBatchResolved(bytes32 id, Vm.Log memory log) private {
        (uint32 batch, Verdict verdict, uint256 slashed) = abi.decode(log.data, (uint32, Verdict, uint256));
        Job memory job = _jobOf(id);
        Ghost storage g = _ghosts[id][batch];
        address provider = _address(log.topics[2]);
        uint256 lock = _leaseLockOf(job, batch);
        _check(g.state == BatchState.Frozen && provider == g.submission.provider, "a frozen result");
        _onResolved(id, batch, verdict, lock / 2);
        _check(slashed == (verdict == Verdict.Wrong ? lock : 0), "a wrong result costs what its lease held");
        if (verdict == Verdict.Stands) {
            g.state = BatchState.Submitted;
            return;
        }
        _free(provider, job, batch);
        Balance storage book = _books[provider];
        book.stake -= uint80(slashed);
        if (verdict == Verdict.Wrong) {
            (book.checks, book.failed) = (0, book.failed + 1);
            burnable += slashed - slashed / 2;
        } else {
            book.withheld += 1;
        }
        delete _ghosts[id][batch];
        _reopen(id, job, batch);
    }

    function _onRejected(bytes32 id, address from, Vm.Log memory log) private {
        (uint32 batch, uint256 payment, uint256 refund, uint256 bond) =
            abi.decode(log.data, (uint32, uint256, uint256, uint256));
        Job memory job = _jobOf(id);
        Ghost storage g = _ghosts[id][batch];
        Submission memory s = g.submission;
        _check(_settings.arbiter == address(0) && from == job.requester, "its requester, without an arbiter");
        _check(g.state == BatchState.Submitted && block.timestamp < g.time, "in the window");
        _check(payment == uint256(s.fuel) * s.price / 1e9, "what it would have been paid");
        _check(payment + refund == _worstOf(job, batch), "the rest goes back");
        _check(bond == _bondOf(_worstOf(job, batch), _leaseLockOf(job, batch), 0), "a first expiry's bond");
        (g.state, g.payment) = (BatchState.Settled, payment);
        g.settledTimes += 1;
        _refund(from, payment + refund);
        _books[from].available -= uint96(payment + _settings.challengeBond);
        _free(s.provider, job, batch);
        _books[s.provider].stake -= uint80(bond);
        burnable += payment + _settings.challengeBond + bond;
    }

    function _onLeased(bytes32 id, address from, Vm.Log memory log) private {
        (uint32[] memory batches, uint40[] memory activeBlocks, uint32 deadline) =
            abi.decode(log.data, (uint32[], uint40[], uint32));
        Job memory job = _jobOf(id);
        _check(_address(log.topics[2]) == from, "leased by the caller");
        _check(!isCancelled[id], "no lease of a cancelled job");
        _check(!_books[from].exiting, "nor by who is leaving");
        _check(deadline == block.timestamp + job.leaseSeconds, "deadline");
        for (uint256 i = 0; i < batches.length; ++i) {
            Ghost storage g = _ghosts[id][batches[i]];
            _check(g.state == BatchState.Open, "only open batches are leased");
            _check(g.time < block.timestamp, "not in the second of a release");
            (g.state, g.time, g.former, g.activeBlock) = (BatchState.Leased, deadline, address(0), activeBlocks[i]);
            if (g.holder != address(0) && g.holder != from) g.former = g.holder;
            uint256 active = g.former == address(0) ? 0 : block.number + _settings.successorDelayBlocks;
            _check(activeBlocks[i] == active, "a successor waits");
            g.holder = from;
            if (!g.priced) (g.priced, g.price) = (true, _rampOf(job));
            _hold(from, _leaseLockOf(job, batches[i]));
        }
    }

    function _onSubmitted(bytes32 id, address from, Vm.Log memory log) private {
        Submission memory s;
        (s.batch, s.price, s.root, s.fuel,,) = abi.decode(log.data, (uint32, uint128, bytes32, uint64, bytes32, uint32));
        s.provider = _address(log.topics[2]);
        Job memory job = _jobOf(id);
        Ghost storage g = _ghosts[id][s.batch];
        _check(s.provider == from, "submitted by the caller");
        _check(s.price == g.price, "the price of the first lease");
        _check(s.fuel <= _tasksIn(job, s.batch) * job.fuelLimit, "fuel within the limit");
        if (g.state == BatchState.Leased) {
            bool active = g.former == address(0) || block.number >= g.activeBlock;
            _check(from == (active ? g.holder : g.former), "its turn");
            _free(g.holder, job, s.batch);
        } else {
            _check(g.state == BatchState.Open && from == g.holder && !isCancelled[id], "late, to an open batch");
        }
        _hold(from, _leaseLockOf(job, s.batch));
        (g.state, g.submission, g.former, g.holder) = (BatchState.Submitted, s, address(0), address(0));
        g.time = uint32(block.timestamp + job.windowSeconds);
    }

    function _onSettled(bytes32 id, address from, Vm.Log memory log) private {
        (uint32 batch, uint256 payment, uint256 refund, bool accepted) =
            abi.decode(log.data, (uint32, uint256, uint256, bool));
        Job memory job = _jobOf(id);
        Ghost storage g = _ghosts[id][batch];
        _check(g.state == BatchState.Submitted, "submitted before it is paid");
        _check(_address(log.topics[2]) == g.submission.provider, "paid to who submitted");
        _check(payment == uint256(g.submission.fuel) * g.submission.price / 1e9, "for its fuel");
        _check(payment + refund == _worstOf(job, batch), "the rest goes back");
        _check(accepted ? from == job.requester : block.timestamp >= g.time, "by its requester, or its silence");
        (g.state, g.payment) = (BatchState.Settled, payment);
        g.settledTimes += 1;
        Balance storage book = _books[job.requester];
        book.locked -= uint96(payment + refund);
        book.available += uint96(refund);
        if (accepted) book.accepted += 1;
        else book.timedOut += 1;
        _books[g.submission.provider].earned += uint88(payment);
        _free(g.submission.provider, job, batch);
    }

    function _onExpired(bytes32 id, Vm.Log memory log) private {
        (uint32 batch, uint256 bond) = abi.decode(log.data, (uint32, uint256));
        Job memory job = _jobOf(id);
        Ghost storage g = _ghosts[id][batch];
        address provider = _address(log.topics[2]);
        _check(g.state == BatchState.Leased && provider == g.holder, "the holder's lease");
        _check(block.timestamp > g.time, "after its deadline");
        _check(bond == _bondOf(_worstOf(job, batch), _leaseLockOf(job, batch), g.expiries), "the bond, which doubles");
        _free(provider, job, batch);
        _books[provider].stake -= uint80(bond);
        burnable += bond;
        _books[provider].expired += 1;
        if (g.former != address(0) && block.number < g.activeBlock) g.holder = g.former;
        g.expiries += 1;
        _reopen(id, job, batch);
    }

    function _onReleased(bytes32 id, address from, Vm.Log memory log) private {
        uint32 batch = abi.decode(log.data, (uint32));
        Job memory job = _jobOf(id);
        Ghost storage g = _ghosts[id][batch];
        _check(g.state == BatchState.Leased && from == g.holder, "the holder gives it back");
        _check(block.timestamp <= g.time - job.leaseSeconds + job.leaseSeconds / 4, "early");
        _free(from, job, batch);
        // Never held to the end: it has no price yet.
        if (g.expiries == 0) (g.priced, g.price) = (false, 0);
        g.holder = g.former;
        _reopen(id, job, batch);
        g.time = uint32(block.timestamp);
    }

    function _onCancelled(bytes32 id, address from, Vm.Log memory log) private {
        (uint32 batches, uint256 refund) = abi.decode(log.data, (uint32, uint256));
        Job memory job = _jobOf(id);
        if (_amended == id) {
            _check(batches == _amendedBatches && refund == _amendedRefund, "what goes on, and its worst case");
            (_amended, _amendedBatches, _amendedRefund) = (0, 0, 0);
            return;
        }
        _check(from == job.requester && !isCancelled[id], "its requester, once");
        isCancelled[id] = true;
        for (uint32 b = 0; b < _batchCount(job); ++b) {
            if (_ghosts[id][b].state != BatchState.Open) continue;
            batches -= 1;
            refund -= _worstOf(job, b);
            _end(id, job, b);
        }
        _check(batches == 0 && refund == 0, "open batches and their worst cases");
    }

    function _reopen(bytes32 id, Job memory job, uint32 batch) private {
        Ghost storage g = _ghosts[id][batch];
        (g.state, g.time, g.former, g.activeBlock) = (BatchState.Open, 0, address(0), 0);
        if (isCancelled[id]) _end(id, job, batch);
    }

    function _end(bytes32 id, Job memory job, uint32 batch) private {
        _ghosts[id][batch].state = BatchState.Cancelled;
        _refund(job.requester, _worstOf(job, batch));
    }

    function _free(address provider, Job memory job, uint32 batch) private {
        _books[provider].held -= uint80(_leaseLockOf(job, batch));
    }

    // The rules, written apart from the contract's way

    function _rampOf(Job memory job) private view returns (uint128) {
        if (block.timestamp >= uint256(job.rampStart) + job.rampSeconds) return job.maxPrice;
        if (block.timestamp <= job.rampStart) return job.startPrice;
        uint256 step = (block.timestamp - job.rampStart) * 65_535 / job.rampSeconds;
        return uint128(job.startPrice + (job.maxPrice - job.startPrice) * step / 65_535);
    }

    function _leaseLockOf(Job memory job, uint32 batch) private view returns (uint256) {
        uint256 audited = _settings.auditFloorBps;
        return (_worstOf(job, batch) * (10_000 - audited) + audited - 1) / audited;
    }

    function _depositOf(Job memory job) private pure returns (uint256 sum) {
        for (uint32 b = 0; b < _batchCount(job); ++b) {
            sum += _worstOf(job, b);
        }
    }

    function _worstOf(Job memory job, uint32 batch) private pure returns (uint256) {
        return (_tasksIn(job, batch) * job.fuelLimit * job.maxPrice + 1e9 - 1) / 1e9;
    }

    function _tasksIn(Job memory job, uint32 batch) private pure returns (uint256) {
        uint256 left = job.taskCount - batch * job.batchSize;
        return left < job.batchSize ? left : job.batchSize;
    }

    function _batchCount(Job memory job) internal pure returns (uint32) {
        return (job.taskCount + job.batchSize - 1) / job.batchSize;
    }

    function _ghostOf(Job memory job, uint32 batch) internal view returns (Ghost memory) {
        return _ghosts[_idOf(job)][batch];
    }

    /// Of a batch, without a copy of all that is known of it.
    function _stateIn(bytes32 id, uint32 batch) internal view returns (BatchState) {
        return _ghosts[id][batch].state;
    }

    function _idOf(Job memory job) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(_JOBS), keccak256(abi.encode(job))));
    }

    function _jobOf(bytes32 id) private view returns (Job memory) {
        return _posted[_numbers[id] - 1];
    }

    function _fuelLimitOf(bytes32 jobId) internal view override returns (uint64) {
        return _jobOf(jobId).fuelLimit;
    }

    function _standingOf(bytes32 jobId, uint32 batch) internal view override returns (Standing memory) {
        Job memory job = _jobOf(jobId);
        Ghost storage g = _ghosts[jobId][batch];
        return Standing({
            jobId: jobId,
            batch: batch,
            requester: job.requester,
            root: g.submission.root,
            fuel: g.submission.fuel,
            firstTask: batch * job.batchSize,
            tasks: uint32(_tasksIn(job, batch)),
            finalAt: g.time
        });
    }
}
