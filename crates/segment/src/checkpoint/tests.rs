use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::names::JournalKeys;
use crate::testing::Seeded;
use crate::{Bucket, StoreError};

fn keys() -> JournalKeys {
    JournalKeys::new("cluster", JournalId(7)).unwrap()
}

fn checkpoint(epoch: u32, index: u64, state: &'static [u8]) -> Checkpoint {
    let (name, state) = (CheckpointName { epoch, index }, Bytes::from_static(state));
    Checkpoint { journal: JournalId(7), name, bases: Vec::new(), state }
}

fn on(bases: &[&Checkpoint], checkpoint: Checkpoint) -> Checkpoint {
    let base = |base: &&Checkpoint| Base { name: base.name, len: base.state.len() as u64 };
    Checkpoint { bases: bases.iter().map(base).collect(), ..checkpoint }
}

fn object(checkpoint: &Checkpoint) -> Bytes {
    checkpoint.encode().concat().into()
}

async fn bucket_with(checkpoints: &[Checkpoint]) -> Bucket {
    let bucket = Bucket::in_memory(Arc::new(Seeded::new(1)));
    for checkpoint in checkpoints {
        checkpoint.write(&bucket, &keys()).await.unwrap();
    }
    bucket
}

proptest! {
    #[test]
    fn round_trip(journal in any::<u32>(), name in any::<(u32, u32)>(), lens in proptest::collection::vec(any::<u64>(), 0..5), state in any::<Vec<u8>>()) {
        let name = CheckpointName { epoch: name.0, index: u64::from(name.1) + 10 };
        let base = |(n, len): (usize, u64)| Base { name: CheckpointName { epoch: 0, index: n as u64 }, len };
        let bases: Vec<Base> = lens.into_iter().enumerate().map(base).collect();
        let state_at = HEADER_LEN + bases.len() * BASE_LEN;
        let checkpoint = Checkpoint { journal: JournalId(journal), name, bases, state: state.into() };
        let object = object(&checkpoint);
        let parsed = Checkpoint::parse(&object).unwrap();
        prop_assert_eq!(&parsed, &checkpoint);
        prop_assert_eq!(parsed.state.as_ptr(), object[state_at..].as_ptr());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), magic in any::<bool>(), seal in any::<bool>()) {
        let mut object = if magic { [&MAGIC[..], &bytes].concat() } else { bytes };
        if seal {
            let crc = crc32c::crc32c(&object);
            object.put_u32(crc);
        }
        let _ = Checkpoint::parse(&object.into());
    }
}

#[test]
fn any_flipped_bit_or_cut_is_detected() {
    let good = object(&checkpoint(3, 25, b"the state"));
    for at in 0..good.len() {
        assert!(Checkpoint::parse(&good.slice(..at)).is_err());
        for bit in 0..8 {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << bit;
            assert!(Checkpoint::parse(&bad.into()).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn the_bytes_are_those_of_the_table() {
    let mut expected = Vec::from(*b"TIDECKPT");
    expected.put_u16(2);
    expected.put_u16(0);
    expected.put_u32(7);
    expected.put_u32(3);
    expected.put_u64(25);
    expected.put_u64(9);
    expected.put_u32(1);
    expected.put_u32(2);
    expected.put_u64(24);
    expected.put_u64(3);
    expected.put_slice(b"the state");
    let crc = crc32c::crc32c(&expected);
    expected.put_u32(crc);
    assert_eq!(object(&on(&[&checkpoint(2, 24, b"old")], checkpoint(3, 25, b"the state"))), expected);
}

#[tokio::test]
async fn the_newest_good_one_is_found_and_damage_is_named() {
    let (old, newer) = (checkpoint(2, 900, b"old"), checkpoint(10, 7, b"newer"));
    let bucket = bucket_with(&[newer.clone(), old.clone()]).await;
    assert_eq!(Checkpoint::newest(&bucket, &keys()).await.unwrap().checkpoints, [newer]);

    let cut = keys().checkpoint(CheckpointName { epoch: 10, index: 8 });
    let misnamed = keys().checkpoint(CheckpointName { epoch: 10, index: 9 });
    bucket.put_new(&cut, vec![Bytes::from_static(b"TIDECKPT and no more")]).await.unwrap();
    bucket.put_new(&misnamed, old.encode()).await.unwrap();
    bucket.put_new(&format!("{}/notes", keys().checkpoints()), vec![]).await.unwrap();
    let found = Checkpoint::newest(&bucket, &keys()).await.unwrap();
    assert_eq!(found.checkpoints[0].name, CheckpointName { epoch: 10, index: 7 });
    assert_eq!(found.damaged.iter().map(|damaged| &damaged.key).collect::<Vec<_>>(), [&misnamed, &cut]);

    let keep = [CheckpointName { epoch: 10, index: 9 }];
    assert_eq!(Checkpoint::delete_older(&bucket, &keys(), &keep).await.unwrap(), 3);
    assert_eq!(bucket.list(&keys().checkpoints()).await.unwrap().len(), 2, "the one to keep and what is not ours");
}

#[tokio::test]
async fn a_journal_without_checkpoints_has_none() {
    let bucket = bucket_with(&[]).await;
    let found = Checkpoint::newest(&bucket, &keys()).await.unwrap();
    assert_eq!((found.checkpoints, found.damaged), (vec![], vec![]));
}

#[tokio::test]
async fn one_of_a_newer_release_is_not_passed_over() {
    let bucket = bucket_with(&[checkpoint(1, 1, b"old")]).await;
    let newer = checkpoint(1, 2, b"new");
    let mut object = object(&newer).to_vec();
    object[9] = 3;
    let content_len = object.len() - CRC_LEN;
    let crc = crc32c::crc32c(&object[..content_len]);
    object[content_len..].copy_from_slice(&crc.to_be_bytes());
    bucket.put_new(&keys().checkpoint(newer.name), vec![object.into()]).await.unwrap();
    assert!(matches!(Checkpoint::newest(&bucket, &keys()).await, Err(StoreError::Refused(_))));
}

#[tokio::test]
async fn writing_it_again_is_fine_and_another_of_its_name_is_not() {
    let bucket = bucket_with(&[checkpoint(1, 1, b"state")]).await;
    checkpoint(1, 1, b"state").write(&bucket, &keys()).await.unwrap();
    let other = checkpoint(1, 1, b"other").write(&bucket, &keys()).await;
    assert!(matches!(other, Err(StoreError::Exists(_))));
}

#[tokio::test]
async fn it_comes_with_its_bases_or_an_older_one_does() {
    let base = checkpoint(1, 10, b"all");
    let second = on(&[&base], checkpoint(1, 20, b"some"));
    let third = on(&[&base, &second], checkpoint(2, 30, b"more"));
    let bucket = bucket_with(&[base.clone(), second.clone(), third.clone()]).await;
    let found = Checkpoint::newest(&bucket, &keys()).await.unwrap();
    assert_eq!(found.checkpoints, [base.clone(), second.clone(), third.clone()]);
    assert_eq!(Checkpoint::delete_older(&bucket, &keys(), &[base.name, third.name]).await.unwrap(), 1);
    let found = Checkpoint::newest(&bucket, &keys()).await.unwrap();
    assert_eq!(found.checkpoints, [base]);
    assert_eq!(found.damaged.len(), 1);
    assert!(found.damaged[0].why.contains("missing"), "{:?}", found.damaged);
}

#[test]
fn bases_that_are_not_before_it_are_refused() {
    let (older, newer) = (checkpoint(1, 10, b""), checkpoint(1, 20, b""));
    for bases in [&[&newer, &older][..], &[&older, &older], &[&checkpoint(1, 30, b"")], &[&checkpoint(2, 10, b"")]] {
        let wrong = on(bases, checkpoint(1, 30, b"x"));
        assert!(matches!(Checkpoint::parse(&object(&wrong)), Err(FormatError::Invalid { .. })), "{bases:?}");
    }
}
