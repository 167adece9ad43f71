// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice An EIP-2612 signature for the Escrow as spender; `deadline` 0 means that there is none.
struct Permit {
    uint256 value;
    uint256 deadline;
    uint8 v;
    bytes32 r;
    bytes32 s;
}

/// @title The only contract that holds tokens
/// @notice Conservation: token.balanceOf(escrow) = sum of all available + sum of all locked + burnable, always.
/// Locked tokens are moved by the two registries of the same deployment only; no owner, no pause, no upgrade.
interface IEscrow {
    event Deposited(address indexed from, address indexed account, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);
    event Burned(uint256 amount);

    error NotRegistry(address caller);
    error BalanceTooSmall(address account, uint256 have, uint256 need);
    error LockedTooSmall(address account, uint256 have, uint256 need);
    /// The token moved `received` where `expected` was asked for; such a deposit into a lock is refused.
    error ReceivedLess(uint256 received, uint256 expected);

    /// @notice Credits `account` with what really arrives of `amount` of the caller's tokens.
    function deposit(address account, uint256 amount) external returns (uint256 received);
    function depositWithPermit(address account, uint256 amount, Permit calldata permit)
        external
        returns (uint256 received);
    /// @notice Sends `amount` of the caller's available balance to the caller.
    function withdraw(uint256 amount) external;
    /// @notice Burns what has been slashed so far. Anyone.
    function burn() external returns (uint256 amount);

    /// @notice Registries: locks `amount` of `account`, pulling what its available balance lacks from its tokens.
    function lock(address account, uint256 amount, Permit calldata permit) external;
    /// @notice Registries: unlocks `paid + refunded` of `from`: `paid` to the available balance of `to`, the rest back to `from`.
    function settle(address from, address to, uint256 paid, uint256 refunded) external;
    /// @notice Registries: takes `amount` of the locked balance of `from` out of circulation.
    function slash(address from, uint256 amount) external;
    /// @notice Registries: pays out the whole available balance of `account` to itself.
    function payOut(address account) external returns (uint256 amount);

    function balanceOf(address account) external view returns (uint256 available, uint256 locked);
    function burnable() external view returns (uint256);
    function token() external view returns (address);
}
