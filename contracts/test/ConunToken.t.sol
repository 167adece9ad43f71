// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Permit} from "../interfaces/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

contract ConunTokenTest is Fixture {
    function test_construction_namesAndMintsTheWholeSupplyOnce() public view {
        assertEq(token.name(), "CONUN");
        assertEq(token.symbol(), "CON");
        assertEq(token.decimals(), 18);
        assertEq(token.totalSupply(), _settings().tokenSupply);
    }

    function test_burn_shrinksTheSupply() public {
        vm.prank(holder);
        token.burn(5);
        assertEq(token.totalSupply(), _settings().tokenSupply - 5);
    }

    function test_permit_givesTheAllowanceItSigns() public {
        vm.prank(requester);
        token.approve(address(escrow), 0);
        Permit memory p = _permit(requester, requesterKey, 7, block.timestamp);
        token.permit(requester, address(escrow), p.value, p.deadline, p.v, p.r, p.s);
        assertEq(token.allowance(requester, address(escrow)), 7);
    }

    function test_eip712Domain_isThatOfTheChainAndTheToken() public view {
        (, string memory name, string memory version, uint256 chainId, address at,,) = token.eip712Domain();
        assertEq(name, "CONUN");
        assertEq(version, "1");
        assertEq(chainId, block.chainid);
        assertEq(at, address(token));
    }
}
