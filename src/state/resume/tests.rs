//! What becomes of a sleep, by which sources report it and when.

use super::*;
use By::{Clocks, Hook, Hypervisor, Logind};

/// Seconds awake, and seconds in all.
type At = (f64, f64);

/// What is reported, and when.
enum Told {
    /// The node is about to sleep.
    Asleep(At, By),
    Awake(At, By),
    /// The kernel was suspended for so many seconds; the clock was set by so many.
    Slept(At, u64),
    Set(At, i64),
    Lost(By),
    /// Nothing more is waited for.
    End,
}
use Told::*;

/// Plays it, and gives what has to be done in lines with their times; what is due later is done.
fn play(events: &[Told]) -> Vec<String> {
    let (mut sleeps, mut lines) = (Sleeps::default(), Vec::new());
    let line = |at: Duration, act: Act| match act {
        Act::MarkSleep(before) => format!("{:.1} note {}", at.as_secs_f64(), before.as_secs()),
        Act::ReportResume(cause, woke) => format!(
            "{:.1} {}{} {:?}{} by {}",
            at.as_secs_f64(),
            if woke.again { "again " } else { "" },
            cause.name(),
            woke.slept.map(|slept| slept.as_secs_f64()),
            woke.step_usec.map(|usec| format!(" set {}", usec / 1_000_000)).unwrap_or_default(),
            woke.noticed_by()
        ),
    };
    let moment =
        |(awake, boot): At| Moment { awake: Duration::from_secs_f64(awake), boot: Duration::from_secs_f64(boot) };
    let mut last = Duration::ZERO;
    for event in events {
        let at = match event {
            Asleep(at, _) | Awake(at, _) | Slept(at, _) | Set(at, _) => moment(*at),
            Lost(_) | End => Moment { awake: last, boot: last },
        };
        last = at.awake;
        while let Some(due) = sleeps.due().filter(|due| *due <= at.awake) {
            assert_eq!(sleeps.rest(due - Duration::from_millis(1)), None, "not due yet");
            lines.extend(sleeps.rest(due).map(|act| line(due, act)));
        }
        let acts = match event {
            Asleep(_, by) => sleeps.announce(*by, if *by == Logind { Duration::ZERO } else { BEFORE }, at),
            Awake(_, by) => sleeps.notice(*by, None, at).1,
            Slept(_, time) => sleeps.notice(Clocks, Some(Jump::Slept(Duration::from_secs(*time))), at).1,
            Set(_, time) => sleeps.notice(Clocks, Some(Jump::Stepped { usec: time * 1_000_000 }), at).1,
            Lost(by) => {
                sleeps.lose(*by);
                Vec::new()
            }
            End => sleeps.end().into_iter().collect(),
        };
        lines.extend(acts.into_iter().map(|act| line(at.awake, act)));
    }
    while let Some(due) = sleeps.due() {
        lines.extend(sleeps.rest(due).map(|act| line(due, act)));
    }
    lines
}

#[test]
fn whoever_comes_first_it_is_one_record() {
    // The clocks, the hook and logind.
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for subset in 1..8 {
            let is_in = |wake: &usize| subset & (1 << wake) != 0;
            let received: Vec<_> = order.into_iter().filter(is_in).collect();
            // The sources that report the end have announced it, as a whole or not.
            for announced in [false, true] {
                let mut events = Vec::new();
                if announced && is_in(&2) {
                    events.push(Asleep((20., 20.), Logind));
                }
                if announced && is_in(&1) {
                    events.push(Asleep((20.1, 20.1), Hook));
                }
                for (place, wake) in received.iter().enumerate() {
                    let at = 0.5 * place as f64;
                    events.push(match wake {
                        0 => Slept((21. + at, 321. + at), 300),
                        1 => Awake((21. + at, 321. + at), Hook),
                        _ => Awake((21. + at, 321. + at), Logind),
                    });
                }
                let lines = play(&events);
                let records: Vec<_> = lines.iter().filter(|line| !line.contains("note")).collect();
                assert_eq!(records.len(), 2, "{order:?} {subset} {announced}: {lines:?}");
                assert!(records[0].contains(" resume ") && records[1].contains(" again resume "), "{lines:?}");
                let by: Vec<_> = [Logind, Hook, Clocks].iter().zip([2, 1, 0]).filter(|(_, wake)| is_in(wake)).collect();
                assert!(by.iter().all(|(by, _)| records[0].contains(by.name())), "{lines:?}");
                assert_eq!(
                    records[0].contains("Some(300.0)"),
                    is_in(&0),
                    "the kernel's clocks say how long: {lines:?}"
                );
            }
        }
    }
}

#[test]
fn it_is_reported_when_it_has_come_to_rest() {
    for (what, events, lines) in [
        (
            "logind alone",
            vec![Asleep((20., 20.), Logind), Awake((21., 26.), Logind)],
            vec!["20.0 note 0", "24.0 resume Some(6.0) by logind", "52.0 again resume Some(6.0) by logind"],
        ),
        (
            "the clocks first, then hooks for 15 s, then logind",
            vec![
                Asleep((20., 20.), Logind),
                Asleep((20.1, 20.1), Hook),
                Slept((21., 27.), 6),
                Awake((21.1, 27.1), Hook),
                Awake((36., 42.), Logind),
            ],
            vec![
                "20.0 note 0",
                "39.0 resume Some(6.0) by logind, the sleep hook and the clocks",
                "67.0 again resume Some(6.0) by logind, the sleep hook and the clocks",
            ],
        ),
        (
            "a hook that takes a minute",
            vec![Asleep((20., 20.), Logind), Slept((21., 27.), 6), Awake((81., 87.), Logind)],
            vec![
                "20.0 note 0",
                "51.0 resume Some(6.0) by the clocks",
                "112.0 again resume Some(6.0) by logind and the clocks",
            ],
        ),
        (
            "logind goes in the middle",
            vec![Asleep((20., 20.), Logind), Slept((21., 27.), 6), Lost(Logind)],
            vec!["20.0 note 0", "26.0 resume Some(6.0) by the clocks", "52.0 again resume Some(6.0) by the clocks"],
        ),
        (
            "past logind: the hook and the clocks",
            vec![Asleep((20., 20.), Hook), Slept((21., 27.), 6), Awake((21.5, 27.5), Hook)],
            vec![
                "20.0 note 10",
                "24.5 resume Some(6.0) by the sleep hook and the clocks",
                "52.5 again resume Some(6.0) by the sleep hook and the clocks",
            ],
        ),
        (
            "and a hook that could not tell the end",
            vec![Asleep((20., 20.), Hook), Slept((21., 27.), 6)],
            vec!["20.0 note 10", "31.0 resume Some(6.0) by the clocks", "141.0 again resume Some(6.0) by the clocks"],
        ),
        (
            "the clocks alone",
            vec![Slept((21., 27.), 6)],
            vec!["21.0 note 10", "26.0 resume Some(6.0) by the clocks", "52.0 again resume Some(6.0) by the clocks"],
        ),
        (
            "paused by its host, and given the time",
            vec![Awake((21., 21.), Hypervisor), Set((21.2, 21.2), 60)],
            vec![
                "21.0 note 60",
                "24.2 hypervisor None set 60 by the clocks and the hypervisor's hook",
                "52.2 again hypervisor None set 60 by the clocks and the hypervisor's hook",
            ],
        ),
        (
            "the clock alone, set twice",
            vec![Set((21., 21.), 60), Set((22., 22.), -1)],
            vec!["21.0 note 10", "27.0 clock None set 59 by the clocks", "53.0 again clock None set 59 by the clocks"],
        ),
        ("a sleep that never came", vec![Asleep((20., 20.), Logind)], vec!["20.0 note 0"]),
        (
            "and of which no source announced the end",
            vec![Asleep((20., 20.), Logind), Awake((300., 300.), Hypervisor)],
            vec![
                "20.0 note 0",
                "300.0 note 60",
                "303.0 hypervisor None by the hypervisor's hook",
                "331.0 again hypervisor None by the hypervisor's hook",
            ],
        ),
    ] {
        assert_eq!(play(&events), lines, "{what}");
    }
}

#[test]
fn one_sleep_is_reported_before_the_next() {
    for (what, events, lines) in [
        (
            "slept again at once, by logind",
            vec![
                Asleep((20., 20.), Logind),
                Awake((21., 26.), Logind),
                Asleep((22., 27.), Logind),
                Awake((23., 37.), Logind),
            ],
            vec![
                "20.0 note 0",
                "22.0 resume Some(6.0) by logind",
                "22.0 note 0",
                "26.0 resume Some(10.0) by logind",
                "54.0 again resume Some(10.0) by logind",
            ],
        ),
        (
            "and past it",
            vec![Slept((21., 27.), 6), Slept((23., 37.), 8), Slept((30., 50.), 6)],
            vec![
                "21.0 note 10",
                "23.0 resume Some(6.0) by the clocks",
                "23.0 note 10",
                "28.0 resume Some(8.0) by the clocks",
                "30.0 again resume Some(8.0) by the clocks",
                "30.0 note 10",
                "35.0 resume Some(6.0) by the clocks",
                "61.0 again resume Some(6.0) by the clocks",
            ],
        ),
        (
            "the hook's second sleep, whose clocks come before it says that it is over",
            vec![
                Asleep((20., 20.), Hook),
                Slept((21., 27.), 6),
                Asleep((22., 28.), Hook),
                Slept((23., 39.), 10),
                Awake((23.5, 39.5), Hook),
            ],
            vec![
                "20.0 note 10",
                "22.0 resume Some(6.0) by the clocks",
                "22.0 note 10",
                "26.5 resume Some(10.0) by the sleep hook and the clocks",
                "54.5 again resume Some(10.0) by the sleep hook and the clocks",
            ],
        ),
        (
            "one sleep in two parts: suspend-then-hibernate",
            vec![
                Asleep((20., 20.), Logind),
                Asleep((20.1, 20.1), Hook),
                Slept((21., 121.), 100),
                Awake((21.5, 121.5), Hook),
                Asleep((22., 122.), Hook),
                Slept((23., 1023.), 900),
                Awake((24., 1024.), Hook),
                Awake((25., 1025.), Logind),
            ],
            vec![
                "20.0 note 0",
                "28.0 resume Some(1000.0) by logind, the sleep hook and the clocks",
                "56.0 again resume Some(1000.0) by logind, the sleep hook and the clocks",
            ],
        ),
        (
            "the guard stops",
            vec![Asleep((20., 20.), Logind), Awake((21., 26.), Logind), End, End],
            vec!["20.0 note 0", "21.0 resume Some(6.0) by logind"],
        ),
    ] {
        assert_eq!(play(&events), lines, "{what}");
    }
}

#[test]
fn what_is_reported_twice_is_one_record_but_a_hypervisors_hook_always_has_its_own() {
    let late = [Asleep((20., 20.), Logind), Awake((21., 26.), Logind), Awake((30., 36.), Logind), Set((31., 37.), 5)];
    let lines = play(&late);
    assert_eq!(lines.iter().filter(|line| !line.contains("again") && !line.contains("note")).count(), 1, "{lines:?}");
    let asked = [21., 22., 30., 55., 90., 91.].map(|at| Awake((at, at), Hypervisor));
    let records = |line: &&String| !line.contains("again") && !line.contains("note");
    let lines = play(&asked);
    let records: Vec<_> = lines.iter().filter(records).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(records, ["25.0", "33.0", "58.0", "94.0"], "{lines:?}");
}

#[test]
fn no_stream_of_wake_ups_puts_it_off() {
    let asked: Vec<_> = (0..120).map(|n| Awake((100. + f64::from(n), 100.), Hypervisor)).collect();
    let lines = play(&asked);
    let records = lines.iter().filter(|line| !line.contains("again") && !line.contains("note")).count();
    assert!((3..=5).contains(&records), "{lines:?}");
    assert!(lines[1].starts_with("130.0 hypervisor"), "{lines:?}");
    // A clock that is never left alone neither.
    let set: Vec<_> = (0..120).map(|n| Set((100. + f64::from(n), 100.), 2)).collect();
    let lines = play(&set);
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lines[2].starts_with("160.0 again clock"), "{lines:?}");
}
