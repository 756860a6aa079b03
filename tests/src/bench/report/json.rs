// SPDX-License-Identifier: GPL-2.0-only
//! The report for programs, with every value.

use serde_json::{json, Value};

use super::Findings;
use crate::bench::claims::{Bound, Judged};
use crate::bench::samples::Series;
use crate::bench::stats::Summary;
use crate::host::vm::qemu::Clock;

/// Changes when its readers would break.
const VERSION: u32 = 1;

/// The whole report.
pub fn page(findings: &Findings) -> String {
    let about = &findings.about;
    let booted = about.booted.iter().map(|booted| {
        json!({
            "name": booted.kind,
            "kernel": booted.kernel,
            "seconds": booted.took.as_secs(),
            "counts_instructions": booted.clock == Clock::Instructions,
        })
    });
    let samples = &findings.samples;
    let series = samples
        .measurements()
        .into_iter()
        .flat_map(|m| samples.cases(m));
    let report = json!({
        "version": VERSION,
        "when": about.when.to_string(),
        "source": about.source,
        "machine": {
            "processor": about.processor,
            "processors": about.processors,
            "kernel": about.kernel,
            "load": about.load,
            "emulated": about.emulated,
        },
        "virtual_machines": booted.collect::<Vec<_>>(),
        "caution": about.caution(),
        "claims": findings.claims.iter().map(claim).collect::<Vec<_>>(),
        "figures": series.map(figure).collect::<Vec<_>>(),
        "troubles": findings.troubles,
    });
    format!("{report:#}\n")
}

fn claim(judged: &Judged) -> Value {
    let limit = match judged.bound {
        Bound::AtMost(limit) => json!({"at_most": limit}),
        Bound::AtLeast(limit) => json!({"at_least": limit}),
        Bound::Same => json!({"about": 1}),
        Bound::Never => json!({"exactly": 0}),
    };
    json!({
        "says": judged.says,
        "top": judged.top,
        "bottom": judged.bottom,
        "bound": limit,
        "ratio": judged.ratio.map(|r| r.ratio),
        "interval": judged.ratio.map(|r| [r.low, r.high]),
        "remark": judged.remark,
        "verdict": judged.verdict.text(),
    })
}

fn figure(series: &Series) -> Value {
    let summary = Summary::of(&series.values);
    json!({
        "measurement": series.measurement,
        "case": series.case,
        "unit": series.unit().name(),
        "median": summary.map(|s| s.median),
        "quartiles": summary.map(|s| [s.low, s.high]),
        "values": series.values,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::findings;
    use super::*;

    #[test]
    fn it_is_json_with_every_value() {
        let report: Value = serde_json::from_str(&page(&findings())).unwrap();
        assert_eq!(report["version"], VERSION);
        let failed = &report["claims"][2];
        assert_eq!(failed["verdict"], "holds");
        assert_eq!(failed["bound"]["exactly"], 0);
        let first = &report["figures"][0];
        assert_eq!(first["measurement"], "gap");
        assert_eq!(first["values"].as_array().map(Vec::len), Some(9));
        assert_eq!(first["unit"], "nanoseconds");
        assert!(report["claims"][0]["interval"][0].is_f64());
    }
}
