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
    let produce = api_versions().api_keys[0].clone();
    assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13));
    assert!(!speaks(ApiKey::Produce, 2) && speaks(ApiKey::Produce, 3) && !speaks(ApiKey::Produce, 14));
    assert!(!speaks(ApiKey::Vote, 0));
}
