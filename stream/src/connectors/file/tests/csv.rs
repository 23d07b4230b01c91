//! The CSV decoder against the parser of the `csv` crate.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use super::super::FileSource;
use super::*;

/// What the `csv` crate reads of the same text.
fn expected(text: &[u8]) -> Vec<BTreeMap<String, String>> {
    let mut reader = ::csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let rows: Result<_, _> = reader.deserialize().collect();
    rows.unwrap()
}

proptest! {
    #[test]
    fn whatever_is_quoted_or_broken_over_lines_is_read_as_the_csv_crate_reads_it(
        pieces in prop::collection::vec(prop::collection::vec(
            prop_oneof![
                6 => "[a-c é]{1,4}",
                2 => "\"[a-c,\n\r é]{0,5}\"",
                1 => "\"a\"\"b\"",
                1 => "[a-c]\"[a-c]",
                1 => Just(String::new()),
            ], 3..4), 0..12),
        line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just("\n\r\n")],
        last_end: bool,
        mark: bool,
    ) {
        let mut lines = vec!["x,\"y\",z".to_owned()];
        // A record of three empty fields is one; an empty line is none.
        lines.extend(pieces.iter().map(|fields| fields.join(",")));
        let mut text = lines.join(line_end);
        if last_end {
            text += line_end;
        }
        if mark {
            text.insert(0, '\u{feff}');
        }
        let fixture = Fixture::new();
        let uri = fixture.write("a.csv", &text);
        let source = FileSource::csv::<BTreeMap<String, String>>(uri).unsplit();
        let read = fixture.read(&source, 1).unwrap().concat();
        prop_assert_eq!(read, expected(text.as_bytes()), "{:?}", text);
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    b: u8,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Flat {
    b: u8,
    #[serde(flatten)]
    others: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Lenient {
    #[serde(alias = "bee")]
    b: u8,
    #[serde(default)]
    c: u8,
}

#[test]
fn columns_that_are_not_looked_at_are_still_those_that_the_type_wants() {
    let fixture = Fixture::new();
    let uri = fixture.write("a.csv", "a,b\nx,1\ny,2\n");
    let read = fixture.read(&FileSource::csv::<Strict>(&uri), 1);
    let message = read.unwrap_err().message;
    assert!(
        message.contains("line 2 (byte 4), unknown field `a`"),
        "{message}"
    );
    let read = fixture
        .read(&FileSource::csv::<Flat>(&uri), 1)
        .unwrap()
        .concat();
    let flat = |b, a: &str| Flat {
        b,
        others: BTreeMap::from([("a".to_owned(), a.to_owned())]),
    };
    assert_eq!(read, [flat(1, "x"), flat(2, "y")]);
    let uri = fixture.write("b.csv", "a,bee\nx,1\ny,2\n");
    let read = fixture
        .read(&FileSource::csv::<Lenient>(&uri), 1)
        .unwrap()
        .concat();
    assert_eq!(read, [1, 2].map(|b| Lenient { b, c: 0 }));
}

#[test]
fn each_file_has_its_own_columns() {
    let fixture = Fixture::new();
    fixture.write("in/1.csv", "b\n1\n2\n");
    fixture.write("in/2.csv", "c,a,b\n9,,3\n8,,4\n");
    let read = fixture
        .read(&FileSource::csv::<Lenient>(fixture.uri("in")), 1)
        .unwrap()
        .concat();
    let columns: Vec<_> = read.iter().map(|row| (row.b, row.c)).collect();
    assert_eq!(columns, [(1, 0), (2, 0), (3, 9), (4, 8)]);
}
