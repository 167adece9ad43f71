// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {console} from "forge-std/console.sol";

import {Answer, Case, CaseState, Dispute, IDisputes, Standing, Verdict} from "../interfaces/IDisputes.sol";
import {Batch, BatchState, IJobRegistry, Job, JobState, Result, Submission} from "../interfaces/IJobRegistry.sol";
import {ResultLeaf, ResultTree} from "../libraries/ResultTree.sol";
import {DisputeFixture} from "./DisputeFixture.sol";
import {RegionTree} from "./RegionTree.sol";

/// Rule 4: a demand names one chunk of one output, and only the chunk itself is an answer.
contract DemandTest is DisputeFixture {
    Job private job;
    bytes32 private id;
    Submission private given;
    Standing private about;
    bytes32 private result;
    uint256 private deadline;
    /// Of tasks 4 to 7: nothing, one byte, exactly a chunk, and three chunks and a bit.
    bytes[4] private outputs;
    ResultLeaf[4] private leaves;

    /// Alice's result for batch 1 stands, with real trees.
    function setUp() public override {
        super.setUp();
        (job, id) = _posted();
        uint16[4] memory lengths = [0, 1, 4096, 3 * 4096 + 37];
        bytes32[] memory hashes = new bytes32[](4);
        uint64[] memory fuels = new uint64[](4);
        for (uint32 i = 0; i < 4; ++i) {
            bytes memory output = new bytes(lengths[i]);
            for (uint256 j = 0; j < output.length; ++j) {
                output[j] = bytes1(uint8(j * 13 + j / 255 + i));
            }
            // An output may end in zeros.
            if (i == 3) output[output.length - 1] = 0;
            outputs[i] = output;
            leaves[i] = ResultLeaf(4 + i, true, 0, RegionTree.root(output), lengths[i], 1e9 + i);
            (hashes[i], fuels[i]) = (ResultTree.leafHash(leaves[i]), leaves[i].fuel);
        }
        (bytes32 root, uint64 fuel) = ResultTree.root(hashes, fuels);
        _lease(alice, job, _list(1));
        given = _submitResult(alice, job, Result(1, root, fuel, keccak256("outputs")));
        about = _describe(job, given);
        result = _resultOf(about);
        deadline = block.timestamp + DEMAND;
    }

    // Answers

    function test_everyChunkOfEveryOutput_canBeShown() public conserved {
        uint256 count;
        for (uint32 task = 4; task < 8; ++task) {
            for (uint32 chunk = 0; uint256(chunk) * 4096 < outputs[task - 4].length; ++chunk) {
                bytes32 caseId = _demand(job, given, task, chunk);
                _answer(bob, caseId, _right(task, chunk));
                assertEq(uint8(_stateOf(caseId)), uint8(CaseState.Lost));
                ++count;
            }
        }
        assertEq(count, 1 + 1 + 4);
        assertEq(_available(bob), count * DEMAND_BOND, "the bonds are the answerer's, whoever it is");
        assertEq(disputes.lostBy(requester), count);
        assertEq(_worth(address(disputes)), 0);
        vm.warp(about.finalAt);
        _resolve(job, given);
        jobs.finalise(job, _one(given));
        assertEq(_earned(alice), _price(job, given.fuel));
    }

    function test_chunkPastTheEnd_isAnsweredByTheLeafAlone() public conserved {
        uint32[2][6] memory past = [
            [uint32(4), 0],
            [uint32(5), 1],
            [uint32(6), 1],
            [uint32(7), 4],
            [uint32(7), 1 << 20],
            [uint32(7), type(uint32).max]
        ];
        for (uint256 i = 0; i < past.length; ++i) {
            bytes32 caseId = _demand(job, given, past[i][0], past[i][1]);
            Answer memory answer = _right(past[i][0], past[i][1]);
            (answer.part, answer.chunkSiblings) = ("", new bytes32[](0));
            _answer(alice, caseId, answer);
        }
        assertEq(_available(alice), past.length * DEMAND_BOND);
    }

    /// The leaf must still be in the result: else any output could be said to be empty.
    function test_chunkPastTheEnd_needsTheLeafOfTheResult() public conserved {
        bytes32 caseId = _demand(job, given, 6, 1);
        Answer memory answer = _right(6, 1);
        answer.leaf.outputLength = 0;
        _expectWrong(caseId, answer);
    }

    function test_answer_refusesEveryWrongPart() public conserved {
        bytes32 caseId = _demand(job, given, 7, 1);
        Answer memory answer = _right(7, 1);
        answer.part[100] ^= 0x01;
        _expectWrong(caseId, answer);
        answer = _right(7, 1);
        answer.chunkSiblings[3] ^= bytes32(uint256(1));
        _expectWrong(caseId, answer);
        answer = _right(7, 1);
        answer.chunkSiblings = new bytes32[](19);
        _expectWrong(caseId, answer);
        answer = _right(7, 1);
        answer.siblingHashes[1] ^= bytes32(uint256(1));
        _expectWrong(caseId, answer);
        answer = _right(7, 1);
        answer.siblingFuels[0] += 1;
        _expectWrong(caseId, answer);
        answer = _right(7, 1);
        answer.siblingHashes = new bytes32[](1);
        _expectWrong(caseId, answer);
        answer = _right(7, 1);
        answer.leaf.ok = false;
        _expectWrong(caseId, answer);
        answer = _right(7, 1);
        answer.leaf.outputRoot = RegionTree.root("another");
        _expectWrong(caseId, answer);
        answer = _right(7, 1);
        answer.leaf.outputLength += 1;
        _expectWrong(caseId, answer);
        _answer(alice, caseId, _right(7, 1));
    }

    /// Neither another chunk of that output, nor the same chunk of another.
    function test_answer_refusesAnotherChunkOrTask() public conserved {
        bytes32 caseId = _demand(job, given, 7, 1);
        _expectWrong(caseId, _right(7, 0));
        _expectWrong(caseId, _right(7, 2));
        _expectWrong(caseId, _right(6, 0));
        Answer memory answer = _right(7, 2);
        answer.chunk = 1;
        _expectWrong(caseId, answer);
        answer = _right(6, 0);
        (answer.leaf.index, answer.chunk) = (7, 1);
        _expectWrong(caseId, answer);
    }

    function test_answer_refusesEveryOtherLength() public conserved {
        bytes32 caseId = _demand(job, given, 7, 3);
        Answer memory answer = _right(7, 3);
        assertEq(answer.part.length, 37);
        answer.part = bytes.concat(answer.part, hex"00");
        _expectWrong(caseId, answer);
        answer.part = bytes.concat(RegionTree.chunk(outputs[3], 3), new bytes(4096 - 37));
        _expectWrong(caseId, answer);
        answer.part = "";
        _expectWrong(caseId, answer);
        // Its last byte is zero: padded, the rest is the same.
        answer = _right(7, 3);
        bytes memory shorter = answer.part;
        assembly ("memory-safe") {
            mstore(shorter, 36)
        }
        _expectWrong(caseId, answer);
        _answer(alice, caseId, _right(7, 3));
    }

    function test_answer_toAnotherResultIsRefused() public conserved {
        bytes32 caseId = _demand(job, given, 7, 1);
        Standing memory other = about;
        other.tasks = 3;
        Answer memory a = _right(7, 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongResult.selector, _resultOf(other), result));
        disputes.answer(caseId, other, a);
    }

    function test_answer_isTakenOnceAndOnlyToADemand() public conserved {
        bytes32 caseId = _demand(job, given, 7, 1);
        _answer(alice, caseId, _right(7, 1));
        Answer memory answer = _right(7, 1);
        _expectRefusal(
            caseId, answer, abi.encodeWithSelector(IDisputes.WrongCaseState.selector, caseId, CaseState.Lost)
        );
        bytes32 unknown = keccak256("no case");
        _expectRefusal(
            unknown, answer, abi.encodeWithSelector(IDisputes.WrongCaseState.selector, unknown, CaseState.None)
        );
        _expectWrong(_challenge(dave, job, given, 7), answer);
    }

    function test_answer_isTakenUpToTheDeadlineOnly() public conserved {
        bytes32 first = _demand(job, given, 7, 0);
        bytes32 second = _demand(job, given, 7, 1);
        vm.warp(deadline);
        _answer(alice, first, _right(7, 0));
        vm.warp(deadline + 1);
        _expectRefusal(second, _right(7, 1), abi.encodeWithSelector(IDisputes.TooLate.selector, deadline));
    }

    // Demands

    function test_demand_takesTheBondAndFreezesTheBatch() public conserved {
        bytes32 demanded = keccak256(abi.encode(uint32(7), uint32(1)));
        bytes32 expected = keccak256(abi.encode(result, requester, true, demanded));
        uint256 before = _wealth(requester);
        vm.expectEmit(address(disputes));
        emit IDisputes.Demanded(expected, id, 1, 7, 1, uint40(deadline));
        bytes32 caseId = _demand(job, given, 7, 1);
        assertEq(caseId, expected);
        assertEq(_wealth(requester), before - DEMAND_BOND);
        assertEq(_available(address(disputes)), DEMAND_BOND);
        assertEq(uint8(_state(job, 1)), uint8(BatchState.Frozen));
        Case memory stored = disputes.caseOf(caseId);
        assertEq(abi.encode(stored), abi.encode(Case(requester, uint40(deadline), CaseState.Open, result, demanded)));
        Dispute memory dispute = disputes.disputeOf(result);
        assertEq(abi.encode(dispute), abi.encode(Dispute(about.finalAt, uint40(deadline), 1, 0, 1, 0, false)));
        assertEq(arbiter.caseId(), 0, "no arbiter is needed");
    }

    function test_demand_isForTheRequesterOnly() public conserved {
        address[4] memory others = [alice, bob, dave, stranger];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IDisputes.NotRequester.selector, others[i], requester));
            vm.prank(others[i]);
            disputes.demand(address(jobs), abi.encode(job, given), 7, 1, _noPermit());
        }
        assertEq(uint8(_state(job, 1)), uint8(BatchState.Submitted));
    }

    function test_demand_worksInTheLastSecondOfTheWindowAndNotAfter() public conserved {
        vm.warp(about.finalAt);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooLate.selector, about.finalAt));
        _demand(job, given, 7, 1);
        vm.warp(about.finalAt - 1);
        _demand(job, given, 7, 1);
    }

    /// Padding has no output.
    function test_demand_isForTasksOfTheBatchOnly() public conserved {
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoSuchTask.selector, 3, 4, 4));
        _demand(job, given, 3, 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoSuchTask.selector, 8, 4, 4));
        _demand(job, given, 8, 0);
        Job memory odd = _job();
        (odd.nonce, odd.taskCount) = (2, 11);
        _post(odd);
        Submission memory last = _submitted(bob, odd, 2, 1e9);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoSuchTask.selector, 11, 8, 3));
        _demand(odd, last, 11, 0);
    }

    function test_demand_forTheSameChunkTwiceIsRefused() public conserved {
        bytes32 caseId = _demand(job, given, 7, 1);
        bytes memory refusal = abi.encodeWithSelector(IDisputes.CaseExists.selector, caseId);
        vm.expectRevert(refusal);
        _demand(job, given, 7, 1);
        _answer(alice, caseId, _right(7, 1));
        vm.expectRevert(refusal);
        _demand(job, given, 7, 1);
    }

    // Unanswered

    function test_unanswered_losesTheBatchButNoStake() public conserved {
        uint256 before = _wealth(requester);
        bytes32 caseId = _demand(job, given, 7, 1);
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooEarly.selector, deadline + 1));
        _resolve(job, given);
        vm.warp(deadline + 1);
        vm.expectEmit(address(disputes));
        emit IDisputes.Concluded(result, Verdict.Withheld, 0);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.BatchResolved(id, alice, 1, Verdict.Withheld, 0);
        _resolve(job, given);
        assertEq(escrow.balanceOf(alice).stake, STAKE);
        assertEq(_lockedStake(alice), 0);
        assertEq(_earned(alice), 0);
        assertEq(reputation.providerRecord(alice).withheld, 1);
        assertEq(reputation.providerRecord(alice).failed, 0);
        assertEq(_claim(caseId), DEMAND_BOND);
        assertEq(_wealth(requester), before);
        assertEq(disputes.lostBy(requester), 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongCaseState.selector, caseId, CaseState.Closed));
        _claim(caseId);
        Batch memory open;
        assertEq(abi.encode(jobs.batchState(job, 1)), abi.encode(open));
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(true, false, 3)));
        Submission memory next = _submitted(bob, job, 1, 1e9);
        vm.prank(requester);
        jobs.accept(job, _one(next));
        assertEq(_earned(bob), _price(job, 1e9));
    }

    /// The same result, given again: its cases are its own, and what became of the first does not decide it.
    function test_unanswered_andSubmittedAgain_isAnotherResult() public conserved {
        bytes32 first = _demand(job, given, 7, 1);
        vm.warp(deadline + 1);
        _resolve(job, given);
        _lease(alice, job, _list(1));
        assertEq(
            abi.encode(_submitResult(alice, job, Result(1, given.root, given.fuel, keccak256("outputs")))),
            abi.encode(given)
        );
        about = _describe(job, given);
        bytes32 second = _demand(job, given, 7, 1);
        assertTrue(second != first);
        _answer(alice, second, _right(7, 1));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotConcluded.selector, second));
        _claim(second);
        assertEq(_claim(first), DEMAND_BOND);
        vm.warp(about.finalAt);
        _resolve(job, given);
        jobs.finalise(job, _one(given));
        assertEq(_earned(alice), _price(job, given.fuel));
        assertEq(_worth(address(disputes)), 0);
    }

    /// Whoever held the batch before has no turn any more, however soon it is open again.
    function test_unanswered_forgetsTheFormerHolder() public conserved {
        Job memory quick = _job();
        (quick.nonce, quick.windowSeconds) = (3, 1);
        _post(quick);
        _lease(alice, quick, _list(0));
        _passLease();
        _lease(bob, quick, _list(0));
        _submit(alice, quick, 0, 5);
        Submission memory late = _submission(alice, quick, 0, 5);
        _demand(quick, late, 0, 0);
        vm.warp(block.timestamp + DEMAND + 1);
        _resolve(quick, late);
        _lease(carol, quick, _list(0));
        _passLease();
        _expire(quick, _list(0));
        assertEq(jobs.batchState(quick, 0).provider, carol);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, alice));
        _submit(alice, quick, 0, 6);
        _submit(carol, quick, 0, 6);
    }

    /// A withheld output keeps a provider's checks: it was not shown to be wrong.
    function test_unanswered_keepsTheRecordOfChecks() public conserved {
        _passChecks(alice, 1);
        _demand(job, given, 7, 1);
        vm.warp(deadline + 1);
        _resolve(job, given);
        assertEq(reputation.providerRecord(alice).checks, 1);
    }

    function test_unanswered_ofACancelledJobIsRefunded() public conserved {
        bytes32 caseId = _demand(job, given, 7, 1);
        vm.prank(requester);
        jobs.cancel(job);
        assertEq(_locked(requester), _worst(job, 4));
        vm.warp(deadline + 1);
        _resolve(job, given);
        _claim(caseId);
        assertEq(_locked(requester), 0);
        assertEq(_available(requester), rules.depositOf(job, _spec()) + DEMAND_BOND);
        assertEq(uint8(_state(job, 1)), uint8(BatchState.Cancelled));
    }

    function test_oneOfTwoUnanswered_losesTheBatch() public conserved {
        bytes32 shown = _demand(job, given, 7, 1);
        bytes32 hidden = _demand(job, given, 7, 2);
        _answer(alice, shown, _right(7, 1));
        vm.warp(deadline + 1);
        _resolve(job, given);
        assertEq(uint8(_state(job, 1)), uint8(BatchState.Open));
        assertEq(_available(alice), DEMAND_BOND);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongCaseState.selector, shown, CaseState.Lost));
        _claim(shown);
        assertEq(_claim(hidden), DEMAND_BOND);
    }

    /// With a window longer than the time to answer, what was not shown costs the batch only once the window is over: challenges
    /// may come until then, and a wrong result must not get away as a withheld one.
    function test_unansweredDemand_doesNotEndTheWindowEarly() public conserved {
        Job memory long = _job();
        (long.nonce, long.windowSeconds) = (2, uint32(DEMAND) * 24);
        _post(long);
        Submission memory wrong = _submitted(bob, long, 0, 1e9);
        Standing memory its = _describe(long, wrong);
        bytes32 caseId = _demand(long, wrong, 0, 0);
        vm.warp(disputes.caseOf(caseId).deadline + 1);
        // "once its window is over and each of its cases is ruled, answered or past its deadline"
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooEarly.selector, its.finalAt));
        _resolve(long, wrong);
        _rule(_challenge(dave, long, wrong, 0), true);
    }

    // Demands and challenges of one result

    function test_wrongAndWithheld_isWrong() public conserved {
        bytes32 demanded = _demand(job, given, 7, 1);
        bytes32 challenged = _challenge(dave, job, given, 7);
        _rule(challenged, true);
        _passDeadline(about);
        _resolve(job, given);
        assertEq(reputation.providerRecord(alice).failed, 1);
        assertEq(reputation.providerRecord(alice).withheld, 0);
        assertEq(escrow.balanceOf(alice).stake, STAKE - _lockOf(job, 4));
        assertEq(_claim(demanded), DEMAND_BOND, "without a share of the stake");
        assertEq(_claim(challenged), CHALLENGE_BOND + _lockOf(job, 4) / 2);
        assertEq(_worth(address(disputes)), 0);
    }

    function test_rightButWithheld_isWithheld() public conserved {
        bytes32 demanded = _demand(job, given, 7, 1);
        _rule(_challenge(dave, job, given, 7), false);
        _passDeadline(about);
        _resolve(job, given);
        assertEq(reputation.providerRecord(alice).withheld, 1);
        assertEq(_lockedStake(alice), 0);
        assertEq(escrow.balanceOf(alice).stake, STAKE);
        _claim(demanded);
        assertEq(_worth(address(disputes)), 0);
    }

    function test_shownAndRight_stands() public conserved {
        bytes32 demanded = _demand(job, given, 7, 1);
        _rule(_challenge(dave, job, given, 7), false);
        _answer(alice, demanded, _right(7, 1));
        vm.warp(about.finalAt);
        _resolve(job, given);
        jobs.finalise(job, _one(given));
        assertEq(_earned(alice), _price(job, given.fuel));
        assertEq(_available(alice), DEMAND_BOND + CHALLENGE_BOND / 2);
    }

    function test_shownButWrong_isWrong() public conserved {
        bytes32 demanded = _demand(job, given, 7, 1);
        bytes32 challenged = _challenge(dave, job, given, 7);
        _answer(alice, demanded, _right(7, 1));
        _rule(challenged, true);
        vm.warp(about.finalAt);
        _resolve(job, given);
        assertEq(escrow.balanceOf(alice).stake, STAKE - _lockOf(job, 4));
    }

    /// The deadline is the last one of all: a demand does not shorten the arbiter's time.
    function test_demand_doesNotShortenTheRulingTime() public conserved {
        bytes32 challenged = _challenge(dave, job, given, 7);
        bytes32 demanded = _demand(job, given, 7, 1);
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooEarly.selector, about.finalAt + RULING + 1));
        _resolve(job, given);
        vm.warp(about.finalAt + RULING);
        _rule(challenged, true);
        vm.warp(about.finalAt + RULING + 1);
        _resolve(job, given);
        _claim(demanded);
        assertEq(reputation.providerRecord(alice).failed, 1);
    }

    // Gas

    /// What a demand's bond must pay for: a transaction with its 5.7 kB of calldata, from cold slots. Seen with -vv.
    /// forge-config: default.isolate = true
    function test_gas_ofAnAnswerOfAWholeChunk() public {
        bytes32 caseId = _demand(job, given, 7, 1);
        Answer memory a = _right(7, 1);
        vm.prank(alice);
        disputes.answer(caseId, about, a);
        uint256 gas = vm.lastCallGas().gasTotalUsed;
        console.log("answer of 4 KiB, as a transaction", gas);
        assertLe(gas, 350_000);
    }

    // What the tests are made of

    function _answer(address who, bytes32 caseId, Answer memory a) private {
        vm.expectEmit(address(disputes));
        emit IDisputes.Answered(caseId, who, a.leaf, a.part);
        vm.prank(who);
        disputes.answer(caseId, about, a);
    }

    function _expectWrong(bytes32 caseId, Answer memory a) private {
        _expectRefusal(caseId, a, abi.encodeWithSelector(IDisputes.WrongAnswer.selector));
    }

    function _expectRefusal(bytes32 caseId, Answer memory a, bytes memory refusal) private {
        vm.expectRevert(refusal);
        vm.prank(alice);
        disputes.answer(caseId, about, a);
    }

    /// The answer for a chunk of a task's output.
    function _right(uint32 task, uint32 chunk) private view returns (Answer memory a) {
        uint256 position = task - 4;
        bytes memory output = outputs[position];
        (a.chunk, a.leaf) = (chunk, leaves[position]);
        a.part = RegionTree.chunk(output, chunk);
        a.chunkSiblings = RegionTree.prove(output, chunk);
        (a.siblingHashes, a.siblingFuels) = (new bytes32[](2), new uint64[](2));
        uint256 beside = position ^ 1;
        (a.siblingHashes[0], a.siblingFuels[0]) = (_hash(beside), leaves[beside].fuel);
        uint256 far = position < 2 ? 2 : 0;
        (a.siblingHashes[1], a.siblingFuels[1]) =
            ResultTree.node(_hash(far), leaves[far].fuel, _hash(far + 1), leaves[far + 1].fuel);
    }

    function _hash(uint256 position) private view returns (bytes32) {
        return ResultTree.leafHash(leaves[position]);
    }
}
