//! The metadata of a snapshot, as it may lie in HDFS: what is read is what was written. The bytes are tried as they are, and as a body in a
//! right frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spindle_common::checkpoint::checksum;
use spindle_common::checkpoint::metadata::{METADATA_VERSION, SnapshotMetadata};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let mut framed = b"SPDLMETA".to_vec();
    framed.extend_from_slice(&METADATA_VERSION.to_le_bytes());
    framed.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    framed.extend_from_slice(bytes);
    let sum = checksum(&framed).to_le_bytes();
    framed.extend_from_slice(&sum);
    read(&framed);
});

fn read(bytes: &[u8]) {
    if let Ok(metadata) = SnapshotMetadata::decode(bytes) {
        let again = SnapshotMetadata::decode(&metadata.encode());
        assert_eq!(again, Ok(metadata));
    }
}
