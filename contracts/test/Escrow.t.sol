// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {stdError} from "forge-std/Test.sol";

import {Part, Settings} from "../interfaces/IDeployment.sol";
import {Balance, Consent, IEscrow, Mark, Permit, Share} from "../interfaces/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

contract EscrowTest is Fixture {
    function _settings() internal view override returns (Settings memory s) {
        s = super._settings();
        s.tokenSupply = type(uint88).max;
    }

    function test_token_isTheDeployments() public view {
        assertEq(escrow.token(), deployment.addressOf(Part.Token));
    }

    // Deposits and withdrawals

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

    function test_deposit_touchesNeitherStakeNorEarnings() public {
        vm.prank(requester);
        escrow.deposit(alice, 50);
        _assertBalance(alice, _balance(50, 0, 0, 0, 0, STAKE, 0));
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
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BalanceTooSmall.selector, requester, 30, (1 << 96) + 1));
        escrow.withdraw((1 << 96) + 1);
    }

    function test_withdraw_doesNotReachLockedTokens() public {
        vm.prank(address(jobs));
        escrow.lock(requester, 50, _noPermit());
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BalanceTooSmall.selector, requester, 0, 1));
        vm.prank(requester);
        escrow.withdraw(1);
    }

    function test_withdraw_doesNotReachStakeNorEarnings() public {
        _earn(alice, 60);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.BalanceTooSmall.selector, alice, 0, 1));
        vm.prank(alice);
        escrow.withdraw(1);
    }

    // Locks

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

    function test_lock_doesNotTakeStakeNorEarnings() public {
        _earn(alice, 60);
        vm.prank(address(jobs));
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientBalance.selector);
        escrow.lock(alice, 1, _noPermit());
    }

    // Stake

    function test_stake_takesTheAvailableBalanceFirst() public {
        vm.prank(requester);
        escrow.deposit(requester, 30);
        uint256 before = token.balanceOf(requester);
        vm.startPrank(address(providers));
        escrow.stake(requester, 20, _noPermit());
        assertEq(token.balanceOf(requester), before);
        escrow.stake(requester, 20, _noPermit());
        assertEq(token.balanceOf(requester), before - 10);
        _assertBalance(requester, _balance(0, 0, 0, 0, 0, 40, 0));
    }

    function test_stake_usesThePermitForWhatIsMissing() public {
        vm.prank(requester);
        escrow.deposit(requester, 30);
        _revokeAllowance();
        Permit memory p = _permit(requester, requesterKey, 20, block.timestamp);
        vm.prank(address(providers));
        escrow.stake(requester, 50, p);
        _assertBalance(requester, _balance(0, 0, 0, 0, 0, 50, 0));
    }

    function test_stake_refusesATokenThatMovesLess() public {
        vm.mockCall(address(token), abi.encodeWithSelector(IERC20.transferFrom.selector), abi.encode(true));
        vm.prank(address(providers));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ReceivedLess.selector, 0, 20));
        escrow.stake(requester, 20, _noPermit());
    }

    function test_stake_staysBelow2Power80() public {
        _fund(requester, 1 << 81);
        vm.startPrank(address(providers));
        vm.expectRevert(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 80, 1 << 80));
        escrow.stake(requester, 1 << 80, _noPermit());
        escrow.stake(requester, (1 << 80) - 1, _noPermit());
        vm.expectRevert(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 80, 1 << 80));
        escrow.stake(requester, 1, _noPermit());
        assertEq(escrow.balanceOf(requester).stake, (1 << 80) - 1);
        vm.stopPrank();
        vm.startPrank(address(jobs));
        escrow.hold(requester, (1 << 80) - 1);
        assertEq(_lockedStake(requester), (1 << 80) - 1);
        assertEq(escrow.balanceOf(requester).stake, (1 << 80) - 1);
        escrow.expire(requester, (1 << 80) - 1, (1 << 80) - 1);
        assertEq(escrow.burnable(), (1 << 80) - 1);
    }

    function test_hold_refusesUnknownAccountsAndMoreThanIsFree() public {
        vm.startPrank(address(jobs));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotRegistered.selector, stranger));
        escrow.hold(stranger, 1);
        escrow.hold(alice, STAKE - 1);
        assertEq(_lockedStake(alice), STAKE - 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FreeStakeTooSmall.selector, 1, 2));
        escrow.hold(alice, 2);
        // Not even one that fits once its upper bits are gone.
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FreeStakeTooSmall.selector, 1, 1 << 80));
        escrow.hold(alice, 1 << 80);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FreeStakeTooSmall.selector, 1, type(uint256).max));
        escrow.hold(alice, type(uint256).max);
        escrow.hold(alice, 1);
        assertEq(_lockedStake(alice), STAKE);
    }

    function test_hold_refusesWhoIsLeaving() public {
        vm.prank(address(providers));
        escrow.setExiting(alice, true);
        vm.prank(address(jobs));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.Exiting.selector, alice));
        escrow.hold(alice, 1);
        vm.prank(address(providers));
        escrow.setExiting(alice, false);
        vm.prank(address(jobs));
        escrow.hold(alice, 1);
    }

    function test_hold_doesNotCountWhatIsAvailableOrEarned() public {
        _earn(alice, 60);
        vm.prank(requester);
        escrow.deposit(alice, 50);
        vm.prank(address(jobs));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FreeStakeTooSmall.selector, STAKE, STAKE + 1));
        escrow.hold(alice, STAKE + 1);
    }

    function test_free_refusesMoreThanIsHeld() public {
        vm.startPrank(address(jobs));
        escrow.hold(alice, 60);
        escrow.free(alice, 50);
        assertEq(_lockedStake(alice), 10);
        assertEq(escrow.balanceOf(alice).stake, STAKE);
        vm.expectRevert(stdError.arithmeticError);
        escrow.free(alice, 11);
        vm.expectRevert(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 80, 1 << 80));
        escrow.free(alice, 1 << 80);
    }

    function test_expire_makesTokensBurnableForAnyone() public {
        vm.startPrank(address(jobs));
        escrow.hold(alice, 100);
        escrow.expire(alice, 60, 40);
        _assertBalance(alice, _balance(0, 0, 0, 0, 0, STAKE - 40, 40));
        vm.expectRevert(stdError.arithmeticError);
        escrow.expire(alice, 41, 1);
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
        assertEq(escrow.burnable(), 0);
        assertEq(escrow.burn(), 0);
    }

    // Payment

    function test_pay_splitsWhatWasLockedAndFreesTheStake() public {
        vm.startPrank(address(jobs));
        escrow.lock(requester, 100, _noPermit());
        escrow.hold(bob, 50);
        escrow.pay(requester, bob, 60, 30, 45, 2, true);
        _assertBalance(requester, _balance(30, 10, 2, 0, 0, 0, 0));
        _assertBalance(bob, _balance(0, 0, 0, 0, 60, STAKE, 5));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.LockedTooSmall.selector, requester, 10, 11));
        escrow.pay(requester, bob, 6, 5, 5, 1, true);
        vm.expectRevert(stdError.arithmeticError);
        escrow.pay(requester, bob, 6, 4, 6, 1, true);
        escrow.pay(requester, bob, 6, 4, 5, 3, false);
        _assertBalance(requester, _balance(34, 0, 2, 3, 0, 0, 0));
        _assertBalance(bob, _balance(0, 0, 0, 0, 66, STAKE, 0));
    }

    function test_pay_ofAnAccountWithItselfKeepsTheSum() public {
        _fund(alice, 100);
        vm.startPrank(address(jobs));
        escrow.lock(alice, 100, _noPermit());
        escrow.hold(alice, 50);
        escrow.pay(alice, alice, 60, 40, 50, 1, true);
        _assertBalance(alice, _balance(40, 0, 1, 0, 60, STAKE, 0));
    }

    function test_pay_countersStayAtTheirHighest() public {
        vm.startPrank(address(jobs));
        escrow.pay(requester, bob, 0, 0, 0, type(uint32).max - 1, true);
        escrow.pay(requester, bob, 0, 0, 0, type(uint32).max - 1, false);
        assertEq(escrow.balanceOf(requester).accepted, type(uint32).max - 1);
        for (uint256 i = 0; i < 2; ++i) {
            escrow.pay(requester, bob, 0, 0, 0, 5, true);
            assertEq(escrow.balanceOf(requester).accepted, type(uint32).max);
        }
        assertEq(escrow.balanceOf(requester).timedOut, type(uint32).max - 1);
        escrow.pay(requester, bob, 0, 0, 0, 1, false);
        escrow.pay(requester, bob, 0, 0, 0, 1 << 200, false);
        Balance memory full = _balance(0, 0, type(uint32).max, type(uint32).max, 0, 0, 0);
        _assertBalance(requester, full);
    }

    /// The whole supply passes through every balance of one account.
    function test_balances_holdTheWholeSupply() public {
        uint256 rest = token.balanceOf(holder);
        vm.startPrank(holder);
        token.approve(address(escrow), type(uint256).max);
        escrow.deposit(holder, rest);
        vm.stopPrank();
        for (uint256 i = 1; i <= 3; ++i) {
            address other = [requester, alice, bob][i - 1];
            uint256 has = token.balanceOf(other);
            vm.prank(other);
            token.approve(address(escrow), has);
            vm.prank(other);
            escrow.deposit(holder, has);
            rest += has;
        }
        assertEq(rest, uint256(type(uint88).max) - 3 * STAKE);
        assertEq(_available(holder), rest);
        vm.startPrank(address(jobs));
        escrow.lock(holder, rest, _noPermit());
        assertEq(_locked(holder), rest);
        escrow.pay(holder, alice, rest, 0, 0, 1, true);
        assertEq(_earned(alice), rest);
        vm.stopPrank();
        vm.prank(address(providers));
        escrow.leave(alice, bob);
        assertEq(_available(bob), rest + STAKE);
        vm.prank(bob);
        escrow.withdraw(rest + STAKE);
        assertEq(token.balanceOf(bob), rest + STAKE);
    }

    /// An award is taken from what would be burned, to the last token wei.
    function test_settle_givesAwardsOfAnySize() public {
        Share[] memory shares = new Share[](1);
        shares[0] = Share(alice, 0, 0, 2, Mark.Failed);
        vm.startPrank(address(replicas));
        escrow.hold(alice, 6);
        for (uint256 award = 0; award <= 2; ++award) {
            uint256 had = _available(address(disputes));
            uint256 burnable = escrow.burnable();
            escrow.settle(requester, 0, 0, award, Consent.None, shares);
            assertEq(_available(address(disputes)), had + award);
            assertEq(escrow.burnable(), burnable + 2 - award);
        }
    }

    function test_settle_countsWhatItMarks() public {
        Share[] memory shares = new Share[](1);
        vm.startPrank(address(replicas));
        for (uint8 mark = 0; mark < 4; ++mark) {
            shares[0] = Share(alice, 0, 0, 0, Mark(mark));
            uint256 before = vm.snapshotState();
            escrow.settle(requester, 0, 0, 0, Consent.None, shares);
            Balance memory entry = escrow.balanceOf(alice);
            assertEq(entry.checks, Mark(mark) == Mark.Checked ? 1 : 0);
            assertEq(entry.failed, Mark(mark) == Mark.Failed ? 1 : 0);
            assertEq(entry.withheld, Mark(mark) == Mark.Withheld ? 1 : 0);
            assertTrue(vm.revertToState(before));
        }
    }

    function test_give_takesFromDisputesWhatItGivesAndBurns() public {
        vm.startPrank(address(disputes));
        escrow.collect(requester, 9, _noPermit());
        assertEq(_available(address(disputes)), 9);
        escrow.give(bob, 2, 0);
        escrow.give(bob, 3, 1);
        escrow.give(carol, 0, 2);
        assertEq(_available(address(disputes)), 1);
        assertEq(_available(bob), 5);
        assertEq(_available(carol), 0);
        assertEq(escrow.burnable(), 3);
        vm.expectRevert(stdError.arithmeticError);
        escrow.give(bob, 1, 1);
    }

    function test_refund_givesLockedTokensBackAndNoMore() public {
        vm.startPrank(address(jobs));
        escrow.lock(requester, 100, _noPermit());
        escrow.refund(requester, 70);
        _assertBalance(requester, _balance(70, 30, 0, 0, 0, 0, 0));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.LockedTooSmall.selector, requester, 30, 31));
        escrow.refund(requester, 31);
        vm.expectRevert(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 96, 1 << 96));
        escrow.refund(requester, 1 << 96);
    }

    // Earnings

    function test_payOut_sendsAllEarningsAndNothingElse() public {
        _earn(bob, 50);
        vm.prank(requester);
        escrow.deposit(bob, 7);
        vm.prank(requester);
        escrow.deposit(carol, 9);
        vm.expectEmit(address(escrow));
        emit IEscrow.PaidOut(bob, carol, 50);
        vm.prank(address(providers));
        assertEq(escrow.payOut(bob, carol), 50);
        assertEq(token.balanceOf(carol), 50);
        assertEq(token.balanceOf(bob), 0);
        _assertBalance(bob, _balance(7, 0, 0, 0, 0, STAKE, 0));
        assertEq(_available(carol), 9);
        vm.prank(address(providers));
        assertEq(escrow.payOut(bob, carol), 0);
    }

    function test_leave_movesStakeAndEarningsToThePayoutAddress() public {
        _earn(bob, 50);
        vm.prank(requester);
        escrow.deposit(bob, 7);
        vm.startPrank(address(providers));
        escrow.setExiting(bob, true);
        assertEq(escrow.leave(bob, stranger), STAKE + 50);
        _assertBalance(bob, _balance(7, 0, 0, 0, 0, 0, 0));
        assertEq(_available(stranger), STAKE + 50);
    }

    function test_leave_toTheAccountItselfKeepsTheSum() public {
        _earn(bob, 50);
        vm.prank(requester);
        escrow.deposit(bob, 7);
        vm.prank(address(providers));
        assertEq(escrow.leave(bob, bob), STAKE + 50);
        _assertBalance(bob, _balance(STAKE + 57, 0, 0, 0, 0, 0, 0));
    }

    function test_leave_refusesWhileAnythingIsHeld() public {
        vm.prank(address(jobs));
        escrow.hold(bob, 1);
        vm.prank(address(providers));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.StakeHeld.selector, 1));
        escrow.leave(bob, stranger);
    }

    // Callers

    function test_registryCalls_refuseEveryOtherCaller() public {
        bytes[] memory ofJobs = new bytes[](6);
        ofJobs[0] = abi.encodeCall(IEscrow.lock, (requester, 3, _noPermit()));
        ofJobs[1] = abi.encodeCall(IEscrow.hold, (alice, 4));
        ofJobs[2] = abi.encodeCall(IEscrow.free, (alice, 1));
        ofJobs[3] = abi.encodeCall(IEscrow.expire, (alice, 2, 1));
        ofJobs[4] = abi.encodeCall(IEscrow.pay, (requester, alice, 1, 1, 1, 1, true));
        ofJobs[5] = abi.encodeCall(IEscrow.refund, (requester, 1));
        bytes[] memory ofProviders = new bytes[](4);
        ofProviders[0] = abi.encodeCall(IEscrow.stake, (requester, 1, _noPermit()));
        ofProviders[1] = abi.encodeCall(IEscrow.setExiting, (alice, true));
        ofProviders[2] = abi.encodeCall(IEscrow.payOut, (alice, bob));
        ofProviders[3] = abi.encodeCall(IEscrow.leave, (alice, bob));
        _onlyFrom(address(jobs), ofJobs);
        _onlyFrom(address(providers), ofProviders);
    }

    function _onlyFrom(address registry, bytes[] memory calls) private {
        address[9] memory callers = [
            address(jobs),
            address(providers),
            address(escrow),
            address(token),
            address(reputation),
            address(deployment),
            requester,
            alice,
            stranger
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            for (uint256 c = 0; c < callers.length; ++c) {
                if (callers[c] == registry) continue;
                vm.prank(callers[c]);
                (bool ok, bytes memory answer) = address(escrow).call(calls[i]);
                assertFalse(ok);
                assertEq(answer, abi.encodeWithSelector(IEscrow.NotRegistry.selector, callers[c]));
            }
            vm.prank(registry);
            (bool done,) = address(escrow).call(calls[i]);
            assertTrue(done, "its registry may");
        }
    }

    /// `amount` earned by `provider`.
    function _earn(address provider, uint256 amount) private {
        vm.startPrank(address(jobs));
        escrow.lock(requester, amount, _noPermit());
        escrow.pay(requester, provider, amount, 0, 0, 1, true);
        vm.stopPrank();
    }

    function _revokeAllowance() private {
        vm.prank(requester);
        token.approve(address(escrow), 0);
    }
}
