use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn range(path: &str, offset: u64) -> StateHandle {
    StateHandle::File(FileRange {
        path: path.to_owned(),
        offset,
        length: 100,
        checksum: 0x0102_0304,
    })
}

fn small() -> SnapshotMetadata {
    let chunk = |index, content| StateChunk {
        index,
        entries: 3,
        content,
    };
    SnapshotMetadata {
        job: JobId::from_bytes([7; 16]),
        checkpoint: CheckpointId(42),
        kind: SnapshotKind::Checkpoint,
        timestamp_ms: 1_764_000_000_000,
        operators: vec![OperatorMetadata {
            uid: "count".to_owned(),
            name: "Count".to_owned(),
            parallelism: 2,
            max_parallelism: 128,
            states: vec![
                StateSnapshot {
                    name: "value".to_owned(),
                    distribution: Distribution::KeyGroup,
                    schema: "value<u64>".to_owned(),
                    chunks: vec![chunk(0, range("a", 0)), chunk(1, range("a", 100))],
                },
                StateSnapshot {
                    name: "offsets".to_owned(),
                    distribution: Distribution::Split,
                    schema: "list<i64>".to_owned(),
                    chunks: vec![
                        chunk(0, StateHandle::Inline(vec![1, 2, 3])),
                        chunk(1, range("hdfs://n/b", 0)),
                    ],
                },
            ],
            finished: Vec::new(),
        }],
    }
}

#[test]
fn the_format_stays_as_it_is() {
    let bytes = small().encode();
    assert_eq!(SnapshotMetadata::decode(&bytes), Ok(small()));
    assert_eq!(&bytes[..12], b"SPDLMETA\x02\0\0\0");
    // What earlier releases wrote must be read for ever: a change here is another version.
    assert_eq!(bytes.len(), 306);
    // The count of finished subtasks is all that version 1 lacks, and here the last of the body.
    let mut first = bytes[..298].to_vec();
    first[8] = 1;
    first[12..20].copy_from_slice(&278_u64.to_le_bytes());
    let sum = checksum(&first);
    assert_eq!(sum, 636_139_422);
    first.extend_from_slice(&sum.to_le_bytes());
    assert_eq!(SnapshotMetadata::decode(&first), Ok(small()));
}

#[test]
fn each_flipped_bit_of_each_byte_is_found() {
    let bytes = small().encode();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(SnapshotMetadata::decode(&damaged).is_err(), "{at}.{bit}");
        }
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        assert!(SnapshotMetadata::decode(&damaged).is_err(), "{at}");
    }
}

#[test]
fn each_truncation_and_each_byte_too_many_is_found() {
    let mut bytes = small().encode();
    for length in 0..bytes.len() {
        let error = SnapshotMetadata::decode(&bytes[..length]).unwrap_err();
        let is_length =
            matches!(error, MetadataError::Length { found, .. } if found == length as u64);
        assert!(is_length, "{length}: {error}");
    }
    bytes.push(0);
    let error = SnapshotMetadata::decode(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it has 307 bytes where it should have 306"
    );
}

#[test]
fn what_is_something_else_or_of_another_release_is_told_so() {
    let told = |bytes: &[u8]| SnapshotMetadata::decode(bytes).unwrap_err();
    assert_eq!(told(b"PAR1"), MetadataError::NotMetadata);
    assert_eq!(told(&[b'x'; 400]), MetadataError::NotMetadata);
    let mut later = small().encode();
    later[8] = 9;
    let end = later.len() - 4;
    let sum = checksum(&later[..end]).to_le_bytes();
    later[end..].copy_from_slice(&sum);
    assert_eq!(told(&later), MetadataError::Version { found: 9 });
}

#[test]
fn a_wrong_body_under_a_right_checksum_is_no_panic() {
    let bytes = small().encode();
    for at in HEAD..bytes.len() - 4 {
        for value in [0, 1, 0x7f, 0xff] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            let end = wrong.len() - 4;
            let sum = checksum(&wrong[..end]).to_le_bytes();
            wrong[end..].copy_from_slice(&sum);
            drop(SnapshotMetadata::decode(&wrong));
        }
    }
}

fn content() -> impl Strategy<Value = StateHandle> {
    let file = ("[a-c]{1,2}", any::<u64>(), any::<u64>(), any::<u32>());
    prop_oneof![
        vec(any::<u8>(), 0..20).prop_map(StateHandle::Inline),
        file.prop_map(
            |(path, offset, length, checksum)| StateHandle::File(FileRange {
                path,
                offset,
                length,
                checksum,
            })
        ),
    ]
}

fn state() -> impl Strategy<Value = StateSnapshot> {
    let chunk = (any::<u32>(), any::<u64>(), content());
    let chunk = chunk.prop_map(|(index, entries, content)| StateChunk {
        index,
        entries,
        content,
    });
    let distribution = prop::sample::select(vec![
        Distribution::KeyGroup,
        Distribution::Split,
        Distribution::Union,
        Distribution::Broadcast,
        Distribution::InFlight,
    ]);
    (".{0,4}", distribution, ".{0,4}", vec(chunk, 0..4)).prop_map(
        |(name, distribution, schema, chunks)| StateSnapshot {
            name,
            distribution,
            schema,
            chunks,
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        (job, checkpoint, timestamp_ms) in (any::<[u8; 16]>(), any::<u64>(), any::<i64>()),
        kind in prop::sample::select(vec![
            SnapshotKind::Checkpoint,
            SnapshotKind::Savepoint,
            SnapshotKind::StopWithSavepoint,
            SnapshotKind::Drain,
        ]),
        states in vec((".{0,8}", vec(state(), 0..3), vec(any::<u32>(), 0..3)), 0..4),
    ) {
        let operators = states.into_iter().map(|(uid, states, finished)| OperatorMetadata {
            name: uid.to_uppercase(),
            uid,
            parallelism: 3,
            max_parallelism: 128,
            states,
            finished,
        });
        let metadata = SnapshotMetadata {
            job: JobId::from_bytes(job),
            checkpoint: CheckpointId(checkpoint),
            kind,
            timestamp_ms,
            operators: operators.collect(),
        };
        prop_assert_eq!(SnapshotMetadata::decode(&metadata.encode()), Ok(metadata));
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in vec(any::<u8>(), 0..64)) {
        let mut framed = MAGIC.to_vec();
        framed.extend_from_slice(&METADATA_VERSION.to_le_bytes());
        framed.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        framed.extend_from_slice(&bytes);
        let sum = checksum(&framed).to_le_bytes();
        framed.extend_from_slice(&sum);
        drop(SnapshotMetadata::decode(&framed));
        prop_assert!(SnapshotMetadata::decode(&bytes).is_err());
    }
}
