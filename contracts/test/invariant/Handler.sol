// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";
import {Vm} from "forge-std/Vm.sol";

import {IEscrow, Permit} from "../../interfaces/IEscrow.sol";
import {IToken} from "../Fixture.sol";
import {
    Batch,
    BatchState,
    Contact,
    IJobRegistry,
    Job,
    Result,
    Spec,
    Submission
} from "../../interfaces/IJobRegistry.sol";
import {IProviderRegistry} from "../../interfaces/IProviderRegistry.sol";

/// @notice Calls every function of the contracts as one of several accounts. Calls look for a batch on which they can
/// succeed and are made on any when there is none: a refusal is fine, as long as it is one that the interfaces declare.
contract Handler is Test {
    uint256 private constant MAX_JOBS = 5;

    IToken private immutable _TOKEN;
    IEscrow private immutable _ESCROW;
    IProviderRegistry private immutable _PROVIDERS;
    IJobRegistry private immutable _JOBS;

    address[] public actors;
    Job[] private _posted;
    /// Successful calls by name.
    mapping(string call => uint256) public successes;
    /// How often a batch was settled.
    mapping(bytes32 jobId => mapping(uint32 batch => uint256)) public settledTimes;
    /// A batch's last submission.
    mapping(bytes32 jobId => mapping(uint32 batch => Submission)) public submitted;
    /// Paid to providers for a job, token wei.
    mapping(bytes32 jobId => uint256) public paid;
    /// Tokens sent to the Escrow without a call of it.
    uint256 public donated;
    /// A call failed in a way that no interface declares: a panic, or the Escrow's own books being short.
    bytes public broken;

    constructor(
        IToken token,
        IEscrow escrow,
        IProviderRegistry providers,
        IJobRegistry jobs,
        address[] memory accounts
    ) {
        (_TOKEN, _ESCROW, _PROVIDERS, _JOBS, actors) = (token, escrow, providers, jobs, accounts);
    }

    // Jobs

    function post(uint256 who, uint256 shape) external {
        if (_posted.length == MAX_JOBS) return;
        Job memory job = Job({
            requester: _actor(who),
            nonce: uint64(_posted.length),
            spec: keccak256(abi.encode(_spec())),
            taskCount: uint32(_bound(shape, 1, 11)),
            batchSize: 1,
            fuelLimit: uint64(_bound(shape >> 32, 1, 5e9)),
            startPrice: uint128(_bound(shape >> 64, 1, 2e18)),
            maxPrice: 0,
            rampStart: uint32(block.timestamp + _bound(shape >> 72, 0, 300)),
            rampSeconds: uint32(_bound(shape >> 80, 1, 2000)),
            // Some leases end before a successor would be active.
            leaseSeconds: uint32(_bound(shape >> 128, 5, 900)),
            windowSeconds: uint32(_bound(shape >> 160, 1, 400))
        });
        job.maxPrice = job.startPrice + uint128(_bound(shape >> 96, 0, 2e18));
        job.batchSize = uint32(_bound(shape >> 192, (job.taskCount + 3) / 4, job.taskCount));
        Contact memory contact = Contact(bytes32(uint256(1)), "");
        bytes memory data = abi.encodeCall(IJobRegistry.post, (job, _spec(), contact, _none()));
        if (_call("post", job.requester, address(_JOBS), data)) _posted.push(job);
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
        _call("lease", _actor(who), address(_JOBS), abi.encodeCall(IJobRegistry.lease, (job, batches)));
    }

    /// Somebody tries an overdue or running lease of another.
    function succeed(uint256 who, uint256 pick) external {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Leased);
        if (!any) return;
        if (pick % 3 == 0) _passTo(job, batch, 1);
        _call("succeed", _actor(who), address(_JOBS), abi.encodeCall(IJobRegistry.lease, (job, _one(batch))));
    }

    function submit(uint256 pick, uint256 who, uint64 fuel) external {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Leased);
        if (!any) return;
        Batch memory b = _JOBS.batchState(job, batch);
        // Mostly the holder, else its predecessor or anybody.
        address from = _actor(who);
        if (who % 4 < 2) from = b.provider;
        else if (who % 4 == 2 && b.former != address(0)) from = b.former;
        _submit("submit", from, job, batch, fuel);
    }

    function submitToOpen(uint256 pick, uint64 fuel) external {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Open);
        if (!any) return;
        address last = _JOBS.batchState(job, batch).provider;
        if (last == address(0)) return;
        _submit("submitToOpen", last, job, batch, fuel);
    }

    function release(uint256 pick, uint256 luck) external {
        if (luck % 3 != 0) return;
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Leased);
        if (!any) return;
        address from = _JOBS.batchState(job, batch).provider;
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
        uint32[] memory batches = new uint32[](more % 4 == 0 ? 2 : 1);
        batches[0] = batch;
        if (batches.length == 2) batches[1] = (batch + 1) % _batchCount(job);
        Submission[] memory given = standing(job, batches);
        // Now and then one that was never submitted.
        if (more % 7 == 0) given[0].fuel += 1;
        bytes memory data = abi.encodeCall(IJobRegistry.accept, (job, given));
        if (_call("accept", job.requester, address(_JOBS), data) && more % 7 == 0) broken = data;
    }

    function finalise(uint256 who, uint256 pick) external {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Submitted);
        if (!any) return;
        if (pick % 2 == 0) _passTo(job, batch, 0);
        _call(
            "finalise",
            _actor(who),
            address(_JOBS),
            abi.encodeCall(IJobRegistry.finalise, (job, standing(job, _one(batch))))
        );
    }

    // What is not part of a batch's life: one entry, so that most calls are

    function aside(uint256 kind, uint256 who, uint256 a, uint256 b) external {
        kind %= 12;
        if (kind == 0) _settleAgain(a, b % 2 == 0);
        else if (kind == 1) _register(who, a, b);
        else if (kind == 2) _addStake(who, a);
        else if (kind == 3) _setPayout(a, b);
        else if (kind == 4) _requestExit(who, a);
        else if (kind == 5) _cancelExit(who);
        else if (kind == 6) _exit(who, a);
        else if (kind == 7) _withdrawEarnings(who, a);
        else if (kind == 8) _deposit(who, a, b);
        else if (kind == 9) _withdraw(who, a);
        else if (kind == 10) _burn(who);
        else _donate(who, a);
    }

    function _register(uint256 who, uint256 payout, uint256 stake) private {
        Contact memory contact = Contact(bytes32(uint256(1)), "");
        bytes memory data = abi.encodeCall(
            IProviderRegistry.register, (_actor(payout), contact, _bound(stake, 100e18, 300e18), _none())
        );
        _call("register", _actor(who), address(_PROVIDERS), data);
    }

    function _addStake(uint256 who, uint256 amount) private {
        bytes memory data = abi.encodeCall(IProviderRegistry.addStake, (_bound(amount, 0, 50e18), _none()));
        _call("addStake", _actor(who), address(_PROVIDERS), data);
    }

    function _setPayout(uint256 pick, uint256 payout) private {
        address account = _actor(pick);
        address from = _PROVIDERS.providerOf(account).payout;
        bytes memory data = abi.encodeCall(IProviderRegistry.setPayout, (account, _actor(payout)));
        _call("setPayout", from, address(_PROVIDERS), data);
    }

    function _requestExit(uint256 who, uint256 luck) private {
        if (luck % 3 != 0) return;
        _call("requestExit", _actor(who), address(_PROVIDERS), abi.encodeCall(IProviderRegistry.requestExit, ()));
    }

    function _cancelExit(uint256 who) private {
        _call("cancelExit", _actor(who), address(_PROVIDERS), abi.encodeCall(IProviderRegistry.cancelExit, ()));
    }

    function _exit(uint256 who, uint256 luck) private {
        uint256 exitAt = _PROVIDERS.providerOf(_actor(who)).exitAt;
        // Time passes for all: not too often.
        if (exitAt > block.timestamp && luck % 3 == 0) vm.warp(exitAt);
        _call("exit", _actor(who), address(_PROVIDERS), abi.encodeCall(IProviderRegistry.exit, ()));
    }

    function _withdrawEarnings(uint256 who, uint256 pick) private {
        bytes memory data = abi.encodeCall(IProviderRegistry.withdraw, (_actor(pick)));
        _call("withdrawEarnings", _actor(who), address(_PROVIDERS), data);
    }

    function _deposit(uint256 who, uint256 to, uint256 amount) private {
        bytes memory data = abi.encodeCall(IEscrow.deposit, (_actor(to), _bound(amount, 0, 20e18)));
        _call("deposit", _actor(who), address(_ESCROW), data);
    }

    function _withdraw(uint256 who, uint256 amount) private {
        uint256 available = _ESCROW.balanceOf(_actor(who)).available;
        bytes memory data = abi.encodeCall(IEscrow.withdraw, (_bound(amount, 0, available + available / 16)));
        _call("withdraw", _actor(who), address(_ESCROW), data);
    }

    function _burn(uint256 who) private {
        _call("burn", _actor(who), address(_ESCROW), abi.encodeCall(IEscrow.burn, ()));
    }

    function _donate(uint256 who, uint256 amount) private {
        amount = _bound(amount, 0, 1e15);
        bytes memory data = abi.encodeCall(_TOKEN.transfer, (address(_ESCROW), amount));
        if (_call("donate", _actor(who), address(_TOKEN), data)) donated += amount;
    }

    /// Tries to be paid twice.
    function _settleAgain(uint256 pick, bool byAccept) private {
        (Job memory job, uint32 batch, bool any) = _find(pick, BatchState.Settled);
        if (!any) return;
        bytes memory data = byAccept
            ? abi.encodeCall(IJobRegistry.accept, (job, standing(job, _one(batch))))
            : abi.encodeCall(IJobRegistry.finalise, (job, standing(job, _one(batch))));
        _call("settleAgain", job.requester, address(_JOBS), data);
    }

    // Time

    function pass(uint16 time) external {
        uint256 elapsed = _bound(time, 1, 1000);
        vm.warp(block.timestamp + elapsed);
        vm.roll(block.number + 1 + elapsed / 12);
    }

    // What the invariants read

    /// The last submissions of batches, nothing for those that have none.
    function standing(Job memory job, uint32[] memory batches) public view returns (Submission[] memory list) {
        bytes32 id = _JOBS.jobIdOf(job);
        list = new Submission[](batches.length);
        for (uint256 i = 0; i < batches.length; ++i) {
            list[i] = submitted[id][batches[i]];
            list[i].batch = batches[i];
        }
    }

    function jobCount() external view returns (uint256) {
        return _posted.length;
    }

    function jobAt(uint256 i) external view returns (Job memory) {
        return _posted[i];
    }

    function actorCount() external view returns (uint256) {
        return actors.length;
    }

    // Inner

    function _submit(string memory name, address from, Job memory j, uint32 batch, uint64 fuel) private {
        Result[] memory results = new Result[](1);
        uint256 limit = uint256(j.fuelLimit) * j.batchSize;
        results[0] = Result(batch, keccak256(abi.encode(fuel)), uint64(_bound(fuel, 0, limit + limit / 64)), 0);
        _call(name, from, address(_JOBS), abi.encodeCall(IJobRegistry.submit, (j, results)));
    }

    function _call(string memory name, address from, address to, bytes memory data) private returns (bool ok) {
        bytes memory answer;
        vm.recordLogs();
        vm.prank(from);
        (ok, answer) = to.call(data);
        if (ok) {
            successes[name] += 1;
            _readLogs();
            return true;
        }
        bytes4 selector = bytes4(answer);
        bool bookkeeping = selector == IEscrow.LockedTooSmall.selector || selector == IEscrow.NotRegistry.selector;
        if (answer.length < 4 || selector == bytes4(0x4e487b71) || bookkeeping) broken = bytes.concat(data, answer);
    }

    function _readLogs() private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].topics[0] == IJobRegistry.ResultSubmitted.selector) _remember(logs[i]);
            if (logs[i].topics[0] != IJobRegistry.BatchSettled.selector) continue;
            (uint32 batch, uint256 payment,,) = abi.decode(logs[i].data, (uint32, uint256, uint256, bool));
            settledTimes[logs[i].topics[1]][batch] += 1;
            paid[logs[i].topics[1]] += payment;
        }
    }

    /// As everybody does who settles: from the log.
    function _remember(Vm.Log memory log) private {
        Submission memory given;
        (given.batch, given.price, given.root, given.fuel,,) =
            abi.decode(log.data, (uint32, uint128, bytes32, uint64, bytes32, uint32));
        given.provider = address(uint160(uint256(log.topics[2])));
        submitted[log.topics[1]][given.batch] = given;
    }

    /// A batch in `state`, from a place that `pick` chooses; any batch when there is none.
    function _find(uint256 pick, BatchState state) private view returns (Job memory j, uint32 batch, bool any) {
        uint256 count = _posted.length;
        if (count == 0) return (j, 0, false);
        for (uint256 i = 0; i < count; ++i) {
            j = _posted[(pick % count + i) % count];
            uint32 batches = _batchCount(j);
            for (uint32 k = 0; k < batches; ++k) {
                batch = uint32((pick >> 8) % batches + k) % batches;
                if (_JOBS.batchState(j, batch).state == state) return (j, batch, true);
            }
        }
        return (j, batch, true);
    }

    /// To `more` seconds after the deadline of the batch's lease or window, if that is still to come.
    function _passTo(Job memory j, uint32 batch, uint256 more) private {
        uint256 at = _JOBS.batchState(j, batch).time + more;
        if (at <= block.timestamp) return;
        vm.roll(block.number + 1 + (at - block.timestamp) / 12);
        vm.warp(at);
    }

    function _batchCount(Job memory j) private pure returns (uint32) {
        return (j.taskCount + j.batchSize - 1) / j.batchSize;
    }

    function _actor(uint256 pick) private view returns (address) {
        return actors[pick % actors.length];
    }

    function _spec() private pure returns (Spec memory) {
        return Spec(bytes32(uint256(1)), bytes32(uint256(2)), bytes32(uint256(3)), bytes32(uint256(4)), 1 << 20, 0);
    }

    function _one(uint32 batch) private pure returns (uint32[] memory batches) {
        batches = new uint32[](1);
        batches[0] = batch;
    }

    function _none() private pure returns (Permit memory permit) {}
}
