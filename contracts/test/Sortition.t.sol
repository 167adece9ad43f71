// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReplicatedJob} from "../interfaces/IReplicaRegistry.sol";
import {ReplicaFixture} from "./ReplicaFixture.sol";

/// @notice Nobody can pick who checks whom. What a ring that holds a share of the stake gets of a batch's first three
/// slots, over many seeds, against what a random draw by stake would give it.
/// @dev The lot is written once more here, and compared with the contract's; thousands of seeds then take seconds.
contract SortitionTest is ReplicaFixture {
    uint256 private constant SEEDS = 2000;
    /// Three standard deviations of a share of a quarter over that many seeds, and of a half over half as many.
    uint256 private constant NOISE = 0.03e18;
    uint256 private constant MORE_NOISE = 0.047e18;
    /// Two or three of three drawn from thirty of which ten are the ring's: (45 x 20 + 120) / 4060.
    uint256 private constant DRAWN = 0.2512e18;
    uint256 private constant POST_BLOCK = 1000;
    bytes32 private constant JOB = keccak256("a job");
    /// Stakes are counted in the least one, and sum to this. The ring has a third.
    uint256 private constant TOTAL = 30;
    uint256 private constant RING = 10;

    /// An account of one's own for every least stake, or all of them in one: `ring` accounts of the ring's, all others of one.
    struct Market {
        uint256[] stakes;
        uint256 ring;
        /// Time between blocks, in 10^-18 of the widening; 0 for none. In one block the ring is first.
        uint256 slot;
    }

    struct Lot {
        bytes32 hash;
        bytes32 jobId;
        uint32 batch;
    }

    struct Shares {
        /// How often the ring has the first slot, and two of the first three; 10^18 for always.
        uint256 first;
        uint256 majority;
    }

    function test_theLotHere_isTheContracts() public {
        ReplicatedJob memory job = _replicated();
        (job.job.leaseSeconds, job.assurance.widenSeconds) = (100_000, 100_000);
        job.job.rampStart = uint32(block.timestamp) + 100_000;
        address whale = makeAddr("whale");
        _register(whale, 7 * STAKE);
        vm.roll(block.number + 1);
        vm.prank(requester);
        bytes32 jobId = replicas.post(job, _spec(), _contact(), _noPermit());
        uint256 postBlock = block.number;
        _nextBlocks();
        address[4] memory all = [alice, bob, carol, whale];
        for (uint256 i = 1; i <= 100; ++i) {
            bytes32 hash = keccak256(abi.encode("seed", i));
            vm.setBlockhash(postBlock + 1, hash);
            for (uint32 batch = 0; batch < 3; ++batch) {
                for (uint256 j = 0; j < 4; ++j) {
                    uint256 stake = j == 3 ? 7 * STAKE : STAKE;
                    uint256 wait = _wait(hash, jobId, batch, postBlock, all[j], stake * 1e18 / MIN_STAKE);
                    // `_wait` is in 10^-18 of the widening.
                    assertApproxEqAbs(
                        replicas.opensAt(job, batch, all[j]) - uint256(block.timestamp), wait * 100_000 / 1e18, 1
                    );
                }
            }
        }
    }

    function test_aRingOfManyAccounts_getsWhatItsStakeDraws() public pure {
        Shares memory got = _play(_many());
        assertApproxEqAbs(got.majority, DRAWN, NOISE);
        assertApproxEqAbs(got.first, uint256(1e18) / 3, NOISE);
    }

    /// One account has one slot. It comes first more often than in a third, as its lot is even between now and a tenth of the
    /// widening: 10/21 x (1 - 0.9^21).
    function test_aRingInOneAccount_neverHasAMajority() public pure {
        Shares memory got = _play(_few(1));
        assertEq(got.majority, 0);
        assertApproxEqAbs(got.first, 0.424e18, NOISE);
    }

    /// The split that serves a ring best is two accounts: 0.28, against 0.25 for many.
    function test_noSplit_servesARingMuchBetterThanAnother() public pure {
        for (uint256 accounts = 2; accounts <= 5; ++accounts) {
            Shares memory got = _play(_few(accounts));
            assertLe(got.majority, 0.283e18 + NOISE);
            assertGe(got.majority, DRAWN - NOISE);
        }
    }

    function test_theOthersInFewAccounts_isNoBetterForTheRing() public pure {
        Market memory market = _many();
        uint256[] memory stakes = new uint256[](RING + 4);
        for (uint256 i = 0; i < stakes.length; ++i) {
            stakes[i] = i < RING ? 1 : (TOTAL - RING) / 4;
        }
        market.stakes = stakes;
        assertLe(_play(market).majority, DRAWN);
    }

    /// What a widening must be: whoever may lease in the same block is in no order, and a ring may be the quickest. With a block for each
    /// least stake registered that is little; with a tenth of one the lot is nearly none.
    function test_theWidening_isABlockOrMoreForEachLeastStake() public pure {
        Market memory market = _many();
        market.slot = 1e18 / (10 * TOTAL);
        assertLe(_play(market).majority, DRAWN + NOISE);
        market.slot = 1e18 / TOTAL;
        assertLe(_play(market).majority, DRAWN + 0.07e18 + NOISE);
        market.slot = 10e18 / TOTAL;
        assertGe(_play(market).majority, 0.5e18);
    }

    /// Rule 7: whoever posts again until the lot suits gains no more than from as many independent draws, and pays the fee for each.
    function test_postingAgain_isNoMoreThanIndependentDraws() public pure {
        Market memory market = _many();
        for (uint256 k = 2; k <= 3; ++k) {
            uint256 won;
            for (uint256 i = 0; i < SEEDS / 2; ++i) {
                bool any;
                for (uint256 j = 0; j < k; ++j) {
                    // Another job, in another block.
                    bytes32 hash = keccak256(abi.encode("again", k, i, j));
                    (, bool majority) = _slots(market, Lot(hash, keccak256(abi.encode(JOB, j)), 0));
                    any = any || majority;
                }
                if (any) ++won;
            }
            assertLe(won * 1e18 / (SEEDS / 2), _anyOf(DRAWN, k) + MORE_NOISE);
        }
    }

    /// The same for jobs posted in one block: one seed, of which each job makes a lot of its own.
    function test_manyJobsOfOneBlock_areIndependentDraws() public pure {
        Market memory market = _many();
        uint256 won;
        for (uint256 i = 0; i < SEEDS / 2; ++i) {
            bytes32 hash = keccak256(abi.encode("one seed", i));
            (, bool a) = _slots(market, Lot(hash, keccak256("one job"), 0));
            (, bool b) = _slots(market, Lot(hash, keccak256("another"), 0));
            if (a || b) ++won;
        }
        assertApproxEqAbs(won * 1e18 / (SEEDS / 2), _anyOf(DRAWN, 2), MORE_NOISE);
    }

    /// And for the batches of one job: a ring that has one of them has no more of the next.
    function test_batchesOfOneJob_areIndependentDraws() public pure {
        Market memory market = _many();
        uint256 both;
        for (uint256 i = 0; i < SEEDS / 2; ++i) {
            bytes32 hash = keccak256(abi.encode("batches", i));
            (, bool a) = _slots(market, Lot(hash, JOB, 0));
            (, bool b) = _slots(market, Lot(hash, JOB, 1));
            if (a && b) ++both;
        }
        assertApproxEqAbs(both * 1e18 / (SEEDS / 2), DRAWN * DRAWN / 1e18, NOISE);
    }

    /// A proposer that may withhold one block has two seeds to choose from.
    function test_aDiscardedBlock_isOneMoreDraw() public pure {
        Market memory market = _many();
        uint256 won;
        for (uint256 i = 0; i < SEEDS / 2; ++i) {
            (, bool a) = _slots(market, Lot(keccak256(abi.encode("block", i)), JOB, 0));
            (, bool b) = _slots(market, Lot(keccak256(abi.encode("its replacement", i)), JOB, 0));
            if (a || b) ++won;
        }
        assertLe(won * 1e18 / (SEEDS / 2), _anyOf(DRAWN, 2) + MORE_NOISE);
    }

    /// Over all seeds.
    function _play(Market memory market) private pure returns (Shares memory shares) {
        for (uint256 i = 0; i < SEEDS; ++i) {
            (bool first, bool majority) = _slots(market, Lot(keccak256(abi.encode("seed", i)), JOB, 0));
            if (first) shares.first += 1e18;
            if (majority) shares.majority += 1e18;
        }
        (shares.first, shares.majority) = (shares.first / SEEDS, shares.majority / SEEDS);
    }

    /// Who the first three are: whether the first is of the ring, and whether two of them are.
    function _slots(Market memory market, Lot memory lot) private pure returns (bool first, bool majority) {
        uint256[3] memory at = [type(uint256).max, type(uint256).max, type(uint256).max];
        bool[3] memory ours;
        for (uint256 i = 0; i < market.stakes.length; ++i) {
            _queue(at, ours, _turn(market, lot, i), i < market.ring);
        }
        return (ours[0], ours[0] && (ours[1] || ours[2]) || ours[1] && ours[2]);
    }

    /// How long account `i` waits: to the end of the block in which its wait is over.
    function _turn(Market memory market, Lot memory lot, uint256 i) private pure returns (uint256 wait) {
        address who = address(uint160(i + 1));
        wait = _wait(lot.hash, lot.jobId, lot.batch, POST_BLOCK, who, market.stakes[i] * 1e18);
        if (market.slot != 0) wait = (wait / market.slot + 1) * market.slot - (i < market.ring ? 1 : 0);
    }

    /// Puts one in its place among the first three, if it has one.
    function _queue(uint256[3] memory at, bool[3] memory ours, uint256 wait, bool own) private pure {
        for (uint256 place = 0; place < 3; ++place) {
            if (wait >= at[place]) continue;
            (wait, at[place]) = (at[place], wait);
            (own, ours[place]) = (ours[place], own);
        }
    }

    /// How long `who` waits, in 10^-18 of the widening. `stake` in 10^-18 of the least one.
    function _wait(bytes32 hash, bytes32 jobId, uint32 batch, uint256 opened, address who, uint256 stake)
        private
        pure
        returns (uint256)
    {
        uint256 free;
        assembly ("memory-safe") {
            free := mload(64)
        }
        uint256 seed = uint64(uint256(hash)) | 1;
        uint256 lot = uint64(uint256(keccak256(abi.encode(seed, jobId, uint256(batch), opened, who))));
        // What was encoded is garbage: a quarter of a million times it would be too much memory.
        assembly ("memory-safe") {
            mstore(64, free)
        }
        return lot * 1e36 / stake >> 64;
    }

    function _anyOf(uint256 p, uint256 k) private pure returns (uint256) {
        uint256 none = 1e18;
        for (uint256 i = 0; i < k; ++i) {
            none = none * (1e18 - p) / 1e18;
        }
        return 1e18 - none;
    }

    function _many() private pure returns (Market memory market) {
        return _few(RING);
    }

    /// The ring's stake in `accounts`, as even as it gets.
    function _few(uint256 accounts) private pure returns (Market memory market) {
        market.ring = accounts;
        market.stakes = new uint256[](accounts + TOTAL - RING);
        for (uint256 i = 0; i < market.stakes.length; ++i) {
            market.stakes[i] = i < accounts ? (RING + i) / accounts : 1;
        }
    }
}
