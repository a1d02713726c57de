//! `fwdguard diagnose`: why traffic to a pod is not forwarded, as a table for people or an object for programs.

use std::ffi::OsString;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::ValueHint;
use serde_json::{Value, json};

use super::table::{Table, Tone, print_json, print_line};
use super::{EXIT_DRIFT, EXIT_USAGE};
use crate::diagnose::{Fault, Mark, Report, Request, Step, Stop, Suspect, diagnose, parse_mark};
use crate::setting::printable;
use crate::text::{duration, errno_text, one_line};

#[derive(clap::Args)]
pub struct Arguments {
    /// The pod's address, IPv4 or IPv6
    #[arg(value_name = "ADDRESS", value_hint = ValueHint::Other)]
    address: OsString,
    /// The source address; without it, an address behind each interface is assumed
    #[arg(long, value_name = "ADDRESS", value_hint = ValueHint::Other)]
    from: Option<OsString>,
    /// The interface on which the packet arrives; without it, every interface that traffic could arrive on is checked
    #[arg(long = "in", value_name = "INTERFACE", value_hint = ValueHint::Other)]
    interface: Option<OsString>,
    /// The packet's mark, in decimal or 0x..., and a mask of the bits that are known; 'ip rule' and rp_filter may depend on it
    #[arg(long, value_name = "N[/MASK]", value_hint = ValueHint::Other)]
    mark: Option<OsString>,
    #[command(flatten)]
    format: super::Format,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let report = request(&arguments).and_then(|request| Ok((diagnose(&request)?, request)));
    let (report, request) = match report {
        Ok(both) => both,
        Err(reason) => {
            eprintln!("fwdguard: {}", one_line(&reason.to_string()));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if arguments.format.json {
        print_json(&object(&report, &request))
    } else {
        print(&report, &request)
    }
    if report.forwarded() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DRIFT) }
}

fn request(arguments: &Arguments) -> Result<Request> {
    let to = address(&arguments.address)?;
    let reason = match to {
        _ if to.is_multicast() => Some("a multicast address"),
        _ if to.is_unspecified() => Some("not a host address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local, to which no router forwards"),
        _ => None,
    };
    if let Some(reason) = reason {
        bail!("{to} is {reason}; specify a pod's address");
    }
    let from = arguments.from.as_ref().map(address).transpose()?;
    let mark = |text: &OsString| {
        let wrong = || format!("--mark '{}' is not a mark; specify one such as 0x100 or 0x100/0xff00", printable(text));
        text.to_str().and_then(parse_mark).with_context(wrong)
    };
    let mark = arguments.mark.as_ref().map(mark).transpose()?;
    Ok(Request { to, from, interface: arguments.interface.clone(), mark })
}

fn address(text: &OsString) -> Result<IpAddr> {
    let address = text.to_str().and_then(|text| text.parse::<IpAddr>().ok());
    let wrong = || format!("'{}' is not an IPv4 or IPv6 address; specify one such as 10.244.1.5", printable(text));
    Ok(address.with_context(wrong)?.to_canonical())
}

fn print(report: &Report, request: &Request) {
    let mut table = Table::new(&["STEP", "WHERE", "FOUND", "MARK"]);
    for Step { step, place, found, mark } in &report.steps {
        let tone = match mark {
            Mark::Ok => Tone::Good,
            Mark::Dropped => Tone::Bad,
            Mark::Warning | Mark::Unknown => Tone::Plain,
        };
        table.row(&[step, place, found, word(*mark)], tone);
    }
    table.print();
    if !report.counters.is_empty() {
        print_line("");
        let mut table = Table::new(&["DROPS COUNTED", "SINCE BOOT", "IN 1 S"]);
        for counter in &report.counters {
            let tone = if counter.moved > 0 { Tone::Bad } else { Tone::Plain };
            table.row(&[&counter.name, &counter.value.to_string(), &format!("+{}", counter.moved)], tone);
        }
        table.print();
    }
    print_line("");
    for suspect in &report.suspects {
        print_line(&format!("Suspect: {}", one_line(&suspect.text())));
    }
    for warning in &report.warnings {
        print_line(&format!("Warning: {}", one_line(warning)));
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    for (at, text) in &report.repairs {
        print_line(&format!("Journal, {} ago: {}", duration(now.saturating_sub(*at) * 1_000_000), one_line(text)));
    }
    if !report.not_checked.is_empty() {
        print_line(&format!("Not checked: {}", one_line(&report.not_checked.join("; "))));
    }
    print_line(&one_line(&report.verdict(request.to)));
    if let Some(fix) = report.fix() {
        print_line(&format!("Fix: {}", one_line(&fix)));
    }
}

fn word(mark: Mark) -> &'static str {
    match mark {
        Mark::Ok => "ok",
        Mark::Dropped => "DROPPED",
        Mark::Warning => "warning",
        Mark::Unknown => "unknown",
    }
}

fn object(report: &Report, request: &Request) -> Value {
    let verdict = |verdict: &Result<(), Stop>| match verdict {
        Ok(()) => json!({"verdict": "forwarded"}),
        Err(Stop::Drops(errno)) => {
            json!({"verdict": "dropped", "errno": errno.raw_os_error(), "error": errno_text(*errno)})
        }
        Err(Stop::Keeps(kind, route)) => json!({"verdict": "kept", "kind": kind, "route": route}),
    };
    let arrivals = report.arrivals.iter().map(|arrival| {
        json!({"interface": arrival.interface, "from": arrival.from.to_string(), "expected": arrival.expected,
               "there": verdict(&arrival.there), "back": arrival.back.as_ref().map(verdict)})
    });
    let steps = report.steps.iter().map(|step| {
        json!({"step": step.step, "where": step.place, "found": step.found, "mark": word(step.mark).to_lowercase()})
    });
    let counters = report
        .counters
        .iter()
        .map(|counter| json!({"name": counter.name, "since_boot": counter.value, "moved": counter.moved}));
    let repairs = report.repairs.iter().map(|(at, text)| json!({"seconds_since_1970": at, "message": text}));
    json!({
        "forwarded": report.forwarded(),
        "local": report.local,
        "verdict": report.verdict(request.to),
        "mend": report.fix(),
        "address": request.to.to_string(),
        "from": report.from.map(|from| from.to_string()),
        "from_assumed": report.assumed,
        "in": request.interface.as_ref().map(|name| printable(name)),
        "mark": request.mark.map(|(mark, mask)| format!("{mark:#x}/{mask:#x}")),
        "faults": report.faults.iter().map(Fault::json).collect::<Vec<_>>(),
        "suspects": report.suspects.iter().map(Suspect::json).collect::<Vec<_>>(),
        "warnings": report.warnings,
        "path": steps.collect::<Vec<_>>(),
        "arrivals": arrivals.collect::<Vec<_>>(),
        "counters": counters.collect::<Vec<_>>(),
        "repairs": repairs.collect::<Vec<_>>(),
        "not_looked_at": report.not_checked,
    })
}
