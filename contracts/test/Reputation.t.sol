// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReputation} from "../interfaces/IReputation.sol";
import {Fixture} from "./Fixture.sol";

contract ReputationTest is Fixture {
    function test_recordSettled_countsFuelAndWhoEndedTheWindow() public {
        vm.startPrank(address(jobs));
        reputation.recordSettled(1, requester, 7, true);
        reputation.recordSettled(1, requester, 8, false);
        reputation.recordSettled(2, requester, 9, false);
        vm.stopPrank();
        assertEq(reputation.providerRecord(1).settledBatches, 2);
        assertEq(reputation.providerRecord(1).paidFuel, 15);
        assertEq(reputation.providerRecord(2).paidFuel, 9);
        assertEq(reputation.requesterRecord(requester).accepted, 1);
        assertEq(reputation.requesterRecord(requester).timedOut, 2);
    }

    function test_recordExpired_countsTheLeaseOnly() public {
        vm.prank(address(jobs));
        reputation.recordExpired(1);
        assertEq(reputation.providerRecord(1).expiredLeases, 1);
        assertEq(reputation.providerRecord(1).settledBatches, 0);
    }

    function test_records_areWrittenByTheJobRegistryOnly() public {
        bytes memory refusal = abi.encodeWithSelector(IReputation.NotJobRegistry.selector, stranger);
        vm.startPrank(stranger);
        vm.expectRevert(refusal);
        reputation.recordSettled(1, requester, 1, true);
        vm.expectRevert(refusal);
        reputation.recordExpired(1);
    }
}
