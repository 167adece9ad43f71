// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Job, Result, Submission} from "../interfaces/IJobRegistry.sol";
import {ReplicatedJob, Reveal} from "../interfaces/IReplicaRegistry.sol";
import {ReplicaFixture} from "./ReplicaFixture.sol";

/// Gas of whole jobs as receipts would show it: each call is a transaction of its own, accounts are in use already (they have posted,
/// leased and been paid before). The figures go to `snapshots/`, from which `scripts/gas` makes its table; the goals are there, too.
/// forge-config: default.isolate = true
contract GasTest is ReplicaFixture {
    enum Revealer {
        Each,
        Stranger,
        Requester
    }

    address internal dave = makeAddr("dave");
    uint256 private total;

    function setUp() public override {
        super.setUp();
        _register(dave, STAKE);
        for (uint256 i = 0; i < 3; ++i) {
            _live(three[i], uint64(10 + i));
        }
        _live(dave, 13);
    }

    function test_oneTask_accepted() public {
        _record("one task, accepted", _measure(_shape(1, 1, 1), _all(alice), true), 220_000);
    }

    function test_oneTask_finalised() public {
        _record("one task, finalised", _measure(_shape(1, 1, 1), _all(alice), false), 220_000);
    }

    function test_thousandTasksInOneBatch_perTask() public {
        _record("1000 tasks in a batch, a task", _measure(_shape(1, 1000, 1000), _all(alice), false) / 1000, 220);
    }

    function test_thousandTasksByFourProviders_perTask() public {
        address[] memory four = new address[](4);
        (four[0], four[1], four[2], four[3]) = (alice, bob, carol, dave);
        uint256 gas = _measure(_shape(1, 1000, 63), four, false);
        _record("1000 tasks in 16 batches by 4 providers, a task", gas / 1000, 1200);
    }

    function test_furtherBatches() public {
        uint256[4] memory one = _calls(_shape(1, 16, 16), _all(alice), false);
        uint256[4] memory sixteen = _calls(_shape(2, 16, 1), _all(alice), false);
        _record("each further batch of a lease", (sixteen[1] - one[1]) / 15, 30_000);
        _record("each further batch of a submit", (sixteen[2] - one[2]) / 15, 12_000);
        _record("each further batch of a finalise", (sixteen[3] - one[3]) / 15, 12_000);
    }

    function test_earlyAcceptOf256Batches() public {
        uint256[4] memory calls = _calls(_shape(1, 256, 1), _all(alice), true);
        _record("early accept of 256 batches, a batch", calls[3] / 256, 12_000);
    }

    function test_threeReplicas_wholeLife() public {
        _runVote(1, Revealer.Stranger);
        uint256 accepted = _runVote(2, Revealer.Requester);
        uint256 together = _runVote(3, Revealer.Stranger);
        uint256 apart = _runVote(4, Revealer.Each);
        assertEq(reputation.providerRecord(alice).checks, 4);
        _record("three replicas, one batch, revealed and accepted by the requester", accepted, 600_000);
        _record("three replicas, one batch, revealed together", together, 640_000);
        _record("three replicas, one batch, each reveals", apart, 701_000);
    }

    /// Post, three leases, three commits; then the requester reveals and accepts, or one reveals for all or each for itself, and anyone
    /// finalises. One batch of one task, of whose price the fee is enough for a check.
    function _runVote(uint64 nonce, Revealer who) private returns (uint256) {
        ReplicatedJob memory job = _replicated();
        uint32 rampStart = job.job.rampStart;
        job.job = _shape(nonce, 1, 1);
        (job.job.rampStart, job.job.startPrice, job.job.maxPrice) = (rampStart, 1e17, 1e17);
        job.assurance.limit = 3;
        Reveal[] memory reveals = new Reveal[](3);
        total = 0;
        _open(job);
        _note();
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
            _note();
        }
        for (uint256 i = 0; i < 3; ++i) {
            _commit(three[i], job, 0, 2e9);
            _note();
            reveals[i] = _revealed(three[i], 0, 2e9);
        }
        if (who == Revealer.Requester) {
            reveals = _ascending(reveals);
            vm.prank(requester);
            replicas.revealAndAccept(job, reveals);
            _note();
            return total;
        }
        if (who == Revealer.Stranger) {
            replicas.reveal(job, reveals);
            _note();
        } else {
            for (uint256 i = 0; i < 3; ++i) {
                _reveal(three[i], job, 0, 2e9);
                _note();
            }
        }
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, 2e9, 2e9, 2e9));
        _note();
        return total;
    }

    function _shape(uint64 nonce, uint32 tasks, uint32 batchSize) private view returns (Job memory job) {
        job = _job();
        (job.nonce, job.taskCount, job.batchSize, job.startPrice) = (nonce, tasks, batchSize, 1e15);
        job.maxPrice = 1e15;
    }

    /// An account's first jobs: balances and records are not zero afterwards.
    function _live(address provider, uint64 nonce) private {
        Job memory job = _shape(nonce, 1, 1);
        for (uint256 i = 0; i < 2; ++i) {
            job.nonce += uint64(100 * i);
            _measure(job, _all(provider), i == 0);
        }
        vm.prank(requester);
        escrow.deposit(requester, 1000 * TOKEN);
    }

    function _all(address provider) private pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = provider;
    }

    function _measure(Job memory job, address[] memory who, bool accepted) private returns (uint256) {
        uint256[4] memory gas = _calls(job, who, accepted);
        return gas[0] + gas[1] + gas[2] + gas[3];
    }

    /// Gas of post, of all leases, of all submissions, and of the one transaction that pays. The batches are shared out evenly.
    function _calls(Job memory job, address[] memory who, bool accepted) private returns (uint256[4] memory gas) {
        uint32 share = (job.taskCount + job.batchSize - 1) / job.batchSize / uint32(who.length);
        Submission[] memory submissions = new Submission[](share * who.length);
        total = 0;
        _post(job);
        gas[0] = _note();
        for (uint32 i = 0; i < who.length; ++i) {
            uint32[] memory batches = new uint32[](share);
            Result[] memory results = new Result[](share);
            for (uint32 k = 0; k < share; ++k) {
                batches[k] = i * share + k;
                results[k] = _result(batches[k], 2e9);
                submissions[batches[k]] = _submission(who[i], job, batches[k], 2e9);
            }
            _lease(who[i], job, batches);
            gas[1] += _note();
            vm.prank(who[i]);
            jobs.submit(job, results);
            gas[2] += _note();
        }
        if (accepted) {
            vm.prank(requester);
            jobs.accept(job, submissions);
        } else {
            vm.warp(block.timestamp + WINDOW);
            vm.prank(stranger);
            jobs.finalise(job, submissions);
        }
        gas[3] = _note();
    }

    function _note() private returns (uint256 gas) {
        gas = vm.lastCallGas().gasTotalUsed;
        total += gas;
    }

    function _record(string memory name, uint256 gas, uint256 goal) private {
        vm.snapshotValue("gas", name, gas);
        assertLe(gas, goal, name);
    }
}
