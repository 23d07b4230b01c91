//! From what the client sent to the settings of the parts.

use std::collections::BTreeSet;
use std::time::Duration;

use spindle_cluster::rest::Viewers;
use spindle_common::config::{Config, RestartConfig};
use spindle_common::id::FencingToken;
use spindle_hadoop::conf::{ConfError, Configuration};
use spindle_hadoop::proto::yarn as pb;
use spindle_jobmanager::{ClusterMode, JobManagerConfig, RestartStrategy};

/// TaskExecutors report at least this often: their reports carry the counters that people watch.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Stands for a time-out that was switched off.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Settings of the JobManager.
pub(crate) fn job_manager(
    config: &Config,
    attached: bool,
    fencing: FencingToken,
) -> JobManagerConfig {
    let heartbeat = config.heartbeat();
    let task_manager = config.task_manager();
    let job_manager = config.job_manager();
    JobManagerConfig {
        mode: ClusterMode::PerJob { attached },
        fencing,
        profile: config.yarn().container,
        slots_per_task_manager: task_manager.slots,
        restart: restart(config.restart()),
        heartbeat_interval: heartbeat.interval.min(REPORT_INTERVAL),
        heartbeat_timeout: heartbeat.timeout,
        registration_timeout: job_manager.registration_timeout,
        cancellation_timeout: task_manager.cancellation_timeout.unwrap_or(NEVER),
        max_start_failures: job_manager.start_worker_max_failures,
        ..JobManagerConfig::default()
    }
}

fn restart(config: RestartConfig) -> RestartStrategy {
    match config {
        RestartConfig::None => RestartStrategy::None,
        RestartConfig::FixedDelay { attempts, delay } => {
            RestartStrategy::FixedDelay { attempts, delay }
        }
        RestartConfig::ExponentialDelay {
            initial_backoff,
            max_backoff,
            backoff_multiplier,
            reset_backoff_threshold,
            attempts,
        } => RestartStrategy::ExponentialDelay {
            initial_backoff,
            max_backoff,
            backoff_multiplier,
            reset_backoff_threshold,
            attempts_before_reset: attempts,
        },
    }
}

/// Hosts whose word on the user is taken: the web proxy, else every ResourceManager's own.
pub(crate) fn proxy_hosts(hadoop: &Configuration) -> Result<BTreeSet<String>, ConfError> {
    let own = hadoop.try_get("yarn.web-proxy.address")?;
    if let Some(address) = own.filter(|value| !value.text.is_empty()) {
        let host = address
            .text
            .rsplit_once(':')
            .map_or(&*address.text, |(host, _)| host);
        return Ok(BTreeSet::from([host.to_owned()]));
    }
    let managers = hadoop.resource_managers()?;
    // A web address of 0.0.0.0 says nothing of the machine; the other address does.
    let hosts = managers.iter().map(|manager| {
        let web = &manager.webapp;
        if web.connect_host() == web.host {
            &web.host
        } else {
            &manager.scheduler.host
        }
    });
    Ok(hosts.cloned().collect())
}

/// Who may look: everybody where YARN does not ask, else whom the application's view ACL names.
pub(crate) fn viewers(
    hadoop: &Configuration,
    acls: &[pb::ApplicationAclMap],
) -> Result<Viewers, ConfError> {
    if !hadoop.get_bool("yarn.acl.enable", false)? {
        return Ok(Viewers::All);
    }
    let admins = hadoop
        .try_get("yarn.admin.acl")?
        .map_or_else(String::new, |value| value.text);
    let views = acls
        .iter()
        .filter(|entry| entry.access_type() == pb::ApplicationAccessType::AppaccessViewApp)
        .map(|entry| entry.acl().to_owned());
    let mut users = BTreeSet::new();
    for acl in views.chain([admins]) {
        if acl.trim() == "*" {
            return Ok(Viewers::All);
        }
        // "users groups": whose groups a user is in is not known here.
        let names = acl.split(' ').next().unwrap_or_default();
        users.extend(
            names
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
        );
    }
    Ok(Viewers::Users(users))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Config::from_pairs(&pairs).unwrap()
    }

    #[test]
    fn the_job_manager_gets_what_was_configured() {
        let config = config(&[
            ("taskmanager.memory.process.size", "300m"),
            ("taskmanager.numberOfTaskSlots", "3"),
            ("restart-strategy.type", "none"),
            ("heartbeat.interval", "200 ms"),
            ("task.cancellation.timeout", "0"),
        ]);
        let settings = job_manager(&config, true, FencingToken(2));
        assert_eq!(settings.profile.memory.as_mib_ceil(), 300);
        assert_eq!(settings.slots_per_task_manager, 3);
        assert_eq!(settings.restart, RestartStrategy::None);
        assert_eq!(settings.heartbeat_interval, Duration::from_millis(200));
        assert_eq!(settings.cancellation_timeout, NEVER);
        assert_eq!(settings.mode, ClusterMode::PerJob { attached: true });
    }

    #[test]
    fn the_proxy_is_the_resource_manager_unless_it_has_an_address_of_its_own() {
        let mut hadoop = Configuration::new();
        hadoop.set("yarn.resourcemanager.hostname", "rm1");
        assert_eq!(
            proxy_hosts(&hadoop).unwrap(),
            BTreeSet::from(["rm1".to_owned()])
        );
        hadoop.set("yarn.web-proxy.address", "proxy:9999");
        assert_eq!(
            proxy_hosts(&hadoop).unwrap(),
            BTreeSet::from(["proxy".to_owned()])
        );
    }

    #[test]
    fn with_acls_only_those_named_may_look() {
        let mut hadoop = Configuration::new();
        let acl = pb::ApplicationAclMap {
            access_type: Some(pb::ApplicationAccessType::AppaccessViewApp.into()),
            acl: Some("bob,carol staff".to_owned()),
        };
        assert_eq!(
            viewers(&hadoop, std::slice::from_ref(&acl)).unwrap(),
            Viewers::All
        );
        hadoop.set("yarn.acl.enable", "true");
        assert_eq!(
            viewers(&hadoop, std::slice::from_ref(&acl)).unwrap(),
            Viewers::All,
            "everybody is an admin by default"
        );
        hadoop.set("yarn.admin.acl", "root");
        let users = ["bob", "carol", "root"].map(str::to_owned).into();
        assert_eq!(viewers(&hadoop, &[acl]).unwrap(), Viewers::Users(users));
    }
}
