// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {console} from "forge-std/console.sol";

import {ReplicaExits} from "./ReplicaExits.sol";

/// @notice The campaign is worth what it reaches: one long run goes on until every call has succeeded and every end been seen, which lots
/// and draws, and with them the addresses of the contracts, may put off.
contract ReplicaReachTest is ReplicaExits {
    uint256 private constant MOST = 40_000;

    function test_oneLongRun_reachesEverything() public {
        vm.pauseGasMetering();
        _start(3000);
        string memory missing = "all";
        uint256 calls;
        for (; calls < MOST && bytes(missing).length != 0; calls += 1000) {
            _play(calls, calls + 1000);
            missing = _missing();
        }
        assertEq(missing, "", "never succeeded");
        console.log("calls", calls);
        _everybodyGetsOut();
    }

    /// What has not succeeded yet; how often the others have is seen with -vv.
    function _missing() private view returns (string memory missing) {
        string[93] memory names = [
            "post",
            "post alone",
            "post audited",
            "post voted",
            "cancel",
            "amend",
            "amend what continues",
            "amend to other work",
            "amend what is not open",
            "lease of what was amended",
            "lease of what was not open",
            "setJobContact",
            "lease",
            "lease two",
            "lease of an extra round",
            "backUp",
            "release",
            "release beaten",
            "expire",
            "expire a backup",
            "expire a straggler",
            "expire beaten",
            "commit",
            "commit of a backup",
            "commit of a straggler",
            "commit of an extra round",
            "commit what is wrong",
            "draw",
            "drawn",
            "not drawn",
            "drawn for want of commits",
            "audit of a vote",
            "reveal",
            "reveal of another",
            "reveal several",
            "reveal without a draw",
            "reveal with another leaf",
            "reveal without a leaf",
            "revealOpened",
            "revealAndAccept",
            "accept",
            "finalise",
            "settle a vote",
            "settle one",
            "settle against some",
            "extra round",
            "undecided",
            "nobody revealed",
            "challenge",
            "demand",
            "dispute late",
            "rule: won",
            "rule: lost",
            "rule wrongly",
            "rule late",
            "rule of another",
            "answer",
            "answer late",
            "answer wrongly",
            "resolve",
            "resolve early",
            "verdict 0",
            "verdict 1",
            "verdict 2",
            "claim",
            "claim again",
            "register",
            "addStake",
            "setPayout",
            "setContact",
            "requestExit",
            "cancelExit",
            "exit",
            "withdrawEarnings",
            "deposit",
            "withdraw",
            "burn",
            "donate",
            "act as requester",
            "act as holder",
            "another job",
            "draw in another state",
            "resolve in another state",
            "finalise in another state",
            "expire in another state",
            "back up in another state",
            "no such batch",
            "wrong votes",
            "accept what is not unanimous",
            "finalise early",
            "reveal what was not",
            "twice in a call",
            "call as registry"
        ];
        for (uint256 i = 0; i < names.length; ++i) {
            uint256 count = handler.successes(names[i]);
            console.log(names[i], count);
            if (count == 0) missing = string.concat(missing, names[i], "; ");
        }
    }

    function _play(uint256 from, uint256 to) private {
        for (uint256 i = from; i < to; ++i) {
            uint256 seed = uint256(keccak256(abi.encode("one long run", i)));
            (bool ok,) = address(handler).call(_callOf(seed));
            assertTrue(ok, "a handler does not fail");
            if (i % 16 == 0) handler.assertAgreement(false);
        }
        handler.assertAgreement(true);
    }

    function _callOf(uint256 seed) private view returns (bytes memory) {
        bytes4[26] memory ones = [
            handler.provide.selector,
            handler.post.selector,
            handler.cancel.selector,
            handler.amend.selector,
            handler.lease.selector,
            handler.backUp.selector,
            handler.release.selector,
            handler.releaseBeaten.selector,
            handler.expire.selector,
            handler.commit.selector,
            handler.commitAll.selector,
            handler.draw.selector,
            handler.reveal.selector,
            handler.revealAll.selector,
            handler.revealAndAccept.selector,
            handler.accept.selector,
            handler.finalise.selector,
            handler.dispute.selector,
            handler.judge.selector,
            handler.resolve.selector,
            handler.claim.selector,
            handler.advance.selector,
            handler.advanceMore.selector,
            handler.attack.selector,
            handler.miscount.selector,
            handler.pass.selector
        ];
        uint256 kind = seed % 28;
        if (kind == 26) {
            return abi.encodeCall(handler.aside, (seed >> 8, seed >> 16, seed >> 24, seed >> 32));
        }
        if (kind == 27) return abi.encodeCall(handler.leave, (seed >> 8, seed >> 16, seed >> 24 & 1 == 0));
        return abi.encodePacked(ones[kind], kind == 25 ? uint256(uint16(seed >> 8)) : seed);
    }
}
