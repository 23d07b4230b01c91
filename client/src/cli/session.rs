//! `spindle session`: clusters that take jobs as long as they live. The options are those of Flink's `yarn-session.sh`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use spindle_hadoop::yarn::ApplicationId;

use super::{ApplicationArgs, OutputArgs, runtime};
use crate::error::CliError;
use crate::output::{Event, Format, Reporter};
use crate::settings::{Layers, Settings};
use crate::yarn;

/// Arguments of `spindle session`.
#[derive(Debug, Args)]
pub(super) struct SessionArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Starts a session and stays with it, or with -d leaves it.
    Start(Box<StartArgs>),
    /// Lists your sessions.
    List(PlainArgs),
    /// Stays with a session; takes the lines help, jobs, stop, quit.
    Attach(AttachArgs),
    /// Ends a session and all its jobs.
    Stop(PlainArgs),
}

/// Arguments of `spindle session start`.
#[derive(Debug, Args)]
#[command(
    after_help = "Options of several letters take one dash or two: -jm, -tm, -nm, -qu, -nl, -at, -id, -sae.\n\
                  Memory sizes have units (512m, 2g); a bare number is in MB.\n\
                  Exit codes: 0 the session runs (-d) or has ended well, 1 it failed, 2 wrong usage or configuration, \
                  3 the cluster cannot be reached or refused, 130 Ctrl-C: the session goes on."
)]
struct StartArgs {
    /// -jm: memory of the JobManager's container [key: jobmanager.memory.process.size].
    #[arg(long = "jobManagerMemory", value_name = "SIZE")]
    job_manager_memory: Option<String>,
    /// -tm: memory of a TaskManager's container [key: taskmanager.memory.process.size].
    #[arg(long = "taskManagerMemory", value_name = "SIZE")]
    task_manager_memory: Option<String>,
    /// Slots of a TaskManager [key: taskmanager.numberOfTaskSlots].
    #[arg(short, long, value_name = "N")]
    slots: Option<u32>,
    /// -nm: name of the session [key: yarn.application.name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// -qu: queue to submit to [key: yarn.application.queue].
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// -nl: label of the nodes to run on [key: yarn.application.node-label].
    #[arg(long = "nodeLabel", value_name = "LABEL")]
    node_label: Option<String>,
    /// -at: type of the application [key: yarn.application.type].
    #[arg(long = "applicationType", value_name = "TYPE")]
    application_type: Option<String>,
    /// File or directory that every container gets into its working directory; may be repeated [key: yarn.ship-files].
    #[arg(short = 't', long, value_name = "PATH")]
    ship: Vec<PathBuf>,
    /// Leave when the session runs.
    #[arg(short, long)]
    detached: bool,
    /// -id: stay with this session instead of starting one.
    #[arg(long = "applicationId", value_name = "APPLICATION")]
    application: Option<ApplicationId>,
    /// Print what the cluster has to give, and start nothing.
    #[arg(short, long)]
    query: bool,
    /// -sae: end the session when this client is ended [key: execution.shutdown-on-attached-exit].
    #[arg(long = "shutdownOnAttachedExit", conflicts_with = "detached")]
    shutdown_on_exit: bool,
    /// A setting, such as `-D resourcemanager.taskmanager-timeout=1min`.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    define: Vec<String>,
    /// Directory of `spindle-conf.yaml` [default: $SPINDLE_CONF_DIR, else `conf` beside the installation].
    #[arg(long, value_name = "DIR")]
    conf_dir: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    /// TaskManagers come when jobs need them.
    #[arg(short = 'n', long, value_name = "N", hide = true)]
    container: Option<u32>,
    /// All jobs are streaming jobs.
    #[arg(long, hide = true)]
    streaming: bool,
    /// There is no ZooKeeper.
    #[arg(
        short = 'z',
        long = "zookeeperNamespace",
        value_name = "NAME",
        hide = true
    )]
    zookeeper_namespace: Option<String>,
}

/// Arguments of `spindle session list` and `stop`.
#[derive(Debug, Args)]
struct PlainArgs {
    #[command(flatten)]
    id: IdArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `spindle session attach`.
#[derive(Debug, Args)]
struct AttachArgs {
    /// -sae: end the session when this client is ended.
    #[arg(long = "shutdownOnAttachedExit")]
    shutdown_on_exit: bool,
    #[command(flatten)]
    id: IdArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A session, by `-id` here and by `-yid` elsewhere.
#[derive(Debug, Args)]
struct IdArgs {
    /// -id: the session [default: the one started last, else the only one there is].
    #[arg(
        long = "applicationId",
        value_name = "APPLICATION",
        conflicts_with = "application"
    )]
    id: Option<ApplicationId>,
    #[command(flatten)]
    application: ApplicationArgs,
}

impl IdArgs {
    fn id(&self) -> Option<ApplicationId> {
        self.id.or(self.application.application)
    }
}

impl SessionArgs {
    pub(super) const fn format(&self) -> Format {
        match &self.verb {
            Verb::Start(args) => args.output.output,
            Verb::List(args) | Verb::Stop(args) => args.output.output,
            Verb::Attach(args) => args.output.output,
        }
    }
}

/// Does what is asked of sessions.
pub(super) fn session(args: SessionArgs, reporter: &mut Reporter) -> Result<u8, CliError> {
    let format = args.format();
    match args.verb {
        Verb::Start(args) => start(&args, format, reporter),
        Verb::List(args) => {
            let settings = args.id.application.settings()?;
            runtime()?.block_on(yarn::sessions(&settings, format))
        }
        Verb::Attach(args) => {
            let mut settings = args.id.application.settings()?;
            settings.execution.shutdown_on_attached_exit |= args.shutdown_on_exit;
            let attached = yarn::session::attach(&settings, args.id.id(), reporter);
            runtime()?.block_on(attached)
        }
        Verb::Stop(args) => {
            let settings = args.id.application.settings()?;
            let stopped = yarn::session::stop(&settings, args.id.id(), reporter);
            runtime()?.block_on(stopped)
        }
    }
}

fn start(args: &StartArgs, format: Format, reporter: &mut Reporter) -> Result<u8, CliError> {
    let settings = Settings::load(&args.layers())?;
    for text in args.remarks() {
        reporter.event(&Event::Remark {
            text: text.to_owned(),
        });
    }
    let runtime = runtime()?;
    if args.query {
        return runtime.block_on(yarn::session::query(&settings, format));
    }
    match args.application {
        Some(_) => {
            let attached = yarn::session::attach(&settings, args.application, reporter);
            runtime.block_on(attached)
        }
        None => runtime.block_on(yarn::session::start(settings, reporter)),
    }
}

impl StartArgs {
    fn layers(&self) -> Layers {
        let mut flags = Vec::new();
        let mut flag = |flag: &'static str, key: &str, value: Option<String>| {
            flags.extend(value.map(|value| (flag, key.to_owned(), value)));
        };
        let memory = |size: &Option<String>| size.as_deref().map(megabytes);
        let truth = |set: bool, value: &str| set.then(|| value.to_owned());
        flag(
            "-jm",
            "jobmanager.memory.process.size",
            memory(&self.job_manager_memory),
        );
        flag(
            "-tm",
            "taskmanager.memory.process.size",
            memory(&self.task_manager_memory),
        );
        flag(
            "-s",
            "taskmanager.numberOfTaskSlots",
            self.slots.map(|n| n.to_string()),
        );
        flag("-nm", "yarn.application.name", self.name.clone());
        flag("-qu", "yarn.application.queue", self.queue.clone());
        flag(
            "-nl",
            "yarn.application.node-label",
            self.node_label.clone(),
        );
        flag(
            "-at",
            "yarn.application.type",
            self.application_type.clone(),
        );
        let ship: Vec<_> = self
            .ship
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let ship = (!ship.is_empty()).then(|| ship.join(";"));
        flag("-t", "yarn.ship-files", ship);
        flag("-d", "execution.attached", truth(self.detached, "false"));
        flag(
            "-sae",
            "execution.shutdown-on-attached-exit",
            truth(self.shutdown_on_exit, "true"),
        );
        Layers {
            conf_dir: self.conf_dir.clone(),
            define: self.define.clone(),
            flags,
        }
    }

    /// One for each option that is accepted and changes nothing.
    fn remarks(&self) -> Vec<&'static str> {
        let mut remarks = Vec::new();
        if self.container.is_some() {
            remarks
                .push("-n changes nothing: TaskManagers come when jobs need them and go when idle");
        }
        if self.streaming {
            remarks.push("-st changes nothing: all jobs are streaming jobs");
        }
        if self.zookeeper_namespace.is_some() {
            remarks.push("-z changes nothing: there is no ZooKeeper");
        }
        remarks
    }
}

/// Flink's script takes a bare number for megabytes, its configuration for bytes.
fn megabytes(size: &str) -> String {
    let size = size.trim();
    if !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit()) {
        format!("{size}m")
    } else {
        size.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Start {
        #[command(flatten)]
        args: StartArgs,
    }

    fn parse(args: &[&str]) -> StartArgs {
        Start::parse_from(["start"].iter().chain(args)).args
    }

    #[test]
    fn a_bare_memory_size_is_in_megabytes() {
        assert_eq!(megabytes("1024"), "1024m");
        assert_eq!(megabytes("2g"), "2g");
        assert_eq!(megabytes(" 512 mb "), "512 mb");
        assert_eq!(megabytes(""), "");
    }

    #[test]
    fn options_become_settings() {
        let args = parse(&[
            "--jobManagerMemory",
            "512",
            "-s",
            "4",
            "--name",
            "many",
            "-d",
        ]);
        let settings: Vec<_> = args
            .layers()
            .flags
            .into_iter()
            .map(|(_, key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(
            settings,
            [
                "jobmanager.memory.process.size=512m",
                "taskmanager.numberOfTaskSlots=4",
                "yarn.application.name=many",
                "execution.attached=false",
            ]
        );
    }

    #[test]
    fn options_that_change_nothing_get_one_remark_each() {
        assert!(parse(&["-d"]).remarks().is_empty());
        assert_eq!(
            parse(&["-n", "4", "--streaming", "-z", "ns"])
                .remarks()
                .len(),
            3
        );
    }

    #[test]
    fn paths_to_ship_become_one_setting() {
        let flags = parse(&["-t", "lib", "-t", "model.bin"]).layers().flags;
        let shipped = flags.iter().find(|(flag, ..)| *flag == "-t").unwrap();
        assert_eq!(
            (&*shipped.1, &*shipped.2),
            ("yarn.ship-files", "lib;model.bin")
        );
    }
}
