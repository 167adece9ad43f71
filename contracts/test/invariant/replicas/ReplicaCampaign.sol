// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settings} from "../../../interfaces/IDeployment.sol";
import {ReplicatedJob} from "../../../interfaces/IReplicaRegistry.sol";
import {ReplicaFixture} from "../../ReplicaFixture.sol";
import {TestArbiter} from "../../mocks/TestArbiter.sol";
import {Parts} from "../Books.sol";
import {ReplicaAttacks} from "./ReplicaAttacks.sol";

/// @notice A deployment with an arbiter, and six accounts that are requesters, providers, payout addresses and challengers: a ring.
abstract contract ReplicaCampaign is ReplicaFixture {
    ReplicaAttacks internal handler;
    address[] internal accounts;
    TestArbiter private arbiter;

    function setUp() public virtual override {
        arbiter = new TestArbiter();
        super.setUp();
    }

    function _start(uint256 maxJobs) internal {
        accounts = [requester, alice, bob, carol, makeAddr("dave"), makeAddr("erin")];
        _register(accounts[4], STAKE);
        _register(accounts[5], STAKE / 4);
        // Payout addresses among the actors, so that every balance is one of theirs. Alice is her own.
        for (uint256 i = 1; i < accounts.length; ++i) {
            vm.prank(_payout(accounts[i]));
            providers.setPayout(accounts[i], accounts[i == 1 ? 1 : i - 1]);
        }
        for (uint256 i = 0; i < accounts.length; ++i) {
            _fund(accounts[i], 10_000 * TOKEN);
        }
        Parts memory parts = Parts(token, escrow, providers, jobs, replicas, disputes);
        handler = new ReplicaAttacks(parts, _settings(), accounts, maxJobs);
        vm.roll(block.number + 10);
    }

    /// Short, so that one run sees many ends.
    function _settings() internal view virtual override returns (Settings memory s) {
        s = super._settings();
        s.arbiter = address(arbiter);
        (s.maxCommitmentSeconds, s.exitDelaySeconds) = (10_000, 10_001);
        (s.rulingSeconds, s.demandSeconds, s.successorDelayBlocks) = (300, 150, 5);
    }

    function _batches(ReplicatedJob memory job) internal pure returns (uint32) {
        return (job.job.taskCount + job.job.batchSize - 1) / job.job.batchSize;
    }
}
