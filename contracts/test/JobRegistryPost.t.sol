// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {Settings} from "../interfaces/IDeployment.sol";
import {Permit} from "../interfaces/IEscrow.sol";
import {
    BatchState,
    Contact,
    IJobRegistry,
    Job,
    JobState,
    Result,
    Spec,
    Submission
} from "../interfaces/IJobRegistry.sol";
import {IJobRules} from "../interfaces/IJobRules.sol";
import {Fixture} from "./Fixture.sol";

/// Post, contact, ids, deposits and cancellation.
contract JobRegistryPostTest is Fixture {
    function test_post_locksTheWorstCaseAndOpensEveryBatch() public {
        Job memory job = _job();
        bytes32 id = jobs.jobIdOf(job);
        uint256 deposit = 2 * _worst(job, 4) + _worst(job, 2);
        uint256 before = token.balanceOf(requester);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.JobPosted(id, requester, job, _spec(), _contact(), deposit);
        assertEq(_post(job), id);
        assertEq(token.balanceOf(requester), before - deposit);
        assertEq(_locked(requester), deposit);
        assertEq(rules.depositOf(job, _spec()), deposit);
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(true, false, 3)));
        assertEq(uint8(_state(job, 2)), uint8(BatchState.Open));
    }

    function test_depositOf_isRoundedUpPerBatch() public view {
        Job memory job = _job();
        (job.taskCount, job.batchSize, job.fuelLimit) = (10, 4, 1);
        (job.startPrice, job.maxPrice) = (1, 1);
        assertEq(rules.depositOf(job, _spec()), 3);
        (job.fuelLimit, job.startPrice, job.maxPrice) = (1e9, 5, 5);
        assertEq(rules.depositOf(job, _spec()), 50);
        assertEq(jobs.leaseLock(job, 0), 60);
        assertEq(jobs.leaseLock(job, 2), 30);
    }

    /// No lease is free, whatever the deployment's share of audits.
    function test_leaseLock_isRoundedUp() public {
        Settings memory settings = _settings();
        settings.auditFloorBps = 9999;
        _deploy(settings);
        Job memory job = _job();
        (job.taskCount, job.batchSize, job.fuelLimit) = (1, 1, 1);
        (job.startPrice, job.maxPrice) = (1, 1);
        assertEq(jobs.leaseLock(job, 0), 1);
        (job.fuelLimit, job.startPrice, job.maxPrice) = (1e9, 9999, 9999);
        assertEq(jobs.leaseLock(job, 0), 1);
        job.maxPrice = 10_000;
        assertEq(jobs.leaseLock(job, 0), 2);
    }

    function test_depositOf_isBelow2Power96() public {
        Job memory job = _job();
        (job.taskCount, job.batchSize, job.fuelLimit) = (1, 1, 1e9);
        job.maxPrice = type(uint96).max;
        job.startPrice = job.maxPrice;
        assertEq(rules.depositOf(job, _spec()), type(uint96).max);
        job.maxPrice += 1;
        job.startPrice = job.maxPrice;
        vm.expectRevert(
            abi.encodeWithSelector(IJobRules.InvalidJob.selector, "the deposit must be below 2^96 token wei")
        );
        rules.depositOf(job, _spec());
    }

    function test_post_spendsTheEscrowBalanceBeforeTokens() public {
        Job memory job = _job();
        uint256 deposit = rules.depositOf(job, _spec());
        vm.prank(requester);
        escrow.deposit(requester, deposit - 1);
        uint256 before = token.balanceOf(requester);
        _post(job);
        assertEq(token.balanceOf(requester), before - 1);
        assertEq(_available(requester), 0);
    }

    function test_post_worksByPermitEvenWhenItWasFrontRun() public {
        Job memory job = _job();
        uint256 deposit = rules.depositOf(job, _spec());
        vm.prank(requester);
        token.approve(address(escrow), 0);
        Permit memory p = _permit(requester, requesterKey, deposit, block.timestamp);
        vm.prank(requester);
        jobs.post(job, _spec(), _contact(), p);

        job.nonce = 2;
        p = _permit(requester, requesterKey, deposit, block.timestamp);
        vm.prank(stranger);
        token.permit(requester, address(escrow), p.value, p.deadline, p.v, p.r, p.s);
        vm.prank(requester);
        jobs.post(job, _spec(), _contact(), p);
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
        jobs.post(job, _spec(), _contact(), _noPermit());
        bytes32 id = _post(job);
        vm.startPrank(requester);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobExists.selector, id));
        jobs.post(job, _spec(), _contact(), _noPermit());
        jobs.cancel(job);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JobExists.selector, id));
        jobs.post(job, _spec(), _contact(), _noPermit());
        job.nonce = 2;
        assertTrue(jobs.post(job, _spec(), _contact(), _noPermit()) != id);
    }

    function test_post_refusesInvalidJobs() public {
        Spec memory spec = _spec();
        spec.program = 0;
        _expectInvalidSpec(spec, "the program's hash or root is missing");
        spec = _spec();
        spec.programRoot = 0;
        _expectInvalidSpec(spec, "the program's hash or root is missing");
        spec = _spec();
        spec.inputs = 0;
        _expectInvalidSpec(spec, "the inputs' hash or root is missing");
        spec = _spec();
        spec.inputRoot = 0;
        _expectInvalidSpec(spec, "the inputs' hash or root is missing");
        string memory memoryReason = "memoryLimit must be from 64 KiB to 4 GiB";
        spec = _spec();
        spec.memoryLimit = 65_535;
        _expectInvalidSpec(spec, memoryReason);
        spec.memoryLimit = (1 << 32) + 1;
        _expectInvalidSpec(spec, memoryReason);
        Job memory job = _job();
        job.spec = keccak256("another");
        _expectInvalid(job, "spec is not the hash of the given one");
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
        Job memory job = _job();
        (job.startPrice, job.maxPrice) = (0, 0);
        _expectInvalid(job, "startPrice must be from 1 to maxPrice");
        (job.startPrice, job.maxPrice, job.rampSeconds) = (2, 1, 5);
        _expectInvalid(job, "startPrice must be from 1 to maxPrice");
        (job.startPrice, job.maxPrice, job.rampSeconds) = (1, 2, 0);
        _expectInvalid(job, "without rampSeconds startPrice must be maxPrice");
        job = _job();
        (job.taskCount, job.batchSize) = (1 << 24, 1);
        _expectInvalid(job, "a job has at most 16777215 batches");
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
        (job.startPrice, job.maxPrice) = (type(uint128).max, type(uint128).max);
        _expectInvalid(job, "the deposit must be below 2^96 token wei");
    }

    function test_depositOf_takesTheExtremesOfEachField() public view {
        Job memory job = _job();
        (job.taskCount, job.batchSize, job.fuelLimit) = (type(uint32).max, 65_536, type(uint64).max / 65_536);
        (job.startPrice, job.maxPrice) = (1, 1);
        Spec memory spec = _spec();
        spec.memoryLimit = 1 << 32;
        job.spec = keccak256(abi.encode(spec));
        (job.leaseSeconds, job.windowSeconds) = (uint32(CAP) - 1, 1);
        assertGt(rules.depositOf(job, spec), 0);
        (job.taskCount, job.batchSize, job.fuelLimit) = (1, 1, type(uint64).max);
        spec.memoryLimit = 65_536;
        job.spec = keccak256(abi.encode(spec));
        assertEq(rules.depositOf(job, spec), _worst(job, 1));
        (job.taskCount, job.fuelLimit) = ((1 << 24) - 1, 1);
        assertGt(rules.depositOf(job, spec), 0);
    }

    function test_calls_refuseJobsThatDifferFromWhatWasPosted() public {
        (Job memory job,) = _posted();
        job.maxPrice += 1;
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
        jobs.accept(job, _standing(job, _list(0)));
        vm.expectRevert(refusal);
        jobs.finalise(job, _standing(job, _list(0)));
        vm.expectRevert(refusal);
        jobs.expire(job, _list(0));
    }

    function test_jobIdOf_coversChainContractAndEveryField() public {
        Job memory job = _job();
        bytes32 id = jobs.jobIdOf(job);
        assertEq(id, keccak256(abi.encode(block.chainid, address(jobs), keccak256(abi.encode(job)))));
        job.spec = bytes32(uint256(1));
        assertTrue(jobs.jobIdOf(job) != id);
        job = _job();
        job.windowSeconds += 1;
        assertTrue(jobs.jobIdOf(job) != id);
    }

    /// After a split, on the side with the new id: else nobody could end the jobs that were posted before.
    function test_jobsOutliveAChangeOfTheChainId() public {
        (Job memory job, bytes32 id) = _posted();
        vm.chainId(block.chainid + 1);
        assertEq(jobs.jobIdOf(job), id);
        vm.prank(requester);
        jobs.cancel(job);
        assertEq(_locked(requester), 0);
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
        uint256 deposit = rules.depositOf(job, _spec());
        vm.expectEmit(address(jobs));
        emit IJobRegistry.JobCancelled(id, 3, deposit);
        vm.prank(requester);
        jobs.cancel(job);
        assertEq(_available(requester), deposit);
        assertEq(_locked(requester), 0);
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(true, true, 0)));
        for (uint32 i = 0; i < 3; ++i) {
            assertEq(uint8(_state(job, i)), uint8(BatchState.Cancelled));
        }
    }

    function test_cancel_refundsOnlyOpenBatchesWhereTheSmallLastOneIsLeased() public {
        (Job memory job, bytes32 id) = _posted();
        _lease(alice, job, _list(2));
        vm.prank(requester);
        jobs.cancel(job);
        assertEq(_available(requester), 2 * _worst(job, 4));
        assertEq(_locked(requester), _worst(job, 2));
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(true, true, 0)));
        assertEq(uint8(_state(job, 2)), uint8(BatchState.Leased));
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
        jobs.accept(job, _standing(job, _list(0, 1)));
        uint256 paid = _price(job, 77) + _price(job, 88);
        assertEq(_earned(alice), paid);
        assertEq(_available(requester), rules.depositOf(job, _spec()) - paid);
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(JobState(true, true, 0)));
    }

    function test_cancel_refundsALeasedBatchWhenItsLeaseExpiresOrIsReleased() public {
        (Job memory job, bytes32 id) = _posted();
        _lease(alice, job, _list(0, 2));
        vm.prank(requester);
        jobs.cancel(job);
        vm.prank(alice);
        jobs.release(job, _list(2));
        assertEq(_available(requester), _worst(job, 4) + _worst(job, 2));
        assertEq(uint8(_state(job, 2)), uint8(BatchState.Cancelled));
        _passLease();
        _expire(job, _list(0));
        assertEq(_available(requester), rules.depositOf(job, _spec()));
        assertEq(_locked(requester), 0);
        assertEq(jobs.jobState(id).open, 0);
        bytes memory refusal = abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Cancelled);
        vm.expectRevert(refusal);
        _submit(alice, job, 0, 1);
        vm.expectRevert(refusal);
        _expire(job, _list(0));
        vm.expectRevert(refusal);
        jobs.finalise(job, _standing(job, _list(0)));
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

    function _expectInvalidSpec(Spec memory spec, string memory reason) private {
        Job memory job = _job();
        job.spec = keccak256(abi.encode(spec));
        bytes memory refusal = abi.encodeWithSelector(IJobRules.InvalidJob.selector, reason);
        vm.startPrank(requester);
        vm.expectRevert(refusal);
        jobs.post(job, spec, _contact(), _noPermit());
        vm.stopPrank();
        vm.expectRevert(refusal);
        rules.depositOf(job, spec);
    }

    function _expectInvalid(Job memory job, string memory reason) private {
        bytes memory refusal = abi.encodeWithSelector(IJobRules.InvalidJob.selector, reason);
        vm.startPrank(requester);
        vm.expectRevert(refusal);
        jobs.post(job, _spec(), _contact(), _noPermit());
        vm.stopPrank();
        vm.expectRevert(refusal);
        rules.depositOf(job, _spec());
    }
}
