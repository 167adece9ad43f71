// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Answer, IDisputes, Standing} from "../interfaces/IDisputes.sol";
import {IEscrow, Permit} from "../interfaces/IEscrow.sol";
import {Batch, BatchState, IJobRegistry, Job, Result, Submission} from "../interfaces/IJobRegistry.sol";
import {
    BallotState,
    Commitment,
    IReplicaRegistry,
    ReplicatedJob,
    Reveal,
    Tally
} from "../interfaces/IReplicaRegistry.sol";
import {ResultLeaf, ResultTree} from "../libraries/ResultTree.sol";
import {DisputeFixture} from "./DisputeFixture.sol";
import {RegionTree} from "./RegionTree.sol";

/// Attacks on the protocol by the numbers of THREATS.md, as far as contracts can see them, and what each costs who tries.
/// What is tested elsewhere:
///
/// | attack | test |
/// |---|---|
/// | rule 1, votes that cannot pass | ReplicaRegistryPost: aTargetThatNewcomersCannotReach_isRefused |
/// | rule 2, copied straggler | JobRegistryResult: copiedStragglerResult_doesNotPayTheCopier, .._doesNotPayACopierWhoseShortLeaseExpired |
/// | rule 2, backup | ReplicaRegistryBackup: aBackup_isActiveAfterTheDelay, theStragglerThatCommitsFirst_hasTheSlot.. |
/// | rule 3, copied root | ReplicaRegistryOpening: aCopierWithoutLeaves_isNotCounted_andLosesTheStake, anothersBoundTree_doesNotOpen |
/// | rule 3, own auditor | ReplicaRegistryAudit: theAuditor_isDrawnAndIsAnother, anAuditThatFindsNobody_paysWithoutRecord |
/// | rule 4, demand as free computing | Demand: all of it |
/// | rule 5, silence | ReplicaRegistryVote: anUnrevealedCommit_isPunishedExactlyAsAWrongRoot; DisputesVote: .._costsWhoNeverRevealedAsWell |
/// | rule 6, accept instead of an audit | ReplicaRegistryAudit: accept_neitherSkipsTheDrawNorMakesARecord |
/// | rule 6, cheap checks | ReplicaRegistryVote: aCheck_needsTheCheckFee |
/// | rule 7, post until the lot suits | ReplicaRegistryPost: cancel_refundsOpenBatchesAndBurnsTheFee, ReplicaRegistryAmend: amend_isNoCheaperThanToCancelAndPost, theLot_widensWithinALeaseAndBeforeTheRamp, theRamp_isSoonEnoughForTheSeedToBeRead |
/// | rule 7, fresh accounts, lost seed | ReplicaRegistryLease: whoRegistersAtOrAfterThePost_comesLast, theSeed_isStoredByTheFirstLease_ofAnyBatch |
/// | rule 8, accept decides a vote | ReplicaRegistryAccept: accept_waitsForTheWindow_whereSomebodyDissents, accept_doesNotMakeAVoteThatWasNone |
/// | rule 9, withheld inputs | JobRegistryLease: release_inTheFirstQuarterReturnsStakeWithoutAMark, expire_doublesTheBond.. |
/// | rule 10, moved deadlines | ReplicaRegistryLease: theCommitDeadline_neverMoves; Amend: leasedBatch_isFinishedAndPaidUnderTheOldTerms |
/// | rule 10, exit before the end | Deployment: constructor_refusesBadSettings; Disputes: provider_cannotExitWhileItsResultIsFrozen |
/// | rule 11, no ruling | Disputes: rulingDeadline_passedMeansUnchallengedAndTheBondComesBack |
/// | rule 11, copied challenge | Disputes: winners_shareEquallyAlsoWithWhoCopied |
/// | rule 11, no court | Reject: reject_costsTheRequesterMoreThanAccepting |
/// | rule 12, fuel in padding | Disputes: challenge_takesEveryLeafOfTheTreePaddingIncluded |
/// | A1, garbage | Arithmetic: leaseLock_coversWorstCaseTimesOddsOfNoAudit; ReplicaRegistryVote: dissent_losesTheStakeAndTheRecord |
/// | A2, copies | also: ReplicaRegistryReveal: aCopiedCommitment_doesNotReveal_andLosesTheStake |
/// | A3, front-run claim, permit, cancel | also: JobRegistryLease: lease_refusesWhatIsNotOpen; JobRegistryPost: post_worksByPermitEvenWhenItWasFrontRun, cancel_leavesLeased.. |
/// | A4, squatting | Delays; JobRegistryLease: expire_doublesTheBondOfABatchUpToTheLock, lease_expiresAnotherLeaseThatIsOver |
/// | A5, colluding majority | DisputesVote: wrongResult_costsAllThatAgreedAndFreesWhoDissented |
/// | A6, fresh identity | ProviderRegistry: registration_afterAnExitStartsAfresh |
/// | A8, silent requester | JobRegistryResult: finalise_byAnyoneAfterTheWindowPays |
/// | A13, odd token | OddTokens: feeOnTransfer_isRefusedWhereAnExactAmountIsLocked, tokenThatTakesOnTheWay_isRefused |
/// | A14, re-entrant arbiter | Disputes: arbiterThatRulesWhileItIsAsked_isHeard, arbiterThatReverts_leavesNoChallenge |
/// | A15, replay | JobRegistryPost: jobIdOf_coversChainContractAndEveryField; ReplicaRegistryReveal: aCommitmentForAnotherBatch_doesNotOpenThisOne |
contract AttacksTest is DisputeFixture {
    // Rules

    /// A requester's puppet dissents until nothing is decided: the requester does not have its work for nothing, and loses half of
    /// what each execution costs, its own puppet's as well.
    function test_rule1_requesterWhosePuppetVetoes_stillPaysHalf() public conserved {
        ReplicatedJob memory job = _replicated();
        job.assurance.limit = 3;
        _open(job);
        uint256 before = _wealth(requester);
        _voted(job, 0, RIGHT, RIGHT, WRONG);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, RIGHT, RIGHT, WRONG));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Undecided));
        uint256 half = 2 * (_price(job.job, RIGHT) / 2) + _price(job.job, WRONG) / 2;
        assertEq(before - _wealth(requester), half);
        assertEq(escrow.burnable(), half, "and nobody has it");
    }

    /// A ring of one's own accounts votes on its own job: its record costs at least what the deployment asks for each check.
    function test_rule6_A6_ringOfOwnAccounts_paysForItsRecord() public conserved {
        ReplicatedJob memory job = _replicated();
        uint256 before = _wealth(requester) + _wealth(alice) + _wealth(bob) + _wealth(carol);
        _open(job);
        _voted(job, 0, RIGHT, RIGHT, RIGHT);
        vm.prank(requester);
        replicas.accept(job, _one(_tally(0, RIGHT, RIGHT, RIGHT)));
        uint256 checks;
        for (uint256 i = 0; i < 3; ++i) {
            checks += reputation.providerRecord(three[i]).checks;
        }
        assertEq(checks, 3);
        uint256 cost = before - _wealth(requester) - _wealth(alice) - _wealth(bob) - _wealth(carol);
        assertGe(cost, checks * CHECK_FEE);
        assertEq(cost, 3 * (_price(job.job, RIGHT) * FEE_BPS / 10_000), "the fee is in proportion to what is paid");
    }

    /// The same on a job of one replica, accepted at once, is free, and makes no record.
    function test_rule6_washedJobOfOneReplica_makesNoRecord() public conserved {
        Job memory job = _job();
        _post(job);
        Submission memory given = _submitted(alice, job, 0, RIGHT);
        vm.prank(requester);
        jobs.accept(job, _one(given));
        given = _submitted(alice, job, 1, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        jobs.finalise(job, _one(given));
        assertEq(reputation.providerRecord(alice).checks, 0);
        assertEq(reputation.oddsOf(alice), reputation.oddsOf(bob));
    }

    /// Ten accounts of the least stake are first no more often than one account of ten times that.
    function test_rule7_splittingOnesStake_doesNotBringTheTurnForward() public conserved {
        address[10] memory sybils;
        for (uint256 i = 0; i < 10; ++i) {
            sybils[i] = address(uint160(0x5bb1 + i));
            _fund(sybils[i], MIN_STAKE);
            vm.prank(sybils[i]);
            providers.register(dave, _contact(), MIN_STAKE, _noPermit());
        }
        assertEq(escrow.balanceOf(alice).stake, 10 * uint256(MIN_STAKE));
        vm.roll(block.number + 1);
        ReplicatedJob memory job = _replicated();
        (job.job.taskCount, job.job.batchSize, job.job.fuelLimit) = (200, 1, 1e6);
        _open(job);
        uint256 wins;
        for (uint32 batch = 0; batch < 200; ++batch) {
            uint256 first = type(uint256).max;
            for (uint256 i = 0; i < 10; ++i) {
                uint256 at = replicas.opensAt(job, batch, sybils[i]);
                if (at < first) first = at;
            }
            if (first < replicas.opensAt(job, batch, alice)) ++wins;
        }
        // Expected: 0.38 of them, with a deviation of 0.034.
        assertGt(wins, 45);
        assertLt(wins, 100);
        // The conservation check does not know them.
        for (uint256 i = 0; i < 10; ++i) {
            vm.startPrank(sybils[i]);
            providers.requestExit();
            vm.warp(block.timestamp + EXIT_DELAY);
            providers.exit();
            vm.stopPrank();
        }
    }

    /// Whom two colluding votes made wrong has the window to appeal, its stake still held: the ring loses its own, and pays for the appeal.
    function test_rule8_A5_whoIsOutvotedWrongly_appealsAndGains() public conserved {
        ReplicatedJob memory job = _lenient();
        uint256 before = _wealth(carol);
        _voted(job, 0, WRONG, WRONG, RIGHT);
        Tally memory tally = _tally(0, WRONG, WRONG, RIGHT);
        vm.prank(requester);
        vm.expectPartialRevert(IReplicaRegistry.TooEarly.selector);
        replicas.accept(job, _one(tally));
        uint256 lock = replicas.leaseLock(job, 0);
        assertEq(_lockedStake(carol), lock);
        _fund(carol, CHALLENGE_BOND);
        bytes32 caseId = _challenge(carol, job, tally, 0);
        _rule(caseId, true);
        vm.warp(block.timestamp + WINDOW);
        _resolve(job, tally);
        _claim(caseId);
        assertEq(_wealth(carol), before + CHALLENGE_BOND + 2 * (lock / 2));
        assertEq(escrow.balanceOf(alice).stake + escrow.balanceOf(bob).stake, 2 * (STAKE - lock));
    }

    /// One stake backs one lease, in whichever registry.
    function test_rule10_oneStake_doesNotBackLeasesOfBothRegistries() public conserved {
        _register(dave, MIN_STAKE);
        vm.roll(block.number + 1);
        ReplicatedJob memory voted = _replicated();
        _open(voted);
        Job memory job = _job();
        _post(job);
        uint256 lock = jobs.leaseLock(job, 0);
        assertEq(replicas.leaseLock(voted, 0), lock);
        _lease(dave, job, _list(0, 1));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FreeStakeTooSmall.selector, MIN_STAKE - 2 * lock, lock));
        _lease(dave, voted, 0);
    }

    // Attacks by kind

    /// Whoever copies a commitment, before or after its maker's is in a block, can reveal nothing with it, and pays for trying.
    function testFuzz_A2_copiedCommitment_isNeverPaid(uint64 fuel, bytes32 salt, bool isFirst) public conserved {
        ReplicatedJob memory job = _lenient();
        fuel = uint64(bound(fuel, 1, 4 * uint256(job.job.fuelLimit)));
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
        }
        Reveal[] memory reveals = new Reveal[](1);
        reveals[0] = _revealed(alice, 0, fuel);
        reveals[0].salt = salt;
        bytes32 copied = keccak256(
            abi.encode(
                replicas.jobIdOf(job), 0, alice, reveals[0].root, fuel, reveals[0].outputs, reveals[0].bound, salt
            )
        );
        _commitHash(isFirst ? bob : alice, job, copied);
        _commitHash(isFirst ? alice : bob, job, copied);
        _commit(carol, job, 0, fuel);
        replicas.reveal(job, reveals);
        // What he copied is public now.
        reveals[0].provider = bob;
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongCommitment.selector, 0));
        vm.prank(bob);
        replicas.reveal(job, reveals);
        _reveal(carol, job, 0, fuel);
        vm.warp(block.timestamp + REVEAL + WINDOW);
        _finalise(job, _tally(0, fuel, 0, fuel));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Settled));
        assertEq(_earned(alice), _price(job.job, fuel));
        assertEq(_earned(bob), 0);
        assertEq(escrow.balanceOf(bob).stake, STAKE - replicas.leaseLock(job, 0));
    }

    /// One block, in any order: a lease that was taken is served and paid, whatever was cancelled after it; who came too late, or whose
    /// permit another used, has lost nothing.
    function testFuzz_A3_anyOrderOfABlock_servesWhoCameFirst(uint256 order) public conserved {
        (Job memory job, Job memory next) = (_job(), _job());
        next.nonce = 2;
        _post(job);
        uint256 deposit = _locked(requester);
        vm.prank(requester);
        token.approve(address(escrow), 0);
        Permit memory permit = _permit(requester, requesterKey, deposit, block.timestamp);
        address[9] memory from = [alice, bob, carol, carol, requester, requester, alice, requester, stranger];
        bytes[9] memory data = [
            abi.encodeCall(IJobRegistry.lease, (job, _list(0))),
            abi.encodeCall(IJobRegistry.lease, (job, _list(0, 1))),
            abi.encodeCall(IJobRegistry.lease, (job, _list(1))),
            abi.encodeCall(IJobRegistry.lease, (job, _list(2))),
            abi.encodeCall(IJobRegistry.cancel, (job)),
            abi.encodeCall(IJobRegistry.post, (next, _spec(), _contact(), permit)),
            abi.encodeCall(IJobRegistry.submit, (job, _results(0, RIGHT))),
            abi.encodeCall(IJobRegistry.accept, (job, _submissions(alice, job, 0, RIGHT))),
            abi.encodeCall(
                token.permit, (requester, address(escrow), deposit, permit.deadline, permit.v, permit.r, permit.s)
            )
        ];
        uint256[9] memory left = [uint256(0), 1, 2, 3, 4, 5, 6, 7, 8];
        bool[9] memory done;
        for (uint256 count = 9; count > 0; --count) {
            uint256 pick = order % count;
            order /= count;
            uint256 call = left[pick];
            left[pick] = left[count - 1];
            vm.prank(from[call]);
            (done[call],) = (call == 8 ? address(token) : address(jobs)).call(data[call]);
        }
        assertTrue(done[4], "cancelled");
        assertTrue(done[5], "posted");
        assertFalse(done[0] && done[1]);
        assertFalse(done[1] && done[2]);
        for (uint32 batch = 0; batch < 3; ++batch) {
            Batch memory found = jobs.batchState(job, batch);
            if (found.state == BatchState.Leased) _submit(found.provider, job, batch, RIGHT);
        }
        vm.warp(block.timestamp + WINDOW);
        for (uint32 batch = 0; batch < 3; ++batch) {
            if (_state(job, batch) != BatchState.Submitted) continue;
            address by = batch == 2 ? carol : done[1] ? bob : batch == 1 ? carol : alice;
            jobs.finalise(job, _submissions(by, job, batch, RIGHT));
        }
        uint256 price = _price(job, RIGHT);
        assertEq(_earned(alice), done[0] ? price : 0);
        assertEq(_earned(bob), done[1] ? 2 * price : 0);
        assertEq(_earned(carol), (done[2] ? price : 0) + (done[3] ? price : 0));
        assertEq(_locked(requester), deposit, "the other job's");
        assertEq(_lockedStake(alice) + _lockedStake(bob) + _lockedStake(carol), 0);
    }

    /// Who copies an answer from the mempool has its bond, and the provider its result: only the gas of the second is lost.
    function test_A3_copiedAnswer_savesTheProvidersResult() public conserved {
        (Job memory job, Submission memory given, ResultLeaf memory leaf) = _single();
        Standing memory about = _describe(job, given);
        bytes32 caseId = _demand(job, given, 0, 0);
        bytes32[] memory none = new bytes32[](0);
        bytes32[] memory siblings = RegionTree.prove("output", 0);
        Answer memory answer = Answer(0, leaf, none, new uint64[](0), "output", siblings);
        vm.prank(erin);
        disputes.answer(caseId, about, answer);
        vm.expectPartialRevert(IDisputes.WrongCaseState.selector);
        vm.prank(alice);
        disputes.answer(caseId, about, answer);
        assertEq(_available(erin), DEMAND_BOND);
        vm.warp(about.finalAt);
        _resolve(job, given);
        jobs.finalise(job, _one(given));
        assertEq(_earned(alice), _price(job, given.fuel));
    }

    /// An honest past outvotes two newcomers once; a challenge then takes the stake and the past.
    function test_A7_sleeper_losesStakeAndRecord() public conserved {
        _passChecks(alice, 50);
        uint256 odds = reputation.oddsOf(bob);
        assertEq(reputation.oddsOf(alice), 249e6);
        ReplicatedJob memory job = _lenient();
        uint256 before = _wealth(alice);
        _voted(job, 0, WRONG, RIGHT, RIGHT);
        Tally memory tally = _tally(0, WRONG, RIGHT, RIGHT);
        bytes32 caseId = _challenge(dave, job, tally, 0);
        _rule(caseId, true);
        vm.warp(block.timestamp + WINDOW);
        _resolve(job, tally);
        assertEq(before - _wealth(alice), replicas.leaseLock(job, 0));
        assertEq(reputation.oddsOf(alice), odds, "a newcomer's");
        assertEq(escrow.balanceOf(bob).stake, STAKE);
        _claim(caseId);
    }

    /// A requester that disputes everything pays for all of it, and half of each challenge to the provider.
    function test_A8_requesterThatDisputesEverything_paysTheProviderMore() public conserved {
        (Job memory job, Submission memory given, ResultLeaf memory leaf) = _single();
        Standing memory about = _describe(job, given);
        uint256 before = _wealth(requester);
        bytes32 challenged = _challenge(requester, job, given, 0);
        bytes32 demanded = _demand(job, given, 0, 0);
        _rule(challenged, false);
        vm.prank(alice);
        disputes.answer(
            demanded, about, Answer(0, leaf, new bytes32[](0), new uint64[](0), "output", RegionTree.prove("output", 0))
        );
        vm.warp(about.finalAt);
        _resolve(job, given);
        jobs.finalise(job, _one(given));
        assertEq(before - _wealth(requester), _price(job, given.fuel) + CHALLENGE_BOND + DEMAND_BOND);
        assertEq(_earned(alice) + _available(alice), _price(job, given.fuel) + CHALLENGE_BOND / 2 + DEMAND_BOND);
        assertEq(reputation.requesterRecord(requester).lostDisputes, 2);
    }

    /// A token that moves nothing and says that it did pays no bond.
    function test_A13_bondInATokenThatMovesLess_isRefused() public conserved {
        Job memory job = _job();
        _post(job);
        Submission memory given = _submitted(alice, job, 0, RIGHT);
        vm.mockCall(address(token), abi.encodeWithSelector(IERC20.transferFrom.selector), abi.encode(true));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ReceivedLess.selector, 0, CHALLENGE_BOND));
        _challenge(dave, job, given, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ReceivedLess.selector, 0, DEMAND_BOND));
        _demand(job, given, 0, 0);
        vm.clearMockedCalls();
    }

    /// A job amended a hundred times costs more to lease, which its requester has done to itself; who holds a lease of it pays for nothing
    /// of that.
    /// forge-config: default.isolate = true
    function test_A14_longChainOfAmendments_isNobodysElsesBurden() public conserved {
        Job memory job = _job();
        _post(job);
        for (uint64 i = 2; i <= 101; ++i) {
            Job memory terms = _job();
            terms.nonce = i;
            vm.prank(requester);
            jobs.amend(job, terms, _noPermit());
            job = terms;
        }
        _lease(alice, job, _list(0, 1));
        _lease(bob, job, _list(2));
        uint256 lease = vm.lastCallGas().gasTotalUsed;
        assertGt(lease, 100 * 2100, "the chain is walked");
        assertLt(lease, 100 * 4600 + 200_000);
        // So is it to give up what is open: 3,000 times and more fit into the 16.7 million gas that a transaction may take (EIP-7825).
        uint256 before = vm.snapshotState();
        vm.prank(bob);
        jobs.release(job, _list(2));
        vm.prank(requester);
        jobs.cancel(job);
        assertGt(vm.lastCallGas().gasTotalUsed, 100 * 2100, "the chain is walked");
        assertLt(vm.lastCallGas().gasTotalUsed, 100 * 4600 + 200_000);
        vm.revertToState(before);
        Submission memory given = _submission(alice, job, 0, RIGHT);
        _submit(alice, job, 0, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        jobs.finalise(job, _one(given));
        assertLt(vm.lastCallGas().gasTotalUsed, 150_000);
        _passLease();
        _expire(job, _list(1));
        assertLt(vm.lastCallGas().gasTotalUsed, 150_000);
    }

    /// Requester, provider and challenger are one: half of the stake is burned, and the deposit buys nothing.
    function test_A16_liarThatChallengesItself_losesHalfOfTheStake() public conserved {
        _register(requester, STAKE);
        uint256 before = _wealth(requester);
        Job memory job = _job();
        _post(job);
        Submission memory given = _submitted(requester, job, 0, WRONG);
        bytes32 caseId = _challenge(requester, job, given, 0);
        _rule(caseId, true);
        vm.warp(block.timestamp + WINDOW);
        _resolve(job, given);
        _claim(caseId);
        uint256 lock = _lockOf(job, 4);
        assertEq(before - _wealth(requester), lock - lock / 2);
    }

    /// The same in a vote, of which all are one.
    function test_A16_ringThatChallengesItself_losesHalfOfAllStakes() public conserved {
        uint256 before = _wealth(requester) + _wealth(alice) + _wealth(bob) + _wealth(carol) + _wealth(dave);
        ReplicatedJob memory job = _lenient();
        _voted(job, 0, WRONG, WRONG, WRONG);
        Tally memory tally = _tally(0, WRONG, WRONG, WRONG);
        bytes32 caseId = _challenge(dave, job, tally, 0);
        _rule(caseId, true);
        vm.warp(block.timestamp + WINDOW);
        _resolve(job, tally);
        _claim(caseId);
        uint256 lock = replicas.leaseLock(job, 0);
        uint256 left = _wealth(requester) + _wealth(alice) + _wealth(bob) + _wealth(carol) + _wealth(dave);
        assertEq(before - left, 3 * (lock - lock / 2));
    }

    /// A liar that copies an honest challenge many times takes most of the award, and still loses half of its stake. What is left for the
    /// honest one falls with each copy: rule 11 shares equally.
    function test_A16_liarThatCopiesTheChallenge_stillLosesHalfOfTheStake() public conserved {
        _fund(alice, 10 * uint256(CHALLENGE_BOND));
        uint256 before = _wealth(alice);
        Job memory job = _job();
        _post(job);
        Submission memory given = _submitted(alice, job, 0, WRONG);
        bytes32 honest = _challenge(dave, job, given, 0);
        _rule(honest, true);
        bytes32[] memory copies = new bytes32[](9);
        for (uint256 i = 0; i < copies.length; ++i) {
            vm.prank(alice);
            copies[i] =
                disputes.challenge(address(jobs), abi.encode(job, given), 0, keccak256(abi.encode(i)), _noPermit());
            _rule(copies[i], true);
        }
        vm.warp(block.timestamp + WINDOW);
        _resolve(job, given);
        for (uint256 i = 0; i < copies.length; ++i) {
            _claim(copies[i]);
        }
        uint256 lock = _lockOf(job, 4);
        assertGe(before - _wealth(alice), lock / 2);
        assertEq(_claim(honest), CHALLENGE_BOND + lock / 2 / 10);
    }

    /// Who challenges its own right result to delay its payment loses half of each bond.
    function test_A16_providerThatChallengesItself_losesHalfOfTheBond() public conserved {
        _fund(alice, CHALLENGE_BOND);
        Job memory job = _job();
        _post(job);
        Submission memory given = _submitted(alice, job, 0, RIGHT);
        uint256 before = _wealth(alice);
        _rule(_challenge(alice, job, given, 0), false);
        assertEq(before - _wealth(alice), CHALLENGE_BOND - CHALLENGE_BOND / 2);
        vm.warp(block.timestamp + WINDOW);
        _resolve(job, given);
    }

    /// As many challenges as the purse holds, all lost: the provider earns half of the purse, and is paid without delay.
    function test_A16_disputeSpam_endsWithThePurse() public conserved {
        Job memory job = _job();
        _post(job);
        Submission memory given = _submitted(alice, job, 0, RIGHT);
        uint256 count = PURSE / CHALLENGE_BOND;
        for (uint256 i = 0; i < count; ++i) {
            vm.prank(dave);
            bytes32 caseId = disputes.challenge(address(jobs), abi.encode(job, given), 0, bytes32(i), _noPermit());
            _rule(caseId, false);
        }
        vm.expectRevert();
        _challenge(dave, job, given, 1);
        assertEq(disputes.lostBy(dave), count);
        assertEq(_available(alice), count * (CHALLENGE_BOND / 2));
        vm.warp(block.timestamp + WINDOW);
        _resolve(job, given);
        jobs.finalise(job, _one(given));
        assertEq(_earned(alice), _price(job, RIGHT));
    }

    /// Where the arbiter sleeps, a challenge costs nothing but its bond's time, and delays a payment by the ruling time, once.
    function test_A16_challengesThatNobodyRules_delayOnce() public conserved {
        Job memory job = _job();
        _post(job);
        Submission memory given = _submitted(alice, job, 0, RIGHT);
        uint256 finalAt = block.timestamp + WINDOW;
        bytes32 first = _challenge(dave, job, given, 0);
        vm.warp(finalAt - 1);
        bytes32 second = _challenge(dave, job, given, 1);
        vm.warp(finalAt + RULING + 1);
        _resolve(job, given);
        vm.expectPartialRevert(IDisputes.TooLate.selector);
        _challenge(dave, job, given, 2);
        jobs.finalise(job, _one(given));
        _claim(first);
        _claim(second);
        assertEq(_wealth(dave), PURSE);
    }

    /// Two newcomers that agree outvote a third.
    function _lenient() private returns (ReplicatedJob memory job) {
        job = _replicated();
        job.assurance.target = 700_000_000;
        _open(job);
    }

    /// A job of one task, and its result of six bytes.
    function _single() private returns (Job memory job, Submission memory given, ResultLeaf memory leaf) {
        job = _job();
        (job.taskCount, job.batchSize) = (1, 1);
        _post(job);
        _lease(alice, job, _list(0));
        leaf = ResultLeaf(0, true, 0, RegionTree.root("output"), 6, RIGHT);
        given = _submitResult(alice, job, Result(0, ResultTree.leafHash(leaf), RIGHT, keccak256("outputs")));
    }

    function _commitHash(address who, ReplicatedJob memory job, bytes32 hash) private {
        Commitment[] memory list = new Commitment[](1);
        list[0] = Commitment(0, hash);
        vm.prank(who);
        replicas.commit(job, list);
    }
}
