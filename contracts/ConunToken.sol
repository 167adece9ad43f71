// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

import {IDeployment, Settings} from "./interfaces/IDeployment.sol";

/// @title The medium of exchange: ERC-20 with EIP-2612 permits (EIP-5267 domain), 18 decimals
/// @notice The supply is fixed at construction and only ever shrinks, by burning.
contract ConunToken is ERC20Burnable, ERC20Permit {
    constructor() ERC20("CONUN", "CON") ERC20Permit("CONUN") {
        Settings memory settings = IDeployment(msg.sender).settings();
        _mint(settings.tokenHolder, settings.tokenSupply);
    }
}
