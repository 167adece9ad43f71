// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {console} from "forge-std/console.sol";

import {Settings} from "../../interfaces/IDeployment.sol";
import {CaseState} from "../../interfaces/IDisputes.sol";
import {Balance} from "../../interfaces/IEscrow.sol";
import {Batch, BatchState, Job, JobState, Submission} from "../../interfaces/IJobRegistry.sol";
import {Provider} from "../../interfaces/IProviderRegistry.sol";
import {Fixture} from "../Fixture.sol";
import {TestArbiter} from "../mocks/TestArbiter.sol";
import {Parts} from "./Books.sol";
import {GhostCase} from "./Cases.sol";
import {Handler} from "./Handler.sol";
import {Ghost} from "./Model.sol";

/// What holds after any sequence of calls by anybody. The same few accounts are requesters, providers and payout addresses.
abstract contract Invariants is Fixture {
    Handler internal handler;
    address[] private accounts;

    function setUp() public virtual override {
        super.setUp();
        accounts = [requester, alice, bob, carol, makeAddr("dave")];
        for (uint256 i = 0; i < accounts.length; ++i) {
            _fund(accounts[i], 10_000 * TOKEN);
        }
        // Payout addresses among the actors, so that every balance is one of theirs. Alice is her own.
        for (uint256 i = 1; i <= 3; ++i) {
            vm.prank(_payout(accounts[i]));
            providers.setPayout(accounts[i], accounts[i == 1 ? 1 : i - 1]);
        }
        handler = new Handler(Parts(token, escrow, providers, jobs, replicas, disputes), _settings(), accounts);
        handler.post(0, uint256(keccak256("one")));
        handler.post(1, uint256(keccak256("two")));
        targetContract(address(handler));
    }

    function _settings() internal view virtual override returns (Settings memory s) {
        s = super._settings();
        (s.maxCommitmentSeconds, s.exitDelaySeconds) = (2000, 2001);
        (s.rulingSeconds, s.demandSeconds) = (900, 300);
    }

    /// One function, so that one campaign checks all of it after each call, and reads every batch once.
    function invariant_theBooksAgree() public view {
        _escrowHoldsExactlyWhatItsBooksSay();
        uint256[] memory deposits = new uint256[](accounts.length);
        uint256[] memory holds = new uint256[](accounts.length);
        for (uint256 i = 0; i < handler.jobCount(); ++i) {
            _jobAgreesWithItsBatches(handler.jobAt(i), deposits, holds);
        }
        for (uint256 a = 0; a < deposits.length; ++a) {
            _accountAgreesWithItsBatches(accounts[a], deposits[a], holds[a]);
        }
        assertEq(string(handler.broken()), "", "what must be refused is, with declared errors");
    }

    /// Conservation, number 1: the Escrow holds what its books say, and what was sent to it besides.
    function _escrowHoldsExactlyWhatItsBooksSay() private view {
        uint256 sum = escrow.burnable() + handler.donated();
        for (uint256 i = 0; i < accounts.length; ++i) {
            Balance memory entry = escrow.balanceOf(accounts[i]);
            sum += uint256(entry.available) + entry.locked + entry.earned + entry.stake;
        }
        uint256 cases = escrow.balanceOf(address(disputes)).available;
        assertEq(cases, handler.unclaimed(), "Disputes holds bonds and shares that nobody has claimed");
        assertEq(token.balanceOf(address(escrow)), sum + cases, "conservation");
        assertEq(escrow.burnable(), handler.burnable(), "every bond is burnable");
    }

    /// A job locks the worst cases of its unsettled batches; no batch is paid twice, and none above its worst case.
    function _jobAgreesWithItsBatches(Job memory job, uint256[] memory deposits, uint256[] memory holds) private view {
        bytes32 id = jobs.jobIdOf(job);
        bool cancelled = handler.isCancelled(id);
        uint256 locked;
        uint24 open;
        for (uint32 b = 0; b < _batches(job); ++b) {
            Ghost memory g = handler.ghostOf(job, b);
            BatchState now_ = _batchAgreesWithItsHistory(job, b, g);
            uint256 worst = _worst(job, _tasks(job, b));
            if (g.settledTimes != (now_ == BatchState.Settled ? 1 : 0)) revert("a batch is settled once");
            if (g.payment > worst) revert("paid within the worst case");
            bool others = cancelled || handler.isContinued(id);
            if (now_ == BatchState.Cancelled && !others) revert("only a cancelled or continued job's batches are");
            if (now_ == BatchState.Settled || now_ == BatchState.Cancelled) continue;
            locked += worst;
            if (now_ == BatchState.Open) open += 1;
            else holds[_number(now_ == BatchState.Leased ? g.holder : g.submission.provider)] += 3 * worst;
        }
        JobState memory need = JobState({posted: true, cancelled: cancelled, open: open});
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(need), "a job's state is that of its batches");
        deposits[_number(job.requester)] += locked;
    }

    /// What the registry tells of a batch is what happened to it.
    function _batchAgreesWithItsHistory(Job memory job, uint32 b, Ghost memory g) private view returns (BatchState) {
        Batch memory have = jobs.batchState(job, b);
        Batch memory need;
        need.state = g.state;
        if (g.state == BatchState.Submitted || g.state == BatchState.Settled || g.state == BatchState.Frozen) {
            need.submission = uint192(uint256(keccak256(abi.encode(g.submission))) % (1 << 189));
            // Of a settled batch it means nothing any more.
            need.time = g.state == BatchState.Settled ? have.time : g.time;
        } else {
            (need.time, need.provider, need.former) = (g.time, g.holder, g.former);
            (need.activeBlock, need.expiries, need.price) = (g.activeBlock, g.expiries, g.price);
        }
        // `assertEq` costs a call into the machine: only for its message.
        if (keccak256(abi.encode(have)) != keccak256(abi.encode(need))) {
            assertEq(abi.encode(have), abi.encode(need), "a batch is what its history made it");
        }
        if (g.priced && (g.price < job.startPrice || g.price > job.maxPrice)) revert("a price on the ramp");
        return have.state;
    }

    /// What the Escrow locks of an account is the deposits of its jobs, and what it holds of its stake is the locks of its
    /// leases and open windows, nothing else. Everything else in its books is what its history made it.
    function _accountAgreesWithItsBatches(address account, uint256 deposits, uint256 holds) private view {
        Balance memory entry = escrow.balanceOf(account);
        assertEq(entry.locked, deposits, "deposits");
        assertEq(entry.held, holds, "a provider holds the stake of its leases and open windows");
        assertGe(entry.stake, entry.held, "a provider's stake covers its locks");
        assertEq(abi.encode(entry), abi.encode(handler.bookOf(account)), "books");
        Provider memory p = providers.providerOf(account);
        assertEq(abi.encode(p), abi.encode(handler.registrationOf(account)), "registration");
        assertEq(p.exitAt != 0, entry.exiting, "who leaves takes no leases");
        if (p.payout == address(0)) {
            assertEq(uint256(entry.stake) + entry.earned, 0, "no stake and no earnings without a registration");
        }
    }

    /// After any history each account can get out alone, whatever the others do not do; and when all have, no token stays behind.
    function afterInvariant() public {
        for (uint256 a = 0; a < accounts.length; ++a) {
            uint256 before = vm.snapshotState();
            _getOut(a);
            vm.revertToState(before);
        }
        for (uint256 a = 0; a < accounts.length; ++a) {
            _getOut(a);
        }
        for (uint256 i = 0; i < handler.jobCount(); ++i) {
            _isOver(handler.jobAt(i));
        }
        // What came to a payout address that was out already.
        for (uint256 a = 0; a < accounts.length; ++a) {
            _withdrawAll(accounts[a]);
        }
        escrow.burn();
        // What the division of awards left, less than a wei for each winner.
        uint256 dust = escrow.balanceOf(address(disputes)).available;
        assertLe(dust, handler.caseCount());
        assertEq(token.balanceOf(address(escrow)), handler.donated() + dust);
    }

    /// One account alone, by waiting and by calls that are its own or anybody's.
    function _getOut(uint256 a) private {
        address who = accounts[a];
        vm.startPrank(who);
        for (uint256 i = 0; i < handler.jobCount(); ++i) {
            Job memory job = handler.jobAt(i);
            if (job.requester == who && !jobs.jobState(jobs.jobIdOf(job)).cancelled) jobs.cancel(job);
        }
        vm.warp(block.timestamp + 4000);
        vm.roll(block.number + 400);
        for (uint256 i = 0; i < handler.jobCount(); ++i) {
            _endOwn(who, handler.jobAt(i));
        }
        for (uint256 i = 0; i < handler.caseCount(); ++i) {
            (bytes32 id, GhostCase memory c) = handler.caseAt(i);
            CaseState state = disputes.caseOf(id).state;
            if (c.claimant == who && (state == CaseState.Open || state == CaseState.Won)) disputes.claim(id);
        }
        Provider memory p = providers.providerOf(who);
        if (p.payout != address(0)) {
            // Earnings leave alone, or with the stake.
            if (a % 2 == 0) providers.withdraw(who);
            if (p.exitAt == 0) providers.requestExit();
            vm.warp(block.timestamp + 2001);
            providers.exit();
        }
        vm.stopPrank();
        _withdrawAll(who);
        Balance memory left = escrow.balanceOf(who);
        assertEq(uint256(left.locked) + left.earned + left.stake + left.held, 0, "all that is due to it");
    }

    /// What anybody may do, once its deadlines are over, for the batches of which `who` is requester or provider, and for those that a case
    /// is about.
    function _endOwn(address who, Job memory job) private {
        for (uint32 b = 0; b < _batches(job); ++b) {
            BatchState state = _state(job, b);
            Ghost memory g = handler.ghostOf(job, b);
            address provider = state == BatchState.Leased ? g.holder : g.submission.provider;
            if (job.requester != who && provider != who && state != BatchState.Frozen) continue;
            if (state == BatchState.Leased) jobs.expire(job, _list(b));
            if (state == BatchState.Frozen) jobs.resolve(job, g.submission);
            if (_state(job, b) == BatchState.Submitted) jobs.finalise(job, _one(g.submission));
        }
    }

    function _isOver(Job memory job) private view {
        assertEq(jobs.jobState(jobs.jobIdOf(job)).open, 0);
        for (uint32 b = 0; b < _batches(job); ++b) {
            BatchState state = _state(job, b);
            assertTrue(state == BatchState.Settled || state == BatchState.Cancelled);
        }
    }

    function _withdrawAll(address who) private {
        uint256 available = escrow.balanceOf(who).available;
        vm.prank(who);
        escrow.withdraw(available);
    }

    function _one(Submission memory given) private pure returns (Submission[] memory list) {
        list = new Submission[](1);
        list[0] = given;
    }

    /// The campaign is worth what it reaches: in a few dozen runs every call succeeds. How often is seen with -vv.
    function test_someRuns_reachEverything() public {
        vm.pauseGasMetering();
        string[55] memory names = _names();
        uint256[55] memory sums;
        string memory missing = "all";
        uint256 luck = uint256(keccak256("one seed"));
        for (uint256 run = 0; run < 300 && bytes(missing).length != 0; ++run) {
            uint256 before = vm.snapshotState();
            luck = _play(luck, 80);
            missing = "";
            for (uint256 i = 0; i < names.length; ++i) {
                sums[i] += handler.successes(names[i]);
                if (sums[i] == 0) missing = string.concat(missing, names[i], "; ");
            }
            vm.revertToState(before);
        }
        for (uint256 i = 0; i < names.length; ++i) {
            console.log(names[i], sums[i]);
        }
        assertEq(missing, "", "never succeeded");
    }

    function _play(uint256 luck, uint256 calls) private returns (uint256) {
        for (uint256 i = 0; i < calls; ++i) {
            luck = uint256(keccak256(abi.encode(luck)));
            (bool ok,) = address(handler).call(_callOf(luck));
            assertTrue(ok, "a handler does not fail");
        }
        invariant_theBooksAgree();
        return luck;
    }

    function _callOf(uint256 a) private view returns (bytes memory) {
        (uint256 b, uint256 c) = (a >> 8, a >> 80);
        (bool yes, uint256 kind) = (a >> 200 & 1 == 0, a % 23);
        if (kind == 0) return abi.encodeCall(handler.post, (a, b));
        if (kind == 1) return abi.encodeCall(handler.cancel, (a, b));
        if (kind == 2) return abi.encodeCall(handler.lease, (b, c, yes));
        if (kind == 3) return abi.encodeCall(handler.succeed, (b, c));
        if (kind == 4) return abi.encodeCall(handler.submit, (b, c, uint64(a >> 160)));
        if (kind == 5) return abi.encodeCall(handler.submitToOpen, (b, uint64(c)));
        if (kind == 6) return abi.encodeCall(handler.release, (b, c));
        if (kind == 7) return abi.encodeCall(handler.expire, (b, c));
        if (kind == 8) return abi.encodeCall(handler.accept, (b, uint8(c)));
        if (kind == 9) return abi.encodeCall(handler.finalise, (b, c, uint8(a >> 160)));
        if (kind == 10) return abi.encodeCall(handler.amend, (a));
        if (kind == 11 || kind == 22) return abi.encodeCall(handler.dispute, (a));
        if (kind == 12) return abi.encodeCall(handler.resolve, (a));
        if (kind == 13) return abi.encodeCall(handler.reject, (a));
        if (kind == 14) return abi.encodeCall(handler.attack, (b, c, a >> 120, a >> 160));
        if (kind == 15) return abi.encodeCall(handler.pass, (uint16(b)));
        if (kind == 16) return abi.encodeCall(handler.leave, (b, c, yes));
        if (kind == 17) return abi.encodeCall(handler.aside, (b, c, a >> 120, a >> 160));
        if (kind == 21) return abi.encodeCall(handler.work, (a));
        if (kind == 18) return abi.encodeCall(handler.provide, (a));
        return kind == 19 ? abi.encodeCall(handler.judge, (a)) : abi.encodeCall(handler.claim, (a));
    }

    /// Calls, and by a sentence what was refused, as it must be.
    function _names() private view returns (string[55] memory) {
        bool arbiter = _settings().arbiter != address(0);
        return [
            "post",
            "cancel",
            "lease",
            "succeed",
            "submit",
            "submitToOpen",
            "release",
            "expire",
            "accept",
            "finalise",
            "register",
            "addStake",
            "setPayout",
            "requestExit",
            "cancelExit",
            "exit",
            "withdrawEarnings",
            "deposit",
            "withdraw",
            "burn",
            "donate",
            "setContact",
            "setJobContact",
            "settle again",
            "another preimage",
            "accept of another",
            "settle twice in a call",
            "submission of another job",
            "another job",
            "twice in a call",
            "call as registry",
            "change of another",
            "post again",
            "amend",
            "amend what continues",
            "amend to other work",
            "lease of what was amended",
            "submit to what was amended",
            "demand",
            "dispute late",
            "answer",
            "answer late",
            "answer wrongly",
            "resolve",
            "resolve early",
            "verdict 0",
            "verdict 1",
            "claim",
            "claim again",
            "reject",
            arbiter ? "challenge" : "demand",
            arbiter ? "rule: won" : "demand",
            arbiter ? "rule: lost" : "demand",
            arbiter ? "rule late" : "demand",
            arbiter ? "verdict 2" : "demand"
        ];
    }

    function _number(address account) private view returns (uint256 a) {
        while (accounts[a] != account) ++a;
    }

    function _batches(Job memory job) private pure returns (uint32) {
        return (job.taskCount + job.batchSize - 1) / job.batchSize;
    }

    function _tasks(Job memory job, uint32 batch) private pure returns (uint256) {
        uint256 left = job.taskCount - batch * job.batchSize;
        return left < job.batchSize ? left : job.batchSize;
    }
}

/// Where results are challenged.
contract InvariantsWithArbiterTest is Invariants {
    TestArbiter private arbiter;

    function setUp() public override {
        arbiter = new TestArbiter();
        super.setUp();
    }

    function _settings() internal view override returns (Settings memory s) {
        s = super._settings();
        s.arbiter = address(arbiter);
    }
}

/// Where a requester that minds rejects.
contract InvariantsWithoutArbiterTest is Invariants {}
