// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title The Merkle tree over an output's bytes
/// @notice Fixed depth 27 over 32-byte words, padded with zeros: 4 GiB. A chunk is 4 KiB of it, a node at height 7.
/// @dev `region_root` in `bindings/src/commit.rs` is the same tree in Rust.
library Region {
    uint256 internal constant CHUNK = 4096;
    /// From a chunk's node up to the root.
    uint256 internal constant CHUNK_DEPTH = 20;

    /// @notice Whether `data` (at most 4 KiB, padded with zeros) is chunk `index` of the region with that root.
    function verify(bytes32 root, uint256 index, bytes memory data, bytes32[] memory siblings)
        internal
        pure
        returns (bool)
    {
        if (siblings.length != CHUNK_DEPTH || index >> CHUNK_DEPTH != 0 || data.length > CHUNK) return false;
        bytes32 hash = _fold(data);
        for (uint256 height = 0; height < CHUNK_DEPTH; ++height) {
            hash = index >> height & 1 == 0 ? _pair(hash, siblings[height]) : _pair(siblings[height], hash);
        }
        return hash == root;
    }

    /// Root of a chunk's 128 words.
    function _fold(bytes memory data) private pure returns (bytes32) {
        bytes32[] memory level = new bytes32[](CHUNK / 32);
        for (uint256 i = 0; i < data.length; i += 32) {
            bytes32 word;
            assembly ("memory-safe") {
                word := mload(add(add(data, 32), i))
            }
            // Memory behind the end of `data` may hold anything.
            if (data.length - i < 32) word &= bytes32(type(uint256).max << 8 * (32 - (data.length - i)));
            level[i / 32] = word;
        }
        for (uint256 width = level.length / 2; width != 0; width /= 2) {
            for (uint256 i = 0; i < width; ++i) {
                level[i] = _pair(level[2 * i], level[2 * i + 1]);
            }
        }
        return level[0];
    }

    function _pair(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(bytes.concat(left, right));
    }
}
