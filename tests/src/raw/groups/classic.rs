//! The classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

use super::{Commit, coordinator, describe_group, subscription};
use crate::clients::eventually;
use crate::raw::{Connection, Form, Parts, Writer, code};

/// The newest version of each request.
pub const JOIN: (i16, i16) = (11, 9);
pub const HEARTBEAT: (i16, i16) = (12, 4);
pub const LEAVE: (i16, i16) = (13, 5);
pub const SYNC: (i16, i16) = (14, 5);

#[derive(Debug, Clone)]
pub struct Join {
    pub group: String,
    pub member: String,
    pub instance: Option<String>,
    pub session_ms: i32,
    pub rebalance_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    pub error: i16,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    pub member: String,
    /// Member id, instance id, metadata.
    pub members: Vec<(String, Option<String>, Vec<u8>)>,
}

impl Join {
    /// Of a new member that knows the assignor `range` and subscribes to nothing.
    pub fn new(group: &str) -> Self {
        Self {
            group: group.to_owned(),
            member: String::new(),
            instance: None,
            session_ms: 30_000,
            rebalance_ms: 30_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), subscription(&[]))],
        }
    }

    pub fn protocols(mut self, names: &[&str]) -> Self {
        self.protocols = names.iter().map(|name| ((*name).to_owned(), subscription(&[]))).collect();
        self
    }

    pub fn body(&self, version: i16) -> Writer {
        let mut form = Form::new(JOIN.0, version).text(&self.group).i32(self.session_ms);
        if version >= 1 {
            form = form.i32(self.rebalance_ms);
        }
        form = form.text(&self.member);
        if version >= 5 {
            form = form.nullable(self.instance.as_deref());
        }
        form = form.text(&self.protocol_type);
        form = form.list(Some(&self.protocols), |form, (name, metadata)| form.text(name).bytes(metadata).end());
        if version >= 8 {
            form = form.nullable(Some("a test"));
        }
        form.end().writer()
    }

    /// Sends it and waits for the answer.
    pub fn call(&self, connection: &mut Connection, version: i16) -> Joined {
        joined(&connection.call(JOIN.0, version, &self.body(version)), version)
    }
}

pub fn joined(answer: &[u8], version: i16) -> Joined {
    let mut parts = Parts::new(JOIN.0, version, answer);
    if version >= 2 {
        parts.i32();
    }
    let mut joined = Joined { error: parts.i16(), generation: parts.i32(), ..Joined::default() };
    joined.protocol_type = if version >= 7 { parts.nullable() } else { None };
    joined.protocol = parts.nullable();
    joined.leader = parts.text();
    joined.skip_assignment = version >= 9 && parts.i8() != 0;
    joined.member = parts.text();
    joined.members = parts.list(|parts| {
        let member = parts.text();
        let instance = if version >= 5 { parts.nullable() } else { None };
        let metadata = parts.bytes();
        parts.end();
        (member, instance, metadata)
    });
    parts.done();
    joined
}

/// Who a member says that it is.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    pub group: String,
    pub member: String,
    pub instance: Option<String>,
    pub generation: i32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    pub error: i16,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Vec<u8>,
}

/// A SyncGroup with the assignments that a leader has made. Protocol type and name are those that the group should have.
pub fn sync_body(
    version: i16,
    who: &Identity,
    protocol: (Option<&str>, Option<&str>),
    assignments: &[(String, Vec<u8>)],
) -> Writer {
    let mut form = Form::new(SYNC.0, version).text(&who.group).i32(who.generation).text(&who.member);
    if version >= 3 {
        form = form.nullable(who.instance.as_deref());
    }
    if version >= 5 {
        form = form.nullable(protocol.0).nullable(protocol.1);
    }
    form.list(Some(assignments), |form, (member, bytes)| form.text(member).bytes(bytes).end()).end().writer()
}

pub fn synced(answer: &[u8], version: i16) -> Synced {
    let mut parts = Parts::new(SYNC.0, version, answer);
    if version >= 1 {
        parts.i32();
    }
    let mut synced = Synced { error: parts.i16(), ..Synced::default() };
    if version >= 5 {
        synced.protocol_type = parts.nullable();
        synced.protocol = parts.nullable();
    }
    synced.assignment = parts.bytes();
    parts.done();
    synced
}

pub fn heartbeat(connection: &mut Connection, version: i16, who: &Identity) -> i16 {
    beaten(&connection.call(HEARTBEAT.0, version, &heartbeat_body(version, who)), version)
}

pub fn heartbeat_body(version: i16, who: &Identity) -> Writer {
    let mut form = Form::new(HEARTBEAT.0, version).text(&who.group).i32(who.generation).text(&who.member);
    if version >= 3 {
        form = form.nullable(who.instance.as_deref());
    }
    form.end().writer()
}

/// The error of a Heartbeat's answer.
pub fn beaten(answer: &[u8], version: i16) -> i16 {
    let mut parts = Parts::new(HEARTBEAT.0, version, answer);
    if version >= 1 {
        parts.i32();
    }
    let error = parts.i16();
    parts.done();
    error
}

/// Leaves for one member (versions 0 to 2) or for several: the error of all, and of each.
pub fn leave(
    connection: &mut Connection,
    version: i16,
    group: &str,
    members: &[(&str, Option<&str>)],
) -> (i16, Vec<i16>) {
    let mut form = Form::new(LEAVE.0, version).text(group);
    if version < 3 {
        form = form.text(members[0].0);
    } else {
        form = form.list(Some(members), |form, (member, instance)| {
            let form = form.text(member).nullable(*instance);
            if version >= 5 { form.nullable(Some("a test")).end() } else { form.end() }
        });
    }
    let answer = connection.call(LEAVE.0, version, &form.end().writer());
    let mut parts = Parts::new(LEAVE.0, version, &answer);
    if version >= 1 {
        parts.i32();
    }
    let error = parts.i16();
    let mut errors = Vec::new();
    if version >= 3 {
        errors = parts.list(|parts| {
            parts.text();
            parts.nullable();
            let error = parts.i16();
            parts.end();
            error
        });
    }
    parts.done();
    (error, errors)
}

/// A member on a connection of its own, which is where a join can wait without holding up anybody.
#[derive(Debug)]
pub struct Classic {
    pub connection: Connection,
    pub join: Join,
    pub generation: i32,
}

impl Classic {
    pub fn new(group: &str) -> Self {
        Self::with(Join::new(group))
    }

    pub fn with(join: Join) -> Self {
        Self { connection: coordinator(&join.group), join, generation: -1 }
    }

    /// A member that subscribes to a topic.
    pub fn of_topic(group: &str, topic: &str) -> Self {
        let mut join = Join::new(group);
        join.protocols = vec![("range".to_owned(), subscription(&[topic]))];
        Self::with(join)
    }

    pub fn identity(&self) -> Identity {
        Identity {
            group: self.join.group.clone(),
            member: self.join.member.clone(),
            instance: self.join.instance.clone(),
            generation: self.generation,
        }
    }

    /// Sends a join, with the id that the coordinator has given if it asks for one first.
    pub fn send_join(&mut self) -> i32 {
        if self.join.member.is_empty() && self.join.instance.is_none() {
            let told = self.join.call(&mut self.connection, JOIN.1);
            assert_eq!(told.error, code::MEMBER_ID_REQUIRED);
            self.join.member = told.member;
        }
        self.connection.send(JOIN.0, JOIN.1, &self.join.body(JOIN.1))
    }

    /// Reads the answer to a join that was sent.
    pub fn joined(&mut self, correlation: i32) -> Joined {
        let joined = joined(&self.connection.answer(JOIN.0, JOIN.1, correlation), JOIN.1);
        if joined.error == code::NONE {
            self.generation = joined.generation;
            self.join.member.clone_from(&joined.member);
        }
        joined
    }

    pub fn join(&mut self) -> Joined {
        let sent = self.send_join();
        self.joined(sent)
    }

    pub fn send_sync(&mut self, assignments: &[(String, Vec<u8>)]) -> i32 {
        let body = sync_body(SYNC.1, &self.identity(), (Some("consumer"), Some("range")), assignments);
        self.connection.send(SYNC.0, SYNC.1, &body)
    }

    pub fn synced(&mut self, correlation: i32) -> Synced {
        synced(&self.connection.answer(SYNC.0, SYNC.1, correlation), SYNC.1)
    }

    pub fn sync(&mut self, assignments: &[(String, Vec<u8>)]) -> Synced {
        let sent = self.send_sync(assignments);
        self.synced(sent)
    }

    pub fn heartbeat(&mut self) -> i16 {
        let who = self.identity();
        heartbeat(&mut self.connection, HEARTBEAT.1, &who)
    }

    pub fn leave(&mut self) -> i16 {
        let member = self.join.member.clone();
        let (error, errors) = leave(&mut self.connection, LEAVE.1, &self.join.group, &[(&member, None)]);
        if error == code::NONE { errors[0] } else { error }
    }

    /// A commit as this member.
    pub fn commit(&self) -> Commit {
        Commit { who: self.identity(), ..Commit::default() }
    }
}

/// Brings new members of a new group into one stable generation, the first as the leader: each is assigned its number
/// in `members`, as a byte.
pub fn stable(members: &mut [Classic]) -> i32 {
    let (leader, followers) = members.split_first_mut().expect("a group has members");
    assert_eq!(leader.join().error, code::NONE);
    if !followers.is_empty() {
        let sent: Vec<i32> = followers.iter_mut().map(Classic::send_join).collect();
        // The leader's join completes the generation, so it comes when all the others are known.
        let group = leader.join.group.clone();
        eventually("all members to have joined", || {
            describe_group(&mut leader.connection, &group).members.len() == followers.len() + 1
        });
        let joined = leader.join();
        assert_eq!((joined.error, joined.members.len()), (code::NONE, followers.len() + 1));
        for (follower, sent) in followers.iter_mut().zip(sent) {
            let joined = follower.joined(sent);
            assert_eq!((joined.error, joined.generation), (code::NONE, leader.generation));
        }
    }
    sync_all(members);
    members[0].generation
}

/// Syncs members that are all in one generation, the first as its leader.
pub fn sync_all(members: &mut [Classic]) {
    let assignments: Vec<(String, Vec<u8>)> =
        members.iter().enumerate().map(|(number, member)| (member.join.member.clone(), vec![number as u8])).collect();
    let mut assignments = Some(assignments);
    let sent: Vec<i32> =
        members.iter_mut().map(|member| member.send_sync(&assignments.take().unwrap_or_default())).collect();
    for (number, (member, sent)) in members.iter_mut().zip(sent).enumerate() {
        let synced = member.synced(sent);
        assert_eq!((synced.error, synced.assignment), (code::NONE, vec![number as u8]));
    }
}
