//! Outputs that nobody may have yet: files that no endpoint serves, in a folder a batch.
//!
//! What several providers execute is served only once its result is believed: else a requester could post what is never decided,
//! and have its work for nothing.

use std::{
    io,
    path::{Path, PathBuf},
};

use alloy::primitives::{B256, hex};
use bytes::Bytes;

use super::{Error, io_error};
use crate::{
    core::BatchId,
    manifest::{BlobHash, blob_hash},
    net::Node,
};

/// The folder of them all.
#[derive(Clone, Debug)]
pub(super) struct Held {
    folder: PathBuf,
}

impl Held {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("held") }
    }

    fn batch(&self, (job, number): BatchId) -> PathBuf {
        self.folder.join(hex::encode(job)).join(number.to_string())
    }

    /// Keeps a blob of a batch.
    pub(super) async fn put(&self, id: BatchId, bytes: Bytes) -> Result<BlobHash, Error> {
        let hash = blob_hash(&bytes);
        let folder = self.batch(id);
        tokio::fs::create_dir_all(&folder).await.map_err(io_error(&folder))?;
        let path = folder.join(hex::encode(hash));
        tokio::fs::write(&path, bytes).await.map_err(io_error(&path))?;
        Ok(hash)
    }

    /// A blob of a batch; none if a crash has cut it off.
    pub(super) async fn get(&self, id: BatchId, hash: &BlobHash) -> Result<Option<Bytes>, Error> {
        let path = self.batch(id).join(hex::encode(hash));
        match tokio::fs::read(&path).await {
            Ok(bytes) => Ok((blob_hash(&bytes) == *hash).then(|| bytes.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&path)(error).into()),
        }
    }

    /// Has `node` serve the files of a batch as they are.
    pub(super) async fn lend(&self, id: BatchId, node: &Node) -> Result<Vec<PathBuf>, Error> {
        let folder = self.batch(id);
        let mut files = match tokio::fs::read_dir(&folder).await {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error(&folder)(error).into()),
        };
        let mut lent = Vec::new();
        while let Some(file) = files.next_entry().await.map_err(io_error(&folder))? {
            let name = file.file_name();
            // What nobody has put here is nobody's to have.
            let Some(hash) = name.to_str().and_then(|name| name.parse::<B256>().ok()) else { continue };
            node.lend(&hash.0, file.path());
            lent.push(file.path());
        }
        Ok(lent)
    }

    /// Has `node` serve all blobs of a batch, which are no longer held then; as long as its store takes none, from the files.
    pub(super) async fn publish(&self, id: BatchId, node: &Node) -> Result<(), Error> {
        for path in self.lend(id, node).await? {
            node.put(tokio::fs::read(&path).await.map_err(io_error(&path))?).await?;
        }
        // On a disk that is just filling up the store may fail after it has taken them.
        node.sync().await?;
        node.take_back(&self.batch(id));
        self.discard(id).await;
        Ok(())
    }

    /// Jobs of which something is held.
    pub(super) async fn jobs(&self) -> Vec<B256> {
        let mut jobs = Vec::new();
        // There is no folder before anything was held.
        let Ok(mut folders) = tokio::fs::read_dir(&self.folder).await else { return jobs };
        while let Ok(Some(folder)) = folders.next_entry().await {
            let name = folder.file_name();
            jobs.extend(name.to_str().and_then(|name| name.parse::<B256>().ok()));
        }
        jobs
    }

    /// Deletes what is held of a batch.
    pub(super) async fn discard(&self, id: BatchId) {
        let folder = self.batch(id);
        // It may never have held anything.
        let _ = tokio::fs::remove_dir_all(&folder).await;
        if let Some(job) = folder.parent() {
            // The last one takes the job's folder along.
            let _ = tokio::fs::remove_dir(job).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::tests::node;

    #[tokio::test]
    async fn what_is_held_is_not_served_until_it_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let node = node(folder.path()).await;
        let held = Held::new(folder.path());
        let id = (B256::repeat_byte(1), 3);
        let hash = held.put(id, "secret".into()).await.unwrap();
        assert_eq!(node.get(&hash).await.unwrap(), None);
        assert_eq!(held.jobs().await, [id.0]);
        assert_eq!(held.get((id.0, 4), &hash).await.unwrap(), None, "another batch's");
        assert_eq!(held.get(id, &hash).await.unwrap(), Some("secret".into()));
        held.publish(id, &node).await.unwrap();
        assert_eq!(node.get(&hash).await.unwrap(), Some("secret".into()));
        assert_eq!(held.get(id, &hash).await.unwrap(), None);
        held.publish(id, &node).await.unwrap();

        // Half a file is none.
        let hash = held.put(id, "another one".into()).await.unwrap();
        std::fs::write(held.batch(id).join(hex::encode(hash)), "ano").unwrap();
        assert_eq!(held.get(id, &hash).await.unwrap(), None);
        held.discard(id).await;
        assert!(held.jobs().await.is_empty());
        assert_eq!(std::fs::read_dir(&held.folder).unwrap().count(), 0);
        node.shutdown().await;
    }
}
