// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IEscrow, Permit} from "../interfaces/IEscrow.sol";
import {IJobRegistry, Job} from "../interfaces/IJobRegistry.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {GreedyToken} from "./mocks/OddTokens.sol";
import {OddTokenFixture} from "./OddTokenFixture.sol";

/// @notice Whoever calls chooses the gas, and what is called gets 63/64 of it. The one failure that is swallowed is a permit's:
/// whatever the limit, a call does all of its work or none.
contract GasLimitsTest is OddTokenFixture {
    function test_deposit_atAnyGasIsWholeOrNothing() public {
        _ownToken();
        _sweep(address(escrow), abi.encodeCall(IEscrow.depositWithPermit, (requester, 40, _signed(40))), 499);
    }

    function test_post_atAnyGasIsWholeOrNothing() public {
        _ownToken();
        Job memory job = _job();
        Permit memory p = _signed(rules.depositOf(job, _spec()));
        _sweep(address(jobs), abi.encodeCall(IJobRegistry.post, (job, _spec(), _contact(), p)), 499);
    }

    function test_register_atAnyGasIsWholeOrNothing() public {
        _ownToken();
        bytes memory data = abi.encodeCall(IProviderRegistry.register, (requester, _contact(), STAKE, _signed(STAKE)));
        _sweep(address(providers), data, 499);
    }

    /// An allowance would do without the permit: no limit lets the permit fail and leaves enough for the rest.
    function test_permitBesideAnAllowance_isUsedAtAnyGas() public {
        _ownToken();
        vm.prank(requester);
        token.approve(address(escrow), 40);
        Permit memory p = _signed(50);
        _sweep(address(escrow), abi.encodeCall(IEscrow.depositWithPermit, (requester, 40, p)), 499);
        vm.prank(requester);
        escrow.depositWithPermit(requester, 40, p);
        assertEq(token.nonces(requester), 1);
        assertEq(token.allowance(requester, address(escrow)), 10);
    }

    /// A permit that burns what it gets leaves a 64th of the limit, which is enough or not.
    function test_greedyPermit_atAnyGasIsWholeOrNothing() public {
        _use(type(GreedyToken).creationCode);
        Job memory job = _job();
        bytes memory data = abi.encodeCall(IJobRegistry.post, (job, _spec(), _contact(), Permit(1, 1, 27, 0, 0)));
        _sweep(address(jobs), data, 30_011);
    }

    /// Calls that swallow nothing, each a part of one life.
    function test_everyOtherCall_atAnyGasIsWholeOrNothing() public {
        _ownToken();
        vm.startPrank(requester);
        token.approve(address(escrow), 1000 * TOKEN);
        escrow.deposit(requester, 1000 * TOKEN);
        vm.stopPrank();
        (Job memory job,) = _posted();
        _next(alice, address(jobs), abi.encodeCall(IJobRegistry.lease, (job, _list(0, 1, 2))));
        _next(alice, address(jobs), abi.encodeCall(IJobRegistry.submit, (job, _results(0, 1e9))));
        _next(requester, address(jobs), abi.encodeCall(IJobRegistry.accept, (job, _submissions(alice, job, 0, 1e9))));
        _next(alice, address(jobs), abi.encodeCall(IJobRegistry.submit, (job, _results(1, 1e9))));
        _passLease();
        _next(stranger, address(jobs), abi.encodeCall(IJobRegistry.finalise, (job, _submissions(alice, job, 1, 1e9))));
        _next(stranger, address(jobs), abi.encodeCall(IJobRegistry.expire, (job, _list(2))));
        _next(alice, address(jobs), abi.encodeCall(IJobRegistry.lease, (job, _list(2))));
        _next(alice, address(jobs), abi.encodeCall(IJobRegistry.release, (job, _list(2))));
        _next(requester, address(jobs), abi.encodeCall(IJobRegistry.cancel, (job)));
        _next(alice, address(providers), abi.encodeCall(IProviderRegistry.withdraw, (alice)));
        _next(alice, address(providers), abi.encodeCall(IProviderRegistry.requestExit, ()));
        vm.warp(block.timestamp + EXIT_DELAY);
        _next(alice, address(providers), abi.encodeCall(IProviderRegistry.exit, ()));
        _next(stranger, address(escrow), abi.encodeCall(IEscrow.burn, ()));
        _next(requester, address(escrow), abi.encodeCall(IEscrow.withdraw, (1)));
        _assertConserved();
    }

    // Inner

    function _ownToken() private {
        _use(vm.getCode("ConunToken.sol:ConunToken"));
        vm.prank(requester);
        token.approve(address(escrow), 0);
    }

    function _signed(uint256 value) private view returns (Permit memory) {
        return _permit(requester, requesterKey, value, block.timestamp);
    }

    function _sweep(address target, bytes memory data, uint256 step) private {
        _sweep(requester, target, data, step);
    }

    function _next(address from, address target, bytes memory data) private {
        _sweep(from, target, data, 307);
        vm.prank(from);
        (bool ok,) = target.call(data);
        assertTrue(ok);
    }

    /// Makes the call with more and more gas until it has succeeded a hundred times.
    function _sweep(address from, address target, bytes memory data, uint256 step) private {
        bytes32 untouched = this.world();
        uint256 snapshot = vm.snapshotState();
        vm.prank(from);
        (bool ok,) = target.call{gas: 10_000_000}(data);
        assertTrue(ok);
        bytes32 done = this.world();
        assertTrue(done != untouched);
        vm.revertToState(snapshot);
        uint256 failures;
        uint256 successes;
        for (uint256 gas = step; successes < 100; gas += step) {
            vm.prank(from);
            (ok,) = target.call{gas: gas}(data);
            assertEq(this.world(), ok ? done : untouched, "half done");
            if (!ok) {
                ++failures;
                continue;
            }
            ++successes;
            vm.revertToState(snapshot);
        }
        assertGt(failures, 10);
    }

    /// All that calls of these accounts can change. External, so that its memory is free again.
    function world() external view returns (bytes32) {
        address[4] memory accounts = [requester, alice, _payout(alice), stranger];
        bytes memory all = abi.encode(escrow.burnable(), token.balanceOf(address(escrow)), token.totalSupply());
        for (uint256 i = 0; i < accounts.length; ++i) {
            all = abi.encode(
                all,
                escrow.balanceOf(accounts[i]),
                providers.providerOf(accounts[i]),
                token.balanceOf(accounts[i]),
                token.allowance(accounts[i], address(escrow)),
                token.nonces(accounts[i])
            );
        }
        Job memory job = _job();
        bytes32 id = jobs.jobIdOf(job);
        all = abi.encode(all, jobs.jobState(id));
        if (!jobs.jobState(id).posted) return keccak256(all);
        for (uint32 b = 0; b < 3; ++b) {
            all = abi.encode(all, jobs.batchState(job, b));
        }
        return keccak256(all);
    }
}
