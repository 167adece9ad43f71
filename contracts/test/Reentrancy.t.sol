// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IDisputes} from "../interfaces/IDisputes.sol";
import {IEscrow} from "../interfaces/IEscrow.sol";
import {BatchState, IJobRegistry, Job, Submission} from "../interfaces/IJobRegistry.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {HookToken, IHooked} from "./mocks/OddTokens.sol";
import {OddTokenFixture} from "./OddTokenFixture.sol";

/// @notice The Escrow below a token that calls its holders back while it moves, on either side, before and after: whoever is called
/// makes every other call. Each is refused by the guard, or comes to what the same two calls one after the other come to.
contract ReentrancyTest is OddTokenFixture, IHooked {
    struct Call {
        string name;
        address target;
        bytes data;
    }

    /// What is called back with, and whether before the token moves; done once.
    bool private armed;
    bool private before;
    Call private inner;
    bool private called;
    bool private innerOk;
    bytes private innerAnswer;

    Job private job;
    Job private next;

    function setUp() public override {
        super.setUp();
        _use(type(HookToken).creationCode);
        _give(address(this), 20 * STAKE);
        HookToken(address(token)).hook(address(this));
        job = _job();
        (job.requester, job.taskCount, job.batchSize) = (address(this), 7, 1);
        next = job;
        (next.nonce, next.batchSize) = (2, 4);
    }

    function tokensMoving(bool isBefore) external {
        if (!armed || isBefore != before) return;
        (armed, called) = (false, true);
        (innerOk, innerAnswer) = inner.target.call(inner.data);
    }

    // This contract is requester, provider and payout address at once, and can make every call

    function test_whileAtWork() public {
        providers.register(address(this), _contact(), 4 * STAKE, _noPermit());
        jobs.post(job, _spec(), _contact(), _noPermit());
        // 0 earned, 1 burned and open again, 2 submitted and final, 3 overdue, 4 leased, 5 just submitted, 6 open.
        jobs.lease(job, _list(0, 1, 3));
        _hand(0);
        jobs.accept(job, _submissions(address(this), job, 0, 1e9));
        jobs.lease(job, _list(2));
        _hand(2);
        _passLease();
        jobs.expire(job, _list(1));
        jobs.lease(job, _list(4, 5));
        _hand(5);
        _empty();
        assertEq(_earned(address(this)), _price(job, 1e9));
        assertGt(escrow.burnable(), 0);

        Call[] memory outer = new Call[](6);
        outer[0] = Call("deposit", address(escrow), abi.encodeCall(IEscrow.deposit, (address(this), 50)));
        outer[1] = Call("depositWithPermit", address(escrow), _depositWithPermit());
        outer[2] = Call("withdraw", address(escrow), abi.encodeCall(IEscrow.withdraw, (2)));
        outer[3] = Call("withdraw earnings", address(providers), _withdrawEarnings());
        outer[4] = Call("post", address(jobs), _postNext());
        outer[5] = Call("addStake", address(providers), abi.encodeCall(IProviderRegistry.addStake, (50, _noPermit())));

        Call[] memory free = new Call[](13);
        free[0] = Call("setContact", address(providers), abi.encodeCall(IProviderRegistry.setContact, (_contact())));
        free[1] = Call("setPayout", address(providers), _setPayout());
        free[2] = Call("requestExit", address(providers), abi.encodeCall(IProviderRegistry.requestExit, ()));
        free[3] = Call("cancel", address(jobs), abi.encodeCall(IJobRegistry.cancel, (job)));
        free[4] = Call("lease", address(jobs), abi.encodeCall(IJobRegistry.lease, (job, _list(6))));
        free[5] = Call("release", address(jobs), abi.encodeCall(IJobRegistry.release, (job, _list(4))));
        free[6] = Call("submit", address(jobs), abi.encodeCall(IJobRegistry.submit, (job, _results(4, 1e9))));
        free[7] = Call("submit late", address(jobs), abi.encodeCall(IJobRegistry.submit, (job, _results(1, 1e9))));
        free[8] = Call("accept", address(jobs), abi.encodeCall(IJobRegistry.accept, (job, _mine(5))));
        free[9] = Call("finalise", address(jobs), abi.encodeCall(IJobRegistry.finalise, (job, _mine(2))));
        free[10] = Call("expire", address(jobs), abi.encodeCall(IJobRegistry.expire, (job, _list(3))));
        free[11] = Call("lease an overdue one", address(jobs), abi.encodeCall(IJobRegistry.lease, (job, _list(3))));
        free[12] = Call("job's contact", address(jobs), abi.encodeCall(IJobRegistry.setContact, (job, _contact())));

        Call[] memory guarded = new Call[](7);
        for (uint256 i = 0; i < 6; ++i) {
            guarded[i] = Call(outer[i].name, outer[i].target, outer[i].data);
        }
        Job memory third = next;
        third.nonce = 3;
        guarded[4].data = abi.encodeCall(IJobRegistry.post, (third, _spec(), _contact(), _noPermit()));
        guarded[6] = Call("burn", address(escrow), abi.encodeCall(IEscrow.burn, ()));
        _everyPair(outer, free, guarded);
    }

    function test_whileLeaving() public {
        providers.register(address(this), _contact(), 4 * STAKE, _noPermit());
        jobs.post(job, _spec(), _contact(), _noPermit());
        jobs.lease(job, _list(0));
        _hand(0);
        jobs.accept(job, _submissions(address(this), job, 0, 1e9));
        _empty();
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);

        Call[] memory outer = new Call[](4);
        outer[0] = Call("deposit", address(escrow), abi.encodeCall(IEscrow.deposit, (address(this), 50)));
        outer[1] = Call("withdraw", address(escrow), abi.encodeCall(IEscrow.withdraw, (2)));
        outer[2] = Call("withdraw earnings", address(providers), _withdrawEarnings());
        outer[3] = Call("post", address(jobs), _postNext());
        Call[] memory free = new Call[](1);
        free[0] = Call("cancelExit", address(providers), abi.encodeCall(IProviderRegistry.cancelExit, ()));
        Call[] memory guarded = new Call[](2);
        guarded[0] = Call("addStake", address(providers), abi.encodeCall(IProviderRegistry.addStake, (50, _noPermit())));
        // Else what is added to a stake while its registration ends would stay behind.
        guarded[1] = Call("exit", address(providers), abi.encodeCall(IProviderRegistry.exit, ()));
        _everyPair(outer, free, guarded);
    }

    function test_whileRegistering() public {
        jobs.post(job, _spec(), _contact(), _noPermit());
        Call[] memory outer = new Call[](1);
        outer[0] = Call("register", address(providers), _register());
        Call[] memory free = new Call[](1);
        free[0] = Call("cancel", address(jobs), abi.encodeCall(IJobRegistry.cancel, (job)));
        Call[] memory guarded = new Call[](2);
        guarded[0] = Call("post", address(jobs), _postNext());
        guarded[1] = Call("deposit", address(escrow), abi.encodeCall(IEscrow.deposit, (address(this), 50)));
        _everyPair(outer, free, guarded);

        // Whose stake is still on its way is registered, but leases nothing and cannot register twice.
        (bool ok, bytes memory answer) =
            _within(outer[0], Call("lease", address(jobs), abi.encodeCall(IJobRegistry.lease, (job, _list(0)))), true);
        assertTrue(ok && !innerOk);
        assertEq(answer, abi.encodeWithSelector(IEscrow.NotRegistered.selector, address(this)));
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        _empty();
        (ok, answer) = _within(outer[0], outer[0], false);
        assertTrue(ok && !innerOk);
        assertEq(answer, abi.encodeWithSelector(IProviderRegistry.AlreadyRegistered.selector, address(this)));
        _assertConserved();
    }

    function test_whileDemanding() public {
        providers.register(address(this), _contact(), 4 * STAKE, _noPermit());
        jobs.post(job, _spec(), _contact(), _noPermit());
        jobs.lease(job, _list(0));
        _hand(0);
        escrow.deposit(address(this), 3);
        Call[] memory outer = new Call[](1);
        bytes memory about = abi.encode(job, _submission(address(this), job, 0, 1e9));
        outer[0] = Call(
            "demand", address(disputes), abi.encodeCall(IDisputes.demand, (address(jobs), about, 0, 0, _noPermit()))
        );
        Call[] memory guarded = new Call[](4);
        guarded[0] = Call("deposit", address(escrow), abi.encodeCall(IEscrow.deposit, (address(this), 50)));
        guarded[1] = Call("withdraw", address(escrow), abi.encodeCall(IEscrow.withdraw, (2)));
        guarded[2] = Call("burn", address(escrow), abi.encodeCall(IEscrow.burn, ()));
        guarded[3] = Call("post", address(jobs), _postNext());
        _everyPair(outer, new Call[](0), guarded);
    }

    /// A job is there before its deposit is. Who cancels it in between has the same as after it.
    function test_theJobThatIsBeingPosted() public {
        jobs.post(job, _spec(), _contact(), _noPermit());
        Call[] memory outer = new Call[](1);
        outer[0] = Call("post", address(jobs), _postNext());
        Call memory cancel = Call("cancel", address(jobs), abi.encodeCall(IJobRegistry.cancel, (next)));
        (bool ok,) = _within(outer[0], cancel, true);
        assertTrue(ok && innerOk);
        assertEq(_locked(address(this)), rules.depositOf(job, _spec()));
        assertEq(_available(address(this)), rules.depositOf(next, _spec()));
        _assertConserved();
    }

    /// With no other deposit there is nothing to refund it from.
    function test_theFirstJobThatIsBeingPosted() public {
        Call memory cancel = Call("cancel", address(jobs), abi.encodeCall(IJobRegistry.cancel, (next)));
        (bool ok, bytes memory answer) = _within(Call("post", address(jobs), _postNext()), cancel, true);
        assertTrue(ok && !innerOk);
        uint256 deposit = rules.depositOf(next, _spec());
        assertEq(answer, abi.encodeWithSelector(IEscrow.LockedTooSmall.selector, address(this), 0, deposit));
        _assertConserved();
    }

    /// Tokens that arrive without a call, while some are being taken, are counted with them: nobody else's.
    function test_tokensSentMeanwhile_areTheDepositors() public {
        Call memory gift = Call("transfer", address(token), abi.encodeCall(token.transfer, (address(escrow), 7)));
        (bool ok,) =
            _within(Call("deposit", address(escrow), abi.encodeCall(IEscrow.deposit, (address(this), 50))), gift, true);
        assertTrue(ok && innerOk);
        assertEq(_available(address(this)), 57);
        _assertConserved();
    }

    // Inner

    function _everyPair(Call[] memory outer, Call[] memory free, Call[] memory guarded) private {
        for (uint256 o = 0; o < outer.length; ++o) {
            for (uint256 i = 0; i < free.length; ++i) {
                _worthTheSame(outer[o], free[i], true);
                _worthTheSame(outer[o], free[i], false);
            }
            for (uint256 i = 0; i < guarded.length; ++i) {
                _guards(outer[o], guarded[i], true);
                _guards(outer[o], guarded[i], false);
            }
        }
    }

    /// `a` with `b` within is worth `a` and then `b`, or `b` and then `a`.
    function _worthTheSame(Call memory a, Call memory b, bool isBefore) private {
        string memory what = string.concat(b.name, " within ", a.name);
        uint256 snapshot = vm.snapshotState();
        (bool ok,) = _within(a, b, isBefore);
        assertTrue(ok && innerOk, what);
        _assertConserved();
        bytes32 nested = this.world();
        vm.revertToState(snapshot);
        bytes32 after_ = _both(a, b);
        vm.revertToState(snapshot);
        if (nested != after_) assertEq(nested, _both(b, a), what);
        vm.revertToStateAndDelete(snapshot);
    }

    /// `a` with `b` within is `a` alone.
    function _guards(Call memory a, Call memory b, bool isBefore) private {
        string memory what = string.concat(b.name, " within ", a.name);
        uint256 snapshot = vm.snapshotState();
        (bool ok, bytes memory answer) = _within(a, b, isBefore);
        assertTrue(ok && !innerOk, what);
        assertEq(answer, abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector), what);
        bytes32 nested = this.world();
        vm.revertToState(snapshot);
        (ok,) = a.target.call(a.data);
        assertTrue(ok, what);
        assertEq(nested, this.world(), what);
        // That it is refused is the guard's doing: alone it is not.
        vm.revertToState(snapshot);
        (ok,) = b.target.call(b.data);
        assertTrue(ok, b.name);
        vm.revertToStateAndDelete(snapshot);
    }

    function _within(Call memory a, Call memory b, bool isBefore) private returns (bool ok, bytes memory answer) {
        (armed, called, before, inner) = (true, false, isBefore, b);
        (ok,) = a.target.call(a.data);
        assertTrue(called, string.concat(a.name, " moves tokens"));
        return (ok, innerAnswer);
    }

    function _both(Call memory a, Call memory b) private returns (bytes32) {
        (bool first,) = a.target.call(a.data);
        (bool second,) = b.target.call(b.data);
        return first && second ? this.world() : bytes32(0);
    }

    /// Everything that the contracts know. What this account has available, it might as well have in its purse: how much of a lock
    /// was taken from where depends on the order.
    function world() external view returns (bytes32) {
        bytes memory all = abi.encode(
            escrow.balanceOf(address(this)).locked,
            escrow.balanceOf(address(this)).accepted,
            escrow.balanceOf(address(this)).timedOut,
            escrow.balanceOf(address(this)).earned,
            escrow.balanceOf(address(this)).stake,
            escrow.balanceOf(address(this)).held,
            escrow.balanceOf(address(this)).exiting,
            uint256(_available(address(this))) + token.balanceOf(address(this)),
            escrow.burnable()
        );
        all = abi.encode(
            all,
            providers.providerOf(address(this)),
            escrow.balanceOf(carol),
            token.balanceOf(carol),
            jobs.jobState(jobs.jobIdOf(job)),
            jobs.jobState(jobs.jobIdOf(next))
        );
        for (uint32 b = 0; b < 7; ++b) {
            all = abi.encode(all, jobs.batchState(job, b));
        }
        return keccak256(all);
    }

    function _hand(uint32 batch) private {
        jobs.submit(job, _results(batch, 1e9));
        assertTrue(_state(job, batch) == BatchState.Submitted);
    }

    function _mine(uint32 batch) private view returns (Submission[] memory) {
        return _submissions(address(this), job, batch, 1e9);
    }

    /// Leaves 3 available, so that every lock needs the token.
    function _empty() private {
        escrow.withdraw(_available(address(this)) - 3);
    }

    function _depositWithPermit() private view returns (bytes memory) {
        return abi.encodeCall(IEscrow.depositWithPermit, (address(this), 50, _noPermit()));
    }

    function _withdrawEarnings() private view returns (bytes memory) {
        return abi.encodeCall(IProviderRegistry.withdraw, (address(this)));
    }

    function _setPayout() private view returns (bytes memory) {
        return abi.encodeCall(IProviderRegistry.setPayout, (address(this), carol));
    }

    function _postNext() private view returns (bytes memory) {
        return abi.encodeCall(IJobRegistry.post, (next, _spec(), _contact(), _noPermit()));
    }

    function _register() private view returns (bytes memory) {
        return abi.encodeCall(IProviderRegistry.register, (address(this), _contact(), STAKE, _noPermit()));
    }
}
