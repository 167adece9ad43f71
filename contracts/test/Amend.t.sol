// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IEscrow, Permit} from "../interfaces/IEscrow.sol";
import {Standing} from "../interfaces/IDisputes.sol";
import {Batch, BatchState, IJobRegistry, Job, JobState, Submission} from "../interfaces/IJobRegistry.sol";
import {IJobRules} from "../interfaces/IJobRules.sol";
import {DisputeFixture} from "./DisputeFixture.sol";

/// Open batches that get other prices and times.
contract AmendTest is DisputeFixture {
    Job private job;
    bytes32 private id;

    function setUp() public override {
        super.setUp();
        (job, id) = _posted();
    }

    // What moves

    function test_amend_movesAllOpenBatchesToTheNewTerms() public conserved {
        Job memory terms = _terms(2);
        (terms.leaseSeconds, terms.windowSeconds) = (7, 9);
        bytes32 expected = jobs.jobIdOf(terms);
        uint256 old = rules.depositOf(job, _spec());
        uint256 new_ = rules.depositOf(terms, _spec());
        vm.expectEmit(address(jobs));
        emit IJobRegistry.JobAmended(id, expected, terms, new_);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.JobCancelled(id, 3, old);
        assertEq(_amend(job, terms), expected);
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(true, true, 0)));
        assertEq(abi.encode(jobs.jobState(expected)), abi.encode(JobState(true, false, 3)));
        for (uint32 batch = 0; batch < 3; ++batch) {
            assertEq(uint8(_state(job, batch)), uint8(BatchState.Cancelled));
            assertEq(uint8(_state(terms, batch)), uint8(BatchState.Open));
        }
        assertEq(_locked(requester), new_);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobIsCancelled.selector, id));
        _lease(alice, job, _list(0));
        Submission memory given = _submitted(alice, terms, 0, 2e9);
        assertEq(jobs.batchState(terms, 0).time, block.timestamp + 9);
        assertEq(_lockedStake(alice), _lockOf(terms, 4));
        vm.prank(requester);
        jobs.accept(terms, _one(given));
        assertEq(_earned(alice), _price(terms, 2e9));
    }

    function test_amend_upTakesTheDifferenceOnly() public conserved {
        uint256 before = token.balanceOf(requester);
        Job memory terms = _priced(2, 3e18);
        uint256 difference = rules.depositOf(terms, _spec()) - _locked(requester);
        _amend(job, terms);
        assertEq(token.balanceOf(requester), before - difference);
        assertEq(_available(requester), 0);
        assertEq(_locked(requester), rules.depositOf(terms, _spec()));
    }

    function test_amend_downRefundsTheDifferenceWithoutAllowance() public conserved {
        vm.prank(requester);
        token.approve(address(escrow), 0);
        Job memory terms = _priced(2, 1e17);
        uint256 difference = _locked(requester) - rules.depositOf(terms, _spec());
        _amend(job, terms);
        assertEq(_available(requester), difference);
        assertEq(_locked(requester), rules.depositOf(terms, _spec()));
    }

    function test_amend_takesAPermit() public conserved {
        vm.prank(requester);
        token.approve(address(escrow), 0);
        Job memory terms = _priced(2, 3e18);
        uint256 difference = rules.depositOf(terms, _spec()) - _locked(requester);
        vm.expectRevert();
        _amend(job, terms);
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Open), "nothing happened");
        Permit memory permit = _permit(requester, requesterKey, difference, block.timestamp);
        vm.prank(requester);
        jobs.amend(job, terms, permit);
    }

    // What stays

    function test_leasedBatch_isFinishedAndPaidUnderTheOldTerms() public conserved {
        _lease(alice, job, _list(1));
        Job memory terms = _priced(2, 5e17);
        _amend(job, terms);
        assertEq(_locked(requester), _worst(job, 4) + _worst(terms, 4) + _worst(terms, 2));
        assertEq(uint8(_state(terms, 1)), uint8(BatchState.Cancelled));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Cancelled));
        _lease(bob, terms, _list(1));
        _submit(alice, job, 1, 2e9);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Cancelled));
        _lease(bob, terms, _list(1));
        vm.warp(block.timestamp + WINDOW);
        jobs.finalise(job, _one(_submission(alice, job, 1, 2e9)));
        assertEq(_earned(alice), _price(job, 2e9));
        assertEq(_locked(requester), _worst(terms, 4) + _worst(terms, 2));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Cancelled));
        _lease(bob, terms, _list(1));
    }

    function test_submittedBatch_cannotBeSettledUnderTheNewTerms() public conserved {
        Submission memory given = _submitted(alice, job, 0, 2e9);
        Job memory terms = _priced(2, 1);
        _amend(job, terms);
        vm.startPrank(requester);
        vm.expectPartialRevert(IJobRegistry.WrongState.selector);
        jobs.accept(terms, _one(given));
        jobs.accept(job, _one(given));
        assertEq(_earned(alice), _price(job, 2e9));
    }

    /// Batch 0 shares its slot with the job's own state.
    function test_eachBatchLeasedAlone_staysAlone() public conserved {
        for (uint32 leased = 0; leased < 3; ++leased) {
            Job memory first = _job();
            first.nonce = 100 + leased;
            _post(first);
            uint256 before = _locked(requester) - rules.depositOf(first, _spec());
            _lease(alice, first, _list(leased));
            Job memory terms = _priced(200 + leased, 2e18);
            _amend(first, terms);
            uint256 locked = _worst(first, leased == 2 ? 2 : 4);
            for (uint32 batch = 0; batch < 3; ++batch) {
                BatchState have = _state(terms, batch);
                assertEq(uint8(have), uint8(batch == leased ? BatchState.Cancelled : BatchState.Open));
                if (batch != leased) locked += _worst(terms, batch == 2 ? 2 : 4);
            }
            assertEq(_locked(requester) - before, locked);
        }
    }

    function test_expiredLeaseOfTheOldJob_isRefundedAndNotOpenInTheNew() public conserved {
        _lease(alice, job, _list(0));
        Job memory terms = _priced(2, 5e17);
        _amend(job, terms);
        _passLease();
        bytes memory refusal = abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Cancelled);
        vm.expectRevert(refusal);
        _lease(bob, terms, _list(0));
        _expire(job, _list(0));
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Cancelled));
        assertEq(_locked(requester), _worst(terms, 4) + _worst(terms, 2));
        vm.expectRevert(refusal);
        _lease(bob, terms, _list(0));
        vm.expectRevert(refusal);
        _submit(alice, job, 0, 2e9);
        // Nor does another amendment bring it back.
        Job memory next = _priced(3, 5e17);
        _amend(terms, next);
        assertEq(jobs.jobState(jobs.jobIdOf(next)).open, 2);
        vm.expectRevert(refusal);
        _lease(bob, next, _list(0));
    }

    function test_releasedLeaseOfTheOldJob_isRefundedAndNotOpenInTheNew() public conserved {
        _lease(alice, job, _list(0));
        Job memory terms = _priced(2, 5e17);
        _amend(job, terms);
        vm.prank(alice);
        jobs.release(job, _list(0));
        assertEq(_locked(requester), _worst(terms, 4) + _worst(terms, 2));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Cancelled));
        _lease(bob, terms, _list(0));
    }

    function test_wrongResultOfTheOldJob_isRefundedAndNotOpenInTheNew() public conserved {
        Submission memory given = _submitted(alice, job, 0, 2e9);
        Standing memory about = _describe(job, given);
        _rule(_challenge(dave, job, given, 0), true);
        Job memory terms = _priced(2, 5e17);
        _amend(job, terms);
        vm.warp(about.finalAt);
        _resolve(job, given);
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Cancelled));
        assertEq(_locked(requester), _worst(terms, 4) + _worst(terms, 2));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Cancelled));
        _lease(bob, terms, _list(0));
    }

    /// Whose lease ran out before has no turn in the new job: it is a new offer.
    function test_openBatchThatOnceExpired_isFreshInTheNewJob() public conserved {
        _lease(alice, job, _list(0));
        _passLease();
        _expire(job, _list(0));
        Job memory terms = _priced(2, 5e17);
        _amend(job, terms);
        Batch memory open;
        assertEq(abi.encode(jobs.batchState(terms, 0)), abi.encode(open));
        _lease(bob, terms, _list(0));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Cancelled));
        _submit(alice, job, 0, 2e9);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, alice));
        _submit(alice, terms, 0, 2e9);
        _submit(bob, terms, 0, 2e9);
    }

    function test_batchOfTheNewJob_expiresAndIsLeasedAgain() public conserved {
        Job memory terms = _terms(2);
        _amend(job, terms);
        _lease(alice, terms, _list(0));
        _passLease();
        _lease(bob, terms, _list(0));
        assertEq(jobs.batchState(terms, 0).expiries, 1);
        assertEq(jobs.batchState(terms, 0).former, alice);
        assertEq(jobs.jobState(jobs.jobIdOf(terms)).open, 2);
    }

    // Chains

    function test_threeAmendments_leaveOneBatchBehindEach() public conserved {
        Job[4] memory chain = [job, _priced(2, 2e18), _priced(3, 5e17), _priced(4, 3e18)];
        for (uint32 i = 0; i < 2; ++i) {
            // The small last batch first.
            _lease(alice, chain[i], _list(2 - i));
            _amend(chain[i], chain[i + 1]);
        }
        _amend(chain[2], chain[3]);
        assertEq(jobs.jobState(jobs.jobIdOf(chain[3])).open, 1);
        assertEq(_locked(requester), _worst(chain[0], 2) + _worst(chain[1], 4) + _worst(chain[3], 4));
        for (uint32 batch = 1; batch < 3; ++batch) {
            vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, batch, BatchState.Cancelled));
            _lease(bob, chain[3], _list(batch));
        }
        _lease(bob, chain[3], _list(0));
        _submit(alice, chain[0], 2, 1e9);
        _submit(alice, chain[1], 1, 1e9);
        _submit(bob, chain[3], 0, 1e9);
        vm.startPrank(requester);
        jobs.accept(chain[0], _one(_submission(alice, chain[0], 2, 1e9)));
        jobs.accept(chain[1], _one(_submission(alice, chain[1], 1, 1e9)));
        jobs.accept(chain[3], _one(_submission(bob, chain[3], 0, 1e9)));
        assertEq(_earned(alice), _price(chain[0], 1e9) + _price(chain[1], 1e9));
        assertEq(_earned(bob), _price(chain[3], 1e9));
        assertEq(_locked(requester), 0);
    }

    function test_cancel_ofTheNewJobRefundsItsOwnBatchesOnly() public conserved {
        _lease(alice, job, _list(2));
        Job memory terms = _priced(2, 2e18);
        _amend(job, terms);
        _lease(bob, terms, _list(0));
        vm.prank(requester);
        jobs.cancel(terms);
        assertEq(_locked(requester), _worst(job, 2) + _worst(terms, 4));
        for (uint32 batch = 1; batch < 3; ++batch) {
            assertEq(uint8(_state(terms, batch)), uint8(BatchState.Cancelled));
        }
        _passLease();
        _expire(terms, _list(0));
        _expire(job, _list(2));
        assertEq(_locked(requester), 0);
    }

    // What is refused

    function test_otherWork_isRefused() public conserved {
        Job memory terms = _terms(2);
        terms.requester = alice;
        _expectOtherWork(terms);
        terms = _terms(2);
        terms.spec = keccak256("another");
        _expectOtherWork(terms);
        terms = _terms(2);
        terms.taskCount = 9;
        _expectOtherWork(terms);
        terms = _terms(2);
        terms.batchSize = 5;
        _expectOtherWork(terms);
        terms = _terms(2);
        terms.fuelLimit += 1;
        _expectOtherWork(terms);
        _amend(job, _terms(2));
    }

    function test_amend_isForTheRequesterOnly() public conserved {
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotRequester.selector, alice, requester));
        vm.prank(alice);
        jobs.amend(job, _terms(2), _noPermit());
    }

    function test_amend_ofAnUnknownOrCancelledJobIsRefused() public conserved {
        vm.expectPartialRevert(IJobRegistry.UnknownJob.selector);
        _amend(_terms(7), _terms(8));
        _amend(job, _terms(2));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobIsCancelled.selector, id));
        _amend(job, _terms(3));
        Job memory ended = _terms(2);
        vm.prank(requester);
        jobs.cancel(ended);
        bytes32 endedId = jobs.jobIdOf(ended);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobIsCancelled.selector, endedId));
        _amend(ended, _terms(3));
    }

    function test_amend_intoAJobThatExistsIsRefused() public conserved {
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobExists.selector, id));
        _amend(job, job);
        Job memory other = _terms(5);
        bytes32 otherId = _post(other);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobExists.selector, otherId));
        _amend(job, other);
        Job memory terms = _terms(2);
        _amend(job, terms);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobExists.selector, id));
        _amend(terms, job);
        bytes32 termsId = jobs.jobIdOf(terms);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobExists.selector, termsId));
        _post(terms);
    }

    function test_amend_withNothingOpenIsRefused() public conserved {
        _lease(alice, job, _list(0, 1, 2));
        vm.expectRevert(IJobRegistry.NothingGiven.selector);
        _amend(job, _terms(2));
    }

    function test_amend_checksTheNewTerms() public conserved {
        Job memory terms = _terms(2);
        terms.windowSeconds = uint32(CAP);
        vm.expectPartialRevert(IJobRules.InvalidJob.selector);
        _amend(job, terms);
        terms = _terms(2);
        terms.startPrice = 0;
        vm.expectPartialRevert(IJobRules.InvalidJob.selector);
        _amend(job, terms);
        // A deposit that no account could lock.
        terms = _terms(2);
        (terms.startPrice, terms.maxPrice) = (type(uint128).max, type(uint128).max);
        vm.expectRevert();
        _amend(job, terms);
    }

    // Any order of everything

    /// At each step the requester's lock is the worst case of what is not final under the terms that it has, each batch goes on in
    /// at most one job, and none is paid twice; in the end nothing is left locked.
    function testFuzz_anyHistory_paysEachBatchAtMostOnce(uint256[40] calldata seeds) public conserved {
        Job[] memory chain = new Job[](seeds.length + 1);
        chain[0] = job;
        uint256 length = 1;
        uint256 paid;
        for (uint256 i = 0; i < seeds.length; ++i) {
            uint256 seed = seeds[i];
            Job memory at = chain[seed >> 16 & 1 == 0 ? length - 1 : (seed >> 24) % length];
            uint32 batch = uint32((seed >> 32) % 3);
            address who = three[(seed >> 40) % 3];
            if (seed % 8 == 0) {
                Job memory terms = _priced(uint64(i + 2), uint128(1 + (seed >> 48) % 3e18));
                vm.prank(requester);
                try jobs.amend(at, terms, _noPermit()) {
                    chain[length++] = terms;
                } catch {}
            } else {
                paid += _step(at, batch, who, seed);
            }
            _checkBooks(chain, length, paid);
        }
        _finish(chain, length);
        assertEq(_locked(requester), 0, "nothing is left locked");
        assertEq(_lockedStake(alice) + _lockedStake(bob) + _lockedStake(carol), 0, "nor held");
    }

    /// One call that may be refused. Returns what it paid.
    function _step(Job memory at, uint32 batch, address who, uint256 seed) private returns (uint256) {
        uint256 action = seed % 8;
        uint256 before = _earned(alice) + _earned(bob) + _earned(carol);
        if (action == 1 || action == 2) {
            vm.prank(who);
            try jobs.lease(at, _list(batch)) {} catch {}
        } else if (action == 3) {
            // By its holder.
            vm.prank(jobs.batchState(at, batch).provider);
            try jobs.submit(at, _results(batch, 1e9)) {} catch {}
        } else if (action == 4) {
            vm.prank(requester);
            try jobs.accept(at, _one(_by(at, batch))) {} catch {}
        } else if (action == 5) {
            vm.warp(block.timestamp + (seed >> 56) % (2 * LEASE));
            vm.roll(block.number + 1);
            try jobs.expire(at, _list(batch)) {} catch {}
        } else if (action == 6) {
            if (seed >> 64 & 7 == 0) {
                vm.prank(requester);
                try jobs.cancel(at) {} catch {}
            } else {
                vm.prank(who);
                try jobs.release(at, _list(batch)) {} catch {}
            }
        } else {
            Submission memory given = _by(at, batch);
            vm.prank(dave);
            try disputes.challenge(address(jobs), abi.encode(at, given), batch * 4, PROOF, _noPermit()) returns (
                bytes32 caseId
            ) {
                _rule(caseId, seed >> 64 & 1 == 0);
            } catch {
                vm.warp(block.timestamp + WINDOW);
                try jobs.resolve(at, given) {} catch {}
            }
        }
        return _earned(alice) + _earned(bob) + _earned(carol) - before;
    }

    /// Whose submission of a batch stands: any provider's, tried in turn.
    function _by(Job memory at, uint32 batch) private view returns (Submission memory given) {
        uint256 stored = jobs.batchState(at, batch).submission;
        for (uint256 i = 0; i < 3; ++i) {
            given = _submission(three[i], at, batch, 1e9);
            if (_submissionHash(given) == stored) return given;
        }
    }

    function _checkBooks(Job[] memory chain, uint256 length, uint256 paid) private view {
        uint256 locked;
        uint256 owed;
        uint256[3] memory alive;
        for (uint256 i = 0; i < length; ++i) {
            uint256 open;
            for (uint32 batch = 0; batch < 3; ++batch) {
                BatchState state = _state(chain[i], batch);
                if (state == BatchState.Cancelled) continue;
                alive[batch] += 1;
                if (state == BatchState.Open) ++open;
                if (state == BatchState.Settled) owed += _price(chain[i], 1e9);
                else locked += _worst(chain[i], batch == 2 ? 2 : 4);
            }
            assertEq(jobs.jobState(jobs.jobIdOf(chain[i])).open, open, "open batches");
        }
        for (uint256 batch = 0; batch < 3; ++batch) {
            assertLe(alive[batch], 1, "a batch goes on in two jobs");
        }
        assertEq(_locked(requester), locked, "lock");
        assertEq(paid, owed, "paid");
    }

    function _finish(Job[] memory chain, uint256 length) private {
        vm.warp(block.timestamp + 30 days);
        for (uint256 i = 0; i < length; ++i) {
            vm.prank(requester);
            try jobs.cancel(chain[i]) {} catch {}
            for (uint32 batch = 0; batch < 3; ++batch) {
                BatchState state = _state(chain[i], batch);
                Submission memory given = _by(chain[i], batch);
                if (state == BatchState.Leased) _expire(chain[i], _list(batch));
                if (state == BatchState.Frozen) _resolve(chain[i], given);
                if (_state(chain[i], batch) == BatchState.Submitted) jobs.finalise(chain[i], _one(given));
            }
        }
    }

    function _amend(Job memory from, Job memory terms) private returns (bytes32) {
        vm.prank(from.requester);
        return jobs.amend(from, terms, _noPermit());
    }

    function _expectOtherWork(Job memory terms) private {
        vm.expectRevert(IJobRegistry.OtherWork.selector);
        _amend(job, terms);
    }

    /// The same work at half the price.
    function _terms(uint64 nonce) private view returns (Job memory) {
        return _priced(nonce, 5e17 + 1);
    }

    function _priced(uint64 nonce, uint128 price) private view returns (Job memory terms) {
        terms = _job();
        (terms.nonce, terms.startPrice, terms.maxPrice) = (nonce, price, price);
    }
}
