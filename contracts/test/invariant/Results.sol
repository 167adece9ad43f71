// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ResultLeaf, ResultTree} from "../../libraries/ResultTree.sol";
import {RegionTree} from "../RegionTree.sol";

/// @notice What `answer` and `revealOpened` take of a result's tree.
struct Proof {
    ResultLeaf leaf;
    bytes32[] hashes;
    uint64[] fuels;
}

/// @title Results of batches, with their leaves: one that is right, and wrong ones
/// @notice Every task's output is one byte.
library Results {
    bytes internal constant OUTPUT = hex"2a";
    /// The right result's kind; other kinds are wrong.
    uint256 internal constant RIGHT = 0;

    /// Root of the one byte's region; slow.
    function outputRoot() internal pure returns (bytes32) {
        return RegionTree.root(OUTPUT);
    }

    function leaves(uint32 firstTask, uint32 tasks, uint64 fuelLimit, bytes32 output, uint256 kind)
        internal
        pure
        returns (ResultLeaf[] memory list)
    {
        list = new ResultLeaf[](tasks);
        for (uint32 i = 0; i < tasks; ++i) {
            list[i] = ResultLeaf(firstTask + i, true, uint32(kind), output, 1, fuelLimit / uint64(kind + 1));
        }
    }

    function root(ResultLeaf[] memory list) internal pure returns (bytes32, uint64) {
        (bytes32[] memory hashes, uint64[] memory fuels) = _row(list);
        return ResultTree.root(hashes, fuels);
    }

    function prove(ResultLeaf[] memory list, uint256 position) internal pure returns (Proof memory proof) {
        (bytes32[] memory hashes, uint64[] memory fuels) = _row(list);
        uint256 depth = _depth(hashes.length);
        proof = Proof(list[position], new bytes32[](depth), new uint64[](depth));
        for (uint256 height = 0; height < depth; ++height) {
            uint256 beside = (position >> height) ^ 1;
            (proof.hashes[height], proof.fuels[height]) = (hashes[beside], fuels[beside]);
            for (uint256 i = 0; i < hashes.length >> (height + 1); ++i) {
                (hashes[i], fuels[i]) =
                    ResultTree.node(hashes[2 * i], fuels[2 * i], hashes[2 * i + 1], fuels[2 * i + 1]);
            }
        }
    }

    /// The tree that binds the leaves to `provider`.
    function bound(ResultLeaf[] memory list, address provider) internal pure returns (bytes32 hash) {
        (hash,) = bound(list, provider, 0);
    }

    function bound(ResultLeaf[] memory list, address provider, uint256 position)
        internal
        pure
        returns (bytes32, bytes32[] memory siblings)
    {
        uint256 depth = _depth(list.length);
        siblings = new bytes32[](depth);
        bytes32[] memory row = new bytes32[](1 << depth);
        for (uint256 i = 0; i < list.length; ++i) {
            row[i] = keccak256(abi.encode(provider, list[i]));
        }
        for (uint256 height = 0; height < depth; ++height) {
            siblings[height] = row[(position >> height) ^ 1];
            for (uint256 i = 0; i < 1 << (depth - height - 1); ++i) {
                row[i] = keccak256(abi.encode(row[2 * i], row[2 * i + 1]));
            }
        }
        return (row[0], siblings);
    }

    function _depth(uint256 count) private pure returns (uint256 depth) {
        while (1 << depth < count) ++depth;
    }

    function _row(ResultLeaf[] memory list) private pure returns (bytes32[] memory hashes, uint64[] memory fuels) {
        // New memory is padding already.
        hashes = new bytes32[](1 << _depth(list.length));
        fuels = new uint64[](hashes.length);
        for (uint256 i = 0; i < list.length; ++i) {
            (hashes[i], fuels[i]) = (ResultTree.leafHash(list[i]), list[i].fuel);
        }
    }
}
