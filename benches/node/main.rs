//! Measures what only a whole process shows, side by side in one run in namespaces of its own, and writes it down.

#[path = "../../tests/bus/mod.rs"]
mod bus;
#[path = "../../tests/common/mod.rs"]
mod common;
mod contender;
mod document;
mod floor;
mod life;
mod node;
mod quiet;
mod repair;
mod stream;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use contender::{Contender, Guard};
use document::Document;
use node::Target;

/// Exit status: 0 measured, whatever came out; else something could not be measured.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    child: Option<Child>,
    /// The program to measure, as the package has it
    #[arg(long, default_value = env!("CARGO_BIN_EXE_fwdguard"))]
    program: PathBuf,
    /// Where to write the tables
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md"))]
    to: PathBuf,
    /// A tenth of the rounds, to see whether it works
    #[arg(long)]
    quick: bool,
    /// Only these parts (quiet, repair, life, busy, stream, rtnl, storm), with commas between; to a file of its own
    #[arg(long, requires = "to", value_delimiter = ',')]
    only: Vec<String>,
    /// How long nothing shall happen, in seconds
    #[arg(long, default_value = "600")]
    quiet: u64,
    /// As cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// What this program is to be as a process of its own.
#[derive(Subcommand)]
enum Child {
    #[command(hide = true)]
    Be { contender: Contender, target: String },
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Child::Be { contender, target }) = options.child {
        return contender.be(&Target::from_text(&target).context("no such target")?);
    }
    let since = Instant::now();
    let guard = Guard { program: options.program.canonicalize().context("the program")? };
    let mut document = Document::new(&guard)?;
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    let rounds = |rounds: usize| if options.quick { (rounds / 10).max(10) } else { rounds };

    // Nothing happens there, so that it takes nothing from the others.
    let quiet = wanted("quiet").then(|| quiet::Quiet::start(&guard, Duration::from_secs(options.quiet))).transpose()?;
    for interfaces in [4, 100, 1000, 10_000] {
        if wanted("repair") {
            document.take(node::within(interfaces, |node| repair::unloaded(node, &guard, &rounds)));
        }
        if wanted("life") && interfaces != 100 {
            document.take(node::within(interfaces, |node| life::life(node, &guard, &rounds)));
        }
        if interfaces != 4 {
            continue;
        }
        // These now, since the kernel takes seconds to put a larger node away, beside whatever is measured next.
        if wanted("busy") {
            document.take(node::within(4, |node| repair::busy(node, &guard, &rounds)));
        }
        if wanted("stream") {
            document.take(node::within(4, |node| stream::lost(node, &guard, &rounds)));
        }
        if wanted("rtnl") {
            document.take(node::within(4, |node| repair::rtnl_held(node, &guard)));
        }
    }
    if wanted("storm") {
        document.take(node::within(4, |node| life::storm(node, &guard)));
        document.take(node::within(1000, |node| life::overrun(node, &guard)));
    }
    if let Some(quiet) = quiet {
        document.take(quiet.end());
    }
    print!("{}", document.summary());
    std::fs::write(&options.to, document.text()).with_context(|| options.to.display().to_string())?;
    println!("bench: the tables are in {}, after {} s", options.to.display(), since.elapsed().as_secs());
    if document.failed { bail!("something could not be measured; the tables say what") } else { Ok(()) }
}
