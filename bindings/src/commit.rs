//! What a job commits to on chain: keccak roots of program, inputs and outputs, and the result sum tree.
//!
//! | root | preimage |
//! |---|---|
//! | region | Merkle tree of fixed depth 27 over raw 32-byte words, zero-padded; node = keccak(left ‖ right) |
//! | program | what the step machine begins with: `conun_vm::roots::program_root` |
//! | input | keccak(`INPUT_TAG` ‖ task count ‖ tree over the tasks' (region root, length)), both of the blob that a task reads |
//! | result | sum tree over result leaves, see [`ResultTree`] |
//! | bound | tree over (provider, result leaf), see [`BoundTree`] |
//!
//! `contracts/libraries/ResultTree.sol` is the same tree in Solidity; `bindings/vectors/result_tree.json` is asserted by both.

use alloy::{
    primitives::{Address, B256, keccak256},
    sol_types::SolValue,
};

/// Depth of a region tree: 2^27 words of 32 bytes are 4 GiB, a wasm memory's largest size.
const REGION_DEPTH: usize = 27;

/// Bytes of a chunk of a region, what a demand asks for: a node at height 7.
pub const CHUNK_BYTES: usize = 4_096;

/// From a chunk's node up to the region's root.
const CHUNK_DEPTH: usize = 20;

/// Domain tag of a string.
fn tag(name: &str) -> B256 {
    keccak256(name)
}

fn pair(left: B256, right: B256) -> B256 {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(left.as_slice());
    bytes[32..].copy_from_slice(right.as_slice());
    keccak256(bytes)
}

/// Folds `level` (the left end of a tree whose rest is `zero`) up by `depth` levels.
fn fold(mut level: Vec<B256>, mut zero: B256, depth: usize, node: impl Fn(B256, B256) -> B256) -> B256 {
    for _ in 0..depth {
        level = lift(level, zero, &node);
        zero = node(zero, zero);
    }
    level.first().copied().unwrap_or(zero)
}

/// The level above `level`.
fn lift(mut level: Vec<B256>, zero: B256, node: impl Fn(B256, B256) -> B256) -> Vec<B256> {
    if level.len() % 2 == 1 {
        level.push(zero);
    }
    level.chunks_exact(2).map(|two| node(two[0], two[1])).collect()
}

/// Root of `bytes` as a region: raw 32-byte words, zero-padded to 4 GiB.
///
/// # Panics
/// If `bytes` is longer than 4 GiB.
pub fn region_root(bytes: &[u8]) -> B256 {
    assert!(bytes.len() as u64 <= 32 << REGION_DEPTH, "a region holds at most 4 GiB");
    let words = bytes.chunks(32).map(B256::right_padding_from).collect();
    fold(words, B256::ZERO, REGION_DEPTH, pair)
}

/// Chunk `number` of a region, and its siblings from its own up to the root's child, as `Region.verify` takes them; nothing for a
/// chunk that lies past the end.
///
/// # Panics
/// As [`region_root`].
pub fn chunk_proof(bytes: &[u8], number: u32) -> (&[u8], Vec<B256>) {
    assert!(bytes.len() as u64 <= 32 << REGION_DEPTH, "a region holds at most 4 GiB");
    let node = |chunk: &[u8]| {
        let words = chunk.chunks(32).map(B256::right_padding_from).collect();
        fold(words, B256::ZERO, REGION_DEPTH - CHUNK_DEPTH, pair)
    };
    let Some(part) = bytes.chunks(CHUNK_BYTES).nth(number as usize) else { return (&[], Vec::new()) };
    let level = bytes.chunks(CHUNK_BYTES).map(node).collect();
    let zero = (0..REGION_DEPTH - CHUNK_DEPTH).fold(B256::ZERO, |zero, _| pair(zero, zero));
    (part, siblings(level, zero, CHUNK_DEPTH, number as usize))
}

/// Siblings of node `position` of `level`, as [`fold`] takes it, from its own up to the child of the node `depth` levels above.
fn siblings(mut level: Vec<B256>, mut zero: B256, depth: usize, position: usize) -> Vec<B256> {
    let mut found = Vec::with_capacity(depth);
    for height in 0..depth {
        found.push(level.get(position >> height ^ 1).copied().unwrap_or(zero));
        level = lift(level, zero, pair);
        zero = pair(zero, zero);
    }
    found
}

/// Root of a job's inputs: for each task the region root of the blob that it reads, and its length in bytes.
pub fn input_root(tasks: &[(B256, u64)]) -> B256 {
    let node_tag = tag("CONUN input node v1");
    let leaf_tag = tag("CONUN input leaf v1");
    let leaves = tasks.iter().map(|task| keccak256((leaf_tag, task.0, task.1).abi_encode())).collect();
    let tree =
        fold(leaves, B256::ZERO, depth(tasks.len()), |left, right| keccak256((node_tag, left, right).abi_encode()));
    keccak256((tag("CONUN inputs v2"), tasks.len() as u64, tree).abi_encode())
}

/// ceil(log2 n), 0 for n <= 1.
fn depth(n: usize) -> usize {
    n.next_power_of_two().trailing_zeros() as usize
}

/// What one task came to, as the result tree commits to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultLeaf {
    /// Task index in the job.
    pub index: u32,
    /// Whether the program ended by itself; `false` is `Failed`.
    pub ok: bool,
    /// Exit code when `ok`, else 0.
    pub exit_code: u32,
    /// Region root of the output.
    pub output_root: B256,
    /// Bytes of output.
    pub output_length: u64,
    /// Fuel burned, in instructions.
    pub fuel: u64,
}

impl ResultLeaf {
    /// keccak256(abi.encode(keccak("CONUN result leaf v1"), index, ok, exitCode, outputRoot, outputLength, fuel)).
    pub fn hash(&self) -> B256 {
        let leaf = (
            tag("CONUN result leaf v1"),
            self.index,
            self.ok,
            self.exit_code,
            self.output_root,
            self.output_length,
            self.fuel,
        );
        keccak256(leaf.abi_encode())
    }
}

/// A node of a sum tree: a hash and the fuel below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SumNode {
    /// Hash of the node; all zero for padding.
    pub hash: B256,
    /// Fuel of all leaves below.
    pub fuel: u64,
}

impl SumNode {
    /// The leaf that fills a level up.
    pub const PADDING: Self = Self { hash: B256::ZERO, fuel: 0 };

    /// (keccak256(abi.encode(keccak("CONUN result node v1"), hL, sumL, hR, sumR)), sumL + sumR), or `None` on overflow.
    pub fn join(self, right: Self) -> Option<Self> {
        let node = (tag("CONUN result node v1"), self.hash, self.fuel, right.hash, right.fuel);
        Some(Self { hash: keccak256(node.abi_encode()), fuel: self.fuel.checked_add(right.fuel)? })
    }
}

/// The Merkle *sum* tree over a batch's result leaves. Its root is a hash and the total fuel, so a wrong total needs a
/// wrong leaf, which anyone can point at.
///
/// Depth is ceil(log2(number of leaves)); missing leaves are [`SumNode::PADDING`].
#[derive(Clone, Debug)]
pub struct ResultTree {
    /// levels[0] are the padded leaves, the last level is the root alone.
    levels: Vec<Vec<SumNode>>,
}

/// Why there is no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A batch has at least one task.
    #[error("a result tree needs at least one leaf")]
    Empty,
    /// The fuel of all leaves exceeds 2^64 - 1.
    #[error("the total fuel of the batch exceeds 2^64 - 1")]
    FuelOverflow,
}

impl ResultTree {
    /// Builds the tree over `leaves`, in the order of their tasks.
    ///
    /// # Errors
    /// If there is no leaf or the total fuel overflows.
    pub fn new(leaves: &[ResultLeaf]) -> Result<Self, TreeError> {
        if leaves.is_empty() {
            return Err(TreeError::Empty);
        }
        let mut level: Vec<_> = leaves.iter().map(|leaf| SumNode { hash: leaf.hash(), fuel: leaf.fuel }).collect();
        level.resize(leaves.len().next_power_of_two(), SumNode::PADDING);
        let mut levels = vec![level];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above: Option<_> = below.chunks_exact(2).map(|two| two[0].join(two[1])).collect();
            levels.push(above.ok_or(TreeError::FuelOverflow)?);
        }
        Ok(Self { levels })
    }

    fn top(&self) -> SumNode {
        self.levels[self.levels.len() - 1][0]
    }

    /// Hash of the root: the *result root*.
    pub fn root(&self) -> B256 {
        self.top().hash
    }

    /// Total fuel of the batch.
    pub fn fuel(&self) -> u64 {
        self.top().fuel
    }

    /// Siblings of leaf `position`, from the leaf's own up to the root's child.
    ///
    /// # Panics
    /// If there is no such position (padding included).
    pub fn proof(&self, position: usize) -> Vec<SumNode> {
        let below_root = &self.levels[..self.levels.len() - 1];
        below_root.iter().enumerate().map(|(height, level)| level[(position >> height) ^ 1]).collect()
    }

    /// Whether `leaf` is at `position` of the tree of `tasks` leaves with that root and total fuel.
    pub fn verify(root: SumNode, tasks: usize, position: usize, leaf: SumNode, proof: &[SumNode]) -> bool {
        if tasks == 0 || proof.len() != depth(tasks) || position >> proof.len() != 0 {
            return false;
        }
        let mut node = leaf;
        for (height, sibling) in proof.iter().enumerate() {
            let joined = if position >> height & 1 == 0 { node.join(*sibling) } else { sibling.join(node) };
            let Some(joined) = joined else { return false };
            node = joined;
        }
        node == root
    }
}

/// The Merkle tree that binds a result to who made it: over keccak256(abi.encode(provider, leaf)), padded with zeros to the result
/// tree's depth, node = keccak(left ‖ right). Who only copied a root cannot make it.
#[derive(Clone, Debug)]
pub struct BoundTree {
    leaves: Vec<B256>,
}

impl BoundTree {
    /// The tree of `provider` over `leaves`, in the order of their tasks.
    pub fn new(provider: Address, leaves: &[ResultLeaf]) -> Self {
        let bound = |leaf: &ResultLeaf| {
            let ResultLeaf { index, ok, exit_code, output_root, output_length, fuel } = *leaf;
            keccak256((provider, index, ok, exit_code, output_root, output_length, fuel).abi_encode())
        };
        Self { leaves: leaves.iter().map(bound).collect() }
    }

    /// What a commitment binds.
    pub fn root(&self) -> B256 {
        fold(self.leaves.clone(), B256::ZERO, depth(self.leaves.len()), pair)
    }

    /// Siblings of leaf `position`, from its own up to the root's child.
    pub fn proof(&self, position: usize) -> Vec<B256> {
        siblings(self.leaves.clone(), B256::ZERO, depth(self.leaves.len()), position)
    }
}

#[cfg(test)]
mod tests;
