//! Keeps the blobs of jobs within the disk space that the owner gives.

use std::{collections::HashSet, sync::Arc, time::Duration};

use alloy::primitives::{Address, B256};
use conun_bindings::job;

use crate::{
    chain::{BatchStage, JobEntry, ReplicaStage},
    core::BatchId,
    manifest::{BlobHash, InputManifest, ResultManifest},
    net::{Cleaned, Error, Node},
    store::ResultRecord,
};

/// Time between looks at how much there is.
pub(super) const CLEAN: Duration = Duration::from_secs(60);

/// Most bytes of blobs for an owner's limit of the data folder, where there is one. The rest is for what else is in it: at the limit
/// itself nothing new would be taken any more.
pub(super) fn most(limit_gb: u64) -> Option<u64> {
    (limit_gb != 0).then(|| limit_gb.saturating_mul(900_000_000))
}

/// A job in which this provider has something at stake: what it needs, and the batches that are its own.
#[derive(Clone, Debug)]
pub(super) struct Stake {
    program: BlobHash,
    inputs: BlobHash,
    batches: Vec<(std::ops::Range<u32>, Option<BlobHash>)>,
}

fn holds(entry: &JobEntry, number: u32, me: Address) -> bool {
    if let Some((_, ballot)) = entry.ballot(number) {
        let mine = ballot.stage_of(me).is_some_and(|stage| stage != ReplicaStage::Done);
        return mine && !ballot.is_final();
    }
    let batch = &entry.batches[number as usize];
    batch.provider == me && matches!(batch.stage, BatchStage::Leased | BatchStage::Submitted | BatchStage::Frozen)
}

/// Those of `jobs` with batches that are leased, voted about, in their window or in dispute.
pub(super) fn stakes(
    jobs: &[(B256, Arc<JobEntry>)],
    me: Address,
    result: impl Fn(BatchId) -> Option<ResultRecord>,
) -> Vec<Stake> {
    let of_job = |(id, entry): &(B256, Arc<JobEntry>)| {
        let numbers = (0..entry.batch_count() as u32).filter(|number| holds(entry, *number, me));
        let own = |number| (job::tasks_in(&entry.job, number), result((*id, number)).map(|kept| kept.outputs.0));
        let batches: Vec<_> = numbers.map(own).collect();
        let stake = Stake { program: entry.spec.program.0, inputs: entry.spec.inputs.0, batches };
        (!stake.batches.is_empty()).then_some(stake)
    };
    jobs.iter().filter(|(_, entry)| !entry.is_over()).filter_map(of_job).collect()
}

/// Drops what has not been used for longest, if the blobs have more than `most` bytes; nothing that a batch at stake needs.
pub(super) async fn clean(node: &Node, stakes: Vec<Stake>, most: u64) -> Result<Cleaned, Error> {
    let mut pinned = HashSet::new();
    for stake in stakes {
        pinned.extend([stake.program, stake.inputs]);
        if let Some(bytes) = node.look_at(&stake.inputs).await?
            && let Ok(manifest) = InputManifest::decode(&bytes)
        {
            pinned.extend(manifest.files.iter().map(|file| file.hash));
            let tasks = stake.batches.iter().flat_map(|(tasks, _)| tasks.clone());
            pinned.extend(tasks.filter_map(|task| manifest.tasks.get(task as usize)).map(|input| input.hash));
        }
        for outputs in stake.batches.into_iter().filter_map(|(_, outputs)| outputs) {
            pinned.insert(outputs);
            if let Some(bytes) = node.look_at(&outputs).await?
                && let Ok(manifest) = ResultManifest::decode(&bytes)
            {
                pinned.extend(manifest.results.iter().map(|result| result.output.hash));
            }
        }
    }
    let cleaned = node.clean(most, &pinned).await?;
    if cleaned.dropped > 0 {
        let Cleaned { dropped, dropped_bytes, bytes } = cleaned;
        tracing::info!(target: "conun::provider", dropped, dropped_bytes, bytes, "blobs not used for longest are gone");
    }
    Ok(cleaned)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        manifest::{Content, SharedFile, TaskResult, blob_hash},
        provider::tests::node,
    };

    #[tokio::test]
    async fn what_a_batch_at_stake_needs_stays_and_the_rest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path()).await;
        let put = async |text: &'static str| node.put(text).await.unwrap();
        let files = [Bytes::from_static(b"shared")];
        let mut inputs = InputManifest::default();
        inputs.files.push(SharedFile { path: "a".to_owned(), hash: put("shared").await, length: 6 });
        for text in ["one", "two", "three"] {
            inputs.push(text.as_bytes(), &files).unwrap();
        }
        let result = |text: &str| {
            let outcome = conun_vm::Outcome::Ok { exit_code: 0 };
            TaskResult { outcome, fuel: 1, output: Content::of(text.as_bytes()) }
        };
        let results = ResultManifest { job: B256::ZERO, batch: 1, results: vec![result("out two")] };
        let stake = Stake {
            program: put("program").await,
            inputs: node.put(inputs.encode()).await.unwrap(),
            batches: vec![(1..2, Some(node.put(results.encode()).await.unwrap())), (2..3, None)],
        };
        let needed = ["shared", "two", "three", "out two", "program"];
        let others = ["one", "out one", "another program"];
        for text in needed.into_iter().chain(others) {
            put(text).await;
        }
        // Pinned ones were used first.
        let cleaned = clean(&node, vec![stake], 10).await.unwrap();
        assert_eq!(cleaned.dropped, others.len(), "{cleaned:?}");
        for text in needed {
            assert!(node.look_at(&blob_hash(text.as_bytes())).await.unwrap().is_some(), "{text}");
        }
        let cleaned = clean(&node, Vec::new(), 0).await.unwrap();
        assert_eq!((cleaned.dropped, cleaned.bytes), (needed.len() + 2, 0));
        node.shutdown().await;
    }

    #[test]
    fn the_owners_limit_leaves_room_for_the_rest_and_none_is_none() {
        assert_eq!((most(0), most(10), most(u64::MAX)), (None, Some(9_000_000_000), Some(u64::MAX)));
    }
}
