"""How long a tiny bounded job takes from the start of the client, what is uploaded for it, and what its processes weigh.

It runs `wordcount` on a few lines, per-job, on the cluster of HADOOP_CONF_DIR, else on its own local Hadoop of two nodes.
The seconds are this program's, from just before the client's process starts to the arrival of its event line; the client's own
clock is only compared. The first submission finds no artifact in HDFS and cold daemons, and is reported apart. Memory is
taken in runs of their own, since watching /proc takes time from what is timed; it is the peak (VmHWM), of one container each.

Cases: accepted registered running finished ended (seconds; `finished` is the job, `ended` the client's exit), finished-first,
upload-first upload-again (bytes), memory-client memory-am memory-taskexecutor memory-worker (MB, 10^6 bytes).
"""

import argparse
import getpass
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree

BINARIES = os.environ["SPINDLE_BINARIES"]
LOCAL_HADOOP = os.path.join(os.environ["SPINDLE_SCRIPTS"], "local-hadoop")
OWN_CLUSTER = os.path.join(os.environ["SPINDLE_STATE"], "bench-hadoop")
HOME = "/tmp/spindle-bench"
WORDS = b"to be or not to be\nthat is the question\n"
TIMES = ["accepted", "registered", "running", "finished", "ended"]
SHELLS = {"bash", "sh", "setsid", "env", "nice"}
CLOCKS_MAY_DIFFER = 0.1  # seconds between the client's clock and ours: its start-up and the pipe
RUN_LIMIT = 120  # seconds


def say(text):
    print(f"bench startup: {text}", file=sys.stderr, flush=True)


class Hdfs:
    """The four things needed of HDFS, over WebHDFS."""

    def __init__(self, conf):
        site = xml.etree.ElementTree.parse(os.path.join(conf, "hdfs-site.xml"))
        found = {p.findtext("name"): p.findtext("value") for p in site.iter("property")}
        self.web = f"http://{found['dfs.namenode.http-address']}/webhdfs/v1"
        self.user = os.environ.get("HADOOP_USER_NAME") or getpass.getuser()
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method, path, operation, body=None):
        url = path if path.startswith("http") else f"{self.web}{path}?user.name={self.user}&op={operation}"
        return self.opener.open(urllib.request.Request(url, method=method, data=body), timeout=30)

    def delete(self, path):
        self.call("DELETE", path, "DELETE&recursive=true").close()

    def put(self, path, content):
        try:
            self.call("PUT", path, "CREATE&overwrite=true").close()
        except urllib.error.HTTPError as redirect:
            if redirect.code != 307:
                raise
            self.call("PUT", redirect.headers["Location"], None, content).close()

    def size(self, path):
        """Bytes below a path, 0 if there is none."""
        try:
            with self.call("GET", path, "GETCONTENTSUMMARY") as answer:
                return json.load(answer)["ContentSummary"]["length"]
        except urllib.error.HTTPError:
            return 0


class Watch(threading.Thread):
    """Peak resident memory of the client and of what runs in its application's containers, by role, in MB."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.peaks, self.stopped = client, {}, threading.Event()
        self.seen = {}
        self.application = None  # digits of its id, as in container ids, once known

    def run(self):
        while not self.stopped.wait(0.01):
            for name in os.listdir("/proc"):
                if name.isdigit():
                    try:
                        self.look(int(name))
                    except OSError:
                        continue

    def look(self, pid):
        with open(f"/proc/{pid}/comm") as f:
            name = f.read().strip()
        # A container's shell becomes the program: what was seen under another name is looked at again.
        if (pid, name) not in self.seen:
            self.seen[pid, name] = self.role(pid, name)
        role = self.seen[pid, name]
        if role:
            with open(f"/proc/{pid}/status") as f:
                peak = [int(line.split()[1]) * 1024 / 1e6 for line in f if line.startswith("VmHWM")]
            if peak:
                self.peaks[role] = max(self.peaks.get(role, 0), peak[0])

    def role(self, pid, name):
        if pid == self.client:
            return "client"
        if name in SHELLS or not self.application:
            return None
        with open(f"/proc/{pid}/environ", "rb") as f:
            containers = [e for e in f.read().split(b"\0") if e.startswith(b"CONTAINER_ID=")]
        if not containers or self.application not in containers[0]:
            return None
        if name.startswith("spindle-yarn-am"):
            return "am"
        return "taskexecutor" if name.startswith("spindle-taskexe") else "worker"


def event_name(event):
    """The name under which an event of the client is timed, if it is."""
    if event.get("event") == "job_state":
        return {"RUNNING": "running", "FINISHED": "finished"}.get(event.get("state"))
    return event["event"] if event.get("event") in ("accepted", "registered") else None


def run_once(hdfs, parallelism, watched):
    """One submission: seconds by event, bytes uploaded, peaks by role if watched."""
    hdfs.delete(f"{HOME}/out")
    command = [
        f"{BINARIES}/spindle", "run", "-t", "yarn-per-job", "--output", "json", "-p", str(parallelism), "--name", "bench-startup",
        f"{BINARIES}/wordcount", "--input", f"hdfs://{HOME}/words.txt", "--output", f"hdfs://{HOME}/out",
    ]
    began, epoch = time.monotonic(), time.time()
    client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    limit = threading.Timer(RUN_LIMIT, client.kill)
    limit.start()
    watch = Watch(client.pid)
    if watched:
        watch.start()
    times, uploaded, lines = {}, None, []
    try:
        for line in client.stdout:
            now = time.monotonic() - began
            lines.append(line)
            try:
                event = json.loads(line)
            except ValueError:
                continue
            name = event_name(event)
            if name and name not in times:
                # A state that lasts shorter than the client's next look is told with the time at which it was entered.
                times[name] = event["at_ms"] / 1000 - epoch if name == "running" else now
                if not watched and abs(now - event["t"]) > CLOCKS_MAY_DIFFER:
                    say(f"the client says `{name}` came after {event['t']:.3f} s, it was {now:.3f} s")
            if event.get("event") == "submitted":
                uploaded = event["bytes_uploaded"]
                watch.application = event["application_id"].removeprefix("application").encode() + b"_"
        code = client.wait()
    finally:
        limit.cancel()
        watch.stopped.set()
        if client.poll() is None:
            client.kill()
            client.wait()
    times["ended"] = time.monotonic() - began
    missing = [name for name in TIMES if name not in times] + ([] if uploaded is not None else ["submitted"])
    if code or missing:
        sys.exit(f"bench startup: the client ended with code {code}, events missing: {missing}; it printed:\n{''.join(lines)}")
    return times, uploaded, watch.peaks


def measure(conf, options):
    """Case -> (unit, values)."""
    os.environ["HADOOP_CONF_DIR"] = conf
    hdfs = Hdfs(conf)
    hdfs.put(f"{HOME}/words.txt", WORDS)
    cache = f"/user/{hdfs.user}/.spindle/cache"
    hdfs.delete(cache)
    say("first submission: nothing in HDFS")
    first_times, first, _ = run_once(hdfs, options.parallelism, False)
    stored = hdfs.size(cache)
    if first < stored:
        say(f"the client says it uploaded {first} bytes, but {stored} are in {cache}")
    times, again = [], []
    for k in range(options.runs):
        say(f"timed run {k + 1} of {options.runs}")
        seconds, uploaded, _ = run_once(hdfs, options.parallelism, False)
        times.append(seconds)
        again.append(uploaded)
    peaks = []
    for k in range(options.runs):
        say(f"memory run {k + 1} of {options.runs}")
        peaks.append(run_once(hdfs, options.parallelism, True)[2])
    found = {name: ("s", [t[name] for t in times]) for name in TIMES}
    found["finished-first"] = ("s", [first_times["finished"]])
    found["upload-first"] = ("B", [first])
    found["upload-again"] = ("B", again)
    for role in ("client", "am", "taskexecutor", "worker"):
        values = [p[role] for p in peaks if role in p]
        if values:
            found[f"memory-{role}"] = ("MB", values)
        else:
            say(f"no process was seen in the role of {role}")
    hdfs.delete(HOME)
    return found


def main():
    parser = argparse.ArgumentParser(prog="bench startup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    for case, (unit, values) in found.items():
        if options.case in (None, case):
            digits = {"s": 3, "MB": 1, "B": 0}[unit]
            summary = {"median": statistics.median(values), "min": min(values), "max": max(values)}
            print(json.dumps({
                "suite": "startup", "case": case, "parallelism": options.parallelism, "unit": unit, "runs": len(values),
                **{k: round(v, digits) if digits else int(v) for k, v in summary.items()},
            }))
    if options.case and options.case not in found:
        sys.exit(f"bench startup: there is no case `{options.case}`; there are {', '.join(found)}")


if __name__ == "__main__":
    main()
