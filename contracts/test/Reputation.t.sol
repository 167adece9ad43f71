// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Job} from "../interfaces/IJobRegistry.sol";
import {Consent, Mark, Share} from "../interfaces/IEscrow.sol";
import {ProviderRecord} from "../interfaces/IReputation.sol";
import {Fixture} from "./Fixture.sol";

contract ReputationTest is Fixture {
    function test_records_tellWhatHappened() public {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0, 1, 2));
        _submit(alice, job, 0, 7);
        _submit(alice, job, 1, 8);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        assertEq(reputation.requesterRecord(requester).accepted, 1);
        assertEq(reputation.requesterRecord(requester).timedOut, 0);
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

    /// f is a fifth: newcomers have odds of 4, and s checks 5 s - 1 once that is more.
    function test_scoreOf_isTheOddsAsAProbability() public {
        uint32[5] memory checks = [0, 1, 2, 10, type(uint32).max];
        uint256[5] memory odds = [uint256(4e6), 4e6, 9e6, 49e6, (5 * uint256(type(uint32).max) - 1) * 1e6];
        uint256[5] memory scores = [uint256(800_000_000), 800_000_000, 900_000_000, 980_000_000, 999_999_999];
        for (uint256 i = 0; i < 5; ++i) {
            _setRecord(alice, checks[i], 0, 0, 0);
            assertEq(reputation.oddsOf(alice), odds[i]);
            assertEq(reputation.scoreOf(alice), scores[i]);
        }
        assertEq(reputation.scoreOf(stranger), scores[0]);
    }

    function test_providerRecord_isTheEscrows_fieldByField() public {
        _setRecord(alice, 1, 2, 3, 4);
    }

    function test_records_saturate() public {
        uint32 most = type(uint32).max;
        _setRecord(alice, most - 1, most - 1, most - 1, most - 1);
        Share[] memory shares = new Share[](1);
        shares[0].provider = alice;
        vm.startPrank(address(jobs));
        for (uint256 i = 0; i < 2; ++i) {
            escrow.expire(alice, 0, 0);
            shares[0].mark = Mark.Checked;
            escrow.settle(requester, 0, 0, 0, Consent.None, shares);
            shares[0].mark = Mark.Withheld;
            escrow.settle(requester, 0, 0, 0, Consent.None, shares);
        }
        assertEq(abi.encode(reputation.providerRecord(alice)), abi.encode(ProviderRecord(most, most, most - 1, most)));
        shares[0].mark = Mark.Failed;
        for (uint256 i = 0; i < 2; ++i) {
            escrow.settle(requester, 0, 0, 0, Consent.None, shares);
        }
        assertEq(abi.encode(reputation.providerRecord(alice)), abi.encode(ProviderRecord(0, most, most, most)));
    }
}
