// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDeployment, Part, Settings} from "../interfaces/IDeployment.sol";
import {Fixture, IToken} from "./Fixture.sol";

contract DeploymentTest is Fixture {
    function test_deploy_putsEachPartAtItsAddress() public view {
        for (uint8 i = 0; i < 8; ++i) {
            assertGt(deployment.addressOf(Part(i)).code.length, 0);
        }
        assertEq(escrow.token(), address(token));
    }

    function test_deploy_worksInAnyOrderAndForAnyone() public {
        bytes[8] memory codes = _codes();
        IDeployment other = _create(_deploymentCode(_settings()));
        for (uint8 i = 8; i > 0; --i) {
            vm.expectEmit(address(other));
            emit IDeployment.PartDeployed(Part(i - 1), other.addressOf(Part(i - 1)));
            vm.prank(stranger);
            address at = other.deploy(Part(i - 1), codes[i - 1]);
            assertEq(at, other.addressOf(Part(i - 1)));
            assertGt(at.code.length, 0);
        }
        assertEq(IToken(other.addressOf(Part.Token)).balanceOf(holder), _settings().tokenSupply);
        assertTrue(other.addressOf(Part.Token) != address(token), "each deployment has its own parts");
    }

    function test_deploy_againChangesNothingAndReturnsTheAddress() public {
        bytes[8] memory codes = _codes();
        vm.recordLogs();
        assertEq(deployment.deploy(Part.Token, codes[0]), address(token));
        assertEq(vm.getRecordedLogs().length, 0);
        assertEq(token.totalSupply(), _settings().tokenSupply);
    }

    function test_deploy_refusesOtherCode() public {
        bytes[8] memory codes = _codes();
        bytes32[8] memory hashes = _hashes();
        vm.expectRevert(abi.encodeWithSelector(IDeployment.WrongInitCode.selector, Part.Token, hashes[1], hashes[0]));
        deployment.deploy(Part.Token, codes[1]);
    }

    function test_settings_areThoseChosen() public view {
        assertEq(abi.encode(deployment.settings()), abi.encode(_settings()));
    }

    function test_constructor_refusesBadSettings() public {
        Settings memory s = _settings();
        s.tokenHolder = address(0);
        _expectInvalid(s, "tokenHolder is zero");

        s = _settings();
        s.tokenSupply = 0;
        _expectInvalid(s, "tokenSupply must be from 1 to 2^88 - 1");
        s.tokenSupply = 1 << 88;
        _expectInvalid(s, "tokenSupply must be from 1 to 2^88 - 1");

        s = _settings();
        s.exitDelaySeconds = s.maxCommitmentSeconds;
        _expectInvalid(s, "exitDelaySeconds must exceed maxCommitmentSeconds");

        s = _settings();
        s.maxCommitmentSeconds = 1;
        _expectInvalid(s, "maxCommitmentSeconds must be at least 2, exitDelaySeconds at most ten years");
        s = _settings();
        s.exitDelaySeconds = 3650 days + 1;
        _expectInvalid(s, "maxCommitmentSeconds must be at least 2, exitDelaySeconds at most ten years");

        s = _settings();
        s.expiryBondBps = 10_001;
        _expectInvalid(s, "expiryBondBps must be at most 10000");

        s = _settings();
        s.auditFloorBps = 0;
        _expectInvalid(s, "auditFloorBps must be from 1 to 9999");
        s.auditFloorBps = 10_000;
        _expectInvalid(s, "auditFloorBps must be from 1 to 9999");

        s = _settings();
        s.faultyBps = 0;
        _expectInvalid(s, "faultyBps must be from 1 to 4999: a newcomer is right more often than not");
        s.faultyBps = 5000;
        _expectInvalid(s, "faultyBps must be from 1 to 4999: a newcomer is right more often than not");

        for (uint256 i = 0; i < 3; ++i) {
            s = _settings();
            if (i == 0) s.minStake = 0;
            if (i == 1) s.checkFee = 0;
            if (i == 2) s.challengeBond = 0;
            _expectInvalid(s, "minStake, checkFee and challengeBond must be at least 1");
        }

        s = _settings();
        s.successorDelayBlocks = 0;
        _expectInvalid(s, "successorDelayBlocks must be from 1 to 1000000");
        s.successorDelayBlocks = 1_000_001;
        _expectInvalid(s, "successorDelayBlocks must be from 1 to 1000000");

        s = _settings();
        s.feeBps = 10_001;
        _expectInvalid(s, "feeBps must be at most 10000");

        s = _settings();
        s.rulingSeconds = 0;
        _expectInvalid(s, "rulingSeconds must be from 1 to a year");
        s.rulingSeconds = 365 days + 1;
        _expectInvalid(s, "rulingSeconds must be from 1 to a year");

        s = _settings();
        s.demandSeconds = 0;
        _expectInvalid(s, "demandSeconds must be from 1 to a year");
        s.demandSeconds = 365 days + 1;
        _expectInvalid(s, "demandSeconds must be from 1 to a year");
    }

    function test_constructor_takesTheExtremesOfEachSetting() public {
        Settings memory s = _settings();
        s.tokenSupply = type(uint88).max;
        s.maxCommitmentSeconds = 2;
        s.exitDelaySeconds = 3650 days;
        s.expiryBondBps = 10_000;
        s.auditFloorBps = 9999;
        s.faultyBps = 4999;
        s.feeBps = 10_000;
        (s.rulingSeconds, s.demandSeconds) = (365 days, 365 days);
        s.successorDelayBlocks = 1_000_000;
        _create(_deploymentCode(s));
        s.tokenSupply = 1;
        s.exitDelaySeconds = 3;
        (s.expiryBondBps, s.auditFloorBps, s.faultyBps, s.feeBps) = (0, 1, 1, 0);
        (s.rulingSeconds, s.demandSeconds) = (1, 1);
        (s.minStake, s.checkFee, s.challengeBond, s.successorDelayBlocks) = (1, 1, 1, 1);
        _create(_deploymentCode(s));
    }

    function _expectInvalid(Settings memory settings, string memory reason) private {
        bytes memory code = _deploymentCode(settings);
        vm.expectRevert(abi.encodeWithSelector(IDeployment.InvalidSettings.selector, reason));
        _create(code);
    }
}
