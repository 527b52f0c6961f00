//! Finding, listing, describing and deleting groups.

use super::super::code;
use crate::clients::eventually;
use crate::raw::{Connection, Form, Parts};
use crate::target::target;

/// A coordinator as FindCoordinator tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coordinator {
    pub key: String,
    pub error: i16,
    pub node: i32,
    pub address: String,
}

/// FindCoordinator for groups (`kind` 0) or transactions (1); of one key before version 4.
pub fn find_coordinators(connection: &mut Connection, version: i16, kind: i8, keys: &[&str]) -> Vec<Coordinator> {
    let mut form = Form::new(10, version);
    if version >= 4 {
        form = form.i8(kind).list(Some(keys), |form, key| form.text(key));
    } else {
        form = form.text(keys[0]);
        if version >= 1 {
            form = form.i8(kind);
        }
    }
    let answer = connection.call(10, version, &form.end().writer());
    let mut parts = Parts::new(10, version, &answer);
    if version >= 1 {
        parts.i32();
    }
    let found = if version >= 4 {
        parts.list(|parts| {
            let key = parts.text();
            let (node, host, port) = (parts.i32(), parts.text(), parts.i32());
            let error = parts.i16();
            parts.nullable();
            parts.end();
            Coordinator { key, error, node, address: format!("{host}:{port}") }
        })
    } else {
        let error = parts.i16();
        if version >= 1 {
            parts.nullable();
        }
        let (node, host, port) = (parts.i32(), parts.text(), parts.i32());
        vec![Coordinator { key: keys[0].to_owned(), error, node, address: format!("{host}:{port}") }]
    };
    parts.done();
    found
}

/// A connection to the coordinator of a group, once it answers for the group.
pub fn coordinator(group: &str) -> Connection {
    coordinator_at(&target().bootstrap, group)
}

pub fn coordinator_at(bootstrap: &str, group: &str) -> Connection {
    let mut found = None;
    eventually("the group to have a coordinator", || {
        let coordinator = find_coordinators(&mut Connection::open(bootstrap), 6, 0, &[group]).remove(0);
        if coordinator.error != code::NONE {
            return false;
        }
        let mut connection = Connection::open(&coordinator.address);
        let ready = !is_elsewhere(describe_group(&mut connection, group).error);
        found = Some(connection);
        ready
    });
    found.expect("it was found")
}

/// Whether an error asks for another coordinator, or for patience with this one.
pub fn is_elsewhere(error: i16) -> bool {
    matches!(error, code::COORDINATOR_LOAD_IN_PROGRESS | code::COORDINATOR_NOT_AVAILABLE | code::NOT_COORDINATOR)
}

/// A group as DescribeGroups tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Described {
    pub error: i16,
    pub group: String,
    pub state: String,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribedMember {
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Vec<u8>,
    pub assignment: Vec<u8>,
}

/// The newest version of DescribeGroups.
pub const DESCRIBE: (i16, i16) = (15, 6);

pub fn describe_group(connection: &mut Connection, group: &str) -> Described {
    describe_groups(connection, DESCRIBE.1, &[group]).remove(0)
}

pub fn describe_groups(connection: &mut Connection, version: i16, groups: &[&str]) -> Vec<Described> {
    let mut form = Form::new(DESCRIBE.0, version).list(Some(groups), |form, group| form.text(group));
    if version >= 3 {
        form = form.i8(0);
    }
    described(&connection.call(DESCRIBE.0, version, &form.end().writer()), version)
}

pub fn described(answer: &[u8], version: i16) -> Vec<Described> {
    let mut parts = Parts::new(DESCRIBE.0, version, answer);
    if version >= 1 {
        parts.i32();
    }
    let described = parts.list(|parts| {
        let mut described = Described { error: parts.i16(), ..Described::default() };
        if version >= 6 {
            parts.nullable();
        }
        described.group = parts.text();
        described.state = parts.text();
        described.protocol_type = parts.text();
        described.protocol = parts.text();
        described.members = parts.list(|parts| {
            let mut member = DescribedMember { member: parts.text(), ..DescribedMember::default() };
            member.instance = if version >= 4 { parts.nullable() } else { None };
            member.client_id = parts.text();
            member.client_host = parts.text();
            member.metadata = parts.bytes();
            member.assignment = parts.bytes();
            parts.end();
            member
        });
        if version >= 3 {
            parts.i32();
        }
        parts.end();
        described
    });
    parts.done();
    described
}

/// A line of ListGroups. State and type are empty where the version does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    pub group: String,
    pub protocol_type: String,
    pub state: String,
    pub kind: String,
}

/// ListGroups with filters of states (from version 4 on) and types (from 5 on).
pub fn list_groups(connection: &mut Connection, version: i16, states: &[&str], kinds: &[&str]) -> Vec<Listed> {
    let mut form = Form::new(16, version);
    if version >= 4 {
        form = form.list(Some(states), |form, state| form.text(state));
    }
    if version >= 5 {
        form = form.list(Some(kinds), |form, kind| form.text(kind));
    }
    let answer = connection.call(16, version, &form.end().writer());
    let mut parts = Parts::new(16, version, &answer);
    if version >= 1 {
        parts.i32();
    }
    assert_eq!(parts.i16(), code::NONE, "error of ListGroups");
    let listed = parts.list(|parts| {
        let mut listed = Listed { group: parts.text(), protocol_type: parts.text(), ..Listed::default() };
        if version >= 4 {
            listed.state = parts.text();
        }
        if version >= 5 {
            listed.kind = parts.text();
        }
        parts.end();
        listed
    });
    parts.done();
    listed
}

/// DeleteGroups: the error of each.
pub fn delete_groups(connection: &mut Connection, version: i16, groups: &[&str]) -> Vec<i16> {
    let form = Form::new(42, version).list(Some(groups), |form, group| form.text(group));
    let answer = connection.call(42, version, &form.end().writer());
    let mut parts = Parts::new(42, version, &answer);
    parts.i32();
    let errors = parts.list(|parts| {
        parts.text();
        let error = parts.i16();
        parts.end();
        error
    });
    parts.done();
    errors
}
