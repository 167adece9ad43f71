// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BatchState, Submission} from "../interfaces/IJobRegistry.sol";

/// @notice One batch in one storage slot, overwritten in place from lease to result to payment. The slot of batch 0 carries the
/// job's own state as well, so that a job of one batch lives in a single slot.
///
/// | bits | open | leased | submitted, frozen, settled |
/// |---|---|---|---|
/// | 0..8 | state | state | state |
/// | 8..40 | when it was released, block time, or 0 | deadline, block time | end of the window, block time |
/// | 40..200 | whose lease ran out last, or 0 | holder | hash of the {Submission}, 189 bits |
/// | 200..216 | step of the price | step of the price | |
/// | 216..224 | leases that ran out | leases that ran out | |
/// | 224 | whether the step is fixed | 1 | |
/// | 225 | 0 | whether a former holder may still submit | |
///
/// | bits | batch 0 only: the job |
/// |---|---|
/// | 229 | continues another job ({IJobRegistry-amend}) |
/// | 230..254 | batches that nobody holds and that are not final |
/// | 254 | cancelled: its open batches are final |
/// | 255 | posted |
type Slot is uint256;

using Slots for Slot global;

/// @title Reading and making a batch's slot
// forge-lint: disable-start(unsafe-typecast) Each cast keeps the bits that the table names.
library Slots {
    uint256 private constant HASH = (1 << 189) - 1;
    uint256 private constant JOB = ~uint256((1 << 229) - 1);

    function state(Slot slot) internal pure returns (BatchState) {
        return BatchState(uint8(Slot.unwrap(slot)));
    }

    function time(Slot slot) internal pure returns (uint32) {
        return uint32(Slot.unwrap(slot) >> 8);
    }

    function provider(Slot slot) internal pure returns (address) {
        return address(uint160(Slot.unwrap(slot) >> 40));
    }

    function step(Slot slot) internal pure returns (uint16) {
        return uint16(Slot.unwrap(slot) >> 200);
    }

    function expiries(Slot slot) internal pure returns (uint8) {
        return uint8(Slot.unwrap(slot) >> 216);
    }

    function isPriced(Slot slot) internal pure returns (bool) {
        return Slot.unwrap(slot) & 1 << 224 != 0;
    }

    function isContested(Slot slot) internal pure returns (bool) {
        return Slot.unwrap(slot) & 1 << 225 != 0;
    }

    function submission(Slot slot) internal pure returns (uint192) {
        return uint192(Slot.unwrap(slot) >> 40 & HASH);
    }

    function isPosted(Slot slot) internal pure returns (bool) {
        return Slot.unwrap(slot) >> 255 != 0;
    }

    function isCancelled(Slot slot) internal pure returns (bool) {
        return Slot.unwrap(slot) & 1 << 254 != 0;
    }

    function openCount(Slot slot) internal pure returns (uint24) {
        return uint24(Slot.unwrap(slot) >> 230);
    }

    function isContinued(Slot slot) internal pure returns (bool) {
        return Slot.unwrap(slot) & 1 << 229 != 0;
    }

    function posted(uint24 count, bool continued) internal pure returns (Slot) {
        return Slot.wrap(uint256(1) << 255 | uint256(count) << 230 | uint256(continued ? 1 : 0) << 229);
    }

    /// The batch of `slot` and the job of `head`.
    function withJob(Slot slot, Slot head) internal pure returns (Slot) {
        return Slot.wrap(Slot.unwrap(slot) & ~JOB | Slot.unwrap(head) & JOB);
    }

    function withOpenCount(Slot slot, uint24 count) internal pure returns (Slot) {
        return Slot.wrap(Slot.unwrap(slot) & ~(uint256(type(uint24).max) << 230) | uint256(count) << 230);
    }

    function cancelled(Slot slot) internal pure returns (Slot) {
        return withOpenCount(Slot.wrap(Slot.unwrap(slot) | 1 << 254), 0);
    }

    /// 189 bits of keccak256(abi.encode(Submission)): a collision takes 2^94 attempts. Calldata with unused bits set hashes to something
    /// that was never stored.
    function hash(Submission calldata given) internal pure returns (uint192) {
        bytes32 whole;
        assembly ("memory-safe") {
            let free := mload(64)
            calldatacopy(free, given, 160)
            whole := keccak256(free, 160)
        }
        return uint192(uint256(whole) & HASH);
    }

    /// The same of a submission's fields.
    function hash(uint32 batch, address provider_, uint128 price, bytes32 root, uint64 fuel)
        internal
        pure
        returns (uint192)
    {
        return uint192(uint256(keccak256(abi.encode(batch, provider_, price, root, fuel))) & HASH);
    }

    function open(address last, uint16 step_, uint8 expiries_) internal pure returns (Slot) {
        return
            Slot.wrap(
                uint256(uint160(last)) << 40 | uint256(step_) << 200 | uint256(expiries_) << 216 | uint256(1) << 224
            );
    }

    /// The same open batch, after a lease of it was released now.
    function released(Slot slot) internal view returns (Slot) {
        return Slot.wrap(Slot.unwrap(slot) | uint256(uint32(block.timestamp)) << 8);
    }

    function leased(address holder, uint32 deadline, uint16 step_, uint8 expiries_, bool contested)
        internal
        pure
        returns (Slot)
    {
        return Slot.wrap(
            uint256(BatchState.Leased) | uint256(deadline) << 8 | Slot.unwrap(open(holder, step_, expiries_))
                | uint256(contested ? 1 : 0) << 225
        );
    }

    function submitted(uint32 finalAt, uint192 hash_) internal pure returns (Slot) {
        return Slot.wrap(uint256(BatchState.Submitted) | uint256(finalAt) << 8 | uint256(hash_) << 40);
    }

    /// The same in another state.
    function as_(Slot slot, BatchState state_) internal pure returns (Slot) {
        return Slot.wrap(Slot.unwrap(slot) & ~uint256(0xff) | uint256(state_));
    }
}
// forge-lint: disable-end(unsafe-typecast)
