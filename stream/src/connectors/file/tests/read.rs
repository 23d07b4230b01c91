use proptest::prelude::*;
use serde::Deserialize;

use spindle_common::execution::FailureClass;

use super::super::FileSource;
use super::*;

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Row {
    name: String,
    size: Option<i64>,
}

fn row(name: &str, size: impl Into<Option<i64>>) -> Row {
    Row {
        name: name.to_owned(),
        size: size.into(),
    }
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-cé]{0,6}",
        3 => Just("\n".to_owned()),
        2 => Just("\r\n".to_owned()),
        1 => Just("\r".to_owned()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn every_line_is_read_once_and_in_order_however_the_files_are_cut(
        texts in prop::collection::vec(text(), 1..4),
        max_split in 1_u64..40,
        parallelism in 1_u32..6,
    ) {
        let fixture = Fixture::new();
        for (n, text) in texts.iter().enumerate() {
            fixture.write(&format!("in/{n}"), text);
        }
        let expected: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
        let source = FileSource::lines(fixture.uri("in")).max_split(max_split);
        let read = fixture.read(&source, parallelism).unwrap();
        prop_assert_eq!(read.concat(), expected);
    }

    #[test]
    fn every_csv_record_is_read_once_under_its_header_however_the_files_are_cut(
        files in prop::collection::vec(prop::collection::vec(("[a-c, é]{1,6}", prop::option::of(-99_i64..99)), 0..20), 1..4),
        line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\n\n")],
        max_split in 1_u64..40,
        parallelism in 1_u32..6,
    ) {
        let fixture = Fixture::new();
        let mut expected = Vec::new();
        for (n, rows) in files.iter().enumerate() {
            let columns = if n % 2 == 0 { "name,extra,size" } else { "size,name,\"extra\"" };
            let mut lines = vec![columns.to_owned()];
            for (name, size) in rows {
                let text = size.map_or_else(|| "NA".to_owned(), |size| size.to_string());
                lines.push(if n % 2 == 0 { format!("\"{name}\",x,{text}") } else { format!("{text},\"{name}\",x") });
                expected.push(row(name, *size));
            }
            // The last line of every other file has no end.
            let end = if n % 2 == 0 { line_end } else { "" };
            fixture.write(&format!("in/{n}.csv"), lines.join(line_end) + end);
        }
        let source = FileSource::csv::<Row>(fixture.uri("in")).null_value("NA").max_split(max_split);
        let read = fixture.read(&source, parallelism).unwrap();
        prop_assert_eq!(read.concat(), expected);
    }
}

#[test]
fn lines_longer_than_what_is_fetched_at_once_are_whole() {
    let fixture = Fixture::new();
    let lines = [
        "a".repeat(3 << 20),
        String::new(),
        "é".repeat(1 << 20),
        "end".to_owned(),
    ];
    let uri = fixture.write("long", lines.join("\n"));
    for parallelism in [1, 2, 7] {
        let read = fixture.read(&FileSource::lines(&uri), parallelism).unwrap();
        assert!(read.concat() == lines, "parallelism {parallelism}");
    }
}

#[test]
fn a_file_that_is_large_enough_gives_each_subtask_work() {
    let fixture = Fixture::new();
    let line = "x".repeat(99) + "\n";
    let uri = fixture.write("big", line.repeat(40_000));
    let read = fixture.read(&FileSource::lines(uri), 3).unwrap();
    assert_eq!(
        read.iter().map(Vec::len).collect::<Vec<_>>(),
        [13_334, 13_333, 13_333]
    );
}

#[test]
fn a_directory_is_its_visible_files_and_a_pattern_what_it_matches() {
    let fixture = Fixture::new();
    for name in [
        "in/b",
        "in/a",
        "in/.hidden",
        "in/_SUCCESS",
        "in/below/c",
        "in/empty",
    ] {
        fixture.write(name, if name.ends_with("empty") { "" } else { name });
    }
    let read = |uri: &str| fixture.read(&FileSource::lines(uri), 1).unwrap().concat();
    assert_eq!(read(&fixture.uri("in")), ["in/a", "in/b"]);
    assert_eq!(read(&fixture.uri("in/*")), ["in/a", "in/b", "in/below/c"]);
    assert_eq!(read(&fixture.uri("in/{b,_S*,[.]h*}")), ["in/b"]);
    assert_eq!(read(&fixture.uri("in/.hidden")), ["in/.hidden"]);
    let plain = fixture.path("in/a").display().to_string();
    assert_eq!(read(&plain), ["in/a"], "a path without scheme is local");
}

#[test]
fn input_without_bytes_has_no_records() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("nothing")).unwrap();
    let empty = fixture.write("empty", "");
    let header = fixture.write("header.csv", "name,size\n");
    for uri in [&fixture.uri("nothing"), &empty] {
        assert_eq!(
            fixture.read(&FileSource::lines(uri), 2).unwrap().concat(),
            [""; 0]
        );
    }
    for uri in [&empty, &header] {
        assert_eq!(
            fixture
                .read(&FileSource::csv::<Row>(uri), 2)
                .unwrap()
                .concat(),
            []
        );
    }
}

#[test]
fn a_missing_input_is_refused_with_what_is_there_instead() {
    let fixture = Fixture::new();
    fixture.write("data/flights.csv", "");
    fixture.write("data/more.csv", "");
    let refusal = |name: &str| {
        let refusal = fixture.refusal(&FileSource::lines(fixture.uri(name)));
        let PlanError::Input(text) = refusal else {
            panic!("{refusal}")
        };
        text.replace(fixture.directory.path().to_str().unwrap(), "")
    };
    assert_eq!(
        refusal("data/flight.csv"),
        "input `file:///data/flight.csv` does not exist: `file:///data` holds `flights.csv`, `more.csv`"
    );
    assert_eq!(
        refusal("date/flights.csv"),
        "input `file:///date/flights.csv` does not exist, and neither does `file:///date`"
    );
    assert_eq!(
        refusal("data/*.tsv"),
        "input pattern `file:///data/*.tsv` matches no file"
    );
    assert!(
        refusal("").contains("holds only directories"),
        "{}",
        refusal("")
    );
}

#[test]
fn a_name_node_that_is_down_is_named_with_its_key() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let fixture = Fixture::new();
    let uri = format!("hdfs://{address}/data");
    let refusal = fixture.refusal(&FileSource::lines(uri));
    let PlanError::Unreachable(text) = refusal else {
        panic!("{refusal}")
    };
    assert!(text.contains(&address.to_string()), "{text}");
}

#[test]
fn a_file_that_changes_its_length_or_disappears_after_planning_is_an_error() {
    let fixture = Fixture::new();
    let uri = fixture.write("in", "one\ntwo\n");
    let source = FileSource::lines(&uri);
    let lists = source.plan(&fixture.plan_context(1)).unwrap();
    let read = || {
        let context = SourceContext {
            io: Arc::clone(&fixture.io),
            subtask: 0,
            parallelism: 1,
        };
        let mut reader = source.reader(lists[0].clone(), context).unwrap();
        reader.read(&mut Batch::new()).unwrap_err()
    };
    fixture.write("in", "one\ntwo\nthree\n");
    let error = read();
    assert!(
        error
            .message
            .contains("it had 8 bytes when it was found and has 14 now"),
        "{error}"
    );
    assert_eq!(error.class, FailureClass::FailJob);
    std::fs::remove_file(fixture.path("in")).unwrap();
    let error = read();
    assert!(error.message.contains("no such file"), "{error}");
    assert_eq!(error.class, FailureClass::FailJob);
}

#[test]
fn text_that_is_not_utf_8_is_an_error_with_its_place() {
    let fixture = Fixture::new();
    let uri = fixture.write("latin1", b"caf\xc3\xa9\nna\xefve\n");
    let error = fixture.read(&FileSource::lines(&uri), 1).unwrap_err();
    assert_eq!(
        error.message,
        format!("`{uri}` is not UTF-8 text: the character at byte 8 is none")
    );
}

#[test]
fn csv_errors_name_file_place_and_column() {
    let fixture = Fixture::new();
    let strip = |error: OperatorError| {
        assert_eq!(error.class, FailureClass::FailJob);
        error
            .message
            .replace(fixture.directory.path().to_str().unwrap(), "")
    };
    let read = |uri: &str, max_split: u64| {
        let source = FileSource::csv::<Row>(uri).max_split(max_split);
        strip(fixture.read(&source, 1).unwrap_err())
    };
    let uri = fixture.write("a.csv", "name,size\nx,1\ny,two\n");
    assert_eq!(
        read(&uri, 100),
        "`file:///a.csv`, line 3 (byte 14), column `size`: invalid digit found in string"
    );
    assert_eq!(
        read(&uri, 10),
        "`file:///a.csv`, record at byte 14, column `size`: invalid digit found in string"
    );
    let uri = fixture.write("b.csv", "name,size\r\nx,1\r\ny\r\n");
    assert_eq!(
        read(&uri, 100),
        "`file:///b.csv`, line 3 (byte 16), has 1 field, and the header has 2"
    );
    let uri = fixture.write("e.csv", "name,size\r\n\r\nx,1\r\n\r\ny,z\r\n");
    assert!(read(&uri, 100).starts_with("`file:///e.csv`, line 5 (byte 20), column `size`"));
    let uri = fixture.write("c.csv", "nom,size\nx,1\n");
    assert_eq!(
        read(&uri, 100),
        "`file:///c.csv`, line 2 (byte 9), missing field `name`"
    );
    let uri = fixture.write("d.csv", b"name,size\n\xff,1\n");
    assert!(
        read(&uri, 100).contains("column `name`: invalid utf-8"),
        "{}",
        read(&uri, 100)
    );
}

#[test]
fn quoted_line_breaks_are_read_from_whole_files() {
    let fixture = Fixture::new();
    let long = "x\n".repeat(1 << 20);
    let uri = fixture.write(
        "q.csv",
        format!("name,\"si\nze\",size\n\"{long}\",1,2\n\"a\r\n\nb\",3,4\n"),
    );
    let source = FileSource::csv::<Row>(uri).unsplit();
    let read = fixture.read(&source, 3).unwrap().concat();
    assert!(read == [row(&long, 2), row("a\r\n\nb", 4)]);
}

#[test]
fn empty_fields_and_the_null_value_are_missing_values() {
    let fixture = Fixture::new();
    let uri = fixture.write("n.csv", "name;size\nNA;NA\nNAN;\n;7\n");
    let source = FileSource::csv::<Row>(uri).null_value("NA").delimiter(b';');
    let read = fixture.read(&source, 1).unwrap().concat();
    assert_eq!(read, [row("", None), row("NAN", None), row("", 7)]);
}
