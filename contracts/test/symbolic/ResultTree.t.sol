// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ResultTree} from "../../libraries/ResultTree.sol";
import {Symbolic} from "./Symbolic.sol";

/// @notice Trees of two to four leaves: what is shown for a position is what was put there, with its fuel, whatever the proof says.
contract ResultTreeSymbolicTest is Symbolic {
    /// @custom:halmos --loop 5
    function check_twoLeaves_bindHashAndFuel(
        bytes32[2] calldata hashes,
        uint64[2] calldata fuels,
        uint32 position,
        bytes32 hash,
        uint64 fuel,
        bytes32 siblingHash,
        uint64 siblingFuel
    ) public pure {
        (bytes32 root, uint64 total) = ResultTree.node(hashes[0], fuels[0], hashes[1], fuels[1]);
        (bytes32[] memory siblingHashes, uint64[] memory siblingFuels) = (new bytes32[](1), new uint64[](1));
        (siblingHashes[0], siblingFuels[0]) = (siblingHash, siblingFuel);
        if (!ResultTree.verify(root, total, 2, position, hash, fuel, siblingHashes, siblingFuels)) return;
        assert(position < 2);
        // Halmos reads arrays at numbers only.
        for (uint256 i = 0; i < 2; ++i) {
            if (i == position) assert(hash == hashes[i] && fuel == fuels[i]);
        }
    }

    /// @custom:halmos --loop 5
    function check_fourLeaves_bindHashAndFuel(
        bytes32[4] calldata hashes,
        uint64[4] calldata fuels,
        uint32 position,
        bytes32 hash,
        uint64 fuel,
        bytes32[2] calldata givenHashes,
        uint64[2] calldata givenFuels
    ) public pure {
        (bytes32 left, uint64 leftFuel) = ResultTree.node(hashes[0], fuels[0], hashes[1], fuels[1]);
        (bytes32 right, uint64 rightFuel) = ResultTree.node(hashes[2], fuels[2], hashes[3], fuels[3]);
        (bytes32 root, uint64 total) = ResultTree.node(left, leftFuel, right, rightFuel);
        (bytes32[] memory siblingHashes, uint64[] memory siblingFuels) = (new bytes32[](2), new uint64[](2));
        (siblingHashes[0], siblingHashes[1]) = (givenHashes[0], givenHashes[1]);
        (siblingFuels[0], siblingFuels[1]) = (givenFuels[0], givenFuels[1]);
        if (!ResultTree.verify(root, total, 4, position, hash, fuel, siblingHashes, siblingFuels)) return;
        assert(position < 4);
        // Halmos reads arrays at numbers only.
        for (uint256 i = 0; i < 4; ++i) {
            if (i == position) assert(hash == hashes[i] && fuel == fuels[i]);
        }
    }
}
