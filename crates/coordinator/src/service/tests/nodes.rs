use super::on_both;

on_both! { cases:
    a_node_keeps_its_id_over_restarts_and_ids_are_of_one_node_each;
    a_node_is_in_the_state_while_its_stream_is_held_and_its_lease_after;
    a_node_that_leaves_is_gone_at_once_and_does_not_come_back;
    the_same_process_takes_its_registration_along_to_another_coordinator;
    a_new_process_replaces_the_one_before_for_good;
    a_lost_lease_is_had_again_and_the_stream_goes_on;
    who_resumes_gets_only_what_it_missed;
    who_resumes_too_late_gets_a_snapshot;
    who_follows_hears_now_and_then_that_nothing_changed;
    a_compacted_history_cuts_nobody_off;
    a_broker_that_ended_without_leaving_is_forgotten_in_the_end;
}

mod cases {
    use futures::StreamExt;
    use tidemark_model::{Coordinator, CoordinatorError, NodeId, Role};

    use super::super::harness::*;
    use crate::maintenance::compact_once;
    use crate::nodes::sweep;
    use crate::store::LeaseId;

    const HOUR: std::time::Duration = std::time::Duration::from_secs(3_600);

    fn alive(state: &tidemark_model::ClusterState, role: Role, id: NodeId) -> bool {
        state.node(role, id).is_some()
    }

    async fn lease_of(store: &Store, role: Role, id: NodeId) -> LeaseId {
        let key = format!("/tidemark/main/state/nodes/{}/{id}", role.as_str());
        store.get(&key).await.unwrap().unwrap().lease.unwrap()
    }

    pub(super) async fn a_node_keeps_its_id_over_restarts_and_ids_are_of_one_node_each(store: Store) {
        let (a, b) = (coordinator(&store).await, coordinator(&store).await);
        let one = Node::join(&a, registration(Role::Storage, "/data/1", 100)).await.id;
        let two = Node::join(&b, registration(Role::Storage, "/data/2", 100)).await.id;
        let gateway = Node::join(&b, registration(Role::Gateway, "/data/1", 100)).await.id;
        assert_eq!((one, two, gateway), (NodeId(1), NodeId(2), NodeId(1)), "roles number their own");
        drop((a, b));
        let later = coordinator(&store).await;
        let again = Node::join(&later, registration(Role::Storage, "/data/1", 101)).await;
        assert_eq!(again.id, one);
    }

    pub(super) async fn a_node_is_in_the_state_while_its_stream_is_held_and_its_lease_after(store: Store) {
        let service = coordinator(&store).await;
        let mut observer = Node::observer(&service, "g").await;
        let storage = Node::join(&service, registration(Role::Storage, "s", 1)).await;
        let id = storage.id;
        observer.until(|state| alive(state, Role::Storage, id)).await;
        let lease = lease_of(&store, Role::Storage, id).await;
        drop(storage);
        assert!(store.keep_alive(lease).await.is_ok(), "it has time to come back");
        observer.until(|state| !alive(state, Role::Storage, id)).await;
        assert!(store.keep_alive(lease).await.is_err());
        assert!(alive(&observer.state, Role::Gateway, observer.id), "its own stream is held");
    }

    pub(super) async fn a_node_that_leaves_is_gone_at_once_and_does_not_come_back(store: Store) {
        // With such a lease nothing goes by expiry.
        let service = start(&store, crate::Settings { node_lease: HOUR, ..settings() });
        let mut observer = Node::observer(&service, "g").await;
        for role in [Role::Storage, Role::Broker] {
            let node = Node::join(&service, registration(role, "n", 1)).await;
            let id = node.id;
            observer.until(|state| alive(state, role, id)).await;
            let other = service.leave(role, id, 2).await;
            assert!(matches!(other, Err(CoordinatorError::Fenced(_))), "another process is not asked: {other:?}");
            service.leave(role, id, 1).await.unwrap();
            observer.until(|state| !alive(state, role, id)).await;
            service.leave(role, id, 1).await.unwrap();
            drop(node);
        }
        let late = Node::try_join(&service, registration(Role::Storage, "n", 1), None).await;
        assert!(matches!(late, Err(CoordinatorError::Fenced(_))));
        assert_eq!(Node::join(&service, registration(Role::Storage, "n", 2)).await.id, NodeId(1));
    }

    pub(super) async fn the_same_process_takes_its_registration_along_to_another_coordinator(store: Store) {
        let (a, b) = (coordinator(&store).await, coordinator(&store).await);
        for role in [Role::Storage, Role::Broker] {
            let me = registration(role, "n", 5);
            let mut node = Node::join(&a, me.clone()).await;
            let id = node.id;
            node.until(|state| alive(state, role, id)).await;
            let lease = lease_of(&store, role, id).await;
            let before = node.state.revision;
            let seen = node.state.clone();
            drop(node);
            let again = Node::try_join(&b, me, Some(seen)).await.unwrap();
            assert_eq!(again.id, id);
            assert_eq!(lease_of(&store, role, id).await, lease, "its lease went with it");
            let entry = store.get(&format!("/tidemark/main/state/nodes/{}/{id}", role.as_str())).await.unwrap();
            assert!(entry.unwrap().revision <= before, "nobody else saw a change");
        }
    }

    pub(super) async fn a_new_process_replaces_the_one_before_for_good(store: Store) {
        let (a, b) = (coordinator(&store).await, coordinator(&store).await);
        // Incarnations are random numbers: the later may be the lower.
        let old = Node::join(&a, registration(Role::Storage, "s", 9)).await;
        let id = old.id;
        let mut new = Node::join(&b, registration(Role::Storage, "s", 3)).await;
        assert_eq!(new.id, id);
        assert!(matches!(old.ended_by().await, CoordinatorError::Fenced(_)));
        new.until(|state| state.node(Role::Storage, id).is_some_and(|node| node.incarnation == 3)).await;
        for service in [&a, &b] {
            let back = Node::try_join(service, registration(Role::Storage, "s", 9), None).await;
            assert!(matches!(back, Err(CoordinatorError::Fenced(_))), "a paused process wakes up");
        }
        assert!(store.keep_alive(lease_of(&store, Role::Storage, id).await).await.is_ok());
    }

    pub(super) async fn a_lost_lease_is_had_again_and_the_stream_goes_on(store: Store) {
        let service = coordinator(&store).await;
        let mut node = Node::join(&service, registration(Role::Storage, "s", 1)).await;
        let id = node.id;
        node.until(|state| alive(state, Role::Storage, id)).await;
        let lost = lease_of(&store, Role::Storage, id).await;
        store.revoke(lost).await.unwrap();
        node.until(|state| !alive(state, Role::Storage, id)).await;
        node.until(|state| alive(state, Role::Storage, id)).await;
        assert_ne!(lease_of(&store, Role::Storage, id).await, lost);
    }

    pub(super) async fn who_resumes_gets_only_what_it_missed(store: Store) {
        let (a, b) = (with_a_journal(&store).await, coordinator(&store).await);
        let me = registration(Role::Broker, "b", 5);
        let mut node = Node::join(&a, me.clone()).await;
        let first = create(&a, new("first")).await.unwrap();
        node.until_revision(first.revision).await;
        assert_eq!(node.snapshots, 1);
        let seen = node.state.clone();
        drop(node);
        let second = create(&a, new("second")).await.unwrap();
        let third = create(&a, new("third")).await.unwrap();
        let mut again = Node::try_join(&b, me.clone(), Some(seen)).await.unwrap();
        again.until_revision(third.revision).await;
        assert_eq!(again.snapshots, 0);
        assert!(again.state.topic(second.topic.id).is_some());
        let mut whole = Node::observer(&b, "g").await;
        whole.until_revision(third.revision).await;
        assert_eq!(whole.state.topics().collect::<Vec<_>>(), again.state.topics().collect::<Vec<_>>());
    }

    pub(super) async fn who_resumes_too_late_gets_a_snapshot(store: Store) {
        let a = with_a_journal(&store).await;
        let me = registration(Role::Broker, "b", 5);
        let mut node = Node::join(&a, me.clone()).await;
        let created = create(&a, new("t")).await.unwrap();
        node.until_revision(created.revision).await;
        let seen = node.state.clone();
        drop(node);
        a.delete_topics(vec![tidemark_model::coordinator::TopicRef::Id(created.topic.id)]).await.remove(0).unwrap();
        // This one began after that.
        let late = coordinator(&store).await;
        let mut again = Node::try_join(&late, me, Some(seen)).await.unwrap();
        again.step().await.unwrap();
        assert_eq!(again.snapshots, 1);
        assert!(again.state.topic_named("t").is_none());
    }

    pub(super) async fn who_follows_hears_now_and_then_that_nothing_changed(store: Store) {
        let service = coordinator(&store).await;
        let mut node = Node::observer(&service, "g").await;
        while node.empty_deltas < 2 {
            node.step().await.unwrap();
        }
    }

    pub(super) async fn a_compacted_history_cuts_nobody_off(store: Store) {
        let (a, b) = (with_a_journal(&store).await, coordinator(&store).await);
        let mut node = Node::observer(&b, "g").await;
        let mut last = (None, None);
        let first = store.range("/").await.unwrap().revision;
        for round in 0..4 {
            for n in 0..5 {
                a.allocate_producer_ids(1).await.unwrap();
                create(&a, new(&format!("t{round}-{n}"))).await.unwrap();
            }
            // Only one of them does it.
            last.0 = compact_once(&a.shared, last.0).await.unwrap();
            last.1 = compact_once(&b.shared, last.1).await.unwrap();
        }
        let forgotten = within(store.watch("/", first).next()).await;
        assert_eq!(forgotten, Some(Err(crate::store::StoreError::Compacted)));
        let created = create(&a, new("after")).await.unwrap();
        node.until_revision(created.revision).await;
        assert_eq!((node.state.topics().count(), node.snapshots), (21, 1));
    }

    pub(super) async fn a_broker_that_ended_without_leaving_is_forgotten_in_the_end(store: Store) {
        let service = coordinator(&store).await;
        let mut observer = Node::observer(&service, "g").await;
        let gone = Node::join(&service, registration(Role::Broker, "gone", 1)).await.id;
        let stays = Node::join(&service, registration(Role::Broker, "stays", 2)).await;
        observer.until(|state| alive(state, Role::Broker, stays.id)).await;
        observer.until(|state| !alive(state, Role::Broker, gone)).await;
        let names = async || {
            let mut entries = store.range("/tidemark/main/node-names/").await.unwrap().entries;
            entries.retain(|entry| !entry.key.contains("/coordinator/"));
            entries.into_iter().filter_map(|entry| entry.key.rsplit('/').next().map(str::to_owned)).collect::<Vec<_>>()
        };
        let mut away = std::collections::BTreeSet::new();
        sweep(&service.shared, &mut away).await.unwrap();
        assert_eq!(names().await, ["gone", "stays", "g"], "it may come back yet");
        sweep(&service.shared, &mut away).await.unwrap();
        assert_eq!(names().await, ["stays", "g"]);
    }
}
