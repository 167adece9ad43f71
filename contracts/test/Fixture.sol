// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {ConunToken} from "../ConunToken.sol";
import {Deployment} from "../Deployment.sol";
import {Escrow} from "../Escrow.sol";
import {JobRegistry} from "../JobRegistry.sol";
import {ProviderRegistry} from "../ProviderRegistry.sol";
import {Reputation} from "../Reputation.sol";
import {Part, Settings} from "../interfaces/IDeployment.sol";
import {Permit} from "../interfaces/IEscrow.sol";
import {Batch, BatchState, Contact, Job, JobState, Result} from "../interfaces/IJobRegistry.sol";
import {Provider} from "../interfaces/IProviderRegistry.sol";

/// @notice A whole deployment, a requester and three providers with tokens; the providers are registered.
abstract contract Fixture is Test {
    uint256 internal constant TOKEN = 1e18;
    uint256 internal constant GIGAFUEL = 1e9;
    uint96 internal constant MIN_STAKE = 100e18;
    uint96 internal constant STAKE = 1000e18;
    uint40 internal constant EXIT_DELAY = 15 days;
    uint40 internal constant CAP = 14 days;
    uint40 internal constant SUCCESSOR_DELAY = 25;
    /// A quarter: a lease locks three times the worst case.
    uint16 internal constant AUDIT_FLOOR_BPS = 2500;
    uint16 internal constant BOND_BPS = 1000;
    uint32 internal constant LEASE = 1000;
    uint32 internal constant WINDOW = 600;

    Deployment internal deployment;
    ConunToken internal token;
    Escrow internal escrow;
    ProviderRegistry internal providers;
    JobRegistry internal jobs;
    Reputation internal reputation;

    address internal holder = makeAddr("token holder");
    address internal requester;
    uint256 internal requesterKey;
    address internal alice = makeAddr("alice");
    address internal bob = makeAddr("bob");
    address internal carol = makeAddr("carol");
    address internal stranger = makeAddr("stranger");
    uint32 internal aliceIndex;
    uint32 internal bobIndex;
    uint32 internal carolIndex;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        vm.roll(1000);
        (requester, requesterKey) = makeAddrAndKey("requester");
        _deploy(_settings());
        vm.prank(holder);
        assertTrue(token.transfer(requester, 1_000_000 * TOKEN));
        vm.prank(requester);
        token.approve(address(escrow), type(uint256).max);
        aliceIndex = _register(alice, STAKE);
        bobIndex = _register(bob, STAKE);
        carolIndex = _register(carol, STAKE);
    }

    function _settings() internal view virtual returns (Settings memory) {
        return Settings({
            tokenHolder: holder,
            tokenSupply: 1_000_000_000 * TOKEN,
            minStake: MIN_STAKE,
            exitDelaySeconds: EXIT_DELAY,
            maxCommitmentSeconds: CAP,
            successorDelayBlocks: SUCCESSOR_DELAY,
            expiryBondBps: BOND_BPS,
            auditFloorBps: AUDIT_FLOOR_BPS
        });
    }

    function _codes() internal pure returns (bytes[5] memory) {
        return [
            type(ConunToken).creationCode,
            type(Escrow).creationCode,
            type(ProviderRegistry).creationCode,
            type(JobRegistry).creationCode,
            type(Reputation).creationCode
        ];
    }

    function _hashes() internal pure returns (bytes32[5] memory hashes) {
        bytes[5] memory codes = _codes();
        for (uint256 i = 0; i < 5; ++i) {
            hashes[i] = keccak256(codes[i]);
        }
    }

    function _deploy(Settings memory settings) internal {
        bytes[5] memory codes = _codes();
        deployment = new Deployment(settings, _hashes());
        for (uint8 i = 0; i < 5; ++i) {
            deployment.deploy(Part(i), codes[i]);
        }
        token = ConunToken(deployment.addressOf(Part.Token));
        escrow = Escrow(deployment.addressOf(Part.Escrow));
        providers = ProviderRegistry(deployment.addressOf(Part.ProviderRegistry));
        jobs = JobRegistry(deployment.addressOf(Part.JobRegistry));
        reputation = Reputation(deployment.addressOf(Part.Reputation));
    }

    function _fund(address account, uint256 amount) internal {
        vm.prank(holder);
        assertTrue(token.transfer(account, amount));
        vm.prank(account);
        token.approve(address(escrow), type(uint256).max);
    }

    function _register(address account, uint256 stake) internal returns (uint32 index) {
        _fund(account, stake);
        vm.prank(account);
        index = providers.register(_payout(account), _contact(), stake, _noPermit());
    }

    /// A provider's cold address.
    function _payout(address account) internal pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode("payout", account)))));
    }

    function _contact() internal pure returns (Contact memory) {
        return Contact({endpoint: bytes32(uint256(0xe0d)), hint: "127.0.0.1:4433"});
    }

    function _noPermit() internal pure returns (Permit memory permit) {}

    /// `owner`'s permit for the Escrow over its next nonce.
    function _permit(address owner, uint256 key, uint256 value, uint256 deadline)
        internal
        view
        returns (Permit memory permit)
    {
        bytes32 typehash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 body = keccak256(abi.encode(typehash, owner, address(escrow), value, token.nonces(owner), deadline));
        (permit.v, permit.r, permit.s) =
            vm.sign(key, keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), body)));
        (permit.value, permit.deadline) = (value, deadline);
    }

    /// Ten tasks in batches of 4, 4 and 2, at numbers that do not divide.
    function _job() internal view returns (Job memory) {
        return Job({
            requester: requester,
            nonce: 1,
            program: bytes32(uint256(1)),
            programRoot: bytes32(uint256(2)),
            inputs: bytes32(uint256(3)),
            inputRoot: bytes32(uint256(4)),
            taskCount: 10,
            batchSize: 4,
            fuelLimit: 3e9 + 7,
            memoryLimit: 64 << 20,
            pricePerGigafuel: 1e18 + 3,
            leaseSeconds: LEASE,
            windowSeconds: WINDOW,
            category: 0
        });
    }

    /// Worst case of `tasks` tasks, written apart from the contract's way.
    function _worst(Job memory job, uint256 tasks) internal pure returns (uint256) {
        uint256 product = tasks * job.fuelLimit * job.pricePerGigafuel;
        return product % GIGAFUEL == 0 ? product / GIGAFUEL : product / GIGAFUEL + 1;
    }

    function _price(Job memory job, uint64 fuel) internal pure returns (uint256) {
        return uint256(fuel) * job.pricePerGigafuel / GIGAFUEL;
    }

    function _post(Job memory job) internal returns (bytes32 jobId) {
        vm.prank(job.requester);
        return jobs.post(job, _contact(), _noPermit());
    }

    function _posted() internal returns (Job memory job, bytes32 jobId) {
        job = _job();
        jobId = _post(job);
    }

    function _lease(address who, Job memory job, uint32[] memory batches) internal {
        vm.prank(who);
        jobs.lease(job, batches);
    }

    function _submit(address who, Job memory job, uint32 batch, uint64 fuel) internal {
        vm.prank(who);
        jobs.submit(job, _results(batch, fuel));
    }

    function _expire(Job memory job, uint32[] memory batches) internal {
        vm.prank(stranger);
        jobs.expire(job, batches);
    }

    /// To the first second at which a lease taken now has expired, and a block on.
    function _passLease() internal {
        vm.warp(block.timestamp + LEASE + 1);
        vm.roll(block.number + 1);
    }

    function _result(uint32 batch, uint64 fuel) internal pure returns (Result memory) {
        bytes32 root = keccak256(abi.encode("root", batch, fuel));
        return Result({batch: batch, root: root, fuel: fuel, outputs: keccak256(abi.encode("outputs", batch))});
    }

    function _results(uint32 batch, uint64 fuel) internal pure returns (Result[] memory results) {
        results = new Result[](1);
        results[0] = _result(batch, fuel);
    }

    function _list(uint32 a) internal pure returns (uint32[] memory batches) {
        batches = new uint32[](1);
        batches[0] = a;
    }

    function _list(uint32 a, uint32 b) internal pure returns (uint32[] memory batches) {
        batches = new uint32[](2);
        (batches[0], batches[1]) = (a, b);
    }

    function _list(uint32 a, uint32 b, uint32 c) internal pure returns (uint32[] memory batches) {
        batches = new uint32[](3);
        (batches[0], batches[1], batches[2]) = (a, b, c);
    }

    function _available(address account) internal view returns (uint256 available) {
        (available,) = escrow.balanceOf(account);
    }

    function _locked(address account) internal view returns (uint256 locked) {
        (, locked) = escrow.balanceOf(account);
    }

    function _state(bytes32 jobId, uint32 batch) internal view returns (BatchState) {
        return jobs.batchState(jobId, batch).state;
    }

    function _lockedStake(uint32 index) internal view returns (uint256) {
        return providers.provider(index).locked;
    }
}
