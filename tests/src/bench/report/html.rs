// SPDX-License-Identifier: GPL-2.0-only
//! The report as one page, which needs no other file, no network and no script, on a screen by day or night, and on paper.

use std::fmt::{self, Write as _};

use super::text::{about, outcome};
use super::{plot, Findings};
use crate::bench::claims::{Judged, Verdict};
use crate::bench::samples::{Series, Unit};
use crate::bench::stats::Summary;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub fn page(findings: &Findings) -> String {
    let mut page = String::new();
    // A String takes all that is written to it.
    let _ = write(&mut page, findings);
    page
}

/// `text` so that it is only text in HTML, in an attribute too.
pub fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A sentence with `code` in it.
fn sentence(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let part = |(index, part): (usize, &str)| match index % 2 {
        0 => safe(part),
        _ => format!("<code>{}</code>", safe(part)),
    };
    parts.map(part).collect()
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Fails => "fails",
        Verdict::CannotTell => "unclear",
        Verdict::NotMeasured => "absent",
    }
}

fn write(page: &mut String, findings: &Findings) -> fmt::Result {
    let about = &findings.about;
    let mood = match (findings.count(Verdict::Fails), findings.troubles.is_empty()) {
        (0, true) => "good",
        _ => "bad",
    };
    let when = about.when.strftime("%Y-%m-%d %H:%M UTC");
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>iommuctl bench, {when}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>iommuctl bench</h1>\n<p class=\"headline {mood}\">{}</p>\n<p class=\"caution\">{}</p>\n</header>\n\
         <main>\n",
        safe(&findings.headline()),
        safe(about.caution()),
    )?;
    if !findings.troubles.is_empty() {
        page.write_str("<h2>What went wrong</h2>\n<ul class=\"troubles\">\n")?;
        for trouble in &findings.troubles {
            writeln!(page, "<li>{}</li>", safe(trouble))?;
        }
        page.write_str("</ul>\n")?;
    }
    claims(page, &findings.claims)?;
    page.write_str("<h2>Figures</h2>\n")?;
    figures(page, findings)?;
    page.write_str("<h2>Where they are from</h2>\n<dl>\n")?;
    for (name, value) in about.lines() {
        writeln!(page, "<dt>{}</dt><dd>{}</dd>", safe(name), safe(&value))?;
    }
    page.write_str("</dl>\n</main>\n</body>\n</html>\n")
}

fn claims(page: &mut String, claims: &[Judged]) -> fmt::Result {
    page.write_str(
        "<h2>Claims</h2>\n<p class=\"soft\">Each is about the ratio of two medians. The dot is that ratio, the bar around it \
         where it lies with 95 % (bootstrap over the rounds), the line in the middle its limit, and the ground on the good \
         side is green. The bar is drawn on a logarithmic scale, a hundredfold to each side; where two things are to be the \
         same, 10 % to each side.</p>\n<div class=\"claims\">\n",
    )?;
    for judged in claims {
        writeln!(
            page,
            "<div class=\"row\"><div class=\"verdict {}\">{}</div><div class=\"says\">{}<small>{}</small></div>\
             <div class=\"ratio\">{}<small>{}</small></div></div>",
            class(judged.verdict),
            judged.verdict.text(),
            sentence(&judged.says),
            safe(&about(judged)),
            plot::claim(judged),
            safe(&outcome(judged))
        )?;
    }
    page.write_str("</div>\n")
}

/// Measurements whose cases are the same numbers.
struct Family<'a> {
    unit: Unit,
    numbers: Vec<u32>,
    members: Vec<(&'a str, Vec<&'a Series>)>,
}

/// What is measured over numbers is drawn together, everything else by itself.
fn figures(page: &mut String, findings: &Findings) -> fmt::Result {
    let samples = &findings.samples;
    let mut families: Vec<Family<'_>> = Vec::new();
    let mut single = Vec::new();
    for name in samples.measurements() {
        let cases = samples.cases(name);
        let numbers: Vec<u32> = cases.iter().filter_map(|series| series.number()).collect();
        if numbers.len() < 2 || numbers.len() < cases.len() {
            single.push((name, cases));
            continue;
        }
        let unit = Unit::of(name);
        let family = families
            .iter_mut()
            .find(|family| family.unit == unit && family.numbers == numbers);
        match family {
            Some(family) => family.members.push((name, cases)),
            None => families.push(Family {
                unit,
                numbers,
                members: vec![(name, cases)],
            }),
        }
    }
    for (name, cases) in &single {
        if cases.is_empty() {
            continue;
        }
        writeln!(
            page,
            "<section>\n<h3>{}</h3>\n<div class=\"wide\">{}</div>",
            safe(name),
            plot::strips(name, cases)
        )?;
        table(page, &[(name, cases.clone())])?;
        page.write_str("</section>\n")?;
    }
    for family in &families {
        let names: Vec<&str> = family.members.iter().map(|(name, _)| *name).collect();
        writeln!(
            page,
            "<section>\n<h3>{}</h3>\n<div class=\"wide\">{}</div>\n<ul class=\"legend\">",
            safe(&names.join(", ")),
            plot::curves(&family.members)
        )?;
        for (index, name) in names.iter().enumerate() {
            writeln!(
                page,
                "<li><svg viewBox=\"0 0 36 12\"><g class=\"{}\"><line class=\"curve\" x1=\"0\" x2=\"36\" y1=\"6\" y2=\"6\"/>\
                 <circle class=\"point\" cx=\"18\" cy=\"6\" r=\"4\"/></g></svg>{}</li>",
                plot::colour(index),
                safe(name)
            )?;
        }
        page.write_str("</ul>\n")?;
        table(page, &family.members)?;
        page.write_str("</section>\n")?;
    }
    if samples.measurements().is_empty() {
        page.write_str("<p>Nothing was measured.</p>\n")?;
    }
    Ok(())
}

fn table(page: &mut String, measurements: &[(&str, Vec<&Series>)]) -> fmt::Result {
    let several = measurements.len() > 1;
    let first = if several {
        "<th scope=\"col\">Measurement</th>"
    } else {
        ""
    };
    write!(
        page,
        "<div class=\"wide\"><table>\n<thead><tr>{first}<th scope=\"col\">Case</th><th scope=\"col\">Rounds</th>\
         <th scope=\"col\">Median</th><th scope=\"col\">Quartiles</th><th scope=\"col\">All</th></tr></thead>\n<tbody>\n"
    )?;
    for (name, cases) in measurements {
        for series in cases {
            let Some(summary) = Summary::of(&series.values) else {
                continue;
            };
            let first = match several {
                true => format!("<td>{}</td>", safe(name)),
                false => String::new(),
            };
            let value = |value| series.unit().text(value);
            writeln!(
                page,
                "<tr>{first}<td>{}</td><td>{}</td><td><b>{}</b></td><td>{} to {}</td><td>{} to {}</td></tr>",
                safe(&series.case),
                summary.rounds,
                value(summary.median),
                value(summary.low),
                value(summary.high),
                value(summary.least),
                value(summary.most)
            )?;
        }
    }
    page.write_str("</tbody>\n</table></div>\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::findings;
    use super::*;

    #[test]
    fn the_page_is_whole_and_needs_nothing() {
        let page = page(&findings());
        for tag in ["svg", "table", "section", "div", "ul", "g", "tr"] {
            let opened = page.matches(&format!("<{tag}>")).count();
            let opened = opened + page.matches(&format!("<{tag} ")).count();
            let closed = page.matches(&format!("</{tag}>")).count();
            assert_eq!(opened, closed, "<{tag}>");
        }
        for word in ["<script", "http://", "https://", "url(", "@import", "NaN"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn nothing_from_outside_is_markup() {
        let page = page(&findings());
        assert!(page.contains("A &lt;fast&gt; CPU") && page.contains("it &lt;broke&gt;"));
        assert!(!page.contains("<fast>") && !page.contains("<broke>"));
    }

    #[test]
    fn each_verdict_has_its_look() {
        let page = page(&findings());
        for class in ["holds", "fails", "unclear", "absent"] {
            assert!(page.contains(&format!("verdict {class}")), "{class}");
        }
    }
}
