// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IEscrow, Permit} from "../interfaces/IEscrow.sol";
import {Contact, Job} from "../interfaces/IJobRegistry.sol";
import {IProviderRegistry, Provider} from "../interfaces/IProviderRegistry.sol";
import {Fixture} from "./Fixture.sol";

contract ProviderRegistryTest is Fixture {
    address private dave;
    uint256 private daveKey;

    function setUp() public override {
        super.setUp();
        (dave, daveKey) = makeAddrAndKey("dave");
        vm.prank(holder);
        assertTrue(token.transfer(dave, 10 * STAKE));
    }

    // Registration

    function test_register_storesTheProviderAndLocksItsStake() public {
        vm.prank(dave);
        token.approve(address(escrow), STAKE);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ProviderRegistered(dave, bob, _contact(), STAKE);
        vm.prank(dave);
        providers.register(bob, _contact(), STAKE, _noPermit());
        assertEq(escrow.balanceOf(dave).stake, STAKE);
        assertEq(_locked(dave), 0);
        Provider memory p = providers.providerOf(dave);
        assertEq(abi.encode(p), abi.encode(Provider(bob, uint40(block.number), 0, _contact().endpoint, 0, 0)));
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
        vm.startPrank(dave);
        vm.expectRevert(IProviderRegistry.ZeroPayout.selector);
        providers.register(address(0), _contact(), STAKE, _noPermit());
        vm.expectRevert(IProviderRegistry.ZeroEndpoint.selector);
        providers.register(dave, Contact(0, ""), STAKE, _noPermit());
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.StakeTooSmall.selector, MIN_STAKE - 1, MIN_STAKE));
        providers.register(dave, _contact(), MIN_STAKE - 1, _noPermit());
        vm.stopPrank();
        _fund(dave, 2_000_000 * TOKEN);
        vm.startPrank(dave);
        vm.expectPartialRevert(SafeCast.SafeCastOverflowedUintDowncast.selector);
        providers.register(dave, _contact(), 1 << 80, _noPermit());
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.AlreadyRegistered.selector, alice));
        vm.prank(alice);
        providers.register(alice, _contact(), STAKE, _noPermit());
    }

    function test_unregistered_accountsAreRefusedEverywhere() public {
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
        vm.expectEmit(address(providers));
        emit IProviderRegistry.PayoutChanged(alice, carol);
        providers.setPayout(alice, carol);
        assertEq(providers.providerOf(alice).payout, carol);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, payout, carol));
        providers.setPayout(alice, payout);
    }

    function test_addStake_addsToWhatLeasesMayLock() public {
        _fund(alice, 5);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.StakeAdded(alice, 5);
        vm.prank(alice);
        providers.addStake(5, _noPermit());
        assertEq(escrow.balanceOf(alice).stake, STAKE + 5);
    }

    // Exit

    function test_exit_afterTheDelayGivesTheStakeToThePayoutAddress() public {
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ExitRequested(alice, uint40(block.timestamp) + EXIT_DELAY);
        vm.startPrank(alice);
        providers.requestExit();
        uint40 exitAt = uint40(block.timestamp) + EXIT_DELAY;
        vm.warp(exitAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.ExitTooEarly.selector, exitAt));
        providers.exit();
        vm.warp(exitAt);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ProviderExited(alice, STAKE);
        providers.exit();
        vm.stopPrank();
        assertEq(_available(_payout(alice)), STAKE);
        assertEq(_locked(alice), 0);
        assertEq(abi.encode(providers.providerOf(alice)), abi.encode(Provider(address(0), 0, 0, 0, 0, 0)));
        assertEq(escrow.balanceOf(alice).stake, 0);
        vm.prank(_payout(alice));
        escrow.withdraw(STAKE);
        assertEq(token.balanceOf(_payout(alice)), STAKE);
    }

    function test_exit_refusesUnlessRequested() public {
        vm.startPrank(alice);
        vm.expectRevert(IProviderRegistry.NotExiting.selector);
        providers.exit();
        vm.expectRevert(IProviderRegistry.NotExiting.selector);
        providers.cancelExit();
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
        vm.expectRevert(abi.encodeWithSelector(IEscrow.Exiting.selector, alice));
        _lease(alice, job, _list(0));
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ExitCancelled(alice);
        vm.prank(alice);
        providers.cancelExit();
        _lease(alice, job, _list(0));
    }

    function test_exit_waitsForLockedStake() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        vm.prank(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        uint256 locked = 3 * _worst(job, 4);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.StakeHeld.selector, locked));
        vm.prank(alice);
        providers.exit();
        _submit(alice, job, 0, 1);
        vm.warp(block.timestamp + WINDOW);
        jobs.finalise(job, _standing(job, _list(0)));
        vm.prank(alice);
        providers.exit();
        assertEq(_available(_payout(alice)), STAKE + _price(job, 1));
    }

    function test_registration_afterAnExitStartsAfresh() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        _passLease();
        _expire(job, _list(0));
        vm.startPrank(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotRegistered.selector, alice));
        _submit(alice, job, 0, 1);
        vm.roll(block.number + 5);
        _register(alice, STAKE);
        assertEq(reputation.providerRecord(alice).expired, 0);
        assertEq(providers.providerOf(alice).registeredBlock, block.number);
        assertFalse(escrow.balanceOf(alice).exiting);
        // It is the same account: its late result for a batch that nobody took since still counts.
        _submit(alice, job, 0, 1);
    }

    // Withdrawal

    function test_withdraw_byEitherAddressReachesThePayoutAddressOnly() public {
        address payout = _payout(alice);
        _earn(10);
        uint256 before = token.balanceOf(alice);
        vm.prank(alice);
        assertEq(providers.withdraw(alice), 10);
        assertEq(token.balanceOf(payout), 10);
        assertEq(token.balanceOf(alice), before);
        _earn(7);
        vm.prank(payout);
        assertEq(providers.withdraw(alice), 7);
        assertEq(token.balanceOf(payout), 17);
    }

    function test_withdraw_refusesOthersAndTheUnregistered() public {
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, stranger, _payout(alice)));
        providers.withdraw(alice);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotRegistered.selector, stranger));
        providers.withdraw(stranger);
    }

    /// Whoever naming another as payout address moves nothing of that other's own balance.
    function test_withdraw_doesNotTouchThePayoutAddressesOwnBalance() public {
        vm.prank(requester);
        escrow.deposit(carol, 30);
        vm.prank(_payout(alice));
        providers.setPayout(alice, carol);
        _earn(5);
        vm.prank(alice);
        assertEq(providers.withdraw(alice), 5);
        assertEq(_available(carol), 30);
    }

    /// F11: the hot key of a provider reaches neither its earnings nor its stake.
    function test_stolenHotKey_getsNothing() public {
        _earn(10);
        vm.startPrank(alice);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BalanceTooSmall.selector, alice, 0, 1));
        escrow.withdraw(1);
        vm.expectPartialRevert(IProviderRegistry.NotPayout.selector);
        providers.setPayout(alice, alice);
        providers.withdraw(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BalanceTooSmall.selector, alice, 0, 1));
        escrow.withdraw(1);
        assertEq(token.balanceOf(_payout(alice)), 10);
        assertEq(_available(_payout(alice)), STAKE);
    }

    function _earn(uint256 amount) private {
        vm.startPrank(address(jobs));
        escrow.lock(requester, amount, _noPermit());
        escrow.pay(requester, alice, amount, 0, 0, 1, true);
        vm.stopPrank();
    }

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
        vm.startPrank(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        vm.stopPrank();
        assertEq(_available(_payout(alice)), STAKE - bond);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BalanceTooSmall.selector, alice, 0, 1));
        vm.prank(alice);
        escrow.withdraw(1);
    }
}
