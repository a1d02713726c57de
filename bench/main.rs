//! Measures the installed service beside others on one machine, in a container with a real systemd, and writes it down. `run.sh`
//! boots the container, has this program `measure` in it several times, each in a fresh one, and has it `write` the document.

mod contender;
mod document;
mod floor;
mod life;
mod node;
mod repair;
mod stream;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use contender::Contender;
use document::{Document, Run};
use node::{Node, Target};

#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures once, inside the container, and prints a line for each number
    Measure {
        /// A tenth of the rounds, to see whether it works
        #[arg(long)]
        quick: bool,
        /// Only these parts (repair, life, busy, stream, storm, contest, quiet), with commas between
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Writes the document of some runs' lines
    Write { to: PathBuf, runs: Vec<PathBuf> },
    #[command(hide = true)]
    Be { contender: Contender, target: String },
}

fn main() -> Result<()> {
    match Options::parse().command {
        Command::Be { contender, target } => contender.be(&Target::from_text(&target).context("no such target")?),
        Command::Write { to, runs } => {
            let runs = runs.iter().map(|path| Ok(Run::from_text(&std::fs::read_to_string(path)?)));
            let document = Document::of(runs.collect::<Result<_>>()?)?;
            std::fs::write(&to, document.text()).with_context(|| to.display().to_string())?;
            print!("{}", document.summary());
            Ok(())
        }
        Command::Measure { quick, only } => {
            let run = measure(quick, &only)?;
            print!("{}", run.text());
            Ok(())
        }
    }
}

fn measure(quick: bool, only: &[String]) -> Result<Run> {
    let wanted = |part: &str| only.is_empty() || only.iter().any(|only| only == part);
    let rounds = |rounds: usize| if quick { rounds.div_ceil(10) } else { rounds };
    let mut run = Run::new()?;
    let mut node = Node::new()?;
    contender::check_as_shipped(&mut run)?;
    // Interfaces are only added: the kernel takes seconds to remove thousands, which would disturb the next measurement.
    for interfaces in [4, 1000, 10_000] {
        node.grow(interfaces)?;
        if wanted("repair") {
            repair::unloaded(&node, &mut run, &rounds)?;
        }
        if wanted("life") {
            life::life(&node, &mut run, rounds(10))?;
        }
        if interfaces != 4 {
            continue;
        }
        if wanted("busy") {
            for slice in ["system.slice", "kubepods.slice"] {
                repair::busy(&node, slice, &mut run, rounds(200))?;
            }
        }
        if wanted("stream") {
            stream::lost(&node, &mut run, rounds(60))?;
        }
        if wanted("contest") {
            life::contest(&node, &mut run)?;
        }
        if wanted("storm") {
            life::storm(&mut run, rounds(300))?;
        }
        if wanted("quiet") {
            life::quiet(&mut run, rounds(30))?;
        }
    }
    Ok(run)
}
