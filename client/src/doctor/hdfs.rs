//! Judgements of the user's place in HDFS.

use super::Check;

/// What the NameNode's REST API says of the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Quota {
    /// Most names; nothing if there is no limit.
    pub(super) names: Option<u64>,
    pub(super) used_names: u64,
    /// Most bytes, with all copies.
    pub(super) space: Option<u64>,
    pub(super) used_space: u64,
}

/// Whether a file could be made and removed where Spindle keeps its own.
pub(super) fn writable(place: &str, existed: bool, tried: Result<(), String>) -> Check {
    const NAME: &str = "HDFS home";
    match tried {
        Ok(()) if existed => Check::ok(NAME, format!("{place} is writable")),
        Ok(()) => Check::ok(NAME, format!("{place} is not there yet, and can be made")),
        Err(why) => Check::fail(
            NAME,
            why,
            format!(
                "an admin has to make {place} for you, or yarn.staging-directory has to name a place where you may write"
            ),
        ),
    }
}

/// Whether there is room under the quota.
pub(super) fn quota(quota: Result<Quota, String>) -> Check {
    const NAME: &str = "HDFS quota";
    let quota = match quota {
        Ok(quota) => quota,
        Err(why) => return Check::skip(NAME, format!("not checked: {why}")),
    };
    let mut limits = Vec::new();
    let (mut tight, mut over) = (false, false);
    for (used, limit, what) in [
        (quota.used_names, quota.names, "names"),
        (quota.used_space, quota.space, "bytes with all copies"),
    ] {
        if let Some(limit) = limit {
            limits.push(format!("{used} of {limit} {what}"));
            over |= used >= limit;
            tight |= used >= limit / 10 * 9;
        }
    }
    let seen = limits.join(", ");
    let advice = "remove what is not needed (spindle gc), or ask an admin for more";
    if limits.is_empty() {
        Check::ok(NAME, "none on the home")
    } else if over {
        Check::fail(NAME, seen, advice)
    } else if tight {
        Check::warn(NAME, seen, advice)
    } else {
        Check::ok(NAME, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_home_that_cannot_be_written_to_fails_and_one_that_can_be_made_does_not() {
        assert_eq!(writable("/user/ann", true, Ok(())).level, Level::Ok);
        assert_eq!(writable("/user/ann", false, Ok(())).level, Level::Ok);
        let refused = writable("/user/ann", false, Err("permission denied".to_owned()));
        assert_eq!(refused.level, Level::Fail);
        assert!(refused.advice.unwrap().contains("yarn.staging-directory"));
    }

    #[test]
    fn a_quota_warns_before_it_is_used_up() {
        let with = |used| {
            quota(Ok(Quota {
                names: Some(100),
                used_names: used,
                ..Quota::default()
            }))
            .level
        };
        assert_eq!(
            (with(89), with(90), with(100)),
            (Level::Ok, Level::Warn, Level::Fail)
        );
        assert_eq!(quota(Ok(Quota::default())).level, Level::Ok);
        assert_eq!(quota(Err("no".to_owned())).level, Level::Skip);
    }
}
