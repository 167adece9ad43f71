//! A job's batches. Most are open and were never anything else: they take a pointer each.

use super::{BatchEntry, BatchStage};

/// A batch that is stored only if it is not new.
type Slot = Option<Box<BatchEntry>>;

/// Batches by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batches(Vec<Slot>);

impl Batches {
    /// So many that nobody has leased yet.
    pub fn new(count: usize) -> Self {
        Self(vec![None; count])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The batch of this number.
    pub fn get(&self, number: usize) -> Option<&BatchEntry> {
        self.0.get(number).map(entry)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, number: usize) -> Option<&mut BatchEntry> {
        self.0.get_mut(number).map(|batch| &mut **batch.get_or_insert_with(|| Box::new(BatchEntry::NEW)))
    }

    /// All, in order.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter().map(entry as fn(&Slot) -> &BatchEntry)
    }

    /// Those that are open are cancelled.
    pub fn cancel_open(&mut self) {
        for number in 0..self.len() {
            if self[number].stage == BatchStage::Open
                && let Some(batch) = self.get_mut(number)
            {
                batch.stage = BatchStage::Cancelled;
            }
        }
    }
}

/// Goes through batches in order.
type Iter<'a> = std::iter::Map<std::slice::Iter<'a, Slot>, fn(&Slot) -> &BatchEntry>;

fn entry(slot: &Slot) -> &BatchEntry {
    slot.as_deref().unwrap_or(&BatchEntry::NEW)
}

impl<'a> IntoIterator for &'a Batches {
    type Item = &'a BatchEntry;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<BatchEntry> for Batches {
    fn from_iter<I: IntoIterator<Item = BatchEntry>>(batches: I) -> Self {
        Self(batches.into_iter().map(|batch| (batch != BatchEntry::NEW).then(|| Box::new(batch))).collect())
    }
}

impl std::ops::Index<usize> for Batches {
    type Output = BatchEntry;

    fn index(&self, number: usize) -> &BatchEntry {
        entry(&self.0[number])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_new_until_it_is_changed() {
        let mut batches = Batches::new(3);
        batches.get_mut(1).unwrap().stage = BatchStage::Leased;
        let stages = |batches: &Batches| batches.iter().map(|batch| batch.stage).collect::<Vec<_>>();
        assert_eq!(stages(&batches), [BatchStage::Open, BatchStage::Leased, BatchStage::Open]);
        assert_eq!((&batches[0], batches.get(3)), (&BatchEntry::NEW, None));
        assert_eq!(batches.get_mut(3), None);
        assert_eq!(batches.iter().cloned().collect::<Batches>(), batches);
        batches.cancel_open();
        assert_eq!(stages(&batches), [BatchStage::Cancelled, BatchStage::Leased, BatchStage::Cancelled]);
    }
}
