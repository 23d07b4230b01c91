//! Who we are to Hadoop.

use std::env;

/// The variable by which Hadoop programs are told another user than the system's.
pub const HADOOP_USER_NAME: &str = "HADOOP_USER_NAME";

/// No user name could be found.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot tell the user's name: the process's user id has none, and HADOOP_USER_NAME, USER and LOGNAME are unset"
)]
pub struct UnknownUser;

/// The user that an insecure cluster shall see: `HADOOP_USER_NAME`, else the name of the process's user id, else `USER`
/// or `LOGNAME`.
///
/// # Errors
/// When none of these is known, as in a container whose user id has no entry.
pub fn current() -> Result<String, UnknownUser> {
    choose(|name| env::var(name).ok(), || whoami::username().ok())
}

fn choose(
    variable: impl Fn(&str) -> Option<String>,
    system: impl FnOnce() -> Option<String>,
) -> Result<String, UnknownUser> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    set(HADOOP_USER_NAME)
        .or_else(|| system().filter(|user| !user.is_empty()))
        .or_else(|| set("USER"))
        .or_else(|| set("LOGNAME"))
        .ok_or(UnknownUser)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_over_the_system() {
        let user = choose(
            |name| (name == HADOOP_USER_NAME).then(|| "alice".into()),
            || Some("bob".into()),
        );
        assert_eq!(user.unwrap(), "alice");
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let user = choose(|_| Some(String::new()), || Some("bob".into()));
        assert_eq!(user.unwrap(), "bob");
    }

    #[test]
    fn a_user_id_without_a_name_falls_back_to_the_environment() {
        let user = choose(|name| (name == "LOGNAME").then(|| "carol".into()), || None);
        assert_eq!(user.unwrap(), "carol");
    }
}
