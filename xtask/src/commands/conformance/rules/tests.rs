use super::*;

fn record(key: Option<&str>, value: &str) -> Record {
    Record { key: key.map(str::to_owned), partition: None, value: value.to_owned() }
}

fn received(partition: u32, offset: i64, key: Option<&str>, value: &str) -> Received {
    let key = key.map(str::to_owned);
    Received { topic: "t".to_owned(), partition, offset, timestamp: 100 + offset, key, value: value.to_owned() }
}

fn run(records: Vec<Record>) -> Run {
    Run { way: Way::Key, records, placed: Vec::new(), acknowledged: true }
}

fn sent() -> Vec<Run> {
    vec![run(vec![record(Some("k"), "a"), record(Some("k"), "b"), record(None, "c")])]
}

fn good() -> Vec<Received> {
    vec![received(0, 0, Some("k"), "a"), received(0, 1, Some("k"), "b"), received(1, 0, None, "c")]
}

fn refusal(runs: &[Run], read: &[Received]) -> String {
    whole(runs, read).expect_err("this breaks a rule").to_string()
}

#[test]
fn what_is_whole_passes() {
    whole(&sent(), &good()).expect("nothing is wrong");
}

#[test]
fn a_hole_a_loss_a_double_and_a_stranger_are_found() {
    let mut hole = good();
    hole[1].offset = 2;
    assert!(refusal(&sent(), &hole).contains("offset 1 should follow"));
    assert!(refusal(&sent(), &good()[..2]).contains("lost: 1 of 3"));
    let mut doubled = good();
    doubled.push(received(1, 1, None, "c"));
    assert!(refusal(&sent(), &doubled).contains("doubled"));
    let mut stranger = good();
    stranger.push(received(1, 1, None, "d"));
    assert!(refusal(&sent(), &stranger).contains("nobody sent"));
}

#[test]
fn what_was_not_acknowledged_may_be_missing() {
    let mut runs = sent();
    runs[0].acknowledged = false;
    whole(&runs, &good()[..2]).expect("nobody promised the third");
}

#[test]
fn wrong_keys_orders_and_places_are_found() {
    let mut key = good();
    key[0].key = None;
    assert!(refusal(&sent(), &key).contains("is not what was sent"));
    let order = [received(0, 0, Some("k"), "b"), received(0, 1, Some("k"), "a"), received(1, 0, None, "c")];
    assert!(refusal(&sent(), &order).contains("sent before but read after"));
    let split = [received(0, 0, Some("k"), "a"), received(2, 0, Some("k"), "b"), received(1, 0, None, "c")];
    assert!(refusal(&sent(), &split).contains("key k is in partition 0"));
    let mut runs = sent();
    runs[0].placed = vec![Placed(0, 0), Placed(0, 1), Placed(1, 7)];
    assert!(refusal(&runs, &good()).contains("acknowledged as Placed(1, 7)"));
    runs[0].placed = vec![Placed(0, -1)];
    whole(&runs, &good()).expect("no offset was told");
    let mut runs = sent();
    runs[0].way = Way::Partition(0);
    assert!(refusal(&runs, &good()).contains("sent to partition 0"));
    let mut runs = sent();
    runs[0].way = Way::RoundRobin;
    assert!(refusal(&runs, &good()).contains("round-robin reached partitions {0, 1} only"));
}

#[test]
fn a_reader_starts_where_it_said() {
    let all = good();
    assert_eq!(expected(&all, From::Beginning), all);
    assert_eq!(expected(&all, From::Offset(1)), all[1..2]);
    // Of partition 1 nothing is young enough.
    assert_eq!(expected(&all, From::Timestamp(101)), all[1..2]);
    let mut older_follows = vec![received(0, 0, None, "a"), received(0, 1, None, "b"), received(0, 2, None, "c")];
    older_follows[2].timestamp = 0;
    assert_eq!(expected(&older_follows, From::Timestamp(101)), older_follows[1..]);
}

#[test]
fn readers_are_compared_by_partition() {
    let interleaved = vec![good()[2].clone(), good()[0].clone(), good()[1].clone()];
    same(&good(), &interleaved).expect("the same records");
    let mut other = good();
    other[1].timestamp = 5;
    assert!(same(&good(), &other).is_err());
    assert!(same(&good(), &good()[1..]).is_err());
    assert!(same(&good()[..2], &good()).is_err());
}
