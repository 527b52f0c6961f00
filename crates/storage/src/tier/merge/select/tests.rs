use super::*;

/// Lengths of runs as they are before, and what is merged of them.
fn picked(lengths: &[u64], long: u64, max_run: u64) -> Option<Range<usize>> {
    window(&runs(lengths), long, max_run, i64::MAX, |_| true)
}

fn runs(lengths: &[u64]) -> Vec<Run> {
    let segment = |n: usize| SegmentName { epoch: 1, first_index: n as u64, last_index: n as u64, attempt: 0 };
    let run = |(n, length): (usize, &u64)| Run {
        segment: segment(n),
        first_offset: n as i64 * 10,
        last_offset: n as i64 * 10 + 9,
        position: 8,
        length: *length,
        max_timestamp: n as i64 * 1_000,
        leader_epoch: 1,
    };
    lengths.iter().enumerate().map(run).collect()
}

#[test]
fn short_neighbours_that_are_together_long_are_merged() {
    assert_eq!(picked(&[100, 30, 30, 30, 100], 100, 1_000), None, "together they are short");
    assert_eq!(picked(&[100, 30, 40, 30, 100], 100, 1_000), Some(1..4));
    assert_eq!(picked(&[99, 100, 99], 100, 1_000), None, "alone between long ones");
    assert_eq!(picked(&[60, 60, 60], 100, 150), Some(0..2), "not beyond the longest");
    assert_eq!(picked(&[60, 60, 30], 100, 100), None, "the last two may grow yet");
    assert_eq!(picked(&[60, 60, 30, 20], 100, 100), Some(1..3), "nothing more goes with these");
    assert_eq!(picked(&[], 100, 150), None);
}

#[test]
fn a_run_is_not_merged_over_what_kafka_would_have_rolled_by_time_nor_one_that_cannot_be_read() {
    let all = runs(&[60; 4]);
    assert_eq!(window(&all, 100, 1_000, 999, |_| true), None);
    assert_eq!(window(&all, 100, 1_000, 1_000, |_| true), Some(0..2));
    assert_eq!(window(&all, 100, 1_000, i64::MAX, |run| run.segment.first_index != 1), Some(2..4));
}

#[test]
fn many_short_ones_become_fewer_each_by_a_factor() {
    let mut lengths = vec![1; MANY - 1];
    assert_eq!(picked(&lengths, 1_000, 1_000), None);
    lengths.push(1);
    assert_eq!(picked(&lengths, 1_000, 1_000), Some(0..MANY));
    lengths[0] = 64;
    lengths.push(1);
    assert_eq!(picked(&lengths, 1_000, 1_000), Some(1..MANY + 1), "the long one waits for more of its kind");
}

/// A partition of which a run comes at a time, however long: how often bytes are written.
#[test]
fn write_amplification_is_bounded_and_long_runs_result() {
    for flushed in [1, 3, 40, 350] {
        let long = 1_000;
        let (mut all, mut written, mut appended) = (Vec::new(), 0, 0);
        for _ in 0..3_000 {
            all.push(flushed);
            appended += flushed;
            while let Some(range) = picked(&all, long, 16 * long) {
                let merged: u64 = all[range.clone()].iter().sum();
                written += merged;
                all.splice(range, [merged]);
            }
        }
        let short = all.iter().filter(|length| **length < long).count();
        assert!(short < 3 * MANY, "{short} short runs of {flushed}");
        let levels = (long as f64 / flushed as f64).log(FAN_IN as f64).ceil();
        let amplification = written as f64 / appended as f64;
        assert!(amplification <= levels + 1.0, "{amplification} times for {flushed}");
        assert!(flushed < 40 || amplification <= 1.0, "{amplification} times for {flushed}");
    }
}
