// SPDX-License-Identifier: GPL-2.0-only
//! Plots, as SVG that is part of a page: its colours come from the page's style, so that they suit the light and the dark.

use std::fmt::Write as _;

use super::axis::Scale;
use super::html::safe;
use crate::bench::claims::{Bound, Judged};
use crate::bench::samples::{digits, Series, Unit};
use crate::bench::stats::Summary;

/// How wide a plot is, in its own units.
const WIDTH: f64 = 760.0;
/// How many series have a colour of their own; the page's style has as many.
const COLOURS: usize = 8;
/// How far from its limit a ratio can be drawn, in powers of ten.
const FAR: f64 = 2.0;

/// The colour of the series with this number.
pub fn colour(index: usize) -> String {
    format!("s{}", index % COLOURS)
}

fn open(height: f64, label: &str) -> String {
    format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">\n",
        safe(label)
    )
}

/// Every round of each case as a point, with a line at the median; one row for each case.
pub fn strips(measurement: &str, cases: &[&Series]) -> String {
    let (left, row, foot) = (130.0, 34.0, 34.0);
    let unit = Unit::of(measurement);
    let summaries: Vec<(&Series, Summary)> = cases
        .iter()
        .filter_map(|series| Some((*series, Summary::of(&series.values)?)))
        .collect();
    let least = summaries
        .iter()
        .map(|(_, s)| s.least)
        .fold(f64::MAX, f64::min);
    let most = summaries.iter().map(|(_, s)| s.most).fold(0.0, f64::max);
    let scale = Scale::new(least, most, (left, WIDTH - 24.0));
    let rows = f64::from(u32::try_from(summaries.len()).unwrap_or(u32::MAX));
    let bottom = rows * row;
    let mut svg = open(
        bottom + foot,
        &format!("{measurement}: every round of each case"),
    );
    vertical(&mut svg, &scale, unit, bottom);
    let mut top = 0.0;
    for (index, (series, summary)) in summaries.iter().enumerate() {
        let middle = top + row / 2.0;
        // A String takes all that is written to it.
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{:.0}\" y=\"{:.1}\">{}</text>",
            left - 12.0,
            middle + 4.0,
            safe(&series.case)
        );
        let _ = write!(svg, "<g class=\"{}\">", colour(index));
        for value in &series.values {
            #[expect(clippy::cast_precision_loss, reason = "it is a place on a page")]
            let x = scale.at(*value as f64);
            let _ = write!(
                svg,
                "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"4\"/>"
            );
        }
        let x = scale.at(summary.median);
        let _ = writeln!(
            svg,
            "<line class=\"median\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"><title>median {}</title></line></g>",
            top + 5.0,
            top + row - 5.0,
            unit.text(summary.median)
        );
        top += row;
    }
    svg + "</svg>\n"
}

/// Grid lines across the height, with their values below.
fn vertical(svg: &mut String, scale: &Scale, unit: Unit, bottom: f64) {
    for tick in scale.ticks() {
        let x = scale.at(tick);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 4.0,
            bottom + 20.0,
            unit.text(tick)
        );
    }
}

/// The medians of several measurements over the numbers that their cases are, on logarithmic scales, with their quartiles.
pub fn curves(measurements: &[(&str, Vec<&Series>)]) -> String {
    let (left, right, top, bottom) = (86.0, WIDTH - 24.0, 12.0, 330.0);
    let mut points: Vec<Vec<(f64, Summary)>> = Vec::new();
    for (_, cases) in measurements {
        let point = |s: &&Series| Some((f64::from(s.number()?), Summary::of(&s.values)?));
        points.push(cases.iter().filter_map(point).collect());
    }
    let unit = measurements
        .first()
        .map_or(Unit::Time, |(name, _)| Unit::of(name));
    let all = || points.iter().flatten();
    let least = |of: &dyn Fn(&(f64, Summary)) -> f64| all().map(of).fold(f64::MAX, f64::min);
    let most = |of: &dyn Fn(&(f64, Summary)) -> f64| all().map(of).fold(1.0, f64::max);
    let across = Scale::log(least(&|p| p.0).max(1.0), most(&|p| p.0), (left, right));
    let floor = least(&|p| p.1.low).max(1.0);
    let up = Scale::log(floor, most(&|p| p.1.high), (bottom, top));
    let names: Vec<&str> = measurements.iter().map(|(name, _)| *name).collect();
    let mut svg = open(
        bottom + 46.0,
        &format!("{}: median by number", names.join(", ")),
    );
    for tick in up.ticks() {
        let y = up.at(tick);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{left:.0}\" x2=\"{right:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"name\" x=\"{:.0}\" y=\"{:.1}\">{}</text>",
            left - 10.0,
            y + 4.0,
            unit.text(tick)
        );
    }
    let mut numbers: Vec<f64> = all().map(|point| point.0).collect();
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    for number in numbers {
        let x = across.at(number);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.0}\" y2=\"{:.1}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{number:.0}</text>",
            bottom + 5.0,
            bottom + 21.0
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"tick\" x=\"{:.0}\" y=\"{:.0}\">groups</text>",
        (left + right) / 2.0,
        bottom + 40.0
    );
    for (index, points) in points.iter().enumerate() {
        curve(&mut svg, &colour(index), points, &across, &up);
    }
    svg + "</svg>\n"
}

fn curve(svg: &mut String, class: &str, points: &[(f64, Summary)], across: &Scale, up: &Scale) {
    let _ = write!(
        svg,
        "<g class=\"{class}\"><polyline class=\"curve\" points=\""
    );
    for (number, summary) in points {
        let _ = write!(
            svg,
            "{:.1},{:.1} ",
            across.at(*number),
            up.at(summary.median)
        );
    }
    let _ = write!(svg, "\"/>");
    for (number, summary) in points {
        let x = across.at(*number);
        let [low, middle, high] = [summary.low, summary.median, summary.high].map(|v| up.at(v));
        let _ = write!(
            svg,
            "<line class=\"spread\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\"/>\
             <circle class=\"point\" cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"4\"/>"
        );
    }
    let _ = writeln!(svg, "</g>");
}

/// How far the interval of a claim's ratio is from its limit: what is good lies left, the limit is where the ground changes.
/// Nothing where there is no ratio.
pub fn claim(judged: &Judged) -> String {
    let Some(ratio) = judged.ratio else {
        return String::new();
    };
    let (width, height) = (240.0, 30.0);
    // In powers of ten from the limit; where things are the same, ten percent are all.
    let far = |value: f64| match judged.bound {
        Bound::AtMost(limit) => (value / limit).log10() / FAR,
        Bound::AtLeast(limit) => (limit / value).log10() / FAR,
        Bound::Same | Bound::Never => (value - 1.0) / 0.10,
    };
    let place = |value: f64| (1.0 + far(value).clamp(-0.95, 0.95)) * width / 2.0;
    let (a, b) = (place(ratio.low), place(ratio.high));
    let (from, to) = (a.min(b), a.max(b));
    // The good ground.
    let (begin, end) = match judged.bound {
        Bound::AtMost(_) | Bound::AtLeast(_) => (0.0, width / 2.0),
        Bound::Same | Bound::Never => (place(0.98), place(1.02)),
    };
    let mut svg = format!(
        "<svg class=\"claim\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{} in {} to {}, {}\">",
        digits(ratio.ratio),
        digits(ratio.low),
        digits(ratio.high),
        judged.bound.text()
    );
    let _ = write!(
        svg,
        "<rect class=\"ground\" x=\"0\" y=\"5\" width=\"{width:.0}\" height=\"20\" rx=\"3\"/>\
         <rect class=\"good-ground\" x=\"{begin:.1}\" y=\"5\" width=\"{:.1}\" height=\"20\" rx=\"3\"/>\
         <line class=\"limit\" x1=\"{mid:.1}\" x2=\"{mid:.1}\" y1=\"1\" y2=\"29\"/>\
         <line class=\"interval\" x1=\"{from:.1}\" x2=\"{:.1}\" y1=\"15\" y2=\"15\"/>\
         <circle class=\"ratio\" cx=\"{:.1}\" cy=\"15\" r=\"5\"/></svg>",
        end - begin,
        to.max(from + 1.0),
        place(ratio.ratio),
        mid = width / 2.0,
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_zeroes_can_be_drawn() {
        let zeroes = Series {
            measurement: "failed-count".to_owned(),
            case: "none".to_owned(),
            values: vec![0; 5],
        };
        let svg = strips("failed-count", &[&zeroes]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 5);
    }
}
