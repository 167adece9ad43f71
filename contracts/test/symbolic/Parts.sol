// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Verdict} from "../../interfaces/IDisputes.sol";
import {Consent, Share, Voter} from "../../interfaces/IEscrow.sol";

/// @notice Stands for all parts that a registry calls: lets everything happen, and counts what is paid. What a registry cannot do with it,
/// it cannot do with the real parts either, which only refuse more.
contract Parts {
    /// Batches that were paid, or, of votes, votes.
    uint256 public paid;
    Verdict private _verdict;
    Voter private _voter;

    function answer(Verdict verdict, Voter calldata voter) external {
        (_verdict, _voter) = (verdict, voter);
    }

    function pay(address, address, uint256, uint256, uint256, uint256 batches, bool) external {
        paid += batches;
    }

    function settle(address, uint256, uint256, uint256, Consent, Share[] calldata shares) external {
        for (uint256 i = 0; i < shares.length; ++i) {
            if (shares[i].paid != 0) paid += 1;
        }
    }

    function conclude(bytes32, uint256) external view returns (Verdict) {
        return _verdict;
    }

    function holdVoter(address, uint256) external view returns (Voter memory) {
        return _voter;
    }

    /// Of {IJobRules}: any deposit will do.
    fallback(bytes calldata) external returns (bytes memory) {
        return abi.encode(uint256(1));
    }
}
