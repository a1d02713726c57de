//! The picture: for each scenario the share of requests answered over time, without the guard and with it.

use std::fmt::Write as _;

use crate::Scenario;
use crate::run::{Kind, Run};

/// Seconds before and after the event that are shown.
const BEFORE: f64 = 8.0;
const AFTER: f64 = 20.0;
/// Seconds that one column stands for.
const COLUMN: f64 = 0.25;

const LEFT: f64 = 80.0;
const WIDTH: f64 = 780.0;
const LANE: f64 = 24.0;
const ROW: f64 = 88.0;
const TOP: f64 = 46.0;

/// An SVG with dark text on white, so that it reads on any page; words in the lanes repeat what the colours mean.
pub fn svg(scenarios: &[Scenario]) -> String {
    let height = TOP + ROW * scenarios.len() as f64 + 30.0;
    let total = LEFT + WIDTH + 20.0;
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {total} {height}' font-family='sans-serif' font-size='12'>\n\
         <rect width='100%' height='100%' fill='white'/>\n\
         <text x='10' y='20' font-size='15' font-weight='bold'>Requests answered over time: HTTP through the NodePort, \
         ping to the pod</text>\n\
         <text x='10' y='37' fill='#444'>Full height: all of them. 0: the machine wakes, a process writes, or the pod is \
         set up again</text>\n"
    );
    for (number, scenario) in scenarios.iter().enumerate() {
        let top = TOP + ROW * number as f64;
        // A String takes every write.
        let _ = writeln!(
            svg,
            "<text x='10' y='{}' font-weight='bold'>{}. {}</text>",
            top + 16.0,
            number + 1,
            scenario.title.replace('&', "&amp;").replace('<', "&lt;")
        );
        lane(&mut svg, &scenario.bare, top + 23.0, "without", "#c0392b");
        lane(&mut svg, &scenario.guarded, top + 23.0 + LANE + 5.0, "with", "#1e8449");
        let _ = writeln!(
            svg,
            "<line x1='{0}' x2='{0}' y1='{1}' y2='{2}' stroke='black' stroke-dasharray='3 2'/>",
            x(0.0),
            top + 22.0,
            top + 23.0 + 2.0 * LANE + 6.0
        );
    }
    let axis = TOP + ROW * scenarios.len() as f64 + 10.0;
    for second in (-BEFORE as i32..=AFTER as i32).step_by(4) {
        let _ = writeln!(svg, "<text x='{}' y='{axis}' text-anchor='middle'>{second} s</text>", x(f64::from(second)));
    }
    svg.push_str("</svg>\n");
    svg
}

fn x(seconds: f64) -> f64 {
    LEFT + (seconds + BEFORE) / (BEFORE + AFTER) * WIDTH
}

fn lane(svg: &mut String, run: &Run, top: f64, label: &str, colour: &str) {
    let bottom = top + LANE;
    let _ = writeln!(svg, "<text x='{}' y='{}' text-anchor='end'>{label}</text>", LEFT - 8.0, bottom - 7.0);
    let _ = writeln!(svg, "<rect x='{LEFT}' y='{top}' width='{WIDTH}' height='{LANE}' fill='#f2f2f2'/>");
    let mut path = format!("M{} {bottom}", x(-BEFORE));
    for column in 0..((BEFORE + AFTER) / COLUMN) as usize {
        let from = column as f64 * COLUMN - BEFORE;
        let share = share_answered(run, run.event + from);
        let _ = write!(path, "L{:.1} {1:.1}L{2:.1} {1:.1}", x(from), bottom - share * LANE, x(from + COLUMN));
    }
    let _ = writeln!(svg, "<path d='{path}L{} {bottom}Z' fill='{colour}'/>", x(AFTER));
}

/// The share of the column's requests that were answered; the kind that fared worse counts. 0 if none was sent.
fn share_answered(run: &Run, from: f64) -> f64 {
    let share = |kind| {
        let column = run.of(kind).filter(|probe| (from..from + COLUMN).contains(&probe.sent));
        let (sent, answered) = column.fold((0.0_f64, 0.0_f64), |(sent, answered), probe| {
            (sent + 1.0, answered + f64::from(u8::from(probe.answered)))
        });
        answered / sent.max(1.0)
    };
    share(Kind::Http).min(share(Kind::Ping))
}
