//! What happened to the members of one group, in lines of text: a process that is killed leaves all lines but perhaps
//! the last.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Microseconds since 1970, of the clock that all processes of a machine share.
pub fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it was written down, as [`now`] tells.
    pub at: u64,
    pub member: String,
    pub what: What,
}

/// Partitions are of the one topic that the group reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It owns these, from now on.
    Assigned(Vec<i32>),
    /// It has owned these until now, and has not told the coordinator yet that it lets go.
    Revoked(Vec<i32>),
    /// It has been told that these are no longer its own, for who knows how long.
    Lost(Vec<i32>),
    /// All that it owned in a generation, or at a member epoch.
    Owns {
        generation: i32,
        partitions: Vec<i32>,
    },
    /// It was given the records of these offsets, the last included, without a gap.
    Delivered {
        partition: i32,
        first: i64,
        last: i64,
    },
    /// It asked at `began` for the committed offset and has been told it; -1 is none.
    Fetched {
        partition: i32,
        began: u64,
        offset: i64,
    },
    /// It begins a commit.
    Committing {
        id: u64,
        offsets: Vec<(i32, i64)>,
    },
    /// The commit is acknowledged.
    Committed {
        id: u64,
    },
    /// The commit failed: it counts, will still count, or never does.
    Uncertain {
        id: u64,
    },
    /// It is stopped without being asked, and goes on.
    Paused,
    Resumed,
    /// It is no more.
    Killed,
    /// It has left, and ends.
    Left,
}

impl Display for Event {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { at, member, what } = self;
        write!(formatter, "{at} {member} ")?;
        let numbers = |numbers: &[i32]| numbers.iter().map(|number| format!(" {number}")).collect::<String>();
        match what {
            What::Assigned(partitions) => write!(formatter, "assigned{}", numbers(partitions)),
            What::Revoked(partitions) => write!(formatter, "revoked{}", numbers(partitions)),
            What::Lost(partitions) => write!(formatter, "lost{}", numbers(partitions)),
            What::Owns { generation, partitions } => write!(formatter, "owns {generation}{}", numbers(partitions)),
            What::Delivered { partition, first, last } => write!(formatter, "delivered {partition} {first} {last}"),
            What::Fetched { partition, began, offset } => write!(formatter, "fetched {partition} {began} {offset}"),
            What::Committing { id, offsets } => {
                write!(formatter, "committing {id}")?;
                offsets.iter().try_for_each(|(partition, offset)| write!(formatter, " {partition}:{offset}"))
            }
            What::Committed { id } => write!(formatter, "committed {id}"),
            What::Uncertain { id } => write!(formatter, "uncertain {id}"),
            What::Paused => formatter.write_str("paused"),
            What::Resumed => formatter.write_str("resumed"),
            What::Killed => formatter.write_str("killed"),
            What::Left => formatter.write_str("left"),
        }
    }
}

impl Event {
    pub fn parse(line: &str) -> Result<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next().context("the line is cut");
        let (at, member, kind) = (word()?.parse()?, word()?.to_owned(), word()?);
        let rest: Vec<&str> = words.collect();
        let one = |index: usize| rest.get(index).copied().context("the line is cut");
        let numbers =
            |from: usize| -> Result<Vec<i32>> { rest.iter().skip(from).map(|word| Ok(word.parse()?)).collect() };
        let what = match kind {
            "assigned" => What::Assigned(numbers(0)?),
            "revoked" => What::Revoked(numbers(0)?),
            "lost" => What::Lost(numbers(0)?),
            "owns" => What::Owns { generation: one(0)?.parse()?, partitions: numbers(1)? },
            "delivered" => {
                What::Delivered { partition: one(0)?.parse()?, first: one(1)?.parse()?, last: one(2)?.parse()? }
            }
            "fetched" => {
                What::Fetched { partition: one(0)?.parse()?, began: one(1)?.parse()?, offset: one(2)?.parse()? }
            }
            "committing" => {
                let offsets = rest.iter().skip(1).map(|word| {
                    let (partition, offset) = word.split_once(':').context("an offset")?;
                    Ok((partition.parse()?, offset.parse()?))
                });
                What::Committing { id: one(0)?.parse()?, offsets: offsets.collect::<Result<_>>()? }
            }
            "committed" => What::Committed { id: one(0)?.parse()? },
            "uncertain" => What::Uncertain { id: one(0)?.parse()? },
            "paused" => What::Paused,
            "resumed" => What::Resumed,
            "killed" => What::Killed,
            "left" => What::Left,
            other => bail!("what is {other}"),
        };
        Ok(Self { at, member, what })
    }
}

/// Where a member writes its history.
#[derive(Debug)]
pub struct Log {
    file: File,
    member: String,
}

impl Log {
    pub fn create(path: &Path, member: &str) -> Result<Self> {
        Ok(Self { file: File::create(path)?, member: member.to_owned() })
    }

    pub fn write(&self, what: What) {
        let event = Event { at: now(), member: self.member.clone(), what };
        // One write, so that a kill leaves whole lines.
        (&self.file).write_all(format!("{event}\n").as_bytes()).expect("the disk takes a line");
    }
}

/// Reads what a member wrote. A kill may have cut its last line.
pub fn read(path: &Path) -> Result<Vec<Event>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| Event::parse(line).with_context(|| format!("in {line:?}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_read_as_it_was_written() {
        let events = [
            What::Assigned(vec![1, 2]),
            What::Revoked(vec![]),
            What::Lost(vec![7]),
            What::Owns { generation: 5, partitions: vec![0, 3] },
            What::Owns { generation: 5, partitions: vec![] },
            What::Delivered { partition: 3, first: 10, last: 20 },
            What::Fetched { partition: 3, began: 17, offset: -1 },
            What::Committing { id: 9, offsets: vec![(0, 1), (5, 77)] },
            What::Committed { id: 9 },
            What::Uncertain { id: 10 },
            What::Paused,
            What::Resumed,
            What::Killed,
            What::Left,
        ];
        for what in events {
            let event = Event { at: 12, member: "m-1".to_owned(), what };
            assert_eq!(Event::parse(&event.to_string()).expect("a good line"), event);
        }
        assert!(Event::parse("12 m-1 delivered 3 1").is_err());
        assert!(Event::parse("12 m-1 danced").is_err());
    }
}
