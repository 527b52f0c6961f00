use bytes::{Buf, Bytes};
use proptest::prelude::*;

use super::*;

/// What `write` put after the frame's length and the correlation id.
fn written(flexible: bool, write: impl Fn(&mut Writer)) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::response(0, 0, flexible, 0);
    write(&mut writer);
    let mut frame = writer.finish()?;
    frame.advance(8);
    Ok(frame.copy_to_bytes(frame.remaining()))
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        flexible: bool, number: i64, small: i16, text in ".{0,300}", none in any::<Option<u8>>(),
        elements in proptest::collection::vec(any::<i32>(), 0..300), id: u128,
    ) {
        let id = uuid::Uuid::from_u128(id);
        let bytes = written(flexible, |w| {
            w.i64(number);
            w.i16(small);
            w.string(&text, "text");
            w.nullable_string(none.map(|_| text.as_str()), "none");
            w.vec(&elements, "elements", |w, element| w.i32(*element));
            w.uuid(id);
            w.tagged(&[(1, false, &|_| ()), (7, true, &|w| w.string(&text, "text"))]);
            w.i16(-1);
        })?;
        let mut read = Reader::new(bytes, flexible);
        prop_assert_eq!(read.i64("number")?, number);
        prop_assert_eq!(read.i16("small")?, small);
        prop_assert_eq!(read.string("text")?.into_string(), text.clone());
        prop_assert_eq!(read.nullable_string("none")?.is_some(), none.is_some());
        prop_assert_eq!(read.vec(4, "elements", |r| r.i32("element"))?, elements);
        prop_assert_eq!(read.uuid("id")?, id);
        let mut tagged = None;
        read.tagged(|tag, field| {
            tagged = Some((tag, field.string("text")?));
            Ok(())
        })?;
        prop_assert_eq!(tagged.map(|(tag, text)| (tag, text.into_string())), flexible.then(|| (7, text.clone())));
        prop_assert_eq!(read.i16("end")?, -1);
        prop_assert_eq!(read.rest().len(), 0);
    }
}

#[test]
fn hostile_lengths_are_refused_before_memory_is_reserved() {
    let claim = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes), false);
    assert_eq!(
        claim(&[0x7f, 0xff, 0xff, 0xff, 0, 0]).vec(1, "topics", |r| r.i8("topic")),
        Err(DecodeError::BadCount { what: "topics", at: 0, count: i32::MAX as usize, left: 2 })
    );
    assert_eq!(
        claim(&[0xff, 0xff, 0xff, 0xfe]).nullable_bytes("records"),
        Err(DecodeError::BadLength { what: "records", at: 0, length: -2 })
    );
    assert_eq!(
        claim(&[0x7f, 0xff, b'a']).string("name"),
        Err(DecodeError::Truncated { what: "name", at: 2, needed: 0x7fff, left: 1 })
    );
    assert_eq!(claim(&[0xff, 0xff]).string("name"), Err(DecodeError::Null { what: "name", at: 0 }));
    assert_eq!(claim(&[0, 1, 0xff]).string("name"), Err(DecodeError::NotUtf8 { what: "name", at: 2 }));
    let mut varint = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x1f]), true);
    assert_eq!(varint.string("name"), Err(DecodeError::BadVarint { what: "name", at: 0 }));
    let mut tags = Reader::new(Bytes::from_static(&[65]), true);
    assert_eq!(tags.skip_tagged(), Err(DecodeError::BadCount { what: "tagged fields", at: 0, count: 65, left: 0 }));
}

#[test]
fn a_string_too_long_for_its_length_is_an_error_of_the_frame() {
    let long = "x".repeat(40_000);
    assert!(written(true, |w| w.string(&long, "host")).is_ok());
    assert_eq!(
        written(false, |w| w.string(&long, "host")),
        Err(EncodeError::TooLong { what: "host", length: 40_000, max: 32_767 })
    );
}
