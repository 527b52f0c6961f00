//! The expected words are what Apache Kafka 4.2.0 answered to these requests.

use super::*;

fn new(partitions: i32, replication_factor: i16) -> NewTopic {
    NewTopic { name: "t".into(), partitions, replication_factor, configs: BTreeMap::new() }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn invalid_config<T>(reason: &str) -> Result<T, CoordinatorError> {
    Err(CoordinatorError::InvalidConfig(reason.into()))
}

#[test]
fn names_follow_kafkas_rules() {
    let long = "x".repeat(250);
    for (name, reason) in [
        ("", "the empty string is not allowed"),
        (".", "'.' is not allowed"),
        ("..", "'..' is not allowed"),
        (&long, &format!("the length of '{long}' is longer than the max allowed length 249")),
        ("bad name!", "'bad name!' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
        ("ü", "'ü' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
    ] {
        let expected = CoordinatorError::InvalidTopicName(format!("Topic name is invalid: {reason}"));
        assert_eq!(check_name(name), Err(expected));
    }
    for name in ["a.b", "a_b-C9", &long[..249], "__consumer_offsets"] {
        assert_eq!(check_name(name), Ok(()));
    }
    assert_eq!(collides("a_b", "a.b").to_string(), "Topic 'a_b' collides with existing topic: a.b");
    assert_eq!(exists("a.b").to_string(), "Topic 'a.b' already exists.");
}

#[test]
fn sizes_have_defaults_and_bounds() {
    assert_eq!(check_size(&new(-1, -1), 3, 2), Ok((3, 2)));
    assert_eq!(check_size(&new(7, 5), 3, 2), Ok((7, 5)));
    let factor = "Replication factor must be larger than 0, or -1 to use the default value.";
    for factor_and_partitions in [new(1, 0), new(1, -2), new(0, 0)] {
        let expected = Err(CoordinatorError::InvalidReplicationFactor(factor.into()));
        assert_eq!(check_size(&factor_and_partitions, 3, 2), expected);
    }
    for partitions in [0, -2, i32::MIN] {
        let reason = "Number of partitions was set to an invalid non-positive value.";
        assert_eq!(check_size(&new(partitions, 1), 3, 2), Err(CoordinatorError::InvalidPartitions(reason.into())));
    }
    let excessive = CoordinatorError::InvalidPartitions("Excessively large number of partitions per request.".into());
    assert_eq!(check_total([10_000].into_iter()), Ok(()));
    assert_eq!(check_total([6_000, 6_000].into_iter()), Err(excessive.clone()));
    assert_eq!(check_total([i32::MAX; 3].into_iter()), Err(excessive.clone()));

    let grown = |total| check_growth("t", 3, total).map_err(|error| error.to_string());
    assert_eq!(grown(5), Ok(2));
    assert_eq!(grown(3), Err("Topic already has 3 partition(s).".into()));
    assert_eq!(grown(2), Err("The topic t currently has 3 partition(s); 2 would not be an increase.".into()));
    assert_eq!(grown(-1), Err("The topic t currently has 3 partition(s); -1 would not be an increase.".into()));
    assert_eq!(grown(20_000), Err(excessive.to_string()));
}

#[test]
fn lists_are_appended_to_and_subtracted_from() {
    let append = |present: &[(&str, &str)], name: &str, value: &str| {
        change_configs(&map(present), &[ConfigChange::Append { name: name.into(), value: value.into() }])
    };
    let subtract = |present: &[(&str, &str)], name: &str, value: &str| {
        change_configs(&map(present), &[ConfigChange::Subtract { name: name.into(), value: value.into() }])
    };
    let policy = "cleanup.policy";
    assert_eq!(append(&[], policy, "compact"), Ok(map(&[(policy, "delete,compact")])), "the default counts");
    assert_eq!(append(&[(policy, "delete,compact")], policy, "compact"), Ok(map(&[(policy, "delete,compact")])));
    assert_eq!(subtract(&[(policy, "delete,compact")], policy, "delete"), Ok(map(&[(policy, "compact")])));
    assert_eq!(subtract(&[], policy, "delete"), Ok(map(&[(policy, "")])));
    assert_eq!(subtract(&[], policy, "foo"), Ok(map(&[(policy, "delete")])));
    assert_eq!(append(&[], policy, ""), invalid_config("Configuration 'cleanup.policy' values must not be empty."));
    let replicas = "leader.replication.throttled.replicas";
    assert_eq!(append(&[], replicas, "0:1,0:2"), Ok(map(&[(replicas, "0:1,0:2")])));
    assert_eq!(subtract(&[(replicas, "0:1,0:2")], replicas, "0:1,0:2"), Ok(map(&[(replicas, "")])));
    assert_eq!(append(&[], "nope", "x"), invalid_config("Can't APPEND to key nope because its type is not LIST."));
    assert_eq!(
        subtract(&[], "retention.ms", "5"),
        invalid_config("Can't SUBTRACT to key retention.ms because its type is not LIST.")
    );
}

#[test]
fn configs_are_set_and_deleted_all_or_none() {
    let set = |name: &str, value: &str| ConfigChange::Set { name: name.into(), value: value.into() };
    let present = map(&[("retention.ms", "5"), ("preallocate", "true")]);
    let changes = [set("retention.ms", " 7 "), ConfigChange::Delete { name: "preallocate".into() }];
    assert_eq!(change_configs(&present, &changes), Ok(map(&[("retention.ms", "7")])));
    assert_eq!(change_configs(&present, &[ConfigChange::Delete { name: "nope".into() }]), Ok(present.clone()));
    let changes = [set("retention.ms", "7"), set("nope", "x")];
    assert_eq!(change_configs(&present, &changes), invalid_config("Unknown topic config name: nope"));
    let changes = [set("retention.ms", "5"), set("retention.ms", "6")];
    let twice = CoordinatorError::InvalidRequest("Error due to duplicate config keys".into());
    assert_eq!(change_configs(&present, &changes), Err(twice));
    let changes = [set("min.compaction.lag.ms", "10"), set("max.compaction.lag.ms", "5")];
    assert_eq!(
        change_configs(&present, &changes),
        invalid_config("conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)")
    );
}
