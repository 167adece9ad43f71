// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settings} from "../../interfaces/IDeployment.sol";
import {IDisputes, Standing} from "../../interfaces/IDisputes.sol";
import {IEscrow} from "../../interfaces/IEscrow.sol";
import {BatchState, Contact, IJobRegistry, Job, Result, Submission} from "../../interfaces/IJobRegistry.sol";
import {IProviderRegistry} from "../../interfaces/IProviderRegistry.sol";
import {Parts} from "./Books.sol";
import {Ghost, Model} from "./Model.sol";
import {Results} from "./Results.sol";

/// @notice Calls every function of the contracts as one of several accounts. Calls look for a batch on which they can
/// succeed and are made on any when there is none: a refusal is fine, as long as it is one that the interfaces declare.
contract Handler is Model {
    uint256 private constant MAX_JOBS = 10;
    uint256 private constant MAX_LIVE_JOBS = 4;

    constructor(Parts memory parts, Settings memory settings, address[] memory accounts)
        Model(parts, settings, accounts)
    {}

    // Jobs

    function post(uint256 who, uint256 shape) external {
        if (_posted.length == MAX_JOBS || _liveJobs() == MAX_LIVE_JOBS) return;
        // The fuzzer likes small numbers, of which only small jobs would come.
        shape = uint256(keccak256(abi.encode(shape)));
        Job memory job = Job({
            requester: _actor(who),
            nonce: uint64(_posted.length),
            spec: keccak256(abi.encode(spec())),
            taskCount: uint32(_bound(shape, 1, 11)),
            batchSize: 1,
            fuelLimit: uint64(_bound(shape >> 32, 1, 5e9)),
            startPrice: 1,
            // Some take most of a stake for one lease.
            maxPrice: uint128(_bound(shape >> 64, 1, shape % 4 == 0 ? 60e18 : 4e18)),
            // Some ramps are over, some are to come.
            rampStart: uint32(block.timestamp + _bound(shape >> 112, 0, 600) - 300),
            rampSeconds: shape % 3 == 0 ? 0 : uint32(_bound(shape >> 120, 1, 3000)),
            // Some leases end before a successor would be active.
            leaseSeconds: uint32(_bound(shape >> 128, 5, 900)),
            windowSeconds: uint32(_bound(shape >> 160, 1, 400))
        });
        job.batchSize = uint32(_bound(shape >> 192, (job.taskCount + 3) / 4, job.taskCount));
        job.startPrice = job.rampSeconds == 0 ? job.maxPrice : uint128(_bound(shape >> 200, 1, job.maxPrice));
        _call("post", job.requester, address(_JOBS), _postData(job));
    }

    function cancel(uint256 pick, uint256 luck) external {
        // Rarely, or no job would live long.
        if (_posted.length == 0 || luck % 6 != 0) return;
        Job memory job = _posted[pick % _posted.length];
        _call("cancel", job.requester, address(_JOBS), abi.encodeCall(IJobRegistry.cancel, (job)));
    }

    function lease(uint256 who, uint256 pick, bool two) external {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Open);
        if (!any) return;
        uint32[] memory batches = new uint32[](two ? 2 : 1);
        batches[0] = batch;
        if (two) batches[1] = (batch + 1) % _batchCount(job);
        // Often one whose stake is held already, up to more than it has.
        address from = _provider(who, who % 4 < 3);
        _call("lease", from, address(_JOBS), abi.encodeCall(IJobRegistry.lease, (job, batches)));
    }

    /// Somebody tries an overdue or running lease of another.
    function succeed(uint256 who, uint256 pick) external {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Leased);
        if (!any) return;
        if (pick % 3 == 0) _passTo(job, batch, 1);
        _call("succeed", _provider(who, false), address(_JOBS), abi.encodeCall(IJobRegistry.lease, (job, _one(batch))));
    }

    function submit(uint256 pick, uint256 who, uint64 fuel) external {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Leased);
        if (!any) return;
        Ghost memory g = _ghostOf(job, batch);
        // Mostly the holder, else its predecessor or anybody.
        address from = _actor(who);
        // An open batch that nobody held has none.
        if (who % 4 < 2 && g.holder != address(0)) from = g.holder;
        else if (who % 4 == 2 && g.former != address(0)) from = g.former;
        _call("submit", from, address(_JOBS), abi.encodeCall(IJobRegistry.submit, (job, _results(job, batch, fuel))));
    }

    function submitToOpen(uint256 pick, uint64 fuel) external {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Open);
        if (!any) return;
        address last = _ghostOf(job, batch).holder;
        if (last == address(0)) return;
        bytes memory data = abi.encodeCall(IJobRegistry.submit, (job, _results(job, batch, fuel)));
        _call("submitToOpen", last, address(_JOBS), data);
    }

    function release(uint256 pick, uint256 luck) external {
        if (luck % 3 != 0) return;
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Leased);
        if (!any) return;
        address from = _ghostOf(job, batch).holder;
        if (from == address(0)) return;
        _call("release", from, address(_JOBS), abi.encodeCall(IJobRegistry.release, (job, _one(batch))));
    }

    function expire(uint256 who, uint256 pick) external {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Leased);
        if (!any) return;
        if (pick % 2 == 0) _passTo(job, batch, 1);
        _call("expire", _actor(who), address(_JOBS), abi.encodeCall(IJobRegistry.expire, (job, _one(batch))));
    }

    function accept(uint256 pick, uint8 more) external {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Submitted);
        if (!any) return;
        Submission[] memory given = _submissions(job, batch, more);
        _call("accept", job.requester, address(_JOBS), abi.encodeCall(IJobRegistry.accept, (job, given)));
    }

    function finalise(uint256 who, uint256 pick, uint8 more) external {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Submitted);
        if (!any) return;
        if (pick % 2 == 0) _passTo(job, batch, 0);
        Submission[] memory given = _submissions(job, batch, more);
        _call("finalise", _actor(who), address(_JOBS), abi.encodeCall(IJobRegistry.finalise, (job, given)));
    }

    /// Other terms for what is open of a job, which may continue another.
    function amend(uint256 seed) external lucky(seed) {
        if (_posted.length == 0 || _posted.length >= MAX_JOBS || _dice(3) == 0) return;
        (Job memory job, uint32 batch,) = _find(_dice(1 << 64), BatchState.Open);
        // What came last, which is continued mostly, or any.
        if (_dice(2) == 0) job = _posted[_posted.length - 1];
        Job memory terms = abi.decode(abi.encode(job), (Job));
        terms.nonce = uint64(_posted.length);
        uint256 part = _dice(4);
        if (part == 0) (terms.maxPrice, terms.startPrice) = (job.maxPrice * 2, job.maxPrice * 2);
        else if (part == 1) (terms.maxPrice, terms.startPrice) = (job.maxPrice / 2 + 1, job.maxPrice / 2 + 1);
        else if (part == 2) (terms.leaseSeconds, terms.windowSeconds) = (job.windowSeconds, job.leaseSeconds);
        if (_dice(8) == 0) {
            terms.taskCount += 1;
            bytes memory other = abi.encodeCall(IJobRegistry.amend, (job, terms, _none()));
            bytes4 refusal = _openBatches(job) == 0 ? bytes4(0) : IJobRegistry.OtherWork.selector;
            _refused("amend to other work", job.requester, address(_JOBS), other, refusal);
            return;
        }
        bytes memory data = abi.encodeCall(IJobRegistry.amend, (job, terms, _none()));
        bool again = isContinued[_idOf(job)];
        if (_call("amend", job.requester, address(_JOBS), data)) {
            if (again) successes["amend what continues"] += 1;
            _leaseWhatStayed(job, batch);
        }
    }

    /// A job that was amended gives nothing away any more, not even to who held it last.
    function _leaseWhatStayed(Job memory job, uint32 batch) private {
        address last = _ghostOf(job, batch).holder;
        if (_ghostOf(job, batch).state != BatchState.Cancelled) return;
        if (last == address(0)) last = _provider(0, false);
        bytes memory data = abi.encodeCall(IJobRegistry.lease, (job, _one(batch)));
        _refused("lease of what was amended", last, address(_JOBS), data, IJobRegistry.JobIsCancelled.selector);
        data = abi.encodeCall(IJobRegistry.submit, (job, _results(job, batch, 0)));
        _refused("submit to what was amended", last, address(_JOBS), data, 0);
    }

    /// A lease and a result, by who can: so that there is something to dispute.
    function work(uint256 seed) external lucky(seed) {
        _work();
    }

    function _work() private {
        (Job memory job, uint32 batch,) = _find(_dice(1 << 64), BatchState.Open);
        if (_posted.length == 0 || _stateIn(_idOf(job), batch) != BatchState.Open) return;
        address who = _actor(_dice(256));
        for (uint256 i = 0; i < actors.length; ++i) {
            if (_books[who].stake >= _books[who].held + _JOBS.leaseLock(job, batch) && !_books[who].exiting) break;
            who = _actor(i);
        }
        if (!_call("lease", who, address(_JOBS), abi.encodeCall(IJobRegistry.lease, (job, _one(batch))))) return;
        bytes memory data = abi.encodeCall(IJobRegistry.submit, (job, _results(job, batch, uint64(_dice(1 << 40)))));
        _call("submit", who, address(_JOBS), data);
    }

    function dispute(uint256 seed) external lucky(seed) {
        BatchState state = _dice(3) == 0 ? BatchState.Frozen : BatchState.Submitted;
        (Job memory job, uint32 batch,) = _find(_dice(1 << 64), state);
        if (_posted.length == 0) return;
        if (_stateIn(_idOf(job), batch) != state) return _work();
        if (state == BatchState.Frozen && block.timestamp >= _ghostOf(job, batch).time) return;
        Standing memory about = _standingOf(_idOf(job), batch);
        _dispute(address(_JOBS), about, abi.encode(job, _ghostOf(job, batch).submission));
    }

    function resolve(uint256 seed) external lucky(seed) {
        (Job memory job, uint32 batch,) = _find(_dice(1 << 64), BatchState.Frozen);
        if (_posted.length == 0 || _ghostOf(job, batch).state != BatchState.Frozen) return;
        uint256 at = resolvableAt(_idOf(job), batch);
        if (_dice(2) == 0) _passTo(at);
        bytes memory data = abi.encodeCall(IJobRegistry.resolve, (job, _ghostOf(job, batch).submission));
        address from = _actor(_dice(256));
        if (block.timestamp < at) {
            _refused("resolve early", from, address(_JOBS), data, IDisputes.TooEarly.selector);
            return;
        }
        uint256 about = _disputeAbout[_idOf(job)][batch] - 1;
        if (_call("resolve", from, address(_JOBS), data)) _countVerdict(about);
    }

    function reject(uint256 seed) external lucky(seed) {
        if (_dice(3) != 0) return;
        (Job memory job, uint32 batch,) = _find(_dice(1 << 64), BatchState.Submitted);
        if (_posted.length == 0 || _ghostOf(job, batch).state != BatchState.Submitted) return;
        bytes memory data = abi.encodeCall(IJobRegistry.reject, (job, _ghostOf(job, batch).submission, _none()));
        if (_settings.arbiter == address(0)) {
            _call("reject", job.requester, address(_JOBS), data);
        } else {
            _refused("reject", job.requester, address(_JOBS), data, IJobRegistry.HasArbiter.selector);
        }
    }

    function _setJobContact(uint256 pick) internal override {
        if (_posted.length == 0) return;
        Job memory job = _posted[pick % _posted.length];
        bytes memory data = abi.encodeCall(IJobRegistry.setContact, (job, Contact(0, "")));
        _call("setJobContact", job.requester, address(_JOBS), data);
    }

    // What must be refused

    function attack(uint256 kind, uint256 who, uint256 pick, uint256 change) external {
        if (_posted.length == 0) return;
        (Job memory job, uint32 batch,) = _find(pick, BatchState.Submitted);
        // Where there is a result, mostly at it.
        kind %= _ghostOf(job, batch).state == BatchState.Submitted && kind & 1 << 100 == 0 ? 5 : 11;
        if (kind < 2) _settleWithAnotherPreimage(_actor(who), pick, change, kind == 0);
        else if (kind == 2) _acceptOfAnother(_actor(who), pick);
        else if (kind == 3) _settleTwiceInOneCall(pick, change % 2 == 0);
        else if (kind == 4) _settleAsAnotherJob(_actor(who), pick, change);
        else if (kind == 5) _useAnotherJob(_actor(who), pick, change);
        else if (kind == 6) _takeTwiceInOneCall(_actor(who), pick, uint64(change));
        else if (kind == 7) _callAsRegistry(_actor(who), _actor(pick), change);
        else if (kind == 8) _postAgain(_actor(who), pick);
        else if (kind == 9) _settleAgain(_actor(who), pick);
        else _changeOfAnother(_actor(who), _actor(pick));
    }

    /// One word of what was submitted is another: the attacker's name, more fuel, a higher price.
    function _settleWithAnotherPreimage(address who, uint256 pick, uint256 change, bool byAccept) private {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Submitted);
        if (!any || _ghostOf(job, batch).state != BatchState.Submitted) return;
        _passTo(job, batch, 0);
        Submission[] memory given = new Submission[](1);
        Submission memory s = _ghostOf(job, batch).submission;
        uint256 part = change % 5;
        if (part == 0) s.batch ^= 1;
        else if (part == 1) s.provider = s.provider == who ? address(uint160(who) ^ 1) : who;
        else if (part == 2) s.price = job.maxPrice == s.price ? s.price - 1 : job.maxPrice;
        else if (part == 3) s.root = bytes32(uint256(s.root) ^ 1 << (change >> 8) % 256);
        else s.fuel = s.fuel == type(uint64).max ? 0 : s.fuel + 1;
        given[0] = s;
        bytes memory data = byAccept
            ? abi.encodeCall(IJobRegistry.accept, (job, given))
            : abi.encodeCall(IJobRegistry.finalise, (job, given));
        bytes4 refusal = part == 0 ? bytes4(0) : IJobRegistry.WrongSubmission.selector;
        _refused("another preimage", byAccept ? job.requester : who, address(_JOBS), data, refusal);
    }

    function _settleAgain(address who, uint256 pick) private {
        (Job memory job, uint32 batch,) = _find(pick, BatchState.Settled);
        if (_ghostOf(job, batch).state != BatchState.Settled) return;
        Submission[] memory given = new Submission[](1);
        given[0] = _ghostOf(job, batch).submission;
        bytes memory data = abi.encodeCall(IJobRegistry.accept, (job, given));
        _refused("settle again", job.requester, address(_JOBS), data, IJobRegistry.WrongState.selector);
        data = abi.encodeCall(IJobRegistry.finalise, (job, given));
        _refused("settle again", who, address(_JOBS), data, IJobRegistry.WrongState.selector);
    }

    function _acceptOfAnother(address who, uint256 pick) private {
        (Job memory job, uint32 batch,) = _find(pick, BatchState.Submitted);
        if (who == job.requester) return;
        bytes memory data = abi.encodeCall(IJobRegistry.accept, (job, _submissions(job, batch, 0)));
        _refused("accept of another", who, address(_JOBS), data, IJobRegistry.NotRequester.selector);
        data = abi.encodeCall(IJobRegistry.cancel, (job));
        _refused("accept of another", who, address(_JOBS), data, IJobRegistry.NotRequester.selector);
    }

    function _settleTwiceInOneCall(uint256 pick, bool byAccept) private {
        (Job memory job, uint32 batch,) = _find(pick, BatchState.Submitted);
        if (_ghostOf(job, batch).state != BatchState.Submitted) return;
        _passTo(job, batch, 0);
        Submission[] memory given = new Submission[](2);
        given[0] = given[1] = _ghostOf(job, batch).submission;
        bytes memory data = byAccept
            ? abi.encodeCall(IJobRegistry.accept, (job, given))
            : abi.encodeCall(IJobRegistry.finalise, (job, given));
        _refused("settle twice in a call", job.requester, address(_JOBS), data, IJobRegistry.WrongState.selector);
    }

    /// What was submitted to one job, given to another.
    function _settleAsAnotherJob(address who, uint256 pick, uint256 other) private {
        (Job memory job, uint32 batch,) = _find(pick, BatchState.Submitted);
        Job memory second = _posted[other % _posted.length];
        if (_ghostOf(job, batch).state != BatchState.Submitted || job.nonce == second.nonce) return;
        Submission[] memory given = new Submission[](1);
        given[0] = _ghostOf(job, batch).submission;
        // Equal results of equal batches are the same preimage.
        Submission memory there = _ghostOf(second, batch).submission;
        if (keccak256(abi.encode(there)) == keccak256(abi.encode(given[0]))) return;
        bytes memory data = abi.encodeCall(IJobRegistry.finalise, (second, given));
        _refused("submission of another job", who, address(_JOBS), data, 0);
        data = abi.encodeCall(IJobRegistry.accept, (second, given));
        _refused("submission of another job", second.requester, address(_JOBS), data, 0);
    }

    /// A job with one field changed was never posted.
    function _useAnotherJob(address who, uint256 pick, uint256 change) private {
        (Job memory job, uint32 batch,) = _find(pick, BatchState(pick % 6));
        // Of the job as it was: the other may not have this batch.
        Submission[] memory given = _submissions(job, batch, 0);
        Result[] memory results = _results(job, batch, 0);
        uint256 part = change % 12;
        if (part == 0) job.requester = address(uint160(job.requester) ^ 1);
        else if (part == 1) job.nonce += 1000;
        else if (part == 2) job.spec = ~job.spec;
        else if (part == 3) job.taskCount += 1;
        else if (part == 4) job.batchSize += 1;
        else if (part == 5) job.fuelLimit += 1;
        else if (part == 6) job.startPrice -= 1;
        else if (part == 7) job.maxPrice += 1;
        else if (part == 8) job.rampStart += 1;
        else if (part == 9) job.rampSeconds += 1;
        else if (part == 10) job.leaseSeconds += 1;
        else job.windowSeconds += 1;
        bytes[7] memory calls = [
            abi.encodeCall(IJobRegistry.cancel, (job)),
            abi.encodeCall(IJobRegistry.lease, (job, _one(batch))),
            abi.encodeCall(IJobRegistry.release, (job, _one(batch))),
            abi.encodeCall(IJobRegistry.expire, (job, _one(batch))),
            abi.encodeCall(IJobRegistry.submit, (job, results)),
            abi.encodeCall(IJobRegistry.accept, (job, given)),
            abi.encodeCall(IJobRegistry.finalise, (job, given))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            address from = part != 0 && i % 2 == 0 ? job.requester : who;
            _refused("another job", from, address(_JOBS), calls[i], IJobRegistry.UnknownJob.selector);
        }
    }

    /// A batch twice in one call, for each call that takes several.
    function _takeTwiceInOneCall(address who, uint256 pick, uint64 fuel) private {
        (Job memory job, uint32 batch,) = _find(pick, BatchState(pick % 2));
        uint32[] memory twice = new uint32[](2);
        twice[0] = twice[1] = batch;
        address last = _ghostOf(job, batch).holder;
        if (last == address(0)) last = who;
        Result[] memory results = new Result[](2);
        results[0] = results[1] = _results(job, batch, fuel)[0];
        _refused("twice in a call", who, address(_JOBS), abi.encodeCall(IJobRegistry.lease, (job, twice)), 0);
        _refused("twice in a call", last, address(_JOBS), abi.encodeCall(IJobRegistry.release, (job, twice)), 0);
        _refused("twice in a call", last, address(_JOBS), abi.encodeCall(IJobRegistry.submit, (job, results)), 0);
        _refused("twice in a call", who, address(_JOBS), abi.encodeCall(IJobRegistry.expire, (job, twice)), 0);
    }

    function _callAsRegistry(address who, address victim, uint256 amount) private {
        amount = _bound(amount, 0, 1e20);
        bytes[10] memory calls = [
            abi.encodeCall(IEscrow.lock, (victim, amount, _none())),
            abi.encodeCall(IEscrow.stake, (victim, amount, _none())),
            abi.encodeCall(IEscrow.hold, (victim, amount)),
            abi.encodeCall(IEscrow.free, (victim, amount)),
            abi.encodeCall(IEscrow.expire, (victim, amount, amount)),
            abi.encodeCall(IEscrow.pay, (victim, who, amount, 0, 0, 1, true)),
            abi.encodeCall(IEscrow.refund, (victim, amount)),
            abi.encodeCall(IEscrow.setExiting, (victim, true)),
            abi.encodeCall(IEscrow.leave, (victim, who)),
            abi.encodeCall(IEscrow.payOut, (victim, who))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            _refused("call as registry", who, address(_ESCROW), calls[i], IEscrow.NotRegistry.selector);
        }
    }

    function _postAgain(address who, uint256 pick) private {
        Job memory job = _posted[pick % _posted.length];
        bytes4 refusal = who == job.requester ? IJobRegistry.JobExists.selector : IJobRegistry.NotRequester.selector;
        _refused("post again", who, address(_JOBS), _postData(job), refusal);
    }

    /// A provider's key changes no payout address, and nobody's earnings move by another's word.
    function _changeOfAnother(address who, address victim) private {
        address payout = payoutOf(victim);
        if (who == payout) return;
        bytes memory data = abi.encodeCall(IProviderRegistry.setPayout, (victim, who));
        _refused("change of another", who, address(_PROVIDERS), data, IProviderRegistry.NotPayout.selector);
        if (who == victim || payout == address(0)) return;
        data = abi.encodeCall(IProviderRegistry.withdraw, (victim));
        _refused("change of another", who, address(_PROVIDERS), data, IProviderRegistry.NotPayout.selector);
    }

    // Inner

    function _postData(Job memory job) private pure returns (bytes memory) {
        return abi.encodeCall(IJobRegistry.post, (job, spec(), Contact(bytes32(uint256(1)), ""), _none()));
    }

    /// Of every four two are right, one is wrong, and one is made up.
    function _results(Job memory job, uint32 batch, uint64 fuel) private view returns (Result[] memory results) {
        results = new Result[](1);
        if (fuel % 4 < 3) {
            uint32 first = batch * job.batchSize;
            uint32 tasks = first + job.batchSize > job.taskCount ? job.taskCount - first : job.batchSize;
            (bytes32 root, uint64 sum) =
                Results.root(Results.leaves(first, tasks, job.fuelLimit, _OUTPUT_ROOT, fuel % 4 / 2));
            results[0] = Result(batch, root, sum, 0);
            return results;
        }
        uint256 limit = uint256(job.fuelLimit) * job.batchSize;
        results[0] = Result(batch, keccak256(abi.encode(fuel)), uint64(_bound(fuel, 0, limit + limit / 64)), 0);
    }

    /// What was submitted for `first`, and for the job's other batches as `more` says, in its order.
    function _submissions(Job memory job, uint32 first, uint8 more) private view returns (Submission[] memory given) {
        uint32 count = _batchCount(job);
        given = new Submission[](count);
        given[0] = _ghostOf(job, first).submission;
        uint256 length = 1;
        for (uint32 i = 1; i < count; ++i) {
            Ghost memory g = _ghostOf(job, (first + i) % count);
            if (more >> i & 1 == 0 || g.state != BatchState.Submitted) continue;
            given[length++] = g.submission;
        }
        assembly {
            mstore(given, length)
        }
    }

    /// Jobs with a batch that is not final.
    function _liveJobs() private view returns (uint256 live) {
        for (uint256 i = 0; i < _posted.length; ++i) {
            (bytes32 id, uint32 batches) = (_idOf(_posted[i]), _batchCount(_posted[i]));
            uint32 batch = 0;
            while (batch < batches && !_isLive(_stateIn(id, batch))) ++batch;
            if (batch < batches) ++live;
        }
    }

    function _isLive(BatchState state) private pure returns (bool) {
        return state != BatchState.Settled && state != BatchState.Cancelled;
    }

    function _openBatches(Job memory job) private view returns (uint256 open) {
        for (uint32 batch = 0; batch < _batchCount(job); ++batch) {
            if (_stateIn(_idOf(job), batch) == BatchState.Open) ++open;
        }
    }

    /// A batch in `state`, from a place that `pick` chooses; any batch when there is none.
    function _find(uint256 pick, BatchState state) private view returns (Job memory j, uint32 batch, bool any) {
        uint256 count = _posted.length;
        if (count == 0) return (j, 0, false);
        for (uint256 i = 0; i < count; ++i) {
            j = _posted[(pick % count + i) % count];
            (bytes32 id, uint32 batches) = (_idOf(j), _batchCount(j));
            for (uint32 k = 0; k < batches; ++k) {
                batch = uint32((pick >> 8) % batches + k) % batches;
                if (_stateIn(id, batch) == state) return (j, batch, true);
            }
        }
        return (j, batch, true);
    }

    /// To `more` seconds after the deadline of the batch's lease or window, if that is still to come.
    function _passTo(Job memory j, uint32 batch, uint256 more) private {
        _passTo(_JOBS.batchState(j, batch).time + more);
    }

    /// Mostly one that is registered, and one whose stake is held if `busy`, looked for from `pick` on.
    function _provider(uint256 pick, bool busy) private view returns (address provider) {
        for (uint256 i = 0; i < actors.length; ++i) {
            provider = _actor(pick % actors.length + i);
            if (busy ? bookOf(provider).held != 0 : payoutOf(provider) != address(0)) break;
        }
    }
}
