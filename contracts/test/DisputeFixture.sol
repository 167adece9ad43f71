// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settings} from "../interfaces/IDeployment.sol";
import {CaseState, Dispute, Standing} from "../interfaces/IDisputes.sol";
import {Balance} from "../interfaces/IEscrow.sol";
import {Job, Result, Submission} from "../interfaces/IJobRegistry.sol";
import {ReplicatedJob, Tally} from "../interfaces/IReplicaRegistry.sol";
import {ReplicaFixture} from "./ReplicaFixture.sol";
import {TestArbiter} from "./mocks/TestArbiter.sol";

/// @notice What tests of disputes share: a deployment with an arbiter, two challengers with tokens, and the books.
abstract contract DisputeFixture is ReplicaFixture {
    uint256 internal constant PURSE = 2000e18;
    bytes32 internal constant PROOF = keccak256("what the challenger holds against it");

    TestArbiter internal arbiter;
    address internal dave = makeAddr("dave");
    address internal erin = makeAddr("erin");

    /// Conservation after the test: nobody but these accounts ever had tokens in the Escrow.
    modifier conserved() {
        _;
        address[10] memory accounts =
            [requester, alice, bob, carol, dave, erin, stranger, holder, address(disputes), address(arbiter)];
        uint256 sum = escrow.burnable();
        for (uint256 i = 0; i < accounts.length; ++i) {
            sum += _worth(accounts[i]) + _worth(_payout(accounts[i]));
        }
        assertEq(token.balanceOf(address(escrow)), sum, "conservation");
    }

    function setUp() public virtual override {
        arbiter = new TestArbiter();
        super.setUp();
        _fund(dave, PURSE);
        _fund(erin, PURSE);
    }

    function _settings() internal view virtual override returns (Settings memory settings) {
        settings = super._settings();
        settings.arbiter = address(arbiter);
    }

    /// All of an account's tokens in the Escrow.
    function _worth(address account) internal view returns (uint256) {
        Balance memory entry = escrow.balanceOf(account);
        return uint256(entry.available) + entry.locked + entry.earned + entry.stake;
    }

    /// The same with those in its own hands.
    function _wealth(address account) internal view returns (uint256) {
        return _worth(account) + token.balanceOf(account);
    }

    /// `who` leases and submits. Returns what stands.
    function _submitted(address who, Job memory job, uint32 batch, uint64 fuel) internal returns (Submission memory) {
        _lease(who, job, _list(batch));
        _submit(who, job, batch, fuel);
        return _submission(who, job, batch, fuel);
    }

    /// Written apart from the contract's way; the window of a result submitted now.
    function _describe(Job memory job, Submission memory given) internal view returns (Standing memory about) {
        uint32 first = given.batch * job.batchSize;
        uint32 tasks = first + job.batchSize > job.taskCount ? job.taskCount - first : job.batchSize;
        uint32 finalAt = uint32(block.timestamp) + job.windowSeconds;
        return Standing(jobs.jobIdOf(job), given.batch, job.requester, given.root, given.fuel, first, tasks, finalAt);
    }

    function _challenge(address who, Job memory job, Submission memory given, uint32 task)
        internal
        returns (bytes32 caseId)
    {
        vm.prank(who);
        return disputes.challenge(address(jobs), abi.encode(job, given), task, PROOF, _noPermit());
    }

    function _challenge(address who, ReplicatedJob memory job, Tally memory tally, uint32 task)
        internal
        returns (bytes32 caseId)
    {
        vm.prank(who);
        return disputes.challenge(address(replicas), abi.encode(job, tally), task, PROOF, _noPermit());
    }

    function _demand(Job memory job, Submission memory given, uint32 task, uint32 chunk)
        internal
        returns (bytes32 caseId)
    {
        vm.prank(job.requester);
        return disputes.demand(address(jobs), abi.encode(job, given), task, chunk, _noPermit());
    }

    function _demand(ReplicatedJob memory job, Tally memory tally, uint32 task, uint32 chunk)
        internal
        returns (bytes32 caseId)
    {
        vm.prank(job.job.requester);
        return disputes.demand(address(replicas), abi.encode(job, tally), task, chunk, _noPermit());
    }

    function _rule(bytes32 caseId, bool upheld) internal {
        arbiter.rule(disputes, caseId, upheld, alice);
    }

    /// To the first second at which nothing about the result can be ruled or answered.
    function _passDeadline(Standing memory about) internal {
        Dispute memory dispute = disputes.disputeOf(_resultOf(about));
        vm.warp(dispute.deadline + 1);
        vm.roll(block.number + 1);
    }

    function _resolve(Job memory job, Submission memory given) internal {
        vm.prank(stranger);
        jobs.resolve(job, given);
    }

    function _resolve(ReplicatedJob memory job, Tally memory tally) internal {
        vm.prank(stranger);
        replicas.resolve(job, tally);
    }

    function _claim(bytes32 caseId) internal returns (uint256) {
        vm.prank(stranger);
        return disputes.claim(caseId);
    }

    /// Whatever job and submission, in the form of the lists that `accept` and `finalise` take.
    function _one(Submission memory given) internal pure returns (Submission[] memory list) {
        list = new Submission[](1);
        list[0] = given;
    }

    function _submitResult(address who, Job memory job, Result memory result) internal returns (Submission memory) {
        Result[] memory list = new Result[](1);
        list[0] = result;
        vm.prank(who);
        jobs.submit(job, list);
        return Submission(result.batch, who, job.maxPrice, result.root, result.fuel);
    }

    function _resultOf(Standing memory about) internal pure returns (bytes32) {
        return keccak256(abi.encode(about));
    }

    function _stateOf(bytes32 caseId) internal view returns (CaseState) {
        return disputes.caseOf(caseId).state;
    }

    /// Stake that a lease of so many tasks locks.
    function _lockOf(Job memory job, uint256 tasks) internal pure returns (uint256) {
        return 3 * _worst(job, tasks);
    }
}
