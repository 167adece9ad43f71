// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Batch, BatchState, IJobRegistry, Job, Submission} from "../interfaces/IJobRegistry.sol";
import {Fixture} from "./Fixture.sol";

/// The price ramp: what a lease fixes, and what is paid and refunded.
contract JobRegistryPriceTest is Fixture {
    Job private job;

    function setUp() public override {
        super.setUp();
        job = _job();
        (job.startPrice, job.maxPrice) = (1e18, 3e18);
        (job.rampStart, job.rampSeconds) = (uint32(block.timestamp) + 100, 1000);
        _post(job);
    }

    function test_price_risesLinearlyOverTheRamp() public {
        assertEq(jobs.priceOf(job), 1e18, "before the ramp");
        vm.warp(job.rampStart);
        assertEq(jobs.priceOf(job), 1e18, "at its start");
        vm.warp(job.rampStart + 500);
        assertApproxEqAbs(jobs.priceOf(job), 2e18, uint256(2e18) / 65_535, "half-way");
        vm.warp(job.rampStart + 999);
        assertLt(jobs.priceOf(job), 3e18);
        vm.warp(job.rampStart + 1000);
        assertEq(jobs.priceOf(job), 3e18, "at its end");
        vm.warp(job.rampStart + 1_000_000);
        assertEq(jobs.priceOf(job), 3e18, "and ever after");
    }

    function test_price_ofAJobWithoutARampIsTheOnePrice() public {
        Job memory flat = _job();
        assertEq(jobs.priceOf(flat), flat.maxPrice);
        flat.rampStart = type(uint32).max;
        assertEq(jobs.priceOf(flat), flat.maxPrice);
    }

    function test_lease_fixesThePriceAndTheDifferenceIsRefunded() public {
        vm.warp(job.rampStart + 250);
        uint128 price = jobs.priceOf(job);
        _lease(alice, job, _list(0));
        assertEq(jobs.batchState(job, 0).price, price);
        vm.warp(job.rampStart + 900);
        uint64 fuel = 4 * job.fuelLimit;
        vm.prank(alice);
        jobs.submit(job, _results(0, fuel));
        Submission[] memory given = new Submission[](1);
        given[0] = Submission(0, alice, price, _result(0, fuel).root, fuel);
        vm.prank(requester);
        jobs.accept(job, given);
        uint256 payment = uint256(fuel) * price / GIGAFUEL;
        assertEq(_earned(alice), payment);
        assertEq(_available(requester), _worst(job, 4) - payment);
        assertLt(payment, _worst(job, 4) / 2 + 1);
    }

    function test_lease_ofABatchThatWasLeasedBeforeKeepsItsPrice() public {
        _lease(alice, job, _list(0, 1));
        vm.prank(alice);
        jobs.release(job, _list(1));
        vm.warp(job.rampStart + 2000);
        _expire(job, _list(0));
        assertEq(jobs.batchState(job, 0).price, 1e18, "open, and priced");
        _lease(bob, job, _list(0, 1, 2));
        assertEq(jobs.batchState(job, 0).price, 1e18);
        assertEq(jobs.batchState(job, 1).price, 3e18, "given back at once: as if it had not been leased");
        assertEq(jobs.batchState(job, 2).price, 3e18);
        // A late result of the former holder is paid at the same price.
        vm.prank(alice);
        jobs.submit(job, _results(0, 1e9));
        assertEq(
            jobs.batchState(job, 0).submission, _submissionHash(Submission(0, alice, 1e18, _result(0, 1e9).root, 1e9))
        );
    }

    function testFuzz_price_isBetweenStartAndMaximumAndNeverFalls(
        uint128 start,
        uint128 rise,
        uint32 ramp,
        uint32 a,
        uint32 b
    ) public {
        Job memory any = _job();
        any.startPrice = uint128(bound(start, 1, type(uint128).max / 2));
        any.maxPrice = any.startPrice + uint128(bound(rise, 0, type(uint128).max / 2));
        (any.rampStart, any.rampSeconds) = (1_800_000_000, ramp);
        (uint256 early, uint256 late) = a < b ? (a, b) : (b, a);
        vm.warp(early + 1);
        uint128 before = jobs.priceOf(any);
        vm.warp(late + 1);
        assertGe(before, any.startPrice);
        assertGe(jobs.priceOf(any), before);
        assertLe(jobs.priceOf(any), any.maxPrice);
    }
}

/// The job's state rides in batch 0's slot, and its id is taken from the raw calldata: neither may be fooled.
contract JobRegistrySlotTest is Fixture {
    /// Every transition of batch 0 leaves the job as it is, and none of the job's touches the batch.
    function testFuzz_batchZero_sharesItsSlotWithTheJob(uint256 seed) public {
        Job memory job = _job();
        (job.taskCount, job.batchSize) = (3, 1);
        bytes32 id = _post(job);
        bool cancelled;
        for (uint256 i = 0; i < 24; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            _act(job, uint32(seed % 5 < 3 ? 0 : seed % 3), seed >> 8, cancelled);
            if ((seed >> 200) % 30 == 0 && !cancelled) {
                vm.prank(requester);
                jobs.cancel(job);
                cancelled = true;
            }
            uint24 open;
            for (uint32 b = 0; b < 3; ++b) {
                BatchState state = _state(job, b);
                if (state == BatchState.Open) open += 1;
                assertTrue(state != BatchState.Cancelled || cancelled);
            }
            assertTrue(jobs.jobState(id).posted);
            assertEq(jobs.jobState(id).cancelled, cancelled);
            assertEq(jobs.jobState(id).open, open);
        }
    }

    function _act(Job memory job, uint32 batch, uint256 seed, bool cancelled) private {
        BatchState state = _state(job, batch);
        address who = seed % 2 == 0 ? alice : bob;
        if (state == BatchState.Open && !cancelled) {
            address last = jobs.batchState(job, batch).provider;
            if (last != address(0) && seed % 3 == 0) _submit(last, job, batch, uint64(seed % 9));
            else _lease(who, job, _list(batch));
        } else if (state == BatchState.Leased) {
            Batch memory now_ = jobs.batchState(job, batch);
            if (seed % 4 == 0 && block.timestamp <= now_.time - LEASE + LEASE / 4) {
                vm.prank(now_.provider);
                jobs.release(job, _list(batch));
                skip(1);
            } else if (seed % 4 == 1) {
                _waitUntil(uint256(now_.time) + 1);
                vm.roll(block.number + seed % 40);
                _expire(job, _list(batch));
            } else if (now_.activeBlock <= block.number) {
                _submit(now_.provider, job, batch, uint64(seed % 9));
            } else {
                _submit(now_.former, job, batch, uint64(seed % 9));
            }
        } else if (state == BatchState.Submitted) {
            if (seed % 2 == 0) {
                vm.prank(requester);
                jobs.accept(job, _standing(job, _list(batch)));
            } else {
                _waitUntil(jobs.batchState(job, batch).time);
                jobs.finalise(job, _standing(job, _list(batch)));
            }
        }
    }

    function _waitUntil(uint256 time) private {
        if (block.timestamp < time) vm.warp(time);
    }

    /// Calldata whose unused upper bits are set names no job, and posts none.
    function test_dirtyCalldata_isRefusedInEveryField() public {
        Job memory job = _job();
        bytes memory post = abi.encodeCall(IJobRegistry.post, (job, _spec(), _contact(), _noPermit()));
        _post(job);
        bytes memory cancel = abi.encodeCall(IJobRegistry.cancel, (job));
        bytes memory idOf = abi.encodeCall(IJobRegistry.jobIdOf, (job));
        (, bytes memory clean) = address(jobs).call(idOf);
        // All fields but `spec`, a whole word, have unused bits.
        for (uint256 field = 0; field < 12; ++field) {
            if (field == 2) continue;
            _flip(post, field);
            _flip(cancel, field);
            _flip(idOf, field);
            vm.startPrank(requester);
            (bool posted,) = address(jobs).call(post);
            (bool done,) = address(jobs).call(cancel);
            (bool known, bytes memory id) = address(jobs).call(idOf);
            vm.stopPrank();
            assertFalse(posted, "posted");
            assertFalse(done, "acted on");
            assertFalse(known && keccak256(id) == keccak256(clean), "another encoding of the same job");
            _flip(post, field);
            _flip(cancel, field);
            _flip(idOf, field);
        }
        vm.prank(requester);
        (bool ok,) = address(jobs).call(cancel);
        assertTrue(ok, "and the clean one works");
    }

    function _flip(bytes memory data, uint256 field) private pure {
        data[4 + field * 32] = bytes1(uint8(data[4 + field * 32]) ^ 1);
    }
}
