//! Where a peer can be dialled.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Most addresses taken from a published hint.
pub(super) const MAX_HINTS: usize = 8;

/// An endpoint id and addresses to try, as registrations and jobs carry them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeerContact {
    /// ed25519 public key of the iroh endpoint.
    pub endpoint: [u8; 32],
    /// Direct addresses.
    pub hints: Vec<SocketAddr>,
}

impl PeerContact {
    /// A contact as it can be published: in order, so that the same addresses are the same hint, and no more than are read.
    pub(super) fn new(endpoint: [u8; 32], mut hints: Vec<SocketAddr>) -> Self {
        hints.sort_unstable();
        hints.dedup();
        hints.truncate(MAX_HINTS);
        Self { endpoint, hints }
    }

    /// Adds addresses that the same endpoint has published elsewhere, as far as there is room.
    pub(crate) fn extend(&mut self, hints: &[SocketAddr]) {
        for hint in hints {
            if self.hints.len() < 2 * MAX_HINTS && !self.hints.contains(hint) {
                self.hints.push(*hint);
            }
        }
    }

    /// Reads what somebody published; parts that are no addresses are passed over.
    pub fn parse(endpoint: [u8; 32], hint: &str) -> Self {
        let hints = hint.split(',').filter_map(|part| part.trim().parse().ok()).take(MAX_HINTS).collect();
        Self { endpoint, hints }
    }

    /// The addresses as they are published: `127.0.0.1:4433,[::1]:4433`.
    pub fn hint_text(&self) -> String {
        self.hints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_read_as_they_are_written_and_rubbish_is_passed_over() {
        let contact = PeerContact::parse([7; 32], "127.0.0.1:4433,[::1]:5");
        assert_eq!(contact.hints.len(), 2);
        assert_eq!(PeerContact::parse([7; 32], &contact.hint_text()), contact);
        let hostile = format!("{}nonsense,1.2.3.4:x,{}", "\u{1b}[31m,", "9.9.9.9:1,".repeat(100));
        assert_eq!(PeerContact::parse([7; 32], &hostile).hints.len(), MAX_HINTS);
    }
}
