//! Who we are to Hadoop.

use std::env;

/// The variable by which Hadoop programs are told another user than the system's.
pub const HADOOP_USER_NAME: &str = "HADOOP_USER_NAME";

/// No user name could be found.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell the user's name: HADOOP_USER_NAME, USER and LOGNAME are unset")]
pub struct UnknownUser(#[source] whoami::Error);

/// The user that an insecure cluster shall see: `HADOOP_USER_NAME`, else the name of the process's user id, else `USER`
/// or `LOGNAME`.
///
/// # Errors
/// When none of these is known, as in a container whose user id has no entry.
pub fn current() -> Result<String, UnknownUser> {
    choose(|name| env::var(name).ok(), whoami::username)
}

fn choose(
    variable: impl Fn(&str) -> Option<String>,
    system: impl Fn() -> Result<String, whoami::Error>,
) -> Result<String, UnknownUser> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(user) = set(HADOOP_USER_NAME) {
        return Ok(user);
    }
    match system() {
        Ok(user) if !user.is_empty() => Ok(user),
        Ok(_) => set("USER")
            .or_else(|| set("LOGNAME"))
            .ok_or(UnknownUser(whoami::Error::empty_record())),
        Err(error) => set("USER").or_else(|| set("LOGNAME")).ok_or(UnknownUser(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_over_the_system() {
        let user = choose(|name| (name == HADOOP_USER_NAME).then(|| "alice".into()), || Ok("bob".into()));
        assert_eq!(user.unwrap(), "alice");
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let user = choose(|_| Some(String::new()), || Ok("bob".into()));
        assert_eq!(user.unwrap(), "bob");
    }

    #[test]
    fn a_user_id_without_a_name_falls_back_to_the_environment() {
        let user = choose(|name| (name == "LOGNAME").then(|| "carol".into()), || Ok(String::new()));
        assert_eq!(user.unwrap(), "carol");
    }
}
