// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Balance, IEscrow, Permit} from "../interfaces/IEscrow.sol";
import {Contact, Job} from "../interfaces/IJobRegistry.sol";
import {IProviderRegistry, Provider} from "../interfaces/IProviderRegistry.sol";
import {Fixture} from "./Fixture.sol";

contract ProviderRegistryTest is Fixture {
    address private dave;
    uint256 private daveKey;
    uint64 private nonce = 100;

    function setUp() public override {
        super.setUp();
        (dave, daveKey) = makeAddrAndKey("dave");
        vm.prank(holder);
        assertTrue(token.transfer(dave, 10 * STAKE));
    }

    // Registration

    function test_register_storesTheProviderAndTakesItsStake() public {
        vm.prank(dave);
        token.approve(address(escrow), STAKE);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ProviderRegistered(dave, bob, _contact(), STAKE);
        vm.prank(dave);
        providers.register(bob, _contact(), STAKE, _noPermit());
        _assertBalance(dave, _balance(0, 0, 0, 0, 0, STAKE, 0));
        assertEq(token.balanceOf(dave), 9 * STAKE);
        Provider memory expected = Provider(bob, 0, _contact().endpoint);
        assertEq(abi.encode(providers.providerOf(dave)), abi.encode(expected));
    }

    function test_register_takesTheAvailableBalanceFirst() public {
        vm.startPrank(dave);
        token.approve(address(escrow), STAKE);
        escrow.deposit(dave, STAKE);
        providers.register(bob, _contact(), STAKE - 5, _noPermit());
        _assertBalance(dave, _balance(5, 0, 0, 0, 0, STAKE - 5, 0));
    }

    function test_register_takesAPermitEvenOneThatWasFrontRun() public {
        Permit memory p = _permit(dave, daveKey, STAKE, block.timestamp);
        vm.prank(stranger);
        token.permit(dave, address(escrow), p.value, p.deadline, p.v, p.r, p.s);
        vm.prank(dave);
        providers.register(dave, _contact(), STAKE, p);
        assertEq(escrow.balanceOf(dave).stake, STAKE);
    }

    function test_register_refusesBadArguments() public {
        vm.prank(holder);
        assertTrue(token.transfer(dave, 1 << 80));
        vm.startPrank(dave);
        token.approve(address(escrow), type(uint256).max);
        vm.expectRevert(IProviderRegistry.ZeroPayout.selector);
        providers.register(address(0), _contact(), STAKE, _noPermit());
        vm.expectRevert(IProviderRegistry.ZeroEndpoint.selector);
        providers.register(dave, Contact(0, ""), STAKE, _noPermit());
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.StakeTooSmall.selector, MIN_STAKE - 1, MIN_STAKE));
        providers.register(dave, _contact(), MIN_STAKE - 1, _noPermit());
        vm.expectRevert(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 80, 1 << 80));
        providers.register(dave, _contact(), 1 << 80, _noPermit());
        assertEq(providers.providerOf(dave).payout, address(0));
        providers.register(dave, _contact(), MIN_STAKE, _noPermit());
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.AlreadyRegistered.selector, alice));
        vm.prank(alice);
        providers.register(alice, _contact(), STAKE, _noPermit());
    }

    function test_register_takesTheHighestStake() public {
        _fund(dave, 1 << 80);
        vm.startPrank(dave);
        providers.register(dave, _contact(), (1 << 80) - 1, _noPermit());
        vm.expectRevert(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 80, 1 << 80));
        providers.addStake(1, _noPermit());
        providers.addStake(0, _noPermit());
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        assertEq(_available(dave), (1 << 80) - 1);
    }

    function test_unregistered_accountsAreRefusedEverywhere() public {
        (Job memory job,) = _posted();
        bytes memory refusal = abi.encodeWithSelector(IProviderRegistry.NotRegistered.selector, dave);
        vm.startPrank(dave);
        vm.expectRevert(refusal);
        providers.setContact(_contact());
        vm.expectRevert(refusal);
        providers.addStake(1, _noPermit());
        vm.expectRevert(refusal);
        providers.requestExit();
        vm.expectRevert(refusal);
        providers.cancelExit();
        vm.expectRevert(refusal);
        providers.exit();
        vm.expectRevert(refusal);
        providers.withdraw(dave);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, dave, address(0)));
        providers.setPayout(dave, dave);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotRegistered.selector, dave));
        _lease(dave, job, _list(0));
    }

    // Changes

    function test_setContact_changesTheEndpoint() public {
        Contact memory contact = Contact(bytes32(uint256(9)), "");
        vm.startPrank(alice);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ProviderContactChanged(alice, contact);
        providers.setContact(contact);
        assertEq(providers.providerOf(alice).endpoint, contact.endpoint);
        vm.expectRevert(IProviderRegistry.ZeroEndpoint.selector);
        providers.setContact(Contact(0, "x"));
    }

    function test_setPayout_isForThePayoutAddressOnly() public {
        address payout = _payout(alice);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, alice, payout));
        vm.prank(alice);
        providers.setPayout(alice, alice);
        vm.startPrank(payout);
        vm.expectRevert(IProviderRegistry.ZeroPayout.selector);
        providers.setPayout(alice, address(0));
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, payout, _payout(bob)));
        providers.setPayout(bob, payout);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.PayoutChanged(alice, carol);
        providers.setPayout(alice, carol);
        assertEq(providers.providerOf(alice).payout, carol);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, payout, carol));
        providers.setPayout(alice, payout);
    }

    function test_setPayout_movesTheEarningsThatWait() public {
        uint256 earned = _earn(alice);
        vm.prank(_payout(alice));
        providers.setPayout(alice, carol);
        assertEq(_earned(alice), earned);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, _payout(alice), carol));
        vm.prank(_payout(alice));
        providers.withdraw(alice);
        vm.expectEmit(address(escrow));
        emit IEscrow.PaidOut(alice, carol, earned);
        vm.prank(carol);
        assertEq(providers.withdraw(alice), earned);
        assertEq(token.balanceOf(carol), earned);
        assertEq(token.balanceOf(_payout(alice)), 0);
    }

    function test_setPayout_whileExitingDecidesWhereTheStakeGoes() public {
        uint256 earned = _earn(alice);
        _requestExit(alice);
        vm.prank(_payout(alice));
        providers.setPayout(alice, carol);
        vm.prank(alice);
        providers.exit();
        assertEq(_available(carol), STAKE + earned);
        assertEq(_available(_payout(alice)), 0);
    }

    function test_addStake_addsToWhatLeasesMayHold() public {
        _fund(alice, 5);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.StakeAdded(alice, 5);
        vm.prank(alice);
        providers.addStake(5, _noPermit());
        assertEq(escrow.balanceOf(alice).stake, STAKE + 5);
        vm.startPrank(address(jobs));
        escrow.hold(alice, STAKE + 5);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FreeStakeTooSmall.selector, 0, 1));
        escrow.hold(alice, 1);
    }

    function test_addStake_takesAPermit() public {
        _registerDave(dave);
        vm.prank(dave);
        token.approve(address(escrow), 0);
        Permit memory p = _permit(dave, daveKey, 5, block.timestamp);
        vm.prank(dave);
        providers.addStake(5, p);
        assertEq(escrow.balanceOf(dave).stake, STAKE + 5);
    }

    function test_addStake_doesNotTakeEarnings() public {
        _earn(alice);
        vm.prank(alice);
        vm.expectPartialRevert(bytes4(keccak256("ERC20InsufficientBalance(address,uint256,uint256)")));
        providers.addStake(1, _noPermit());
    }

    // Exit

    function test_exit_afterTheDelayGivesTheStakeToThePayoutAddress() public {
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ExitRequested(alice, uint40(block.timestamp) + EXIT_DELAY);
        vm.startPrank(alice);
        providers.requestExit();
        uint40 exitAt = uint40(block.timestamp) + EXIT_DELAY;
        assertEq(providers.providerOf(alice).exitAt, exitAt);
        vm.warp(exitAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.ExitTooEarly.selector, exitAt));
        providers.exit();
        vm.warp(exitAt);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ProviderExited(alice, STAKE);
        providers.exit();
        vm.stopPrank();
        assertEq(_available(_payout(alice)), STAKE);
        _assertBalance(alice, _balance(0, 0, 0, 0, 0, 0, 0));
        assertEq(abi.encode(providers.providerOf(alice)), abi.encode(Provider(address(0), 0, 0)));
        vm.prank(_payout(alice));
        escrow.withdraw(STAKE);
        assertEq(token.balanceOf(_payout(alice)), STAKE);
    }

    function test_exit_givesEarningsWithTheStakeAndLeavesTheRest() public {
        uint256 earned = _earn(alice);
        vm.startPrank(requester);
        escrow.deposit(alice, 7);
        escrow.deposit(_payout(alice), 9);
        vm.stopPrank();
        _requestExit(alice);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ProviderExited(alice, STAKE + earned);
        vm.prank(alice);
        providers.exit();
        assertEq(_available(_payout(alice)), STAKE + earned + 9);
        _assertBalance(alice, _balance(7, 0, 0, 0, 0, 0, 0));
        // What it had itself is still its own.
        vm.prank(alice);
        escrow.withdraw(7);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotRegistered.selector, alice));
        vm.prank(_payout(alice));
        providers.withdraw(alice);
    }

    function test_exit_refusesUnlessRequested() public {
        vm.startPrank(alice);
        vm.expectRevert(IProviderRegistry.NotExiting.selector);
        providers.exit();
        vm.expectRevert(IProviderRegistry.NotExiting.selector);
        providers.cancelExit();
    }

    function test_exit_isForTheProviderNotItsPayoutAddress() public {
        _requestExit(alice);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotRegistered.selector, _payout(alice)));
        vm.prank(_payout(alice));
        providers.exit();
    }

    function test_requestExit_twiceDoesNotMoveTheDelay() public {
        vm.startPrank(alice);
        providers.requestExit();
        uint40 exitAt = providers.providerOf(alice).exitAt;
        vm.warp(block.timestamp + 5);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.Exiting.selector, exitAt));
        providers.requestExit();
    }

    function test_requestExit_endsNewLeasesAndCancelExitAllowsThemAgain() public {
        (Job memory job,) = _posted();
        vm.prank(alice);
        providers.requestExit();
        assertTrue(escrow.balanceOf(alice).exiting);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.Exiting.selector, alice));
        _lease(alice, job, _list(0));
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ExitCancelled(alice);
        vm.prank(alice);
        providers.cancelExit();
        assertFalse(escrow.balanceOf(alice).exiting);
        assertEq(providers.providerOf(alice).exitAt, 0);
        _lease(alice, job, _list(0));
    }

    function test_cancelExit_startsTheDelayAnew() public {
        _requestExit(alice);
        vm.startPrank(alice);
        providers.cancelExit();
        vm.expectRevert(IProviderRegistry.NotExiting.selector);
        providers.exit();
        providers.requestExit();
        vm.expectRevert(
            abi.encodeWithSelector(IProviderRegistry.ExitTooEarly.selector, uint40(block.timestamp) + EXIT_DELAY)
        );
        providers.exit();
    }

    function test_exit_waitsForHeldStake() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0, 1));
        _requestExit(alice);
        _refusesToExit(alice, 6 * _worst(job, 4));
        // A lease that ran out holds until somebody says so.
        _expire(job, _list(1));
        uint256 bond = _worst(job, 4) * BOND_BPS / 10_000;
        _refusesToExit(alice, 3 * _worst(job, 4));
        // So does a result within its window, and after it until it is paid.
        _submit(alice, job, 0, 1);
        _refusesToExit(alice, 3 * _worst(job, 4));
        vm.warp(block.timestamp + WINDOW);
        _refusesToExit(alice, 3 * _worst(job, 4));
        jobs.finalise(job, _submissions(alice, job, 0, 1));
        vm.prank(alice);
        providers.exit();
        assertEq(_available(_payout(alice)), STAKE - bond + _price(job, 1));
    }

    function test_exit_afterALateSubmissionOfAFormerHolder() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        _passLease();
        _lease(bob, job, _list(0));
        uint256 bond = _worst(job, 4) * BOND_BPS / 10_000;
        _submit(alice, job, 0, 1);
        // Bob's stake is free again, hers is held.
        _requestExit(bob);
        vm.prank(bob);
        providers.exit();
        assertEq(_available(_payout(bob)), STAKE);
        vm.prank(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        _refusesToExit(alice, 3 * _worst(job, 4));
        jobs.finalise(job, _submissions(alice, job, 0, 1));
        vm.prank(alice);
        providers.exit();
        assertEq(_available(_payout(alice)), STAKE - bond + _price(job, 1));
    }

    function test_exit_endsTheRightToSubmitLate() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        _passLease();
        _expire(job, _list(0));
        _requestExit(alice);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.Exiting.selector, alice));
        _submit(alice, job, 0, 1);
        vm.prank(alice);
        providers.exit();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotRegistered.selector, alice));
        _submit(alice, job, 0, 1);
    }

    function test_registration_afterAnExitStartsAfresh() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0, 1));
        _submit(alice, job, 1, 1e9);
        vm.prank(requester);
        jobs.accept(job, _submissions(alice, job, 1, 1e9));
        _passLease();
        _expire(job, _list(0));
        assertEq(reputation.providerRecord(alice).expired, 1);
        uint256 bond = _worst(job, 4) * BOND_BPS / 10_000;
        _requestExit(alice);
        vm.prank(alice);
        providers.exit();
        assertEq(_available(_payout(alice)), STAKE - bond + _price(job, 1e9));
        Balance memory left = escrow.balanceOf(alice);
        assertEq(left.stakedBlock, 0);
        assertEq(uint256(left.checks) + left.expired + left.failed + left.withheld, 0, "its record");

        _fund(alice, MIN_STAKE);
        vm.prank(alice);
        providers.register(bob, Contact(bytes32(uint256(8)), ""), MIN_STAKE, _noPermit());
        Provider memory expected = Provider(bob, 0, bytes32(uint256(8)));
        assertEq(abi.encode(providers.providerOf(alice)), abi.encode(expected));
        _assertBalance(alice, _balance(0, 0, 0, 0, 0, MIN_STAKE, 0));
        assertEq(reputation.providerRecord(alice).expired, 0);
        // The former payout address has no say any more.
        vm.startPrank(_payout(alice));
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, _payout(alice), bob));
        providers.setPayout(alice, _payout(alice));
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, _payout(alice), bob));
        providers.withdraw(alice);
        vm.stopPrank();
        _lease(alice, job, _list(2));
    }

    /// Providers are named by address: the one that comes back is the one whose lease ran out. It stakes for it as before.
    function test_registration_afterAnExitMaySubmitLateAtItsOwnStake() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        _passLease();
        _expire(job, _list(0));
        _requestExit(alice);
        vm.prank(alice);
        providers.exit();
        _register(alice, STAKE);
        _submit(alice, job, 0, 1);
        assertEq(_lockedStake(alice), 3 * _worst(job, 4));
    }

    // Withdrawal

    function test_withdraw_byEitherAddressReachesThePayoutAddressOnly() public {
        address payout = _payout(alice);
        uint256 earned = _earn(alice);
        vm.startPrank(requester);
        escrow.deposit(payout, 10);
        escrow.deposit(alice, 11);
        vm.stopPrank();
        uint256 before = token.balanceOf(alice);
        vm.prank(alice);
        assertEq(providers.withdraw(alice), earned);
        assertEq(token.balanceOf(payout), earned);
        assertEq(token.balanceOf(alice), before);
        // Nothing but earnings moves.
        assertEq(_available(payout), 10);
        _assertBalance(alice, _balance(11, 0, 0, 0, 0, STAKE, 0));
        assertEq(_earn(alice), earned);
        vm.prank(payout);
        assertEq(providers.withdraw(alice), earned);
        assertEq(token.balanceOf(payout), 2 * earned);
    }

    function test_withdraw_refusesOthersAndUnknownAccounts() public {
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, stranger, _payout(alice)));
        providers.withdraw(alice);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotRegistered.selector, stranger));
        providers.withdraw(stranger);
    }

    function test_withdraw_worksWhileExiting() public {
        uint256 earned = _earn(alice);
        vm.startPrank(alice);
        providers.requestExit();
        assertEq(providers.withdraw(alice), earned);
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        assertEq(_available(_payout(alice)), STAKE);
    }

    // F11: who holds the hot key has the provider's gas and nothing else

    function test_hotKey_reachesNeitherStakeNorEarnings() public {
        uint256 earned = _earn(alice);
        assertEq(_earned(alice), earned);
        assertEq(_available(alice), 0);
        Job memory job = _job();
        (job.requester, job.nonce) = (alice, 7);
        uint256 had = token.balanceOf(alice);
        vm.startPrank(alice);
        token.approve(address(escrow), type(uint256).max);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BalanceTooSmall.selector, alice, 0, 1));
        escrow.withdraw(1);
        vm.expectPartialRevert(IProviderRegistry.NotPayout.selector);
        providers.setPayout(alice, alice);
        vm.expectPartialRevert(IProviderRegistry.AlreadyRegistered.selector);
        providers.register(alice, _contact(), STAKE, _noPermit());
        // Nor can it spend them on a job of its own.
        vm.expectPartialRevert(bytes4(keccak256("ERC20InsufficientBalance(address,uint256,uint256)")));
        jobs.post(job, _spec(), _contact(), _noPermit());
        // What it can do sends everything to the payout address.
        providers.withdraw(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        vm.stopPrank();
        assertEq(token.balanceOf(alice), had);
        assertEq(_available(alice), 0);
        assertEq(token.balanceOf(_payout(alice)), earned);
        assertEq(_available(_payout(alice)), STAKE);
    }

    // One account in every part

    function test_oneAccount_mayBeProviderPayoutAndRequester() public {
        _registerDave(dave);
        Job memory job = _job();
        job.requester = dave;
        vm.prank(dave);
        escrow.deposit(dave, 2 * STAKE);
        _post(job);
        uint256 deposit = rules.depositOf(job, _spec());
        _assertBalance(dave, _balance(2 * STAKE - deposit, deposit, 0, 0, 0, STAKE, 0));
        _lease(dave, job, _list(0, 1, 2));
        assertEq(_lockedStake(dave), 6 * _worst(job, 4) + 3 * _worst(job, 2));
        _submit(dave, job, 0, 1e9);
        _submit(dave, job, 1, 1e9);
        vm.prank(dave);
        jobs.accept(job, _submissions(dave, job, 0, 1e9));
        vm.warp(block.timestamp + WINDOW);
        jobs.finalise(job, _submissions(dave, job, 1, 1e9));
        uint256 price = _price(job, 1e9);
        assertEq(_earned(dave), 2 * price);
        assertEq(_locked(dave), _worst(job, 2));
        assertEq(_available(dave), 2 * STAKE - 2 * price - _worst(job, 2));
        vm.warp(block.timestamp + LEASE);
        vm.prank(dave);
        jobs.cancel(job);
        _expire(job, _list(2));
        uint256 bond = _worst(job, 2) * BOND_BPS / 10_000;
        _assertBalance(dave, _balance(2 * STAKE - 2 * price, 0, 1, 1, 2 * price, STAKE - bond, 0));
        vm.prank(dave);
        providers.withdraw(dave);
        _requestExit(dave);
        vm.startPrank(dave);
        providers.exit();
        escrow.withdraw(3 * STAKE - bond - 2 * price);
        assertEq(token.balanceOf(dave), 10 * STAKE - bond);
        _assertBalance(dave, _balance(0, 0, 1, 1, 0, 0, 0));
    }

    // The stake after a slash

    function test_slashedProvider_stillLeasesWithWhatIsLeftAndExitsWithIt() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        _passLease();
        _expire(job, _list(0));
        uint256 bond = _worst(job, 4) * BOND_BPS / 10_000;
        assertEq(escrow.balanceOf(alice).stake, STAKE - bond);
        _lease(alice, job, _list(0));
        vm.prank(alice);
        jobs.release(job, _list(0));
        _requestExit(alice);
        vm.prank(alice);
        providers.exit();
        assertEq(_available(_payout(alice)), STAKE - bond);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BalanceTooSmall.selector, alice, 0, 1));
        vm.prank(alice);
        escrow.withdraw(1);
    }

    function test_slashedProvider_withNoStakeLeftIsStillRegistered() public {
        vm.startPrank(address(jobs));
        escrow.hold(alice, STAKE);
        escrow.expire(alice, STAKE, STAKE);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotRegistered.selector, alice));
        escrow.hold(alice, 1);
        vm.stopPrank();
        _fund(alice, 5);
        vm.prank(alice);
        providers.addStake(5, _noPermit());
        vm.prank(address(jobs));
        escrow.hold(alice, 5);
    }

    /// Leases a batch, submits it and has it accepted: what was earned.
    function _earn(address provider) private returns (uint256) {
        Job memory job = _job();
        job.nonce = ++nonce;
        _post(job);
        _lease(provider, job, _list(0));
        _submit(provider, job, 0, 1e9);
        vm.prank(requester);
        jobs.accept(job, _submissions(provider, job, 0, 1e9));
        vm.startPrank(requester);
        jobs.cancel(job);
        escrow.withdraw(_available(requester));
        vm.stopPrank();
        return _price(job, 1e9);
    }

    function _registerDave(address payout) private {
        vm.startPrank(dave);
        token.approve(address(escrow), type(uint256).max);
        providers.register(payout, _contact(), STAKE, _noPermit());
        vm.stopPrank();
    }

    /// Requests it and lets the delay pass.
    function _requestExit(address provider) private {
        vm.prank(provider);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
    }

    function _refusesToExit(address provider, uint256 held) private {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.StakeHeld.selector, held));
        vm.prank(provider);
        providers.exit();
    }
}
