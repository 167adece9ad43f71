// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {console} from "forge-std/console.sol";

import {Settings} from "../../interfaces/IDeployment.sol";
import {Balance} from "../../interfaces/IEscrow.sol";
import {Batch, BatchState, Job, JobState, Submission} from "../../interfaces/IJobRegistry.sol";
import {Fixture} from "../Fixture.sol";
import {Handler} from "./Handler.sol";

/// What holds after any sequence of calls by anybody. The same few accounts are requesters, providers and payout addresses.
contract InvariantsTest is Fixture {
    Handler private handler;

    function setUp() public override {
        super.setUp();
        address[] memory accounts = new address[](5);
        (accounts[0], accounts[1], accounts[2], accounts[3]) = (requester, alice, bob, carol);
        accounts[4] = makeAddr("dave");
        for (uint256 i = 0; i < accounts.length; ++i) {
            _fund(accounts[i], 10_000 * TOKEN);
        }
        handler = new Handler(token, escrow, providers, jobs, accounts);
        // Payout addresses among the actors, so that every balance is one of theirs.
        for (uint256 i = 1; i <= 3; ++i) {
            vm.prank(_payout(accounts[i]));
            providers.setPayout(accounts[i], accounts[i]);
        }
        handler.post(0, uint256(keccak256("one")));
        handler.post(1, uint256(keccak256("two")));
        targetContract(address(handler));
    }

    function _settings() internal view override returns (Settings memory s) {
        s = super._settings();
        (s.maxCommitmentSeconds, s.exitDelaySeconds) = (2000, 2001);
    }

    /// One function, so that one campaign checks all of it after each call, and reads every batch once.
    function invariant_theBooksAgree() public view {
        _escrowHoldsExactlyWhatItsBooksSay();
        uint256[] memory deposits = new uint256[](handler.actorCount());
        uint256[] memory held = new uint256[](handler.actorCount());
        for (uint256 i = 0; i < handler.jobCount(); ++i) {
            _jobAgreesWithItsBatches(handler.jobAt(i), deposits, held);
        }
        for (uint256 a = 0; a < held.length; ++a) {
            address account = handler.actors(a);
            Balance memory entry = escrow.balanceOf(account);
            assertEq(entry.locked, deposits[a], "what is locked is the deposits of open business");
            assertEq(entry.held, held[a], "a provider's leases and open windows hold its stake");
            assertGe(entry.stake, entry.held, "a provider's stake covers what is held");
            bool registered = providers.providerOf(account).registeredBlock != 0;
            if (!registered) assertEq(uint256(entry.stake) + entry.earned, 0, "who left took everything along");
            assertEq(entry.exiting, providers.providerOf(account).exitAt != 0, "both know who is leaving");
        }
        assertEq(handler.broken(), "", "refusals are declared errors");
    }

    /// Conservation, number 1: the Escrow holds what its books say, and what was sent to it besides.
    function _escrowHoldsExactlyWhatItsBooksSay() private view {
        uint256 sum = escrow.burnable() + handler.donated();
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            Balance memory entry = escrow.balanceOf(handler.actors(i));
            sum += uint256(entry.available) + entry.locked + entry.earned + entry.stake;
        }
        assertEq(token.balanceOf(address(escrow)), sum, "conservation");
    }

    /// A job locks the worst cases of its unsettled batches; no batch is paid twice, and none above its worst case.
    function _jobAgreesWithItsBatches(Job memory job, uint256[] memory deposits, uint256[] memory held) private view {
        bytes32 id = jobs.jobIdOf(job);
        uint24 open;
        uint256 locked;
        uint256 paid;
        for (uint32 b = 0; b < _batches(job); ++b) {
            Batch memory batch = jobs.batchState(job, b);
            uint256 worst = _worst(job, _tasks(job, b));
            bool isSettled = batch.state == BatchState.Settled;
            assertEq(handler.settledTimes(id, b), isSettled ? 1 : 0, "a batch is settled once");
            if (isSettled || batch.state == BatchState.Submitted) {
                Submission memory given = handler.standing(job, _list(b))[0];
                assertEq(batch.submission, _submissionHash(given), "what stands is what was submitted last");
                assertGe(given.price, job.startPrice);
                assertLe(given.price, job.maxPrice);
                uint256 payment = uint256(given.fuel) * given.price / GIGAFUEL;
                assertLe(payment, worst, "paid within the worst case");
                if (isSettled) paid += payment;
                else held[_actorAt(given.provider)] += jobs.leaseLock(job, b);
            }
            if (batch.state == BatchState.Leased) held[_actorAt(batch.provider)] += jobs.leaseLock(job, b);
            if (batch.state == BatchState.Open) open += 1;
            if (!isSettled && batch.state != BatchState.Cancelled) locked += worst;
        }
        JobState memory state = jobs.jobState(id);
        assertTrue(state.posted);
        assertEq(state.open, open, "a job's state is that of its batches");
        assertEq(handler.paid(id), paid, "paid for the submitted fuel at the leased price");
        deposits[_actorAt(job.requester)] += locked;
    }

    function _actorAt(address account) private view returns (uint256 at) {
        while (handler.actors(at) != account) ++at;
    }

    /// After any history everybody can get out: time passes, anyone finalises and expires, and no token stays behind.
    function afterInvariant() public {
        _logSuccesses();
        vm.warp(block.timestamp + 4000);
        vm.roll(block.number + 400);
        for (uint256 i = 0; i < handler.jobCount(); ++i) {
            Job memory job = handler.jobAt(i);
            bytes32 id = jobs.jobIdOf(job);
            for (uint32 b = 0; b < _batches(job); ++b) {
                BatchState state = jobs.batchState(job, b).state;
                if (state == BatchState.Leased) jobs.expire(job, _list(b));
                if (state == BatchState.Submitted) jobs.finalise(job, handler.standing(job, _list(b)));
            }
            if (!jobs.jobState(id).cancelled) {
                vm.prank(job.requester);
                jobs.cancel(job);
            }
            assertEq(jobs.jobState(id).open, 0);
        }
        for (uint256 a = 0; a < handler.actorCount(); ++a) {
            address account = handler.actors(a);
            if (providers.providerOf(account).registeredBlock == 0) continue;
            vm.startPrank(account);
            if (providers.providerOf(account).exitAt == 0) providers.requestExit();
            vm.warp(block.timestamp + 2001);
            providers.exit();
            vm.stopPrank();
        }
        escrow.burn();
        for (uint256 a = 0; a < handler.actorCount(); ++a) {
            address account = handler.actors(a);
            assertEq(_locked(account), 0);
            uint256 available = _available(account);
            vm.prank(account);
            escrow.withdraw(available);
        }
        assertEq(token.balanceOf(address(escrow)), handler.donated());
    }

    /// Seen with -vv.
    function _logSuccesses() private view {
        string[22] memory names = [
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
            "settleAgain",
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
            "donate"
        ];
        for (uint256 i = 0; i < names.length; ++i) {
            console.log(names[i], handler.successes(names[i]));
        }
    }

    function _batches(Job memory job) private pure returns (uint32) {
        return (job.taskCount + job.batchSize - 1) / job.batchSize;
    }

    function _tasks(Job memory job, uint32 batch) private pure returns (uint256) {
        uint256 left = job.taskCount - batch * job.batchSize;
        return left < job.batchSize ? left : job.batchSize;
    }
}
