// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {stdError} from "forge-std/Test.sol";

import {Balance, IEscrow, Permit} from "../interfaces/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

contract EscrowTest is Fixture {
    function test_deposit_creditsTheNamedAccount() public {
        vm.expectEmit(address(escrow));
        emit IEscrow.Deposited(requester, alice, 50);
        vm.prank(requester);
        assertEq(escrow.deposit(alice, 50), 50);
        assertEq(_available(alice), 50);
        assertEq(_available(requester), 0);
    }

    function test_deposit_refusesWithoutTokensOrAllowance() public {
        vm.startPrank(stranger);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        escrow.deposit(stranger, 1);
        token.approve(address(escrow), 1);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientBalance.selector);
        escrow.deposit(stranger, 1);
    }

    function test_depositWithPermit_needsNoAllowanceBefore() public {
        _revokeAllowance();
        Permit memory p = _permit(requester, requesterKey, 40, block.timestamp);
        vm.prank(requester);
        assertEq(escrow.depositWithPermit(requester, 40, p), 40);
        assertEq(_available(requester), 40);
        assertEq(token.allowance(requester, address(escrow)), 0);
    }

    function test_depositWithPermit_worksWhenAnotherUsedThePermitFirst() public {
        _revokeAllowance();
        Permit memory p = _permit(requester, requesterKey, 40, block.timestamp);
        vm.prank(stranger);
        token.permit(requester, address(escrow), p.value, p.deadline, p.v, p.r, p.s);
        vm.prank(requester);
        assertEq(escrow.depositWithPermit(requester, 40, p), 40);
    }

    function test_depositWithPermit_refusesWhenPermitAndAllowanceFail() public {
        _revokeAllowance();
        Permit memory expired = _permit(requester, requesterKey, 40, block.timestamp - 1);
        Permit memory forged = _permit(requester, requesterKey + 1, 40, block.timestamp);
        vm.startPrank(requester);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        escrow.depositWithPermit(requester, 40, expired);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        escrow.depositWithPermit(requester, 40, forged);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        escrow.depositWithPermit(requester, 40, _noPermit());
    }

    function test_withdraw_sendsToTheCallerAndNoMoreThanItHas() public {
        vm.startPrank(requester);
        escrow.deposit(requester, 50);
        uint256 before = token.balanceOf(requester);
        vm.expectEmit(address(escrow));
        emit IEscrow.Withdrawn(requester, 20);
        escrow.withdraw(20);
        assertEq(token.balanceOf(requester), before + 20);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BalanceTooSmall.selector, requester, 30, 31));
        escrow.withdraw(31);
    }

    function test_withdraw_doesNotReachLockedTokens() public {
        vm.prank(address(jobs));
        escrow.lock(requester, 50, _noPermit());
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BalanceTooSmall.selector, requester, 0, 1));
        vm.prank(requester);
        escrow.withdraw(1);
    }

    function test_lock_takesTheAvailableBalanceFirst() public {
        vm.prank(requester);
        escrow.deposit(requester, 30);
        uint256 before = token.balanceOf(requester);
        vm.startPrank(address(jobs));
        escrow.lock(requester, 20, _noPermit());
        assertEq(token.balanceOf(requester), before);
        escrow.lock(requester, 20, _noPermit());
        assertEq(token.balanceOf(requester), before - 10);
        assertEq(_available(requester), 0);
        assertEq(_locked(requester), 40);
    }

    function test_lock_usesThePermitForWhatIsMissing() public {
        _revokeAllowance();
        Permit memory p = _permit(requester, requesterKey, 20, block.timestamp);
        vm.prank(address(jobs));
        escrow.lock(requester, 20, p);
        assertEq(_locked(requester), 20);
    }

    function test_lock_refusesATokenThatMovesLess() public {
        vm.mockCall(address(token), abi.encodeWithSelector(IERC20.transferFrom.selector), abi.encode(true));
        vm.prank(address(jobs));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ReceivedLess.selector, 0, 20));
        escrow.lock(requester, 20, _noPermit());
    }

    function test_lock_refusesATokenThatMovesLessForStakeToo() public {
        vm.mockCall(address(token), abi.encodeWithSelector(IERC20.transferFrom.selector), abi.encode(true));
        vm.prank(address(providers));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ReceivedLess.selector, 0, 20));
        escrow.stake(requester, 20, _noPermit());
    }

    function test_stake_takesTheAvailableBalanceFirstAndThePermitForTheRest() public {
        vm.prank(requester);
        escrow.deposit(requester, 30);
        _revokeAllowance();
        Permit memory p = _permit(requester, requesterKey, 20, block.timestamp);
        vm.prank(address(providers));
        escrow.stake(requester, 50, p);
        Balance memory entry = escrow.balanceOf(requester);
        assertEq(entry.stake, 50);
        assertEq(entry.available, 0);
        assertEq(entry.locked, 0);
    }

    function test_stake_isBelow2To80() public {
        vm.prank(holder);
        assertTrue(token.transfer(requester, 2_000_000 * TOKEN));
        vm.startPrank(address(providers));
        escrow.stake(requester, type(uint80).max, _noPermit());
        vm.expectPartialRevert(SafeCast.SafeCastOverflowedUintDowncast.selector);
        escrow.stake(requester, 1, _noPermit());
    }

    function test_hold_takesFreeStakeOnly() public {
        vm.startPrank(address(jobs));
        escrow.hold(alice, STAKE - 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FreeStakeTooSmall.selector, 1, 2));
        escrow.hold(alice, 2);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FreeStakeTooSmall.selector, 1, type(uint256).max));
        escrow.hold(alice, type(uint256).max);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotRegistered.selector, stranger));
        escrow.hold(stranger, 1);
        escrow.hold(alice, 1);
        assertEq(escrow.balanceOf(alice).held, STAKE);
        escrow.free(alice, STAKE);
        assertEq(escrow.balanceOf(alice).held, 0);
        vm.expectRevert(stdError.arithmeticError);
        escrow.free(alice, 1);
    }

    function test_hold_isRefusedToWhoIsLeaving() public {
        vm.prank(address(providers));
        escrow.setExiting(alice, true);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.Exiting.selector, alice));
        vm.prank(address(jobs));
        escrow.hold(alice, 1);
        vm.prank(address(providers));
        escrow.setExiting(alice, false);
        vm.prank(address(jobs));
        escrow.hold(alice, 1);
    }

    function test_pay_splitsWhatWasLockedAndFreesStake() public {
        vm.startPrank(address(jobs));
        escrow.lock(requester, 100, _noPermit());
        escrow.hold(alice, 50);
        escrow.pay(requester, alice, 60, 30, 40, 2, true);
        assertEq(_locked(requester), 10);
        assertEq(_available(requester), 30);
        assertEq(_earned(alice), 60);
        assertEq(_available(alice), 0, "not the hot key's to take");
        assertEq(escrow.balanceOf(alice).held, 10);
        assertEq(escrow.balanceOf(requester).accepted, 2);
        escrow.pay(requester, alice, 1, 0, 0, 3, false);
        assertEq(escrow.balanceOf(requester).timedOut, 3);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.LockedTooSmall.selector, requester, 9, 10));
        escrow.pay(requester, alice, 5, 5, 0, 1, true);
        vm.expectRevert(stdError.arithmeticError);
        escrow.pay(requester, alice, 0, 0, 11, 1, true);
    }

    function test_pay_ofAnAccountToItselfKeepsTheSum() public {
        vm.startPrank(address(jobs));
        escrow.lock(requester, 100, _noPermit());
        escrow.pay(requester, requester, 60, 40, 0, 1, true);
        assertEq(_available(requester), 40);
        assertEq(_earned(requester), 60);
        assertEq(_locked(requester), 0);
    }

    function test_pay_countersSaturate() public {
        vm.startPrank(address(jobs));
        escrow.pay(requester, alice, 0, 0, 0, type(uint32).max - 1, true);
        escrow.pay(requester, alice, 0, 0, 0, 5, true);
        escrow.pay(requester, alice, 0, 0, 0, type(uint256).max, false);
        assertEq(escrow.balanceOf(requester).accepted, type(uint32).max);
        assertEq(escrow.balanceOf(requester).timedOut, type(uint32).max);
    }

    function test_refund_givesBackWhatWasLocked() public {
        vm.startPrank(address(jobs));
        escrow.lock(requester, 100, _noPermit());
        escrow.refund(requester, 60);
        assertEq(_available(requester), 60);
        assertEq(_locked(requester), 40);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.LockedTooSmall.selector, requester, 40, 41));
        escrow.refund(requester, 41);
    }

    function test_slash_makesStakeBurnableForAnyone() public {
        vm.startPrank(address(jobs));
        escrow.hold(alice, 100);
        escrow.slash(alice, 100, 40);
        assertEq(escrow.balanceOf(alice).held, 0);
        assertEq(escrow.balanceOf(alice).stake, STAKE - 40);
        vm.expectRevert(stdError.arithmeticError);
        escrow.slash(alice, 1, 0);
        vm.stopPrank();
        assertEq(escrow.burnable(), 40);

        uint256 supply = token.totalSupply();
        uint256 held = token.balanceOf(address(escrow));
        vm.expectEmit(address(escrow));
        emit IEscrow.Burned(40);
        vm.prank(stranger);
        assertEq(escrow.burn(), 40);
        assertEq(token.totalSupply(), supply - 40);
        assertEq(token.balanceOf(address(escrow)), held - 40);
        assertEq(escrow.burn(), 0);
    }

    function test_payOut_sendsEarningsAndNothingElse() public {
        vm.startPrank(requester);
        escrow.deposit(alice, 50);
        vm.startPrank(address(jobs));
        escrow.lock(requester, 7, _noPermit());
        escrow.pay(requester, alice, 7, 0, 0, 1, true);
        vm.startPrank(address(providers));
        vm.expectEmit(address(escrow));
        emit IEscrow.PaidOut(alice, carol, 7);
        assertEq(escrow.payOut(alice, carol), 7);
        assertEq(token.balanceOf(carol), 7);
        assertEq(_available(alice), 50);
        assertEq(_earned(alice), 0);
        assertEq(escrow.payOut(alice, carol), 0);
    }

    function test_leave_movesStakeAndEarningsOnceNothingIsHeld() public {
        vm.startPrank(address(jobs));
        escrow.lock(requester, 7, _noPermit());
        escrow.hold(alice, 5);
        escrow.pay(requester, alice, 7, 0, 0, 1, true);
        vm.startPrank(address(providers));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.StakeHeld.selector, 5));
        escrow.leave(alice, carol);
        vm.startPrank(address(jobs));
        escrow.free(alice, 5);
        vm.startPrank(address(providers));
        assertEq(escrow.leave(alice, carol), STAKE + 7);
        assertEq(_available(carol), STAKE + 7);
        assertEq(abi.encode(escrow.balanceOf(alice)), abi.encode(Balance(0, 0, 0, 0, 0, 0, 0, false)));
    }

    function test_registryCalls_refuseEveryOtherCaller() public {
        address[5] memory callers = [stranger, requester, address(deployment), address(reputation), address(providers)];
        for (uint256 i = 0; i < callers.length; ++i) {
            bytes memory refusal = abi.encodeWithSelector(IEscrow.NotRegistry.selector, callers[i]);
            vm.startPrank(callers[i]);
            vm.expectRevert(refusal);
            escrow.lock(requester, 1, _noPermit());
            vm.expectRevert(refusal);
            escrow.hold(alice, 1);
            vm.expectRevert(refusal);
            escrow.free(alice, 0);
            vm.expectRevert(refusal);
            escrow.slash(alice, 0, 0);
            vm.expectRevert(refusal);
            escrow.pay(requester, callers[i], 0, 0, 0, 0, true);
            vm.expectRevert(refusal);
            escrow.refund(requester, 0);
            vm.stopPrank();
        }
        callers[4] = address(jobs);
        for (uint256 i = 0; i < callers.length; ++i) {
            bytes memory refusal = abi.encodeWithSelector(IEscrow.NotRegistry.selector, callers[i]);
            vm.startPrank(callers[i]);
            vm.expectRevert(refusal);
            escrow.stake(requester, 1, _noPermit());
            vm.expectRevert(refusal);
            escrow.setExiting(alice, true);
            vm.expectRevert(refusal);
            escrow.leave(alice, callers[i]);
            vm.expectRevert(refusal);
            escrow.payOut(alice, callers[i]);
            vm.stopPrank();
        }
    }

    function _revokeAllowance() private {
        vm.prank(requester);
        token.approve(address(escrow), 0);
    }
}
