"""How many records a second the engine takes on this machine, beside timely dataflow, and how late a record is.

The reference is timely dataflow 0.31 counting words with one worker (`tests/peers`), the same words from the same source file, in two
forms. `plain`: words are handed on one by one and counted in the standard library's map with its SipHash, as one writes it first.
`tuned`: words are handed on a thousand at a time and counted with foldhash, the fastest form found. `ratio` is the median of a case
by the median of the plain form, `ratio_tuned` by that of the tuned one.

Both sides allocate with mimalloc, are built with the same release profile, and run in a process with several threads. A run of a
case is a run of either form of the reference, then one at each parallelism, in turn, so that a machine that slows down slows all.
The clock runs from the first record that a source makes to the last that a sink takes; starting up is outside of it.
`cpu_ns_per_record` is what all threads of the process took of the cores from its start to its end, in user and system mode: it moves
less than the clock when something else runs. `speedup` is the median by that at parallelism 1. Cases run as embedded jobs,
`exchange`, `exchange-rows` and `latency` on two workers of one process that reach each other over TCP. Give it the machine for
itself: two cores, and nothing beside it.

Cases, in records/s:
  wordcount       words of a vocabulary of 10,000, by key, each handed on with its count so far (`key_by_ref` and `scan`): what the
                  reference does for each word, who hands the word itself on too
  window          events of 10,000 keys, 1 M a second of event time, late by up to 1 s, counted in tumbling windows of 10 s
  exchange        numbers, from each of two workers to each of both
  exchange-rows   the same with records of a word and two numbers
  nexmark-events  makes the events of the queries and drops them, in one thread: what no query can be faster than
  nexmark-q0      all events as they are
  nexmark-q1      bids with their prices in another currency
  nexmark-q2      bids for every 123rd auction
  nexmark-q3      auctions of one category with their sellers, if these live in some cities: a join that goes on for ever
  nexmark-q4      the average closing price of each category: the highest bid of each auction while it was open, 15 ms
  nexmark-q5      the auctions with the most bids in the last 10 s, every 2 s
  nexmark-q7      the highest bids of every 10 s
  nexmark-q8      persons who opened auctions in the 10 s in which they registered
  nexmark-q11     bids of each bidder in sessions with a gap of 10 s
In ms:
  latency         100,000 records/s, buffer timeout 1 ms, a keyed exchange between two workers; median, min and max are of the
                  99th percentile, and p50, p99, p99.9 are medians
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys

BINARIES = os.environ["SPINDLE_BINARIES"]
RUN_LIMIT = 300  # seconds
REFERENCE_RECORDS = 40_000_000
# Case -> (records, at which parallelism it can run). A run takes one to three seconds.
CASES = {
    "wordcount": (30_000_000, (1, 2)),
    "window": (40_000_000, (1, 2)),
    "exchange": (60_000_000, (2,)),
    "exchange-rows": (20_000_000, (2,)),
    "nexmark-events": (30_000_000, (1,)),
    "nexmark-q0": (30_000_000, (1, 2)),
    "nexmark-q1": (30_000_000, (1, 2)),
    "nexmark-q2": (30_000_000, (1, 2)),
    "nexmark-q3": (30_000_000, (1, 2)),
    "nexmark-q4": (20_000_000, (1, 2)),
    "nexmark-q5": (20_000_000, (1, 2)),
    "nexmark-q7": (30_000_000, (1, 2)),
    "nexmark-q8": (30_000_000, (1, 2)),
    "nexmark-q11": (20_000_000, (1, 2)),
    "latency": (1_000_000, (2,)),
}


def say(text):
    print(f"bench engine: {text}", file=sys.stderr, flush=True)


def run(*command):
    """What a program printed as its one line of JSON."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_LIMIT)
    if done.returncode:
        sys.exit(f"bench engine: {' '.join(command)} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def reference(form):
    return run(f"{BINARIES}/spindle-peers", str(REFERENCE_RECORDS), "1", form)["records_per_second"]


def cpu_seconds():
    """What the programs that were run so far took of the cores."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def engine(case, records, parallelism):
    before = cpu_seconds()
    found = run(f"{BINARIES}/engine", case, "--records", str(records), "--parallelism", str(parallelism))
    return found | {"cpu_ns_per_record": 1e9 * (cpu_seconds() - before) / records}


def summary(case, parallelism, unit, values, digits):
    """The fields that every benchmark prints."""
    return {
        "suite": "engine", "case": case, "parallelism": parallelism, "unit": unit, "runs": len(values),
        "median": round(statistics.median(values), digits), "min": round(min(values), digits), "max": round(max(values), digits),
    }


def measure(case, records, parallelisms, runs):
    """Runs one case, and prints a line for each parallelism."""
    latency = case == "latency"
    ours, theirs = {p: [] for p in parallelisms}, {"plain": [], "tuned": []}
    for k in range(runs):
        say(f"{case}: run {k + 1} of {runs}")
        if not latency:
            for form, found in theirs.items():
                found.append(reference(form))
        for p in parallelisms:
            ours[p].append(engine(case, records, p))
    for p in parallelisms:
        if latency:
            line = summary(case, p, "ms", [found["p99_ms"] for found in ours[p]], 3)
            for name, field in (("p50", "p50_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms"), ("longest", "max_ms")):
                line[name] = round(statistics.median(found[field] for found in ours[p]), 3)
        else:
            line = summary(case, p, "records/s", [found["records_per_second"] for found in ours[p]], None)
            line["ns_per_record"] = round(1e9 / line["median"], 1)
            line["cpu_ns_per_record"] = round(statistics.median(found["cpu_ns_per_record"] for found in ours[p]), 1)
            for form, suffix in (("plain", ""), ("tuned", "_tuned")):
                line[f"reference{suffix}"] = round(statistics.median(theirs[form]))
                line[f"ratio{suffix}"] = round(line["median"] / line[f"reference{suffix}"], 3)
            if p != 1 and 1 in ours:
                at_one = statistics.median(found["records_per_second"] for found in ours[1])
                line["speedup"] = round(line["median"] / at_one, 3)
            line["allocator"] = "mimalloc on both sides"
        print(json.dumps(line), flush=True)


def main():
    parser = argparse.ArgumentParser(prog="bench engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help="run this case only; else all, one after another")
    parser.add_argument("--parallelism", type=int, help="run at this parallelism only; else at 1 and 2, where a case can")
    parser.add_argument("--runs", type=int, default=5, help="how often to run each, of which the median is taken (default 5)")
    options = parser.parse_args()
    if options.case and options.case not in CASES:
        sys.exit(f"bench engine: there is no case `{options.case}`; there are {', '.join(CASES)}")
    if options.runs < 1:
        sys.exit(f"bench engine: {options.runs} runs have no median; at least 1 is needed")
    for case in [options.case] if options.case else CASES:
        records, parallelisms = CASES[case]
        if options.parallelism:
            wanted = options.parallelism
            # Two workers take a subtask each, and making events is done by one thread.
            if wanted not in parallelisms and len(parallelisms) == 1:
                if options.case:
                    sys.exit(f"bench engine: `{case}` runs at parallelism {parallelisms[0]} only")
                continue
            parallelisms = (wanted,)
        measure(case, records, parallelisms, options.runs)


if __name__ == "__main__":
    main()
