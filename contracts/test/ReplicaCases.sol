// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Balance} from "../interfaces/IEscrow.sol";
import {Commitment, ReplicatedJob, Reveal, Tally, Vote} from "../interfaces/IReplicaRegistry.sol";
import {ReplicaFixture} from "./ReplicaFixture.sol";

/// @notice What the tests of ReplicaRegistry share beyond the fixture: five providers, records, draws, and conservation.
abstract contract ReplicaCases is ReplicaFixture {
    address internal dave = makeAddr("dave");
    address internal erin = makeAddr("erin");
    address[] private _accounts;

    /// Conservation holds once the test is over.
    modifier solvent() {
        _;
        _assertSolvent();
    }

    function setUp() public virtual override {
        super.setUp();
        _accounts = [requester, holder, stranger, alice, bob, carol, address(disputes)];
        _join(dave, STAKE);
        _join(erin, STAKE);
        vm.roll(block.number + 1);
    }

    /// Registers an account that the test's end counts.
    function _join(address who, uint96 stake) internal {
        _register(who, stake);
        _accounts.push(who);
    }

    /// The Escrow holds what it owes, to the last wei, and nobody's stake is held more than once.
    function _assertSolvent() internal view {
        uint256 sum = escrow.burnable();
        for (uint256 i = 0; i < _accounts.length; ++i) {
            Balance memory entry = escrow.balanceOf(_accounts[i]);
            sum += uint256(entry.available) + entry.locked + entry.earned + entry.stake;
            assertLe(entry.held, entry.stake, "more held than staked");
        }
        assertEq(token.balanceOf(address(escrow)), sum, "conservation");
    }

    function _stake(address who) internal view returns (uint256) {
        return escrow.balanceOf(who).stake;
    }

    function _checks(address who) internal view returns (uint256) {
        return reputation.providerRecord(who).checks;
    }

    function _setChecks(address who, uint32 checks) internal {
        _setRecord(who, checks, 0, 0, 0);
    }

    /// Posted, and nobody may lease before the lot says so.
    function _postJob(ReplicatedJob memory job) internal returns (bytes32 jobId) {
        vm.prank(job.job.requester);
        return replicas.post(job, _spec(), _contact(), _noPermit());
    }

    /// Most that a batch may cost, written apart from the contract's way.
    function _cost(ReplicatedJob memory job, uint256 tasks) internal pure returns (uint256) {
        uint256 executions = _worst(job.job, tasks) * job.assurance.limit;
        uint256 fee = executions * FEE_BPS;
        return executions + fee / 10_000 + (fee % 10_000 == 0 ? 0 : 1);
    }

    /// Stake that a lease locks where the job has no audits: the deployment assumes a quarter.
    function _lockOf(ReplicatedJob memory job, uint256 tasks) internal pure returns (uint256) {
        return 3 * _worst(job.job, tasks);
    }

    function _fee(uint256 payment) internal pure returns (uint256) {
        return payment * FEE_BPS / 10_000;
    }

    /// Chooses the hash of the block after this one, so that a commit made now is audited or is not.
    function _setDraw(ReplicatedJob memory job, uint32 batch, bool audited) internal {
        bytes32 jobId = replicas.jobIdOf(job);
        uint256 committed = block.number;
        _nextBlocks();
        for (uint256 i = 1;; ++i) {
            bytes32 hash = keccak256(abi.encode("draw", i));
            bool drawn = uint256(keccak256(bytes.concat(hash, jobId, bytes32(uint256(batch))))) % 10_000
                < job.assurance.auditBps;
            if (drawn != audited) continue;
            vm.setBlockhash(committed + 1, hash);
            return;
        }
    }

    function _release(address who, ReplicatedJob memory job, uint32 batch) internal {
        vm.prank(who);
        replicas.release(job, _list(batch));
    }

    function _backUp(address who, ReplicatedJob memory job, uint32 batch, address straggler) internal {
        vm.prank(who);
        replicas.backUp(job, batch, straggler);
    }

    /// Anyone may, so a stranger does.
    function _expire(ReplicatedJob memory job, uint32 batch, address who) internal {
        vm.prank(stranger);
        replicas.expire(job, batch, who);
    }

    function _draw(ReplicatedJob memory job, uint32 batch) internal {
        vm.prank(stranger);
        replicas.draw(job, batch);
    }

    function _accept(ReplicatedJob memory job, Tally memory tally) internal {
        vm.prank(requester);
        replicas.accept(job, _one(tally));
    }

    /// Commits to any reveal.
    function _commitTo(address who, ReplicatedJob memory job, Reveal memory given) internal {
        bytes32 jobId = replicas.jobIdOf(job);
        bytes32 hash = keccak256(
            abi.encode(jobId, given.batch, who, given.root, given.fuel, given.outputs, given.bound, given.salt)
        );
        _commitHash(who, job, given.batch, hash);
    }

    function _commitHash(address who, ReplicatedJob memory job, uint32 batch, bytes32 hash) internal {
        Commitment[] memory list = new Commitment[](1);
        list[0] = Commitment(batch, hash);
        vm.prank(who);
        replicas.commit(job, list);
    }

    function _revealTo(address who, ReplicatedJob memory job, Reveal memory given) internal {
        Reveal[] memory list = new Reveal[](1);
        list[0] = given;
        vm.prank(who);
        replicas.reveal(job, list);
    }

    function _tally(uint32 batch, address a, uint64 ofA) internal pure returns (Tally memory) {
        address[] memory who = new address[](1);
        uint64[] memory fuels = new uint64[](1);
        (who[0], fuels[0]) = (a, ofA);
        return _tally(batch, who, fuels);
    }

    function _tally(uint32 batch, address a, uint64 ofA, address b, uint64 ofB) internal pure returns (Tally memory) {
        address[] memory who = new address[](2);
        uint64[] memory fuels = new uint64[](2);
        (who[0], who[1], fuels[0], fuels[1]) = (a, b, ofA, ofB);
        return _tally(batch, who, fuels);
    }

    /// The votes of reveals, in the order that the registry wants.
    function _tallyOf(uint32 batch, address[] memory who, Reveal[] memory given)
        internal
        pure
        returns (Tally memory tally)
    {
        tally = _tally(batch, who, new uint64[](who.length));
        for (uint256 i = 0; i < who.length; ++i) {
            for (uint256 j = 0; j < who.length; ++j) {
                if (tally.votes[j].provider == who[i]) tally.votes[j] = Vote(who[i], given[i].root, given[i].fuel);
            }
        }
    }
}
