//! What a member says of itself, signed, so that anybody may pass it on.

use std::net::SocketAddr;

use iroh::{EndpointId, SecretKey, Signature};
use serde::{Deserialize, Serialize};

use super::Book;
use crate::{manifest::BlobHash, net::contact::MAX_HINTS};

/// Longest notice, bytes, without its signature. Whoever has other limits than these, or other fields, needs another
/// [`VERSION`](crate::net::wire::VERSION): those with lower ones take a longer notice for forged.
pub const MAX_NOTICE: usize = 2 << 10;

/// Most blobs that a notice names.
pub const MAX_HOLDS: usize = 32;

/// What signatures are made for begins with this: a signature for anything else is none of a notice.
const DOMAIN: &[u8] = b"conun notice 1";

/// Where an endpoint is and what it holds, as of the time of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Who says so: its endpoint id, an ed25519 public key.
    pub author: [u8; 32],
    /// Time of the latest block that it had seen, UNIX seconds.
    pub time: u64,
    /// Its clock, UNIX milliseconds: which of two notices of one block is the later one, and nothing else.
    pub clock: u64,
    /// Direct addresses.
    pub hints: Vec<SocketAddr>,
    /// Programs and input manifests of jobs, by BLAKE3 hash, that it serves to those who may have them.
    pub holds: Vec<BlobHash>,
}

impl Notice {
    /// Whether it replaces another one of its author.
    pub(super) fn is_later_than(&self, other: &Self) -> bool {
        (self.time, self.clock) > (other.time, other.clock)
    }

    /// Whether it says nothing but that its author is still there.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        (&self.hints, &self.holds) == (&other.hints, &other.holds)
    }

    /// For one deployment: in no other it counts.
    pub(super) fn sign(&self, key: &SecretKey, book: &Book) -> SignedNotice {
        let body = postcard::to_allocvec(self).expect("a list in memory has no limit");
        let signature = key.sign(&message(book, &body));
        SignedNotice { body, signature }
    }
}

/// A notice as it is passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedNotice {
    /// The [`Notice`], in postcard's encoding.
    pub body: Vec<u8>,
    /// Its author's, of the words `conun notice 1`, the chain's id (8 bytes, big-endian), the address of `Deployment`, and the body.
    pub signature: Signature,
}

/// Nobody has signed it, or it is longer than any: whoever passes it on has not looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) struct Forged;

impl SignedNotice {
    /// What it says, whoever says so.
    pub(super) fn read(&self) -> Result<Notice, Forged> {
        if self.body.len() > MAX_NOTICE {
            return Err(Forged);
        }
        match postcard::take_from_bytes::<Notice>(&self.body) {
            Ok((notice, [])) if notice.hints.len() <= MAX_HINTS && notice.holds.len() <= MAX_HOLDS => Ok(notice),
            _ => Err(Forged),
        }
    }

    /// That its author says so, to members of this deployment.
    pub(super) fn verify(&self, notice: &Notice, book: &Book) -> Result<(), Forged> {
        let author = EndpointId::from_bytes(&notice.author).map_err(|_| Forged)?;
        author.verify(&message(book, &self.body), &self.signature).map_err(|_| Forged)
    }
}

fn message(book: &Book, body: &[u8]) -> Vec<u8> {
    [DOMAIN, &book.deployment, body].concat()
}
