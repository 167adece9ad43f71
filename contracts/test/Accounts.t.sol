// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IEscrow, Permit} from "../interfaces/IEscrow.sol";
import {IJobRegistry, Job} from "../interfaces/IJobRegistry.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {Fixture} from "./Fixture.sol";
import {Delegate, Wallet, WalletCall} from "./mocks/Wallets.sol";

/// What the vendored Vm interface does not have yet.
interface IDelegationVm {
    struct SignedDelegation {
        uint8 v;
        bytes32 r;
        bytes32 s;
        uint64 nonce;
        address implementation;
    }

    function signAndAttachDelegation(address implementation, uint256 privateKey)
        external
        returns (SignedDelegation memory);
}

/// @notice Every kind of account is a requester, a provider and a payout address alike: keys alone, contracts, keys with code.
contract AccountsTest is Fixture {
    Wallet private wallet;

    function setUp() public override {
        super.setUp();
        wallet = new Wallet(stranger);
        vm.prank(holder);
        assertTrue(token.transfer(address(wallet), 100 * STAKE));
        vm.prank(requester);
        token.approve(address(escrow), 0);
    }

    // A key alone

    function test_key_postsByPermitInOneTransaction() public {
        (Job memory job, uint256 deposit) = _jobOf(requester);
        Permit memory p = _permit(requester, requesterKey, deposit, block.timestamp);
        vm.prank(requester, requester);
        jobs.post(job, _spec(), _contact(), p);
        assertEq(_locked(requester), deposit);
        assertEq(token.allowance(requester, address(escrow)), 0);
    }

    // A contract

    function test_contract_approvesAndPostsInOneTransaction() public {
        (Job memory job, uint256 deposit) = _jobOf(address(wallet));
        vm.prank(stranger);
        wallet.execute(_approveAndPost(job, deposit));
        assertEq(_locked(address(wallet)), deposit);
        // The whole life of a requester.
        _lease(alice, job, _list(0, 1));
        _submit(alice, job, 0, 1e9);
        _passLease();
        _expire(job, _list(1));
        WalletCall[] memory calls = new WalletCall[](3);
        calls[0] =
            WalletCall(address(jobs), abi.encodeCall(IJobRegistry.accept, (job, _submissions(alice, job, 0, 1e9))));
        calls[1] = WalletCall(address(jobs), abi.encodeCall(IJobRegistry.cancel, (job)));
        uint256 rest = deposit - _price(job, 1e9);
        calls[2] = WalletCall(address(escrow), abi.encodeCall(IEscrow.withdraw, (rest)));
        vm.prank(stranger);
        wallet.execute(calls);
        assertEq(token.balanceOf(address(wallet)), 100 * STAKE - _price(job, 1e9));
        assertEq(_price(job, 1e9), _earned(alice));
    }

    function test_contract_isAProviderAndItsOwnPayoutAddress() public {
        WalletCall[] memory calls = new WalletCall[](2);
        calls[0] = WalletCall(address(token), abi.encodeCall(IERC20.approve, (address(escrow), STAKE)));
        bytes memory register =
            abi.encodeCall(IProviderRegistry.register, (address(wallet), _contact(), STAKE, _noPermit()));
        calls[1] = WalletCall(address(providers), register);
        vm.prank(stranger);
        wallet.execute(calls);
        vm.prank(requester);
        token.approve(address(escrow), type(uint256).max);
        (Job memory job,) = _posted();
        calls = new WalletCall[](2);
        calls[0] = WalletCall(address(jobs), abi.encodeCall(IJobRegistry.lease, (job, _list(0))));
        calls[1] = WalletCall(address(jobs), abi.encodeCall(IJobRegistry.submit, (job, _results(0, 1e9))));
        vm.prank(stranger);
        wallet.execute(calls);
        vm.warp(block.timestamp + WINDOW);
        jobs.finalise(job, _submissions(address(wallet), job, 0, 1e9));
        uint256 before = token.balanceOf(address(wallet));
        calls = new WalletCall[](1);
        calls[0] = WalletCall(address(providers), abi.encodeCall(IProviderRegistry.withdraw, (address(wallet))));
        vm.prank(stranger);
        wallet.execute(calls);
        assertEq(token.balanceOf(address(wallet)), before + _price(job, 1e9));
    }

    /// A cold wallet that is a contract receives, and alone may hand the payout address on.
    function test_contract_isThePayoutAddressOfAnother() public {
        vm.prank(_payout(alice));
        providers.setPayout(alice, address(wallet));
        vm.prank(requester);
        token.approve(address(escrow), 10);
        vm.startPrank(address(jobs));
        escrow.lock(requester, 10, _noPermit());
        escrow.pay(requester, alice, 10, 0, 0, 1, true);
        vm.stopPrank();
        vm.prank(alice);
        providers.withdraw(alice);
        assertEq(token.balanceOf(address(wallet)), 100 * STAKE + 10);
        WalletCall[] memory calls = new WalletCall[](1);
        calls[0] = WalletCall(address(providers), abi.encodeCall(IProviderRegistry.setPayout, (alice, carol)));
        vm.expectRevert(abi.encodeWithSelector(Wallet.NotOwner.selector, alice));
        vm.prank(alice);
        wallet.execute(calls);
        vm.prank(stranger);
        wallet.execute(calls);
        assertEq(providers.providerOf(alice).payout, carol);
    }

    /// A permit is a key's signature: the token asks no contract. So nothing that a contract's owner signed is valid at one time
    /// and invalid at another.
    function test_contract_hasNoPermits() public {
        (address owner, uint256 key) = makeAddrAndKey("owner of a wallet");
        Wallet signing = new Wallet(owner);
        vm.prank(holder);
        assertTrue(token.transfer(address(signing), 1000));
        Permit memory p = _permit(address(signing), key, 1000, block.timestamp);
        vm.expectPartialRevert(bytes4(keccak256("ERC2612InvalidSigner(address,address)")));
        token.permit(address(signing), address(escrow), p.value, p.deadline, p.v, p.r, p.s);
        WalletCall[] memory calls = new WalletCall[](1);
        calls[0] = WalletCall(address(escrow), abi.encodeCall(IEscrow.depositWithPermit, (address(signing), 1000, p)));
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        vm.prank(owner);
        signing.execute(calls);
        assertEq(token.nonces(address(signing)), 0);
    }

    // A key with code (EIP-7702)

    function test_delegatingKey_approvesAndPostsInOneTransaction() public {
        _delegate(requesterKey);
        (Job memory job, uint256 deposit) = _jobOf(requester);
        vm.prank(requester, requester);
        Delegate(requester).execute(_approveAndPost(job, deposit));
        assertEq(requester.code.length, 23, "it has code now");
        assertEq(_locked(requester), deposit);
        // Nobody else makes it do anything.
        WalletCall[] memory calls = new WalletCall[](1);
        calls[0] = WalletCall(address(jobs), abi.encodeCall(IJobRegistry.cancel, (job)));
        vm.expectRevert(abi.encodeWithSelector(Delegate.NotSelf.selector, stranger));
        vm.prank(stranger);
        Delegate(requester).execute(calls);
        // Its key still acts for it without that code.
        vm.startPrank(requester, requester);
        jobs.cancel(job);
        escrow.withdraw(deposit);
        vm.stopPrank();
        assertEq(token.balanceOf(requester), 1_000_000 * TOKEN);
    }

    function test_delegatingKey_stillSignsPermits() public {
        _delegate(requesterKey);
        // The next transaction of anybody carries the authorisation.
        vm.prank(stranger);
        token.approve(stranger, 0);
        assertEq(requester.code.length, 23);
        (Job memory job, uint256 deposit) = _jobOf(requester);
        Permit memory p = _permit(requester, requesterKey, deposit, block.timestamp);
        vm.prank(requester, requester);
        jobs.post(job, _spec(), _contact(), p);
        assertEq(_locked(requester), deposit);
        assertEq(token.nonces(requester), 1);
    }

    function test_delegatingKey_isAPayoutAddress() public {
        _delegate(requesterKey);
        vm.prank(_payout(alice));
        providers.setPayout(alice, requester);
        vm.startPrank(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        vm.stopPrank();
        WalletCall[] memory calls = new WalletCall[](1);
        calls[0] = WalletCall(address(escrow), abi.encodeCall(IEscrow.withdraw, (STAKE)));
        vm.prank(requester, requester);
        Delegate(requester).execute(calls);
        assertEq(token.balanceOf(requester), 1_000_000 * TOKEN + STAKE);
    }

    function _delegate(uint256 key) private {
        IDelegationVm(address(vm)).signAndAttachDelegation(address(new Delegate()), key);
    }

    function _jobOf(address account) private view returns (Job memory job, uint256 deposit) {
        job = _job();
        job.requester = account;
        deposit = rules.depositOf(job, _spec());
    }

    function _approveAndPost(Job memory job, uint256 deposit) private view returns (WalletCall[] memory calls) {
        calls = new WalletCall[](2);
        calls[0] = WalletCall(address(token), abi.encodeCall(IERC20.approve, (address(escrow), deposit)));
        bytes memory post = abi.encodeCall(IJobRegistry.post, (job, _spec(), _contact(), _noPermit()));
        calls[1] = WalletCall(address(jobs), post);
    }
}
