// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BallotState, IReplicaRegistry, Opening, ReplicatedJob, Reveal, Tally} from "../interfaces/IReplicaRegistry.sol";
import {ResultLeaf, ResultTree} from "../libraries/ResultTree.sol";
import {ReplicaCases} from "./ReplicaCases.sol";

/// Rule 3: in a round that opens when roots are public, who commits shows that it has the leaves.
contract ReplicaRegistryOpeningTest is ReplicaCases {
    bytes32 private constant HASH = keccak256("the block after the commit");

    function test_whoHasTheLeaves_isCountedInAnExtraRound() public solvent {
        ReplicatedJob memory job = _extraRound(4);
        ResultLeaf[] memory leaves = _leaves(4);
        Reveal memory given = _honest(leaves, dave);
        _commitTo(dave, job, given);
        assertTrue(_replica(job, 0, dave).isPublic());
        uint256 position = _drawnLeaf(job, dave, 4);
        _revealOpened(dave, job, given, _opening(leaves, dave, position));
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _votes(_plain(leaves), given, 4));
        uint256 price = _price(job.job, given.fuel);
        assertEq(_earned(dave), price);
        assertEq(_earned(alice), price);
        assertEq(_checks(dave), 1);
        assertEq(_stake(carol), STAKE - _lockOf(job, 4));
    }

    function testFuzz_everyDrawnLeaf_opensInBothTrees(uint8 tasks, bytes32 hash) public {
        uint32 count = uint32(bound(tasks, 1, 9));
        vm.assume(hash != 0);
        ReplicatedJob memory job = _extraRound(count);
        ResultLeaf[] memory leaves = _leaves(count);
        Reveal memory given = _honest(leaves, dave);
        _commitTo(dave, job, given);
        uint256 position = _drawnLeaf(job, dave, count, hash);
        for (uint256 other = 0; other < count; ++other) {
            if (other == position) continue;
            _wrongOpening(dave, job, given, _opening(leaves, dave, other));
        }
        _revealOpened(dave, job, given, _opening(leaves, dave, position));
    }

    /// Two batches of two tasks, and a smaller last one: the drawn leaf and no other.
    function testFuzz_theRules_openTheDrawnLeafOfAnyBatch(bytes32 hash, uint32 batch) public view {
        ReplicatedJob memory job = _replicated();
        (job.job.taskCount, job.job.batchSize) = (5, 2);
        bytes32 id = replicas.jobIdOf(job);
        batch = uint32(bound(batch, 0, 2));
        ResultLeaf[] memory leaves = _leaves(batch == 2 ? 1 : 2);
        for (uint32 i = 0; i < leaves.length; ++i) {
            leaves[i].index = 2 * batch + i;
        }
        Reveal memory given = _honest(leaves, dave);
        given.batch = batch;
        bytes memory lot = bytes.concat(hash, id, bytes32(uint256(batch)), bytes32(uint256(uint160(dave))));
        uint256 drawn = uint256(keccak256(lot)) % leaves.length;
        for (uint256 i = 0; i < leaves.length; ++i) {
            assertEq(rules.isOpened(job, id, hash, given, _opening(leaves, dave, i)), i == drawn);
        }
    }

    /// A leaf's index counts the tasks of all batches before it.
    function test_theLeafOfALaterBatch_hasItsIndexInTheJob() public solvent {
        ReplicatedJob memory job = _replicated();
        job.assurance.target = 900_000_000;
        (job.job.taskCount, job.job.batchSize) = (6, 2);
        _open(job);
        ResultLeaf[] memory leaves = _leaves(2);
        (leaves[0].index, leaves[1].index) = (4, 5);
        Reveal memory given = _plain(leaves);
        given.batch = 2;
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 2);
        }
        _commitTo(alice, job, given);
        _commitTo(bob, job, given);
        _commit(carol, job, 2, WRONG);
        for (uint256 i = 0; i < 2; ++i) {
            given.provider = three[i];
            _revealTo(three[i], job, given);
        }
        _reveal(carol, job, 2, WRONG);
        Tally memory tally = _votes(given, given, 3);
        tally.batch = 2;
        for (uint256 i = 0; i < 3; ++i) {
            if (tally.votes[i].provider == carol) tally.votes[i].root = _revealed(carol, 2, WRONG).root;
        }
        _finalise(job, tally);
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        _lease(dave, job, 2);
        given = _honest(leaves, dave);
        given.batch = 2;
        _commitTo(dave, job, given);
        _nextBlocks();
        vm.setBlockhash(block.number - 1, HASH);
        bytes memory drawn =
            bytes.concat(HASH, replicas.jobIdOf(job), bytes32(uint256(2)), bytes32(uint256(uint160(dave))));
        _revealOpened(dave, job, given, _opening(leaves, dave, uint256(keccak256(drawn)) % 2));
    }

    function test_theLeaf_isDrawnByTheBlockAfterTheCommit() public {
        ReplicatedJob memory job = _extraRound(4);
        ResultLeaf[] memory leaves = _leaves(4);
        Reveal memory given = _honest(leaves, dave);
        _commitTo(dave, job, given);
        bytes memory toCome = abi.encodeWithSelector(IReplicaRegistry.BlockToCome.selector, block.number + 1);
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(toCome);
            _revealOpened(dave, job, given, _opening(leaves, dave, 0));
            vm.roll(block.number + 1);
        }
        vm.roll(block.number + 256);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.BlockTooOld.selector, block.number - 257));
        _revealOpened(dave, job, given, _opening(leaves, dave, 0));
    }

    function test_anExtraRound_takesNoPlainReveal_andAFirstRoundNoOpening() public {
        ReplicatedJob memory job = _extraRound(4);
        ResultLeaf[] memory leaves = _leaves(4);
        Reveal memory given = _honest(leaves, dave);
        _commitTo(dave, job, given);
        _nextBlocks();
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongReveal.selector, 0));
        _revealTo(dave, job, given);
        job.job.nonce = 2;
        job.job.rampStart = uint32(block.timestamp) + WIDEN;
        _open(job);
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
            _commitTo(three[i], job, _honest(leaves, three[i]));
        }
        _nextBlocks();
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongReveal.selector, 0));
        _revealOpened(alice, job, _honest(leaves, alice), _opening(leaves, alice, 0));
    }

    /// It has the root and the fuel, as everybody does, and no leaf.
    function test_aCopierWithoutLeaves_isNotCounted_andLosesTheStake() public solvent {
        ReplicatedJob memory job = _extraRound(4);
        Reveal memory copy = _honest(_leaves(4), dave);
        // Leaves that it made up.
        ResultLeaf[] memory invented = _leaves(4);
        for (uint256 i = 0; i < 4; ++i) {
            invented[i].outputRoot = keccak256("invented");
        }
        copy.bound = _honest(invented, dave).bound;
        _commitTo(dave, job, copy);
        uint256 position = _drawnLeaf(job, dave, 4);
        _wrongOpening(dave, job, copy, _opening(invented, dave, position));
        // Not even the real leaf opens what it bound.
        _wrongOpening(dave, job, copy, _opening(_leaves(4), dave, position));
        vm.warp(block.timestamp + REVEAL + WINDOW + 1);
        // Nobody believed: one more round, with Erin, who did the work.
        Reveal memory silent;
        _finalise(job, _votes(_plain(_leaves(4)), silent, 4));
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        _lease(erin, job, 0);
        Reveal memory given = _honest(_leaves(4), erin);
        _commitTo(erin, job, given);
        _revealOpened(erin, job, given, _opening(_leaves(4), erin, _drawnLeaf(job, erin, 4)));
        // Dave is awaited once more.
        vm.warp(block.timestamp + REVEAL + WINDOW + 1);
        address[] memory who = new address[](5);
        Reveal[] memory votes = new Reveal[](5);
        (who[0], who[1], who[2], who[3], who[4]) = (alice, bob, carol, dave, erin);
        (votes[0], votes[1], votes[2], votes[3], votes[4]) = (given, given, _revealed(carol, 0, WRONG), silent, given);
        _finalise(job, _tallyOf(0, who, votes));
        assertEq(_stake(dave), STAKE - _lockOf(job, 4));
        assertEq(_earned(dave), 0);
        assertEq(_earned(erin), _price(job.job, given.fuel));
    }

    /// The tree binds leaves to who has them: another's tree, commitment and opening are of no use.
    function test_anothersBoundTree_doesNotOpen() public {
        ReplicatedJob memory job = _extraRound(4);
        ResultLeaf[] memory leaves = _leaves(4);
        Reveal memory copy = _honest(leaves, erin);
        copy.provider = dave;
        _commitTo(dave, job, copy);
        uint256 position = _drawnLeaf(job, dave, 4);
        _wrongOpening(dave, job, copy, _opening(leaves, erin, position));
        _wrongOpening(dave, job, copy, _opening(leaves, dave, position));
    }

    /// Whoever has one leaf, because an opening has shown it, passes only where that one is drawn.
    function testFuzz_aCopierWithOneLeaf_passesOnlyIfItIsDrawn(uint8 known, bytes32 hash) public {
        vm.assume(hash != 0);
        known %= 4;
        ReplicatedJob memory job = _extraRound(4);
        ResultLeaf[] memory leaves = _leaves(4);
        Reveal memory copy = _honest(leaves, dave);
        ResultLeaf[] memory guessed = _leaves(4);
        for (uint256 i = 0; i < 4; ++i) {
            if (i != known) guessed[i].outputRoot = 0;
        }
        copy.bound = _honest(guessed, dave).bound;
        _commitTo(dave, job, copy);
        uint256 position = _drawnLeaf(job, dave, 4, hash);
        Opening memory opening = _opening(guessed, dave, position);
        // What the opening of the result's tree needs besides was shown with the leaf.
        Opening memory real = _opening(leaves, dave, position);
        (opening.siblingHashes, opening.siblingFuels) = (real.siblingHashes, real.siblingFuels);
        if (position == known) _revealOpened(dave, job, copy, opening);
        else _wrongOpening(dave, job, copy, opening);
    }

    /// A tree of another batch's leaves is no result of this one.
    function test_aLeafOfAnotherTask_doesNotOpen() public {
        ReplicatedJob memory job = _extraRound(4);
        ResultLeaf[] memory leaves = _leaves(4);
        for (uint32 i = 0; i < 4; ++i) {
            leaves[i].index += 4;
        }
        Reveal memory given = _honest(leaves, dave);
        _commitTo(dave, job, given);
        uint256 position = _drawnLeaf(job, dave, 4);
        _wrongOpening(dave, job, given, _opening(leaves, dave, position));
    }

    function test_anOpening_isAsDeepAsTheTree() public {
        ReplicatedJob memory job = _extraRound(4);
        ResultLeaf[] memory leaves = _leaves(4);
        Reveal memory given = _honest(leaves, dave);
        _commitTo(dave, job, given);
        uint256 position = _drawnLeaf(job, dave, 4);
        Opening memory opening = _opening(leaves, dave, position);
        opening.boundSiblings = new bytes32[](1);
        _wrongOpening(dave, job, given, opening);
        opening = _opening(leaves, dave, position);
        opening.siblingHashes = new bytes32[](1);
        _wrongOpening(dave, job, given, opening);
        opening = _opening(leaves, dave, position);
        opening.siblingFuels[0] += 1;
        _wrongOpening(dave, job, given, opening);
        opening = _opening(leaves, dave, position);
        opening.leaf.fuel -= 1;
        _wrongOpening(dave, job, given, opening);
        // `leaves` has that leaf as well now.
        _revealOpened(dave, job, given, _opening(_leaves(4), dave, position));
    }

    /// Whoever binds the one leaf that it has, instead of a tree, cannot open it, even where the lot draws it.
    function test_aBoundLeaf_isNoTree() public {
        ReplicatedJob memory job = _extraRound(4);
        ResultLeaf[] memory leaves = _leaves(4);
        uint256 position = _drawnFrom(job, dave, 4, HASH);
        Reveal memory given = _honest(leaves, dave);
        given.bound = _boundLeaves(leaves, dave)[position];
        _commitTo(dave, job, given);
        assertEq(_drawnLeaf(job, dave, 4), position);
        Opening memory opening = _opening(leaves, dave, position);
        opening.boundSiblings = new bytes32[](0);
        _wrongOpening(dave, job, given, opening);
    }

    /// Alice and Bob have the result of a batch of `tasks`, Carol another; Dave holds the slot of a second round.
    function _extraRound(uint32 tasks) private returns (ReplicatedJob memory job) {
        job = _replicated();
        // Two against one, 16/21, are not enough; three, 64/69, are.
        job.assurance.target = 900_000_000;
        (job.job.taskCount, job.job.batchSize) = (tasks, tasks);
        _open(job);
        Reveal memory right = _plain(_leaves(tasks));
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
        }
        _commitTo(alice, job, right);
        _commitTo(bob, job, right);
        _commit(carol, job, 0, WRONG);
        for (uint256 i = 0; i < 2; ++i) {
            right.provider = three[i];
            _revealTo(three[i], job, right);
        }
        _reveal(carol, job, 0, WRONG);
        _finalise(job, _votes(right, right, 3));
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        _lease(dave, job, 0);
    }

    /// The votes of {_extraRound}: `right` of Alice and Bob, and that of Dave as the fourth.
    function _votes(Reveal memory right, Reveal memory ofDave, uint256 count) private view returns (Tally memory) {
        address[4] memory all = [alice, bob, carol, dave];
        address[] memory who = new address[](count);
        Reveal[] memory given = new Reveal[](count);
        for (uint256 i = 0; i < count; ++i) {
            who[i] = all[i];
            given[i] = i < 2 ? right : i == 2 ? _revealed(carol, 0, WRONG) : ofDave;
        }
        return _tallyOf(0, who, given);
    }

    function _revealOpened(address who, ReplicatedJob memory job, Reveal memory given, Opening memory opening) private {
        vm.prank(who);
        replicas.revealOpened(job, given, opening);
    }

    function _wrongOpening(address who, ReplicatedJob memory job, Reveal memory given, Opening memory opening) private {
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongOpening.selector, 0));
        _revealOpened(who, job, given, opening);
    }

    /// The leaf that the block after a commit made now draws.
    function _drawnLeaf(ReplicatedJob memory job, address who, uint256 tasks) private returns (uint256) {
        return _drawnLeaf(job, who, tasks, HASH);
    }

    function _drawnLeaf(ReplicatedJob memory job, address who, uint256 tasks, bytes32 hash) private returns (uint256) {
        _nextBlocks();
        vm.setBlockhash(block.number - 1, hash);
        return _drawnFrom(job, who, tasks, hash);
    }

    function _drawnFrom(ReplicatedJob memory job, address who, uint256 tasks, bytes32 hash)
        private
        view
        returns (uint256)
    {
        bytes32 jobId = replicas.jobIdOf(job);
        return uint256(keccak256(bytes.concat(hash, jobId, bytes32(0), bytes32(uint256(uint160(who)))))) % tasks;
    }

    function _leaves(uint256 tasks) private pure returns (ResultLeaf[] memory leaves) {
        leaves = new ResultLeaf[](tasks);
        for (uint32 i = 0; i < tasks; ++i) {
            leaves[i] = ResultLeaf(i, i != 1, i != 1 ? i : 0, keccak256(abi.encode("output", i)), 10 * i, 1e8 + i);
        }
    }

    /// What is revealed in a first round.
    function _plain(ResultLeaf[] memory leaves) private pure returns (Reveal memory given) {
        given.salt = SALT;
        (bytes32[] memory hashes, uint64[] memory fuels) = _nodes(leaves);
        (given.root, given.fuel) = ResultTree.root(hashes, fuels);
    }

    /// What `who` reveals in an extra round.
    function _honest(ResultLeaf[] memory leaves, address who) private pure returns (Reveal memory given) {
        given = _plain(leaves);
        given.provider = who;
        bytes32[] memory level = _boundLeaves(leaves, who);
        while (level.length > 1) {
            level = _above(level);
        }
        given.bound = level[0];
    }

    /// Both trees' siblings of the leaf at `position`.
    function _opening(ResultLeaf[] memory leaves, address who, uint256 position)
        private
        pure
        returns (Opening memory opening)
    {
        opening.leaf = leaves[position];
        (bytes32[] memory hashes, uint64[] memory fuels) = _nodes(leaves);
        bytes32[] memory bound = _boundLeaves(leaves, who);
        uint256 depth;
        while (1 << depth < hashes.length) {
            ++depth;
        }
        opening.siblingHashes = new bytes32[](depth);
        opening.siblingFuels = new uint64[](depth);
        opening.boundSiblings = new bytes32[](depth);
        for (uint256 height = 0; height < depth; ++height) {
            opening.siblingHashes[height] = hashes[position ^ 1];
            opening.siblingFuels[height] = fuels[position ^ 1];
            opening.boundSiblings[height] = bound[position ^ 1];
            bound = _above(bound);
            uint256 half = hashes.length / 2;
            bytes32[] memory nextHashes = new bytes32[](half);
            uint64[] memory nextFuels = new uint64[](half);
            for (uint256 i = 0; i < half; ++i) {
                (nextHashes[i], nextFuels[i]) =
                    ResultTree.node(hashes[2 * i], fuels[2 * i], hashes[2 * i + 1], fuels[2 * i + 1]);
            }
            (hashes, fuels) = (nextHashes, nextFuels);
            position /= 2;
        }
    }

    /// The result tree's lowest level, with its padding.
    function _nodes(ResultLeaf[] memory leaves) private pure returns (bytes32[] memory hashes, uint64[] memory fuels) {
        uint256 width = _width(leaves.length);
        hashes = new bytes32[](width);
        fuels = new uint64[](width);
        for (uint256 i = 0; i < leaves.length; ++i) {
            (hashes[i], fuels[i]) = (ResultTree.leafHash(leaves[i]), leaves[i].fuel);
        }
    }

    /// The bound tree's lowest level, with its padding.
    function _boundLeaves(ResultLeaf[] memory leaves, address who) private pure returns (bytes32[] memory level) {
        level = new bytes32[](_width(leaves.length));
        for (uint256 i = 0; i < leaves.length; ++i) {
            level[i] = keccak256(abi.encode(who, leaves[i]));
        }
    }

    function _width(uint256 count) private pure returns (uint256 width) {
        width = 1;
        while (width < count) {
            width *= 2;
        }
    }

    function _above(bytes32[] memory level) private pure returns (bytes32[] memory next) {
        next = new bytes32[](level.length / 2);
        for (uint256 i = 0; i < next.length; ++i) {
            next[i] = keccak256(bytes.concat(level[2 * i], level[2 * i + 1]));
        }
    }
}
