//! Which journals new partitions go to. Pure.

use std::collections::BTreeMap;

use tidemark_model::{JournalId, Partition};

/// A journal that has a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: JournalId,
    pub(crate) replicas: usize,
    /// Whether its leader is there now.
    pub(crate) live: bool,
    pub(crate) partitions: usize,
}

/// Why partitions have no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// No storage node has opened a journal yet.
    NoJournals,
    /// The most replicas that any journal has.
    TooFewReplicas(usize),
}

/// Journals with what was placed on them since they were read, so that one request spreads over them.
#[derive(Debug)]
pub(crate) struct Placement {
    candidates: Vec<Candidate>,
}

impl Placement {
    pub(crate) fn new(candidates: Vec<Candidate>) -> Self {
        Self { candidates }
    }

    /// Places `count` partitions of this replication factor, each on the journal that has the fewest, then the lowest
    /// id. Journals whose leader is away get partitions only where no other fits: they will be back.
    pub(crate) fn place(&mut self, count: usize, replication_factor: i16) -> Result<Vec<Partition>, NoPlace> {
        let most = self.candidates.iter().map(|journal| journal.replicas).max().ok_or(NoPlace::NoJournals)?;
        let replicas = usize::try_from(replication_factor).unwrap_or(0);
        let fits = |journal: &&mut Candidate| journal.replicas == replicas;
        let any_live = self.candidates.iter().any(|journal| journal.replicas == replicas && journal.live);
        // By load, then by id: each place is found in the logarithm of the number of journals.
        let mut queue: BTreeMap<(usize, JournalId), &mut Candidate> = self
            .candidates
            .iter_mut()
            .filter(fits)
            .filter(|journal| journal.live || !any_live)
            .map(|journal| ((journal.partitions, journal.id), journal))
            .collect();
        let mut placed = Vec::with_capacity(count);
        for _ in 0..count {
            let (_, journal) = queue.pop_first().ok_or(NoPlace::TooFewReplicas(most))?;
            journal.partitions += 1;
            // A fresh topic's leader epochs are its journal's.
            placed.push(Partition { journal: journal.id, epoch_base: 0 });
            queue.insert((journal.partitions, journal.id), journal);
        }
        Ok(placed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(id: u32, replicas: usize, live: bool, partitions: usize) -> Candidate {
        Candidate { id: JournalId(id), replicas, live, partitions }
    }

    fn place(placement: &mut Placement, count: usize, replication_factor: i16) -> Result<Vec<u32>, NoPlace> {
        let placed = placement.place(count, replication_factor)?;
        Ok(placed.iter().map(|partition| partition.journal.0).collect())
    }

    #[test]
    fn the_least_loaded_journal_comes_first_then_the_lowest_id() {
        let mut placement =
            Placement::new(vec![journal(3, 1, true, 0), journal(1, 1, true, 2), journal(2, 1, true, 0)]);
        assert_eq!(place(&mut placement, 5, 1), Ok(vec![2, 3, 2, 3, 1]));
        assert_eq!(place(&mut placement, 1, 1), Ok(vec![2]), "what was placed before counts");
    }

    #[test]
    fn a_topic_lives_on_journals_of_its_replication_factor() {
        let mut placement = Placement::new(vec![journal(1, 1, true, 0), journal(2, 3, true, 9)]);
        assert_eq!(place(&mut placement, 2, 3), Ok(vec![2, 2]));
        assert_eq!(place(&mut placement, 1, 2), Err(NoPlace::TooFewReplicas(3)));
        assert_eq!(place(&mut placement, 1, 4), Err(NoPlace::TooFewReplicas(3)));
        assert_eq!(place(&mut Placement::new(vec![]), 1, 1), Err(NoPlace::NoJournals));
    }

    #[test]
    fn a_journal_whose_leader_is_away_is_the_last_choice() {
        let mut placement = Placement::new(vec![journal(1, 1, false, 0), journal(2, 1, true, 9)]);
        assert_eq!(place(&mut placement, 1, 1), Ok(vec![2]));
        let mut placement = Placement::new(vec![journal(1, 1, false, 0)]);
        assert_eq!(place(&mut placement, 1, 1), Ok(vec![1]));
    }
}
