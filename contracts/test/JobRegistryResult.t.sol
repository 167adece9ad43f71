// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../interfaces/IEscrow.sol";
import {Batch, BatchState, IJobRegistry, Job, JobState, Result, Submission} from "../interfaces/IJobRegistry.sol";
import {IJobRules} from "../interfaces/IJobRules.sol";
import {Fixture} from "./Fixture.sol";

/// Submission, acceptance and finalisation.
contract JobRegistryResultTest is Fixture {
    Job private job;
    bytes32 private id;

    function setUp() public override {
        super.setUp();
        (job, id) = _posted();
    }

    function test_submit_ofSeveralBatchesOpensTheirWindows() public {
        _lease(alice, job, _list(0, 2));
        Result[] memory results = new Result[](2);
        (results[0], results[1]) = (_result(0, 11), _result(2, 22));
        uint32 finalAt = uint32(block.timestamp) + WINDOW;
        for (uint256 i = 0; i < 2; ++i) {
            Result memory r = results[i];
            vm.expectEmit(address(jobs));
            emit IJobRegistry.ResultSubmitted(id, alice, r.batch, job.maxPrice, r.root, r.fuel, r.outputs, finalAt);
        }
        vm.prank(alice);
        jobs.submit(job, results);
        Batch memory batch = jobs.batchState(job, 2);
        assertEq(uint8(batch.state), uint8(BatchState.Submitted));
        assertEq(batch.submission, _submissionHash(_submission(alice, job, 2, 22)));
        assertEq(batch.time, finalAt);
        assertEq(_lockedStake(alice), 3 * (_worst(job, 4) + _worst(job, 2)), "locked until it is final");
    }

    function test_submit_takesFuelUpToTheLimitOfTheBatchsOwnSize() public {
        _lease(alice, job, _list(0, 2));
        uint64 limit = 2 * job.fuelLimit;
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.FuelAboveLimit.selector, 2, limit + 1, limit));
        _submit(alice, job, 2, limit + 1);
        _submit(alice, job, 2, limit);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.FuelAboveLimit.selector, 0, 2 * limit + 1, 2 * limit));
        _submit(alice, job, 0, 2 * limit + 1);
        _submit(alice, job, 0, 2 * limit);
    }

    function test_submit_refusesNothingEmptyRootsAndUnknownBatches() public {
        _lease(alice, job, _list(0));
        vm.startPrank(alice);
        vm.expectRevert(IJobRegistry.NothingGiven.selector);
        jobs.submit(job, new Result[](0));
        Result[] memory results = _results(0, 1);
        results[0].root = 0;
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.EmptyRoot.selector, 0));
        jobs.submit(job, results);
        results[0].batch = 3;
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NoSuchBatch.selector, 3, 3));
        jobs.submit(job, results);
    }

    function test_submit_isForTheHolderAndOnce() public {
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, alice));
        _submit(alice, job, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, stranger));
        _submit(stranger, job, 0, 1);
        _lease(alice, job, _list(0));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, bob));
        _submit(bob, job, 0, 1);
        _submit(alice, job, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Submitted));
        _submit(alice, job, 0, 2);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Settled));
        _submit(alice, job, 0, 2);
    }

    function test_submit_ofTheSameBatchTwiceInOneCallIsRefused() public {
        _lease(alice, job, _list(0));
        Result[] memory results = new Result[](2);
        (results[0], results[1]) = (_result(0, 11), _result(0, 22));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Submitted));
        vm.prank(alice);
        jobs.submit(job, results);
    }

    // Late results

    function test_lateSubmit_countsWhileNobodyExpiredTheLease() public {
        _lease(alice, job, _list(0));
        _passLease();
        _submit(alice, job, 0, 5);
        assertEq(escrow.balanceOf(alice).stake, STAKE);
    }

    function test_lateSubmit_whileTheBatchIsOpenLocksStakeAgain() public {
        _lease(alice, job, _list(0));
        _passLease();
        _expire(job, _list(0));
        assertEq(_lockedStake(alice), 0);
        _submit(alice, job, 0, 5);
        assertEq(_lockedStake(alice), 3 * _worst(job, 4));
        assertEq(jobs.jobState(id).open, 2);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        assertEq(_earned(alice), _price(job, 5));
    }

    function test_lateSubmit_ofSeveralOpenBatchesCountsEach() public {
        _lease(alice, job, _list(0, 1));
        _passLease();
        _expire(job, _list(0, 1));
        assertEq(jobs.jobState(id).open, 3);
        Result[] memory results = new Result[](2);
        (results[0], results[1]) = (_results(0, 5)[0], _results(1, 6)[0]);
        vm.prank(alice);
        jobs.submit(job, results);
        assertEq(jobs.jobState(id).open, 1);
    }

    function test_lateSubmit_beforeTheSuccessorIsActivePaysTheFormerHolder() public {
        _lease(alice, job, _list(0));
        _passLease();
        _lease(bob, job, _list(0));
        uint40 active = uint40(block.number) + SUCCESSOR_DELAY;
        vm.roll(active - 1);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotYetActive.selector, 0, active));
        _submit(bob, job, 0, 5);
        _submit(alice, job, 0, 5);
        assertEq(_lockedStake(bob), 0);
        assertEq(escrow.balanceOf(bob).stake, STAKE);
        assertEq(_lockedStake(alice), 3 * _worst(job, 4));
        vm.roll(active);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Submitted));
        _submit(bob, job, 0, 5);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        assertEq(_earned(alice), _price(job, 5));
        assertEq(_earned(bob), 0);
        assertEq(reputation.providerRecord(bob).expired, 0);
    }

    /// Until its successor is active the batch is the former holder's, and nobody else's.
    function test_lateSubmit_isForTheFormerHolderAlone() public {
        _lease(alice, job, _list(0));
        _passLease();
        _lease(bob, job, _list(0));
        for (uint256 i = 0; i < 2; ++i) {
            address other = [carol, stranger][i];
            vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, other));
            _submit(other, job, 0, 5);
        }
        _submit(alice, job, 0, 5);
    }

    function test_lateSubmit_isRefusedOnceTheSuccessorIsActive() public {
        _lease(alice, job, _list(0));
        _passLease();
        _lease(bob, job, _list(0));
        vm.roll(block.number + SUCCESSOR_DELAY);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, alice));
        _submit(alice, job, 0, 5);
        _submit(bob, job, 0, 5);
    }

    /// Rule 2: whenever it is, of former holder and successor one alone could submit, so that neither can copy the other's plain result.
    function testFuzz_anyBlock_hasOneAccountThatMayDeliver(uint256 blocks, uint256 time) public {
        _lease(alice, job, _list(0));
        _passLease();
        _lease(bob, job, _list(0));
        blocks = bound(blocks, 0, 2 * uint256(SUCCESSOR_DELAY));
        vm.roll(block.number + blocks);
        vm.warp(block.timestamp + bound(time, 0, 2 * LEASE));
        address[2] memory order = blocks < SUCCESSOR_DELAY ? [alice, bob] : [bob, alice];
        vm.expectRevert();
        _submit(order[1], job, 0, 5);
        _submit(order[0], job, 0, 5);
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Submitted));
    }

    /// Rule 2: the copier takes the expired lease when it sees the straggler's result, and sends it with a higher tip.
    function test_copiedStragglerResult_doesNotPayTheCopier() public {
        _lease(alice, job, _list(0));
        _passLease();
        // One block, the copier first: expire and lease, then the same result.
        _lease(bob, job, _list(0));
        vm.expectPartialRevert(IJobRegistry.NotYetActive.selector);
        _submit(bob, job, 0, 5);
        _submit(alice, job, 0, 5);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        assertEq(_earned(alice), _price(job, 5));
        assertEq(_earned(bob), 0);
    }

    /// As above, where the lease is so short that the copier's own runs out before it is active.
    function test_copiedStragglerResult_doesNotPayACopierWhoseShortLeaseExpired() public {
        Job memory quick = _job();
        (quick.nonce, quick.leaseSeconds) = (2, 5);
        _post(quick);
        _lease(alice, quick, _list(0));
        vm.warp(block.timestamp + 6);
        _lease(bob, quick, _list(0));
        vm.warp(block.timestamp + 6);
        vm.roll(block.number + 1);
        _expire(quick, _list(0));
        assertEq(jobs.batchState(quick, 0).provider, alice);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, bob));
        _submit(bob, quick, 0, 5);
        _lease(bob, quick, _list(0));
        vm.expectPartialRevert(IJobRegistry.NotYetActive.selector);
        _submit(bob, quick, 0, 5);
        _submit(alice, quick, 0, 5);
    }

    function test_expiry_ofAnActiveSuccessorMakesItTheFormerHolder() public {
        _lease(alice, job, _list(0));
        _passLease();
        _lease(bob, job, _list(0));
        vm.roll(block.number + SUCCESSOR_DELAY);
        _passLease();
        _expire(job, _list(0));
        assertEq(jobs.batchState(job, 0).provider, bob);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, alice));
        _submit(alice, job, 0, 5);
        _submit(bob, job, 0, 5);
    }

    function test_lateSubmit_needsFreeStakeAndNoExit() public {
        _lease(alice, job, _list(0));
        _passLease();
        _expire(job, _list(0));
        vm.prank(alice);
        providers.requestExit();
        vm.expectPartialRevert(IEscrow.Exiting.selector);
        _submit(alice, job, 0, 5);
    }

    // Acceptance

    function test_accept_paysExactlyTheGivenBatches() public {
        _lease(alice, job, _list(0, 1, 2));
        _submit(alice, job, 0, 10);
        _submit(alice, job, 1, 2e9);
        _submit(alice, job, 2, 30);
        uint256 payment = _price(job, 2e9);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.BatchSettled(id, alice, 1, payment, _worst(job, 4) - payment, true);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(1)));
        assertEq(_earned(alice), payment);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0, 2)));
        assertEq(_earned(alice), payment + _price(job, 10) + _price(job, 30));
        assertEq(_available(requester), rules.depositOf(job, _spec()) - _earned(alice));
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(true, false, 0)));
        assertEq(_lockedStake(alice), 0);
        assertEq(reputation.requesterRecord(requester).accepted, 3);
        assertEq(reputation.providerRecord(alice).checks, 0);
    }

    function test_accept_refusesNothingAndBatchesOutsideTheJob() public {
        _lease(alice, job, _list(2));
        _submit(alice, job, 2, 1);
        vm.startPrank(requester);
        vm.expectRevert(IJobRegistry.NothingGiven.selector);
        jobs.accept(job, new Submission[](0));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NoSuchBatch.selector, 3, 3));
        jobs.accept(job, _standing(job, _list(2, 3)));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NoSuchBatch.selector, type(uint32).max, 3));
        jobs.accept(job, _standing(job, _list(type(uint32).max)));
        jobs.accept(job, _standing(job, _list(2)));
        assertEq(uint8(_state(job, 2)), uint8(BatchState.Settled));
    }

    /// Only the very submission that stands is paid: its hash covers each field.
    function test_settling_refusesEveryOtherSubmission() public {
        _lease(alice, job, _list(0, 1));
        _submit(alice, job, 0, 10);
        _submit(alice, job, 1, 10);
        Submission memory given = _submission(alice, job, 0, 10);
        given.provider = bob;
        _expectWrong(given);
        given = _submission(alice, job, 0, 10);
        given.price += 1;
        _expectWrong(given);
        given = _submission(alice, job, 0, 10);
        given.root = bytes32(uint256(given.root) ^ 1);
        _expectWrong(given);
        given = _submission(alice, job, 0, 10);
        given.fuel += 1;
        _expectWrong(given);
        // Batch 1 has the same provider, price and fuel.
        given = _submission(alice, job, 1, 10);
        given.batch = 0;
        _expectWrong(given);
    }

    function _expectWrong(Submission memory given) private {
        Submission[] memory list = new Submission[](1);
        list[0] = given;
        bytes memory refusal = abi.encodeWithSelector(IJobRegistry.WrongSubmission.selector, 0);
        vm.expectRevert(refusal);
        vm.prank(requester);
        jobs.accept(job, list);
        vm.warp(block.timestamp + WINDOW);
        vm.expectRevert(refusal);
        jobs.finalise(job, list);
    }

    function test_accept_takesBatchesFarApart() public {
        Job memory wide = _job();
        (wide.nonce, wide.taskCount, wide.batchSize) = (2, 300, 1);
        _post(wide);
        _lease(alice, wide, _list(0, 255, 299));
        _submit(alice, wide, 255, 1);
        _submit(alice, wide, 299, 1);
        vm.prank(requester);
        jobs.accept(wide, _standing(wide, _list(299, 255)));
        assertEq(uint8(_state(wide, 255)), uint8(BatchState.Settled));
        assertEq(uint8(_state(wide, 299)), uint8(BatchState.Settled));
        assertEq(uint8(_state(wide, 0)), uint8(BatchState.Leased));
    }

    function test_accept_isForTheRequesterAndSubmittedBatchesOnly() public {
        _lease(alice, job, _list(0));
        vm.startPrank(requester);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Leased));
        jobs.accept(job, _standing(job, _list(0)));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Open));
        jobs.accept(job, _standing(job, _list(1)));
        vm.stopPrank();
        _submit(alice, job, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotRequester.selector, alice, requester));
        vm.prank(alice);
        jobs.accept(job, _standing(job, _list(0)));
        vm.startPrank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Settled));
        jobs.accept(job, _standing(job, _list(0)));
    }

    function test_accept_worksAfterTheWindowToo() public {
        _lease(alice, job, _list(0));
        _submit(alice, job, 0, 1);
        vm.warp(block.timestamp + 10 * WINDOW);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        assertEq(reputation.requesterRecord(requester).accepted, 1);
    }

    // Finalisation

    function test_finalise_byAnyoneAfterTheWindowPays() public {
        _lease(alice, job, _list(0, 1));
        _submit(alice, job, 0, 10);
        _submit(alice, job, 1, 20);
        uint32 finalAt = uint32(block.timestamp) + WINDOW;
        vm.warp(finalAt - 1);
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WindowOpen.selector, 0, finalAt));
        jobs.finalise(job, _standing(job, _list(0, 1)));
        vm.warp(finalAt);
        jobs.finalise(job, _standing(job, _list(0, 1)));
        assertEq(_earned(alice), _price(job, 10) + _price(job, 20));
        assertEq(reputation.requesterRecord(requester).timedOut, 2);
        assertEq(reputation.requesterRecord(requester).accepted, 0);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Settled));
        jobs.finalise(job, _standing(job, _list(0)));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 2, BatchState.Open));
        jobs.finalise(job, _standing(job, _list(2)));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NoSuchBatch.selector, 3, 3));
        jobs.finalise(job, _standing(job, _list(3)));
    }

    function test_finaliseExpireAndRelease_refuseNothing() public {
        vm.expectRevert(IJobRegistry.NothingGiven.selector);
        jobs.finalise(job, new Submission[](0));
        vm.expectRevert(IJobRegistry.NothingGiven.selector);
        jobs.expire(job, new uint32[](0));
        vm.expectRevert(IJobRegistry.NothingGiven.selector);
        vm.prank(alice);
        jobs.release(job, new uint32[](0));
    }

    /// Batches of two providers in turn: each change of provider pays the run before it, and nobody is paid another's.
    function test_accept_ofSeveralProvidersInTurnPaysEach() public {
        _lease(alice, job, _list(0, 2));
        _lease(bob, job, _list(1));
        _submit(alice, job, 0, 1e9);
        _submit(bob, job, 1, 2e9);
        _submit(alice, job, 2, 3e9);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0, 1, 2)));
        assertEq(_earned(alice), _price(job, 1e9) + _price(job, 3e9));
        assertEq(_earned(bob), _price(job, 2e9));
        assertEq(_lockedStake(alice) + _lockedStake(bob), 0);
        assertEq(_locked(requester), 0);
        assertEq(_available(requester), rules.depositOf(job, _spec()) - _earned(alice) - _earned(bob));
    }

    /// What a further batch costs rests on it.
    function test_accept_paysBatchesInARowAtOnce() public {
        _lease(alice, job, _list(0, 1, 2));
        for (uint32 batch = 0; batch < 3; ++batch) {
            _submit(alice, job, batch, 1e9);
        }
        vm.expectCall(address(escrow), abi.encodeWithSelector(IEscrow.pay.selector), 1);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0, 1, 2)));
        assertEq(_earned(alice), 3 * _price(job, 1e9));
    }

    function test_finalise_refusesTheSameBatchTwiceInOneCall() public {
        _lease(alice, job, _list(0));
        _submit(alice, job, 0, 10);
        vm.warp(block.timestamp + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Settled));
        jobs.finalise(job, _standing(job, _list(0, 0)));
    }

    function test_earnings_goToThePayoutAddressOfTheMomentOfWithdrawing() public {
        _lease(alice, job, _list(0));
        _submit(alice, job, 0, 10);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        vm.prank(_payout(alice));
        providers.setPayout(alice, carol);
        uint256 before = token.balanceOf(carol);
        vm.prank(alice);
        assertEq(providers.withdraw(alice), _price(job, 10));
        assertEq(token.balanceOf(carol), before + _price(job, 10));
        assertEq(token.balanceOf(_payout(alice)), 0);
        assertEq(_earned(alice) + _available(alice), 0);
    }

    function test_resultWithoutFuel_isPaidNothingAndRefundedWhole() public {
        _lease(alice, job, _list(2));
        _submit(alice, job, 2, 0);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(2)));
        assertEq(_earned(alice), 0);
        assertEq(_available(requester), _worst(job, 2));
    }

    function test_requesterThatIsAProvider_isPaidOutOfItsOwnDeposit() public {
        _register(requester, STAKE);
        uint256 all = _locked(requester);
        _lease(requester, job, _list(0));
        _submit(requester, job, 0, 10);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        assertEq(_locked(requester), all - _worst(job, 4));
        assertEq(_available(requester), _worst(job, 4) - _price(job, 10));
        assertEq(_earned(requester), _price(job, 10));
    }
}
