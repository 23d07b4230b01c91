use std::io::Write;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use serde::Deserialize;

use spindle_common::execution::FailureClass;

use super::super::{Compression, FileSource};
use super::*;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    // Without it a changed byte may go unnoticed.
    encoder.include_checksum(true).unwrap();
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

type Pack = fn(&[u8]) -> Vec<u8>;

const PACKS: [(&str, Pack); 2] = [("gz", gzip), ("zst", zstd)];

/// Lines that do not pack well, more than is fetched or unpacked at once.
fn many_lines() -> Vec<String> {
    let line = |n: u64| format!("{n} {:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (0..100_000).map(line).collect()
}

#[test]
fn packed_files_are_read_whole_by_one_subtask() {
    let fixture = Fixture::new();
    let lines = many_lines();
    for (ending, pack) in PACKS {
        let uri = fixture.write(&format!("a.{ending}"), pack(lines.join("\n").as_bytes()));
        let read = fixture
            .read(&FileSource::lines(uri).max_split(1000), 3)
            .unwrap();
        assert_eq!(read.iter().filter(|lines| !lines.is_empty()).count(), 1);
        assert!(read.concat() == lines, "{ending}");
    }
}

#[test]
fn several_members_and_frames_are_one_text() {
    let fixture = Fixture::new();
    for (ending, pack) in PACKS {
        let parts = [pack(b"one\ntw"), pack(b""), pack(b"o\nthree")];
        let uri = fixture.write(&format!("a.{ending}"), parts.concat());
        let read = fixture.read(&FileSource::lines(uri), 1).unwrap();
        assert_eq!(read.concat(), ["one", "two", "three"], "{ending}");
    }
}

#[test]
fn what_is_stated_counts_more_than_the_name() {
    let fixture = Fixture::new();
    let read = |uri: &str, compression| {
        let source = FileSource::lines(uri).compression(compression);
        fixture.read(&source, 2).unwrap().concat()
    };
    let uri = fixture.write("packed.txt", gzip(b"a\nb\n"));
    assert_eq!(read(&uri, Compression::Gzip), ["a", "b"]);
    let uri = fixture.write("packed.gz", zstd(b"a\nb\n"));
    assert_eq!(read(&uri, Compression::Zstd), ["a", "b"]);
    let uri = fixture.write("plain.gz", "a\nb\n");
    assert_eq!(read(&uri, Compression::None), ["a", "b"]);
}

#[test]
fn truncated_files_are_errors_that_say_where_they_end() {
    let fixture = Fixture::new();
    let text = many_lines().join("\n");
    for (ending, pack) in PACKS {
        let packed = pack(text.as_bytes());
        for len in [1, 5, packed.len() / 2, packed.len() - 1] {
            let name = format!("a{len}.{ending}");
            let uri = fixture.write(&name, &packed[..len]);
            let error = fixture.read(&FileSource::lines(&uri), 1).unwrap_err();
            let expected =
                format!("`{uri}` is truncated: it ends at byte {len}, in the middle of its ");
            assert!(error.message.starts_with(&expected), "{error}");
            assert_eq!(error.class, FailureClass::FailJob);
        }
    }
}

#[test]
fn broken_files_are_errors_that_say_where_and_what_was_expected() {
    let fixture = Fixture::new();
    let text = many_lines().join("\n");
    for (ending, pack) in PACKS {
        let mut packed = pack(text.as_bytes());
        let middle = packed.len() / 2;
        packed[middle..middle + 64].fill(0xa5);
        for (name, bytes) in [
            ("broken", packed),
            ("none", b"not packed at all, but long".to_vec()),
        ] {
            let uri = fixture.write(&format!("{name}.{ending}"), bytes);
            let read = fixture.read(&FileSource::lines(&uri), 1).map(|_| ());
            let message = read.unwrap_err().message;
            assert!(
                message.starts_with(&format!("`{uri}` cannot be unpacked beyond byte ")),
                "{message}"
            );
            let format = if ending == "gz" {
                "is it gzip, and whole?"
            } else {
                "is it zstd, and whole?"
            };
            assert!(message.ends_with(format), "{message}");
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Row {
    n: u32,
}

#[test]
fn packed_csv_and_json_have_places_in_what_is_packed() {
    let fixture = Fixture::new();
    let csv = fixture.write("a.csv.gz", gzip(b"n,m\n1,x\n2,y\nz,z\n"));
    let source = FileSource::csv::<Row>(&csv);
    let message = fixture.read(&source, 2).unwrap_err().message;
    assert_eq!(
        message,
        format!(
            "`{csv}`, line 4 (byte 12 of what is packed in it), column `n`: invalid digit found in string"
        )
    );
    let json = fixture.write("a.jsonl.zst", zstd(b"{\"n\":1}\n{\"n\":-2}\n"));
    let message = fixture
        .read(&FileSource::json_lines::<Row>(&json), 1)
        .unwrap_err()
        .message;
    assert_eq!(
        message,
        format!(
            "`{json}`, line 2 (byte 8 of what is packed in it), field `n`: invalid value: integer `-2`, expected u32 (column 7)"
        )
    );
}
