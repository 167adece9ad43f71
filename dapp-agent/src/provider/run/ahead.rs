//! What is got ready before it is needed: inputs of the next batches, and what the core's choice goes by.

use std::time::{Duration, Instant};

use alloy::providers::Provider;

use super::{super::Running, Agent};
use crate::core::{Conditions, Event};

/// Time between questions for the price of gas.
const GAS_PRICE: Duration = Duration::from_secs(10);

/// An endpoint that does not answer within this time is asked again later.
const ANSWER: Duration = Duration::from_secs(5);

impl<T: FnMut(Running)> Agent<T> {
    /// Has the inputs of the batches fetched that are executed next.
    pub(super) fn fetch_ahead(&mut self) {
        let next = self.core.next(self.follower.index());
        self.ahead.retain(|id| next.contains(id));
        for id in next {
            let Some(prepared) = self.prepared.get(&id.0).cloned().filter(|_| self.ahead.insert(id)) else { continue };
            let (executor, peers) = (self.executor.clone(), self.peers(id.0));
            self.tasks.spawn(async move { executor.fetch_ahead(id, &prepared, &peers).await });
        }
    }

    /// Tells the core what gas costs and how fast data comes.
    pub(super) async fn measure(&mut self) {
        let bytes_per_second = self.executor.line.bytes_per_second();
        let mut conditions = Conditions { bytes_per_second, ..self.conditions };
        if self.weighs_gas && self.priced.is_none_or(|at| at.elapsed() >= GAS_PRICE) {
            self.priced = Some(Instant::now());
            // What it cost last stands if nobody says otherwise.
            if let Ok(Ok(price)) = tokio::time::timeout(ANSWER, self.sender.provider().get_gas_price()).await {
                conditions.gas_price = price;
            }
        }
        self.conditions = conditions;
        self.step(Event::Conditions(conditions));
    }
}
