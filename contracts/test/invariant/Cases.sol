// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "forge-std/Vm.sol";

import {CaseState, IDisputes, Standing, Verdict} from "../../interfaces/IDisputes.sol";
import {Books} from "./Books.sol";

/// @notice A challenge or a demand, as the events told it.
struct GhostCase {
    /// Which dispute it belongs to.
    uint256 dispute;
    address claimant;
    bool isDemand;
    uint40 deadline;
    CaseState state;
    uint32 task;
    uint32 chunk;
}

/// @notice A result that was frozen, and what came of it.
struct GhostDispute {
    Standing about;
    bytes32[] cases;
    bool concluded;
    Verdict verdict;
    uint256 share;
}

/// @notice The books of disputes: whose bonds and awards Disputes holds.
abstract contract Cases is Books {
    bytes32[] internal _caseIds;
    GhostDispute[] internal _disputes;
    mapping(bytes32 caseId => GhostCase) internal _cases;
    /// Number of the dispute about a frozen batch, from 1.
    mapping(bytes32 jobId => mapping(uint32 batch => uint256)) internal _disputeAbout;
    mapping(address account => uint256) public lostBy;
    /// What the division of awards left.
    uint256 public dust;
    uint256 private _shareTold;

    /// The result of a batch that can be disputed, or is.
    function _standingOf(bytes32 jobId, uint32 batch) internal view virtual returns (Standing memory);

    /// What Disputes holds: bonds and shares that nobody has claimed.
    function unclaimed() public view returns (uint256 sum) {
        sum = dust;
        for (uint256 i = 0; i < _caseIds.length; ++i) {
            GhostCase storage c = _cases[_caseIds[i]];
            if (c.state == CaseState.Closed || c.state == CaseState.Lost) continue;
            sum += _bondOf(c);
        }
        for (uint256 i = 0; i < _disputes.length; ++i) {
            sum += _unclaimedShares(_disputes[i]);
        }
    }

    function caseCount() external view returns (uint256) {
        return _caseIds.length;
    }

    function caseAt(uint256 i) external view returns (bytes32, GhostCase memory) {
        return (_caseIds[i], _cases[_caseIds[i]]);
    }

    /// Block time from which a frozen batch can be resolved.
    function resolvableAt(bytes32 jobId, uint32 batch) public view returns (uint256 at) {
        GhostDispute storage d = _disputes[_disputeAbout[jobId][batch] - 1];
        at = d.about.finalAt;
        uint256 last;
        bool open;
        for (uint256 i = 0; i < d.cases.length; ++i) {
            GhostCase storage c = _cases[d.cases[i]];
            open = open || c.state == CaseState.Open;
            if (c.deadline > last) last = c.deadline;
        }
        if (open && last >= at) at = last + 1;
    }

    function _onFrozen(bytes32 jobId, uint32 batch) internal {
        _check(_disputeAbout[jobId][batch] == 0, "frozen once");
        _disputes.push();
        _disputes[_disputes.length - 1].about = _standingOf(jobId, batch);
        _disputeAbout[jobId][batch] = _disputes.length;
    }

    /// Returns how many challengers won.
    function _onResolved(bytes32 jobId, uint32 batch, Verdict verdict, uint256 award) internal returns (uint256 won) {
        GhostDispute storage d = _disputes[_disputeAbout[jobId][batch] - 1];
        bool withheld;
        for (uint256 i = 0; i < d.cases.length; ++i) {
            GhostCase storage c = _cases[d.cases[i]];
            if (c.state == CaseState.Won) ++won;
            if (c.state != CaseState.Open) continue;
            _check(block.timestamp > c.deadline, "no case is open that can still be ruled or answered");
            if (c.isDemand) withheld = true;
        }
        _check(block.timestamp >= d.about.finalAt, "the window is over");
        Verdict need = won != 0 ? Verdict.Wrong : withheld ? Verdict.Withheld : Verdict.Stands;
        _check(verdict == need, "the verdict");
        if (won != 0) {
            d.share = award / won;
            dust += award % won;
            _books[address(_DISPUTES)].available += uint96(award);
        }
        _check(_shareTold == d.share, "equal shares of half of the stake");
        (d.concluded, d.verdict) = (true, verdict);
        _disputeAbout[jobId][batch] = 0;
    }

    function _learnOfCase(address from, Vm.Log memory log) internal override {
        bytes32 topic = log.topics[0];
        bytes32 id = log.topics[1];
        if (topic == IDisputes.Challenged.selector) {
            (uint32 batch, address challenger, uint32 task,, uint40 deadline) =
                abi.decode(log.data, (uint32, address, uint32, bytes32, uint40));
            _check(challenger == from, "the caller challenges");
            _onOpened(id, log.topics[2], batch, GhostCase(0, from, false, deadline, CaseState.Open, task, 0));
        } else if (topic == IDisputes.Demanded.selector) {
            (uint32 batch, uint32 task, uint32 chunk, uint40 deadline) =
                abi.decode(log.data, (uint32, uint32, uint32, uint40));
            _onOpened(id, log.topics[2], batch, GhostCase(0, from, true, deadline, CaseState.Open, task, chunk));
        } else if (topic == IDisputes.Ruled.selector) {
            (bool upheld, address defender) = abi.decode(log.data, (bool, address));
            _onRuled(id, from, upheld, defender);
        } else if (topic == IDisputes.Answered.selector) {
            _onAnswered(id, from);
        } else if (topic == IDisputes.Concluded.selector) {
            (, _shareTold) = abi.decode(log.data, (Verdict, uint256));
        } else if (topic == IDisputes.Claimed.selector) {
            _onClaimed(id, _address(log.topics[2]), abi.decode(log.data, (uint256)));
        } else {
            _check(false, "an event of Disputes");
        }
    }

    function _onOpened(bytes32 id, bytes32 jobId, uint32 batch, GhostCase memory c) private {
        c.dispute = _disputeAbout[jobId][batch] - 1;
        GhostDispute storage d = _disputes[c.dispute];
        _check(_cases[id].state == CaseState.None, "a case is opened once");
        _check(block.timestamp < d.about.finalAt, "in the window");
        if (c.isDemand) {
            _check(c.claimant == d.about.requester, "the requester demands");
            _check(c.deadline == block.timestamp + _settings.demandSeconds, "the time to answer");
        } else {
            _check(_settings.arbiter != address(0), "where there is an arbiter");
            _check(c.deadline == uint256(d.about.finalAt) + _settings.rulingSeconds, "the time to rule");
        }
        _cases[id] = c;
        _caseIds.push(id);
        d.cases.push(id);
        _move(c.claimant, address(_DISPUTES), _bondOf(_cases[id]));
    }

    function _onRuled(bytes32 id, address from, bool upheld, address defender) private {
        GhostCase storage c = _cases[id];
        _check(from == _settings.arbiter && !c.isDemand, "the arbiter rules challenges");
        _check(c.state == CaseState.Open && block.timestamp <= c.deadline, "while it may");
        c.state = upheld ? CaseState.Won : CaseState.Lost;
        if (upheld) return;
        lostBy[c.claimant] += 1;
        uint256 bond = _bondOf(c);
        _move(address(_DISPUTES), defender, bond / 2);
        _books[address(_DISPUTES)].available -= uint96(bond - bond / 2);
        burnable += bond - bond / 2;
    }

    function _onAnswered(bytes32 id, address from) private {
        GhostCase storage c = _cases[id];
        _check(c.isDemand && c.state == CaseState.Open && block.timestamp <= c.deadline, "an open demand");
        c.state = CaseState.Lost;
        lostBy[c.claimant] += 1;
        _move(address(_DISPUTES), from, _bondOf(c));
    }

    function _onClaimed(bytes32 id, address claimant, uint256 amount) private {
        GhostCase storage c = _cases[id];
        GhostDispute storage d = _disputes[c.dispute];
        _check(d.concluded && claimant == c.claimant, "its claimant, once concluded");
        _check(c.state == CaseState.Open || c.state == CaseState.Won, "a case that was not lost");
        uint256 need = _bondOf(c) + (c.state == CaseState.Won ? d.share : 0);
        _check(amount == need, "the bond, and a share if it was won");
        c.state = CaseState.Closed;
        _move(address(_DISPUTES), claimant, amount);
    }

    function _move(address from, address to, uint256 amount) private {
        _books[from].available -= uint96(amount);
        _books[to].available += uint96(amount);
    }

    function _bondOf(GhostCase storage c) private view returns (uint256) {
        return c.isDemand ? _settings.demandBond : _settings.challengeBond;
    }

    function _unclaimedShares(GhostDispute storage d) private view returns (uint256 sum) {
        for (uint256 i = 0; d.share != 0 && i < d.cases.length; ++i) {
            if (_cases[d.cases[i]].state == CaseState.Won) sum += d.share;
        }
    }
}
