//! Compares the man pages and the shell completions with the command line.

use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell::{Bash, Fish, Zsh};
use clap_complete::{Generator, generate};

use super::{Arguments, EXIT_STATUS_HELP};

const PAGE: &str = include_str!("../../docs/fwdguard.8");
const POLICY_PAGE: &str = include_str!("../../docs/fwdguard.d.5");

/// The command line as it is parsed: with `help`, `--help`, `--version`, and global options in every command.
fn command_line() -> Command {
    let mut command = Arguments::command();
    command.build();
    command
}

/// The options and operands that this command alone has.
fn own(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_id() != "help")
}

fn names(arg: &Arg) -> impl Iterator<Item = String> {
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    short.into_iter().chain(long).map(|name| format!("\\fB{}\\fR", roff(&name)))
}

/// `\fB\-h\fR, \fB\-\-help\fR` or `\fB\-\-root\fR \fIDIR\fR`
fn tag(arg: &Arg) -> String {
    let values = arg.get_value_names().filter(|_| arg.get_action().takes_values()).unwrap_or_default();
    let values = values.iter().map(|name| format!("\\fI{name}\\fR"));
    let names = names(arg).collect::<Vec<_>>().join(", ");
    // An operand has no names.
    Some(names).filter(|names| !names.is_empty()).into_iter().chain(values).collect::<Vec<_>>().join(" ")
}

/// A bare `-` is a hyphen, which can't be typed (man(7)).
fn roff(text: &str) -> String {
    text.replace('-', "\\-")
}

/// The parts of `text` that begin with a macro: the rest of its line, and the lines below.
fn parts<'a>(text: &'a str, macro_: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    text.split(macro_).skip(1).filter_map(|part| part.split_once('\n'))
}

fn section(title: &str) -> &str {
    parts(PAGE, ".SH ").find(|(found, _)| *found == title).unwrap_or_else(|| panic!("no section {title}")).1
}

/// The options of a section: tag and default value, sorted.
fn tagged(section: &str) -> Vec<(String, Option<String>)> {
    let default = |text: &str| Some(text.split_once("\nDefault: \\fB")?.1.split_once("\\fR.")?.0.to_string());
    let items = parts(section, ".TP\n").filter(|(tag, _)| tag.starts_with("\\fB\\-") || tag.starts_with("\\fI"));
    let mut tagged: Vec<_> = items.map(|(tag, text)| (tag.to_string(), default(text))).collect();
    tagged.sort();
    tagged
}

fn expected<'a>(args: impl Iterator<Item = &'a Arg>) -> Vec<(String, Option<String>)> {
    let default = |arg: &Arg| {
        let values = arg.get_default_values().iter().filter(|_| arg.get_action().takes_values());
        values.map(|value| roff(&value.to_string_lossy())).reduce(|one, other| format!("{one} {other}"))
    };
    let mut expected: Vec<_> = args.map(|arg| (tag(arg), default(arg))).collect();
    expected.sort();
    expected
}

#[test]
fn the_page_has_every_command_and_option_and_no_other() {
    let program = command_line();
    let commands: Vec<_> = parts(section("COMMANDS"), ".SS ").collect();
    let names: Vec<_> = program.get_subcommands().map(Command::get_name).collect();
    assert_eq!(commands.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    for (command, (name, text)) in program.get_subcommands().zip(commands) {
        // Those of `help` are the commands again.
        assert!(name == "help" || !command.has_subcommands(), "{name}: commands of commands are not compared");
        assert_eq!(tagged(text), expected(own(command)), "{name}");
    }
    assert_eq!(tagged(section("OPTIONS")), expected(program.get_arguments()));
}

#[test]
fn the_synopsis_has_every_command_with_its_options() {
    let program = command_line();
    let line = |command: &Command| {
        let args = command.get_arguments().filter(|arg| arg.get_id() != "help");
        let args =
            args.map(|arg| if arg.is_required_set() { format!(" {}", tag(arg)) } else { format!(" [{}]", tag(arg)) });
        let operand = if command.has_subcommands() { " [\\fICOMMAND\\fR]" } else { "" };
        format!("\\fBfwdguard {}\\fR{}{operand}", command.get_name(), args.collect::<String>())
    };
    let mut lines: Vec<_> = program.get_subcommands().map(line).collect();
    let alone = program.get_arguments().filter(|arg| !arg.is_global_set()).filter_map(|arg| names(arg).last());
    lines.push(format!("\\fBfwdguard\\fR {}", alone.collect::<Vec<_>>().join(" | ")));
    let synopsis = section("SYNOPSIS").replace("\n         ", " ");
    let synopsis = synopsis.lines().filter(|line| line.starts_with("\\fB"));
    assert_eq!(synopsis.collect::<Vec<_>>(), lines);
}

/// The page also names options of other programs, but not in bold.
#[test]
fn the_page_names_no_unknown_option() {
    let program = command_line();
    let commands = program.get_subcommands().chain([&program]);
    let known: Vec<String> = commands.flat_map(Command::get_arguments).flat_map(names).collect();
    for page in [PAGE, POLICY_PAGE] {
        for (at, _) in page.match_indices("\\fB\\-") {
            assert!(known.iter().any(|name| page[at..].starts_with(name)), "{}", page[at..].lines().next().unwrap());
        }
        for line in page.lines().filter(|line| line.starts_with(".B")) {
            assert!(!line.split([' ', '"']).nth(1).unwrap().starts_with("\\-"), "write it with \\fB: {line}");
        }
    }
}

#[test]
fn the_page_has_the_exit_statuses() {
    let page = parts(section("EXIT STATUS"), ".TP\n.B ").map(|(status, text)| (status, text.replace('\n', " ")));
    let help = EXIT_STATUS_HELP.lines().skip(1).map(|line| line.trim().split_once("  ").expect("two columns"));
    let (page, help): (Vec<_>, Vec<_>) = (page.collect(), help.collect());
    assert_eq!(page.len(), help.len(), "{page:?}");
    for ((status, text), (known, meaning)) in page.iter().zip(help) {
        assert!(*status == known && text.starts_with(&roff(meaning)), "{known} is '{meaning}'; {status}: {text}");
    }
}

#[test]
fn the_pages_are_of_this_version() {
    for page in [PAGE, POLICY_PAGE] {
        let title = page.lines().find(|line| line.starts_with(".TH ")).expect("a title");
        assert!(title.contains(concat!("\"fwdguard ", env!("CARGO_PKG_VERSION"), "\"")), "{title}");
    }
}

#[test]
fn the_pages_fit_80_columns() {
    for page in ["docs/fwdguard.8", "docs/fwdguard.d.5"] {
        let mut groff = std::process::Command::new("groff");
        let output = groff.args(["-man", "-ww", "-rLL=80n", "-rLT=80n", "-Tutf8", "-P-cbou", page]).output();
        let output = output.expect("groff is missing: install the package groff-base, or run 'make test'");
        let (text, warnings) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && warnings.is_empty() && text.len() > 1000, "{page}: {warnings}");
        text.lines().for_each(|line| assert!(line.chars().count() <= 80, "{page}: {line}"));
    }
}

/// With UPDATE_COMPLETIONS set, it writes them instead.
#[test]
fn the_completions_are_of_this_command_line() {
    for shell in [Bash, Fish, Zsh] {
        let file = Path::new("packaging/completions").join(shell.file_name("fwdguard"));
        let mut completions = Vec::new();
        generate(shell, &mut Arguments::command(), "fwdguard", &mut completions);
        if std::env::var_os("UPDATE_COMPLETIONS").is_some() {
            std::fs::write(&file, &completions).expect("a writable source tree");
        }
        let found = std::fs::read(&file).unwrap_or_default();
        assert!(
            found == completions,
            "{} completes another command line: 'make completions' renews it",
            file.display()
        );
    }
}

/// Docker sets its firewall's policy only where it is the one that turns ip_forward on.
#[test]
fn the_unit_is_before_what_starts_pods_but_not_before_docker() {
    let unit = include_str!("../../systemd/fwdguard.service");
    let before: Vec<&str> =
        unit.lines().filter_map(|line| line.strip_prefix("Before=")).flat_map(str::split_whitespace).collect();
    assert!(before.contains(&"kubelet.service") && !before.contains(&"docker.service"), "{before:?}");
}
