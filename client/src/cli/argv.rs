//! Long options behind a single dash, as Flink has them (`-jm`, `-yid`), turned into what clap understands.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// What people type, and the long option that it stands for.
const SINGLE_DASH: [(&str, &str); 15] = [
    ("-jm", "--jobManagerMemory"),
    ("-tm", "--taskManagerMemory"),
    ("-nm", "--name"),
    ("-qu", "--queue"),
    ("-nl", "--nodeLabel"),
    ("-at", "--applicationType"),
    ("-st", "--streaming"),
    ("-id", "--applicationId"),
    ("-sae", "--shutdownOnAttachedExit"),
    ("-yid", "--yid"),
    ("-yqu", "--queue"),
    ("-ynm", "--name"),
    ("-yd", "--detached"),
    ("-claimMode", "--claim-mode"),
    ("-restoreMode", "--claim-mode"),
];

/// The command line with those options rewritten that the chosen verb has. A job's own arguments stay as they are.
pub(super) fn rewrite(
    command: &Command,
    args: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut verb = command;
    let mut rewritten = Vec::new();
    let mut args = args.into_iter();
    rewritten.extend(args.next());
    while let Some(arg) = args.next() {
        let Some(text) = arg.to_str() else {
            rewritten.push(arg);
            continue;
        };
        if text == "--" {
            rewritten.push(arg);
            break;
        }
        if !text.starts_with('-') || text == "-" {
            let inner = verb.find_subcommand(text);
            let takes_all = verb.get_positionals().any(Arg::is_trailing_var_arg_set);
            rewritten.push(arg);
            match inner {
                Some(inner) => verb = inner,
                // What follows a job belongs to the job.
                None if takes_all => break,
                None => {}
            }
            continue;
        }
        let option = long(verb, text);
        let option = option.map_or(arg, OsString::from);
        let takes = takes_next(verb, &option);
        rewritten.push(option);
        if takes {
            rewritten.extend(args.next());
        }
    }
    rewritten.extend(args);
    rewritten
}

/// The long option that a word stands for; its value may follow behind `=`.
fn long(verb: &Command, text: &str) -> Option<String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let (_, long) = SINGLE_DASH.iter().find(|(short, _)| *short == name)?;
    find(verb, long.trim_start_matches('-'))?;
    Some(match value {
        Some(value) => format!("{long}={value}"),
        None => (*long).to_owned(),
    })
}

fn find<'a>(verb: &'a Command, long: &str) -> Option<&'a Arg> {
    verb.get_arguments().find(|arg| {
        arg.get_long() == Some(long)
            || arg
                .get_all_aliases()
                .is_some_and(|aliases| aliases.contains(&long))
    })
}

/// Whether the next word is the value of this option.
fn takes_next(verb: &Command, option: &OsStr) -> bool {
    let Some(text) = option.to_str() else {
        return false;
    };
    let found = match text.strip_prefix("--") {
        Some(long) => find(verb, long),
        None => {
            let mut letters = text.chars().skip(1);
            match (letters.next(), letters.next()) {
                (Some(letter), None) => verb
                    .get_arguments()
                    .find(|arg| arg.get_short() == Some(letter)),
                // The value is attached.
                _ => None,
            }
        }
    };
    found.is_some_and(|arg| arg.get_action().takes_values())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn rewritten(line: &str) -> String {
        let args = line.split(' ').map(OsString::from);
        let words = rewrite(&Cli::command(), args);
        words
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn options_of_flinks_script_become_long_ones() {
        assert_eq!(
            rewritten(
                "spindle session start -jm 1g -tm=2048 -s 4 -nm many -qu etl -sae -d -Da=b -st"
            ),
            "spindle session start --jobManagerMemory 1g --taskManagerMemory=2048 -s 4 --name many --queue etl --shutdownOnAttachedExit -d -Da=b --streaming"
        );
        assert_eq!(
            rewritten("spindle session stop -id application_1_0001"),
            "spindle session stop --applicationId application_1_0001"
        );
    }

    #[test]
    fn a_value_is_never_taken_for_an_option() {
        assert_eq!(
            rewritten("spindle session start -nm -jm -D -tm"),
            "spindle session start --name -jm -D -tm"
        );
    }

    #[test]
    fn what_follows_the_job_is_the_jobs_own() {
        assert_eq!(
            rewritten("spindle run -t yarn-session -yid application_1_0001 -p 2 ./job -yid 7 -jm"),
            "spindle run -t yarn-session --yid application_1_0001 -p 2 ./job -yid 7 -jm"
        );
        assert_eq!(
            rewritten("spindle run -- ./job -yid 7"),
            "spindle run -- ./job -yid 7"
        );
    }

    #[test]
    fn a_verb_without_the_option_is_left_alone() {
        assert_eq!(
            rewritten("spindle info -jm ./job"),
            "spindle info -jm ./job"
        );
    }

    #[test]
    fn every_rewritten_command_line_is_understood() {
        for line in [
            "spindle session start -nm x -s 2 -jm 256 -tm 512m -Dk=v -n 2 -st -z ns -at Mine -nl gpu -t lib -q -sae",
            "spindle session attach -id application_1_0001 -sae",
            "spindle session stop -id application_1_0001",
            "spindle session list",
            "spindle list -a -yid application_1_0001",
            "spindle cancel -yid application_1_0001 0123456789abcdef0123456789abcdef",
            "spindle logs application_1_0001 --tail 10",
            "spindle run -t yarn-session -yid application_1_0001 -d job",
        ] {
            use clap::Parser;
            let args = line.split(' ').map(OsString::from);
            let parsed = Cli::try_parse_from(rewrite(&Cli::command(), args));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
