use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::super::{BadRecords, FileSource, SkippedRecords};
use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Event {
    name: String,
    at: Option<f64>,
    tags: Vec<Tag>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tag {
    id: u8,
}

fn event() -> impl Strategy<Value = Event> {
    let tag = any::<u8>().prop_map(|id| Tag { id });
    (
        "[a-c\"\\\\\n é]{0,9}",
        prop::option::of((-9999_i32..9999).prop_map(|n| f64::from(n) / 8.0)),
        prop::collection::vec(tag, 0..3),
    )
        .prop_map(|(name, at, tags)| Event { name, at, tags })
}

proptest! {
    #[test]
    fn every_record_is_read_once_and_in_order_however_the_files_are_cut(
        files in prop::collection::vec(prop::collection::vec(event(), 0..20), 1..4),
        line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\n\n"), Just(" \n\t\n")],
        max_split in 1_u64..60,
        parallelism in 1_u32..6,
    ) {
        let fixture = Fixture::new();
        for (n, events) in files.iter().enumerate() {
            let lines: Vec<_> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
            // The last line of every other file has no end.
            let end = if n % 2 == 0 { line_end } else { "" };
            fixture.write(&format!("in/{n}.jsonl"), lines.join(line_end) + end);
        }
        let source = FileSource::json_lines::<Event>(fixture.uri("in")).max_split(max_split);
        let read = fixture.read(&source, parallelism).unwrap();
        prop_assert_eq!(read.concat(), files.concat());
    }
}

#[test]
fn errors_name_file_place_and_field() {
    let fixture = Fixture::new();
    let good = r#"{"name":"a","at":1,"tags":[]}"#;
    let refusal = |bad: &str, max_split| {
        let uri = fixture.write("a.jsonl", format!("{good}\n\n{bad}\n"));
        let source = FileSource::json_lines::<Event>(uri).max_split(max_split);
        let message = fixture.read(&source, 1).unwrap_err().message;
        message.replace(fixture.directory.path().to_str().unwrap(), "")
    };
    assert_eq!(
        refusal(r#"{"name":"a","at":1,"tags":[{"id":3},{"id":300}]}"#, 1000),
        "`file:///a.jsonl`, line 3 (byte 31), field `tags[1].id`: invalid value: integer `300`, expected u8 (column 45)"
    );
    assert_eq!(
        refusal(r#"{"name":"a","tags":[]} {}"#, 8),
        "`file:///a.jsonl`, record at byte 31, trailing characters (column 24)"
    );
    assert_eq!(
        refusal(r#"{"at":1,"tags":[]}"#, 1000),
        "`file:///a.jsonl`, line 3 (byte 31), missing field `name` (column 18)"
    );
    let cut = refusal(r#"{"name":"a"#, 1000);
    assert!(cut.contains("EOF while parsing a string"), "{cut}");
}

#[test]
fn bad_records_are_left_out_and_counted_if_so_told() {
    let fixture = Fixture::new();
    let skipped = SkippedRecords::default();
    let skip = || BadRecords::Skip(skipped.clone());
    let json = fixture.write(
        "a.jsonl",
        b"{\"id\":1}\n{\"id\":-1}\n{\n{\"id\":2}\n{\"id\":\"\xff\"}\n",
    );
    let read = fixture.read(&FileSource::json_lines::<Tag>(json).bad_records(skip()), 1);
    assert_eq!(read.unwrap().concat(), [Tag { id: 1 }, Tag { id: 2 }]);
    assert_eq!(skipped.count(), 3);
    let csv = fixture.write("a.csv", "id,x\nbad,1\n2,1,3\n7\n7,8\n");
    let read = fixture.read(&FileSource::csv::<Tag>(csv).bad_records(skip()), 1);
    assert_eq!(read.unwrap().concat(), [Tag { id: 7 }]);
    assert_eq!(skipped.count(), 6);
    let text = fixture.write("a.txt", b"a\n\xff\nb");
    let read = fixture.read(&FileSource::lines(text).bad_records(skip()), 1);
    assert_eq!(read.unwrap().concat(), ["a", "b"]);
    assert_eq!(skipped.count(), 7);
}
