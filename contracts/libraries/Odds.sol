// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title How much a vote weighs, and when a group of equal votes is believed
/// @notice Sarmenta's credibility (L. Sarmenta, "Sabotage-tolerance mechanisms for volunteer computing systems", CCGrid 2001): with f the assumed
/// share of bad providers, one that passed s checks is right with odds o = max((1 - f) / f, s / f - 1); the odds of agreeing
/// providers multiply; a group r with odds O(r) has credibility O(r) / (1 + sum of all groups' O).
/// @dev Odds are fixed point, 1e6 for 1, rounded down, and stop at 2^120.
library Odds {
    uint256 internal constant ONE = 1e6;
    uint256 internal constant MOST = 1 << 120;
    /// What a credibility of 1 is written as.
    uint256 internal constant CERTAIN = 1e9;
    uint256 private constant BPS = 10_000;

    /// Odds of a provider that passed `checks` checks.
    function after_(uint256 checks, uint256 faultyBps) internal pure returns (uint256) {
        uint256 fresh = ONE * (BPS - faultyBps) / faultyBps;
        uint256 earned = ONE * BPS * checks / faultyBps;
        return earned > fresh + ONE ? earned - ONE : fresh;
    }

    /// Odds of a group with one more vote.
    function times(uint256 group, uint256 vote) internal pure returns (uint256) {
        return Math.min(group * vote / ONE, MOST);
    }

    /// Odds of `count` newcomers that agree.
    function ofNewcomers(uint256 count, uint256 faultyBps) internal pure returns (uint256 group) {
        group = ONE;
        for (uint256 i = 0; i < count; ++i) {
            group = times(group, after_(0, faultyBps));
        }
    }

    /// Whether a group is believed: its credibility exceeds `target`. `sum` is the odds of all groups, this one's included.
    function exceeds(uint256 group, uint256 sum, uint256 target) internal pure returns (bool) {
        return group * CERTAIN > target * (ONE + sum);
    }
}
