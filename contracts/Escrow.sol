// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IDeployment, Part} from "./interfaces/IDeployment.sol";
import {IEscrow, Permit} from "./interfaces/IEscrow.sol";

/// @title The only contract that holds tokens
/// @dev Needs EIP-1153 (transient storage, Cancun) for its reentrancy guard.
contract Escrow is IEscrow, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    struct Balance {
        // slot 0: 128 + 128 bits, token wei
        uint128 available;
        uint128 locked;
    }

    IERC20 private immutable _TOKEN;
    address private immutable _JOBS;
    address private immutable _PROVIDERS;

    mapping(address account => Balance) private _balances;
    /// @inheritdoc IEscrow
    uint256 public burnable;

    modifier onlyRegistry() {
        if (msg.sender != _JOBS && msg.sender != _PROVIDERS) revert NotRegistry(msg.sender);
        _;
    }

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        _TOKEN = IERC20(deployment.addressOf(Part.Token));
        _JOBS = deployment.addressOf(Part.JobRegistry);
        _PROVIDERS = deployment.addressOf(Part.ProviderRegistry);
    }

    /// @inheritdoc IEscrow
    function deposit(address account, uint256 amount) external nonReentrant returns (uint256 received) {
        received = _pull(msg.sender, amount);
        _credit(account, received);
    }

    /// @inheritdoc IEscrow
    function depositWithPermit(address account, uint256 amount, Permit calldata permit)
        external
        nonReentrant
        returns (uint256 received)
    {
        _usePermit(msg.sender, permit);
        received = _pull(msg.sender, amount);
        _credit(account, received);
    }

    /// @inheritdoc IEscrow
    function withdraw(uint256 amount) external nonReentrant {
        _send(msg.sender, amount);
    }

    /// @inheritdoc IEscrow
    function burn() external nonReentrant returns (uint256 amount) {
        amount = burnable;
        burnable = 0;
        emit Burned(amount);
        ERC20Burnable(address(_TOKEN)).burn(amount);
    }

    /// @inheritdoc IEscrow
    function lock(address account, uint256 amount, Permit calldata permit) external onlyRegistry nonReentrant {
        uint256 available = _balances[account].available;
        if (available < amount) {
            uint256 missing = amount - available;
            _usePermit(account, permit);
            uint256 received = _pull(account, missing);
            if (received < missing) revert ReceivedLess(received, missing);
            // The token's transfer cannot have changed the balance: every way to do so is guarded.
            available += received;
        }
        Balance storage balance = _balances[account];
        balance.available = (available - amount).toUint128();
        balance.locked += amount.toUint128();
    }

    /// @inheritdoc IEscrow
    function settle(address from, address to, uint256 paid, uint256 refunded) external onlyRegistry nonReentrant {
        _unlock(from, paid + refunded);
        _balances[from].available += refunded.toUint128();
        _balances[to].available += paid.toUint128();
    }

    /// @inheritdoc IEscrow
    function slash(address from, uint256 amount) external onlyRegistry nonReentrant {
        _unlock(from, amount);
        burnable += amount;
    }

    /// @inheritdoc IEscrow
    function payOut(address account) external onlyRegistry nonReentrant returns (uint256 amount) {
        amount = _balances[account].available;
        _send(account, amount);
    }

    /// @inheritdoc IEscrow
    function balanceOf(address account) external view returns (uint256 available, uint256 locked) {
        Balance storage balance = _balances[account];
        return (balance.available, balance.locked);
    }

    /// @inheritdoc IEscrow
    function token() external view returns (address) {
        return address(_TOKEN);
    }

    /// A permit that was used before (a front-runner may send it first) leaves the allowance it gave: only that counts.
    function _usePermit(address owner, Permit calldata permit) private {
        if (permit.deadline == 0) return;
        try IERC20Permit(address(_TOKEN))
            .permit(owner, address(this), permit.value, permit.deadline, permit.v, permit.r, permit.s) {}
            catch {}
    }

    function _pull(address from, uint256 amount) private returns (uint256 received) {
        uint256 before = _TOKEN.balanceOf(address(this));
        _TOKEN.safeTransferFrom(from, address(this), amount);
        received = _TOKEN.balanceOf(address(this)) - before;
    }

    function _credit(address account, uint256 amount) private {
        _balances[account].available += amount.toUint128();
        emit Deposited(msg.sender, account, amount);
    }

    function _unlock(address account, uint256 amount) private {
        uint256 locked = _balances[account].locked;
        if (locked < amount) revert LockedTooSmall(account, locked, amount);
        _balances[account].locked = (locked - amount).toUint128();
    }

    function _send(address account, uint256 amount) private {
        uint256 available = _balances[account].available;
        if (available < amount) revert BalanceTooSmall(account, available, amount);
        _balances[account].available = (available - amount).toUint128();
        emit Withdrawn(account, amount);
        _TOKEN.safeTransfer(account, amount);
    }
}
