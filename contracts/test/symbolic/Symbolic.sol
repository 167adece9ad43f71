// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "forge-std/Vm.sol";

import {IDeployment, Part, Settings} from "../../interfaces/IDeployment.sol";

/// @notice Halmos's cheat codes that these tests use.
interface ISvm {
    function enableSymbolicStorage(address account) external;
    function createCalldata(string memory file, string memory name) external returns (bytes memory data);
    function createAddress(string memory name) external returns (address);
    function createUint256(string memory name) external returns (uint256);
}

/// @notice What the symbolic tests share: `scripts/halmos` runs their functions `check_*`, with every value of every argument.
/// @dev The test plays the Deployment: parts read their settings and each other's addresses from whoever creates them.
abstract contract Symbolic {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    ISvm internal constant svm = ISvm(address(uint160(uint256(keccak256("svm cheat code")))));

    mapping(Part => address) private _addresses;

    /// A part as it is deployed, from the artifacts of this profile.
    function _create(string memory name) internal returns (address at) {
        bytes memory code = vm.getCode(string.concat("out/symbolic/", name, ".sol/", name, ".json"));
        assembly ("memory-safe") {
            at := create(0, add(code, 32), mload(code))
        }
        assert(at != address(0));
    }

    function _place(Part part, address at) internal {
        _addresses[part] = at;
    }

    function addressOf(Part part) external view returns (address) {
        return _addresses[part];
    }

    function settings() external view virtual returns (Settings memory) {
        return Settings({
            tokenHolder: address(this),
            tokenSupply: 100_000_000e18,
            minStake: 100e18,
            exitDelaySeconds: 15 days,
            maxCommitmentSeconds: 14 days,
            successorDelayBlocks: 25,
            expiryBondBps: 1000,
            auditFloorBps: 2500,
            faultyBps: 2000,
            feeBps: 100,
            checkFee: 1e15,
            arbiter: address(0),
            rulingSeconds: 3 days,
            challengeBond: 50e18,
            demandSeconds: 1 hours,
            demandBond: 5e18
        });
    }
}
