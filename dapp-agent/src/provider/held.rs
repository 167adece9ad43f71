//! Outputs that nobody may have yet: files that no endpoint serves, in a folder a batch.
//!
//! What several providers execute is served only once its result is believed: else a requester could post what is never decided,
//! and have its work for nothing.

use std::{
    io,
    path::{Path, PathBuf},
};

use alloy::primitives::hex;
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
            Err(error) => Err(io_error(&path)(error)),
        }
    }

    /// Has `node` serve all blobs of a batch, which are no longer held then.
    pub(super) async fn publish(&self, id: BatchId, node: &Node) -> Result<(), Error> {
        let folder = self.batch(id);
        let mut files = match tokio::fs::read_dir(&folder).await {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error(&folder)(error)),
        };
        while let Some(file) = files.next_entry().await.map_err(io_error(&folder))? {
            let path = file.path();
            node.put(tokio::fs::read(&path).await.map_err(io_error(&path))?).await?;
        }
        self.discard(id).await;
        Ok(())
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
    use alloy::primitives::B256;

    use super::*;
    use crate::net::{NetworkSettings, Node, NodeConfig};

    #[tokio::test]
    async fn what_is_held_is_not_served_until_it_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let config = NodeConfig {
            data_dir: folder.path().to_owned(),
            bind: ([127, 0, 0, 1], 0).into(),
            network: NetworkSettings::default(),
        };
        let node = Node::start(config).await.unwrap();
        let held = Held::new(folder.path());
        let id = (B256::repeat_byte(1), 3);
        let hash = held.put(id, "secret".into()).await.unwrap();
        assert_eq!(node.get(&hash).await.unwrap(), None);
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
        assert_eq!(std::fs::read_dir(&held.folder).unwrap().count(), 0);
        node.shutdown().await;
    }
}
