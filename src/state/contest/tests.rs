//! Contests as tables: times and costs in, records, looks and silence out.

use super::*;
use crate::policy::Source;
use crate::report::record::Cause;
use crate::setting::{ALL, Attribute, Family};
use std::path::Path;

const SLOT: SettingId = SettingId::Announced(Family::V4, Attribute::Forwarding, ALL);

fn subject() -> Subject {
    let source = Source { file: Path::new("/etc/fwdguard.d/10.conf").into(), line: 1 };
    Subject {
        key: "net.ipv4.ip_forward".into(),
        rule: "net.ipv4.ip_forward".into(),
        ours: "1".into(),
        source,
        cause: Cause::Write,
    }
}

fn repaired(contests: &mut Contests, now: u64) -> (bool, Option<Record>) {
    contests.repaired(&SLOT, &subject(), &Key::ip_forward(), now)
}

/// What is due by `until`, each with its time.
fn run_until(contests: &mut Contests, until: u64) -> Vec<(u64, Due)> {
    let mut due = Vec::new();
    while let Some(now) = contests.due().filter(|due| *due <= until) {
        due.extend(std::iter::from_fn(|| contests.take_due(now)).map(|due| (now, due)));
    }
    due
}

#[test]
fn the_fifth_repair_within_ten_seconds_is_called_contested_once() {
    let mut contests = Contests::default();
    for n in 0..20 {
        // Every 2.6 s: never five within ten.
        assert_eq!(repaired(&mut contests, n * 2_600_000), (true, None));
    }
    let start = 100 * SECOND;
    let calls: Vec<bool> = (0..20).map(|n| repaired(&mut contests, start + n * SECOND).1.is_some()).collect();
    assert_eq!(calls.iter().filter(|call| **call).count(), 1, "{calls:?}");
    assert!(calls[4], "{calls:?}");
    assert_eq!(contests.called(), ["net.ipv4.ip_forward"]);
    let last = start + 19 * SECOND;
    let due = run_until(&mut contests, u64::MAX);
    let over = Record::ContestOver { subject: subject(), repairs: 40, usec: last };
    assert_eq!(due, [(last + QUIET, Due::Publish(over))], "one notice after a minute of quiet");
    assert_eq!((contests.called().len(), contests.due()), (0, None));
}

#[test]
fn a_flood_has_250_records_and_then_a_summary_every_ten_seconds() {
    let mut contests = Contests::default();
    let (mut own, mut summaries, mut counted) = (0, Vec::new(), 0);
    for n in 0..60_000 {
        let now = n * 1_000;
        for (at, due) in run_until(&mut contests, now) {
            let Due::Publish(Record::StillContested { count, since, until, .. }) = due else { panic!("{due:?}") };
            assert_eq!(until, at);
            assert!((9 * SECOND..12 * SECOND).contains(&(until - since)));
            summaries.push(at);
            counted += count;
        }
        own += u64::from(repaired(&mut contests, now).0);
    }
    assert_eq!(own, 250 + 5, "one more each ten seconds");
    assert_eq!(summaries.len(), 5);
    let rest = run_until(&mut contests, u64::MAX);
    let Due::Publish(Record::StillContested { count, .. }) = &rest[0].1 else { panic!("{rest:?}") };
    assert_eq!(own + counted + count, 60_000, "each repair has its record or its place in a summary");
}

#[test]
fn unpublished_repairs_of_a_contest_that_is_forgotten_are_not_lost() {
    let mut contests = Contests::default();
    for n in 0..300 {
        repaired(&mut contests, n * 1_000);
    }
    let record = contests.forget_all();
    assert!(matches!(&record[..], [Record::StillContested { count: 50, until: 299_000, .. }]), "{record:?}");
    assert_eq!((contests.due(), contests.called().len()), (None, 0));
}

#[test]
fn cost_is_limited_and_not_count() {
    let mut contests = Contests::default();
    let mut now = 0;
    for _ in 0..499 {
        now += 2_000;
        repaired(&mut contests, now);
        contests.charge(&SLOT, now, 1_000);
        assert!(!contests.waits(&SLOT, now), "below the budget at {now}");
    }
    // A writer without mercy for a minute: as soon as a repair is allowed, it is needed.
    let (start, mut spent) = (now, 499_000);
    while now < start + 60 * SECOND {
        repaired(&mut contests, now);
        contests.charge(&SLOT, now, 1_000);
        spent += 1_000;
        if contests.waits(&SLOT, now) {
            let check = std::iter::from_fn(|| {
                now = contests.due()?;
                contests.take_due(now)
            });
            assert_eq!(check.take(9).find(|due| *due == Due::Check(SLOT)), Some(Due::Check(SLOT)));
            assert!(!contests.waits(&SLOT, now));
        }
        now += 10;
    }
    assert!((2_000_000..3_600_000).contains(&spent), "{spent} us of a core within a minute");
    // Nothing for some time, and all is immediate again.
    now += 11 * SECOND;
    repaired(&mut contests, now);
    contests.charge(&SLOT, now, 1_000);
    assert!(!contests.waits(&SLOT, now));
}

#[test]
fn a_setting_that_costs_a_lot_is_still_repaired_every_five_seconds() {
    let mut contests = Contests::default();
    repaired(&mut contests, 0);
    contests.charge(&SLOT, 0, 2 * SECOND);
    assert!(contests.waits(&SLOT, 0));
    assert_eq!(run_until(&mut contests, DEFERRED_MAX), [(DEFERRED_MAX, Due::Check(SLOT))]);
}

/// What a check cost long after the last repair defers the next.
#[test]
fn a_repair_that_waits_when_a_minute_is_over_is_not_forgotten() {
    let mut contests = Contests::default();
    repaired(&mut contests, 0);
    let changed = QUIET - 2 * SECOND;
    contests.charge(&SLOT, changed, 2 * SECOND);
    assert!(contests.waits(&SLOT, changed));
    let due = run_until(&mut contests, u64::MAX);
    assert_eq!(due, [(changed + DEFERRED_MAX, Due::Check(SLOT))]);
    assert_eq!(contests.due(), None, "then it is over");
}

#[test]
fn a_setting_with_notifications_alone_is_muted_and_checked_until_it_is_quiet() {
    let mut contests = Contests::default();
    repaired(&mut contests, 0);
    contests.charge(&SLOT, 0, SECOND);
    assert!(contests.waits(&SLOT, 1));
    contests.charge_notifications(&SLOT, 1, NOTIFIED);
    assert_eq!(contests.take_mutes(), None, "a repair's worth");
    contests.charge_notifications(&SLOT, 2, NOTIFIED_REPAIRS * SECOND * 2);
    assert_eq!(contests.take_mutes(), Some(vec![SLOT]));
    let mut looks = 0;
    while let Some(now) = contests.due().filter(|_| looks < 20) {
        if contests.take_due(now) == Some(Due::Check(SLOT)) {
            looks += 1;
            contests.charge(&SLOT, now, 10);
        }
    }
    assert!((2..20).contains(&looks), "{looks}");
    assert_eq!(contests.take_mutes(), Some(vec![]), "received again");
}

#[test]
fn what_went_is_forgotten() {
    let mut contests = Contests::default();
    (0..10).for_each(|n| _ = repaired(&mut contests, n));
    assert_eq!(contests.forget(&SLOT), None);
    assert_eq!((contests.due(), contests.called().len()), (None, 0));
}

#[test]
fn a_setting_that_is_changed_back_too_slowly_is_called_contested_before_its_repairs_are_summed_up() {
    let mut contests = Contests::default();
    let (mut called, mut summed_up) = (Vec::new(), 0);
    for n in 1..=1_000 {
        let now = n * 5 * SECOND;
        summed_up += run_until(&mut contests, now).len();
        let (own, record) = repaired(&mut contests, now);
        assert!(own || !called.is_empty() || record.is_some());
        if let Some(record) = record {
            assert_eq!(summed_up, 0);
            called.push((n, record));
        }
    }
    let [(n, Record::Contested { repairs, since, usec, .. })] = &called[..] else { panic!("{called:?}") };
    assert_eq!((repairs, *since, *usec), (n, 5 * SECOND, (n - 1) * 5 * SECOND));
    assert!(summed_up > 0);
}
