//! `spindle doctor`: checks the cluster before you need it.

use clap::Args;

use super::{OutputArgs, SettingArgs, runtime};
use crate::doctor;
use crate::error::CliError;
use crate::output::Format;
use crate::settings::Settings;

/// Arguments of `spindle doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each check is one line: ok, warn, FAIL, or - where it could not be looked at.\n\
Exit codes: 0 nothing failed, 2 something is wrong with the configuration, a right or a limit, 3 something cannot be reached."
)]
pub(crate) struct DoctorArgs {
    /// Queue to look at [key: yarn.application.queue].
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl DoctorArgs {
    pub(crate) const fn format(&self) -> Format {
        self.output.output
    }
}

/// Looks at the cluster and tells what it found; the exit code.
pub(crate) fn doctor(args: DoctorArgs) -> Result<u8, CliError> {
    let mut layers = args.settings.layers();
    if let Some(queue) = args.queue.clone() {
        let key = "yarn.application.queue".to_owned();
        layers.flags.push(("--queue", key, queue));
    }
    let settings = Settings::load(&layers)?;
    let hadoop = Settings::hadoop()?;
    let checks = runtime()?.block_on(doctor::examine(&settings, &hadoop));
    for check in &checks {
        let line = match args.format() {
            Format::Text => check.line(),
            Format::Json => serde_json::to_string(check).expect("a check is plain data"),
        };
        crate::output::print(&line);
    }
    Ok(doctor::exit_code(&checks))
}
