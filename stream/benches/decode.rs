//! How many records a second one subtask reads from a local file, by format. Prints one JSON object a line.
//!
//! `cargo bench -p spindle-stream --features parquet --bench decode -- [CASE]`

use std::fmt::Write;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use flate2::bufread::GzEncoder;
use serde::{Deserialize, Serialize};
use spindle_dataflow::batch::Batch;
use spindle_dataflow::connector::SourceStatus;
use spindle_hadoop::conf::Configuration;
use spindle_stream::connector::Source;
use spindle_stream::connectors::file::FileSource;
use spindle_stream::context::{IoContext, PlanContext, SourceContext};

const RECORDS: usize = 1_000_000;
const RUNS: usize = 5;

/// Four of the nineteen columns of nycflights13, as the example job reads them.
#[derive(Deserialize)]
struct Flight {
    origin: String,
    dep_time: Option<u32>,
    dep_delay: Option<i64>,
    time_hour: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct Bid {
    auction: u64,
    bidder: u64,
    price: u64,
    channel: String,
    url: String,
}

fn main() {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let directory = tempfile::tempdir().expect("a directory for the input can be made");
    let write = |name: &str, text: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("the input can be written");
        path
    };
    let run = |case: &str| wanted.as_deref().is_none_or(|wanted| case.contains(wanted));

    let flights = write("flights.csv", flights().as_bytes());
    if run("lines") {
        measure("lines", &FileSource::lines(uri(&flights)), String::len);
    }
    if run("csv-wide") {
        let source = FileSource::csv::<Flight>(uri(&flights)).null_value("NA");
        measure("csv-wide", &source, |flight| {
            flight.origin.len()
                + flight.time_hour.len()
                + flight.dep_time.unwrap_or(0) as usize
                + flight.dep_delay.unwrap_or(0) as usize
        });
    }
    if run("csv-narrow") {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for bid in bids() {
            writer.serialize(bid).expect("a bid is a row");
        }
        let text = writer.into_inner().expect("memory can be written");
        let source = FileSource::csv::<Bid>(uri(&write("bids.csv", &text)));
        measure("csv-narrow", &source, bid);
    }
    let mut json = Vec::new();
    for bid in bids() {
        serde_json::to_writer(&mut json, &bid).expect("a bid is JSON");
        json.push(b'\n');
    }
    if run("json") {
        let source = FileSource::json_lines::<Bid>(uri(&write("bids.jsonl", &json)));
        measure("json", &source, bid);
    }
    if run("json-gzip") {
        let mut packed = Vec::new();
        let mut packing = GzEncoder::new(&json[..], flate2::Compression::fast());
        let read = packing.read_to_end(&mut packed);
        read.expect("memory can be packed");
        let source = FileSource::json_lines::<Bid>(uri(&write("bids.jsonl.gz", &packed)));
        measure("json-gzip", &source, bid);
    }
    if run("json-zstd") {
        let packed = zstd::encode_all(&json[..], 3).expect("memory can be packed");
        let source = FileSource::json_lines::<Bid>(uri(&write("bids.jsonl.zst", &packed)));
        measure("json-zstd", &source, bid);
    }
    #[cfg(feature = "parquet")]
    if run("parquet") {
        let out = uri(&directory.path().join("bids"));
        let mut harness = spindle_stream::testing::Harness::new(1);
        harness
            .env()
            .from_collection(bids())
            .sink_to(spindle_stream::connectors::file::FileSink::parquet(&out));
        harness.run().expect("the output can be written");
        measure("parquet", &FileSource::parquet::<Bid>(out), bid);
    }
}

fn bid(bid: &Bid) -> usize {
    bid.channel.len() + bid.url.len() + (bid.auction + bid.bidder + bid.price) as usize
}

fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn flights() -> String {
    let mut text = String::from(
        "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour\n",
    );
    for n in 0..RECORDS {
        let (month, day, hour, minute) = (n % 12 + 1, n % 28 + 1, n % 24, n % 60);
        let delay = if n % 40 == 0 {
            "NA".to_owned()
        } else {
            (n % 90).to_string()
        };
        writeln!(
            text,
            "2013,{month},{day},{hour}{minute:02},{hour}{minute:02},{delay},{},{},{delay},UA,{},N14228,{},IAH,227,1400,{hour},{minute},2013-{month:02}-{day:02}T{hour:02}:00:00Z",
            hour * 100 + 230,
            hour * 100 + 219,
            n % 8000,
            ["EWR", "JFK", "LGA"][n % 3],
        )
        .expect("text can be extended");
    }
    text
}

fn bids() -> impl Iterator<Item = Bid> {
    (0..RECORDS as u64).map(|n| Bid {
        auction: n / 3,
        bidder: n % 1000,
        price: n * 7 % 10_000_019,
        channel: ["Apple", "Google", "Facebook", "Baidu"][n as usize % 4].to_owned(),
        url: format!("https://www.nexmark.com/item.htm?query=1&channel_id={n:08}"),
    })
}

/// Reads all of a source with one subtask, several times.
fn measure<T>(case: &str, source: &impl Source<T>, size: impl Fn(&T) -> usize) {
    let io = Arc::new(IoContext::new(Configuration::new(), "bench".to_owned()));
    let plan = PlanContext {
        io: Arc::clone(&io),
        parallelism: 1,
    };
    let splits = source.plan(&plan).expect("the input is there").remove(0);
    let mut rates: Vec<u64> = (0..RUNS)
        .map(|_| {
            let context = SourceContext {
                io: Arc::clone(&io),
                subtask: 0,
                parallelism: 1,
            };
            let mut reader = source
                .reader(splits.clone(), context)
                .expect("the input can be opened");
            let mut batch = Batch::new();
            let mut records = 0;
            let start = Instant::now();
            loop {
                let status = reader
                    .read(&mut batch)
                    .expect("the input is as it was written");
                records += batch.len();
                black_box(batch.records.iter().map(&size).sum::<usize>());
                batch.clear();
                if status == SourceStatus::EndOfInput {
                    break;
                }
            }
            assert_eq!(records, RECORDS + usize::from(case == "lines"));
            (records as f64 / start.elapsed().as_secs_f64()) as u64
        })
        .collect();
    rates.sort_unstable();
    let report = serde_json::json!({
        "suite": "decode", "case": case, "parallelism": 1, "unit": "records/s", "runs": RUNS,
        "median": rates[RUNS / 2], "min": rates[0], "max": rates[RUNS - 1],
    });
    #[expect(clippy::print_stdout, reason = "what the program is for")]
    {
        println!("{report}");
    }
}
