use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire::consumer_protocol_assignment::TopicPartition as TheirAssigned;
use kafka_wire::consumer_protocol_subscription::TopicPartition as TheirOwned;
use kafka_wire::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use kafka_wire_core::{ApiVersion, StrBytes};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::messages::build;

fn partitions() -> impl Strategy<Value = Vec<TopicPartitions>> {
    let topic = ("[a-z.]{0,8}", vec(any::<i32>(), 0..6));
    vec(topic.prop_map(|(topic, partitions)| TopicPartitions { topic, partitions }), 0..4)
}

fn user_data() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(vec(any::<u8>(), 0..16).prop_map(Bytes::from))
}

prop_compose! {
    fn subscriptions()(
        topics in vec("[a-z.]{0,8}", 0..5), user_data in user_data(), owned in partitions(), generation: i32,
        rack in proptest::option::of("[a-z]{0,4}"),
    ) -> Subscription {
        Subscription { topics, user_data, owned, generation, rack }
    }
}

/// What of a subscription is left by a version.
fn cut(mut subscription: Subscription, version: i16) -> Subscription {
    let none = Subscription::default();
    if version < 3 {
        subscription.rack = none.rack;
    }
    if version < 2 {
        subscription.generation = none.generation;
    }
    if version < 1 {
        subscription.owned = none.owned;
    }
    subscription
}

/// The same bytes by the codec library, which generates them from Kafka's schemas.
fn theirs(subscription: &Subscription, version: i16) -> Bytes {
    let Subscription { topics, user_data, owned, generation, rack } = subscription;
    let message = build(|message: &mut ConsumerProtocolSubscription| {
        message.topics = topics.iter().map(|topic| StrBytes::from(topic.as_str())).collect();
        message.user_data = user_data.clone();
        message.owned_partitions = owned
            .iter()
            .map(|topic| {
                build(|theirs: &mut TheirOwned| {
                    theirs.topic = StrBytes::from(topic.topic.as_str());
                    theirs.partitions = topic.partitions.clone();
                })
            })
            .collect();
        message.generation_id = *generation;
        message.rack_id = rack.as_deref().map(StrBytes::from);
    });
    let mut into = BytesMut::new();
    kafka_wire::encode_consumer_protocol_subscription(&mut into, &message, ApiVersion::new(version)).unwrap();
    into.freeze()
}

fn their_assignment(assignment: &Assignment, version: i16) -> Bytes {
    let message = build(|message: &mut ConsumerProtocolAssignment| {
        message.user_data = assignment.user_data.clone();
        message.assigned_partitions = assignment
            .partitions
            .iter()
            .map(|topic| {
                build(|theirs: &mut TheirAssigned| {
                    theirs.topic = StrBytes::from(topic.topic.as_str());
                    theirs.partitions = topic.partitions.clone();
                })
            })
            .collect();
    });
    let mut into = BytesMut::new();
    kafka_wire::encode_consumer_protocol_assignment(&mut into, &message, ApiVersion::new(version)).unwrap();
    into.freeze()
}

proptest! {
    #[test]
    fn a_subscription_round_trips_in_every_version(subscription in subscriptions(), version in 0..=HIGHEST_VERSION) {
        let left = cut(subscription.clone(), version);
        let bytes = subscription.encode(version)?;
        prop_assert_eq!(version_of(&bytes), Some(version));
        prop_assert_eq!(Subscription::decode(bytes.clone())?, left.clone());
        prop_assert_eq!(bytes, theirs(&left, version));
    }

    #[test]
    fn an_assignment_round_trips_in_every_version(
        partitions in partitions(), user_data in user_data(), version in 0..=HIGHEST_VERSION,
    ) {
        let assignment = Assignment { partitions, user_data };
        let bytes = assignment.encode(version)?;
        prop_assert_eq!(Assignment::decode(bytes.clone())?, assignment.clone());
        prop_assert_eq!(bytes, their_assignment(&assignment, version));
    }

    #[test]
    fn a_newer_version_is_read_as_far_as_it_is_known(
        subscription in subscriptions(), version in HIGHEST_VERSION + 1.., more in vec(any::<u8>(), 0..20),
    ) {
        let mut newer = BytesMut::from(&subscription.encode(HIGHEST_VERSION)?[..]);
        newer[..2].copy_from_slice(&version.to_be_bytes());
        newer.put_slice(&more);
        prop_assert_eq!(version_of(&newer), Some(HIGHEST_VERSION));
        prop_assert_eq!(Subscription::decode(newer.freeze())?, subscription);
    }

    #[test]
    fn cut_short_it_is_refused(subscription in subscriptions(), version in 0..=HIGHEST_VERSION, cut: prop::sample::Index) {
        let bytes = subscription.encode(version)?;
        let shorter = bytes.slice(..cut.index(bytes.len()));
        prop_assert!(Subscription::decode(shorter).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(version in -1..5_i16, bytes in vec(any::<u8>(), 0..200)) {
        let mut versioned = BytesMut::new();
        versioned.put_i16(version);
        versioned.put_slice(&bytes);
        let versioned = versioned.freeze();
        let _ = Subscription::decode(versioned.clone());
        let _ = Assignment::decode(versioned);
        let _ = Subscription::decode(Bytes::from(bytes.clone()));
        let _ = Assignment::decode(Bytes::from(bytes.clone()));
        let _ = version_of(&bytes);
    }
}

#[test]
fn a_claimed_count_reserves_nothing() {
    let claims = Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff]);
    assert!(matches!(Subscription::decode(claims.clone()), Err(DecodeError::BadCount { .. })));
    assert!(matches!(Assignment::decode(claims), Err(DecodeError::BadCount { .. })));
}

#[test]
fn a_version_below_zero_is_none() {
    let bytes = Bytes::from_static(&[0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(version_of(&bytes), None);
    assert!(matches!(Subscription::decode(bytes), Err(DecodeError::UnsupportedVersion { version: -1, .. })));
    assert!(matches!(
        Assignment::default().encode(HIGHEST_VERSION + 1),
        Err(EncodeError::UnsupportedVersion { version: 4, .. })
    ));
}
