//! DeleteRecords: the log start moves exactly there, for every reader, and nothing comes back.

use rdkafka::Offset;
use tidemark_tests::clients::*;
use tidemark_tests::raw::{self, Connection, code};

/// A topic of one partition with records `0..count`, a connection to its leader.
fn filled(prefix: &str, count: usize, settings: &[(&str, &str)]) -> (String, Connection) {
    let topic = topic_with(prefix, 1, settings);
    let producer = producer(&[("batch.num.messages", "10"), ("linger.ms", "20")]);
    let leader = raw::await_leaders(&topic, 1).leaders.remove(0).0;
    let records: Vec<_> = (0..count).map(|n| Record::new(format!("{n}")).to(0)).collect();
    records.chunks(10).for_each(|batch| drop(produce(&producer, &topic, batch)));
    (topic, Connection::open(&leader))
}

#[test]
fn records_below_an_offset_go_and_no_others() {
    let (topic, mut connection) = filled("deleted", 40, &[]);
    // A reader at the tail keeps them in memory on the way: they must not be served from there.
    let follower = consumer(&[]);
    assign(&follower, &[(&topic, 0, Offset::Beginning)]);
    assert_eq!(next(&follower).offset, 0);
    let mut delete = |offset| raw::delete_records(&mut connection, &topic, 0, offset);
    for (offset, expected) in [(0, (0, 0)), (15, (0, 15)), (7, (0, 15)), (15, (0, 15))] {
        assert_eq!(delete(offset), expected, "before {offset}");
    }
    assert_eq!(delete(41), (code::OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(delete(-2), (code::OFFSET_OUT_OF_RANGE, -1));
    let fetched = |offset| {
        let mut connection = Connection::open(&raw::await_leaders(&topic, 1).leaders.remove(0).0);
        raw::Fetch::default().call(&mut connection, &topic, &[(0, offset)]).partitions[0].error
    };
    assert_eq!(fetched(14), code::OFFSET_OUT_OF_RANGE);
    assert_eq!(fetched(15), 0);
    let offsets =
        |from| -> Vec<i64> { read(&[(&topic, 0, from)]).values().flatten().map(|record| record.offset).collect() };
    assert_eq!(offsets(Offset::Beginning), (15..40).collect::<Vec<_>>());
    assert_eq!(offsets(Offset::Offset(20)), (20..40).collect::<Vec<_>>());
    assert_eq!(watermarks(&consumer(&[]), &topic, 0), (15, 40));
}

#[test]
fn everything_goes_and_what_is_produced_then_goes_on_from_there() {
    let (topic, mut connection) = filled("emptied", 10, &[]);
    assert_eq!(raw::delete_records(&mut connection, &topic, 0, -1), (0, 10));
    assert_eq!(watermarks(&consumer(&[]), &topic, 0), (10, 10));
    assert_eq!(raw::list_offsets(&mut connection, 9, &topic, 0, -2), (0, -1, 10));
    assert_eq!(produce(&producer(&[]), &topic, &[Record::new("next").to(0)])[0].offset, 10);
    let all = read(&[(&topic, 0, Offset::Beginning)]);
    assert_eq!(all.values().flatten().map(|record| record.offset).collect::<Vec<_>>(), [10]);
}

#[test]
fn what_cannot_be_deleted_is_refused() {
    let (topic, mut connection) = filled("kept", 10, &[]);
    assert_eq!(raw::delete_records(&mut connection, &topic, 9, 0), (code::UNKNOWN_TOPIC_OR_PARTITION, -1));
    assert_eq!(raw::delete_records(&mut connection, "there-is-none", 0, 0), (code::UNKNOWN_TOPIC_OR_PARTITION, -1));
    let compacted = topic_with("compacted", 1, &[("cleanup.policy", "compact")]);
    let leader = raw::await_leaders(&compacted, 1).leaders.remove(0).0;
    let mut to_leader = Connection::open(&leader);
    assert_eq!(raw::delete_records(&mut to_leader, &compacted, 0, 0), (code::POLICY_VIOLATION, -1));
    let both = topic_with("both", 1, &[("cleanup.policy", "compact,delete")]);
    let leader = raw::await_leaders(&both, 1).leaders.remove(0).0;
    assert_eq!(raw::delete_records(&mut Connection::open(&leader), &both, 0, 0), (0, 0));
}

#[test]
fn a_time_is_found_above_the_log_start_only() {
    let topic = topic("times", 1);
    let leader = raw::await_leaders(&topic, 1).leaders.remove(0).0;
    let producer = producer(&[("linger.ms", "50")]);
    let time = 1_700_000_000_000;
    let at = |seconds: &[i64]| {
        let records: Vec<_> = seconds.iter().map(|s| Record::new("x").to(0).at(time + s * 1000)).collect();
        produce(&producer, &topic, &records);
    };
    at(&[9, 1, 5]);
    at(&[2, 3]);
    let mut connection = Connection::open(&leader);
    assert_eq!(raw::list_offsets(&mut connection, 9, &topic, 0, time + 4000), (0, time + 9000, 0));
    assert_eq!(raw::delete_records(&mut connection, &topic, 0, 1), (0, 1));
    assert_eq!(raw::list_offsets(&mut connection, 9, &topic, 0, time + 4000), (0, time + 5000, 2));
    assert_eq!(raw::delete_records(&mut connection, &topic, 0, 3), (0, 3));
    assert_eq!(raw::list_offsets(&mut connection, 9, &topic, 0, time + 4000), (0, -1, -1));
    assert_eq!(raw::list_offsets(&mut connection, 9, &topic, 0, time), (0, time + 2000, 3));
}
