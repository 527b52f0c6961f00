use std::collections::BTreeMap;

use super::*;

fn rules(pairs: &[(&str, &str)]) -> Option<Rules> {
    let configs: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Rules::of(effective(&configs))
}

/// Segments of ten records each.
fn segments(of: &[(u64, i64)]) -> Vec<Segment> {
    let segment = |(n, (bytes, max_timestamp)): (usize, &(u64, i64))| Segment {
        last_offset: n as i64 * 10 + 9,
        bytes: *bytes,
        max_timestamp: *max_timestamp,
    };
    of.iter().enumerate().map(segment).collect()
}

#[test]
fn without_bounds_or_without_the_policy_everything_stays() {
    assert_eq!(rules(&[("retention.ms", "-1")]), None);
    assert_eq!(rules(&[("cleanup.policy", "compact"), ("retention.bytes", "1")]), None);
    assert_eq!(rules(&[("cleanup.policy", ""), ("retention.bytes", "1")]), None);
    assert!(rules(&[]).is_some_and(|rules| rules.ms == Some(604_800_000) && rules.bytes.is_none()));
    assert!(rules(&[("cleanup.policy", "compact,delete"), ("retention.ms", "-1"), ("retention.bytes", "7")]).is_some());
}

#[test]
fn age_takes_the_oldest_up_to_the_first_that_is_young_enough() {
    let rules = rules(&[("retention.ms", "100")]).unwrap();
    let start = |of: &[(u64, i64)], now| rules.log_start(segments(of).into_iter(), now);
    assert_eq!(start(&[(5, 1_000), (5, 1_100)], 1_100), None, "exactly as old as may be");
    assert_eq!(start(&[(5, 1_000), (5, 1_100)], 1_101), Some(10));
    assert_eq!(start(&[(5, 1_000), (5, 9_000), (5, 1_000)], 2_000), Some(10), "none behind a young one");
    assert_eq!(start(&[(5, 1_000), (5, 1_100)], 9_000), Some(20), "the last one too");
    assert_eq!(start(&[(5, -1)], 9_000), None, "of unknown age");
    assert_eq!(start(&[], 9_000), None);
}

#[test]
fn size_takes_as_many_as_leave_what_is_to_be_kept() {
    let sized = |bytes: &str| rules(&[("retention.ms", "-1"), ("retention.bytes", bytes)]).unwrap();
    let all = || segments(&[(100, 1), (100, 2), (100, 3)]).into_iter();
    assert_eq!(sized("300").log_start(all(), 9), None);
    assert_eq!(sized("201").log_start(all(), 9), None, "two segments would be too few");
    assert_eq!(sized("200").log_start(all(), 9), Some(10));
    assert_eq!(sized("199").log_start(all(), 9), Some(10));
    assert_eq!(sized("1").log_start(all(), 9), Some(20), "the last one stays");
    assert_eq!(sized("0").log_start(all(), 9), Some(30));
    let both = rules(&[("retention.ms", "5"), ("retention.bytes", "100")]).unwrap();
    assert_eq!(both.log_start(all(), 7), Some(20), "one by age, one of those left by size");
}
