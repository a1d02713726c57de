//! System calls and capabilities that the guard does not get.

use super::{assert_all_holds, attempt, broken, injecting, lost};
use crate::common::{Running, messages, reworded, sysctl_read, sysctl_write, wait_sysctl};

#[test]
fn without_netlink_it_ends_with_one_line() {
    let ns = broken();
    // Only netlink sockets are bound.
    let outcome = attempt(&ns, |command| injecting(command, "bind", "error=EPERM"));
    assert_eq!(outcome.ended.expect("it has ended").code(), Some(1));
    let reason = outcome.reason();
    assert!(reason.contains("rtnetlink") && reason.contains("AF_NETLINK"), "{reason}");
}

#[test]
fn a_refused_source_is_named_and_guarding_continues() {
    for (calls, what, source) in [
        ("fanotify_init", "error=EPERM", "fanotify"),
        ("inotify_init1", "error=EMFILE:when=1", "the policy watch"),
        ("inotify_init1", "error=EMFILE:when=2", "inotify on settings"),
        ("timerfd_create", "error=EMFILE", "the clocks"),
    ] {
        let ns = broken();
        let mut guard = Running::start(&ns, |command| injecting(command, calls, what));
        assert_all_holds(calls);
        guard.wait_record(source, |record| record.get("SOURCE").is_some_and(|lost| lost == source));
        sysctl_write("net/ipv4/ip_forward", "0");
        wait_sysctl("net/ipv4/ip_forward", "1");
        sysctl_write("net/ipv4/conf/a0/rp_filter", "1");
        wait_sysctl("net/ipv4/conf/a0/rp_filter", "0");
        assert_eq!(lost(&guard.records()), [source], "{:?}", messages(&guard.records()));
        guard.wait_notified(source);
    }
}

/// A larger receive buffer.
#[test]
fn optional_calls_may_fail() {
    let ns = broken();
    let outcome = attempt(&ns, |command| injecting(command, "setsockopt", "error=ENOBUFS:when=1..2"));
    assert!(outcome.ended.is_none(), "{}", outcome.reason());
    assert_all_holds("setsockopt");
}

#[test]
fn without_net_admin_each_setting_has_one_record() {
    let ns = broken();
    let guard = Running::start(&ns, |command| {
        reworded(command, |words| {
            ["setpriv", "--bounding-set=-net_admin"].map(Into::into).into_iter().chain(words).collect()
        })
    });
    let refused = guard.wait_record("EPERM", |record| record.get("ERRNO").is_some_and(|errno| errno == "1"));
    assert!(refused["SYSCTL"] == "net.ipv4.ip_forward", "{refused:?}");
    let (_, records) = guard.stop();
    let logged = records.iter().filter(|record| record.get("SYSCTL").is_some_and(|key| key == "net.ipv4.ip_forward"));
    assert_eq!(logged.count(), 1, "{:?}", messages(&records));
    assert_eq!(sysctl_read("net/ipv4/ip_forward"), "0");
}
