// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../interfaces/IEscrow.sol";
import {Batch, BatchState, IJobRegistry, Job} from "../interfaces/IJobRegistry.sol";
import {IJobRules} from "../interfaces/IJobRules.sol";
import {Fixture} from "./Fixture.sol";

/// Lease, release and expiry.
contract JobRegistryLeaseTest is Fixture {
    Job private job;
    bytes32 private id;

    function setUp() public override {
        super.setUp();
        (job, id) = _posted();
    }

    function test_lease_ofSeveralBatchesLocksStakeForEach() public {
        uint32 deadline = uint32(block.timestamp) + LEASE;
        uint40[] memory active = new uint40[](2);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.BatchesLeased(id, alice, _list(2, 0), active, deadline);
        _lease(alice, job, _list(2, 0));
        assertEq(_lockedStake(alice), 3 * (_worst(job, 4) + _worst(job, 2)));
        Batch memory batch = jobs.batchState(job, 0);
        assertEq(
            abi.encode(batch), abi.encode(Batch(BatchState.Leased, deadline, alice, address(0), 0, 0, job.maxPrice, 0))
        );
        assertEq(jobs.jobState(id).open, 1);
    }

    function test_lease_refusesWhatIsNotOpen() public {
        _lease(alice, job, _list(0));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Leased));
        _lease(bob, job, _list(1, 0));
        _submit(alice, job, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Submitted));
        _lease(bob, job, _list(0));
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Settled));
        _lease(bob, job, _list(0));
    }

    function test_lease_refusesTheSameBatchTwiceInOneCall() public {
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Leased));
        _lease(alice, job, _list(1, 1));
    }

    function test_lease_refusesTheSameExpiredBatchTwiceInOneCall() public {
        _lease(alice, job, _list(1));
        _passLease();
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Leased));
        _lease(bob, job, _list(1, 1));
    }

    function test_lease_refusesNothingUnknownBatchesAndStrangers() public {
        vm.expectRevert(IJobRegistry.NothingGiven.selector);
        _lease(alice, job, new uint32[](0));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NoSuchBatch.selector, 3, 3));
        _lease(alice, job, _list(3));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotRegistered.selector, stranger));
        _lease(stranger, job, _list(0));
    }

    function test_lease_refusesMoreThanTheFreeStake() public {
        Job memory dear = _job();
        (dear.nonce, dear.startPrice, dear.maxPrice) = (2, 100e18, 100e18);
        _post(dear);
        uint256 lock = 3 * _worst(dear, 4);
        assertGt(lock, STAKE);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FreeStakeTooSmall.selector, STAKE, lock));
        _lease(alice, dear, _list(0));
    }

    function test_lease_expiresAnotherLeaseThatIsOver() public {
        _lease(alice, job, _list(0));
        _passLease();
        uint256 bond = _worst(job, 4) * BOND_BPS / 10_000;
        vm.expectEmit(address(jobs));
        emit IJobRegistry.LeaseExpired(id, alice, 0, bond);
        _lease(bob, job, _list(0, 1));
        Batch memory batch = jobs.batchState(job, 0);
        assertEq(batch.provider, bob);
        assertEq(batch.former, alice);
        assertEq(batch.activeBlock, block.number + SUCCESSOR_DELAY);
        assertEq(batch.expiries, 1);
        assertEq(jobs.batchState(job, 1).activeBlock, 0);
        assertEq(jobs.jobState(id).open, 1);
        assertEq(_lockedStake(alice), 0);
        assertEq(reputation.providerRecord(alice).expired, 1);
    }

    function test_lease_doesNotExpireInTheDeadlinesSecond() public {
        _lease(alice, job, _list(0));
        vm.warp(block.timestamp + LEASE);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Leased));
        _lease(bob, job, _list(0));
    }

    function test_lease_againByTheFormerHolderIsActiveAtOnce() public {
        _lease(alice, job, _list(0));
        _passLease();
        _lease(alice, job, _list(0));
        assertEq(jobs.batchState(job, 0).former, address(0));
        _submit(alice, job, 0, 5);
    }

    /// Whoever it took over from is no longer its former holder.
    function test_aSecondLeaseOfASuccessor_isActiveAtOnce() public {
        _lease(alice, job, _list(0));
        _passLease();
        _lease(bob, job, _list(0));
        vm.roll(block.number + SUCCESSOR_DELAY);
        _passLease();
        _lease(bob, job, _list(0));
        Batch memory batch = jobs.batchState(job, 0);
        assertEq(batch.provider, bob);
        assertEq(batch.former, address(0));
        assertEq(batch.activeBlock, 0);
        _submit(bob, job, 0, 5);
    }

    // Release

    function test_release_inTheFirstQuarterReturnsStakeWithoutAMark() public {
        _lease(alice, job, _list(0, 2));
        vm.warp(block.timestamp + LEASE / 4);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.LeaseReleased(id, alice, 0);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.LeaseReleased(id, alice, 2);
        vm.prank(alice);
        jobs.release(job, _list(0, 2));
        assertEq(_lockedStake(alice), 0);
        assertEq(escrow.balanceOf(alice).stake, STAKE);
        assertEq(reputation.providerRecord(alice).expired, 0);
        assertEq(
            abi.encode(jobs.batchState(job, 0)),
            abi.encode(Batch(BatchState.Open, uint32(block.timestamp), address(0), address(0), 0, 0, 0, 0))
        );
        assertEq(jobs.jobState(id).open, 3);
        skip(1);
        _lease(bob, job, _list(0));
        _submit(bob, job, 0, 1);
    }

    /// A4: whoever leases and releases in one transaction would keep a batch from all others, for nothing.
    function test_release_leavesASecondToOthers() public {
        _lease(alice, job, _list(0));
        vm.prank(alice);
        jobs.release(job, _list(0));
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IJobRegistry.JustReleased.selector, 0));
            _lease(i == 0 ? alice : bob, job, _list(0));
        }
        skip(1);
        _lease(bob, job, _list(0));
        assertEq(jobs.batchState(job, 0).provider, bob);
    }

    function test_release_refusesAfterTheFirstQuarter() public {
        _lease(alice, job, _list(0));
        vm.warp(block.timestamp + LEASE / 4 + 1);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.TooLateToRelease.selector, 0));
        vm.prank(alice);
        jobs.release(job, _list(0));
    }

    function test_release_isForTheHolderOfALeasedBatchOnly() public {
        _lease(alice, job, _list(0));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, bob));
        vm.prank(bob);
        jobs.release(job, _list(0));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NotHolder.selector, 0, stranger));
        vm.prank(stranger);
        jobs.release(job, _list(0));
        vm.startPrank(alice);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Open));
        jobs.release(job, _list(1));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NoSuchBatch.selector, 9, 3));
        jobs.release(job, _list(9));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Open));
        jobs.release(job, _list(0, 0));
    }

    function test_release_ofASubmittedBatchIsRefused() public {
        _lease(alice, job, _list(0));
        _submit(alice, job, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Submitted));
        vm.prank(alice);
        jobs.release(job, _list(0));
    }

    function test_release_ofASuccessorKeepsTheFormerHoldersTurn() public {
        _lease(alice, job, _list(0));
        _passLease();
        _lease(bob, job, _list(0));
        vm.prank(bob);
        jobs.release(job, _list(0));
        assertEq(jobs.batchState(job, 0).provider, alice);
        _submit(alice, job, 0, 5);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        assertEq(_earned(alice), _price(job, 5));
    }

    // Expiry

    function test_expire_byAnyoneReopensAndBurnsTheBond() public {
        _lease(alice, job, _list(0, 2));
        _passLease();
        uint256 bond = _worst(job, 4) * BOND_BPS / 10_000;
        uint256 bondOfLast = _worst(job, 2) * BOND_BPS / 10_000;
        vm.expectEmit(address(jobs));
        emit IJobRegistry.LeaseExpired(id, alice, 0, bond);
        vm.expectEmit(address(jobs));
        emit IJobRegistry.LeaseExpired(id, alice, 2, bondOfLast);
        _expire(job, _list(0, 2));
        assertEq(escrow.burnable(), bond + bondOfLast);
        assertEq(escrow.balanceOf(alice).stake, STAKE - bond - bondOfLast);
        assertEq(_lockedStake(alice), 0);
        assertEq(reputation.providerRecord(alice).expired, 2);
        assertEq(jobs.jobState(id).open, 3);
        assertEq(_locked(requester), rules.depositOf(job, _spec()));
    }

    function test_expire_doublesTheBondOfABatchUpToTheLock() public {
        uint256 worst = _worst(job, 4);
        uint256 bond = worst * BOND_BPS / 10_000;
        uint256 stake = STAKE;
        for (uint256 i = 0; i < 8; ++i) {
            uint256 expected = bond << i > 3 * worst ? 3 * worst : bond << i;
            _lease(alice, job, _list(0));
            _passLease();
            _expire(job, _list(0));
            stake -= expected;
            assertEq(escrow.balanceOf(alice).stake, stake);
        }
        assertEq(jobs.batchState(job, 0).expiries, 8);
        assertGt(bond << 5, 3 * worst);
        _lease(alice, job, _list(1));
        _passLease();
        _expire(job, _list(1));
        assertEq(escrow.balanceOf(alice).stake, stake - bond, "another batch starts anew");
    }

    function test_expire_countsNoFurtherThan255() public {
        Job memory cheap = _job();
        (cheap.nonce, cheap.startPrice, cheap.maxPrice) = (2, 1e12, 1e12);
        _post(cheap);
        for (uint256 i = 0; i < 257; ++i) {
            _lease(alice, cheap, _list(0));
            _passLease();
            _expire(cheap, _list(0));
        }
        assertEq(jobs.batchState(cheap, 0).expiries, 255);
        assertEq(reputation.providerRecord(alice).expired, 257);
    }

    function test_expire_refusesRunningLeasesAndOtherStates() public {
        _lease(alice, job, _list(0));
        uint32 deadline = uint32(block.timestamp) + LEASE;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.LeaseRunning.selector, 0, deadline));
        _expire(job, _list(0));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 1, BatchState.Open));
        _expire(job, _list(1));
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.NoSuchBatch.selector, 3, 3));
        _expire(job, _list(3));
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Open));
        _expire(job, _list(0, 0));
        _submit(alice, job, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.WrongState.selector, 0, BatchState.Submitted));
        _expire(job, _list(0));
    }
}
