// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

struct WalletCall {
    address target;
    bytes data;
}

/// @notice Makes the calls that it is told, all or none.
abstract contract Batching {
    function _run(WalletCall[] calldata calls) internal {
        for (uint256 i = 0; i < calls.length; ++i) {
            (bool ok, bytes memory answer) = calls[i].target.call(calls[i].data);
            if (ok) continue;
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
    }
}

/// @notice A contract as an account, as a Safe of one owner: signs by EIP-1271.
contract Wallet is Batching, IERC1271 {
    address private immutable _OWNER;

    error NotOwner(address caller);

    constructor(address owner) {
        _OWNER = owner;
    }

    function execute(WalletCall[] calldata calls) external {
        if (msg.sender != _OWNER) revert NotOwner(msg.sender);
        _run(calls);
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        return ECDSA.recover(hash, signature) == _OWNER ? this.isValidSignature.selector : bytes4(0);
    }
}

/// @notice Code that an account delegates to by EIP-7702: the account itself, and nobody else, makes several calls in one transaction.
contract Delegate is Batching {
    error NotSelf(address caller);

    function execute(WalletCall[] calldata calls) external {
        if (msg.sender != address(this)) revert NotSelf(msg.sender);
        _run(calls);
    }
}
