use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use spindle_common::execution::FailureClass;
use spindle_common::id::{ExecutionAttemptId, JobId, JobVertexId};
use spindle_dataflow::connector::SourceReader;

use super::super::{
    BadRecords, FileSink, FileSource, ParquetCompression, ParquetRows, SkippedRecords,
};
use super::*;
use crate::connector::SinkFactory;
use crate::context::SinkContext;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Color {
    Red,
    Blue,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Inner {
    flag: bool,
    small: i8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    id: u64,
    name: String,
    value: Option<f64>,
    tags: Vec<String>,
    inner: Inner,
    maybe: Option<Inner>,
    color: Color,
    counts: BTreeMap<String, i32>,
}

fn row() -> impl Strategy<Value = Row> {
    let inner = || (any::<bool>(), any::<i8>()).prop_map(|(flag, small)| Inner { flag, small });
    (
        any::<u64>(),
        "[a-cé]{0,6}",
        prop::option::of(-1e9..1e9),
        prop::collection::vec("[a-c]{0,3}", 0..3),
        inner(),
        prop::option::of(inner()),
        any::<bool>(),
        prop::collection::btree_map("[a-c]{1,2}", any::<i32>(), 0..3),
    )
        .prop_map(|(id, name, value, tags, inner, maybe, red, counts)| Row {
            id,
            name,
            value,
            tags,
            inner,
            maybe,
            color: if red { Color::Red } else { Color::Blue },
            counts,
        })
}

impl Fixture {
    /// Writes one part file in batches of this size.
    fn write_parquet<T: Serialize + serde::de::DeserializeOwned + Clone + 'static>(
        &self,
        sink: &FileSink<ParquetRows>,
        subtask: u32,
        rows: &[T],
        batch: usize,
    ) {
        let context = SinkContext {
            io: Arc::clone(&self.io),
            job: JobId::from_bytes([1; 16]),
            execution: ExecutionAttemptId {
                vertex: JobVertexId::of_uid("sink"),
                subtask,
                attempt: 0,
            },
            parallelism: 2,
            restored_from: None,
        };
        let mut sink: Box<dyn spindle_dataflow::connector::Sink<T>> = sink.sink(context).unwrap();
        for rows in rows.chunks(batch) {
            sink.write(&mut Batch::from(rows.to_vec())).unwrap();
        }
        assert!(sink.finish().unwrap());
        sink.commit().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_is_read_once_however_files_and_row_groups_are_cut(
        files in prop::collection::vec(prop::collection::vec(row(), 0..30), 1..3),
        compression in prop_oneof![
            Just(ParquetCompression::None), Just(ParquetCompression::Snappy), Just(ParquetCompression::Zstd)
        ],
        max_split in 100_u64..4000,
        parallelism in 1_u32..4,
    ) {
        let fixture = Fixture::new();
        let sink = FileSink::parquet(fixture.uri("out")).compression(compression);
        for (subtask, rows) in (0..).zip(&files) {
            fixture.write_parquet(&sink, subtask, rows, 7);
        }
        let source = FileSource::parquet::<Row>(fixture.uri("out")).max_split(max_split);
        let read = fixture.read(&source, parallelism).unwrap();
        prop_assert_eq!(read.concat(), files.concat());
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair {
    n: u64,
    text: String,
}

fn pairs(count: u64) -> Vec<Pair> {
    let text = |n: u64| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (0..count).map(|n| Pair { n, text: text(n) }).collect()
}

#[test]
fn row_groups_are_dealt_out_and_each_is_read_once() {
    let fixture = Fixture::new();
    let sink = FileSink::parquet(fixture.uri("out")).row_group_size(50 << 10);
    let rows = pairs(100_000);
    fixture.write_parquet(&sink, 0, &rows, 1024);
    for parallelism in [1, 2, 5] {
        let source = FileSource::parquet::<Pair>(fixture.uri("out")).max_split(1 << 16);
        let read = fixture.read(&source, parallelism).unwrap();
        assert!(
            read.iter().all(|rows| !rows.is_empty()),
            "every subtask has some"
        );
        assert!(read.concat() == rows, "parallelism {parallelism}");
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct OnlyNumber {
    n: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Small {
    n: u8,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Other {
    other: u8,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct More {
    n: u64,
    more: u8,
}

#[test]
fn columns_and_values_must_be_those_of_the_type() {
    let fixture = Fixture::new();
    let sink = FileSink::parquet(fixture.uri("out"));
    fixture.write_parquet(&sink, 0, &pairs(300), 300);
    let uri = fixture.uri("out/part-00000.parquet");
    let read = fixture
        .read(&FileSource::parquet::<OnlyNumber>(&uri), 1)
        .unwrap();
    assert!(read.concat().iter().map(|row| row.n).eq(0..300));

    let message = fixture
        .read(&FileSource::parquet::<Other>(&uri), 1)
        .unwrap_err()
        .message;
    assert_eq!(
        message,
        format!("`{uri}` has none of the columns `other`: it has `n`, `text`")
    );
    let message = fixture
        .read(&FileSource::parquet::<More>(&uri), 1)
        .unwrap_err()
        .message;
    assert!(
        message.starts_with(&format!("`{uri}`, row 0: ")),
        "{message}"
    );
    assert!(message.contains("missing field `more`"), "{message}");
    let message = fixture
        .read(&FileSource::parquet::<Small>(&uri), 1)
        .unwrap_err()
        .message;
    assert!(
        message.starts_with(&format!("`{uri}`, row 256: ")),
        "{message}"
    );
    assert!(message.contains("$.n"), "{message}");

    let skipped = SkippedRecords::default();
    let source = FileSource::parquet::<Small>(&uri).bad_records(BadRecords::Skip(skipped.clone()));
    assert_eq!(fixture.read(&source, 1).unwrap().concat().len(), 256);
    assert_eq!(skipped.count(), 44);
}

#[test]
fn what_is_no_parquet_file_or_not_a_whole_one_is_named() {
    let fixture = Fixture::new();
    let sink = FileSink::parquet(fixture.uri("out"));
    fixture.write_parquet(&sink, 0, &pairs(20_000), 1024);
    let whole = std::fs::read(fixture.path("out/part-00000.parquet")).unwrap();
    let mut broken = whole.clone();
    // The header of the first page.
    broken[4..40].fill(0xa5);
    for (name, bytes) in [
        ("cut", &whole[..whole.len() - 10]),
        ("short", &b"PAR1"[..]),
        ("text", &b"not a parquet file at all"[..]),
        ("broken", &broken),
    ] {
        let uri = fixture.write(name, bytes);
        let read = fixture
            .read(&FileSource::parquet::<Pair>(&uri), 1)
            .map(|_| ());
        let error = read.unwrap_err();
        assert!(error.message.starts_with(&format!("`{uri}` ")), "{error}");
        assert_eq!(error.class, FailureClass::FailJob, "{error}");
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Endless {
    next: Option<Box<Self>>,
}

#[test]
fn a_type_without_a_schema_is_refused_before_the_job_starts() {
    let fixture = Fixture::new();
    let sink = FileSink::parquet(fixture.uri("out"));
    let refused = |plan: Result<_, PlanError>| {
        plan.map(|_: crate::connector::SinkPlan| ())
            .unwrap_err()
            .to_string()
    };
    let text = refused(SinkFactory::<Endless>::plan(
        &sink,
        &fixture.plan_context(1),
    ));
    assert!(
        text.starts_with("no Parquet schema can be derived from `"),
        "{text}"
    );
    assert!(text.contains("Endless"), "{text}");
    let text = refused(SinkFactory::<u64>::plan(&sink, &fixture.plan_context(1)));
    assert!(
        text.starts_with("no Parquet schema can be derived from `u64`"),
        "{text}"
    );
}

#[test]
fn a_watched_parquet_file_goes_on_at_its_row() {
    let fixture = Fixture::new();
    let sink = FileSink::parquet(fixture.uri("out")).row_group_size(100 << 10);
    let rows = pairs(20_000);
    fixture.write_parquet(&sink, 0, &rows, 1000);
    fixture.write("out/done", "");
    let source = FileSource::parquet::<Pair>(fixture.uri("out"))
        .monitor_continuously(std::time::Duration::from_millis(5))
        .until("done");
    let reader = || {
        let splits = source.plan(&fixture.plan_context(1)).unwrap().remove(0);
        let context = SourceContext {
            io: Arc::clone(&fixture.io),
            subtask: 0,
            parallelism: 1,
        };
        source.directory_reader::<Pair>(&splits, context).unwrap()
    };
    let (mut first, mut second) = (reader(), reader());
    let mut batch = Batch::new();
    while batch.len() < 9000 {
        first.read(&mut batch).unwrap();
    }
    second.go_on(first.position());
    while second.read(&mut batch).unwrap() == SourceStatus::More {}
    assert!(batch.records == rows);
}
