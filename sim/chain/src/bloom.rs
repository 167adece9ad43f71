//! Bloom filters of a block's logs. The same contracts, events and accounts come again and again: each is hashed once.

use alloy::primitives::{
    Address, B256, Bloom, Log, keccak256,
    map::{AddressMap, B256Map},
};

/// Hashes of what logs of a block name.
#[derive(Default)]
pub(crate) struct Blooms {
    contracts: AddressMap<B256>,
    topics: B256Map<B256>,
}

impl Blooms {
    /// The filter of some logs.
    pub(crate) fn of(&mut self, logs: &[Log]) -> Bloom {
        let mut bloom = Bloom::ZERO;
        for log in logs {
            bloom.m3_2048_hashed(self.contract(log.address));
            for topic in log.topics() {
                bloom.m3_2048_hashed(self.topics.entry(*topic).or_insert_with(|| keccak256(topic)));
            }
        }
        bloom
    }

    fn contract(&mut self, address: Address) -> &B256 {
        self.contracts.entry(address).or_insert_with(|| keccak256(address))
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Bytes, logs_bloom};

    use super::*;

    #[test]
    fn filters_are_those_of_alloy() {
        let log = |contract: u8, topics: &[u8]| {
            let topics = topics.iter().map(|topic| B256::repeat_byte(*topic)).collect();
            Log::new_unchecked(Address::repeat_byte(contract), topics, Bytes::new())
        };
        let mut blooms = Blooms::default();
        for logs in [vec![], vec![log(1, &[])], vec![log(1, &[1, 2]), log(2, &[2, 3, 1])], vec![log(2, &[3])]] {
            assert_eq!(blooms.of(&logs), logs_bloom(&logs));
        }
    }
}
