// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {console} from "forge-std/console.sol";

import {Settings} from "../../interfaces/IDeployment.sol";
import {Batch, BatchState, Job, JobState} from "../../interfaces/IJobRegistry.sol";
import {Provider} from "../../interfaces/IProviderRegistry.sol";
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
        for (uint32 i = 1; i <= 3; ++i) {
            address old = providers.provider(i).payout;
            vm.prank(old);
            providers.setPayout(i, accounts[i]);
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
        uint256[] memory stakeLocks = new uint256[](providers.count() + 1);
        for (uint256 i = 0; i < handler.jobCount(); ++i) {
            _jobAgreesWithItsBatches(handler.jobAt(i), deposits, stakeLocks);
        }
        for (uint32 index = 1; index < stakeLocks.length; ++index) {
            Provider memory p = providers.provider(index);
            assertEq(p.locked, stakeLocks[index], "a provider locks the stake of its leases and open windows");
            assertGe(p.stake, p.locked, "a provider's stake covers its locks");
        }
        _escrowLocksDepositsAndStakesOnly(deposits);
        assertEq(handler.broken(), "", "refusals are declared errors");
    }

    /// Conservation, number 1: the Escrow holds what its books say, and what was sent to it besides.
    function _escrowHoldsExactlyWhatItsBooksSay() private view {
        uint256 sum = escrow.burnable() + handler.donated();
        for (uint256 i = 0; i < handler.actorCount(); ++i) {
            (uint256 available, uint256 locked) = escrow.balanceOf(handler.actors(i));
            sum += available + locked;
        }
        assertEq(token.balanceOf(address(escrow)), sum, "conservation");
    }

    /// A job locks the worst cases of its unsettled batches; no batch is paid twice, and none above its worst case.
    function _jobAgreesWithItsBatches(Job memory job, uint256[] memory deposits, uint256[] memory stakeLocks)
        private
        view
    {
        bytes32 id = jobs.jobIdOf(job);
        JobState memory unsettled;
        uint256 paid;
        uint256 settled;
        for (uint32 b = 0; b < _batches(job); ++b) {
            Batch memory batch = jobs.batchState(id, b);
            uint256 worst = _worst(job, _tasks(job, b));
            bool isSettled = batch.state == BatchState.Settled;
            assertEq(handler.settledTimes(id, b), isSettled ? 1 : 0, "a batch is settled once");
            if (isSettled) {
                assertLe(_price(job, batch.fuel), worst, "paid within the worst case");
                paid += _price(job, batch.fuel);
                settled += worst;
            } else if (batch.state != BatchState.Cancelled) {
                unsettled.locked += uint96(worst);
                unsettled.unsettled += 1;
                if (batch.state == BatchState.Open) unsettled.open += 1;
                else stakeLocks[batch.provider] += jobs.leaseLock(job, b);
            }
        }
        unsettled.status = jobs.jobState(id).status;
        assertEq(abi.encode(jobs.jobState(id)), abi.encode(unsettled), "a job's state is that of its batches");
        assertEq(handler.paid(id), paid, "paid for the submitted fuel");
        assertLe(unsettled.locked + settled, jobs.depositOf(job), "nothing above the deposit");
        for (uint256 a = 0; a < deposits.length; ++a) {
            if (handler.actors(a) == job.requester) deposits[a] += unsettled.locked;
        }
    }

    /// What the Escrow locks of an account is the deposits of its jobs and its stake, nothing else.
    function _escrowLocksDepositsAndStakesOnly(uint256[] memory deposits) private view {
        for (uint256 a = 0; a < deposits.length; ++a) {
            address account = handler.actors(a);
            uint32 index = providers.indexOf(account);
            Provider memory p = providers.provider(index);
            if (index != 0) assertEq(p.account, account, "a registration is its account's");
            assertEq(_locked(account), deposits[a] + p.stake, "deposits and stake");
        }
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
                BatchState state = jobs.batchState(id, b).state;
                if (state == BatchState.Leased) jobs.expire(job, _list(b));
                if (state == BatchState.Submitted) jobs.finalise(job, _list(b));
            }
            if (jobs.jobState(id).status == 1) {
                vm.prank(job.requester);
                jobs.cancel(job);
            }
            assertEq(jobs.jobState(id).unsettled, 0);
        }
        for (uint32 index = 1; index <= providers.count(); ++index) {
            address account = providers.provider(index).account;
            if (account == address(0)) continue;
            vm.startPrank(account);
            if (providers.provider(index).exitAt == 0) providers.requestExit();
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
