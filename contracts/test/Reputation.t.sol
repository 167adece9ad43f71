// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Job} from "../interfaces/IJobRegistry.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {Fixture} from "./Fixture.sol";

contract ReputationTest is Fixture {
    function test_records_tellWhatHappened() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0, 1, 2));
        _submit(alice, job, 0, 7);
        _submit(alice, job, 1, 8);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        vm.warp(block.timestamp + WINDOW);
        jobs.finalise(job, _standing(job, _list(1)));
        _passLease();
        _expire(job, _list(2));
        assertEq(reputation.requesterRecord(requester).accepted, 1);
        assertEq(reputation.requesterRecord(requester).timedOut, 1);
        assertEq(reputation.providerRecord(alice).expired, 1);
        assertEq(reputation.providerRecord(alice).checks, 0, "neither an early accept nor silence is a check");
        assertEq(reputation.providerRecord(bob).expired, 0);
        assertEq(reputation.requesterRecord(alice).accepted, 0);
    }

    function test_recordExpired_isForTheJobRegistryAndSaturates() public {
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.NotJobRegistry.selector, stranger));
        vm.prank(stranger);
        providers.recordExpired(alice);
        // slot 2 of the registration: checks, then expired.
        bytes32 slot = bytes32(uint256(keccak256(abi.encode(alice, uint256(0)))) + 2);
        vm.store(address(providers), slot, bytes32(uint256(type(uint32).max - 1) << 32));
        vm.startPrank(address(jobs));
        providers.recordExpired(alice);
        providers.recordExpired(alice);
        assertEq(reputation.providerRecord(alice).expired, type(uint32).max);
    }
}
