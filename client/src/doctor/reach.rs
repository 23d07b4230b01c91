//! Judgements of who answers, and with what.

use super::Check;
use crate::yarn::scheduler::Nodes;

/// How far two clocks may differ before somebody should know, in milliseconds.
const SKEW_WARN_MS: u64 = 10_000;
/// How far before tokens and tickets are refused, in milliseconds.
const SKEW_FAIL_MS: u64 = 300_000;

/// What is known of one ResourceManager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manager {
    /// Its id, if there are several.
    pub(super) id: Option<String>,
    /// Where it is, and which setting says so.
    pub(super) address: String,
    /// Whether it takes calls, else why not.
    pub(super) rpc: Result<(), String>,
}

/// One line for each ResourceManager: a standby takes no calls, so one that answers is enough.
pub(super) fn resource_managers(managers: &[Manager]) -> Vec<Check> {
    const NAME: &str = "ResourceManager";
    let is_one_active = managers.iter().any(|rm| rm.rpc.is_ok());
    managers
        .iter()
        .map(|rm| {
            let id = rm.id.as_ref().map(|id| format!("{id} at "));
            let place = format!("{}{}", id.unwrap_or_default(), rm.address);
            match &rm.rpc {
                Ok(()) if managers.len() > 1 => Check::ok(NAME, format!("{place} is active")),
                Ok(()) => Check::ok(NAME, format!("{place} answers")),
                Err(why) if is_one_active => Check::ok(
                    NAME,
                    format!("{place} takes no calls, as a standby does ({why})"),
                ),
                Err(why) => Check::unreachable(
                    NAME,
                    format!("{place} does not answer ({why})"),
                    "is it up, and is the address right",
                ),
            }
        })
        .collect()
}

/// Whether the NameNode answers.
pub(super) fn name_node(place: &str, answer: Result<(), String>) -> Check {
    match answer {
        Ok(()) => Check::ok("NameNode", format!("{place} answers")),
        Err(why) => Check::unreachable(
            "NameNode",
            format!("{place}: {why}"),
            "is it up, out of safe mode, and is the address right",
        ),
    }
}

/// Our clock and HDFS's, in milliseconds since the epoch; what ours said before and after.
pub(super) fn clock(before_ms: u64, theirs_ms: u64, after_ms: u64) -> Check {
    const NAME: &str = "clock";
    let behind = theirs_ms.saturating_sub(after_ms);
    let ahead = before_ms.saturating_sub(theirs_ms);
    let skew = behind.max(ahead);
    let seen = format!(
        "the NameNode's clock is {}.{} s {} ours",
        skew / 1000,
        skew % 1000 / 100,
        if behind > 0 { "ahead of" } else { "behind" }
    );
    let advice = "let all machines follow the same time server";
    match skew {
        0..100 => Check::ok(NAME, "ours and the NameNode's agree"),
        100..SKEW_WARN_MS => Check::ok(NAME, seen),
        SKEW_WARN_MS..SKEW_FAIL_MS => Check::warn(NAME, seen, advice),
        _ => Check::fail(NAME, seen, advice),
    }
}

/// Whether the ResourceManager and the NameNode run a Hadoop that Spindle speaks to.
pub(super) fn version(of: &'static str, version: Result<String, String>) -> Check {
    match version {
        Ok(version) => {
            let major = version.split('.').next();
            match major.and_then(|major| major.parse::<u32>().ok()) {
                Some(0..=2) => {
                    Check::fail(of, format!("Hadoop {version}"), "Spindle needs Hadoop 3")
                }
                Some(_) | None => Check::ok(of, format!("Hadoop {version}")),
            }
        }
        Err(why) => Check::skip(of, format!("not known: {why}")),
    }
}

/// What is there to run containers on.
pub(super) fn nodes(nodes: Nodes) -> Check {
    const NAME: &str = "nodes";
    let Nodes {
        active,
        lost,
        unhealthy,
        decommissioning,
        total_mib,
        available_mib,
    } = nodes;
    let seen = format!(
        "{active} running, {unhealthy} unhealthy, {lost} lost, {decommissioning} leaving; {available_mib} of {total_mib} MiB free"
    );
    if active == 0 {
        Check::fail(
            NAME,
            seen,
            "no container can run: an admin has to bring NodeManagers up",
        )
    } else if unhealthy > 0 || lost > 0 {
        Check::warn(NAME, seen, "the YARN UI says under Nodes what ails them")
    } else {
        Check::ok(NAME, seen)
    }
}

/// How clients prove who they are; nothing if it is simple authentication.
pub(super) fn security(authentication: &str, place: &str) -> Vec<Check> {
    const NAME: &str = "security";
    if authentication.eq_ignore_ascii_case("simple") {
        return vec![Check::ok(NAME, "simple authentication, no tokens to renew")];
    }
    vec![
        Check::fail(
            NAME,
            format!("hadoop.security.authentication is {authentication} (from {place})"),
            "this version of Spindle speaks to clusters with simple authentication only, Kerberos is not supported yet",
        ),
        Check::skip("token renewer", "not checked without Kerberos"),
    ]
}

/// What becomes of logs when an application is over.
pub(super) fn log_aggregation(on: Option<bool>) -> Check {
    const NAME: &str = "logs";
    match on {
        Some(true) => Check::ok(
            NAME,
            "aggregated: they can be read after an application's end",
        ),
        Some(false) => Check::warn(
            NAME,
            "log aggregation is off",
            "logs stay on the nodes and go soon after an application's end; yarn.log-aggregation-enable turns it on",
        ),
        None => Check::skip(NAME, "whether logs are aggregated is not known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Kind, Level};

    fn manager(id: &str, up: bool) -> Manager {
        Manager {
            id: Some(id.to_owned()),
            address: format!("{id}:8032"),
            rpc: if up {
                Ok(())
            } else {
                Err("refused".to_owned())
            },
        }
    }

    #[test]
    fn one_active_resource_manager_is_enough() {
        let checks = resource_managers(&[manager("rm1", false), manager("rm2", true)]);
        assert!(checks.iter().all(|check| check.level == Level::Ok));
        assert!(
            checks[0].seen.contains("standby")
                && checks[1].seen.contains("rm2 at rm2:8032 is active")
        );
        let checks = resource_managers(&[manager("rm1", false), manager("rm2", false)]);
        assert!(
            checks
                .iter()
                .all(|check| check.kind == Kind::Unreachable && check.level == Level::Fail)
        );
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let level = |theirs| clock(1_000_000, theirs, 1_000_050).level;
        assert_eq!(level(1_000_020), Level::Ok);
        assert_eq!(level(1_009_000), Level::Ok);
        assert_eq!(level(1_011_000), Level::Warn);
        assert_eq!(level(989_000), Level::Warn);
        assert_eq!(level(600_000), Level::Fail);
        let ahead = clock(1_000_000, 1_020_050, 1_000_050);
        assert!(
            ahead.seen.contains("20.0 s ahead of ours"),
            "{}",
            ahead.seen
        );
    }

    #[test]
    fn a_cluster_without_nodes_or_with_kerberos_or_of_hadoop_2_will_not_do() {
        let some = |active, lost| Nodes {
            active,
            lost,
            ..Nodes::default()
        };
        assert_eq!(nodes(some(0, 0)).level, Level::Fail);
        assert_eq!(nodes(some(3, 1)).level, Level::Warn);
        assert_eq!(nodes(some(3, 0)).level, Level::Ok);
        assert_eq!(
            security("kerberos", "core-site.xml:3")[0].level,
            Level::Fail
        );
        assert_eq!(security("simple", "")[0].level, Level::Ok);
        assert_eq!(version("x", Ok("2.10.1".to_owned())).level, Level::Fail);
        assert_eq!(version("x", Ok("3.4.3".to_owned())).level, Level::Ok);
        assert_eq!(version("x", Err("no".to_owned())).level, Level::Skip);
    }
}
