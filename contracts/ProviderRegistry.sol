// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IDeployment, Part, Settings} from "./interfaces/IDeployment.sol";
import {IEscrow, Permit} from "./interfaces/IEscrow.sol";
import {Contact} from "./interfaces/IJobRegistry.sol";
import {IProviderRegistry, Provider} from "./interfaces/IProviderRegistry.sol";

/// @title Providers and their stake
/// @dev The stake itself is in the Escrow, beside the provider's earnings.
contract ProviderRegistry is IProviderRegistry {
    using SafeCast for uint256;

    IEscrow private immutable _ESCROW;
    uint256 private immutable _MIN_STAKE;
    uint256 private immutable _EXIT_DELAY;

    mapping(address account => Provider) private _providers;

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        Settings memory settings = deployment.settings();
        _ESCROW = IEscrow(deployment.addressOf(Part.Escrow));
        _MIN_STAKE = settings.minStake;
        _EXIT_DELAY = settings.exitDelaySeconds;
    }

    /// @inheritdoc IProviderRegistry
    function register(address payout, Contact calldata contact, uint256 stake, Permit calldata permit) external {
        Provider storage entry = _providers[msg.sender];
        if (entry.payout != address(0)) revert AlreadyRegistered(msg.sender);
        if (payout == address(0)) revert ZeroPayout();
        if (contact.endpoint == 0) revert ZeroEndpoint();
        if (stake < _MIN_STAKE) revert StakeTooSmall(stake, _MIN_STAKE);
        entry.payout = payout;
        entry.endpoint = contact.endpoint;
        emit ProviderRegistered(msg.sender, payout, contact, stake);
        _ESCROW.stake(msg.sender, stake, permit);
    }

    /// @inheritdoc IProviderRegistry
    function setContact(Contact calldata contact) external {
        Provider storage entry = _caller();
        if (contact.endpoint == 0) revert ZeroEndpoint();
        entry.endpoint = contact.endpoint;
        emit ProviderContactChanged(msg.sender, contact);
    }

    /// @inheritdoc IProviderRegistry
    function setPayout(address provider, address payout) external {
        Provider storage entry = _providers[provider];
        if (msg.sender != entry.payout) revert NotPayout(msg.sender, entry.payout);
        if (payout == address(0)) revert ZeroPayout();
        entry.payout = payout;
        emit PayoutChanged(provider, payout);
    }

    /// @inheritdoc IProviderRegistry
    function addStake(uint256 amount, Permit calldata permit) external {
        _caller();
        emit StakeAdded(msg.sender, amount);
        _ESCROW.stake(msg.sender, amount, permit);
    }

    /// @inheritdoc IProviderRegistry
    function requestExit() external {
        Provider storage entry = _caller();
        if (entry.exitAt != 0) revert Exiting(entry.exitAt);
        entry.exitAt = (block.timestamp + _EXIT_DELAY).toUint32();
        emit ExitRequested(msg.sender, entry.exitAt);
        _ESCROW.setExiting(msg.sender, true);
    }

    /// @inheritdoc IProviderRegistry
    function cancelExit() external {
        Provider storage entry = _caller();
        if (entry.exitAt == 0) revert NotExiting();
        entry.exitAt = 0;
        emit ExitCancelled(msg.sender);
        _ESCROW.setExiting(msg.sender, false);
    }

    /// @inheritdoc IProviderRegistry
    function exit() external {
        Provider storage entry = _caller();
        if (entry.exitAt == 0) revert NotExiting();
        if (block.timestamp < entry.exitAt) revert ExitTooEarly(entry.exitAt);
        address payout = entry.payout;
        delete _providers[msg.sender];
        emit ProviderExited(msg.sender, _ESCROW.leave(msg.sender, payout));
    }

    /// @inheritdoc IProviderRegistry
    function withdraw(address provider) external returns (uint256 amount) {
        address payout = _providers[provider].payout;
        if (payout == address(0)) revert NotRegistered(provider);
        if (msg.sender != provider && msg.sender != payout) revert NotPayout(msg.sender, payout);
        return _ESCROW.payOut(provider, payout);
    }

    /// @inheritdoc IProviderRegistry
    function providerOf(address account) external view returns (Provider memory) {
        return _providers[account];
    }

    function _caller() private view returns (Provider storage entry) {
        entry = _providers[msg.sender];
        if (entry.payout == address(0)) revert NotRegistered(msg.sender);
    }
}
