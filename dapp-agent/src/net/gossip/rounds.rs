//! The rounds: with whom notices are exchanged, and when.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{AWAY, Forged, MAX_NOTICES, UNWILLING, draw};
use crate::net::{
    Failure, Inner, Node, hex,
    wire::{Answer, Request},
};

/// Most partners that are tried in a round.
const TRIES: usize = 3;

/// Time until it is looked at again whether this member has moved, or has come by partners.
const LOOK: Duration = Duration::from_secs(5);

/// Exchanges notices until the node is gone.
pub(in crate::net) async fn run(node: Weak<Inner>) {
    loop {
        let begun = Instant::now();
        // Not all members at once.
        let haste = f64::from(75 + draw(50) as u32) / 100.0;
        let Some(inner) = node.upgrade() else { return };
        Node { inner }.gossip_round().await;
        loop {
            let Some(inner) = node.upgrade() else { return };
            let node = Node { inner };
            let Some((gossip, book)) = node.gossip() else { return };
            let pause = gossip.pause(&book, &node.contact().hints);
            drop(node);
            let left = pause.mul_f64(haste).saturating_sub(begun.elapsed());
            if left == Duration::ZERO {
                break;
            }
            // What comes meanwhile may be told sooner.
            let _ = timeout(left.min(LOOK), gossip.changed.notified()).await;
        }
    }
}

impl Node {
    /// Tells one partner what is news here, and hears what is there.
    async fn gossip_round(&self) {
        let Some((gossip, book)) = self.gossip() else { return };
        gossip.begin();
        gossip.renew(&book, &self.contact().hints);
        for _ in 0..TRIES {
            let Some(partner) = gossip.partner(&book) else { return };
            let (authors, news) = gossip.news(&partner.endpoint);
            let (time, failure) = match self.ask(&partner, &Request::Exchange(news)).await {
                Ok(Answer::Notices(notices)) if notices.len() <= MAX_NOTICES => match gossip.take(&book, &notices) {
                    Ok(_) => return gossip.told(&book, &partner.endpoint, &authors),
                    Err(Forged) => (UNWILLING, Failure::NotDelivered("it passes on what nobody has signed".to_owned())),
                },
                Ok(Answer::Refused(refusal)) => (UNWILLING, Failure::Refused(refusal)),
                Ok(_) => (UNWILLING, Failure::NotDelivered("another answer than to what was asked".to_owned())),
                Err(failure) => (AWAY, failure),
            };
            tracing::debug!(target: "conun::net", peer = %hex(&partner.endpoint), %failure, "no exchange");
            gossip.shun(&partner.endpoint, time);
        }
    }
}
