// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {Permit} from "../interfaces/IEscrow.sol";
import {Batch, BatchState, Contact, IJobRegistry, Job, JobState, Result} from "../interfaces/IJobRegistry.sol";
import {Fixture} from "./Fixture.sol";

/// Post, contact, ids, deposits and cancellation.
contract JobRegistryPostTest is Fixture {
    function test_post_locksTheWorstCaseAndOpensEveryBatch() public {
        Job memory job = _job();
        bytes32 id = jobs.jobIdOf(job);
        uint256 deposit = 2 * _worst(job, 4) + _worst(job, 2);
        uint256 before = token.balanceOf(requester);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.JobPosted(id, requester, job, _contact(), deposit);
        assertEq(_post(job), id);
        assertEq(token.balanceOf(requester), before - deposit);
        assertEq(_locked(requester), deposit);
        assertEq(jobs.depositOf(job), deposit);
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(uint96(deposit), 3, 3, 1)));
        assertEq(uint8(_state(id, 2)), uint8(BatchState.Open));
    }

    function test_depositOf_isRoundedUpPerBatch() public view {
        Job memory job = _job();
        (job.taskCount, job.batchSize, job.fuelLimit, job.pricePerGigafuel) = (10, 4, 1, 1);
        assertEq(jobs.depositOf(job), 3);
        (job.fuelLimit, job.pricePerGigafuel) = (1e9, 5);
        assertEq(jobs.depositOf(job), 50);
        assertEq(jobs.leaseLock(job, 0), 60);
        assertEq(jobs.leaseLock(job, 2), 30);
    }

    function test_post_spendsTheEscrowBalanceBeforeTokens() public {
        Job memory job = _job();
        uint256 deposit = jobs.depositOf(job);
        vm.prank(requester);
        escrow.deposit(requester, deposit - 1);
        uint256 before = token.balanceOf(requester);
        _post(job);
        assertEq(token.balanceOf(requester), before - 1);
        assertEq(_available(requester), 0);
    }

    function test_post_worksByPermitEvenWhenItWasFrontRun() public {
        Job memory job = _job();
        uint256 deposit = jobs.depositOf(job);
        vm.prank(requester);
        token.approve(address(escrow), 0);
        Permit memory p = _permit(requester, requesterKey, deposit, block.timestamp);
        vm.prank(requester);
        jobs.post(job, _contact(), p);

        job.nonce = 2;
        p = _permit(requester, requesterKey, deposit, block.timestamp);
        vm.prank(stranger);
        token.permit(requester, address(escrow), p.value, p.deadline, p.v, p.r, p.s);
        vm.prank(requester);
        jobs.post(job, _contact(), p);
        assertEq(_locked(requester), 2 * deposit);
    }

    function test_post_refusesWithoutAllowance() public {
        vm.prank(requester);
        token.approve(address(escrow), 0);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        _post(_job());
    }

    function test_post_isForTheRequesterAndOnceOnly() public {
        Job memory job = _job();
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotRequester.selector, stranger, requester));
        vm.prank(stranger);
        jobs.post(job, _contact(), _noPermit());
        bytes32 id = _post(job);
        vm.startPrank(requester);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobExists.selector, id));
        jobs.post(job, _contact(), _noPermit());
        jobs.cancel(job);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobExists.selector, id));
        jobs.post(job, _contact(), _noPermit());
        job.nonce = 2;
        assertTrue(jobs.post(job, _contact(), _noPermit()) != id);
    }

    function test_post_refusesInvalidJobs() public {
        Job memory job = _job();
        job.program = 0;
        _expectInvalid(job, "the program's hash or root is missing");
        job = _job();
        job.programRoot = 0;
        _expectInvalid(job, "the program's hash or root is missing");
        job = _job();
        job.inputs = 0;
        _expectInvalid(job, "the inputs' hash or root is missing");
        job = _job();
        job.inputRoot = 0;
        _expectInvalid(job, "the inputs' hash or root is missing");
        job = _job();
        job.taskCount = 0;
        _expectInvalid(job, "a job has at least one task");
        job = _job();
        job.batchSize = 0;
        _expectInvalid(job, "batchSize must be from 1 to taskCount, at most 65536");
        job.batchSize = job.taskCount + 1;
        _expectInvalid(job, "batchSize must be from 1 to taskCount, at most 65536");
        (job.taskCount, job.batchSize) = (100_000, 65_537);
        _expectInvalid(job, "batchSize must be from 1 to taskCount, at most 65536");
        job = _job();
        job.fuelLimit = 0;
        _expectInvalid(job, "fuelLimit must be at least 1");
        job.fuelLimit = type(uint64).max / 4 + 1;
        _expectInvalid(job, "fuelLimit x batchSize must be below 2^64");
    }

    function test_post_refusesInvalidLimitsPricesAndTimes() public {
        string memory memoryReason = "memoryLimit must be from 64 KiB to 4 GiB";
        Job memory job = _job();
        job.memoryLimit = 65_535;
        _expectInvalid(job, memoryReason);
        job.memoryLimit = (1 << 32) + 1;
        _expectInvalid(job, memoryReason);
        job = _job();
        job.pricePerGigafuel = 0;
        _expectInvalid(job, "pricePerGigafuel must be at least 1");
        job = _job();
        job.leaseSeconds = 0;
        _expectInvalid(job, "leaseSeconds and windowSeconds must be at least 1");
        job = _job();
        job.windowSeconds = 0;
        _expectInvalid(job, "leaseSeconds and windowSeconds must be at least 1");
        job.leaseSeconds = uint32(CAP);
        job.windowSeconds = 1;
        _expectInvalid(job, "leaseSeconds + windowSeconds exceed the deployment's cap");
        (job.leaseSeconds, job.windowSeconds) = (type(uint32).max, type(uint32).max);
        _expectInvalid(job, "leaseSeconds + windowSeconds exceed the deployment's cap");
        job = _job();
        job.pricePerGigafuel = type(uint128).max;
        _expectInvalid(job, "the deposit must be below 2^96 token wei");
    }

    function test_depositOf_takesTheExtremesOfEachField() public view {
        Job memory job = _job();
        (job.taskCount, job.batchSize, job.fuelLimit) = (type(uint32).max, 65_536, type(uint64).max / 65_536);
        (job.pricePerGigafuel, job.memoryLimit) = (1, 1 << 32);
        (job.leaseSeconds, job.windowSeconds) = (uint32(CAP) - 1, 1);
        assertGt(jobs.depositOf(job), 0);
        (job.taskCount, job.batchSize, job.fuelLimit, job.memoryLimit) = (1, 1, type(uint64).max, 65_536);
        assertEq(jobs.depositOf(job), _worst(job, 1));
    }

    function test_calls_refuseJobsThatDifferFromWhatWasPosted() public {
        (Job memory job,) = _posted();
        job.pricePerGigafuel += 1;
        bytes memory refusal = abi.encodeWithSelector(IJobRegistry.UnknownJob.selector, jobs.jobIdOf(job));
        Result[] memory results = _results(0, 1);
        vm.startPrank(requester);
        vm.expectRevert(refusal);
        jobs.setContact(job, _contact());
        vm.expectRevert(refusal);
        jobs.cancel(job);
        vm.expectRevert(refusal);
        jobs.lease(job, _list(0));
        vm.expectRevert(refusal);
        jobs.release(job, _list(0));
        vm.expectRevert(refusal);
        jobs.submit(job, results);
        vm.expectRevert(refusal);
        jobs.accept(job, 0, 1);
        vm.expectRevert(refusal);
        jobs.finalise(job, _list(0));
        vm.expectRevert(refusal);
        jobs.expire(job, _list(0));
    }

    function test_jobIdOf_coversChainContractAndEveryField() public {
        Job memory job = _job();
        bytes32 id = jobs.jobIdOf(job);
        assertEq(id, keccak256(abi.encode(block.chainid, address(jobs), job)));
        job.category = 1;
        assertTrue(jobs.jobIdOf(job) != id);
        job.category = 0;
        vm.chainId(block.chainid + 1);
        assertTrue(jobs.jobIdOf(job) != id);
    }

    function test_setContact_isForTheRequesterOnly() public {
        (Job memory job, bytes32 id) = _posted();
        Contact memory contact = Contact(bytes32(uint256(5)), "elsewhere:1");
        vm.expectEmit(address(jobs));
        emit IJobRegistry.JobContactChanged(id, contact);
        vm.prank(requester);
        jobs.setContact(job, contact);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotRequester.selector, stranger, requester));
        vm.prank(stranger);
        jobs.setContact(job, contact);
    }

    // Cancellation

    function test_cancel_ofAnUntouchedJobRefundsEverything() public {
        (Job memory job, bytes32 id) = _posted();
        uint256 deposit = jobs.depositOf(job);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.JobCancelled(id, 3, deposit);
        vm.prank(requester);
        jobs.cancel(job);
        assertEq(_available(requester), deposit);
        assertEq(_locked(requester), 0);
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(0, 0, 0, 2)));
        for (uint32 i = 0; i < 3; ++i) {
            assertEq(uint8(_state(id, i)), uint8(BatchState.Cancelled));
        }
    }

    function test_cancel_refundsOnlyOpenBatchesWhereTheSmallLastOneIsLeased() public {
        (Job memory job, bytes32 id) = _posted();
        _lease(alice, job, _list(2));
        vm.prank(requester);
        jobs.cancel(job);
        assertEq(_available(requester), 2 * _worst(job, 4));
        assertEq(_locked(requester), _worst(job, 2));
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(uint96(_worst(job, 2)), 0, 1, 2)));
        assertEq(uint8(_state(id, 2)), uint8(BatchState.Leased));
    }

    function test_cancel_leavesLeasedAndSubmittedBatchesToEndInPayment() public {
        (Job memory job, bytes32 id) = _posted();
        _lease(alice, job, _list(0, 1));
        _submit(alice, job, 0, 77);
        vm.prank(requester);
        jobs.cancel(job);
        assertEq(_available(requester), _worst(job, 2));
        _submit(alice, job, 1, 88);
        vm.prank(requester);
        jobs.accept(job, 0, 3);
        uint256 paid = _price(job, 77) + _price(job, 88);
        assertEq(_available(_payout(alice)), paid);
        assertEq(_available(requester), jobs.depositOf(job) - paid);
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(0, 0, 0, 2)));
    }

    function test_cancel_refundsALeasedBatchWhenItsLeaseExpiresOrIsReleased() public {
        (Job memory job, bytes32 id) = _posted();
        _lease(alice, job, _list(0, 2));
        vm.prank(requester);
        jobs.cancel(job);
        vm.prank(alice);
        jobs.release(job, _list(2));
        assertEq(_available(requester), _worst(job, 4) + _worst(job, 2));
        assertEq(uint8(_state(id, 2)), uint8(BatchState.Cancelled));
        _passLease();
        _expire(job, _list(0));
        assertEq(_available(requester), jobs.depositOf(job));
        assertEq(_locked(requester), 0);
        assertEq(jobs.jobState(id).unsettled, 0);
        bytes memory refusal = abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Cancelled);
        vm.expectRevert(refusal);
        _submit(alice, job, 0, 1);
        vm.expectRevert(refusal);
        _expire(job, _list(0));
        vm.expectRevert(refusal);
        jobs.finalise(job, _list(0));
        vm.expectRevert(refusal);
        vm.prank(alice);
        jobs.release(job, _list(0));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobIsCancelled.selector, id));
        _lease(bob, job, _list(0));
    }

    function test_cancel_withNothingOpenIsAllowedOnceAndRefundsNothing() public {
        (Job memory job, bytes32 id) = _posted();
        _lease(alice, job, _list(0, 1, 2));
        vm.startPrank(requester);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.JobCancelled(id, 0, 0);
        jobs.cancel(job);
        assertEq(_available(requester), 0);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobIsCancelled.selector, id));
        jobs.cancel(job);
    }

    function test_cancel_isForTheRequesterOnly() public {
        (Job memory job,) = _posted();
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotRequester.selector, alice, requester));
        vm.prank(alice);
        jobs.cancel(job);
    }

    function test_cancel_ofAOneBatchJob() public {
        Job memory job = _job();
        (job.taskCount, job.batchSize) = (1, 1);
        _post(job);
        vm.prank(requester);
        jobs.cancel(job);
        assertEq(_available(requester), _worst(job, 1));
    }

    function _expectInvalid(Job memory job, string memory reason) private {
        bytes memory refusal = abi.encodeWithSelector(IJobRegistry.InvalidJob.selector, reason);
        vm.startPrank(requester);
        vm.expectRevert(refusal);
        jobs.post(job, _contact(), _noPermit());
        vm.stopPrank();
        vm.expectRevert(refusal);
        jobs.depositOf(job);
    }
}
