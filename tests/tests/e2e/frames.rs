//! What does not speak Kafka's protocol, or only half, harms nobody else.

use tidemark_tests::raw::{Connection, End, Reader, Writer, code};
use tidemark_tests::target::target;

fn connect() -> Connection {
    Connection::open(&target().bootstrap)
}

/// Sends bytes to a connection of their own, expects it to be closed, and another to be served.
fn closes(what: &str, bytes: &[u8]) {
    let mut connection = connect();
    connection.write(bytes);
    assert_eq!(connection.end(), End::Closed, "{what}");
    assert_eq!(api_versions(&mut connect(), 0).0, code::NONE, "served after {what}");
}

/// The error and the api keys with their versions that ApiVersions answers.
fn api_versions(connection: &mut Connection, version: i16) -> (i16, Vec<(i16, i16, i16)>) {
    let body = match version {
        0..=2 => Writer::new(),
        _ => Writer::new().compact_string("tidemark-tests").compact_string("1.0").tags(),
    };
    let answer = connection.call(18, version, &body);
    let mut reader = Reader::new(&answer);
    let error = reader.i16();
    let old = version < 3 || error == code::UNSUPPORTED_VERSION;
    let count = if old { reader.i32() as usize } else { reader.compact_array() };
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push((reader.i16(), reader.i16(), reader.i16()));
        if !old {
            reader.tags();
        }
    }
    (error, keys)
}

#[test]
fn garbage() {
    closes("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    closes("TLS", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]);
    closes("noise", &[0xff; 4096]);
}

#[test]
fn frames_of_impossible_lengths() {
    closes("a negative length", &(-1i32).to_be_bytes());
    closes("two gigabytes", &i32::MAX.to_be_bytes());
    closes("more than the limit", &(101i32 << 20).to_be_bytes());
    closes("nothing", &0i32.to_be_bytes());
}

#[test]
fn frames_cut_short() {
    // A header alone, half a header, and a body that ends inside a string.
    closes("half a header", &Writer::new().i32(5).i16(3).i16(12).i8(0).bytes);
    closes("no body", &Connection::frame(3, 12, 1, &[]));
    let body = Writer::new().compact_array(1).raw(&[0; 16]).uvarint(200).raw(b"short");
    closes("a string beyond the frame", &Connection::frame(3, 12, 1, &body.bytes));
    closes("an array of a billion", &Connection::frame(3, 12, 1, &Writer::new().uvarint(1 << 30).bytes));
    closes("an array of a billion, old style", &Connection::frame(3, 1, 1, &Writer::new().i32(1 << 30).bytes));
}

#[test]
fn a_frame_that_never_ends() {
    let mut connection = connect();
    connection.write(&Writer::new().i32(1000).raw(&[0; 10]).bytes);
    connection.finish();
    assert_eq!(connection.end(), End::Closed);
    assert_eq!(api_versions(&mut connect(), 0).0, code::NONE);
}

#[test]
fn requests_nobody_knows() {
    closes("an unknown request", &Connection::frame(999, 0, 1, &[]));
    closes("a negative request", &Connection::frame(-5, 0, 1, &[]));
    closes("a version of the future", &Connection::frame(3, 99, 1, &[0; 16]));
    closes("a version of the past", &Connection::frame(1, 0, 1, &[0; 16]));
    closes("a negative version", &Connection::frame(3, -1, 1, &[0; 16]));
}

#[test]
fn api_versions_of_every_version() {
    for version in 0..=4 {
        let (error, keys) = api_versions(&mut connect(), version);
        assert_eq!(error, code::NONE);
        for (key, least, most) in [(0, 0, 13), (1, 4, 18), (2, 1, 11), (3, 0, 13), (18, 0, 4), (19, 2, 7), (22, 0, 5)] {
            assert!(keys.contains(&(key, least, most)), "request {key} {least}..{most} in {keys:?}");
        }
        assert!(keys.is_sorted(), "in the order of their keys");
    }
}

#[test]
fn api_versions_of_the_future_is_answered_in_the_oldest() {
    let mut connection = connect();
    let (error, keys) = api_versions(&mut connection, 99);
    assert_eq!(error, code::UNSUPPORTED_VERSION);
    assert_eq!(keys, [(18, 0, 4)], "which versions there are of it");
    // And the same connection goes on.
    assert_eq!(api_versions(&mut connection, 3).0, code::NONE);
}

#[test]
fn requests_in_a_row_are_answered_in_that_order() {
    let mut connection = connect();
    let metadata = Writer::new().compact_array(0).i8(0).i8(0).tags();
    let sent: Vec<_> = (0..100)
        .map(|n| match n % 2 {
            0 => (18, 0, connection.send(18, 0, &Writer::new())),
            _ => (3, 9, connection.send(3, 9, &Writer::new().raw(&metadata.bytes[..1]).i8(0).i8(0).i8(0).tags())),
        })
        .collect();
    for (key, version, correlation) in sent {
        connection.answer(key, version, correlation);
    }
}

#[test]
fn a_request_in_pieces() {
    let mut connection = connect();
    let frame = Connection::frame(18, 0, 7, &[]);
    for byte in &frame {
        connection.write(&[*byte]);
    }
    assert_eq!(Reader::new(&connection.answer(18, 0, 7)).i16(), code::NONE);
}

#[test]
fn a_request_without_a_client_id() {
    let mut connection = connect();
    // A null string where the name would be.
    let header = Writer::new().i16(18).i16(0).i32(9).i16(-1);
    connection.write(&Writer::new().i32(header.bytes.len() as i32).raw(&header.bytes).bytes);
    assert_eq!(Reader::new(&connection.answer(18, 0, 9)).i16(), code::NONE);
}
