// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {ResultLeaf, ResultTree} from "../libraries/ResultTree.sol";

contract ResultTreeTest is Test {
    /// One case of the vectors that the Rust implementation wrote.
    struct Case {
        string at;
        bytes32[] hashes;
        uint64[] fuels;
        bytes32 root;
        uint64 fuel;
    }

    string private json = vm.readFile("bindings/vectors/result_tree.json");

    function test_vectors_leafHashesAndRootsAgreeWithRust() public view {
        for (uint256 i = 0; vm.keyExistsJson(json, _case(i)); ++i) {
            Case memory c = _load(i);
            for (uint256 j = 0; j < c.hashes.length; ++j) {
                ResultLeaf memory leaf = _leaf(c, j);
                assertEq(ResultTree.leafHash(leaf), c.hashes[j], "leaf");
            }
            (bytes32 hash, uint64 fuel) = ResultTree.root(c.hashes, c.fuels);
            assertEq(hash, c.root, "root");
            assertEq(fuel, c.fuel, "fuel");
        }
    }

    function test_vectors_everyProofVerifies() public view {
        for (uint256 i = 0; vm.keyExistsJson(json, _case(i)); ++i) {
            Case memory c = _load(i);
            for (uint256 p = 0; vm.keyExistsJson(json, _proof(c, p)); ++p) {
                (uint32 position, bytes32[] memory hashes, uint64[] memory fuels) = _loadProof(c, p);
                // A proof at a position behind the last task is one of padding.
                bool real = position < c.hashes.length;
                (bytes32 hash, uint64 fuel) = real ? (c.hashes[position], c.fuels[position]) : (bytes32(0), uint64(0));
                uint32 tasks = uint32(c.hashes.length);
                assertTrue(ResultTree.verify(c.root, c.fuel, tasks, position, hash, fuel, hashes, fuels));
            }
        }
    }

    function test_vectors_haveSeveralCasesEachWithProofs() public view {
        assertTrue(vm.keyExistsJson(json, _case(1)));
        for (uint256 i = 0; vm.keyExistsJson(json, _case(i)); ++i) {
            assertTrue(vm.keyExistsJson(json, string.concat(_case(i), ".proofs[0]")));
        }
    }

    function test_verify_isFalseForEverySingleWrongPart() public pure {
        (bytes32[] memory h, uint64[] memory f) = _leaves(5);
        (bytes32 root, uint64 sum) = ResultTree.root(h, f);
        (bytes32[] memory sh, uint64[] memory sf) = _prove(h, f, 3);
        assertTrue(ResultTree.verify(root, sum, 5, 3, h[3], f[3], sh, sf), "right");
        assertFalse(ResultTree.verify(bytes32(uint256(root) ^ 1), sum, 5, 3, h[3], f[3], sh, sf), "root");
        assertFalse(ResultTree.verify(root, sum + 1, 5, 3, h[3], f[3], sh, sf), "total");
        assertFalse(ResultTree.verify(root, sum, 5, 2, h[3], f[3], sh, sf), "position");
        assertFalse(ResultTree.verify(root, sum, 5, 3, h[2], f[3], sh, sf), "leaf");
        assertFalse(ResultTree.verify(root, sum, 5, 3, h[3], f[3] + 1, sh, sf), "leaf fuel");
        sh[1] = bytes32(uint256(sh[1]) ^ 1);
        assertFalse(ResultTree.verify(root, sum, 5, 3, h[3], f[3], sh, sf), "sibling");
        sh[1] = bytes32(uint256(sh[1]) ^ 1);
        sf[2] += 1;
        assertFalse(ResultTree.verify(root, sum, 5, 3, h[3], f[3], sh, sf), "sibling fuel");
    }

    function test_verify_isFalseWhenFuelMovesBetweenLeafAndSibling() public pure {
        (bytes32[] memory h, uint64[] memory f) = _leaves(2);
        (bytes32 root, uint64 sum) = ResultTree.root(h, f);
        bytes32[] memory sh = new bytes32[](1);
        uint64[] memory sf = new uint64[](1);
        (sh[0], sf[0]) = (h[1], f[1] - 1);
        assertFalse(ResultTree.verify(root, sum, 2, 0, h[0], f[0] + 1, sh, sf));
    }

    function test_verify_isFalseForPositionsTaskCountsAndLengthsOutOfRange() public pure {
        (bytes32[] memory h, uint64[] memory f) = _leaves(4);
        (bytes32 root, uint64 sum) = ResultTree.root(h, f);
        (bytes32[] memory sh, uint64[] memory sf) = _prove(h, f, 0);
        assertTrue(ResultTree.verify(root, sum, 4, 0, h[0], f[0], sh, sf));
        assertTrue(ResultTree.verify(root, sum, 3, 0, h[0], f[0], sh, sf), "3 tasks have the same depth");
        assertFalse(ResultTree.verify(root, sum, 4, 4, h[0], f[0], sh, sf), "position behind the tree");
        assertFalse(ResultTree.verify(root, sum, 0, 0, h[0], f[0], sh, sf), "no tasks");
        assertFalse(ResultTree.verify(root, sum, 0, 0, root, sum, new bytes32[](0), new uint64[](0)), "nor a proof");
        assertFalse(ResultTree.verify(root, sum, 2, 0, h[0], f[0], sh, sf), "proof too long");
        assertFalse(ResultTree.verify(root, sum, 5, 0, h[0], f[0], sh, sf), "proof too short");
        assertFalse(ResultTree.verify(root, sum, 4, 0, h[0], f[0], sh, new uint64[](1)), "fewer fuels");
        assertFalse(ResultTree.verify(root, sum, 4, 0, h[0], f[0], sh, new uint64[](3)), "more fuels");
        assertFalse(ResultTree.verify(root, sum, 4, 0, root, sum, new bytes32[](0), new uint64[](0)), "inner node");
    }

    function test_verify_isFalseWhenTheSumOverflows() public pure {
        bytes32[] memory sh = new bytes32[](1);
        uint64[] memory sf = new uint64[](1);
        sf[0] = type(uint64).max;
        assertFalse(ResultTree.verify(bytes32(0), 0, 2, 0, bytes32(uint256(1)), 1, sh, sf));
        // It reaches its end.
        bytes32[] memory hashes = new bytes32[](2);
        uint64[] memory fuels = new uint64[](2);
        (fuels[0], fuels[1]) = (1, type(uint64).max - 1);
        (bytes32 root, uint64 fuel) = ResultTree.root(hashes, fuels);
        assertEq(fuel, type(uint64).max);
        sf[0] = fuels[1];
        assertTrue(ResultTree.verify(root, fuel, 2, 0, hashes[0], 1, sh, sf));
    }

    function test_root_refusesNoLeavesDifferentLengthsAndOverflow() public {
        vm.expectRevert(ResultTree.NoLeaves.selector);
        this.rootOf(new bytes32[](0), new uint64[](0));
        vm.expectRevert(abi.encodeWithSelector(ResultTree.LengthsDiffer.selector, 2, 1));
        this.rootOf(new bytes32[](2), new uint64[](1));
        uint64[] memory fuels = new uint64[](2);
        (fuels[0], fuels[1]) = (type(uint64).max, 1);
        vm.expectRevert(ResultTree.FuelOverflow.selector);
        this.rootOf(new bytes32[](2), fuels);
    }

    /// An external call, which a test can see revert.
    function rootOf(bytes32[] memory hashes, uint64[] memory fuels) external pure returns (bytes32, uint64) {
        return ResultTree.root(hashes, fuels);
    }

    /// Every position of a tree of any size has a proof, padding included, and no other leaf fits it.
    function testFuzz_verify_acceptsExactlyTheLeafThatIsThere(uint8 size, uint8 at, uint8 other) public pure {
        Case memory c;
        uint256 tasks = bound(size, 1, 70);
        (c.hashes, c.fuels) = _padded(tasks);
        (c.root, c.fuel) = ResultTree.root(c.hashes, c.fuels);
        uint256 position = bound(at, 0, c.hashes.length - 1);
        assertTrue(_fits(c, tasks, position, position));
        uint256 wrong = bound(other, 0, c.hashes.length - 1);
        assertEq(_fits(c, tasks, position, wrong), c.hashes[wrong] == c.hashes[position]);
    }

    function _fits(Case memory c, uint256 tasks, uint256 position, uint256 leaf) private pure returns (bool) {
        (bytes32[] memory sh, uint64[] memory sf) = _prove(c.hashes, c.fuels, position);
        (uint32 count, uint32 where) = (uint32(tasks), uint32(position));
        return ResultTree.verify(c.root, c.fuel, count, where, c.hashes[leaf], c.fuels[leaf], sh, sf);
    }

    function _leaves(uint256 n) private pure returns (bytes32[] memory hashes, uint64[] memory fuels) {
        (hashes, fuels) = (new bytes32[](n), new uint64[](n));
        for (uint256 i = 0; i < n; ++i) {
            fuels[i] = uint64(1000 + i * i);
            hashes[i] = ResultTree.leafHash(ResultLeaf(uint32(i), i % 3 != 2, 0, keccak256(abi.encode(i)), 9, fuels[i]));
        }
    }

    function _padded(uint256 n) private pure returns (bytes32[] memory hashes, uint64[] memory fuels) {
        uint256 width = 1;
        while (width < n) width *= 2;
        (bytes32[] memory h, uint64[] memory f) = _leaves(n);
        (hashes, fuels) = (new bytes32[](width), new uint64[](width));
        for (uint256 i = 0; i < n; ++i) {
            (hashes[i], fuels[i]) = (h[i], f[i]);
        }
    }

    /// Siblings by the definition: the sibling at a height is the root of the subtree beside the path.
    function _prove(bytes32[] memory h, uint64[] memory f, uint256 position)
        private
        pure
        returns (bytes32[] memory hashes, uint64[] memory fuels)
    {
        uint256 depth;
        while (1 << depth < h.length) ++depth;
        (hashes, fuels) = (new bytes32[](depth), new uint64[](depth));
        for (uint256 height = 0; height < depth; ++height) {
            uint256 width = 1 << height;
            uint256 start = ((position >> height) ^ 1) * width;
            (bytes32[] memory subHashes, uint64[] memory subFuels) = (new bytes32[](width), new uint64[](width));
            for (uint256 i = 0; i < width && start + i < h.length; ++i) {
                (subHashes[i], subFuels[i]) = (h[start + i], f[start + i]);
            }
            (hashes[height], fuels[height]) = ResultTree.root(subHashes, subFuels);
        }
    }

    function _case(uint256 i) private pure returns (string memory) {
        return string.concat(".cases[", vm.toString(i), "]");
    }

    function _proof(Case memory c, uint256 p) private pure returns (string memory) {
        return string.concat(c.at, ".proofs[", vm.toString(p), "]");
    }

    function _load(uint256 i) private view returns (Case memory c) {
        c.at = _case(i);
        c.hashes = vm.parseJsonBytes32Array(json, string.concat(c.at, ".leafHashes"));
        c.root = vm.parseJsonBytes32(json, string.concat(c.at, ".hash"));
        c.fuel = _uint64(string.concat(c.at, ".fuel"));
        c.fuels = new uint64[](c.hashes.length);
        for (uint256 j = 0; j < c.hashes.length; ++j) {
            c.fuels[j] = _leaf(c, j).fuel;
        }
    }

    function _leaf(Case memory c, uint256 j) private view returns (ResultLeaf memory leaf) {
        string memory at = string.concat(c.at, ".leaves[", vm.toString(j), "]");
        leaf.index = uint32(_uint64(string.concat(at, ".index")));
        leaf.ok = vm.parseJsonBool(json, string.concat(at, ".ok"));
        leaf.exitCode = uint32(_uint64(string.concat(at, ".exitCode")));
        leaf.outputRoot = vm.parseJsonBytes32(json, string.concat(at, ".outputRoot"));
        leaf.outputLength = _uint64(string.concat(at, ".outputLength"));
        leaf.fuel = _uint64(string.concat(at, ".fuel"));
    }

    function _loadProof(Case memory c, uint256 p)
        private
        view
        returns (uint32 position, bytes32[] memory hashes, uint64[] memory fuels)
    {
        string memory at = _proof(c, p);
        position = uint32(_uint64(string.concat(at, ".position")));
        hashes = vm.parseJsonBytes32Array(json, string.concat(at, ".siblingHashes"));
        uint256[] memory wide = vm.parseJsonUintArray(json, string.concat(at, ".siblingFuels"));
        fuels = new uint64[](wide.length);
        for (uint256 i = 0; i < wide.length; ++i) {
            fuels[i] = uint64(wide[i]);
        }
    }

    function _uint64(string memory at) private view returns (uint64) {
        return uint64(vm.parseJsonUint(json, at));
    }
}
