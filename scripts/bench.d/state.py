"""What checkpoints of state in memory cost: counts of 8 bytes by a key of 8 bytes, under full load.

A job counts keys at random as fast as it can. When all keys are there, stretches without checkpoints and stretches with them alternate in
the same run. Workers, state, snapshots and storage are those of any job; the JobManager's part is done by the program itself, so what a
checkpoint takes has no YARN and no RPC in it. Checkpoints go to HDFS: that of HADOOP_CONF_DIR, else an own local Hadoop of one node;
`--local` has them go to this machine's file system instead. `storage` says which.

Cases: 1m (1,000,000 keys, a checkpoint each second) and 10m (10,000,000 keys, each 5 s); hot-10k (10,000 keys, each second). With --backend
rocksdb, the same with RocksDB (which is built if it is not there: ten minutes and more), incremental checkpoints unless --full is given: hot-10k
then also runs in memory first, and `ratio_hashmap` is its median by that one's; 10m-hot-10k has 10,000,000 keys, of which 10,000 are used. Median, min and max are records/s in stretches with
checkpoints. Beside them:
  without         records/s in stretches without, median
  ratio           median by that
  ratio_cpu       the same of what the counting threads took of the cores for a record: it moves less when something else runs
  stall           ms, the longest time between two batches of a subtask in stretches with checkpoints: the median of the stretches'
  stall_without   the same in stretches without: what the machine does by itself
  stall_cpu       like stall, by the clock of the thread, which stops while another has the core; stall_cpu_without
  sync            ms in which the task did nothing but its snapshot, the longest of any checkpoint
  complete        ms from before the directory is made until the metadata is there, median; complete_max
  bytes           of a checkpoint; written: of those that were written for it, median and written_max
  restore         ms from the deployment of tasks until the first record is out
  memory, memory_without   MB, the most that the process had
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile

from startup import BINARIES, LOCAL_HADOOP

OWN_CLUSTER = os.path.join(os.environ["SPINDLE_STATE"], "bench-hadoop")
RUN_LIMIT = 600  # seconds
# Case -> (keys, ms between checkpoints, checkpoints in a stretch)
CASES = {"1m": (1_000_000, 1000, 5), "10m": (10_000_000, 5000, 2), "hot-10k": (10_000, 1000, 5)}
# Case -> the same, and the keys that are used once all are there.
ROCKSDB_CASES = {
    "hot-10k": (10_000, 1000, 5, 10_000), "1m": (1_000_000, 1000, 5, 1_000_000), "10m-hot-10k": (10_000_000, 1000, 5, 10_000),
}


def say(text):
    print(f"bench state: {text}", file=sys.stderr, flush=True)


def engine(case, parallelism, rounds, directory, more=()):
    keys, interval, checkpoints = case
    command = [
        f"{BINARIES}/engine", "state", "--records", str(keys), "--parallelism", str(parallelism), "--directory", directory,
        "--interval-ms", str(interval), "--checkpoints", str(checkpoints), "--rounds", str(rounds), *more,
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_LIMIT)
    if done.returncode:
        sys.exit(f"bench state: {' '.join(command)} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def line(case, parallelism, storage, found):
    median = statistics.median
    on, off = found["with"], found["without"]
    rates, without = on["records_per_second"], median(off["records_per_second"])
    return {
        "suite": "state", "case": case, "parallelism": parallelism, "unit": "records/s", "runs": len(rates),
        "median": round(median(rates)), "min": round(min(rates)), "max": round(max(rates)),
        "without": round(without), "ratio": round(median(rates) / without, 3),
        "ratio_cpu": round(median(off["task_cpu_ns_per_record"]) / median(on["task_cpu_ns_per_record"]), 3),
        "task_cpu_ns_without": round(median(off["task_cpu_ns_per_record"]), 1),
        "stall": round(median(on["stall_ms"]), 2), "stall_without": round(median(off["stall_ms"]), 2),
        "stall_cpu": round(median(on["stall_cpu_ms"]), 2), "stall_cpu_without": round(median(off["stall_cpu_ms"]), 2),
        "sync": round(max(found["sync_ms"]), 2),
        "complete": round(median(found["complete_ms"]), 1), "complete_max": round(max(found["complete_ms"]), 1),
        "bytes": found["bytes"], "written": round(median(found["written"])), "written_max": max(found["written"]), "restore": round(found["restore_ms"]),
        "memory": round(on["memory_mb"]), "memory_without": round(off["memory_mb"]), "storage": storage,
    }


def main():
    parser = argparse.ArgumentParser(prog="bench state", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help="run this case only")
    parser.add_argument("--parallelism", type=int, default=1, help="workers, each with one subtask of every vertex (default 1)")
    parser.add_argument("--runs", type=int, default=5, help="stretches of either kind (default 5)")
    parser.add_argument("--local", action="store_true", help="write to the local file system")
    parser.add_argument("--backend", choices=["hashmap", "rocksdb"], default="hashmap", help="where the counts are")
    parser.add_argument("--full", action="store_true", help="with rocksdb: write all entries for each checkpoint")
    options = parser.parse_args()
    on_disk = options.backend == "rocksdb"
    cases = ROCKSDB_CASES if on_disk else CASES
    if options.case and options.case not in cases:
        sys.exit(f"bench state: there is no case `{options.case}`; there are {', '.join(cases)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    own = not options.local and not os.environ.get("HADOOP_CONF_DIR")
    try:
        if own:
            subprocess.run([LOCAL_HADOOP, "up", "--dir", OWN_CLUSTER, "--nodes", "1"], check=True)
            os.environ["HADOOP_CONF_DIR"] = f"{OWN_CLUSTER}/conf"
        with tempfile.TemporaryDirectory(prefix="spindle-bench-") as scratch:
            storage = "file" if options.local else "hdfs"
            directory = f"file://{scratch}/checkpoints" if options.local else f"/tmp/spindle-bench-state-{os.getpid()}"
            for case in [options.case] if options.case else cases:
                say(f"{case}: {options.runs} stretches without checkpoints and {options.runs} with them")
                more, beside = [], {}
                if on_disk:
                    more = ["--backend", "rocksdb", "--hot", str(cases[case][3])]
                    more += [] if options.full else ["--incremental"]
                    beside = {"backend": "rocksdb", "incremental": not options.full}
                if on_disk and case == "hot-10k":
                    found = engine(cases[case][:3], options.parallelism, options.runs, directory)
                    memory = line(case, options.parallelism, storage, found)
                    print(json.dumps(memory), flush=True)
                found = engine(cases[case][:3], options.parallelism, options.runs, directory, more)
                figures = line(case, options.parallelism, storage, found) | beside
                if on_disk and case == "hot-10k":
                    figures["ratio_hashmap"] = round(figures["median"] / memory["median"], 3)
                print(json.dumps(figures), flush=True)
    finally:
        if own:
            subprocess.run([LOCAL_HADOOP, "down", "--dir", OWN_CLUSTER], check=False)


if __name__ == "__main__":
    main()
