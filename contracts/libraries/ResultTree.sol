// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @notice What one task came to, as a batch's result tree commits to it.
struct ResultLeaf {
    /// Task index in the job.
    uint32 index;
    /// Whether the program ended by itself; false is `Failed`.
    bool ok;
    /// Exit code when `ok`, else 0.
    uint32 exitCode;
    /// Region root of the output.
    bytes32 outputRoot;
    /// Bytes of output.
    uint64 outputLength;
    /// Fuel burned, in instructions.
    uint64 fuel;
}

/// @title The Merkle sum tree over a batch's result leaves
/// @notice Each node is a hash and the fuel below it, and a node's hash covers the fuel of both its children: a wrong total
/// needs a wrong node, which anyone can point at. Depth is ceil(log2(number of tasks)); missing leaves are (hash 0, fuel 0).
/// @dev `bindings/src/commit.rs` is the same tree in Rust; `bindings/vectors/result_tree.json` is asserted by both.
library ResultTree {
    bytes32 internal constant LEAF_TAG = keccak256("CONUN result leaf v1");
    bytes32 internal constant NODE_TAG = keccak256("CONUN result node v1");

    error NoLeaves();
    error LengthsDiffer(uint256 hashes, uint256 fuels);
    /// The fuel of all leaves exceeds 2^64 - 1.
    error FuelOverflow();

    /// @notice Hash of a leaf; its fuel is `leaf.fuel`.
    function leafHash(ResultLeaf memory leaf) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(LEAF_TAG, leaf.index, leaf.ok, leaf.exitCode, leaf.outputRoot, leaf.outputLength, leaf.fuel)
        );
    }

    /// @notice The node above two others.
    function node(bytes32 leftHash, uint64 leftFuel, bytes32 rightHash, uint64 rightFuel)
        internal
        pure
        returns (bytes32 hash, uint64 fuel)
    {
        uint256 sum = uint256(leftFuel) + rightFuel;
        if (sum > type(uint64).max) revert FuelOverflow();
        // forge-lint: disable-next-line(unsafe-typecast): compared above.
        return (_nodeHash(leftHash, leftFuel, rightHash, rightFuel), uint64(sum));
    }

    /// @notice Root of the tree over `hashes` and `fuels`, in the order of their tasks.
    function root(bytes32[] memory hashes, uint64[] memory fuels) internal pure returns (bytes32 hash, uint64 fuel) {
        if (hashes.length == 0) revert NoLeaves();
        if (hashes.length != fuels.length) revert LengthsDiffer(hashes.length, fuels.length);
        // New memory of the padded length is padding already.
        uint256 width = 1 << _depth(hashes.length);
        bytes32[] memory levelHashes = new bytes32[](width);
        uint64[] memory levelFuels = new uint64[](width);
        for (uint256 i = 0; i < hashes.length; ++i) {
            (levelHashes[i], levelFuels[i]) = (hashes[i], fuels[i]);
        }
        for (width /= 2; width != 0; width /= 2) {
            for (uint256 i = 0; i < width; ++i) {
                (levelHashes[i], levelFuels[i]) =
                    node(levelHashes[2 * i], levelFuels[2 * i], levelHashes[2 * i + 1], levelFuels[2 * i + 1]);
            }
        }
        return (levelHashes[0], levelFuels[0]);
    }

    /// @notice Whether the leaf is at `position` (padding counts) of the tree of `taskCount` leaves with that root and total
    /// fuel. `siblingHashes` and `siblingFuels` go from the leaf's own sibling up to the root's child. Never reverts.
    function verify(
        bytes32 rootHash,
        uint64 rootFuel,
        uint32 taskCount,
        uint32 position,
        bytes32 hash,
        uint64 fuel,
        bytes32[] memory siblingHashes,
        uint64[] memory siblingFuels
    ) internal pure returns (bool) {
        uint256 depth = siblingHashes.length;
        if (taskCount == 0 || depth != _depth(taskCount) || depth != siblingFuels.length) return false;
        if (position >> depth != 0) return false;
        for (uint256 height = 0; height < depth; ++height) {
            (bytes32 siblingHash, uint64 siblingFuel) = (siblingHashes[height], siblingFuels[height]);
            if (siblingFuel > type(uint64).max - fuel) return false;
            hash = (position >> height) & 1 == 0
                ? _nodeHash(hash, fuel, siblingHash, siblingFuel)
                : _nodeHash(siblingHash, siblingFuel, hash, fuel);
            fuel += siblingFuel;
        }
        return hash == rootHash && fuel == rootFuel;
    }

    /// ceil(log2 n), 0 for n = 1.
    function _depth(uint256 n) private pure returns (uint256) {
        return Math.log2(n, Math.Rounding.Ceil);
    }

    function _nodeHash(bytes32 leftHash, uint64 leftFuel, bytes32 rightHash, uint64 rightFuel)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(NODE_TAG, leftHash, leftFuel, rightHash, rightFuel));
    }
}
