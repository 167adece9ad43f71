// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IEscrow, Permit} from "../interfaces/IEscrow.sol";
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
        vm.prank(address(providers));
        escrow.lock(requester, 20, p);
        assertEq(_locked(requester), 20);
    }

    function test_lock_refusesATokenThatMovesLess() public {
        vm.mockCall(address(token), abi.encodeWithSelector(IERC20.transferFrom.selector), abi.encode(true));
        vm.prank(address(jobs));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ReceivedLess.selector, 0, 20));
        escrow.lock(requester, 20, _noPermit());
    }

    function test_settle_splitsWhatWasLocked() public {
        vm.startPrank(address(jobs));
        escrow.lock(requester, 100, _noPermit());
        escrow.settle(requester, bob, 60, 30);
        assertEq(_locked(requester), 10);
        assertEq(_available(requester), 30);
        assertEq(_available(bob), 60);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.LockedTooSmall.selector, requester, 10, 11));
        escrow.settle(requester, bob, 6, 5);
    }

    function test_settle_ofAnAccountWithItselfKeepsTheSum() public {
        vm.startPrank(address(jobs));
        escrow.lock(requester, 100, _noPermit());
        escrow.settle(requester, requester, 60, 40);
        assertEq(_available(requester), 100);
        assertEq(_locked(requester), 0);
    }

    function test_slash_makesTokensBurnableForAnyone() public {
        vm.startPrank(address(providers));
        escrow.lock(requester, 100, _noPermit());
        escrow.slash(requester, 40);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.LockedTooSmall.selector, requester, 60, 61));
        escrow.slash(requester, 61);
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

    function test_payOut_sendsTheWholeAvailableBalance() public {
        vm.prank(requester);
        escrow.deposit(bob, 50);
        uint256 before = token.balanceOf(bob);
        vm.prank(address(providers));
        assertEq(escrow.payOut(bob), 50);
        assertEq(token.balanceOf(bob), before + 50);
        assertEq(_available(bob), 0);
    }

    function test_registryCalls_refuseEveryOtherCaller() public {
        address[4] memory callers = [stranger, requester, address(deployment), address(reputation)];
        for (uint256 i = 0; i < callers.length; ++i) {
            bytes memory refusal = abi.encodeWithSelector(IEscrow.NotRegistry.selector, callers[i]);
            vm.startPrank(callers[i]);
            vm.expectRevert(refusal);
            escrow.lock(requester, 1, _noPermit());
            vm.expectRevert(refusal);
            escrow.settle(requester, callers[i], 1, 0);
            vm.expectRevert(refusal);
            escrow.slash(requester, 1);
            vm.expectRevert(refusal);
            escrow.payOut(requester);
            vm.stopPrank();
        }
    }

    function _revokeAllowance() private {
        vm.prank(requester);
        token.approve(address(escrow), 0);
    }
}
