//! What Hadoop 3 takes for a key that no site file sets: a Java client finds these in its jars.

/// `(key, default)`, sorted by key; a key without a default is not in the table.
pub(super) const DEFAULTS: &[(&str, &str)] = &[
    ("dfs.blocksize", "134217728"),
    ("dfs.client.failover.max.attempts", "15"),
    ("dfs.client.failover.sleep.base.millis", "500"),
    ("dfs.client.failover.sleep.max.millis", "15000"),
    ("dfs.client.socket-timeout", "60000"),
    ("dfs.client.use.datanode.hostname", "false"),
    ("dfs.encrypt.data.transfer", "false"),
    ("dfs.replication", "3"),
    ("dfs.user.home.dir.prefix", "/user"),
    ("fs.defaultFS", "file:///"),
    ("fs.permissions.umask-mode", "022"),
    ("hadoop.http.authentication.type", "simple"),
    ("hadoop.http.staticuser.user", "dr.who"),
    ("hadoop.rpc.protection", "authentication"),
    ("hadoop.security.authentication", "simple"),
    ("hadoop.security.authorization", "false"),
    ("hadoop.security.token.service.use_ip", "true"),
    ("hadoop.tmp.dir", "/tmp/hadoop-${user.name}"),
    ("hadoop.zk.timeout-ms", "10000"),
    ("ipc.client.connect.max.retries", "10"),
    ("ipc.client.connect.retry.interval", "1000"),
    ("ipc.client.connect.timeout", "20000"),
    ("ipc.client.rpc-timeout.ms", "120000"),
    ("ipc.maximum.data.length", "134217728"),
    ("ipc.ping.interval", "60000"),
    ("yarn.acl.enable", "false"),
    ("yarn.admin.acl", "*"),
    ("yarn.am.liveness-monitor.expiry-interval-ms", "900000"),
    ("yarn.app.attempt.diagnostics.limit.kc", "64"),
    ("yarn.client.failover-retries", "0"),
    ("yarn.client.failover-sleep-base-ms", "30000"),
    ("yarn.client.failover-sleep-max-ms", "30000"),
    ("yarn.client.nodemanager-connect.max-wait-ms", "180000"),
    ("yarn.client.nodemanager-connect.retry-interval-ms", "10000"),
    ("yarn.http.policy", "HTTP_ONLY"),
    ("yarn.log-aggregation-enable", "false"),
    ("yarn.nm.liveness-monitor.expiry-interval-ms", "600000"),
    ("yarn.nodemanager.pmem-check-enabled", "true"),
    ("yarn.nodemanager.remote-app-log-dir", "/tmp/logs"),
    ("yarn.nodemanager.remote-app-log-dir-suffix", "logs"),
    ("yarn.nodemanager.resource.memory.enforced", "true"),
    ("yarn.nodemanager.sleep-delay-before-sigkill.ms", "250"),
    ("yarn.nodemanager.vmem-check-enabled", "true"),
    ("yarn.nodemanager.vmem-pmem-ratio", "2.1"),
    ("yarn.resourcemanager.am.max-attempts", "2"),
    ("yarn.resourcemanager.connect.max-wait.ms", "900000"),
    ("yarn.resourcemanager.connect.retry-interval.ms", "30000"),
    (
        "yarn.resourcemanager.delegation.token.max-lifetime",
        "604800000",
    ),
    (
        "yarn.resourcemanager.delegation.token.renew-interval",
        "86400000",
    ),
    ("yarn.resourcemanager.ha.enabled", "false"),
    ("yarn.resourcemanager.hostname", "0.0.0.0"),
    (
        "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms",
        "1000",
    ),
    ("yarn.resourcemanager.recovery.enabled", "false"),
    ("yarn.scheduler.capacity.maximum-am-resource-percent", "0.1"),
    ("yarn.scheduler.maximum-allocation-mb", "8192"),
    ("yarn.scheduler.maximum-allocation-vcores", "4"),
    ("yarn.scheduler.minimum-allocation-mb", "1024"),
    ("yarn.scheduler.minimum-allocation-vcores", "1"),
];

/// Old names that Hadoop still takes, and the key each means.
pub(super) const DEPRECATED: &[(&str, &str)] = &[
    ("dfs.federation.nameservices", "dfs.nameservices"),
    ("dfs.umaskmode", "fs.permissions.umask-mode"),
    ("fs.default.name", "fs.defaultFS"),
];

/// The default of `key`, unexpanded.
pub(super) fn default_of(key: &str) -> Option<&'static str> {
    DEFAULTS
        .binary_search_by_key(&key, |(name, _)| name)
        .ok()
        .map(|at| DEFAULTS[at].1)
}

/// The key that `key` means today.
pub(super) fn canonical(key: &str) -> &str {
    DEPRECATED
        .iter()
        .find(|(old, _)| *old == key)
        .map_or(key, |(_, new)| new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(DEFAULTS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(
            DEFAULTS
                .iter()
                .all(|(key, value)| default_of(key) == Some(value))
        );
    }

    #[test]
    fn an_old_name_means_the_new_key() {
        assert_eq!(canonical("fs.default.name"), "fs.defaultFS");
        assert_eq!(canonical("fs.defaultFS"), "fs.defaultFS");
    }
}
