//! The command line: one file a subcommand.

mod advice;
mod apply;
mod check;
mod diagnose;
mod policy;
mod table;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueHint};
use sd_notify::NotifyState;

use crate::engine::Verbosity;
use crate::journal::status::notify;
use crate::kernel::altname::find_by_altname;
use crate::policy::{Policy, PolicyError};
use crate::setting::printable;
use crate::text::{ascii_line, one_line};

/// Drift (check), a failed repair (apply), or traffic that is dropped (diagnose).
const EXIT_DRIFT: u8 = 1;
/// Invalid usage, no readable policy, or policy errors without drift. `run` exits with it only for invalid usage, which a restart
/// does not change: the unit has `RestartPreventExitStatus=2`.
const EXIT_USAGE: u8 = 2;
/// Appended to each error in the arguments of `run`.
const OPTIONS_FILE: &str = "the options of the service are in /etc/sysconfig/fwdguard (OPTIONS=)";

const EXIT_STATUS_HELP: &str = "\
Exit status:
  0  all settings hold, or traffic is forwarded (diagnose)
  1  drift, with or without policy errors (check), a failed repair (apply), or traffic that this node drops (diagnose)
  2  invalid usage, no readable policy, or policy errors without drift";

/// Keeps a Kubernetes node forwarding: restores ip_forward and rp_filter, and logs each repair with its cause.
#[derive(Parser)]
#[command(version, about, long_about = None, after_help = EXIT_STATUS_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Read policy, sysctl.d and TuneD below DIR; settings are those of this network namespace
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = "/")]
    root: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Guard the node until SIGTERM; SIGHUP reloads the policy (started by the service)
    Run {
        /// Seconds between full audits; changes are noticed at once, whatever the interval
        #[arg(long, value_name = "SECONDS", value_hint = ValueHint::Other, default_value = "300")]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
        audit_interval: u64,
        /// Log each decision at priority debug, with -vv also each event
        #[arg(short, long, action = ArgAction::Count)]
        verbose: u8,
        /// Keep FILE, whose name ends in .prom, for the textfile collector of Prometheus's node_exporter
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, value_parser = metrics_file)]
        metrics: Option<PathBuf>,
    },
    /// Compare the kernel with the policy, without changing anything
    #[command(after_help = EXIT_STATUS_HELP)]
    Check(Format),
    /// Restore all settings once
    #[command(after_help = EXIT_STATUS_HELP)]
    Apply(Format),
    /// Show the merged policy: every line in effect, its file and line number, and what it overrides
    #[command(after_help = EXIT_STATUS_HELP)]
    Policy(Format),
    /// Ask the kernel why traffic to a pod is not forwarded, without changing anything
    #[command(after_help = EXIT_STATUS_HELP)]
    Diagnose(diagnose::Arguments),
}

#[derive(clap::Args, Clone, Copy)]
struct Format {
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let serves = std::env::args_os().any(|argument| argument == "run");
    let Arguments { command, root } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if serves && (error.use_stderr() || std::env::var_os("NOTIFY_SOCKET").is_some()) => {
            return end(true, EXIT_USAGE, &format!("{}; {OPTIONS_FILE}", in_one_line(&error)));
        }
        Err(error) => error.exit(),
    };
    if !root.is_dir() {
        let options = if serves { format!("; {OPTIONS_FILE}") } else { String::new() };
        let why = format!("--root {}: not a directory{options}", printable(root.as_os_str()));
        return end(serves, EXIT_USAGE, &why);
    }
    let status = match command {
        Command::Run { audit_interval, verbose, metrics } => {
            let verbosity = match verbose {
                0 => Verbosity::Records,
                1 => Verbosity::Decisions,
                _ => Verbosity::Events,
            };
            let audit_interval = Duration::from_secs(audit_interval);
            crate::daemon::run(&root, audit_interval, verbosity, metrics).map(|()| ExitCode::SUCCESS)
        }
        Command::Check(format) => check::run(&root, format.json),
        Command::Apply(format) => apply::run(&root, format.json),
        Command::Policy(format) => Ok(policy::run(&root, format.json)),
        Command::Diagnose(arguments) => Ok(diagnose::run(arguments)),
    };
    status.unwrap_or_else(|error| end(serves, EXIT_DRIFT, &format!("{error:#}")))
}

fn metrics_file(name: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(name);
    match file.extension() {
        Some(end) if end == "prom" => Ok(file),
        _ => Err("its name has to end in .prom: node_exporter reads no other".into()),
    }
}

/// Prints the reason for the exit to stderr. The service also sends it to the service manager: `systemctl status` shows it for a
/// failed unit.
fn end(serves: bool, status: u8, why: &str) -> ExitCode {
    let why = if serves { ascii_line(why) } else { why.to_string() };
    eprintln!("fwdguard: {why}");
    if serves {
        notify(&[NotifyState::Status(&why)]);
    }
    ExitCode::from(status)
}

/// The error and clap's tips, without the usage.
fn in_one_line(error: &clap::Error) -> String {
    if !error.use_stderr() {
        return "--help and --version are not allowed for the service".into();
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let plain = |line: &str| line.trim_start_matches("error: ").trim_start_matches("tip: ").to_string();
    lines.map(plain).collect::<Vec<_>>().join("; ")
}

/// The exit status of check and apply.
fn exit_status(all_holds: bool, policy_errors: &[PolicyError]) -> ExitCode {
    match (all_holds, policy_errors.is_empty()) {
        (false, _) => ExitCode::from(EXIT_DRIFT),
        (true, false) => ExitCode::from(EXIT_USAGE),
        (true, true) => ExitCode::SUCCESS,
    }
}

/// The policy below `root`, with notices about altnames.
fn load(root: &Path) -> Policy {
    let mut policy = Policy::load(root);
    policy.notices.extend(policy.altname_notices(find_by_altname));
    policy
}

/// Prints notices and policy errors to stderr, one line each.
fn print_errors(policy: &Policy) {
    for notice in &policy.notices {
        eprintln!("fwdguard: notice: {}", one_line(&notice.to_string()));
    }
    for error in &policy.errors {
        eprintln!("fwdguard: {}", one_line(&error.to_string()));
    }
}
