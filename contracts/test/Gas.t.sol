// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {console} from "forge-std/console.sol";
import {VmSafe} from "forge-std/Vm.sol";

import {Job, Result, Submission} from "../interfaces/IJobRegistry.sol";
import {Fixture} from "./Fixture.sol";

/// Gas of a job's whole life as receipts would show it: each call is a transaction of its own, accounts are in use already
/// (they have posted, leased and been paid before). Seen with -vv.
/// forge-config: default.isolate = true
contract GasTest is Fixture {
    uint256 private total;

    /// DESIGN's goals; with the IR pipeline, as deployed.
    function test_oneTaskJob_wholeLife() public {
        _live(_shape(1, 1, 1));
        uint256 accepted = _measure("one task, accepted", _shape(2, 1, 1), true);
        uint256 finalised = _measure("one task, finalised", _shape(3, 1, 1), false);
        assertLe(accepted, 220_000);
        assertLe(finalised, 220_000);
    }

    function test_thousandTasks_inBatchesOf64_perTask() public {
        _live(_shape(1, 1, 1));
        uint256 gas = _measure("1000 tasks in 16 batches, accepted", _shape(2, 1000, 64), true);
        console.log("per task", gas / 1000);
        assertLe(gas / 1000, 1200);
    }

    function _shape(uint64 nonce, uint32 tasks, uint32 batchSize) private view returns (Job memory job) {
        job = _job();
        (job.nonce, job.taskCount, job.batchSize, job.startPrice) = (nonce, tasks, batchSize, 1e15);
        job.maxPrice = 1e15;
    }

    /// A first job's life: balances and records are not zero afterwards.
    function _live(Job memory job) private {
        _post(job);
        _lease(alice, job, _list(0));
        _submit(alice, job, 0, 1e9);
        vm.prank(requester);
        jobs.accept(job, _submissions(alice, job, 0, 1e9));
        job.nonce += 1000;
        _post(job);
        _lease(alice, job, _list(0));
        _submit(alice, job, 0, 1e9);
        vm.warp(block.timestamp + WINDOW);
        jobs.finalise(job, _submissions(alice, job, 0, 1e9));
        vm.prank(requester);
        escrow.deposit(requester, 1000 * TOKEN);
    }

    function _measure(string memory name, Job memory job, bool accepted) private returns (uint256) {
        total = 0;
        uint32 count = (job.taskCount + job.batchSize - 1) / job.batchSize;
        uint32[] memory batches = new uint32[](count);
        Result[] memory results = new Result[](count);
        Submission[] memory submissions = new Submission[](count);
        for (uint32 i = 0; i < count; ++i) {
            batches[i] = i;
            results[i] = _result(i, 2e9);
            submissions[i] = _submission(alice, job, i, 2e9);
        }
        console.log(name);
        _post(job);
        _note("post");
        _lease(alice, job, batches);
        _note("lease");
        vm.prank(alice);
        jobs.submit(job, results);
        _note("submit");
        if (accepted) {
            vm.prank(requester);
            jobs.accept(job, submissions);
            _note("accept");
        } else {
            vm.warp(block.timestamp + WINDOW);
            vm.prank(stranger);
            jobs.finalise(job, submissions);
            _note("finalise");
        }
        console.log("  total", total);
        return total;
    }

    function _note(string memory call) private {
        VmSafe.Gas memory gas = vm.lastCallGas();
        console.log(string.concat("  ", call), gas.gasTotalUsed);
        total += gas.gasTotalUsed;
    }
}
