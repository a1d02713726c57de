//! The file of `--metrics`: scraped by the real node_exporter, linted by promtool, and alerted on by docs/alerts.yml.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Namespace, Running, TIMEOUT, reworded, run, sysctl_write, wait_source, wait_sysctl};

const FILE: &str = "/run/fwdguard/fwdguard.prom";
const ADDRESS: &str = "127.0.0.1:9100";
const POLICY: &str = "net.ipv4.ip_forward = 1\nnet.ipv4.conf.*.rp_filter = 0\n";

/// A guard with the unit's umask and runtime directory, and two interfaces beside `lo`.
fn guard(ns: &Namespace, file: &str) -> Running {
    ns.veth("a0", "b0");
    ns.write("etc/fwdguard.d/10.conf", POLICY);
    fs::create_dir("/run/fwdguard").expect("a runtime directory");
    Running::start(ns, |command| {
        command.args(["--metrics", file]);
        reworded(command, |words| {
            ["sh", "-c", "umask 077 && exec \"$@\"", "sh"].map(Into::into).into_iter().chain(words).collect()
        })
    })
}

/// Waits until the file has this line; no longer than the file may lag.
fn wait_line(line: &str) -> String {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let text = fs::read_to_string(FILE).unwrap_or_default();
        if text.lines().any(|found| found == line) {
            return text;
        }
        assert!(Instant::now() < deadline, "no line {line} in {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The exporter on this namespace's loopback, as a user without rights of its own.
struct Exporter(Child);

impl Exporter {
    fn start() -> Exporter {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "prometheus-node-exporter"]);
        command.args(["--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory"]);
        command.args(["/run/fwdguard", "--web.listen-address", ADDRESS]).stdout(Stdio::null()).stderr(Stdio::null());
        Exporter(command.spawn().expect("setpriv runs"))
    }

    /// The exporter's answer, once there is one.
    fn scrape(&self) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let asked = TcpStream::connect(ADDRESS).and_then(|mut stream| {
                stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                Ok(answer)
            });
            match asked {
                Ok(answer) if answer.contains("200 OK") => return answer,
                other => assert!(Instant::now() < deadline, "no scrape: {other:?}; run 'make test'"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// promtool's exit status and output.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is missing: run 'make test'");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("wait");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn an_exporter_shows_what_the_journal_has() {
    let ns = Namespace::enter();
    let guard = guard(&ns, FILE);
    wait_line("fwdguard_guarded_interfaces 3");
    let exporter = Exporter::start();
    for (key, wrong, right) in
        [("ip_forward", "0", "1"), ("conf/a0/rp_filter", "1", "0"), ("conf/b0/rp_filter", "1", "0")]
    {
        let path = format!("net/ipv4/{key}");
        sysctl_write(&path, wrong);
        wait_sysctl(&path, right);
    }
    let by_pattern = "fwdguard_repairs_total{setting=\"net.ipv4.conf.*.rp_filter\",cause=\"write\"} 2";
    let text = wait_line(by_pattern);
    let scraped = exporter.scrape();
    // The exporter sorts labels.
    for line in [
        concat!("fwdguard_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "fwdguard_repairs_total{cause=\"write\",setting=\"net.ipv4.ip_forward\"} 1",
        "fwdguard_repairs_total{cause=\"write\",setting=\"net.ipv4.conf.*.rp_filter\"} 2",
        "fwdguard_failed_settings 0",
        "fwdguard_contested_settings 0",
        "fwdguard_dropped_records_total 0",
        "fwdguard_source_lost{source=\"the system bus\"} 1",
        "node_textfile_scrape_error 0",
    ] {
        assert!(scraped.lines().any(|found| found == line), "no line {line} in {scraped}");
    }
    let now = run("date +%s").trim().parse::<f64>().expect("seconds");
    for time in ["fwdguard_last_repair_timestamp_seconds", "fwdguard_start_time_seconds"] {
        let value = scraped.lines().find_map(|line| line.strip_prefix(time)?.trim().parse::<f64>().ok());
        assert!(value.is_some_and(|at| (now - 60.0..=now).contains(&at)), "{time} is {value:?}, now {now}");
    }
    let own: String =
        scraped.lines().filter(|line| line.contains("fwdguard_")).map(|line| format!("{line}\n")).collect();
    for metrics in [text, own] {
        assert_eq!(promtool(&["check", "metrics"], &metrics), (true, String::new()), "{metrics}");
    }
    assert_eq!(fs::metadata(FILE).expect("the file").permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir("/run/fwdguard").expect("the folder").count(), 1, "nothing is left beside the file");

    // A line that conflicts with the policy, and its removal.
    ns.write("etc/sysctl.d/99-hardening.conf", "net.ipv4.ip_forward = 0\n");
    wait_line("fwdguard_conflicting_lines 1");
    fs::remove_file(ns.path("etc/sysctl.d/99-hardening.conf")).expect("remove");
    wait_line("fwdguard_conflicting_lines 0");
    ns.write("etc/fwdguard.d/20.conf", "no value\n");
    wait_line("fwdguard_policy_errors 1");

    guard.stop();
    assert!(!Path::new(FILE).exists(), "a guard that has ended leaves no file");
}

#[test]
fn a_contest_is_one_series_and_is_counted_whole() {
    let ns = Namespace::enter();
    let guard = guard(&ns, FILE);
    for _ in 0..400 {
        sysctl_write("net/ipv4/conf/a0/rp_filter", "1");
        wait_sysctl("net/ipv4/conf/a0/rp_filter", "0");
    }
    let text = wait_line("fwdguard_contested_settings 1");
    assert_eq!(text.matches("cause=\"write\"").count(), 1, "{text}");
    // The 400 may be fewer repairs; the last record counts them, and so does the file, with the summaries of the contest.
    let changes = fs::metadata(FILE).expect("the file").modified().expect("a time");
    let counted = |text: &str| -> u64 {
        let line = text.lines().find(|line| line.contains("cause=\"write\"")).expect("a series");
        line.rsplit(' ').next().expect("a value").parse().expect("a number")
    };
    let deadline = Instant::now() + TIMEOUT;
    while counted(&fs::read_to_string(FILE).expect("the file")) < 300 {
        assert!(Instant::now() < deadline, "{}", fs::read_to_string(FILE).unwrap());
        std::thread::sleep(Duration::from_millis(100));
    }
    let later = fs::metadata(FILE).expect("the file").modified().expect("a time");
    assert!(later.duration_since(changes).is_ok_and(|time| time >= Duration::from_secs(1)), "at most once a second");
    guard.stop();
}

#[test]
fn a_file_that_cannot_be_written_is_logged_once_and_tried_again() {
    let ns = Namespace::enter();
    let guard = guard(&ns, "/run/nowhere/fwdguard.prom");
    let record = wait_source(&guard, "the metrics file", "/run/nowhere/fwdguard.prom can't be written: ", 1);
    assert!(record["MESSAGE"].contains("No such file or directory"), "{}", record["MESSAGE"]);
    for _ in 0..3 {
        sysctl_write("net/ipv4/ip_forward", "0");
        wait_sysctl("net/ipv4/ip_forward", "1");
        std::thread::sleep(Duration::from_millis(1100));
    }
    let counted = guard.records().into_iter().filter(|r| r.get("SOURCE").is_some_and(|s| s == "the metrics file"));
    assert_eq!(counted.count(), 1);
    fs::create_dir("/run/nowhere").expect("create");
    wait_source(&guard, "the metrics file", "Available again", 1);
    assert!(
        fs::read_to_string("/run/nowhere/fwdguard.prom").expect("the file").contains("ip_forward\",cause=\"write\"} 3")
    );
}

#[test]
fn a_name_that_no_exporter_reads_is_a_mistake_in_the_options() {
    let ns = Namespace::enter();
    for name in ["/run/fwdguard", "/run/fwdguard/metrics.txt", "/run/fwdguard/.prom"] {
        let output = ns.fwdguard(&["run", "--metrics", name]);
        let output_text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{output_text}");
        assert!(
            output_text.contains("has to end in .prom") && output_text.contains("/etc/sysconfig/fwdguard"),
            "{output_text}"
        );
    }
}

#[test]
fn the_alert_rules_fire_on_an_incident() {
    let (good, output_text) = promtool(&["check", "rules", "docs/alerts.yml"], "");
    assert!(good, "{output_text}");
    let (good, output_text) = promtool(&["test", "rules", "tests/metrics/alerts_test.yml"], "");
    assert!(good, "{output_text}");
    // Every metric that a rule asks for is one that the guard writes.
    let source = fs::read_to_string("src/journal/metrics.rs").expect("the source");
    let rules = fs::read_to_string("docs/alerts.yml").expect("the rules");
    for line in rules.lines().filter(|line| !line.trim_start().starts_with(['#', 's', 'd'])) {
        for name in line.split("fwdguard_").skip(1) {
            let name: String = name.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            assert!(source.contains(&format!("family(\"{name}\"")), "fwdguard_{name}: {line}");
        }
    }
    let page = fs::read_to_string("docs/fwdguard.8").expect("the page");
    for family in source.split("family(\"").skip(1) {
        let name = family.split('"').next().expect("a name");
        assert!(page.contains(&format!("fwdguard_{name}")), "fwdguard_{name} is not in docs/fwdguard.8");
    }
}
