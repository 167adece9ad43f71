// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Job} from "../interfaces/IJobRegistry.sol";
import {IJobRules} from "../interfaces/IJobRules.sol";
import {Fixture} from "./Fixture.sol";

/// What holds for the prices of every job that can be posted.
contract ArithmeticTest is Fixture {
    /// Any job whose deposit and locks a deployment's supply can cover.
    function _anyJob(uint256 seed) private view returns (Job memory job, uint32 batches) {
        job = _job();
        job.nonce = uint64(seed);
        job.taskCount = uint32(_pick(seed, 1, 1, 200));
        job.batchSize = uint32(_pick(seed, 2, 1, job.taskCount));
        // Uniform over orders of magnitude: 2^0 .. 2^45 fuel, 2^0 .. 2^50 wei.
        job.fuelLimit = uint64(_pick(seed, 3, 1, 1 << _pick(seed, 4, 0, 45)));
        job.startPrice = uint128(_pick(seed, 5, 1, 1 << _pick(seed, 6, 0, 50)));
        job.maxPrice = job.startPrice;
        batches = (job.taskCount + job.batchSize - 1) / job.batchSize;
    }

    function _pick(uint256 seed, uint256 salt, uint256 low, uint256 high) private pure returns (uint256) {
        return bound(uint256(keccak256(abi.encode(seed, salt))), low, high);
    }

    function _tasks(Job memory job, uint32 batch) private pure returns (uint256) {
        uint256 left = job.taskCount - batch * job.batchSize;
        return left < job.batchSize ? left : job.batchSize;
    }

    function testFuzz_deposit_isTheSumOfTheBatchesWorstCases(uint256 seed) public view {
        (Job memory job, uint32 batches) = _anyJob(seed);
        uint256 sum;
        for (uint32 i = 0; i < batches; ++i) {
            sum += _worst(job, _tasks(job, i));
        }
        assertEq(rules.depositOf(job, _spec()), sum);
        uint256 exact = uint256(job.taskCount) * job.fuelLimit * job.maxPrice;
        assertGe(sum * GIGAFUEL, exact);
        assertLt(sum * GIGAFUEL, exact + batches * GIGAFUEL, "rounding adds less than a wei a batch");
    }

    /// Batches settle at any fuel: each pays at most its worst case, and all together release exactly the deposit.
    function testFuzz_settling_paysAtMostTheWorstCaseAndReleasesTheDeposit(uint256 seed) public {
        (Job memory job, uint32 batches) = _anyJob(seed);
        job.batchSize = uint32(_pick(seed, 7, (job.taskCount + 4) / 5, job.taskCount));
        batches = (job.taskCount + job.batchSize - 1) / job.batchSize;
        address rich = makeAddr("rich");
        _register(rich, 1_000_000 * TOKEN);
        uint256 deposit = rules.depositOf(job, _spec());
        _fund(requester, deposit);
        bytes32 id = _post(job);
        uint256 paid;
        for (uint32 i = 0; i < batches; ++i) {
            uint256 limit = _tasks(job, i) * job.fuelLimit;
            uint64 fuel = uint64(_pick(seed, 100 + i, 0, limit));
            if (_pick(seed, 200 + i, 0, 3) == 0) fuel = uint64(limit);
            _lease(rich, job, _list(i));
            _submit(rich, job, i, fuel);
            uint256 before = _earned(rich);
            vm.prank(requester);
            jobs.accept(job, _standing(job, _list(i)));
            uint256 payment = _earned(rich) - before;
            assertEq(payment, _price(job, fuel));
            assertLe(payment, _worst(job, _tasks(job, i)));
            paid += payment;
        }
        assertEq(_available(requester), deposit - paid);
        assertEq(_locked(requester), 0);
        assertEq(jobs.jobState(id).open, 0);
    }

    function testFuzz_leaseLock_coversWorstCaseTimesOddsOfNoAudit(uint256 seed) public view {
        (Job memory job, uint32 batches) = _anyJob(seed);
        uint32 batch = uint32(_pick(seed, 8, 0, batches - 1));
        uint256 lock = jobs.leaseLock(job, batch);
        uint256 worst = _worst(job, _tasks(job, batch));
        assertGe(lock * AUDIT_FLOOR_BPS, worst * (10_000 - AUDIT_FLOOR_BPS));
        assertLt(lock * AUDIT_FLOOR_BPS, worst * (10_000 - AUDIT_FLOOR_BPS) + AUDIT_FLOOR_BPS);
    }

    /// Every cancellation refunds exactly the worst case of what was open, whichever batches are leased.
    function testFuzz_cancel_refundsExactlyTheOpenBatches(uint256 seed, uint256 leased) public {
        (Job memory job,) = _anyJob(seed);
        job.batchSize = uint32(_pick(seed, 7, (job.taskCount + 7) / 8, job.taskCount));
        uint32 batches = (job.taskCount + job.batchSize - 1) / job.batchSize;
        address rich = makeAddr("rich");
        _register(rich, 1_000_000 * TOKEN);
        _fund(requester, rules.depositOf(job, _spec()));
        bytes32 id = _post(job);
        uint256 held;
        for (uint32 i = 0; i < batches; ++i) {
            if ((leased >> i) & 1 == 0) continue;
            _lease(rich, job, _list(i));
            held += _worst(job, _tasks(job, i));
        }
        vm.prank(requester);
        jobs.cancel(job);
        assertEq(_locked(requester), held);
        assertEq(jobs.jobState(id).open, 0);
        assertEq(_available(requester), rules.depositOf(job, _spec()) - held);
    }
}
