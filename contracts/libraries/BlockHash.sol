// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Hashes of the last 8,191 blocks
library BlockHash {
    /// EIP-2935: serves the hashes of the last 8,191 blocks.
    address internal constant HISTORY = 0x0000F90827F1C53a10cb7A02335B175320002935;

    /// Hash of a past block; 0 if it is still to come, or too long past to be read.
    function read(uint256 number) internal view returns (bytes32 hash) {
        hash = blockhash(number);
        if (hash != 0 || number >= block.number) return hash;
        (bool ok, bytes memory answer) = HISTORY.staticcall(abi.encode(number));
        if (ok && answer.length == 32) hash = bytes32(answer);
    }
}
