// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {Region} from "../libraries/Region.sol";
import {RegionTree} from "./RegionTree.sol";

contract RegionTest is Test {
    function test_emptyOutput_hasTheRootOfZeros() public pure {
        bytes32 zeros;
        for (uint256 i = 0; i < 27; ++i) {
            zeros = keccak256(bytes.concat(zeros, zeros));
        }
        assertEq(RegionTree.root(""), zeros);
        assertTrue(Region.verify(zeros, 0, "", RegionTree.prove("", 0)));
        assertTrue(Region.verify(zeros, (1 << 20) - 1, "", RegionTree.prove("", (1 << 20) - 1)));
    }

    /// Every chunk of any output verifies, and no other chunk does in its place.
    function testFuzz_verify_acceptsTheChunkThatIsThere(uint256 length, uint256 at, uint256 other) public pure {
        bytes memory data = _data(bound(length, 1, 4 * Region.CHUNK));
        uint256 last = (data.length - 1) / Region.CHUNK;
        (at, other) = (bound(at, 0, last), bound(other, 0, last + 1));
        bytes32 root = RegionTree.root(data);
        bytes32[] memory siblings = RegionTree.prove(data, at);
        assertTrue(Region.verify(root, at, RegionTree.chunk(data, at), siblings));
        if (other == at) return;
        assertFalse(Region.verify(root, other, RegionTree.chunk(data, at), siblings), "another position");
        assertFalse(Region.verify(root, at, RegionTree.chunk(data, other), siblings), "another chunk");
    }

    function testFuzz_verify_refusesEveryFlippedBit(uint256 length, uint256 bit, uint256 sibling) public pure {
        bytes memory data = _data(bound(length, 1, 2 * Region.CHUNK));
        bytes32 root = RegionTree.root(data);
        bytes memory part = RegionTree.chunk(data, 0);
        bytes32[] memory siblings = RegionTree.prove(data, 0);
        bit = bound(bit, 0, 8 * part.length - 1);
        part[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        assertFalse(Region.verify(root, 0, part, siblings), "byte");
        part[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        sibling = bound(sibling, 0, 19);
        siblings[sibling] ^= bytes32(uint256(1));
        assertFalse(Region.verify(root, 0, part, siblings), "sibling");
        siblings[sibling] ^= bytes32(uint256(1));
        assertFalse(Region.verify(root ^ bytes32(uint256(1)), 0, part, siblings), "root");
        assertTrue(Region.verify(root, 0, part, siblings));
    }

    /// What lies behind the end of the given bytes in memory does not count, in whichever word they end.
    function test_verify_padsWithZerosWhateverMemoryHolds() public pure {
        uint16[6] memory lengths = [1, 31, 32, 33, 95, 4095];
        for (uint256 i = 0; i < lengths.length; ++i) {
            uint256 length = lengths[i];
            bytes memory data = _data(length);
            bytes32 root = RegionTree.root(data);
            bytes32[] memory siblings = RegionTree.prove(data, 0);
            bytes memory part = bytes.concat(data, hex"ff");
            assertFalse(Region.verify(root, 0, part, siblings));
            assembly ("memory-safe") {
                mstore(part, length)
            }
            assertTrue(Region.verify(root, 0, part, siblings));
        }
    }

    function test_verify_refusesIndexesLengthsAndProofsOutOfRange() public pure {
        bytes memory data = _data(Region.CHUNK);
        bytes32 root = RegionTree.root(data);
        bytes32[] memory siblings = RegionTree.prove(data, 0);
        assertTrue(Region.verify(root, 0, data, siblings));
        assertFalse(Region.verify(root, 1 << 20, data, siblings), "the path of chunk 0, taken modulo the tree");
        assertFalse(Region.verify(root, 0, bytes.concat(data, hex"00"), siblings), "more than a chunk");
        assertFalse(Region.verify(root, 0, data, new bytes32[](0)), "no proof");
        assertFalse(Region.verify(root, 0, data, new bytes32[](19)), "short");
        assertFalse(Region.verify(root, 0, data, new bytes32[](21)), "long");
    }

    function _data(uint256 length) private pure returns (bytes memory data) {
        data = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            data[i] = bytes1(uint8(i * 7 + i / 251 + 1));
        }
    }
}
