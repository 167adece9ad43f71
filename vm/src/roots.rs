//! What a program, an input, an output and a machine's state are committed to by: keccak256 trees.
//!
//! | what | preimage of keccak256; words of 32 bytes, numbers big-endian |
//! |---|---|
//! | region of depth d | Merkle tree over 2^d raw leaves of 32 bytes, zero-padded; node = left ‖ right |
//! | program | `tag("CONUN step program v1")` ‖ root C ‖ root S ‖ root M ‖ pages ‖ pages of the second memory ‖ entry ‖ first frame |
//! | running state | `tag("CONUN step state v1")` ‖ registers ‖ limits ‖ roots C, S, M, I, O |
//! | halted state | `tag("CONUN step halt v1")` ‖ ok ‖ exit code ‖ fuel ‖ output length ‖ root O |
//!
//! `tag(name)` is keccak256 of the name. Roots of inputs and outputs are regions of depth [`BLOB_DEPTH`], the same as
//! `region_root` in the `conun-bindings` crate. Registers are pc u32, fp u32, pages u32 and u32, progress u64, output length
//! u64; limits are input length u64, output limit u64, fuel limit u64, zero u64; both fill one word. A failed task halts
//! with exit code 0 and an empty output.

use std::sync::LazyLock;

use keccak_asm::{Digest, Keccak256};

use crate::{Error, Prepared, machine::Code};

/// A keccak256 hash.
pub type Hash = [u8; 32];

/// Bytes of a leaf.
pub const LEAF: usize = 32;

/// Depth of the tree over an input or an output: 2^27 leaves are 4 GiB.
pub const BLOB_DEPTH: u32 = 27;

/// keccak256 of `bytes`.
pub fn keccak(bytes: &[u8]) -> Hash {
    Keccak256::digest(bytes).into()
}

/// keccak256 of a name: what keeps two kinds of preimages apart.
pub fn tag(name: &str) -> Hash {
    keccak(name.as_bytes())
}

/// The node above two others.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Keccak256::new();
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// A number as a word.
pub fn word(number: u64) -> Hash {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}

/// keccak256 of several words.
pub fn keccak_words(words: &[Hash]) -> Hash {
    keccak(words.as_flattened())
}

/// Root of a tree of `depth` whose leaves are all zero.
///
/// # Panics
/// If `depth` is above 32.
pub fn zeros(depth: u32) -> &'static Hash {
    static ZEROS: LazyLock<[Hash; 33]> = LazyLock::new(|| {
        let mut zeros = [[0; 32]; 33];
        for depth in 1..zeros.len() {
            zeros[depth] = node(&zeros[depth - 1], &zeros[depth - 1]);
        }
        zeros
    });
    &ZEROS[depth as usize]
}

/// Root of `bytes` as a region of [`BLOB_DEPTH`]: of an input, or of an output.
///
/// # Panics
/// If there are more than 4 GiB.
pub fn region_root(bytes: &[u8]) -> Hash {
    Tree::of(BLOB_DEPTH, bytes).root()
}

/// What a halted machine is committed to by; for a failed task `exit_code` is `None`, and its output does not count. A
/// provider has all of it from the native engine.
pub fn halted_hash(exit_code: Option<u32>, fuel: u64, output: &[u8]) -> Hash {
    let output = if exit_code.is_some() { output } else { &[] };
    halted_hash_of_root(exit_code, fuel, output.len() as u64, region_root(output))
}

/// [`halted_hash`] of an output whose root is known.
pub fn halted_hash_of_root(exit_code: Option<u32>, fuel: u64, output_len: u64, output_root: Hash) -> Hash {
    let (output_len, output_root) = match exit_code {
        Some(_) => (output_len, output_root),
        None => (0, *zeros(BLOB_DEPTH)),
    };
    keccak_words(&[
        tag("CONUN step halt v1"),
        word(u64::from(exit_code.is_some())),
        word(u64::from(exit_code.unwrap_or(0))),
        word(fuel),
        word(output_len),
        output_root,
    ])
}

/// Root of a program under a job's memory limit: what the job names. Flattens the program and hashes what the step machine begins
/// with.
///
/// # Errors
/// As [`Code::flatten`](crate::machine::Code::flatten).
pub fn program_root(prepared: &Prepared) -> Result<Hash, Error> {
    Code::flatten(prepared.as_bytes())?.program_root()
}

/// Root that a leaf has under these siblings, from its own up to the root's child.
pub fn climb(leaf: &Hash, index: u64, siblings: &[Hash]) -> Hash {
    siblings.iter().enumerate().fold(*leaf, |below, (height, sibling)| {
        if index >> height & 1 == 0 { node(&below, sibling) } else { node(sibling, &below) }
    })
}

/// Height of the nodes that a [`Tree`] keeps: a page is 2^7 leaves.
pub(crate) const PAGE_HEIGHT: u32 = 7;

/// Bytes of a page.
pub(crate) const PAGE_BYTES: usize = LEAF << PAGE_HEIGHT;

/// Pages from which on a second thread is worth its start.
const PARALLEL_PAGES: usize = 256;

/// The bytes of a page.
pub(crate) type Page = [u8; PAGE_BYTES];

/// Where a [`Tree`] gets the bytes of a page from; what is beyond the end is zero.
pub(crate) trait Pages: Sync {
    /// Number of pages that may be other than zero.
    fn count(&self) -> usize;
    /// Copies page `index`.
    fn copy(&self, index: usize, page: &mut Page);
}

impl Pages for [u8] {
    fn count(&self) -> usize {
        self.len().div_ceil(PAGE_BYTES)
    }

    fn copy(&self, index: usize, page: &mut Page) {
        let rest = self.get(index * PAGE_BYTES..).unwrap_or_default();
        let len = rest.len().min(PAGE_BYTES);
        page[..len].copy_from_slice(&rest[..len]);
        page[len..].fill(0);
    }
}

/// A Merkle tree that keeps its nodes from pages upwards, so that after a change only the ways from changed pages to the
/// root are hashed again.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    depth: u32,
    /// Hashes of pages, then the nodes above, level by level, up to a single one. All beyond are zeros.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// A tree of zeros.
    pub(crate) fn empty(depth: u32) -> Self {
        Self { depth, levels: vec![Vec::new()] }
    }

    /// The tree over `pages`.
    ///
    /// # Panics
    /// If they are more than it holds.
    pub(crate) fn of(depth: u32, pages: &(impl Pages + ?Sized)) -> Self {
        assert!(pages.count() <= 1 << (depth - PAGE_HEIGHT), "the region has more bytes than leaves for them");
        let mut tree = Self::empty(depth);
        tree.update(pages, (0..pages.count()).collect());
        tree
    }

    /// Takes up that the pages `changed`, in ascending order, have changed.
    pub(crate) fn update(&mut self, pages: &(impl Pages + ?Sized), mut changed: Vec<usize>) {
        let had = self.levels[0].len();
        if pages.count() > had {
            self.levels[0].resize(pages.count(), *zeros(PAGE_HEIGHT));
            // The way up from the last page gets longer.
            if let (Some(last), false) = (had.checked_sub(1), changed.is_empty()) {
                if let Err(at) = changed.binary_search(&last) {
                    changed.insert(at, last);
                }
            } else if let Some(last) = had.checked_sub(1) {
                changed.push(last);
            }
        }
        for (index, hash) in changed.iter().zip(page_roots(pages, &changed)) {
            self.levels[0][*index] = hash;
        }
        let mut height = 0;
        while self.levels[height].len() > 1 {
            let below = &self.levels[height];
            let parents = below.len().div_ceil(2);
            let zero = zeros(PAGE_HEIGHT + height as u32);
            changed = changed.into_iter().map(|index| index / 2).collect();
            changed.dedup();
            let hashes: Vec<_> = changed
                .iter()
                .map(|at| join(&below[2 * at], below.get(2 * at + 1).unwrap_or(zero), zero, height))
                .collect();
            height += 1;
            if self.levels.len() == height {
                self.levels.push(Vec::new());
            }
            let level = &mut self.levels[height];
            level.resize(parents, *zeros(PAGE_HEIGHT + height as u32));
            for (at, hash) in changed.iter().zip(hashes) {
                level[*at] = hash;
            }
        }
    }

    /// Pages that the tree has seen.
    pub(crate) fn pages(&self) -> usize {
        self.levels[0].len()
    }

    /// Root of the tree.
    pub(crate) fn root(&self) -> Hash {
        let height = PAGE_HEIGHT + self.levels.len() as u32 - 1;
        let Some(top) = self.levels.last().and_then(|level| level.first()) else { return *zeros(self.depth) };
        (height..self.depth).fold(*top, |below, height| node(&below, zeros(height)))
    }

    /// Siblings of the leaf at `index`, from its own up to the root's child. `page` is the one it lies in.
    pub(crate) fn siblings(&self, index: u64, page: &Page) -> Vec<Hash> {
        let mut siblings = Vec::with_capacity(self.depth as usize);
        let mut level = leaves(page);
        let mut at = index as usize % level.len();
        for height in 0..PAGE_HEIGHT {
            siblings.push(level[at ^ 1]);
            level = fold(&level, height);
            at /= 2;
        }
        let mut at = (index >> PAGE_HEIGHT) as usize;
        for height in PAGE_HEIGHT..self.depth {
            let level = self.levels.get((height - PAGE_HEIGHT) as usize);
            siblings.push(*level.and_then(|level| level.get(at ^ 1)).unwrap_or(zeros(height)));
            at /= 2;
        }
        siblings
    }
}

/// The node above two at `height` pages; `zero` is the empty one there.
fn join(left: &Hash, right: &Hash, zero: &Hash, height: usize) -> Hash {
    if left == zero && right == zero { *zeros(PAGE_HEIGHT + height as u32 + 1) } else { node(left, right) }
}

fn leaves(page: &Page) -> Vec<Hash> {
    page.as_chunks().0.to_vec()
}

/// The level above one of nodes at `height`.
fn fold(level: &[Hash], height: u32) -> Vec<Hash> {
    let zero = zeros(height);
    level
        .as_chunks()
        .0
        .iter()
        .map(|[left, right]| if left == zero && right == zero { *zeros(height + 1) } else { node(left, right) })
        .collect()
}

fn page_root(page: &Page) -> Hash {
    if page.iter().all(|byte| *byte == 0) {
        return *zeros(PAGE_HEIGHT);
    }
    let mut level = leaves(page);
    for height in 0..PAGE_HEIGHT {
        level = fold(&level, height);
    }
    level[0]
}

/// Roots of these pages, by as many threads as that is worth.
fn page_roots(pages: &(impl Pages + ?Sized), which: &[usize]) -> Vec<Hash> {
    let hash = |which: &[usize]| {
        let mut page = [0; PAGE_BYTES];
        let root = |index: &usize| {
            pages.copy(*index, &mut page);
            page_root(&page)
        };
        which.iter().map(root).collect::<Vec<_>>()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(which.len() / PARALLEL_PAGES);
    if threads < 2 {
        return hash(which);
    }
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            which.chunks(which.len().div_ceil(threads)).map(|part| scope.spawn(move || hash(part))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("hashing does not panic")).collect()
    })
}
