use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn leaf(index: u32) -> ResultLeaf {
    let ok = index % 3 != 2;
    let output = if ok { vec![index as u8; index as usize] } else { Vec::new() };
    ResultLeaf {
        index: 64 + index,
        ok,
        exit_code: if ok { index } else { 0 },
        output_root: region_root(&output),
        output_length: output.len() as u64,
        fuel: 1_000_003 * u64::from(index) + 7,
    }
}

/// The cases that Rust and Solidity both assert: trees of 1, 2, 3, 5, 8 and 13 leaves with a proof of every position.
fn vectors() -> Value {
    let cases: Vec<_> = [1, 2, 3, 5, 8, 13]
        .into_iter()
        .map(|count| {
            let leaves: Vec<_> = (0..count).map(leaf).collect();
            let tree = ResultTree::new(&leaves).unwrap();
            let proof = |position: usize| {
                let siblings = tree.proof(position);
                json!({
                    "position": position,
                    "siblingHashes": siblings.iter().map(|node| node.hash).collect::<Vec<_>>(),
                    "siblingFuels": siblings.iter().map(|node| node.fuel).collect::<Vec<_>>(),
                })
            };
            json!({
                "leaves": leaves.iter().map(|leaf| json!({
                    "index": leaf.index,
                    "ok": leaf.ok,
                    "exitCode": leaf.exit_code,
                    "outputRoot": leaf.output_root,
                    "outputLength": leaf.output_length,
                    "fuel": leaf.fuel,
                })).collect::<Vec<_>>(),
                "leafHashes": leaves.iter().map(ResultLeaf::hash).collect::<Vec<_>>(),
                "hash": tree.root(),
                "fuel": tree.fuel(),
                "proofs": (0..leaves.len().next_power_of_two()).map(proof).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "cases": cases })
}

/// `UPDATE_VECTORS=1 cargo test` writes the file anew.
#[test]
fn result_trees_are_those_of_the_vector_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/result_tree.json");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(path, format!("{:#}\n", vectors())).unwrap();
    }
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(file, vectors());
}

#[test]
fn a_region_is_padded_with_zeros_to_a_fixed_depth() {
    let mut zero = B256::ZERO;
    for _ in 0..27 {
        zero = pair(zero, zero);
    }
    assert_eq!(region_root(&[]), zero);
    assert_eq!(region_root(&[0; 100]), zero);
    assert_eq!(region_root(b"abc"), region_root(b"abc\0"));
    assert_ne!(region_root(b"abc"), region_root(b"abd"));
}

/// The same values are asserted of `region_root` in the `conun-vm` crate.
#[test]
fn roots_of_regions_are_those_that_engines_compute() {
    let bytes: Vec<u8> = (0..5_000u32).map(|n| (n * n) as u8).collect();
    for (bytes, root) in [
        (&b""[..], "0x838c5655cb21c6cb83313b5a631175dff4963772cce9108188b34ac87c81c41e"),
        (b"abc", "0x8e083581dbe505c3e7c7871c298afd62b3136200af240db1ceb5f0a849c5ac88"),
        (&bytes, "0xf32c815734c3eec977e69eee70e837b3468b33a111979f3c93095d194064696e"),
    ] {
        assert_eq!(region_root(bytes).to_string(), root);
    }
}

#[test]
fn an_input_root_depends_on_order_and_lengths() {
    let (a, b) = ((region_root(b"a"), 1), (region_root(b"b"), 1));
    let root = input_root(&[a, b]);
    for other in [input_root(&[b, a]), input_root(&[a, (b.0, 2)]), input_root(&[a, b, b])] {
        assert_ne!(root, other);
    }
}

#[test]
fn trees_without_leaves_or_with_too_much_fuel_are_refused() {
    assert_eq!(ResultTree::new(&[]).unwrap_err(), TreeError::Empty);
    let full = ResultLeaf { fuel: u64::MAX, ..leaf(0) };
    assert_eq!(ResultTree::new(&[full, leaf(1)]).unwrap_err(), TreeError::FuelOverflow);
}

proptest! {
    #[test]
    fn every_position_is_proved_and_nothing_else_is(count in 1usize..40, at in any::<prop::sample::Index>(), flip in 0usize..3) {
        let leaves: Vec<_> = (0..count as u32).map(leaf).collect();
        let tree = ResultTree::new(&leaves).unwrap();
        let root = SumNode { hash: tree.root(), fuel: tree.fuel() };
        let position = at.index(count);
        let node = SumNode { hash: leaves[position].hash(), fuel: leaves[position].fuel };
        let proof = tree.proof(position);
        prop_assert!(ResultTree::verify(root, count, position, node, &proof));
        prop_assert_eq!(tree.fuel(), leaves.iter().map(|leaf| leaf.fuel).sum::<u64>());

        let lie = match flip {
            0 => (root, SumNode { fuel: node.fuel + 1, ..node }, position),
            1 => (SumNode { fuel: root.fuel + 1, ..root }, node, position),
            _ => (root, node, position + proof.len().max(1)),
        };
        prop_assert!(!ResultTree::verify(lie.0, count, lie.2, lie.1, &proof));
        prop_assert!(!ResultTree::verify(root, count, position, node, &[&proof[..], &[SumNode::PADDING]].concat()));
    }
}

/// Folds a leaf up along its siblings.
fn climb(mut node: B256, position: usize, siblings: &[B256]) -> B256 {
    for (height, sibling) in siblings.iter().enumerate() {
        node = if position >> height & 1 == 0 { pair(node, *sibling) } else { pair(*sibling, node) };
    }
    node
}

#[test]
fn every_chunk_of_a_region_leads_to_its_root() {
    for length in [1usize, 31, 4_096, 4_097, 3 * 4_096, 20_000] {
        let bytes: Vec<u8> = (0..length).map(|n| (n * n + 1) as u8).collect();
        let chunks = length.div_ceil(CHUNK_BYTES);
        for number in 0..chunks {
            let (part, siblings) = chunk_proof(&bytes, number as u32);
            assert_eq!(part, &bytes[number * CHUNK_BYTES..length.min((number + 1) * CHUNK_BYTES)]);
            let words = part.chunks(32).map(B256::right_padding_from).collect();
            let node = fold(words, B256::ZERO, REGION_DEPTH - CHUNK_DEPTH, pair);
            assert_eq!(siblings.len(), CHUNK_DEPTH);
            assert_eq!(climb(node, number, &siblings), region_root(&bytes), "chunk {number} of {length} bytes");
        }
        assert_eq!(chunk_proof(&bytes, chunks as u32), (&[][..], Vec::new()), "past the end");
    }
}

#[test]
fn a_bound_tree_is_its_makers_alone() {
    for count in [1, 2, 3, 5, 8] {
        let leaves: Vec<_> = (0..count).map(leaf).collect();
        let tree = BoundTree::new(Address::repeat_byte(7), &leaves);
        assert_ne!(tree.root(), BoundTree::new(Address::repeat_byte(8), &leaves).root());
        for (position, leaf) in leaves.iter().enumerate() {
            let proof = tree.proof(position);
            assert_eq!(proof.len(), ResultTree::new(&leaves).unwrap().proof(position).len(), "the result tree's depth");
            assert_eq!(climb(tree.leaves[position], position, &proof), tree.root());
            assert_ne!(tree.leaves[position], leaf.hash());
        }
    }
}
