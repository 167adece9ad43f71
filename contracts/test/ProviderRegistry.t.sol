// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IEscrow, Permit} from "../interfaces/IEscrow.sol";
import {Contact, Job} from "../interfaces/IJobRegistry.sol";
import {IProviderRegistry, Provider} from "../interfaces/IProviderRegistry.sol";
import {stdError} from "forge-std/Test.sol";
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
        emit IProviderRegistry.ProviderRegistered(4, dave, bob, _contact(), STAKE);
        vm.prank(dave);
        assertEq(providers.register(bob, _contact(), STAKE, _noPermit()), 4);
        assertEq(providers.indexOf(dave), 4);
        assertEq(providers.count(), 4);
        assertEq(_locked(dave), STAKE);
        Provider memory p = providers.provider(4);
        assertEq(
            abi.encode(p), abi.encode(Provider(dave, STAKE, bob, 0, _contact().endpoint, uint40(block.timestamp), 0))
        );
    }

    function test_register_takesAPermitEvenOneThatWasFrontRun() public {
        Permit memory p = _permit(dave, daveKey, STAKE, block.timestamp);
        vm.prank(stranger);
        token.permit(dave, address(escrow), p.value, p.deadline, p.v, p.r, p.s);
        vm.prank(dave);
        assertEq(providers.register(dave, _contact(), STAKE, p), 4);
    }

    function test_register_refusesBadArguments() public {
        vm.startPrank(dave);
        vm.expectRevert(IProviderRegistry.ZeroPayout.selector);
        providers.register(address(0), _contact(), STAKE, _noPermit());
        vm.expectRevert(IProviderRegistry.ZeroEndpoint.selector);
        providers.register(dave, Contact(0, ""), STAKE, _noPermit());
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.StakeTooSmall.selector, MIN_STAKE - 1, MIN_STAKE));
        providers.register(dave, _contact(), MIN_STAKE - 1, _noPermit());
        vm.expectPartialRevert(SafeCast.SafeCastOverflowedUintDowncast.selector);
        providers.register(dave, _contact(), 1 << 96, _noPermit());
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.AlreadyRegistered.selector, aliceIndex));
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
        emit IProviderRegistry.ProviderContactChanged(aliceIndex, contact);
        providers.setContact(contact);
        assertEq(providers.provider(aliceIndex).endpoint, contact.endpoint);
        vm.expectRevert(IProviderRegistry.ZeroEndpoint.selector);
        providers.setContact(Contact(0, "x"));
    }

    function test_setPayout_isForThePayoutAddressOnly() public {
        address payout = _payout(alice);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, alice, payout));
        vm.prank(alice);
        providers.setPayout(aliceIndex, alice);
        vm.startPrank(payout);
        vm.expectRevert(IProviderRegistry.ZeroPayout.selector);
        providers.setPayout(aliceIndex, address(0));
        vm.expectEmit(address(providers));
        emit IProviderRegistry.PayoutChanged(aliceIndex, carol);
        providers.setPayout(aliceIndex, carol);
        assertEq(providers.provider(aliceIndex).payout, carol);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, payout, carol));
        providers.setPayout(aliceIndex, payout);
    }

    function test_addStake_addsToWhatLeasesMayLock() public {
        _fund(alice, 5);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.StakeAdded(aliceIndex, 5, STAKE + 5);
        vm.prank(alice);
        providers.addStake(5, _noPermit());
        assertEq(providers.provider(aliceIndex).stake, STAKE + 5);
        assertEq(_locked(alice), STAKE + 5);
    }

    // Exit

    function test_exit_afterTheDelayGivesTheStakeToThePayoutAddress() public {
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ExitRequested(aliceIndex, uint40(block.timestamp) + EXIT_DELAY);
        vm.startPrank(alice);
        providers.requestExit();
        uint40 exitAt = uint40(block.timestamp) + EXIT_DELAY;
        vm.warp(exitAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.ExitTooEarly.selector, exitAt));
        providers.exit();
        vm.warp(exitAt);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ProviderExited(aliceIndex, STAKE);
        providers.exit();
        vm.stopPrank();
        assertEq(_available(_payout(alice)), STAKE);
        assertEq(_locked(alice), 0);
        assertEq(providers.indexOf(alice), 0);
        assertEq(providers.provider(aliceIndex).account, address(0));
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
        uint40 exitAt = providers.provider(aliceIndex).exitAt;
        vm.warp(block.timestamp + 5);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.Exiting.selector, exitAt));
        providers.requestExit();
    }

    function test_requestExit_endsNewLeasesAndCancelExitAllowsThemAgain() public {
        (Job memory job,) = _posted();
        vm.prank(alice);
        providers.requestExit();
        vm.expectRevert(
            abi.encodeWithSelector(IProviderRegistry.Exiting.selector, uint40(block.timestamp) + EXIT_DELAY)
        );
        _lease(alice, job, _list(0));
        vm.expectEmit(address(providers));
        emit IProviderRegistry.ExitCancelled(aliceIndex);
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
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.StakeLocked.selector, locked));
        vm.prank(alice);
        providers.exit();
        _submit(alice, job, 0, 1);
        vm.warp(block.timestamp + WINDOW);
        jobs.finalise(job, _list(0));
        vm.prank(alice);
        providers.exit();
        assertEq(_available(_payout(alice)), STAKE + _price(job, 1));
    }

    function test_registration_afterAnExitHasANewIndexAndNoOldRights() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        _passLease();
        _expire(job, _list(0));
        vm.startPrank(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        vm.stopPrank();
        uint32 index = _register(alice, STAKE);
        assertEq(index, 4);
        assertEq(providers.indexOf(alice), 4);
        assertEq(reputation.providerRecord(index).expiredLeases, 0);
        vm.expectPartialRevert(bytes4(keccak256("NotHolder(uint32,uint32)")));
        _submit(alice, job, 0, 1);
    }

    // Withdrawal

    function test_withdraw_byEitherAddressReachesThePayoutAddressOnly() public {
        address payout = _payout(alice);
        vm.startPrank(requester);
        escrow.deposit(payout, 10);
        vm.stopPrank();
        uint256 before = token.balanceOf(alice);
        vm.prank(alice);
        assertEq(providers.withdraw(aliceIndex), 10);
        assertEq(token.balanceOf(payout), 10);
        assertEq(token.balanceOf(alice), before);
        vm.prank(requester);
        escrow.deposit(payout, 7);
        vm.prank(payout);
        assertEq(providers.withdraw(aliceIndex), 7);
        assertEq(token.balanceOf(payout), 17);
    }

    function test_withdraw_refusesOthersAndUnknownIndices() public {
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, stranger, _payout(alice)));
        providers.withdraw(aliceIndex);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotPayout.selector, stranger, address(0)));
        providers.withdraw(99);
    }

    // Calls of the JobRegistry

    function test_lockStake_refusesUnknownAccountsAndMoreThanIsFree() public {
        vm.startPrank(address(jobs));
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotRegistered.selector, dave));
        providers.lockStake(dave, 1);
        assertEq(providers.lockStake(alice, STAKE - 1), aliceIndex);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.FreeStakeTooSmall.selector, 1, 2));
        providers.lockStake(alice, 2);
    }

    function test_unlockStake_slashesOutOfTheStake() public {
        vm.startPrank(address(jobs));
        providers.lockStake(alice, 100);
        vm.expectEmit(address(providers));
        emit IProviderRegistry.StakeSlashed(aliceIndex, 30, STAKE - 30);
        assertEq(providers.unlockStake(aliceIndex, 60, 30), _payout(alice));
        assertEq(providers.provider(aliceIndex).locked, 10);
        assertEq(providers.provider(aliceIndex).stake, STAKE - 30);
        assertEq(escrow.burnable(), 30);
        vm.expectRevert(stdError.arithmeticError);
        providers.unlockStake(aliceIndex, 11, 0);
    }

    function test_stakeCalls_refuseEveryOtherCaller() public {
        bytes memory refusal = abi.encodeWithSelector(IProviderRegistry.NotJobRegistry.selector, alice);
        vm.startPrank(alice);
        vm.expectRevert(refusal);
        providers.lockStake(alice, 0);
        vm.expectRevert(refusal);
        providers.unlockStake(aliceIndex, 0, 0);
    }

    function test_slashedProvider_stillLeasesWithWhatIsLeftAndExitsWithIt() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        _passLease();
        _expire(job, _list(0));
        uint256 bond = _worst(job, 4) * BOND_BPS / 10_000;
        assertEq(providers.provider(aliceIndex).stake, STAKE - bond);
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
