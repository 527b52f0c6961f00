//! OffsetCommit, OffsetFetch, OffsetDelete.

use super::Identity;
use crate::raw::{Connection, Form, Parts, Writer};

pub const COMMIT: (i16, i16) = (8, 10);
pub const FETCH: (i16, i16) = (9, 10);

/// From this version on both requests name topics by their ids.
pub const BY_ID: i16 = 10;

/// A topic by the name or by the id, whichever the version of the request takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicRef {
    pub name: String,
    pub id: [u8; 16],
}

impl TopicRef {
    fn write(&self, form: Form, by_id: bool) -> Form {
        if by_id { form.raw(&self.id) } else { form.text(&self.name) }
    }

    fn read(parts: &mut Parts<'_>, by_id: bool) -> Self {
        if by_id {
            Self { id: parts.uuid(), ..Self::default() }
        } else {
            Self { name: parts.text(), ..Self::default() }
        }
    }
}

/// An offset to commit.
#[derive(Debug, Clone)]
pub struct ToCommit {
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Option<String>,
}

impl ToCommit {
    pub fn new(partition: i32, offset: i64) -> Self {
        Self { partition, offset, leader_epoch: -1, metadata: Some(String::new()) }
    }
}

/// An OffsetCommit.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    pub who: Identity,
    pub topics: Vec<(TopicRef, Vec<ToCommit>)>,
}

impl Commit {
    /// Of a consumer that is no member of the group.
    pub fn alone(group: &str) -> Self {
        Self { who: Identity { group: group.to_owned(), generation: -1, ..Identity::default() }, topics: Vec::new() }
    }

    pub fn offset(self, topic: &TopicRef, partition: i32, offset: i64) -> Self {
        self.entry(topic, ToCommit::new(partition, offset))
    }

    pub fn entry(mut self, topic: &TopicRef, entry: ToCommit) -> Self {
        match self.topics.iter_mut().find(|(known, _)| known == topic) {
            Some((_, entries)) => entries.push(entry),
            None => self.topics.push((topic.clone(), vec![entry])),
        }
        self
    }

    pub fn body(&self, version: i16) -> Writer {
        let who = &self.who;
        let mut form = Form::new(COMMIT.0, version).text(&who.group).i32(who.generation).text(&who.member);
        if version >= 7 {
            form = form.nullable(who.instance.as_deref());
        }
        if (2..=4).contains(&version) {
            // No retention of its own.
            form = form.i64(-1);
        }
        form.list(Some(&self.topics), |form, (topic, entries)| {
            let form = topic.write(form, version >= BY_ID);
            form.list(Some(entries), |form, entry| {
                let mut form = form.i32(entry.partition).i64(entry.offset);
                if version >= 6 {
                    form = form.i32(entry.leader_epoch);
                }
                form.nullable(entry.metadata.as_deref()).end()
            })
            .end()
        })
        .end()
        .writer()
    }

    /// The errors in the order of the partitions.
    pub fn call(&self, connection: &mut Connection, version: i16) -> Vec<i16> {
        committed(&connection.call(COMMIT.0, version, &self.body(version)), version)
    }
}

/// The errors of an OffsetCommit's answer, in the order of its partitions.
pub fn committed(answer: &[u8], version: i16) -> Vec<i16> {
    let mut parts = Parts::new(COMMIT.0, version, answer);
    if version >= 3 {
        parts.i32();
    }
    let topics = parts.list(|parts| {
        TopicRef::read(parts, version >= BY_ID);
        let errors = parts.list(|parts| {
            parts.i32();
            let error = parts.i16();
            parts.end();
            error
        });
        parts.end();
        errors
    });
    parts.done();
    topics.concat()
}

/// A committed offset as OffsetFetch tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchedOffset {
    pub topic: TopicRef,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: Option<String>,
    pub error: i16,
}

/// The offsets of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchedGroup {
    pub group: String,
    pub error: i16,
    pub offsets: Vec<FetchedOffset>,
}

/// What is asked of one group; everything it has committed without topics.
#[derive(Debug, Clone, Default)]
pub struct FetchOf {
    pub group: String,
    /// Member and its epoch, from version 9 on.
    pub member: Option<(String, i32)>,
    pub topics: Option<Vec<(TopicRef, Vec<i32>)>>,
}

impl FetchOf {
    pub fn all(group: &str) -> Self {
        Self { group: group.to_owned(), ..Self::default() }
    }

    pub fn partitions(group: &str, topic: &TopicRef, partitions: &[i32]) -> Self {
        let topics = Some(vec![(topic.clone(), partitions.to_vec())]);
        Self { group: group.to_owned(), member: None, topics }
    }
}

/// OffsetFetch: of several groups from version 8 on, of one before.
pub fn fetch_offsets(connection: &mut Connection, version: i16, groups: &[FetchOf]) -> Vec<FetchedGroup> {
    let topics = |form: Form, of: &FetchOf| {
        form.list(of.topics.as_deref(), |form, (topic, partitions)| {
            let form = topic.write(form, version >= BY_ID);
            form.list(Some(partitions), |form, partition| form.i32(*partition)).end()
        })
    };
    let mut form = Form::new(FETCH.0, version);
    if version >= 8 {
        form = form.list(Some(groups), |form, of| {
            let mut form = form.text(&of.group);
            if version >= 9 {
                let (member, epoch) = of.member.as_ref().map_or((None, -1), |(member, epoch)| (Some(member), *epoch));
                form = form.nullable(member.map(String::as_str)).i32(epoch);
            }
            topics(form, of).end()
        });
    } else {
        form = topics(form.text(&groups[0].group), &groups[0]);
    }
    if version >= 7 {
        form = form.i8(0);
    }
    let answer = connection.call(FETCH.0, version, &form.end().writer());
    let mut parts = Parts::new(FETCH.0, version, &answer);
    if version >= 3 {
        parts.i32();
    }
    let groups = if version >= 8 {
        parts.list(|parts| {
            let group = parts.text();
            let offsets = fetched_offsets(parts, version);
            let error = parts.i16();
            parts.end();
            FetchedGroup { group, error, offsets }
        })
    } else {
        let offsets = fetched_offsets(&mut parts, version);
        let error = if version >= 2 { parts.i16() } else { 0 };
        vec![FetchedGroup { group: groups[0].group.clone(), error, offsets }]
    };
    parts.done();
    groups
}

fn fetched_offsets(parts: &mut Parts<'_>, version: i16) -> Vec<FetchedOffset> {
    let topics = parts.list(|parts| {
        let topic = TopicRef::read(parts, version >= BY_ID);
        let offsets = parts.list(|parts| {
            let mut offset = FetchedOffset { topic: topic.clone(), partition: parts.i32(), ..FetchedOffset::default() };
            offset.offset = parts.i64();
            offset.leader_epoch = if version >= 5 { parts.i32() } else { -1 };
            offset.metadata = parts.nullable();
            offset.error = parts.i16();
            parts.end();
            offset
        });
        parts.end();
        offsets
    });
    topics.concat()
}

/// Fetches one committed offset.
pub fn committed_offset(connection: &mut Connection, group: &str, topic: &TopicRef, partition: i32) -> FetchedOffset {
    let answer = fetch_offsets(connection, FETCH.1, &[FetchOf::partitions(group, topic, &[partition])]);
    assert_eq!(answer[0].error, 0, "error of the group");
    answer[0].offsets[0].clone()
}

/// OffsetDelete: the error of all, and of each partition.
pub fn delete_offsets(connection: &mut Connection, group: &str, topic: &str, partitions: &[i32]) -> (i16, Vec<i16>) {
    let topics = [(topic, partitions)];
    let form = Form::new(47, 0).text(group).list(Some(&topics), |form, (topic, partitions)| {
        form.text(topic).list(Some(partitions), |form, partition| form.i32(*partition)).end()
    });
    let answer = connection.call(47, 0, &form.end().writer());
    let mut parts = Parts::new(47, 0, &answer);
    let error = parts.i16();
    parts.i32();
    let topics = parts.list(|parts| {
        parts.text();
        parts.list(|parts| {
            parts.i32();
            parts.i16()
        })
    });
    parts.done();
    (error, topics.concat())
}
