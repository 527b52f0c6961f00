//! Histories in which one thing is wrong: a checker that finds nothing in them would be worth nothing.

use super::*;

/// A history from lines whose first word is the time.
fn history(lines: &str) -> Vec<Event> {
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| Event::parse(line).expect(line)).collect()
}

fn broken(lines: &str, end: i64) -> Vec<String> {
    check(&history(lines), &[(0, end)].into())
}

/// Two members of one partition, handed over in order.
const GOOD: &str = "
    10 a assigned 0
    11 a owns 1 0
    15 a fetched 0 12 -1
    20 a delivered 0 0 9
    21 a committing 1 0:10
    25 a committed 1
    26 a delivered 0 10 14
    30 a committing 2 0:15
    35 a committed 2
    36 a revoked 0
    40 b assigned 0
    41 b owns 2 0
    45 b fetched 0 42 15
    50 b delivered 0 15 19
    51 b committing 1 0:20
    55 b committed 1
    60 b left
";

#[test]
fn a_good_history_is_good() {
    assert_eq!(broken(GOOD, 20), Vec::<String>::new());
}

fn finds(lines: &str, what: &str) {
    let broken = broken(lines, 20);
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert!(broken[0].contains(what), "{broken:?}");
}

#[test]
fn two_owners_in_a_generation() {
    finds(&GOOD.replace("41 b owns 2 0", "41 b owns 1 0"), "several owners in generation 1");
}

#[test]
fn two_owners_at_a_time() {
    finds(&GOOD.replace("36 a revoked 0", "43 a revoked 0"), "and a owned it from 10 to 43");
    finds(&GOOD.replace("36 a revoked 0", ""), "and a owned it from 10 to");
}

#[test]
fn an_owner_between_two_others_does_not_hide_an_overlap() {
    let lines = "10 a assigned 0\n 20 b assigned 0\n 21 b revoked 0\n 30 c assigned 0\n 40 a revoked 0";
    assert_eq!(broken(lines, 0).len(), 2);
}

#[test]
fn who_was_paused_killed_or_told_may_have_believed_it_owned() {
    for gone in ["36 a paused\n 50 a resumed\n 51 a lost 0", "36 a killed", "50 a lost 0"] {
        let lines = GOOD.replace("36 a revoked 0", gone);
        assert_eq!(broken(&lines, 20), Vec::<String>::new(), "{gone}");
    }
}

#[test]
fn a_commit_that_is_lost() {
    finds(&GOOD.replace("45 b fetched 0 42 15", "45 b fetched 0 42 10"), "b was told 10 of partition 0");
    finds(&GOOD.replace("45 b fetched 0 42 15", "45 b fetched 0 42 -1"), "b was told -1 of partition 0");
}

#[test]
fn a_commit_that_nobody_made() {
    finds(&GOOD.replace("45 b fetched 0 42 15", "45 b fetched 0 42 17"), "b was told 17 of partition 0");
}

#[test]
fn a_commit_without_an_answer_may_count_or_not() {
    let lines = GOOD.replace("35 a committed 2", "35 a uncertain 2");
    assert_eq!(broken(&lines, 20), Vec::<String>::new());
    let again = lines.replace("42 15", "42 10").replace("delivered 0 15 19", "delivered 0 10 19");
    assert_eq!(broken(&again, 20), Vec::<String>::new());
    // But what was acknowledged before counts.
    assert_eq!(broken(&lines.replace("42 15", "42 -1"), 20).len(), 1);
}

#[test]
fn a_commit_of_one_that_is_fenced() {
    let late = "52 a committing 3 0:15\n 53 a committed 3";
    let lines = GOOD.replace(
        "51 b committing 1 0:20\n    55 b committed 1",
        &format!("50 b committing 1 0:20\n 51 b committed 1\n {late}"),
    );
    finds(&lines, "went back below");
}

#[test]
fn a_position_below_a_commit() {
    finds(&GOOD.replace("50 b delivered 0 15 19", "50 b delivered 0 12 19"), "began to read at 12");
}

#[test]
fn a_record_that_nobody_got() {
    finds(&GOOD.replace("50 b delivered 0 15 19", "50 b delivered 0 16 19"), "offset 15 of partition 0");
    finds(&GOOD.replace("20 a delivered 0 0 9", "20 a delivered 0 1 9"), "offset 0 of partition 0");
    finds(&GOOD.replace("50 b delivered 0 15 19", "50 b delivered 0 15 18"), "offset 19 of partition 0");
}
