// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title An output's Merkle tree, in full
/// @notice The definition, level by level, with the roots of empty subtrees beside what is there: what `Region` is compared with.
library RegionTree {
    uint256 internal constant DEPTH = 27;
    uint256 internal constant CHUNK = 4096;

    function root(bytes memory data) internal pure returns (bytes32) {
        (bytes32 hash,) = _climb(data, 0);
        return hash;
    }

    /// From the chunk's node up to the root.
    function prove(bytes memory data, uint256 index) internal pure returns (bytes32[] memory siblings) {
        (, siblings) = _climb(data, index);
    }

    function chunk(bytes memory data, uint256 index) internal pure returns (bytes memory part) {
        uint256 start = index * CHUNK;
        uint256 left = start < data.length ? data.length - start : 0;
        part = new bytes(left < CHUNK ? left : CHUNK);
        for (uint256 i = 0; i < part.length; ++i) {
            part[i] = data[start + i];
        }
    }

    function _climb(bytes memory data, uint256 index) private pure returns (bytes32, bytes32[] memory siblings) {
        siblings = new bytes32[](20);
        bytes32[] memory level = _words(data);
        bytes32 empty;
        for (uint256 height = 0; height < DEPTH; ++height) {
            if (height >= 7) {
                uint256 beside = (index >> (height - 7)) ^ 1;
                siblings[height - 7] = beside < level.length ? level[beside] : empty;
            }
            bytes32[] memory above = new bytes32[]((level.length + 1) / 2);
            for (uint256 i = 0; i < above.length; ++i) {
                bytes32 right = 2 * i + 1 < level.length ? level[2 * i + 1] : empty;
                above[i] = keccak256(abi.encode(level[2 * i], right));
            }
            level = above;
            empty = keccak256(abi.encode(empty, empty));
        }
        return (level.length == 0 ? empty : level[0], siblings);
    }

    function _words(bytes memory data) private pure returns (bytes32[] memory words) {
        words = new bytes32[]((data.length + 31) / 32);
        for (uint256 i = 0; i < data.length; ++i) {
            words[i / 32] |= bytes32(data[i]) >> 8 * (i % 32);
        }
    }
}
