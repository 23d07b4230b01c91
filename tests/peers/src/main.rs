//! Timely dataflow counting words: what the engine is measured against.
//!
//! Each worker makes its share of the words with a `source` operator, [`WORDS_AT_ONCE`] for each call. An `Exchange` pact sends each
//! word to the worker of its hash; with one worker timely moves the containers as they are and never asks for the hash. The counter
//! takes each String out of its container and looks it up in a map; the String goes on with its count, so that only a word's first
//! occurrence is copied. A sink operator consumes all of them. Each worker has a thread of its own beside the main thread, so the
//! allocator is that of a process with threads.
//!
//! There are two forms, as one writes it first, and as it was fastest:
//!
//! ```text
//!         words are handed on                                                map
//! plain   one by one, in containers of timely's default size (341 words)     the standard library's, with its SipHash
//! tuned   as one container for each call                                     the same, with foldhash
//! ```
//! With one worker, on two cores, medians of three interleaved runs in M words/s: plain 20.8, tuned 25.0; words given one by one and
//! foldhash 23.2. Filling the container that comes back instead of a new one was slower by 3 % to 10 %.
//!
//! usage: `spindle-peers RECORDS WORKERS plain|tuned`; prints one JSON line.

#[path = "../../src/bin/engine/words.rs"]
mod words;

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator as _;
use timely::dataflow::operators::Probe as _;
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::operators::probe::Handle as Probe;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Words that the source makes before it lets the other operators run. Given one by one to foldhash, 256, 1024 and 4096 were 22.4, 23.2
/// and 23.4.
const WORDS_AT_ONCE: u64 = 1024;

/// What a program was asked for: how many words, how many workers, and whether in the tuned form.
fn asked(arguments: &[String]) -> Option<(u64, usize, bool)> {
    let [records, workers, form] = arguments else {
        return None;
    };
    let tuned = match &**form {
        "plain" => false,
        "tuned" => true,
        _ => return None,
    };
    let workers = workers.parse().ok().filter(|n| (1..=64).contains(n))?;
    Some((records.parse().ok()?, workers, tuned))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((records, workers, tuned)) = asked(&arguments) else {
        eprintln!("usage: spindle-peers RECORDS WORKERS plain|tuned");
        return ExitCode::from(2);
    };
    let counted = if tuned {
        let hasher = foldhash::fast::FixedState::default();
        count_words(records, workers, tuned, hasher)
    } else {
        // The same in all workers, which have to agree on where a word goes.
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        count_words(records, workers, tuned, hasher)
    };
    match counted {
        Ok((seconds, counted)) if counted == records => {
            let line = serde_json::json!({
                "peer": "timely", "form": arguments[2], "workers": workers, "records": records, "seconds": seconds, "records_per_second": records as f64 / seconds,
            });
            println!("{line}");
            ExitCode::SUCCESS
        }
        Ok((_, counted)) => {
            eprintln!("{counted} of {records} words reached the sink");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("timely does not run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Seconds from the first word of the first worker to the end of the last, and how many words reached a sink.
fn count_words<S: BuildHasher + Clone + Send + Sync + 'static>(
    records: u64,
    workers: usize,
    tuned: bool,
    hasher: S,
) -> Result<(f64, u64), String> {
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);
        let mine = records * index / peers..records * (index + 1) / peers;
        let counted = std::rc::Rc::new(std::cell::Cell::new(0));
        let sunk = std::rc::Rc::clone(&counted);
        let probe = Probe::<u64>::new();
        let began = Instant::now();
        worker.dataflow::<u64, _, _>(|scope| {
            let of_words = hasher.clone();
            let route = Exchange::new(move |word: &String| of_words.hash_one(word));
            source::<_, CapacityContainerBuilder<Vec<String>>, _, _>(
                scope,
                "Words",
                |capability, info| {
                    let activator = scope.activator_for(info.address);
                    let mut left = mine;
                    let mut capability = Some(capability);
                    move |output| {
                        if let Some(held) = &capability {
                            let mut session = output.session(held);
                            let end = left.end.min(left.start + WORDS_AT_ONCE);
                            let made = (left.start..end).map(words::word);
                            if tuned {
                                session.give_container(&mut made.collect());
                            } else {
                                made.for_each(|word| session.give(word));
                            }
                            left.start = end;
                        }
                        if left.is_empty() {
                            capability = None;
                        } else {
                            activator.activate();
                        }
                    }
                },
            )
            .unary::<CapacityContainerBuilder<Vec<(String, u64)>>, _, _, _>(
                route,
                "Count",
                |_, _| {
                    let mut counts: HashMap<String, u64, S> = HashMap::with_hasher(hasher.clone());
                    move |input, output| {
                        input.for_each_time(|time, containers| {
                            let mut session = output.session(&time);
                            for words in containers {
                                for word in words.drain(..) {
                                    let count = match counts.get_mut(&word) {
                                        Some(count) => {
                                            *count += 1;
                                            *count
                                        }
                                        None => {
                                            counts.insert(word.clone(), 1);
                                            1
                                        }
                                    };
                                    session.give((word, count));
                                }
                            }
                        });
                    }
                },
            )
            .unary::<CapacityContainerBuilder<Vec<()>>, _, _, _>(Pipeline, "Sink", |_, _| {
                move |input, _| {
                    input.for_each_time(|_, containers| {
                        for counts in containers {
                            sunk.set(sunk.get() + counts.len() as u64);
                            for counted in counts.drain(..) {
                                black_box(&counted);
                            }
                        }
                    });
                }
            })
            .probe_with(&probe);
        });
        worker.step_while(|| !probe.done());
        (began, Instant::now(), counted.get())
    })?;
    let ends = guards.join().into_iter().collect::<Result<Vec<_>, _>>()?;
    let began = ends
        .iter()
        .map(|end| end.0)
        .min()
        .ok_or("there is no worker")?;
    let ended = ends
        .iter()
        .map(|end| end.1)
        .max()
        .ok_or("there is no worker")?;
    Ok((
        (ended - began).as_secs_f64(),
        ends.iter().map(|end| end.2).sum(),
    ))
}
