//! What the subcommands print, on which stream, and with which status.

use super::*;

#[test]
fn the_table_has_one_row_a_pattern_and_at_most_20_interfaces() {
    let ns = closed_node();
    (0..13).for_each(|pair| _ = run(&format!("ip link add x{pair:02} type veth peer name y{pair:02}")));
    ns.write(VENDOR, "net.ipv4.conf.[xy]*.forwarding = 1\n");
    sysctl_write("net/ipv4/conf/x00/forwarding", "1");
    let text = stdout(&ns.fwdguard(&["check"]));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("SETTING"), "{text}");
    assert!(lines[1].starts_with("net.ipv4.conf.[xy]*.forwarding") && lines[1].contains("1 of 26 hold"), "{text}");
    let listed = lines.iter().filter(|line| line.starts_with("  net.ipv4.conf.")).count();
    assert_eq!(listed, 20, "{text}");
    assert!(lines.contains(&"  and 5 more"), "{text}");
    assert_eq!(lines.len(), 1 + 1 + 20 + 1 + 1, "{text}");
    let (object, _) = ns.json(&["check", "--json"]);
    assert_eq!(object["settings"].as_array().map(Vec::len), Some(26), "JSON has all");

    assert_eq!(ns.fwdguard(&["apply"]).status.code(), Some(0));
    let text = stdout(&ns.fwdguard(&["check"]));
    assert!(text.contains("26 of 26 hold"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn tables_fit_100_columns_and_have_no_colour_in_a_pipe() {
    let ns = closed_node();
    ns.veth("a.very.long.na0", "a.very.long.na1");
    let long_file = format!("etc/fwdguard.d/70-{}.conf", "long".repeat(30));
    ns.write(
        &long_file,
        "net/ipv4/conf/a.very.long.na0/rp_filter = 2\nnet.ipv4.tcp_rmem = 4096 87380 6291455\n\
         net.ipv4.conf.{a0,b0,c0,d0,e0,f0,g0,h0,i0,j0,k0,l0,m0,n0,o0,p0,q0,r0,s0,t0,u0,v0,a.*}*.rp_filter = 1\n",
    );
    ns.write(SITE, "net.ipv4.tcp_rmem = 4096 87380 6291454\n");
    for command in ["check", "policy"] {
        let output = ns.fwdguard(&[command]);
        let text = stdout(&output);
        assert!(!text.contains('\x1b') && !stderr(&output).contains('\x1b'), "{text}");
        assert!(text.lines().count() > 5, "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{command}: {line}");
            assert!(!line.contains('\t'), "{command}: a tab is as wide as the terminal likes: {line}");
        }
    }
}

#[test]
fn bad_lines_go_to_stderr_and_into_json() {
    let ns = closed_node();
    ns.write(SITE, "kernal.panic = 10\nnet.ipv4.conf.all.rp_filter = 0\nnet.x\n");
    let site = file(&ns, SITE);
    for command in ["check", "apply", "policy"] {
        let output = ns.fwdguard(&[command]);
        let expected = format!("fwdguard: {site}:1: 'kernal.panic' is not below net.");
        assert!(stderr(&output).starts_with(&expected), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains(&format!("fwdguard: {site}:3: no value")), "{command}: {}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 2, "{command}: {}", stderr(&output));
        assert!(!stdout(&output).contains("kernal.panic"), "{command}: {}", stdout(&output));

        let output = ns.fwdguard(&[command, "--json"]);
        let object: Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert_eq!(object["errors"].as_array().map(Vec::len), Some(2), "{command}: {object:#}");
        assert_eq!((&object["errors"][1]["file"], &object["errors"][1]["line"]), (&json!(site), &json!(3)));
        assert!(object["errors"][1]["message"].as_str().is_some_and(|m| m.starts_with("no value")), "{object:#}");
        assert_eq!(stdout(&output).lines().count(), 1, "one object, one line");
    }
}

#[test]
fn policy_shows_every_line_with_its_place_and_overrides() {
    let ns = closed_node();
    ns.write(
        SITE,
        "net.ipv4.conf.all.rp_filter = 2\n-net.ipv4.conf.eth1.forwarding\n-net.ipv4.conf.lo.rp_filter = 1\n",
    );
    let output = ns.fwdguard(&["policy"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    let text = stdout(&output);
    // By its place: with a long root, the middle of a key may have been cut.
    let row = |part: &str| text.lines().find(|l| l.contains(part)).unwrap_or_else(|| panic!("no {part} in\n{text}"));
    assert!(row("OVERRIDES").starts_with("SETTING"), "{text}");
    let overrides = row("-site.conf:1");
    assert!(overrides.contains("  0 at 50-") && overrides.ends_with("ernetes.conf:3"), "{text}");
    assert!(row("-site.conf:2").contains(" excluded "), "{text}");
    assert!(row("-site.conf:3").contains(" 1 (failure ignored) "), "{text}");

    let (object, status) = ns.json(&["policy", "--json"]);
    assert_eq!(status, 0);
    let lines = object["lines"].as_array().expect("lines");
    let line = |key: &str| lines.iter().find(|l| l["key"] == key).unwrap_or_else(|| panic!("no {key} in {object:#}"));
    assert_eq!(
        *line("net.ipv4.conf.all.rp_filter"),
        json!({"key": "net.ipv4.conf.all.rp_filter", "value": "2", "excluded": false, "pattern": false,
               "ignore_failure": false, "source": {"file": file(&ns, SITE), "line": 1},
               "overrides": [{"value": "0", "source": {"file": file(&ns, VENDOR), "line": 3}}]})
    );
    assert_eq!(line("net.ipv4.conf.*.forwarding")["pattern"], true);
    let excluded = line("net.ipv4.conf.eth1.forwarding");
    assert_eq!((&excluded["excluded"], &excluded["value"]), (&json!(true), &Value::Null));
    assert_eq!(excluded["pattern"], false);
    assert_eq!(line("net.ipv4.conf.lo.rp_filter")["ignore_failure"], true);
    assert_eq!(sysctl_read("net/ipv4/ip_forward"), "0", "policy changes nothing");
}

#[test]
fn help_version_and_wrong_usage() {
    let fwdguard = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_fwdguard")).args(arguments).output().expect("fwdguard runs")
    };
    for help in ["--help", "-h", "help"] {
        let output = fwdguard(&[help]);
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()), "{help}");
        let text = stdout(&output);
        for part in ["Exit status:", "  0  ", "  1  ", "  2  ", "check", "apply", "policy", "diagnose", "run", "--root"]
        {
            assert!(text.contains(part), "{part} in {help}:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }
    let output = fwdguard(&["--version"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), format!("fwdguard {}\n", env!("CARGO_PKG_VERSION"))));
    for wrong in [
        vec![],
        vec!["chekc"],
        vec!["check", "--jsno"],
        vec!["check", "extra"],
        vec!["check", "--root", "/no/such/folder"],
        vec!["check", "--root", "/dev/null"],
        vec!["run", "--audit-interval", "0"],
        vec!["diagnose"],
    ] {
        let output = fwdguard(&wrong);
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()), "{wrong:?}");
        assert!(!stderr(&output).is_empty(), "{wrong:?}");
    }
}

/// systemd does not start the unit again after a 2 (RestartPreventExitStatus=), so the unit's status has to name the reason.
#[test]
fn the_service_exits_with_2_only_for_invalid_options_and_names_their_file() {
    const SAYS: &str = "; the options of the service are in /etc/sysconfig/fwdguard (OPTIONS=)";
    let ns = Namespace::enter();
    let notify = std::os::unix::net::UnixDatagram::bind(NOTIFY_SOCKET).expect("a notify socket");
    notify.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let ended = |arguments: &[&str]| {
        let output =
            ns.command().arg("run").args(arguments).env("NOTIFY_SOCKET", NOTIFY_SOCKET).output().expect("runs");
        let mut buffer = [0; 4096];
        let length = notify.recv(&mut buffer).expect("a status");
        let status_line = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let message = stderr(&output);
        assert_eq!((message.lines().count(), stdout(&output)), (1, String::new()), "{arguments:?}: {message}");
        assert_eq!(
            format!("fwdguard: {}", status_line.strip_prefix("STATUS=").expect("a status")),
            message,
            "{arguments:?}"
        );
        (output.status.code().expect("an exit status"), message)
    };
    for (arguments, wrong) in [
        (&["--audit-intervall", "5"][..], "'--audit-intervall' found; a similar argument exists: '--audit-interval'; "),
        (&["--audit-interval", "5x"], "'5x'"),
        (&["--audit-interval", "0"], "0"),
        (&["--audit-interval"], "--audit-interval"),
        (&["check"], "'check'"),
        (&["\u{1b}[2J\né"], "\\u{e9}' found; "),
        (&["--root", "/no/such/föhn"], "--root /no/such/f\\u{f6}hn: not a directory"),
        (&["--help"], "--help"),
        (&["--version"], "unexpected argument '--version' found"),
    ] {
        let (status, message) = ended(arguments);
        assert_eq!(status, 2, "{arguments:?}: {message}");
        assert!(
            message.is_ascii() && message.contains(wrong) && message.ends_with(&format!("{SAYS}\n")),
            "{arguments:?}: {message}"
        );
    }
    // After any other failure the status is 1, and systemd starts the service again.
    let line = format!("ulimit -n 60; exec {} run", env!("CARGO_BIN_EXE_fwdguard"));
    let output = Command::new("sh").args(["-c", &line]).env_remove("NOTIFY_SOCKET").output().expect("sh runs");
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(1), 1), "{}", stderr(&output));
    // Outside of a service, `--help` prints the help.
    let output = ns.command().args(["run", "--help"]).output().expect("runs");
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

#[test]
fn an_interfaces_name_forges_no_escape() {
    let ns = closed_node();
    ns.write(VENDOR, "net.ipv4.conf.*.forwarding = 1\nnet.ipv4.conf.*.rp_filter = 0\n");
    for name in [b"e\x1b[31m\x07".as_slice(), b"e\xff\xfe", b"e\xc2\x9b31m"] {
        let name = OsStr::from_bytes(name);
        let mut add = Command::new("ip");
        add.args(["link", "add"]).arg(name).args(["type", "veth", "peer", "name", "peer0"]);
        if !add.status().expect("ip runs").success() {
            eprintln!("{name:?} is refused here");
            continue;
        }
        sysctl_write("net/ipv4/ip_forward", "0");
        let mut outputs: Vec<Output> = ["check", "apply", "check"].map(|command| ns.fwdguard(&[command])).into();
        sysctl_write("net/ipv4/ip_forward", "0");
        outputs.extend([["check", "--json"], ["apply", "--json"]].map(|arguments| ns.fwdguard(&arguments)));
        let statuses: Vec<_> = outputs.iter().map(|output| output.status.code()).collect();
        assert_eq!(statuses, [1, 0, 0, 1, 0].map(Some), "{name:?}");
        for output in outputs {
            for text in [stdout(&output), stderr(&output)] {
                assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{name:?}: {text:?}");
            }
        }
        run("ip link del peer0");
    }
}

#[test]
fn a_policy_forges_no_escape() {
    let ns = closed_node();
    ns.write("etc/fwdguard.d/70-\x1b[31m.conf", "net.\x1b[31m = 1\nnet.ipv4.conf.lo.rp_filter = 1\nnet.x = \x1b[31m\n");
    for command in ["check", "apply", "policy"] {
        let output = ns.fwdguard(&[command]);
        for text in [stdout(&output), stderr(&output)] {
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{command}: {text:?}");
        }
        assert_eq!(stderr(&output).lines().count(), 2, "{command}: {}", stderr(&output));
    }
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let ns = closed_node();
    for arguments in [["check", "--json"], ["policy", "--json"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = ns.command().args(arguments).arg("--root").arg(ns.root()).stdout(writer).output().expect("runs");
        assert_eq!(stderr(&output), "", "{arguments:?}");
        assert!(output.status.code().is_some_and(|code| code < 2), "{arguments:?}: {}", output.status);
    }
}
