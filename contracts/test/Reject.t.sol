// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settings} from "../interfaces/IDeployment.sol";
import {IDisputes} from "../interfaces/IDisputes.sol";
import {Batch, BatchState, IJobRegistry, Job, JobState, Submission} from "../interfaces/IJobRegistry.sol";
import {Permit} from "../interfaces/IEscrow.sol";
import {DisputeFixture} from "./DisputeFixture.sol";

/// Rule 11: without an arbiter a requester can refuse to pay, and gains nothing by it.
contract RejectTest is DisputeFixture {
    Job private job;
    bytes32 private id;
    Submission private given;
    uint256 private payment;
    /// A tenth of the batch's worst case: a first expiry's.
    uint256 private bond;

    function _settings() internal view override returns (Settings memory settings) {
        settings = super._settings();
        settings.arbiter = address(0);
    }

    function setUp() public override {
        super.setUp();
        (job, id) = _posted();
        given = _submitted(alice, job, 0, 2e9);
        payment = _price(job, 2e9);
        bond = _worst(job, 4) * BOND_BPS / 10_000;
    }

    function test_reject_burnsPaymentAndBondsAndEndsTheBatch() public conserved {
        uint256 before = _wealth(requester);
        uint256 refund = _worst(job, 4) - payment;
        vm.expectEmit(address(jobs));
        emit IJobRegistry.BatchRejected(id, alice, 0, payment, refund, bond);
        _reject(given);
        assertEq(_wealth(requester), before - payment - CHALLENGE_BOND);
        assertEq(escrow.balanceOf(alice).stake, STAKE - bond);
        assertEq(_lockedStake(alice), 0);
        assertEq(_earned(alice), 0);
        assertEq(escrow.burnable(), payment + CHALLENGE_BOND + bond);
        Batch memory batch = jobs.batchState(job, 0);
        assertEq(uint8(batch.state), uint8(BatchState.Settled));
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(true, false, 2)), "not open again");
        assertEq(_locked(requester), _worst(job, 4) + _worst(job, 2));
        assertEq(abi.encode(reputation.providerRecord(alice)), abi.encode(0, 0, 0, 0), "nothing was proved");
        assertEq(abi.encode(reputation.requesterRecord(requester)), abi.encode(0, 0, 0));
    }

    /// Whoever rejects pays more than who accepts, whatever the result was worth.
    function test_reject_costsTheRequesterMoreThanAccepting() public conserved {
        uint256 before = _wealth(requester);
        uint256 state = vm.snapshotState();
        vm.prank(requester);
        jobs.accept(job, _one(given));
        uint256 accepting = before - _wealth(requester);
        assertTrue(vm.revertToState(state));
        _reject(given);
        assertEq(before - _wealth(requester), accepting + CHALLENGE_BOND);
    }

    /// A requester that rejects the result of its own provider burns both sides.
    function test_reject_ofOnesOwnResultBurnsBothSides() public conserved {
        _register(requester, STAKE);
        uint256 before = _wealth(requester);
        Submission memory own = _submitted(requester, job, 1, 2e9);
        _reject(own);
        assertEq(_wealth(requester), before - payment - CHALLENGE_BOND - bond);
    }

    function test_reject_isFinal() public conserved {
        _reject(given);
        bytes memory refusal = abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Settled);
        vm.expectRevert(refusal);
        _reject(given);
        vm.expectRevert(refusal);
        _demand(job, given, 0, 0);
        vm.expectRevert(refusal);
        _lease(bob, job, _list(0));
        vm.prank(requester);
        vm.expectRevert(refusal);
        jobs.accept(job, _one(given));
        vm.warp(block.timestamp + WINDOW);
        vm.expectRevert(refusal);
        jobs.finalise(job, _one(given));
    }

    function test_reject_worksInTheLastSecondOfTheWindowAndNotAfter() public conserved {
        uint32 finalAt = uint32(block.timestamp) + WINDOW;
        vm.warp(finalAt);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WindowOver.selector, 0, finalAt));
        _reject(given);
        vm.warp(finalAt - 1);
        _reject(given);
    }

    function test_reject_isForTheRequesterOnly() public conserved {
        address[3] memory others = [alice, bob, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotRequester.selector, others[i], requester));
            vm.prank(others[i]);
            jobs.reject(job, given, _noPermit());
        }
    }

    function test_reject_ofWhatDoesNotStandIsRefused() public conserved {
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongSubmission.selector, 0));
        _reject(_submission(alice, job, 0, 2e9 + 1));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Open));
        _reject(_submission(alice, job, 1, 2e9));
        _lease(bob, job, _list(1));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Leased));
        _reject(_submission(bob, job, 1, 2e9));
    }

    function test_reject_withoutTheBondIsRefused() public conserved {
        vm.startPrank(requester);
        token.approve(address(escrow), 0);
        vm.expectRevert();
        jobs.reject(job, given, _noPermit());
        vm.stopPrank();
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Submitted));
        Permit memory permit = _permit(requester, requesterKey, CHALLENGE_BOND, block.timestamp);
        vm.prank(requester);
        jobs.reject(job, given, permit);
    }

    /// The refund of the batch may pay the bond.
    function test_reject_spendsTheRefundBeforeTokens() public conserved {
        Job memory dear = _job();
        (dear.nonce, dear.startPrice, dear.maxPrice) = (2, 6e18, 6e18);
        _post(dear);
        Submission memory cheap = _submitted(bob, dear, 0, 1);
        uint256 refund = _worst(dear, 4) - _price(dear, 1);
        uint256 before = token.balanceOf(requester);
        vm.prank(requester);
        jobs.reject(dear, cheap, _noPermit());
        assertEq(token.balanceOf(requester), before);
        assertEq(_available(requester), refund - CHALLENGE_BOND);
    }

    function test_reject_inACancelledJobBurnsTheSame() public conserved {
        vm.prank(requester);
        jobs.cancel(job);
        _reject(given);
        assertEq(_locked(requester), 0);
        assertEq(escrow.burnable(), payment + CHALLENGE_BOND + bond);
    }

    function test_challenge_isRefusedWithoutAnArbiter() public conserved {
        vm.expectRevert(IDisputes.NoArbiter.selector);
        _challenge(dave, job, given, 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotArbiter.selector, address(0xa)));
        vm.prank(address(0xa));
        disputes.rule(keccak256("any"), true, dave);
    }

    /// Demands need no arbiter; while one is open the result cannot be rejected.
    function test_demand_worksWithoutAnArbiter() public conserved {
        bytes32 caseId = _demand(job, given, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Frozen));
        _reject(given);
        vm.warp(block.timestamp + DEMAND + 1);
        _resolve(job, given);
        assertEq(_claim(caseId), DEMAND_BOND);
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Open));
    }

    function _reject(Submission memory which) private {
        vm.prank(requester);
        jobs.reject(job, which, _noPermit());
    }
}

/// Where there is an arbiter, it decides.
contract RejectWithArbiterTest is DisputeFixture {
    function test_reject_isRefusedWhereThereIsAnArbiter() public conserved {
        (Job memory job,) = _posted();
        Submission memory given = _submitted(alice, job, 0, 2e9);
        vm.expectRevert(IJobRegistry.HasArbiter.selector);
        vm.prank(requester);
        jobs.reject(job, given, _noPermit());
    }
}
