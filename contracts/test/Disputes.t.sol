// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Case, CaseState, Dispute, IDisputes, Standing, Verdict} from "../interfaces/IDisputes.sol";
import {Consent, IEscrow, Permit, Share} from "../interfaces/IEscrow.sol";
import {Batch, BatchState, IJobRegistry, Job, JobState, Submission} from "../interfaces/IJobRegistry.sol";
import {DisputeFixture} from "./DisputeFixture.sol";
import {TestArbiter} from "./mocks/TestArbiter.sol";

/// Challenges of results of one replica.
contract DisputesTest is DisputeFixture {
    Job private job;
    bytes32 private id;
    Submission private given;
    Standing private about;
    bytes32 private result;
    uint256 private deadline;

    /// Alice's result for batch 0 stands.
    function setUp() public override {
        super.setUp();
        (job, id) = _posted();
        given = _submitted(alice, job, 0, 2e9);
        about = _describe(job, given);
        result = _resultOf(about);
        deadline = about.finalAt + RULING;
    }

    // Opening

    function test_challenge_takesTheBondFreezesTheBatchAndAsksTheArbiter() public conserved {
        bytes32 expected = keccak256(abi.encode(result, dave, false, keccak256(abi.encode(uint32(2), PROOF))));
        vm.expectEmit(address(jobs));
        emit IJobRegistry.BatchFrozen(id, 0);
        vm.expectEmit(address(disputes));
        emit IDisputes.Challenged(expected, id, 0, dave, 2, PROOF, uint40(deadline));
        bytes32 caseId = _challenge(dave, job, given, 2);
        assertEq(caseId, expected);
        assertEq(token.balanceOf(dave), PURSE - CHALLENGE_BOND);
        assertEq(_available(address(disputes)), CHALLENGE_BOND);
        Batch memory batch = jobs.batchState(job, 0);
        assertEq(uint8(batch.state), uint8(BatchState.Frozen));
        assertEq(batch.time, about.finalAt, "the window is that of the result");
        assertEq(batch.submission, _submissionHash(given));
        Case memory stored = disputes.caseOf(caseId);
        assertEq(abi.encode(stored), abi.encode(Case(dave, uint40(deadline), CaseState.Open, result, 0)));
        Dispute memory dispute = disputes.disputeOf(result);
        assertEq(abi.encode(dispute), abi.encode(Dispute(about.finalAt, uint40(deadline), 1, 0, 0, 0, false)));
        assertEq(arbiter.caseId(), caseId);
        assertEq(arbiter.standing(), result);
        assertEq(arbiter.task(), 2);
        assertEq(arbiter.commitment(), PROOF);
        assertEq(arbiter.challenger(), dave);
    }

    function test_challenge_spendsTheEscrowBalanceFirst() public conserved {
        vm.startPrank(dave);
        escrow.deposit(dave, 20 * TOKEN);
        disputes.challenge(address(jobs), abi.encode(job, given), 0, PROOF, _noPermit());
        assertEq(_available(dave), 0);
        assertEq(token.balanceOf(dave), PURSE - CHALLENGE_BOND);
    }

    function test_challenge_takesAPermit() public conserved {
        Permit memory permit = _permit(requester, requesterKey, CHALLENGE_BOND, block.timestamp);
        vm.startPrank(requester);
        token.approve(address(escrow), 0);
        disputes.challenge(address(jobs), abi.encode(job, given), 0, PROOF, permit);
        assertEq(_available(address(disputes)), CHALLENGE_BOND);
    }

    function test_challenge_withoutTheBondIsRefusedAndFreezesNothing() public conserved {
        vm.expectRevert();
        _challenge(stranger, job, given, 0);
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Submitted));
    }

    function test_challenge_worksInTheLastSecondOfTheWindowAndNotAfter() public conserved {
        vm.warp(about.finalAt);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooLate.selector, about.finalAt));
        _challenge(dave, job, given, 0);
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Submitted));
        vm.warp(about.finalAt - 1);
        _challenge(dave, job, given, 0);
    }

    /// A freeze does not stretch the window for those who come later.
    function test_challenge_ofAFrozenResultNeedsTheWindowToo() public conserved {
        _challenge(dave, job, given, 0);
        vm.warp(about.finalAt);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooLate.selector, about.finalAt));
        _challenge(erin, job, given, 0);
    }

    function test_challenge_ofWhatDoesNotStandIsRefused() public conserved {
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Open));
        _challenge(dave, job, _submission(alice, job, 1, 2e9), 4);
        _lease(bob, job, _list(1));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Leased));
        _challenge(dave, job, _submission(alice, job, 1, 2e9), 4);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NoSuchBatch.selector, 3, 3));
        _challenge(dave, job, _submission(alice, job, 3, 2e9), 12);
        vm.prank(requester);
        jobs.accept(job, _one(given));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Settled));
        _challenge(dave, job, given, 0);
    }

    function test_challenge_ofAnotherResultOrJobIsRefused() public conserved {
        bytes memory refusal = abi.encodeWithSelector(IJobRegistry.WrongSubmission.selector, 0);
        Submission memory other = _submission(alice, job, 0, 2e9 + 1);
        vm.expectRevert(refusal);
        _challenge(dave, job, other, 0);
        _challenge(dave, job, given, 0);
        vm.expectRevert(refusal);
        _challenge(dave, job, other, 1);
        Job memory unknown = _job();
        unknown.nonce = 9;
        vm.expectPartialRevert(IJobRegistry.UnknownJob.selector);
        _challenge(dave, unknown, given, 0);
    }

    function test_challenge_throughAnotherContractIsRefused() public conserved {
        address[4] memory others = [address(0), address(this), address(escrow), address(disputes)];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IDisputes.NotRegistry.selector, others[i]));
            vm.prank(dave);
            disputes.challenge(others[i], abi.encode(job, given), 0, PROOF, _noPermit());
        }
    }

    function test_challenge_takesEveryLeafOfTheTreePaddingIncluded() public conserved {
        Job memory odd = _job();
        (odd.nonce, odd.taskCount) = (2, 11);
        _post(odd);
        Submission memory last = _submitted(bob, odd, 2, 1e9);
        for (uint32 task = 8; task < 12; ++task) {
            _challenge(dave, odd, last, task);
        }
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoSuchTask.selector, 12, 8, 3));
        _challenge(dave, odd, last, 12);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoSuchTask.selector, 7, 8, 3));
        _challenge(dave, odd, last, 7);
    }

    /// A tree of one leaf has no padding.
    function test_challenge_ofASingleTaskHasNoPadding() public conserved {
        Job memory single = _job();
        (single.nonce, single.taskCount) = (2, 9);
        _post(single);
        Submission memory last = _submitted(bob, single, 2, 1e9);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoSuchTask.selector, 9, 8, 1));
        _challenge(dave, single, last, 9);
        _challenge(dave, single, last, 8);
    }

    function test_challenge_twiceTheSameIsRefusedAnotherTaskOrProofIsNot() public conserved {
        bytes32 caseId = _challenge(dave, job, given, 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.CaseExists.selector, caseId));
        _challenge(dave, job, given, 0);
        _challenge(dave, job, given, 1);
        vm.prank(dave);
        disputes.challenge(address(jobs), abi.encode(job, given), 0, "another", _noPermit());
        assertEq(disputes.disputeOf(result).open, 3);
    }

    function test_arbiterThatReverts_leavesNoChallenge() public conserved {
        arbiter.refuse();
        vm.expectRevert(TestArbiter.Refused.selector);
        _challenge(dave, job, given, 0);
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Submitted));
        assertEq(token.balanceOf(dave), PURSE);
        vm.warp(about.finalAt);
        jobs.finalise(job, _one(given));
    }

    function test_arbiterThatRulesWhileItIsAsked_isHeard() public conserved {
        arbiter.upholdAtOnce();
        bytes32 caseId = _challenge(dave, job, given, 0);
        assertEq(uint8(_stateOf(caseId)), uint8(CaseState.Won));
        assertEq(disputes.disputeOf(result).open, 0);
        vm.warp(about.finalAt);
        _resolve(job, given);
        assertEq(escrow.balanceOf(alice).stake, STAKE - _lockOf(job, 4));
    }

    // Frozen

    function test_frozenBatch_isNeitherPaidNorTakenByAnyCall() public conserved {
        _challenge(dave, job, given, 0);
        vm.warp(about.finalAt + LEASE);
        bytes memory refusal = abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Frozen);
        vm.expectRevert(refusal);
        jobs.finalise(job, _one(given));
        vm.expectRevert(refusal);
        _expire(job, _list(0));
        vm.expectRevert(refusal);
        _lease(bob, job, _list(0));
        vm.startPrank(alice);
        vm.expectRevert(refusal);
        jobs.submit(job, _results(0, 3e9));
        vm.expectRevert(refusal);
        jobs.release(job, _list(0));
        vm.startPrank(requester);
        vm.expectRevert(refusal);
        jobs.accept(job, _one(given));
        uint256 refunded = _worst(job, 4) + _worst(job, 2);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.JobCancelled(id, 2, refunded);
        jobs.cancel(job);
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Frozen), "cancelling is for open batches");
        assertEq(_locked(requester), _worst(job, 4));
    }

    /// The other batches of the job go on.
    function test_frozenBatch_holdsUpNoOther() public conserved {
        Submission memory other = _submitted(bob, job, 1, 1e9);
        _challenge(dave, job, given, 0);
        vm.prank(requester);
        jobs.accept(job, _one(other));
        assertEq(_earned(bob), _price(job, 1e9));
    }

    function test_provider_cannotExitWhileItsResultIsFrozen() public conserved {
        _challenge(dave, job, given, 0);
        vm.prank(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.StakeHeld.selector, _lockOf(job, 4)));
        vm.prank(alice);
        providers.exit();
        _resolve(job, given);
        jobs.finalise(job, _one(given));
        vm.prank(alice);
        providers.exit();
    }

    // Ruling

    function test_rule_deniedSplitsTheBondBetweenDefenderAndFire() public conserved {
        bytes32 caseId = _challenge(dave, job, given, 0);
        vm.expectEmit(address(disputes));
        emit IDisputes.Ruled(caseId, false, bob);
        arbiter.rule(disputes, caseId, false, bob);
        assertEq(_available(bob), CHALLENGE_BOND / 2);
        assertEq(escrow.burnable(), CHALLENGE_BOND - CHALLENGE_BOND / 2, "the odd wei is burned");
        assertEq(_worth(address(disputes)), 0);
        assertEq(uint8(_stateOf(caseId)), uint8(CaseState.Lost));
        assertEq(disputes.lostBy(dave), 1);
        assertEq(reputation.requesterRecord(dave).lostDisputes, 1);
        vm.warp(about.finalAt);
        _resolve(job, given);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongCaseState.selector, caseId, CaseState.Lost));
        _claim(caseId);
        jobs.finalise(job, _one(given));
        assertEq(_earned(alice), _price(job, 2e9));
        assertEq(_lockedStake(alice), 0);
    }

    function test_rule_isForTheArbiterOnly() public conserved {
        bytes32 caseId = _challenge(dave, job, given, 0);
        address[6] memory others = [dave, alice, requester, stranger, address(jobs), address(deployment)];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IDisputes.NotArbiter.selector, others[i]));
            vm.prank(others[i]);
            disputes.rule(caseId, true, alice);
        }
    }

    function test_rule_isHeardUpToTheDeadlineOnly() public conserved {
        bytes32 first = _challenge(dave, job, given, 0);
        bytes32 second = _challenge(dave, job, given, 1);
        vm.warp(deadline);
        _rule(first, false);
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooLate.selector, deadline));
        _rule(second, true);
    }

    function test_rule_decidesEachChallengeOnceAndNothingElse() public conserved {
        bytes32 caseId = _challenge(dave, job, given, 0);
        _rule(caseId, true);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongCaseState.selector, caseId, CaseState.Won));
        _rule(caseId, false);
        bytes32 unknown = keccak256("no case");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongCaseState.selector, unknown, CaseState.None));
        _rule(unknown, true);
        bytes32 demanded = _demand(job, given, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongCaseState.selector, demanded, CaseState.Open));
        _rule(demanded, true);
        vm.warp(about.finalAt + DEMAND);
        _passDeadline(about);
        _resolve(job, given);
        _claim(caseId);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongCaseState.selector, caseId, CaseState.Closed));
        _rule(caseId, true);
    }

    // Resolving

    function test_resolve_waitsForTheWindowThoughAllIsRuled() public conserved {
        _rule(_challenge(dave, job, given, 0), true);
        vm.warp(about.finalAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooEarly.selector, about.finalAt));
        _resolve(job, given);
        // Others may still join.
        _rule(_challenge(erin, job, given, 0), true);
        vm.warp(about.finalAt);
        _resolve(job, given);
        assertEq(disputes.disputeOf(result).won, 2);
    }

    function test_resolve_waitsForOpenChallengesUpToTheRulingDeadline() public conserved {
        _rule(_challenge(dave, job, given, 0), true);
        _challenge(erin, job, given, 0);
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooEarly.selector, deadline + 1));
        _resolve(job, given);
        vm.warp(deadline + 1);
        _resolve(job, given);
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Open));
    }

    function test_resolve_isForFrozenBatchesAndTheirOwnSubmission() public conserved {
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Submitted));
        _resolve(job, given);
        _challenge(dave, job, given, 0);
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongSubmission.selector, 0));
        _resolve(job, _submission(bob, job, 0, 2e9));
        _resolve(job, given);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Submitted));
        _resolve(job, given);
    }

    /// Rule 11: what the arbiter never rules was never challenged.
    function test_rulingDeadline_passedMeansUnchallengedAndTheBondComesBack() public conserved {
        bytes32 caseId = _challenge(dave, job, given, 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotConcluded.selector, caseId));
        _claim(caseId);
        vm.warp(deadline + 1);
        vm.expectEmit(address(disputes));
        emit IDisputes.Concluded(result, Verdict.Stands, 0);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.BatchResolved(id, alice, 0, Verdict.Stands, 0);
        _resolve(job, given);
        vm.expectEmit(address(disputes));
        emit IDisputes.Claimed(caseId, dave, CHALLENGE_BOND);
        assertEq(_claim(caseId), CHALLENGE_BOND);
        assertEq(_wealth(dave), PURSE);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongCaseState.selector, caseId, CaseState.Closed));
        _claim(caseId);
        assertEq(disputes.lostBy(dave), 0);
        jobs.finalise(job, _one(given));
        assertEq(_earned(alice), _price(job, 2e9));
        assertEq(reputation.requesterRecord(requester).timedOut, 1);
    }

    /// Once resolved, a result that stands is as final as any whose window is over.
    function test_resultThatStood_cannotBeDisputedAgain() public conserved {
        _rule(_challenge(dave, job, given, 0), false);
        vm.warp(about.finalAt);
        _resolve(job, given);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooLate.selector, about.finalAt));
        _challenge(erin, job, given, 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooLate.selector, about.finalAt));
        _demand(job, given, 0, 0);
        vm.prank(requester);
        jobs.accept(job, _one(given));
        assertEq(_earned(alice), _price(job, 2e9));
    }

    function test_claim_ofWhatIsNoCaseIsRefused() public conserved {
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotConcluded.selector, bytes32(0)));
        _claim(bytes32(0));
    }

    // Wrong

    function test_wrongResult_costsTheLocksStakeHalfOfItForTheWinner() public conserved {
        _passChecks(alice, 1);
        assertEq(reputation.providerRecord(alice).checks, 1);
        uint256 lock = _lockOf(job, 4);
        bytes32 caseId = _challenge(dave, job, given, 0);
        _rule(caseId, true);
        vm.warp(about.finalAt);
        vm.expectEmit(address(disputes));
        emit IDisputes.Concluded(result, Verdict.Wrong, lock / 2);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.BatchResolved(id, alice, 0, Verdict.Wrong, jobs.leaseLock(job, 0));
        _resolve(job, given);
        assertEq(escrow.balanceOf(alice).stake, STAKE - lock);
        assertEq(_lockedStake(alice), 0);
        assertEq(_earned(alice), 0);
        assertEq(escrow.burnable(), lock - lock / 2);
        assertEq(_claim(caseId), CHALLENGE_BOND + lock / 2);
        assertEq(_wealth(dave), PURSE + lock / 2);
        assertEq(_worth(address(disputes)), 0);
        assertEq(reputation.providerRecord(alice).checks, 0);
        assertEq(reputation.providerRecord(alice).failed, 1);
        assertEq(reputation.providerRecord(alice).withheld, 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongCaseState.selector, caseId, CaseState.Closed));
        _claim(caseId);
    }

    function test_wrongResult_opensTheBatchAgainForAnybody() public conserved {
        _rule(_challenge(dave, job, given, 0), true);
        vm.warp(about.finalAt);
        _resolve(job, given);
        Batch memory open;
        assertEq(abi.encode(jobs.batchState(job, 0)), abi.encode(open), "as if it had never been leased");
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(true, false, 3)));
        assertEq(_locked(requester), rules.depositOf(job, _spec()));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, alice));
        _submit(alice, job, 0, 2e9);
        // The very same root, as wrong as before, is another result: it can be disputed again.
        Submission memory again = _submitted(bob, job, 0, 2e9);
        Standing memory second = _describe(job, again);
        assertNotEq(_resultOf(second), result);
        _rule(_challenge(dave, job, again, 0), true);
        vm.warp(second.finalAt);
        _resolve(job, again);
        Submission memory right = _submitted(carol, job, 0, 1e9);
        vm.prank(requester);
        jobs.accept(job, _one(right));
        assertEq(_earned(carol), _price(job, 1e9));
    }

    function test_wrongResult_ofACancelledJobIsRefunded() public conserved {
        _rule(_challenge(dave, job, given, 0), true);
        vm.prank(requester);
        jobs.cancel(job);
        vm.warp(about.finalAt);
        _resolve(job, given);
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Cancelled));
        assertEq(_locked(requester), 0);
        assertEq(_available(requester), rules.depositOf(job, _spec()));
        assertEq(escrow.balanceOf(alice).stake, STAKE - _lockOf(job, 4));
        vm.expectPartialRevert(IJobRegistry.JobIsCancelled.selector);
        _lease(bob, job, _list(0));
    }

    /// Rule 11: a copied challenge gains as much as the first, and the first no less for being first.
    function test_winners_shareEquallyAlsoWithWhoCopied() public conserved {
        bytes32 first = _challenge(dave, job, given, 1);
        bytes32 copy = _challenge(erin, job, given, 1);
        assertNotEq(first, copy);
        _rule(copy, true);
        _rule(first, true);
        vm.warp(about.finalAt);
        _resolve(job, given);
        uint256 award = _lockOf(job, 4) / 2;
        assertEq(_claim(first), CHALLENGE_BOND + award / 2);
        assertEq(_claim(copy), CHALLENGE_BOND + award / 2);
        assertEq(_wealth(dave), _wealth(erin));
    }

    function test_winnersLosersAndUnruled_getWhatEachIsDue() public conserved {
        bytes32[3] memory won;
        for (uint32 task = 0; task < 3; ++task) {
            won[task] = _challenge(dave, job, given, task);
            _rule(won[task], true);
        }
        bytes32 lost = _challenge(erin, job, given, 0);
        _rule(lost, false);
        bytes32 unruled = _challenge(erin, job, given, 3);
        vm.warp(deadline + 1);
        _resolve(job, given);
        uint256 award = _lockOf(job, 4) / 2;
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(_claim(won[i]), CHALLENGE_BOND + award / 3);
        }
        assertEq(_claim(unruled), CHALLENGE_BOND);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongCaseState.selector, lost, CaseState.Lost));
        _claim(lost);
        assertEq(_wealth(erin), PURSE - CHALLENGE_BOND);
        assertEq(_available(alice), CHALLENGE_BOND / 2);
        assertEq(award % 3, 1);
        assertEq(_worth(address(disputes)), 1, "what the division leaves");
    }

    /// Two disputed results do not pay out of each other's bonds.
    function test_disputes_ofTwoResultsAreApart() public conserved {
        Submission memory other = _submitted(bob, job, 1, 2e9);
        bytes32 mine = _challenge(dave, job, given, 0);
        bytes32 its = _challenge(dave, job, other, 4);
        _rule(mine, true);
        _rule(its, false);
        vm.warp(about.finalAt);
        _resolve(job, given);
        assertEq(_claim(mine), CHALLENGE_BOND + _lockOf(job, 4) / 2);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotConcluded.selector, its));
        _claim(its);
        _resolve(job, other);
        assertEq(escrow.balanceOf(bob).stake, STAKE);
        assertEq(_worth(address(disputes)), 0);
    }

    /// A payout address that is Disputes itself: what comes there is nobody's, and no case is paid of it.
    function test_earningsOfAProviderThatNamesDisputes_areNobodys() public conserved {
        _fund(erin, STAKE);
        vm.prank(erin);
        providers.register(address(disputes), _contact(), STAKE, _noPermit());
        vm.prank(erin);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        vm.prank(erin);
        providers.exit();
        assertEq(_available(address(disputes)), STAKE);
        Job memory later = _job();
        later.nonce = 2;
        _post(later);
        Submission memory wrong = _submitted(bob, later, 0, 1e9);
        Standing memory its = _describe(later, wrong);
        bytes32 caseId = _challenge(dave, later, wrong, 0);
        _rule(caseId, true);
        vm.warp(its.finalAt);
        _resolve(later, wrong);
        assertEq(_claim(caseId), CHALLENGE_BOND + _lockOf(later, 4) / 2);
        assertEq(_available(address(disputes)), STAKE);
    }

    // Access

    function test_conclude_isForTheRegistriesOnly() public conserved {
        _challenge(dave, job, given, 0);
        vm.warp(deadline + 1);
        address[6] memory others =
            [stranger, requester, address(arbiter), address(escrow), address(providers), address(this)];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IDisputes.NotRegistry.selector, others[i]));
            vm.prank(others[i]);
            disputes.conclude(result, 0);
        }
    }

    function test_freeze_isForDisputesOnly() public conserved {
        address[5] memory others = [stranger, requester, alice, address(arbiter), address(replicas)];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotDisputes.selector, others[i]));
            vm.prank(others[i]);
            jobs.freeze(job, given);
        }
    }

    function test_escrow_movesBondsForDisputesOnly() public conserved {
        address[6] memory others =
            [stranger, address(arbiter), address(jobs), address(replicas), address(providers), address(deployment)];
        for (uint256 i = 0; i < others.length; ++i) {
            bytes memory refusal = abi.encodeWithSelector(IEscrow.NotRegistry.selector, others[i]);
            vm.startPrank(others[i]);
            vm.expectRevert(refusal);
            escrow.collect(requester, 1, _noPermit());
            vm.expectRevert(refusal);
            escrow.give(others[i], 0, 0);
            vm.stopPrank();
        }
    }

    /// What the registries alone may do, neither Disputes nor any other part may.
    function test_registryCalls_refuseEverybodyElse() public conserved {
        address[8] memory others = [
            stranger,
            alice,
            address(arbiter),
            address(disputes),
            address(rules),
            address(reputation),
            address(deployment),
            address(escrow)
        ];
        for (uint256 i = 0; i < others.length; ++i) {
            bytes memory refusal = abi.encodeWithSelector(IEscrow.NotRegistry.selector, others[i]);
            vm.startPrank(others[i]);
            vm.expectRevert(refusal);
            escrow.lock(requester, 0, _noPermit());
            vm.expectRevert(refusal);
            escrow.hold(alice, 0);
            vm.expectRevert(refusal);
            escrow.holdVoter(alice, 0);
            vm.expectRevert(refusal);
            escrow.free(alice, 0);
            vm.expectRevert(refusal);
            escrow.expire(alice, 0, 0);
            vm.expectRevert(refusal);
            escrow.refund(requester, 0);
            vm.expectRevert(refusal);
            escrow.settle(requester, 0, 0, 0, Consent.None, new Share[](0));
            vm.expectRevert(refusal);
            escrow.pay(requester, alice, 0, 0, 0, 0, true);
            vm.stopPrank();
        }
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotRegistry.selector, address(replicas)));
        vm.prank(address(replicas));
        escrow.pay(requester, alice, 0, 0, 0, 0, true);
    }
}
