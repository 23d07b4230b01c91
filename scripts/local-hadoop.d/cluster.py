"""The work behind scripts/local-hadoop: one Hadoop cluster in one directory.

DIR/cluster.json   nodes and first port, kept for the directory's life
DIR/conf           site files, for clients and daemons; conf-nodemanager-K adds what is that node's own
DIR/run/DAEMON     pid, start time and boot of what was started (nothing else is ever signalled), and its log's length before it
DIR/logs, DIR/data, DIR/nodemanager-K/{local,logs}
"""

import argparse
import contextlib
import fcntl
import getpass
import glob
import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from settings import BLOCK, LOG4J, MAX_NODES, daemon_ports, node_settings, site_files, site_xml

JARS = os.environ["SPINDLE_JARS"]
CACHE = os.environ["SPINDLE_CACHE"]
DEFAULT_DIR = os.path.join(os.environ["SPINDLE_STATE"], "local-hadoop")
START_SECONDS = 180  # a cold start takes 10 s on two idle cores; the rest is for busy machines
STOP_SECONDS = 10
MAIN = {
    "namenode": ("org.apache.hadoop.hdfs.server.namenode.NameNode", 384),
    "datanode": ("org.apache.hadoop.hdfs.server.datanode.DataNode", 384),
    "resourcemanager": ("org.apache.hadoop.yarn.server.resourcemanager.ResourceManager", 512),
    "nodemanager": ("org.apache.hadoop.yarn.server.nodemanager.NodeManager", 384),
}
# JDK 17 closes these packages to the web applications of RM and NM.
OPENS = ["java.lang", "java.util", "java.net", "java.io", "java.nio", "java.util.concurrent"]
JAVA_OPTIONS = ["-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true"] + [f"--add-opens=java.base/{p}=ALL-UNNAMED" for p in OPENS]


class Failure(Exception):
    """What went wrong, in a sentence for the user."""


def say(text):
    print(f"local-hadoop: {text}", file=sys.stderr, flush=True)


def boot_id():
    with open("/proc/sys/kernel/random/boot_id") as f:
        return f.read().strip()


def start_time(pid):
    """Clock ticks from boot to the process's start, None when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def get_json(url, method="GET"):
    """The answer's JSON, None while nobody answers sensibly."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def port_is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def locked(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def claim_ports(home):
    """The first of BLOCK ports that are free and promised to no other cluster; below the range for outgoing connections."""
    claims_file = f"{CACHE}/local-hadoop-ports.json"
    with locked(f"{claims_file}.lock"):
        try:
            with open(claims_file) as f:
                claims = json.load(f)
        except (OSError, ValueError):
            claims = {}
        claims = {base: owner for base, owner in claims.items() if owner != home and os.path.isdir(owner)}
        bases = [b for b in range(16384, 32768, BLOCK) if str(b) not in claims]
        random.shuffle(bases)
        for base in bases:
            if all(port_is_free(base + i) for i in range(BLOCK)):
                claims[str(base)] = home
                with open(f"{claims_file}.new", "w") as f:
                    json.dump(claims, f)
                os.replace(f"{claims_file}.new", claims_file)
                return base
    raise Failure(f"no {BLOCK} neighbouring free ports between 16384 and 32767")


class Cluster:
    def __init__(self, home):
        self.home = os.path.realpath(home)
        self.conf = f"{self.home}/conf"
        self.nodes, self.base, self.extra = 1, None, {}
        with contextlib.suppress(OSError):
            with open(f"{self.home}/cluster.json") as f:
                saved = json.load(f)
            self.nodes, self.base, self.extra = saved["nodes"], saved["base"], saved["extra"]

    @property
    def daemons(self):
        return ["namenode", "datanode", "resourcemanager"] + [f"nodemanager-{k + 1}" for k in range(self.nodes)]

    def ports(self, daemon):
        return daemon_ports(self.base, daemon)

    def web(self, daemon):
        return f"http://localhost:{self.ports(daemon)['http']}"

    def log(self, daemon):
        return f"{self.home}/logs/{daemon}.log"

    # ---- processes

    def record(self, daemon):
        """The pid of a daemon that this cluster started and that still runs, and where its log began; None for both else."""
        try:
            with open(f"{self.home}/run/{daemon}") as f:
                pid, started, boot, log_start, *_ = [*f.read().split(), 0]
        except (OSError, ValueError):
            return None, None
        return (int(pid), int(log_start)) if boot == boot_id() and start_time(pid) == int(started) else (None, None)

    def pid(self, daemon):
        return self.record(daemon)[0]

    def running(self):
        """Every daemon of the directory that runs, also those of a larger cluster that was here before."""
        names = sorted(os.listdir(f"{self.home}/run")) if os.path.isdir(f"{self.home}/run") else []
        return [d for d in names if self.pid(d)]

    def environment(self):
        """A daemon's environment. The NodeManager hands parts of it to containers, and only what is set here."""
        env = {k: v for k, v in os.environ.items() if k in ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "PATH", "TMPDIR", "JAVA_HOME")}
        for key in ("HADOOP_COMMON_HOME", "HADOOP_HDFS_HOME", "HADOOP_YARN_HOME"):
            env[key] = JARS
        env["HADOOP_CONF_DIR"] = self.conf
        return env

    def java(self, daemon, *arguments):
        main, heap = MAIN[daemon.partition("-")[0]]
        class_path = [self.conf, f"{self.home}/web", f"{JARS}/*"]
        if daemon.startswith("nodemanager"):
            class_path.insert(0, f"{self.conf}-{daemon}")
        return [f"{os.environ['JAVA_HOME']}/bin/java", f"-Xmx{heap}m", *JAVA_OPTIONS, "-cp", ":".join(class_path), main, *arguments]

    def launch(self, daemon):
        with open(self.log(daemon), "ab") as log:
            log_start = log.tell()
            child = subprocess.Popen(
                self.java(daemon), cwd=self.home, env=self.environment(), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
        with open(f"{self.home}/run/{daemon}", "w") as f:
            f.write(f"{child.pid} {start_time(child.pid) or 0} {boot_id()} {log_start}\n")
        return child

    def signal(self, pids, number):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self, found):
        """TERM, then KILL, to all that `found()` still names."""
        self.signal(found(), signal.SIGTERM)
        self.signal(found(), signal.SIGCONT)
        deadline = time.monotonic() + STOP_SECONDS
        while found() and time.monotonic() < deadline:
            time.sleep(0.05)
        while found():
            self.signal(found(), signal.SIGKILL)
            time.sleep(0.05)

    def containers(self):
        """Processes in containers of this cluster: a NodeManager that was killed leaves them behind."""
        pids = []
        for path in glob.glob("/proc/[0-9]*/environ"):
            with contextlib.suppress(OSError):
                with open(path, "rb") as f:
                    env = dict(e.partition(b"=")[::2] for e in f.read().split(b"\0"))
                if b"CONTAINER_ID" in env and env.get(b"LOCAL_DIRS", b"").startswith(f"{self.home}/nodemanager-".encode()):
                    pids.append(int(path.split("/")[2]))
        return [p for p in pids if start_time(p) is not None]

    def stop(self):
        """Stops what was started here, NodeManagers first, so that they end their containers."""
        managers = [d for d in self.running() if d.startswith("nodemanager")]
        self.end(lambda: [p for p in map(self.pid, managers) if p])
        self.end(self.containers)
        others = self.running()
        self.end(lambda: [p for p in map(self.pid, others) if p])
        for record in glob.glob(f"{self.home}/run/*"):
            os.remove(record)
        return managers + others

    # ---- files

    def write_files(self):
        for path in ["conf", "run", "logs", "tmp", "data", "web/webapps/hdfs/WEB-INF", "web/webapps/datanode/WEB-INF"]:
            os.makedirs(f"{self.home}/{path}", exist_ok=True)  # hadoop-hdfs brings no web pages, but insists on their directories
        files = site_files(self.home, self.base, self.extra)
        for name, properties in files.items():
            self.write(f"{self.conf}/{name}", site_xml(properties))
        self.write(f"{self.conf}/log4j.properties", LOG4J)
        for daemon in self.daemons[3:]:
            for path in [f"{self.conf}-{daemon}", f"{self.home}/{daemon}/local", f"{self.home}/{daemon}/logs"]:
                os.makedirs(path, exist_ok=True)
            self.write(f"{self.conf}-{daemon}/yarn-site.xml", site_xml({**files["yarn-site.xml"], **node_settings(self.home, self.base, daemon)}))
        self.write(f"{self.home}/cluster.json", json.dumps({"nodes": self.nodes, "base": self.base, "extra": self.extra}) + "\n")

    @staticmethod
    def write(path, text):
        with open(f"{path}.new", "w") as f:
            f.write(text)
        os.replace(f"{path}.new", path)

    # ---- health

    def health(self):
        """Daemon -> None when healthy, else what is wrong with it."""
        found = {d: None if self.pid(d) else "not running" for d in self.daemons}
        # NameNode and ResourceManager list a daemon that was killed for minutes: its successor must also say itself that it registered.
        if not found["namenode"]:
            # All beans of the service in one answer: a missing bean must not read as "out of safe mode".
            beans = {b["name"].rpartition("name=")[2]: b for b in (get_json(f"{self.web('namenode')}/jmx?qry=Hadoop:service=NameNode,*") or {}).get("beans", [])}
            info, state = beans.get("NameNodeInfo"), beans.get("FSNamesystemState")
            if info is None or state is None:
                found["namenode"] = "does not answer yet"
            elif info.get("Safemode"):
                found["namenode"] = "in safe mode"
            own = (get_json(f"{self.web('datanode')}/jmx?qry=Hadoop:service=DataNode,name=DataNodeInfo") or {}).get("beans") or [{}]
            registered = '"ActorState":"RUNNING"' in (own[0].get("BPServiceActorInfo") or "")
            if not found["datanode"] and not (registered and (state or {}).get("NumLiveDataNodes", 0) >= 1):
                found["datanode"] = "not registered with the NameNode"
        elif not found["datanode"]:
            found["datanode"] = "without its NameNode"
        answer = None if found["resourcemanager"] else get_json(f"{self.web('resourcemanager')}/ws/v1/cluster/nodes")
        if not found["resourcemanager"] and answer is None:
            found["resourcemanager"] = "does not answer yet"
        active = {n["id"] for n in ((answer or {}).get("nodes") or {}).get("node", []) if n["state"] == "RUNNING"}
        for daemon in self.daemons[3:]:
            if not found[daemon] and not (f"localhost:{self.ports(daemon)['rpc']}" in active and self.registered(daemon)):
                found[daemon] = "not active in the ResourceManager"
        return found

    def registered(self, daemon):
        with open(self.log(daemon), "rb") as f:
            f.seek(self.record(daemon)[1] or 0)
            return b"Registered with ResourceManager" in f.read()

    def wait_healthy(self, wanted, children):
        deadline = time.monotonic() + START_SECONDS
        waiting = None
        while True:
            for daemon, child in children.items():
                if child.poll() is not None:
                    raise Failure(f"the {daemon} ended with code {child.returncode}; the end of its log:\n{self.tail(daemon)}")
            found = self.health()
            sick = {d: found[d] for d in wanted if found[d]}
            if not sick:
                return
            if time.monotonic() > deadline:
                daemon, reason = next(iter(sick.items()))
                raise Failure(f"the {daemon} is {reason} after {START_SECONDS} s; the end of its log:\n{self.tail(daemon)}")
            if list(sick) != waiting:
                waiting = list(sick)
                say(f"waiting for {', '.join(waiting)}")
            time.sleep(0.2)

    def tail(self, daemon, lines=25):
        with open(self.log(daemon), errors="replace") as f:
            return f"{self.log(daemon)}:\n" + "".join(f.readlines()[-lines:])

    # ---- verbs

    def up(self, nodes, extra):
        began = time.monotonic()
        running = self.running()
        if running:
            if nodes not in (None, self.nodes):
                raise Failure(f"the cluster in {self.home} runs with {self.nodes} NodeManagers, not {nodes}: take it down first")
            if extra and {**self.extra, **extra} != self.extra:
                raise Failure(f"the cluster in {self.home} runs with other settings: take it down first")
        else:
            self.nodes = nodes or self.nodes
            self.extra.update(extra)
            if self.base is None or not all(port_is_free(p) for d in self.daemons for p in self.ports(d).values()):
                if self.base is not None:
                    say("a port of this cluster was taken by another process, choosing new ones")
                os.makedirs(self.home, exist_ok=True)
                self.base = claim_ports(self.home)
            self.write_files()
        missing = [d for d in self.daemons if d not in running]
        if not missing and not any(self.health().values()):
            say(f"already up in {self.home}, {self.nodes} NodeManagers")
            return
        try:
            self.start(missing)
        except (Failure, KeyboardInterrupt):
            if not running:
                self.stop()
            raise
        say(f"up in {time.monotonic() - began:.1f} s: ResourceManager {self.web('resourcemanager')}, HDFS hdfs://localhost:{self.ports('namenode')['rpc']}, {self.nodes} NodeManagers")

    def start(self, missing):
        if missing:
            say(f"starting {', '.join(missing)} in {self.home}")
        # What needs no NameNode first: it loads while the name directory is formatted.
        children = {d: self.launch(d) for d in missing if d != "namenode"}
        if "namenode" in missing:
            if not os.path.isdir(f"{self.home}/data/name/current"):
                say("formatting the NameNode's directory")
                with open(self.log("namenode"), "ab") as log:
                    code = subprocess.call(
                        self.java("namenode", "-format", "-nonInteractive", "-clusterId", "local"), cwd=self.home, env=self.environment(),
                        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, timeout=START_SECONDS,
                    )
                if code:
                    raise Failure(f"formatting the NameNode's directory failed with code {code}; the end of its log:\n{self.tail('namenode')}")
            children["namenode"] = self.launch("namenode")
        self.wait_healthy(self.daemons, children)
        user = getpass.getuser()
        for path, mode in [("/tmp", "1777"), ("/user", "755"), (f"/user/{user}", "700")]:
            url = f"{self.web('namenode')}/webhdfs/v1{path}?user.name={user}"
            if get_json(f"{url}&op=GETFILESTATUS") is None and get_json(f"{url}&op=MKDIRS&permission={mode}", "PUT") is None:
                raise Failure(f"the NameNode did not create {path}; the end of its log:\n{self.tail('namenode')}")

    def need_daemon(self, daemon):
        if self.base is None:
            raise Failure(f"there is no cluster in {self.home}: run `local-hadoop up` first")
        if daemon not in self.daemons:
            raise Failure(f"`{daemon}` is no daemon of this cluster; it has {', '.join(self.daemons)}")

    def start_one(self, daemon):
        self.need_daemon(daemon)
        if self.pid(daemon):
            return say(f"{daemon} already runs")
        self.wait_healthy([daemon], {daemon: self.launch(daemon)})
        say(f"{daemon} is up")

    def kill_one(self, daemon, name):
        self.need_daemon(daemon)
        pid = self.pid(daemon)
        if not pid:
            return say(f"{daemon} does not run")
        number = signal.Signals[f"SIG{name}"]
        self.signal([pid], number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            while self.pid(daemon):
                time.sleep(0.02)
        say(f"sent {name} to {daemon}, pid {pid}")

    def status(self):
        if self.base is None:
            raise Failure(f"there is no cluster in {self.home}")
        found = self.health()
        for daemon, trouble in found.items():
            ports = " ".join(f"{name}={port}" for name, port in self.ports(daemon).items())
            print(f"{daemon:16} pid {self.pid(daemon) or '-':>7}  {trouble or 'healthy':36} {ports}")
        return 1 if any(found.values()) else 0

    def env(self):
        if self.base is None:
            raise Failure(f"there is no cluster in {self.home}: run `local-hadoop up` first")
        for key, value in {
            "HADOOP_CONF_DIR": self.conf,
            "HADOOP_RM_WEB": self.web("resourcemanager"),
            "HADOOP_NN_WEB": self.web("namenode"),
            "HADOOP_CLASSPATH_DIR": JARS,
        }.items():
            print(f"export {key}={shlex.quote(value)}")

    def fs(self, arguments):
        if self.base is None:
            raise Failure(f"there is no cluster in {self.home}: run `local-hadoop up` first")
        java = f"{os.environ['JAVA_HOME']}/bin/java"
        os.execv(java, [
            java, "-Xmx256m", "-XX:TieredStopAtLevel=1", *JAVA_OPTIONS, "-Dhadoop.root.logger=WARN,console",
            "-cp", f"{self.conf}:{JARS}/*", "org.apache.hadoop.fs.FsShell", *arguments,
        ])


def parse(arguments):
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dir", default=argparse.SUPPRESS, help=f"the cluster's directory (default: {DEFAULT_DIR})")
    common.add_argument("--nodes", type=int, default=argparse.SUPPRESS, help=f"for up: NodeManagers, 1 to {MAX_NODES} (default: as before, at first 1)")
    parser = argparse.ArgumentParser(prog="local-hadoop", description="Real Hadoop daemons on loopback, each its own JVM.", parents=[common])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", parents=[common], help="start what does not run yet, return when all is healthy")
    up.add_argument("-D", dest="extra", action="append", default=[], metavar="KEY=VALUE", help="a Hadoop setting of this cluster, kept for its life")
    verbs.add_parser("down", parents=[common], help="stop exactly what up started; the data stays")
    verbs.add_parser("status", parents=[common], help="each daemon, its pid, health and ports; exit code 0 only if all are healthy")
    verbs.add_parser("env", parents=[common], help="shell lines for eval: HADOOP_CONF_DIR, HADOOP_RM_WEB, HADOOP_NN_WEB, HADOOP_CLASSPATH_DIR")
    fs = verbs.add_parser("fs", parents=[common], help="Hadoop's FsShell on this cluster: fs -ls /")
    fs.add_argument("arguments", nargs="*", metavar="ARG")
    kill = verbs.add_parser("kill", parents=[common], help="signal one daemon; a killed NodeManager leaves its containers behind")
    kill.add_argument("daemon", help="namenode, datanode, resourcemanager or nodemanager-K")
    kill.add_argument("signal", nargs="?", default="KILL", choices=["KILL", "TERM", "STOP", "CONT"])
    start = verbs.add_parser("start", parents=[common], help="start one daemon again, return when it is healthy")
    start.add_argument("daemon")
    # What follows `fs` (and its --dir) is FsShell's own, options included.
    own, passed = arguments, []
    if "fs" in arguments:
        end = arguments.index("fs") + 1
        end += 2 if arguments[end:end + 1] == ["--dir"] else 0
        own, passed = (arguments[:end], arguments[end:]) if arguments[end:] not in (["-h"], ["--help"]) else (arguments, [])
    options = parser.parse_args(own)
    if options.verb == "fs":
        options.arguments = passed
    if not 1 <= getattr(options, "nodes", 1) <= MAX_NODES:
        parser.error(f"--nodes {options.nodes}: 1 to {MAX_NODES}")
    if options.verb == "up":
        wrong = [e for e in options.extra if "=" not in e]
        if wrong:
            parser.error(f"-D {wrong[0]}: KEY=VALUE is needed")
    return options


def main():
    options = parse(sys.argv[1:])
    home = getattr(options, "dir", DEFAULT_DIR)
    if options.verb == "fs":
        return Cluster(home).fs(options.arguments)
    if options.verb == "env":
        return Cluster(home).env()
    if options.verb == "status":
        return Cluster(home).status()
    if not os.path.isdir(home) and options.verb != "up":
        say(f"there is no cluster in {home}, nothing to do")
        return 0 if options.verb == "down" else 1
    with locked(os.path.join(home, "lock")):
        cluster = Cluster(home)
        if options.verb == "up":
            cluster.up(getattr(options, "nodes", None), dict(e.split("=", 1) for e in options.extra))
        elif options.verb == "down":
            stopped = cluster.stop()
            say(f"stopped {', '.join(stopped)}" if stopped else f"nothing of {cluster.home} was running")
        elif options.verb == "kill":
            cluster.kill_one(options.daemon, options.signal)
        else:
            cluster.start_one(options.daemon)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        say(failure)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
