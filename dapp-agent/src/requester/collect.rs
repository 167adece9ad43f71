//! Fetches a batch's result and checks every byte of it against what the chain says.

use alloy::primitives::B256;
use bytes::Bytes;
use conun_bindings::{abi::JobRegistry::Job, job};

use super::view::Found;
use crate::{
    manifest::{Content, MAX_RESULT_MANIFEST, ResultManifest, TaskResult},
    net::{Node, PeerContact},
    provider::OUTPUT_BYTES,
};

/// A batch whose result is what its provider promised on chain.
#[derive(Clone, Debug)]
pub(super) struct Collected {
    /// Each task's result.
    pub(super) results: Vec<TaskResult>,
    /// Each task's output.
    pub(super) outputs: Vec<Bytes>,
}

/// Why a batch's result is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    /// It cannot be had, now.
    #[error("{0}")]
    Unavailable(#[from] crate::net::Error),
    /// It is not what the chain says.
    #[error("the result is not what its provider committed to: {0}")]
    Wrong(String),
}

/// Fetches and checks batch `number`. Of those who have the result, each with the hash of its manifest, the first that delivers does.
///
/// # Errors
/// What the last of them did wrong; that it cannot be had, if that is so of any.
pub(super) async fn collect(
    node: &Node,
    id: B256,
    job: &Job,
    number: u32,
    found: &Found,
    makers: Vec<([u8; 32], Vec<PeerContact>)>,
) -> Result<Collected, Rejection> {
    let mut rejection = Rejection::Wrong("nobody has it".to_owned());
    for (outputs, peers) in makers {
        match collect_from(node, id, job, number, found, (&outputs, &peers)).await {
            Ok(collected) => return Ok(collected),
            // It may be had later.
            Err(error) if matches!(rejection, Rejection::Wrong(_)) => rejection = error,
            Err(_) => {}
        }
    }
    Err(rejection)
}

async fn collect_from(
    node: &Node,
    id: B256,
    job: &Job,
    number: u32,
    found: &Found,
    (outputs, peers): (&[u8; 32], &[PeerContact]),
) -> Result<Collected, Rejection> {
    let wrong = |text: &str| Rejection::Wrong(text.to_owned());
    let bytes = node.fetch(outputs, peers, MAX_RESULT_MANIFEST).await?;
    let manifest = proved_manifest(&bytes, id, job, number, (found.root, found.fuel)).map_err(Rejection::Wrong)?;
    let mut outputs = Vec::with_capacity(manifest.results.len());
    for result in &manifest.results {
        if result.fuel > job.fuelLimit || result.output.length > OUTPUT_BYTES {
            return Err(wrong("a task burned or wrote more than it may"));
        }
        let output = node.fetch(&result.output.hash, peers, result.output.length).await?;
        if Content::of(&output) != result.output {
            return Err(wrong("an output's root or length differs"));
        }
        outputs.push(output);
    }
    Ok(Collected { results: manifest.results, outputs })
}

/// The manifest of batch `number`, if its tree is that of the result.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn proved_manifest(
    bytes: &[u8],
    id: B256,
    job: &Job,
    number: u32,
    (root, fuel): (B256, u64),
) -> Result<ResultManifest, String> {
    let manifest = ResultManifest::decode(bytes).map_err(|error| error.to_string())?;
    let tasks = job::tasks_in(job, number);
    if manifest.job != id || manifest.batch != number || manifest.results.len() != tasks.len() {
        return Err("its manifest is of another batch".to_owned());
    }
    let tree = manifest.tree(tasks.start).map_err(|error| error.to_string())?;
    if tree.root() != root || tree.fuel() != fuel {
        return Err("the result tree's root or fuel differs".to_owned());
    }
    Ok(manifest)
}
