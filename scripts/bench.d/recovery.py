"""How long it takes from a kill -9 to the first record that the job puts out after it.

It runs `ticker`, which counts numbers by key and has each subtask of its sink append what it gets to a file of this machine, on its own
local Hadoop of two nodes, or on the cluster of HADOOP_CONF_DIR if all of it is on this machine. The seconds are this program's: from
just before the signal is sent to the moment at which it reads a line of a later attempt. So a job's state says nothing here; it is only told
beside: when the JobManager had seen the loss, and when all tasks were running again, by its clock. The job takes a checkpoint
to HDFS each second and has state of 10,000 keys for each of its subtasks. Flink's default, a delay of 1 s before the first restart, is
switched off: `--delay` sets it, and comes on top.

Cases: worker (killed on a TaskManager that survives), spare-slot (a TaskExecutor, and slots for all its tasks are free elsewhere),
new-container (a TaskExecutor, and YARN has to give another container).
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

BINARIES = os.environ["SPINDLE_BINARIES"]
LOCAL_HADOOP = os.path.join(os.environ["SPINDLE_SCRIPTS"], "local-hadoop")
OWN_CLUSTER = os.path.join(os.environ["SPINDLE_STATE"], "bench-hadoop")
CASES = ["worker", "spare-slot", "new-container"]
LIMIT = 120  # seconds
CALM = 3  # seconds that a job runs before it is disturbed: time for checkpoints


def say(text):
    print(f"bench recovery: {text}", file=sys.stderr, flush=True)


def until(what, look, pause=0.05, limit=LIMIT):
    """Waits for a look that finds something, and returns that."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(pause)
    sys.exit(f"bench recovery: waited {limit} s in vain for {what}")


def processes(application, worker):
    """Process id -> container, of an application's workers or of its TaskExecutors."""
    prefix = b"CONTAINER_ID=" + application.replace("application_", "container_").encode()
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as f:
                environment = f.read().split(b"\0")
            with open(f"/proc/{name}/cmdline", "rb") as f:
                command = f.read().split(b"\0")[0].rsplit(b"/", 1)[-1]
        except OSError:
            continue
        container = next((v for v in environment if v.startswith(prefix)), None)
        is_worker = b"SPINDLE_MODE=worker" in environment
        if container and (is_worker if worker else command == b"spindle-taskexecutor"):
            found[int(name)] = container
    return found


class Job:
    """A ticker, with eyes on what it puts out."""

    def __init__(self, options, *where):
        self.keys = 10_000 * options.parallelism
        self.watch = tempfile.mkdtemp(prefix="spindle-bench-watch-")
        self.parallelism = options.parallelism
        settings = {
            "execution.checkpointing.interval": "1 s",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": "1000",
            "restart-strategy.fixed-delay.delay": options.delay,
        }
        command = [f"{BINARIES}/spindle", "run", "--output", "json", "-p", str(options.parallelism), *where]
        for key, value in settings.items():
            command += ["-D", f"{key}={value}"]
        command += [f"{BINARIES}/ticker", "--watch", self.watch, "--keys", str(self.keys)]
        self.client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.events = []
        threading.Thread(target=self.listen, daemon=True).start()
        submitted = until("a submission", lambda: self.find("submitted"))
        self.application, self.id = submitted["application_id"], submitted["job_id"]
        self.until_all(-1)

    def listen(self):
        for line in self.client.stdout:
            self.events.append(json.loads(line))

    def find(self, event):
        if self.client.poll() not in (None, 0, 4):
            sys.exit(f"bench recovery: the client ended with code {self.client.poll()}: {self.events}")
        return next((e for e in self.events if e.get("event") == event), None)

    def attempts(self):
        """Subtask -> the latest attempt that has put something out."""
        latest = {}
        with os.scandir(self.watch) as files:
            for file in files:
                subtask, attempt = map(int, file.name.split("-"))
                if attempt > latest.get(subtask, -1) and file.stat().st_size:
                    latest[subtask] = attempt
        return latest

    def until_all(self, attempt):
        """Until all subtasks have put something out in later attempts."""
        return until("records", lambda: sum(a > attempt for a in self.attempts().values()) == self.parallelism, 0.001)

    def line(self, subtask, attempt, which):
        """A number and the count of its key, as the first (0) or last (-1) line says."""
        with open(f"{self.watch}/{subtask}-{attempt}") as f:
            return tuple(map(int, f.read().rsplit("\n", 1)[0].split("\n")[which].split()))

    def disturbed(self, pid):
        """Seconds from the kill of a process to the first record, and what else there is to tell."""
        time.sleep(CALM)
        latest = self.attempts()
        before, reached = max(latest.values()), min(self.line(*one, -1)[0] for one in latest.items())
        at, begun = time.time(), time.monotonic()
        os.kill(pid, signal.SIGKILL)
        until("a record after the kill", lambda: max(self.attempts().values()) > before, 0.001)
        first = time.monotonic() - begun
        self.until_all(before)
        every = time.monotonic() - begun
        for subtask, attempt in self.attempts().items():
            number, count = self.line(subtask, attempt, 0)
            if count != number // self.keys + 1 or number < reached / 4:
                sys.exit(f"bench recovery: it did not go on from its checkpoint: number {number} has count {count}, and {reached} was reached")
        states = lambda: [e for e in list(self.events) if e.get("event") == "job_state" and e["at_ms"] / 1000 > at]
        running = until("the news that it runs", lambda: [e for e in states() if e["state"] == "RUNNING"])
        seen, running = states()[0]["at_ms"] / 1000 - at, running[0]["at_ms"] / 1000 - at
        say(f"first record after {first:.3f} s, of all subtasks after {every:.3f} s; loss seen {seen:.3f}, running {running:.3f}")
        return {"first": first, "all": every, "seen": seen, "running": running}

    def worker(self):
        """The id of a worker."""
        return next(iter(until("a worker", lambda: processes(self.application, True))))

    def task_executor(self):
        """The id of a TaskExecutor that has a worker of the job."""
        busy = set(until("a worker", lambda: processes(self.application, True)).values())
        return next(pid for pid, container in processes(self.application, False).items() if container in busy)

    def end(self):
        subprocess.run(
            [f"{BINARIES}/spindle", "cancel", "-yid", self.application, self.id],
            check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=LIMIT,
        )
        self.client.wait(LIMIT)
        shutil.rmtree(self.watch, ignore_errors=True)


def alone(options, found):
    """A worker and then the only TaskExecutor of a job with an application of its own."""
    slots = f"taskmanager.numberOfTaskSlots={options.parallelism}"
    job = Job(options, "-t", "yarn-per-job", "-D", slots)
    try:
        if "worker" in found:
            found["worker"].append(job.disturbed(job.worker()))
        if "new-container" in found:
            found["new-container"].append(job.disturbed(job.task_executor()))
    finally:
        job.end()


def in_session(options, found):
    """A TaskExecutor of a session that has another one, without a task."""
    printed = subprocess.run(
        [
            f"{BINARIES}/spindle", "session", "start", "-d", "-nm", "bench-recovery", "-s", str(options.parallelism),
            "-D", "resourcemanager.taskmanager-timeout=10 min",
        ],
        check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT,
    ).stdout
    session = next(word for word in printed.split() if word.startswith("application_"))
    where = ["-t", "yarn-session", "-yid", session]
    twice = argparse.Namespace(**{**vars(options), "parallelism": 2 * options.parallelism})
    try:
        for k in range(options.runs):
            say(f"spare-slot, run {k + 1} of {options.runs}")
            # It leaves two TaskManagers behind.
            Job(twice, *where).end()
            job = Job(options, *where)
            try:
                found.append(job.disturbed(job.task_executor()))
            finally:
                job.end()
    finally:
        subprocess.run([f"{BINARIES}/spindle", "session", "stop", "-id", session], check=False, stdout=subprocess.DEVNULL, timeout=LIMIT)


def main():
    parser = argparse.ArgumentParser(prog="bench recovery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, help="run this case only")
    parser.add_argument("--parallelism", type=int, default=2, help="subtasks, all on one TaskManager (default 2)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--delay", default="0 s", help="time before a restart, such as '1 s' (default '0 s')")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    own = not os.environ.get("HADOOP_CONF_DIR")
    found = {case: [] for case in CASES if options.case in (None, case)}
    try:
        if own:
            subprocess.run([LOCAL_HADOOP, "up", "--dir", OWN_CLUSTER, "--nodes", "2"], check=True)
            os.environ["HADOOP_CONF_DIR"] = f"{OWN_CLUSTER}/conf"
        if set(found) & {"worker", "new-container"}:
            for k in range(options.runs):
                say(f"{', '.join(case for case in found if case != 'spare-slot')}: run {k + 1} of {options.runs}")
                alone(options, found)
        if "spare-slot" in found:
            in_session(options, found["spare-slot"])
    finally:
        if own:
            subprocess.run([LOCAL_HADOOP, "down", "--dir", OWN_CLUSTER], check=False)
    for case, runs in found.items():
        of = lambda what: [run[what] for run in runs]
        print(json.dumps({
            "suite": "recovery", "case": case, "parallelism": options.parallelism, "unit": "s", "runs": len(runs),
            "median": round(statistics.median(of("first")), 3), "min": round(min(of("first")), 3), "max": round(max(of("first")), 3),
            "seen": round(statistics.median(of("seen")), 3), "running": round(statistics.median(of("running")), 3),
            "all": round(statistics.median(of("all")), 3), "delay": options.delay,
        }), flush=True)


if __name__ == "__main__":
    main()
