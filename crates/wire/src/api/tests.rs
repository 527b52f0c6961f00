use kafka_wire::API_DESCRIPTORS;

use super::*;

#[test]
fn keys_and_flexible_versions_are_those_of_the_schemas() {
    for &key in ApiKey::ALL {
        assert_eq!(ApiKey::from_code(key.code()), Some(key));
        let schema = API_DESCRIPTORS.iter().find(|schema| schema.api_key.value() == key.code());
        let schema = schema.unwrap_or_else(|| panic!("{key} has a schema"));
        assert_eq!(schema.request.name, format!("{key}Request"));
        for version in schema.supported_versions.min().value()..=schema.supported_versions.max().value() {
            let flexible =
                schema.flexible_versions.is_some_and(|range| range.contains(kafka_wire_core::ApiVersion::new(version)));
            assert_eq!(key.is_flexible(version), flexible, "{key} {version}");
        }
    }
}

/// What a running Apache Kafka 4.2.0 answered to ApiVersions: key, lowest and highest version.
const KAFKA: [(i16, i16, i16); 75] = [
    (0, 0, 13),
    (1, 4, 18),
    (2, 1, 11),
    (3, 0, 13),
    (8, 2, 10),
    (9, 1, 10),
    (10, 0, 6),
    (11, 0, 9),
    (12, 0, 4),
    (13, 0, 5),
    (14, 0, 5),
    (15, 0, 6),
    (16, 0, 5),
    (17, 0, 1),
    (18, 0, 4),
    (19, 2, 7),
    (20, 1, 6),
    (21, 0, 2),
    (22, 0, 5),
    (23, 2, 4),
    (24, 0, 5),
    (25, 0, 4),
    (26, 0, 5),
    (27, 1, 2),
    (28, 0, 5),
    (29, 1, 3),
    (30, 1, 3),
    (31, 1, 3),
    (32, 1, 4),
    (33, 0, 2),
    (34, 1, 2),
    (35, 1, 4),
    (36, 0, 2),
    (37, 0, 3),
    (38, 1, 3),
    (39, 1, 2),
    (40, 1, 2),
    (41, 1, 3),
    (42, 0, 2),
    (43, 0, 2),
    (44, 0, 1),
    (45, 0, 1),
    (46, 0, 0),
    (47, 0, 0),
    (48, 0, 1),
    (49, 0, 1),
    (50, 0, 0),
    (51, 0, 0),
    (55, 0, 2),
    (57, 0, 2),
    (60, 0, 2),
    (61, 0, 0),
    (64, 0, 0),
    (65, 0, 0),
    (66, 0, 2),
    (68, 0, 1),
    (69, 0, 1),
    (74, 0, 1),
    (75, 0, 0),
    (76, 1, 1),
    (77, 1, 1),
    (78, 1, 2),
    (79, 1, 2),
    (80, 0, 1),
    (81, 0, 0),
    (83, 0, 0),
    (84, 0, 0),
    (85, 0, 1),
    (86, 0, 0),
    (87, 0, 1),
    (88, 0, 0),
    (89, 0, 0),
    (90, 0, 1),
    (91, 0, 0),
    (92, 0, 0),
];

#[test]
fn what_is_advertised_is_what_kafka_advertises() {
    for entry in api_versions(4).api_keys {
        let range = (entry.api_key, entry.min_version, entry.max_version);
        assert!(KAFKA.contains(&range), "{range:?}");
    }
}

/// In version 4 that Kafka answered `group.version` as supported from 0 to 1 and finalized at 1; in version 3, which cannot
/// say 0, only as finalized.
#[test]
fn features_are_told_as_kafka_tells_them() {
    let names = |version| {
        let response = api_versions(version);
        let supported: Vec<_> =
            response.supported_features.iter().map(|f| (f.name.to_string(), f.min_version, f.max_version)).collect();
        let finalized: Vec<_> = response
            .finalized_features
            .iter()
            .map(|f| (f.name.to_string(), f.min_version_level, f.max_version_level))
            .collect();
        assert!(response.finalized_features_epoch >= 0);
        (supported, finalized)
    };
    let group = |min, max| vec![("group.version".to_owned(), min, max)];
    assert_eq!(names(4), (group(0, 1), group(1, 1)));
    assert_eq!(names(3), (vec![], group(1, 1)));
    for version in 0..=4 {
        crate::messages::encode_response(1, version, &api_versions(version)).unwrap();
    }
}

#[test]
fn what_is_spoken_has_a_schema() {
    for api in APIS {
        let schema = API_DESCRIPTORS.iter().find(|schema| schema.api_key.value() == api.key.code()).unwrap();
        assert!(api.spoken.min >= schema.supported_versions.min().value(), "{}", api.key);
        assert!(api.spoken.max <= schema.supported_versions.max().value(), "{}", api.key);
    }
    assert!(APIS.is_sorted_by_key(|api| api.key));
}

#[test]
fn the_answer_to_an_unknown_version_is_readable_in_version_0() {
    let answer = crate::messages::encode_response(9, 0, &unsupported_version()).unwrap();
    let bytes = answer.into_chunks().collect::<Vec<_>>().concat();
    let expected = [0, 0, 0, 16, 0, 0, 0, 9, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
    assert_eq!(bytes, expected);
}

#[test]
fn produce_is_advertised_from_0_and_spoken_from_3() {
    let produce = api_versions(4).api_keys[0].clone();
    assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13));
    assert!(!speaks(ApiKey::Produce, 2) && speaks(ApiKey::Produce, 3) && !speaks(ApiKey::Produce, 14));
    assert!(!speaks(ApiKey::Vote, 0));
}
