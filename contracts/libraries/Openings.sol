// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Opening, Reveal} from "../interfaces/IReplicaRegistry.sol";
import {ResultTree} from "./ResultTree.sol";

/// @title A drawn leaf, shown in a result's tree and in the tree that binds the result to who made it
library Openings {
    function verify(Reveal calldata given, Opening calldata opening, uint32 tasks, uint32 position)
        internal
        pure
        returns (bool)
    {
        bool inResult = ResultTree.verify(
            given.root,
            given.fuel,
            tasks,
            position,
            ResultTree.leafHash(opening.leaf),
            opening.leaf.fuel,
            opening.siblingHashes,
            opening.siblingFuels
        );
        if (!inResult || opening.boundSiblings.length != opening.siblingHashes.length) return false;
        bytes32 hash = keccak256(abi.encode(given.provider, opening.leaf));
        for (uint256 height = 0; height < opening.boundSiblings.length; ++height) {
            bytes32 sibling = opening.boundSiblings[height];
            hash = position >> height & 1 == 0
                ? keccak256(bytes.concat(hash, sibling))
                : keccak256(bytes.concat(sibling, hash));
        }
        return hash == given.bound;
    }
}
