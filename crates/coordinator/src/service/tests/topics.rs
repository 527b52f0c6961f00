use super::on_both;

on_both! { cases:
    of_racing_creations_one_wins_and_all_followers_see_the_same;
    names_that_collide_are_refused_also_at_another_coordinator;
    a_request_of_many_topics_creates_all_but_those_that_exist;
    a_deleted_topic_is_gone_and_its_name_is_free_everywhere;
    a_bad_request_is_refused_in_kafkas_words_and_writes_nothing;
    validate_only_says_what_would_be_and_writes_nothing;
    partitions_are_only_added;
    concurrent_changes_of_one_topic_all_count;
    partitions_spread_over_the_journals;
    producer_ids_are_given_once_over_races_and_restarts;
    a_cluster_keeps_its_id_and_refuses_another;
}

mod cases {
    use std::collections::{BTreeMap, BTreeSet};

    use tidemark_model::coordinator::{ConfigChange, TopicRef};
    use tidemark_model::{Coordinator, CoordinatorError, NodeId, TopicId};
    use uuid::Uuid;

    use super::super::harness::*;
    use crate::{Error, Settings};

    pub(super) async fn of_racing_creations_one_wins_and_all_followers_see_the_same(store: Store) {
        let (a, b) = (with_a_journal(&store).await, coordinator(&store).await);
        let (mut at_a, mut at_b) = (Node::observer(&a, "a").await, Node::observer(&b, "b").await);
        let mut last = 0;
        for n in 0..20 {
            let name = format!("topic-{n}");
            let (first, second) = tokio::join!(create(&a, new(&name)), create(&b, new(&name)));
            let (won, lost) = if first.is_ok() { (first, second) } else { (second, first) };
            let won = won.unwrap();
            assert_eq!(lost.unwrap_err(), CoordinatorError::TopicExists(format!("Topic '{name}' already exists.")));
            last = won.revision;
        }
        at_a.until_revision(last).await;
        at_b.until_revision(last).await;
        assert_eq!(at_a.state.topics().count(), 20);
        // They may differ by when they joined, not by what there is.
        let topics = |node: &Node| node.state.topics().cloned().collect::<Vec<_>>();
        assert_eq!(topics(&at_a), topics(&at_b));
    }

    pub(super) async fn names_that_collide_are_refused_also_at_another_coordinator(store: Store) {
        let (a, b) = (with_a_journal(&store).await, coordinator(&store).await);
        create(&a, new("a.b")).await.unwrap();
        let collides = CoordinatorError::InvalidTopicName("Topic 'a_b' collides with existing topic: a.b".into());
        assert_eq!(create(&b, new("a_b")).await.unwrap_err(), collides);
        assert_eq!(b.create_topics(vec![new("a_b")], true).await, [Err(collides)]);
        let absent = b.delete_topics(vec![TopicRef::Name("a_b".into())]).await.remove(0);
        assert!(matches!(absent, Err(CoordinatorError::UnknownTopic(_))), "{absent:?}");
    }

    pub(super) async fn a_request_of_many_topics_creates_all_but_those_that_exist(store: Store) {
        let service = with_a_journal(&store).await;
        create(&service, new("many-70")).await.unwrap();
        let mut many: Vec<_> = (0..300).map(|n| new(&format!("many-{n}"))).collect();
        many.push(new("many-7"));
        let answers = service.create_topics(many, false).await;
        for (n, answer) in answers.iter().enumerate() {
            match answer {
                Ok(changed) => assert_eq!(changed.topic.name, format!("many-{n}")),
                Err(error) => {
                    assert!(n == 70 || n == 300, "{n}: {error}");
                    assert!(matches!(error, CoordinatorError::TopicExists(_)));
                }
            }
        }
        let mut node = Node::observer(&service, "g").await;
        node.until(|state| state.topics().count() == 300).await;
        let ids: BTreeSet<TopicId> = node.state.topics().map(|topic| topic.id).collect();
        assert_eq!(ids.len(), 300);
    }

    pub(super) async fn a_deleted_topic_is_gone_and_its_name_is_free_everywhere(store: Store) {
        let (a, b) = (with_a_journal(&store).await, coordinator(&store).await);
        let mut node = Node::observer(&b, "g").await;
        for n in 0..5 {
            let created = create(&a, new("orders")).await.unwrap().topic;
            let by = if n % 2 == 0 { TopicRef::Id(created.id) } else { TopicRef::Name("orders".into()) };
            let answers = b.delete_topics(vec![by.clone(), by]).await;
            // They run at once, so either may be the one that finds it.
            let (deleted, unknown): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
            assert_eq!(deleted[0].as_ref().unwrap().topic.id, created.id);
            assert!(matches!(unknown[..], [Err(CoordinatorError::UnknownTopic(_))]));
        }
        let last = create(&b, new("orders")).await.unwrap();
        node.until_revision(last.revision).await;
        assert_eq!(node.state.topics().cloned().collect::<Vec<_>>(), [last.topic.into()]);
        let nowhere = vec![TopicRef::Name("nosuch".into()), TopicRef::Id(TopicId(Uuid::from_u128(9)))];
        let said: Vec<String> =
            a.delete_topics(nowhere).await.into_iter().map(|answer| answer.unwrap_err().to_string()).collect();
        assert_eq!(
            said,
            ["This server does not host this topic-partition.", "This server does not host this topic ID."]
        );
    }

    pub(super) async fn a_bad_request_is_refused_in_kafkas_words_and_writes_nothing(store: Store) {
        let service = coordinator(&store).await;
        let early = create(&service, new("early")).await;
        assert!(matches!(early, Err(CoordinatorError::Unavailable(_))), "no journals yet: {early:?}");

        open(&service, NodeId(1), 7).await.unwrap();
        let mut replicated = new("t");
        replicated.replication_factor = 2;
        let mut configured = new("t");
        configured.configs = BTreeMap::from([("retention.ms".into(), "-2".into())]);
        for (topic, said) in [
            (
                replicated,
                "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached \
                 because only 1 broker(s) are registered.",
            ),
            (configured, "Invalid value -2 for configuration retention.ms: Value must be at least -1"),
            (sized("t", 0), "Number of partitions was set to an invalid non-positive value."),
            (sized("t", 10_001), "Excessively large number of partitions per request."),
            (new(".."), "Topic name is invalid: '..' is not allowed"),
        ] {
            assert_eq!(create(&service, topic).await.unwrap_err().to_string(), said);
        }
        assert!(store.range("/tidemark/main/topic-names/").await.unwrap().entries.is_empty());
    }

    pub(super) async fn validate_only_says_what_would_be_and_writes_nothing(store: Store) {
        let service = with_a_journal(&store).await;
        create(&service, new("there")).await.unwrap();
        let written = async || {
            let mut entries = store.range("/").await.unwrap().entries;
            // The coordinator takes its slots meanwhile.
            entries.retain(|entry| !entry.key.contains("/state/slots/") && !entry.key.contains("coordinator"));
            entries
        };
        let before = written().await;
        let answers = service.create_topics(vec![sized("fresh", -1), new("there")], true).await;
        let would_be = answers[0].as_ref().unwrap();
        assert_eq!((would_be.topic.partitions.len(), would_be.topic.replication_factor), (1, 1));
        assert_eq!(answers[1], Err(CoordinatorError::TopicExists("Topic 'there' already exists.".into())));
        let there = || TopicRef::Name("there".into());
        assert_eq!(service.create_partitions(there(), 3, true).await.unwrap().topic.partitions.len(), 3);
        let set = ConfigChange::Set { name: "retention.ms".into(), value: "5".into() };
        let altered = service.alter_topic_configs(there(), vec![set], true).await.unwrap();
        assert_eq!(altered.topic.configs["retention.ms"], "5");
        assert_eq!(written().await, before);
    }

    pub(super) async fn partitions_are_only_added(store: Store) {
        let service = with_a_journal(&store).await;
        create(&service, sized("t", 2)).await.unwrap();
        let grow = |total| service.create_partitions(TopicRef::Name("t".into()), total, false);
        assert_eq!(grow(5).await.unwrap().topic.partitions.len(), 5);
        assert_eq!(grow(5).await.unwrap_err().to_string(), "Topic already has 5 partition(s).");
        let fewer = "The topic t currently has 5 partition(s); 3 would not be an increase.";
        assert_eq!(grow(3).await.unwrap_err().to_string(), fewer);
        let nowhere = service.create_partitions(TopicRef::Name("nosuch".into()), 3, false).await.unwrap_err();
        assert_eq!(nowhere.to_string(), "This server does not host this topic-partition.");
    }

    pub(super) async fn concurrent_changes_of_one_topic_all_count(store: Store) {
        let services = [with_a_journal(&store).await, coordinator(&store).await, coordinator(&store).await];
        create(&services[0], new("t")).await.unwrap();
        let names = ["retention.ms", "segment.ms", "max.message.bytes"];
        let changes = services.iter().zip(names).map(|(service, name)| {
            let set = ConfigChange::Set { name: name.into(), value: "1000000".into() };
            service.alter_topic_configs(TopicRef::Name("t".into()), vec![set], false)
        });
        for answer in futures::future::join_all(changes).await {
            answer.unwrap();
        }
        let mut node = Node::observer(&services[1], "g").await;
        node.until(|state| state.topic_named("t").is_some_and(|topic| topic.configs.len() == 3)).await;
        let delete = vec![ConfigChange::Delete { name: "retention.ms".into() }];
        let left = services[2].alter_topic_configs(TopicRef::Name("t".into()), delete, false).await.unwrap();
        assert_eq!(left.topic.configs.keys().collect::<Vec<_>>(), ["max.message.bytes", "segment.ms"]);
        let nowhere = services[2].alter_topic_configs(TopicRef::Name("nosuch".into()), vec![], false).await;
        assert_eq!(nowhere.unwrap_err().to_string(), "The topic 'nosuch' does not exist.");
    }

    pub(super) async fn partitions_spread_over_the_journals(store: Store) {
        let service = coordinator(&store).await;
        for node in 1..=3 {
            open(&service, NodeId(node), 7).await.unwrap();
        }
        // Each finds what the one before has placed.
        let mut counts = BTreeMap::new();
        for n in 0..9 {
            for partition in create(&service, sized(&format!("t{n}"), 2)).await.unwrap().topic.partitions {
                *counts.entry(partition.journal).or_insert(0) += 1;
            }
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [6, 6, 6]);
    }

    pub(super) async fn producer_ids_are_given_once_over_races_and_restarts(store: Store) {
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            let services = [coordinator(&store).await, coordinator(&store).await];
            let calls = (0..10).map(|n| services[n % 2].allocate_producer_ids(1_000));
            for ids in futures::future::join_all(calls).await {
                let ids = ids.unwrap();
                assert_eq!(ids.end - ids.start, 1_000);
                assert!(ids.into_iter().all(|id| seen.insert(id)), "an id was given twice");
            }
        }
        let service = coordinator(&store).await;
        for count in [0, u32::MAX] {
            let refused = service.allocate_producer_ids(count).await;
            assert!(matches!(refused, Err(CoordinatorError::InvalidRequest(_))));
        }
    }

    pub(super) async fn a_cluster_keeps_its_id_and_refuses_another(store: Store) {
        let (a, b) = (coordinator(&store).await, coordinator(&store).await);
        let (at_a, at_b) = (Node::observer(&a, "a").await, Node::observer(&b, "b").await);
        assert_eq!(at_a.cluster_id, at_b.cluster_id);
        assert_eq!(at_a.cluster_id.len(), 22);
        assert!(at_a.cluster_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
        let other = start(&store, Settings { cluster_id: Some("other".into()), ..settings() });
        let refused = Error::OtherCluster { configured: "other".into(), stored: at_a.cluster_id.clone() };
        assert_eq!(within(other.failed()).await, refused);
        let blue = Settings { cluster: "blue".into(), cluster_id: Some("other".into()), ..settings() };
        let blue = start(&store, blue);
        assert_eq!(Node::observer(&blue, "c").await.cluster_id, "other");
    }
}
