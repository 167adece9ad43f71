//! Chunks of an output and their proofs, for answers to demands.

use alloy::primitives::{B256, keccak256};

const CHUNK: usize = 4_096;
/// Levels between a chunk and the root of a region.
const CHUNK_DEPTH: u32 = 20;

fn pair(left: B256, right: B256) -> B256 {
    keccak256([left.as_slice(), right.as_slice()].concat())
}

fn chunk_root(bytes: &[u8]) -> B256 {
    let mut level: Vec<_> = bytes.chunks(32).map(B256::right_padding_from).collect();
    level.resize(CHUNK / 32, B256::ZERO);
    while level.len() > 1 {
        level = level.chunks_exact(2).map(|two| pair(two[0], two[1])).collect();
    }
    level[0]
}

/// The bytes of a chunk and the siblings up to the region's root; nothing if the output ends before.
pub(super) fn chunk(output: &[u8], number: u32) -> (Vec<u8>, Vec<B256>) {
    let Some(part) = output.chunks(CHUNK).nth(number as usize) else { return (Vec::new(), Vec::new()) };
    let mut level: Vec<_> = output.chunks(CHUNK).map(chunk_root).collect();
    let mut zero = chunk_root(&[]);
    let mut siblings = Vec::new();
    for height in 0..CHUNK_DEPTH {
        siblings.push(level.get(number as usize >> height ^ 1).copied().unwrap_or(zero));
        if level.len() % 2 == 1 {
            level.push(zero);
        }
        level = level.chunks_exact(2).map(|two| pair(two[0], two[1])).collect();
        zero = pair(zero, zero);
    }
    (part.to_vec(), siblings)
}
