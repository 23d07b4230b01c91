//! `spindle gc`: removes from HDFS what applications have left behind.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use spindle_common::config::parse_duration;

use super::{OutputArgs, SettingArgs, runtime};
use crate::error::{CliError, Exit};
use crate::gc::{self, Ages, Done, Known};
use crate::output::Format;
use crate::settings::Settings;
use crate::yarn;

/// Arguments of `spindle gc`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 2 wrong usage or configuration, \
3 the cluster cannot be reached (nothing was removed), or something could not be removed.")]
pub(crate) struct GcArgs {
    /// Tell what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// From which age on unfinished uploads are removed, and the staging of applications that YARN does not know.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    older_than: Duration,
    /// From which age on cached executables are removed that no application uses.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = time)]
    cache_older_than: Duration,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl GcArgs {
    pub(crate) const fn format(&self) -> Format {
        self.output.output
    }
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text, Duration::from_secs(1))
        .ok_or_else(|| "expected a time such as `90 min`, `1h` or `7d`".to_owned())
}

/// Removes what is rubbish and tells of it; the exit code.
pub(crate) fn gc(args: GcArgs) -> Result<u8, CliError> {
    let settings = Settings::load(&args.settings.layers())?;
    let hadoop = Settings::hadoop()?;
    runtime()?.block_on(async {
        let (fs, base, applications, resource_managers) =
            yarn::applications_of_user(&settings, &hadoop).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis();
        let known = Known {
            base,
            applications,
            resource_managers,
            now_ms: u64::try_from(now).unwrap_or(u64::MAX),
            ages: Ages {
                unfinished: args.older_than,
                cached: args.cache_older_than,
            },
            dry_run: args.dry_run,
        };
        let mut report = Report {
            format: args.format(),
            dry_run: args.dry_run,
            removed: 0,
            kept: 0,
            failed: 0,
        };
        gc::sweep(&fs, known, &mut |done| report.tell(&done))
            .await
            .map_err(|cause| {
                CliError::cluster("cannot look for what was left behind").because(cause)
            })?;
        Ok(report.end())
    })
}

struct Report {
    format: Format,
    dry_run: bool,
    removed: u64,
    kept: u64,
    failed: u64,
}

impl Report {
    fn tell(&mut self, done: &Done) {
        let (event, path, why, bytes) = match done {
            Done::Removed {
                path,
                reason,
                bytes,
            } => {
                self.removed += 1;
                let event = if self.dry_run {
                    "would remove"
                } else {
                    "removed"
                };
                (event, path, reason, Some(*bytes))
            }
            Done::Kept { path, reason } => {
                self.kept += 1;
                ("kept", path, reason, None)
            }
            Done::Failed { path, cause } => {
                self.failed += 1;
                ("failed", path, cause, None)
            }
        };
        match self.format {
            Format::Text => crate::output::print(&format!("{event} {path}: {why}")),
            Format::Json => {
                let event = event.replace(' ', "_");
                let mut line = serde_json::json!({"event": event, "path": path, "reason": why});
                if let Some(bytes) = bytes {
                    line["bytes"] = bytes.into();
                }
                crate::output::print(&line.to_string());
            }
        }
    }

    fn end(&self) -> u8 {
        let Self {
            removed,
            kept,
            failed,
            ..
        } = self;
        match self.format {
            Format::Text if removed + kept + failed == 0 => {
                crate::output::print("nothing was left behind");
            }
            Format::Text => {}
            Format::Json => {
                let line = serde_json::json!({
                    "event": "done", "dry_run": self.dry_run,
                    "removed": removed, "kept": kept, "failed": failed,
                });
                crate::output::print(&line.to_string());
            }
        }
        if *failed > 0 { Exit::Cluster as u8 } else { 0 }
    }
}
