// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {stdError} from "forge-std/Test.sol";

import {IEscrow, Permit} from "../interfaces/IEscrow.sol";
import {Job} from "../interfaces/IJobRegistry.sol";
import {OddTokenFixture} from "./OddTokenFixture.sol";
import {
    BlockingToken,
    BombToken,
    DenyingToken,
    FalseToken,
    FeeToken,
    GreedyToken,
    HugeToken,
    LyingToken,
    MostToken,
    NarrowToken,
    NoZeroToken,
    PausingToken,
    PermitlessToken,
    RebasingToken,
    SilentToken,
    SwallowingToken,
    TakingToken
} from "./mocks/OddTokens.sol";

contract OddTokensTest is OddTokenFixture {
    // What arrives

    function test_feeOnTransfer_depositsCountWhatArrives() public {
        _use(type(FeeToken).creationCode);
        assertEq(escrow.balanceOf(alice).stake, STAKE - STAKE / 100);
        vm.prank(requester);
        assertEq(escrow.deposit(bob, 1000), 990);
        assertEq(_available(bob), 990);
        _assertConserved();
    }

    function test_feeOnTransfer_isRefusedWhereAnExactAmountIsLocked() public {
        _use(type(FeeToken).creationCode);
        Job memory job = _job();
        uint256 deposit = rules.depositOf(job, _spec());
        bytes memory refusal = abi.encodeWithSelector(IEscrow.ReceivedLess.selector, deposit - deposit / 100, deposit);
        vm.expectRevert(refusal);
        _post(job);
        vm.startPrank(bob);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ReceivedLess.selector, STAKE - STAKE / 100, STAKE));
        providers.register(bob, _contact(), STAKE, _noPermit());
        vm.startPrank(alice);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ReceivedLess.selector, 99, 100));
        providers.addStake(100, _noPermit());
        vm.stopPrank();
        // What is in the Escrow already needs no transfer.
        vm.prank(requester);
        escrow.deposit(requester, 2 * deposit);
        _wholeLife();
        _burnRest();
    }

    function test_feeThatBegins_afterTheDepositBurdensWhoWithdraws() public {
        _use(type(FeeToken).creationCode);
        FeeToken(address(token)).set(0, 0);
        vm.prank(bob);
        escrow.deposit(bob, 1000);
        FeeToken(address(token)).set(5000, 0);
        uint256 before = token.balanceOf(bob);
        vm.prank(bob);
        escrow.withdraw(1000);
        assertEq(token.balanceOf(bob), before + 500);
        _assertConserved();
    }

    function test_bonusOnTransfer_isTheDepositors() public {
        _use(type(FeeToken).creationCode);
        FeeToken(address(token)).set(0, 100);
        vm.prank(bob);
        assertEq(escrow.deposit(bob, 1000), 1010);
        Job memory job = _job();
        uint256 deposit = rules.depositOf(job, _spec());
        _post(job);
        assertEq(_locked(requester), deposit);
        assertEq(_available(requester), deposit / 100);
        _assertConserved();
    }

    function test_mostOfTransferFrom_isWhatItMoved() public {
        _use(type(MostToken).creationCode);
        vm.prank(bob);
        assertEq(escrow.deposit(bob, type(uint256).max), 2 * STAKE);
        assertEq(_available(bob), 2 * STAKE);
        vm.prank(bob);
        escrow.withdraw(2 * STAKE);
        // A lock is of an exact amount.
        uint256 all = token.balanceOf(requester);
        vm.prank(address(jobs));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ReceivedLess.selector, all, type(uint256).max));
        escrow.lock(requester, type(uint256).max, _noPermit());
        _wholeLife();
        _burnRest();
    }

    function test_lyingToken_givesNothingForNothing() public {
        _use(type(LyingToken).creationCode);
        LyingToken(address(token)).lie();
        vm.prank(bob);
        assertEq(escrow.deposit(bob, 1000), 0);
        assertEq(_available(bob), 0);
        vm.expectPartialRevert(IEscrow.ReceivedLess.selector);
        vm.prank(bob);
        providers.register(bob, _contact(), STAKE, _noPermit());
        vm.expectPartialRevert(IEscrow.ReceivedLess.selector);
        _post(_job());
        _assertConserved();
    }

    function test_tokenThatTakesOnTheWay_isRefused() public {
        _use(type(TakingToken).creationCode);
        TakingToken(address(token)).take(1001);
        vm.expectRevert(stdError.arithmeticError);
        vm.prank(bob);
        escrow.deposit(bob, 1000);
        _assertConserved();
    }

    // What it answers

    function test_noReturnValue_worksThroughout() public {
        _use(type(SilentToken).creationCode);
        _wholeLife();
        _burnRest();
    }

    function test_falseInSuccess_isRefused() public {
        // Not even alice's registration gets that far.
        vm.expectPartialRevert(SafeERC20.SafeERC20FailedOperation.selector);
        this.use(type(DenyingToken).creationCode);
    }

    function test_falseInFailure_isRefused() public {
        _use(type(FalseToken).creationCode);
        bytes memory refusal = abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, token);
        vm.startPrank(stranger);
        vm.expectRevert(refusal);
        escrow.deposit(stranger, 1);
        token.approve(address(escrow), 1);
        vm.expectRevert(refusal);
        escrow.deposit(stranger, 1);
        vm.stopPrank();
        _assertConserved();
        _wholeLife();
        _burnRest();
    }

    function test_falseInFailure_keepsTheBooksWhenTheEscrowCannotPay() public {
        _use(type(FalseToken).creationCode);
        (, uint256 earned) = _earn();
        vm.mockCall(address(token), abi.encodeWithSelector(IERC20.transfer.selector), abi.encode(false));
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, token));
        vm.prank(alice);
        providers.withdraw(alice);
        assertEq(_earned(alice), earned);
        uint256 available = _available(requester);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, token));
        vm.prank(requester);
        escrow.withdraw(available);
        assertEq(_available(requester), available);
        _assertConserved();
    }

    // What it refuses

    function test_revertOnZero_stopsOnlyMovesOfNothing() public {
        _use(type(NoZeroToken).creationCode);
        vm.startPrank(bob);
        vm.expectRevert(NoZeroToken.Zero.selector);
        escrow.deposit(bob, 0);
        vm.expectRevert(NoZeroToken.Zero.selector);
        escrow.withdraw(0);
        vm.stopPrank();
        vm.expectRevert(NoZeroToken.Zero.selector);
        vm.prank(alice);
        providers.withdraw(alice);
        vm.expectRevert(NoZeroToken.Zero.selector);
        escrow.burn();
        // A lock that the available balance covers moves nothing, nor does one of nothing.
        vm.prank(alice);
        providers.addStake(0, _noPermit());
        _wholeLife();
        _burnRest();
    }

    /// A payout address that the token blocks blocks nobody else, and can still name another.
    function test_blockedPayoutAddress_blocksNobodyElse() public {
        _use(type(BlockingToken).creationCode);
        _join(bob);
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        _lease(bob, job, _list(1));
        _submit(alice, job, 0, 1e9);
        _submit(bob, job, 1, 1e9);
        BlockingToken(address(token)).setBlocked(_payout(alice), true);
        BlockingToken(address(token)).setBlocked(alice, true);
        // One call pays both: payment moves no tokens.
        vm.warp(block.timestamp + WINDOW);
        jobs.finalise(job, _standing(job, _list(0, 1)));
        vm.expectRevert(abi.encodeWithSelector(BlockingToken.Blocked.selector, _payout(alice)));
        vm.prank(alice);
        providers.withdraw(alice);
        vm.prank(bob);
        providers.withdraw(bob);
        assertEq(token.balanceOf(_payout(bob)), _price(job, 1e9));
        vm.startPrank(requester);
        jobs.cancel(job);
        escrow.withdraw(_available(requester));
        vm.stopPrank();
        _assertConserved();
        // The earnings wait for an address that may receive them.
        assertEq(_earned(alice), _price(job, 1e9));
        vm.startPrank(_payout(alice));
        providers.setPayout(alice, carol);
        vm.stopPrank();
        vm.prank(alice);
        providers.withdraw(alice);
        assertEq(token.balanceOf(carol), _price(job, 1e9));
        // Exit moves none either; the blocked address finds its stake when it may move it.
        vm.prank(carol);
        providers.setPayout(alice, _payout(alice));
        vm.startPrank(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        vm.stopPrank();
        assertEq(_available(_payout(alice)), STAKE);
        vm.expectRevert(abi.encodeWithSelector(BlockingToken.Blocked.selector, _payout(alice)));
        vm.prank(_payout(alice));
        escrow.withdraw(STAKE);
        BlockingToken(address(token)).setBlocked(_payout(alice), false);
        vm.prank(_payout(alice));
        escrow.withdraw(STAKE);
        _assertConserved();
    }

    function test_blockedRequester_cannotHoldUpItsProviders() public {
        _use(type(BlockingToken).creationCode);
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        _submit(alice, job, 0, 1e9);
        BlockingToken(address(token)).setBlocked(requester, true);
        vm.warp(block.timestamp + WINDOW);
        jobs.finalise(job, _standing(job, _list(0)));
        vm.prank(alice);
        assertEq(providers.withdraw(alice), _price(job, 1e9));
        _assertConserved();
    }

    function test_pausedToken_delaysWithdrawalsAndNothingElse() public {
        _use(type(PausingToken).creationCode);
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0, 1));
        PausingToken(address(token)).setPaused(true);
        _submit(alice, job, 0, 1e9);
        _passLease();
        _expire(job, _list(1));
        jobs.finalise(job, _standing(job, _list(0)));
        vm.startPrank(requester);
        jobs.cancel(job);
        uint256 available = _available(requester);
        vm.expectRevert(PausingToken.Paused.selector);
        escrow.withdraw(available);
        // A job that the available balance pays for needs no transfer.
        job.nonce = 2;
        job.taskCount = 4;
        vm.stopPrank();
        _post(job);
        vm.prank(requester);
        jobs.cancel(job);
        vm.startPrank(alice);
        vm.expectRevert(PausingToken.Paused.selector);
        providers.withdraw(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        vm.stopPrank();
        vm.expectRevert(PausingToken.Paused.selector);
        escrow.burn();
        assertEq(_available(requester), available);
        assertGt(escrow.burnable(), 0);
        _assertConserved();
        PausingToken(address(token)).setPaused(false);
        vm.prank(requester);
        escrow.withdraw(available);
        uint256 left = _available(_payout(alice));
        vm.prank(_payout(alice));
        escrow.withdraw(left);
        _burnRest();
    }

    // What changes by itself

    /// The books cannot follow: who comes first is paid, and the last go short until somebody makes up for it.
    function test_rebaseDown_leavesTheLastShortAndBreaksNothingElse() public {
        _use(type(RebasingToken).creationCode);
        vm.prank(requester);
        escrow.deposit(requester, 100);
        vm.prank(bob);
        escrow.deposit(bob, 100);
        RebasingToken(address(token)).shrink(address(escrow), STAKE + 50);
        // New deposits are still what arrives.
        vm.prank(bob);
        assertEq(escrow.deposit(bob, 10), 10);
        vm.prank(requester);
        escrow.withdraw(100);
        vm.startPrank(bob);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, address(escrow), 60, 110)
        );
        escrow.withdraw(110);
        escrow.withdraw(60);
        assertEq(_available(bob), 50, "still owed");
        // Whoever sends tokens without a call makes the others whole.
        assertTrue(token.transfer(address(escrow), STAKE + 50));
        escrow.withdraw(50);
        vm.stopPrank();
        _assertConserved();
    }

    function test_rebaseUp_isNobodys() public {
        _use(type(RebasingToken).creationCode);
        RebasingToken(address(token)).grow(address(escrow), 1000);
        vm.prank(bob);
        assertEq(escrow.deposit(bob, 10), 10);
        assertEq(token.balanceOf(address(escrow)), _booked() + 1000);
    }

    // Permits

    function test_noPermit_needsAnAllowance() public {
        _use(type(PermitlessToken).creationCode);
        _permitCountsForNothing();
        // Nor can it burn: bonds wait.
        _wholeLife();
        uint256 burnable = escrow.burnable();
        vm.expectRevert();
        escrow.burn();
        assertEq(escrow.burnable(), burnable);
    }

    /// As WETH does: the permit seems to succeed, so does the burn. The first is not relied on; the second leaves the bonds in the
    /// Escrow for good, in no book.
    function test_swallowedPermit_needsAnAllowance() public {
        _use(type(SwallowingToken).creationCode);
        _permitCountsForNothing();
        _wholeLife();
        uint256 burnable = escrow.burnable();
        assertEq(escrow.burn(), burnable);
        assertEq(escrow.burnable(), 0);
        assertEq(token.balanceOf(address(escrow)), burnable);
    }

    function test_greedyPermit_needsAnAllowance() public {
        _use(type(GreedyToken).creationCode);
        _permitCountsForNothing();
        _wholeLife();
        _burnRest();
    }

    function _permitCountsForNothing() private {
        Permit memory p = Permit(1000, type(uint256).max, 27, bytes32(uint256(1)), bytes32(uint256(2)));
        uint256 before = token.balanceOf(bob);
        vm.startPrank(bob);
        // A limit, for the greedy: of what is left, a 64th must do.
        escrow.depositWithPermit{gas: 8_000_000}(bob, 1000, p);
        assertEq(_available(bob), 1000, "by allowance");
        token.approve(address(escrow), 999);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(escrow), 999, 1000)
        );
        escrow.depositWithPermit{gas: 8_000_000}(bob, 1000, p);
        escrow.withdraw(1000);
        vm.stopPrank();
        assertEq(token.balanceOf(bob), before);
        _assertConserved();
    }

    // How much

    function test_hugeAmounts_fitOrAreRefused() public {
        _use(type(HugeToken).creationCode);
        vm.prank(holder);
        assertTrue(token.transfer(bob, 1 << 150));
        vm.startPrank(bob);
        vm.expectRevert(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 96, 1 << 96));
        escrow.deposit(bob, 1 << 96);
        assertEq(escrow.deposit(bob, type(uint96).max), type(uint96).max);
        // A balance never wraps.
        vm.expectRevert(stdError.arithmeticError);
        escrow.deposit(bob, 1);
        assertEq(_available(bob), type(uint96).max);
        escrow.withdraw(type(uint96).max);
        vm.stopPrank();
        _assertConserved();
        _wholeLife();
        _burnRest();
    }

    /// Earnings are 88 bits wide, which this deployment's own token cannot fill.
    function test_hugeEarnings_areRefusedUntilTheyAreWithdrawn() public {
        _use(type(HugeToken).creationCode);
        vm.prank(holder);
        assertTrue(token.transfer(requester, 1 << 100));
        vm.startPrank(address(jobs));
        escrow.lock(requester, 1 << 89, _noPermit());
        vm.expectRevert(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 88, 1 << 88));
        escrow.pay(requester, alice, 1 << 88, 0, 0, 1, true);
        escrow.pay(requester, alice, (1 << 88) - 1, 0, 0, 1, true);
        vm.expectRevert(stdError.arithmeticError);
        escrow.pay(requester, alice, 1, 0, 0, 1, true);
        vm.stopPrank();
        vm.prank(alice);
        providers.withdraw(alice);
        vm.prank(address(jobs));
        escrow.pay(requester, alice, 1, 0, 0, 1, true);
        _assertConserved();
    }

    function test_narrowToken_worksThroughout() public {
        _use(type(NarrowToken).creationCode);
        vm.expectRevert(NarrowToken.TooMuch.selector);
        vm.prank(bob);
        escrow.deposit(bob, 1 << 96);
        _wholeLife();
        _burnRest();
    }

    // What it answers too much

    function test_returndataBombs_inSuccessChangeNothing() public {
        _use(type(BombToken).creationCode);
        vm.prank(requester);
        token.approve(address(escrow), 0);
        bytes4[4] memory selectors = [
            IERC20.transfer.selector,
            IERC20.transferFrom.selector,
            IERC20.balanceOf.selector,
            IERC20Permit.permit.selector
        ];
        for (uint256 i = 0; i < selectors.length; ++i) {
            Permit memory p = _permit(requester, requesterKey, 1000, block.timestamp);
            BombToken(address(token)).arm(selectors[i], false);
            uint256 gas = gasleft();
            vm.startPrank(requester);
            assertEq(escrow.depositWithPermit(requester, 1000, p), 1000);
            escrow.withdraw(1000);
            vm.stopPrank();
            // A megabyte of memory costs the token 2.2 million, which is all: twice for balanceOf.
            assertLt(gas - gasleft(), 5_000_000);
            BombToken(address(token)).arm(0, false);
            _assertConserved();
        }
    }

    /// Revert data of a move goes to the caller, whose gas it is; that of a permit goes nowhere.
    function test_returndataBombs_inFailureAreTheCallersAffair() public {
        _use(type(BombToken).creationCode);
        Permit memory p = _permit(requester, requesterKey, 1000, block.timestamp);
        BombToken(address(token)).arm(IERC20Permit.permit.selector, true);
        uint256 gas = gasleft();
        vm.prank(requester);
        assertEq(escrow.depositWithPermit(requester, 1000, p), 1000, "by allowance");
        assertLt(gas - gasleft(), 2_500_000);

        (Job memory job, uint256 earned) = _earn();
        BombToken(address(token)).arm(IERC20.transfer.selector, true);
        vm.prank(alice);
        (bool ok,) = address(providers).call{gas: 20_000_000}(abi.encodeCall(providers.withdraw, (alice)));
        assertFalse(ok);
        assertEq(_earned(alice), earned);
        // Nobody else's call passes by there.
        _lease(alice, job, _list(1));
        _submit(alice, job, 1, 1e9);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(1)));
        assertEq(_earned(alice), 2 * earned);
        BombToken(address(token)).arm(0, false);
        _assertConserved();
    }

    function use(bytes memory code) external {
        _use(code);
    }
}
