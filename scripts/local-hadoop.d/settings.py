"""What the cluster's site files say, and why where it is not Hadoop's default.

Heartbeat intervals are Hadoop's own on purpose: what is measured on this cluster is what YARN costs.
"""

from xml.sax.saxutils import escape

BLOCK = 64  # ports a cluster claims
MAX_NODES = 10
DAEMON_PORTS = {
    "namenode": {"rpc": 0, "http": 1},
    "datanode": {"data": 2, "http": 3, "ipc": 4},
    "resourcemanager": {"rpc": 5, "scheduler": 6, "tracker": 7, "admin": 8, "http": 9},
}
NODE_PORTS = ("rpc", "localizer", "http", "collector")


def daemon_ports(base, daemon):
    """The ports of one daemon, by what listens there."""
    if daemon in DAEMON_PORTS:
        return {name: base + offset for name, offset in DAEMON_PORTS[daemon].items()}
    first = base + 16 + len(NODE_PORTS) * (int(daemon.rpartition("-")[2]) - 1)
    return {name: first + offset for offset, name in enumerate(NODE_PORTS)}


def site_files(home, base, extra):
    """File name -> properties of the conf directory that clients and daemons share."""
    nn, dn, rm = (daemon_ports(base, d) for d in ("namenode", "datanode", "resourcemanager"))
    core = {
        "fs.defaultFS": f"hdfs://localhost:{nn['rpc']}",
        "hadoop.tmp.dir": f"{home}/tmp",
        "ipc.client.connect.max.retries.on.timeouts": 3,
    }
    hdfs = {
        "dfs.replication": 1,
        "dfs.permissions.enabled": "true",
        "dfs.namenode.name.dir": f"file://{home}/data/name",
        "dfs.datanode.data.dir": f"file://{home}/data/data",
        "dfs.namenode.rpc-address": f"localhost:{nn['rpc']}",
        "dfs.namenode.rpc-bind-host": "127.0.0.1",
        "dfs.namenode.http-address": f"127.0.0.1:{nn['http']}",
        "dfs.datanode.address": f"127.0.0.1:{dn['data']}",
        "dfs.datanode.http.address": f"127.0.0.1:{dn['http']}",
        "dfs.datanode.ipc.address": f"127.0.0.1:{dn['ipc']}",
        "dfs.datanode.hostname": "localhost",
        "dfs.namenode.datanode.registration.ip-hostname-check": "false",
        # 30 s more at each restart with blocks present otherwise.
        "dfs.namenode.safemode.extension": 0,
    }
    yarn = {
        "yarn.resourcemanager.hostname": "localhost",
        "yarn.resourcemanager.bind-host": "127.0.0.1",
        "yarn.resourcemanager.address": f"localhost:{rm['rpc']}",
        "yarn.resourcemanager.scheduler.address": f"localhost:{rm['scheduler']}",
        "yarn.resourcemanager.resource-tracker.address": f"localhost:{rm['tracker']}",
        "yarn.resourcemanager.admin.address": f"localhost:{rm['admin']}",
        "yarn.resourcemanager.webapp.address": f"localhost:{rm['http']}",
        "yarn.resourcemanager.scheduler.class": "org.apache.hadoop.yarn.server.resourcemanager.scheduler.capacity.CapacityScheduler",
        # Native containers are small; an ask beyond the maximum must exist for tests of refusal.
        "yarn.scheduler.minimum-allocation-mb": 128,
        "yarn.scheduler.maximum-allocation-mb": 3072,
        "yarn.scheduler.maximum-allocation-vcores": 6,
        "yarn.nodemanager.resource.memory-mb": 4096,
        "yarn.nodemanager.resource.cpu-vcores": 8,
        # The stock value leaves the check to cgroups, also where there are none: no container would ever die of its memory.
        "yarn.nodemanager.resource.memory.enforced": "false",
        "yarn.nodemanager.pmem-check-enabled": "true",
        "yarn.nodemanager.vmem-check-enabled": "false",
        "yarn.nodemanager.delete.debug-delay-sec": 0,
        "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": 99,
        "yarn.log-aggregation-enable": "false",
    }
    scheduler = {
        "yarn.scheduler.capacity.root.queues": "default",
        "yarn.scheduler.capacity.root.default.capacity": 100,
        # 0.1 by default: a second application on a small cluster would stay ACCEPTED for ever.
        "yarn.scheduler.capacity.maximum-am-resource-percent": 0.8,
    }
    for key, value in extra.items():
        if key.startswith("yarn.scheduler.capacity."):
            scheduler[key] = value
        elif key.startswith("yarn."):
            yarn[key] = value
        elif key.startswith("dfs."):
            hdfs[key] = value
        else:
            core[key] = value
    return {"core-site.xml": core, "hdfs-site.xml": hdfs, "yarn-site.xml": yarn, "capacity-scheduler.xml": scheduler}


def node_settings(home, base, daemon):
    """What one NodeManager has to itself: two on one host must differ in all of these. Fixed ports keep the node id over a restart."""
    ports = daemon_ports(base, daemon)
    return {
        "yarn.nodemanager.hostname": "localhost",
        "yarn.nodemanager.bind-host": "127.0.0.1",
        "yarn.nodemanager.address": f"localhost:{ports['rpc']}",
        "yarn.nodemanager.localizer.address": f"localhost:{ports['localizer']}",
        "yarn.nodemanager.webapp.address": f"localhost:{ports['http']}",
        "yarn.nodemanager.collector-service.address": f"localhost:{ports['collector']}",
        "yarn.nodemanager.local-dirs": f"{home}/{daemon}/local",
        "yarn.nodemanager.log-dirs": f"{home}/{daemon}/logs",
        # An RM restarted alone would be found again only after up to 30 s.
        "yarn.resourcemanager.connect.retry-interval.ms": 1000,
    }


def site_xml(properties):
    """A Hadoop site file."""
    rows = [f"  <property><name>{escape(k)}</name><value>{escape(str(v))}</value></property>" for k, v in properties.items()]
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', "<configuration>", *rows, "</configuration>", ""])


LOG4J = """hadoop.root.logger=INFO,console
log4j.rootLogger=${hadoop.root.logger}
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n
log4j.logger.org.apache.hadoop.util.NativeCodeLoader=ERROR
"""
