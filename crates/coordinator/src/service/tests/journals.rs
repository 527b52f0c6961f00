use super::on_both;

on_both! { cases:
    a_log_that_is_opened_again_leads_its_journal_in_a_higher_epoch;
    a_new_log_gets_a_new_journal_and_the_lost_one_has_no_leader;
    a_node_leads_the_journal_of_each_log_that_it_has;
    a_log_that_fell_out_of_sync_is_fenced;
    a_copy_of_a_log_that_failed_takes_its_place_once_and_only_where_it_was_alone_in_sync;
    journals_opened_at_once_are_different_ones;
}

mod cases {
    use std::collections::BTreeSet;

    use tidemark_model::{CoordinatorError, Journal, JournalId, NodeId, RecordKey, Replica};

    use super::super::harness::*;
    use crate::records::{Keys, encode_journal};
    use crate::store::{Commit, Txn};

    fn replica(node: i32, incarnation: u64) -> Replica {
        Replica { node: NodeId(node), incarnation }
    }

    pub(super) async fn a_log_that_is_opened_again_leads_its_journal_in_a_higher_epoch(store: Store) {
        let (a, b) = (coordinator(&store).await, coordinator(&store).await);
        let first = open(&a, NodeId(4), 70).await.unwrap();
        let copies = vec![replica(4, 70)];
        let expected = Journal { id: JournalId(1), epoch: 1, leader: NodeId(4), replicas: copies.clone(), isr: copies };
        assert_eq!(first, expected);
        let again = open(&b, NodeId(4), 70).await.unwrap();
        assert_eq!(again, Journal { epoch: 2, ..expected });
        let mut node = Node::observer(&a, "g").await;
        node.until(|state| state.journal(first.id).is_some_and(|journal| **journal == again)).await;
    }

    pub(super) async fn a_new_log_gets_a_new_journal_and_the_lost_one_has_no_leader(store: Store) {
        let service = coordinator(&store).await;
        let lost = open(&service, NodeId(4), 70).await.unwrap();
        let other = open(&service, NodeId(5), 71).await.unwrap();
        create(&service, sized("old", 2)).await.unwrap();
        let new = open(&service, NodeId(4), 72).await.unwrap();
        assert_eq!((new.id, new.epoch, new.leader), (JournalId(3), 1, NodeId(4)));
        let mut node = Node::observer(&service, "g").await;
        node.until(|state| state.journal(new.id).is_some()).await;
        let leaderless = Journal { epoch: 2, leader: NodeId(-1), ..lost.clone() };
        assert_eq!(**node.state.journal(lost.id).unwrap(), leaderless);
        assert_eq!(**node.state.journal(other.id).unwrap(), other, "another node's is left alone");
        let placed: BTreeSet<JournalId> =
            create(&service, sized("new", 9)).await.unwrap().topic.partitions.iter().map(|p| p.journal).collect();
        assert_eq!(placed, BTreeSet::from([other.id, new.id]), "nothing new goes to the lost one");

        // The disk is found again.
        let found = open(&service, NodeId(4), 70).await.unwrap();
        assert_eq!(found, Journal { epoch: 3, ..lost });
        node.until(|state| state.journal(new.id).is_some_and(|journal| journal.leader == NodeId(-1))).await;
    }

    pub(super) async fn a_node_leads_the_journal_of_each_log_that_it_has(store: Store) {
        let service = coordinator(&store).await;
        let first = open_of(&service, NodeId(4), 70, &[70, 71], None).await.unwrap();
        let second = open_of(&service, NodeId(4), 71, &[70, 71], None).await.unwrap();
        let mut node = Node::observer(&service, "g").await;
        node.until(|state| state.journal(second.id).is_some()).await;
        assert_eq!(**node.state.journal(first.id).unwrap(), first, "the other log is still there");

        // The second disk was replaced.
        let third = open_of(&service, NodeId(4), 72, &[70, 72], None).await.unwrap();
        assert_eq!((third.id, third.epoch), (JournalId(3), 1));
        node.until(|state| state.journal(third.id).is_some()).await;
        assert_eq!(**node.state.journal(first.id).unwrap(), first);
        assert_eq!(node.state.journal(second.id).unwrap().leader, NodeId(-1));
    }

    pub(super) async fn a_copy_of_a_log_that_failed_takes_its_place_once_and_only_where_it_was_alone_in_sync(
        store: Store,
    ) {
        let service = coordinator(&store).await;
        let unknown = open_of(&service, NodeId(4), 80, &[80], Some(70)).await;
        assert!(matches!(unknown, Err(CoordinatorError::Fenced(_))), "{unknown:?}");
        let failed = open(&service, NodeId(4), 70).await.unwrap();
        let copies = vec![replica(4, 80)];
        let expected = Journal { epoch: 2, replicas: copies.clone(), isr: copies, ..failed };
        assert_eq!(open_of(&service, NodeId(4), 80, &[80], Some(70)).await.unwrap(), expected);
        // The answer was lost, or the node crashed before it noted it.
        let again = open_of(&service, NodeId(4), 80, &[80], Some(70)).await.unwrap();
        assert_eq!(again, Journal { epoch: 3, ..expected });

        let both = vec![replica(1, 10), replica(2, 20)];
        let journal = Journal { id: JournalId(9), epoch: 5, leader: NodeId(1), replicas: both.clone(), isr: both };
        let key = Keys::new("main").record(RecordKey::Journal(journal.id));
        assert_ne!(store.commit(Txn::new().put(key, encode_journal(&journal))).await.unwrap(), Commit::Conflict);
        let fenced = open_of(&service, NodeId(1), 11, &[11], Some(10)).await;
        assert!(matches!(fenced, Err(CoordinatorError::Fenced(_))), "{fenced:?}");
    }

    pub(super) async fn a_log_that_fell_out_of_sync_is_fenced(store: Store) {
        let service = coordinator(&store).await;
        let replicas = vec![replica(1, 10), replica(2, 20)];
        let isr = vec![replica(2, 20)];
        let journal = Journal { id: JournalId(9), epoch: 5, leader: NodeId(2), replicas, isr };
        let key = Keys::new("main").record(RecordKey::Journal(journal.id));
        let put = store.commit(Txn::new().put(key, encode_journal(&journal))).await.unwrap();
        assert_ne!(put, Commit::Conflict);
        let fenced = open(&service, NodeId(1), 10).await;
        assert!(matches!(fenced, Err(CoordinatorError::Fenced(_))), "{fenced:?}");
        assert_eq!(open(&service, NodeId(2), 20).await.unwrap(), Journal { epoch: 6, ..journal });
    }

    pub(super) async fn journals_opened_at_once_are_different_ones(store: Store) {
        let services = [coordinator(&store).await, coordinator(&store).await];
        let calls = (1..=8).map(|node| open(&services[node as usize % 2], NodeId(node), 7));
        let opened = futures::future::join_all(calls).await;
        let ids: BTreeSet<JournalId> = opened.into_iter().map(|journal| journal.unwrap().id).collect();
        assert_eq!(ids.len(), 8);
    }
}
