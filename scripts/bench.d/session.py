"""How long a session takes to start, and a job from its submission to RUNNING: without a TaskManager, with one there, and under load.

It starts a session on the cluster of HADOOP_CONF_DIR, else on its own local Hadoop of two nodes, and submits `wordcount` on a few
lines to it. A submission's seconds run from just before the client's process starts to the time at which the JobManager entered
RUNNING, by its clock, which is this machine's. `load` is 100 submissions, 8 at a time, and has its percentiles beside.

Cases: session-up, running-cold (no TaskManager), running-warm (one is there), load (seconds); memory-am-before, memory-am-after (MB).
"""

import argparse
import concurrent.futures
import json
import os
import signal
import statistics
import subprocess
import sys
import time

from startup import BINARIES, HOME, LOCAL_HADOOP, RUN_LIMIT, WORDS, Hdfs

OWN_CLUSTER = os.path.join(os.environ["SPINDLE_STATE"], "bench-hadoop")
JOBS, AT_A_TIME = 100, 8


def say(text):
    print(f"bench session: {text}", file=sys.stderr, flush=True)


def spindle(*arguments):
    done = subprocess.run([f"{BINARIES}/spindle", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_LIMIT)
    if done.returncode:
        sys.exit(f"bench session: spindle {' '.join(arguments)} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def submit(application, output, parallelism):
    """Seconds from the start of the client to RUNNING."""
    began = time.time()
    printed = spindle(
        "run", "-t", "yarn-session", "-yid", application, "--output", "json", "-p", str(parallelism),
        f"{BINARIES}/wordcount", "--input", f"hdfs://{HOME}/words.txt", "--output", f"hdfs://{HOME}/{output}",
    )
    for line in printed.splitlines():
        event = json.loads(line)
        if event.get("event") == "job_state" and event.get("state") == "RUNNING":
            return event["at_ms"] / 1000 - began
    sys.exit(f"bench session: the job was never RUNNING:\n{printed}")


def master_memory(application):
    """Resident memory of the ApplicationMaster, in MB."""
    container = application.replace("application_", "container_").encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/comm") as f:
                    if not f.read().startswith("spindle-yarn-am"):
                        continue
                with open(f"/proc/{name}/environ", "rb") as f:
                    if b"CONTAINER_ID=" + container not in f.read():
                        continue
                with open(f"/proc/{name}/status") as f:
                    return next(int(line.split()[1]) * 1024 / 1e6 for line in f if line.startswith("VmRSS"))
            except OSError:
                continue
    sys.exit("bench session: the ApplicationMaster is not there")


def measure(conf, options):
    """Case -> (unit, values)."""
    os.environ["HADOOP_CONF_DIR"] = conf
    hdfs = Hdfs(conf)
    hdfs.delete(HOME)
    hdfs.put(f"{HOME}/words.txt", WORDS)
    found = {"session-up": ("s", []), "running-cold": ("s", []), "running-warm": ("s", []), "load": ("s", [])}
    application = None
    try:
        for k in range(options.runs):
            say(f"run {k + 1} of {options.runs}: a session and its first jobs")
            began = time.time()
            printed = spindle("session", "start", "-d", "-nm", "bench-session", "-s", "2")
            found["session-up"][1].append(time.time() - began)
            application = next(word for word in printed.split() if word.startswith("application_"))
            found["running-cold"][1].append(submit(application, f"cold-{k}", options.parallelism))
            found["running-warm"][1].append(submit(application, f"warm-{k}", options.parallelism))
            if k + 1 < options.runs:
                spindle("session", "stop", "-id", application)
                application = None
        say(f"{JOBS} submissions, {AT_A_TIME} at a time")
        before = master_memory(application)
        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
            jobs = [pool.submit(submit, application, f"load-{n}", options.parallelism) for n in range(JOBS)]
            found["load"][1].extend(job.result() for job in jobs)
        found["memory-am-before"] = ("MB", [before])
        found["memory-am-after"] = ("MB", [master_memory(application)])
    finally:
        if application:
            spindle("session", "stop", "-id", application)
        hdfs.delete(HOME)
    return found


def main():
    parser = argparse.ArgumentParser(prog="bench session", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help="print this case only")
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    conf = os.environ.get("HADOOP_CONF_DIR")
    try:
        if not conf:
            subprocess.run([LOCAL_HADOOP, "up", "--dir", OWN_CLUSTER, "--nodes", "2"], check=True)
        found = measure(conf or f"{OWN_CLUSTER}/conf", options)
    finally:
        if not conf:
            subprocess.run([LOCAL_HADOOP, "down", "--dir", OWN_CLUSTER], check=False)
    if options.case and options.case not in found:
        sys.exit(f"bench session: there is no case `{options.case}`; there are {', '.join(found)}")
    for case, (unit, values) in found.items():
        if options.case in (None, case):
            percentiles = statistics.quantiles(values, n=20) if len(values) > 1 else values * 19
            print(json.dumps({
                "suite": "session", "case": case, "parallelism": options.parallelism, "unit": unit, "runs": len(values),
                "median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3),
                "p50": round(percentiles[9], 3), "p95": round(percentiles[18], 3),
            }))


if __name__ == "__main__":
    main()
