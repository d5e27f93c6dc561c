//! What the bench prints: a table for people, or one JSON object.

use anyhow::Result;
use serde_json::{Value, json};

use crate::options::Options;

/// The slices of one program and request kind.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    costs: Vec<f64>,
    busy: Vec<f64>,
}

/// Both programs at one request kind.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) kind: &'static str,
    pub(crate) base: Figures,
    pub(crate) other: Figures,
}

impl Figures {
    /// Adds a slice: its cost per request and, where known, the share of its time that the server worked.
    pub(crate) fn push(&mut self, cost: f64, busy: Option<f64>) {
        self.costs.push(cost);
        self.busy.extend(busy);
    }

    fn busy(&self) -> Option<f64> {
        (!self.busy.is_empty()).then(|| quantile(&self.busy, 0.5))
    }

    /// The 10th percentile of the cost: the least disturbed slices.
    fn p10(&self) -> f64 {
        quantile(&self.costs, 0.1)
    }

    fn median(&self) -> f64 {
        quantile(&self.costs, 0.5)
    }

    fn json(&self) -> Value {
        json!({"p10": self.p10(), "median": self.median(), "busy": self.busy(), "slices": self.costs.len()})
    }
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let index = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// Prints all rows. `unit` says what a cost is; `pinned`, whether servers and generator had a core each.
pub(crate) fn print(options: &Options, names: [&str; 2], unit: &str, pinned: bool, rows: &[Row]) -> Result<()> {
    if options.json {
        println!("{}", serde_json::to_string_pretty(&as_json(options, names, unit, pinned, rows))?);
        return Ok(());
    }
    let [base, other] = names;
    let cores = if pinned { "a core each for server and generator" } else { "server and generator on any core" };
    println!("{unit}; {} connections; {cores}", options.connections);
    println!("{:<6}{:<12}{:>10}{:>10}{:>8}{:>8}", "", "", "p10", "median", "busy", "slices");
    for row in rows {
        for (name, figures) in [(base, &row.base), (other, &row.other)] {
            let busy = figures.busy().map_or("-".to_owned(), |busy| format!("{:.0}%", busy * 100.0));
            let (p10, median, slices) = (figures.p10(), figures.median(), figures.costs.len());
            println!("{:<6}{name:<12}{p10:>10.2}{median:>10.2}{busy:>8}{slices:>8}", row.kind);
        }
        let (p10, median) = ratios(row);
        println!("{:<6}{:<12}{p10:>10.3}{median:>10.3}", row.kind, "ratio");
    }
    Ok(())
}

fn ratios(row: &Row) -> (f64, f64) {
    (row.other.p10() / row.base.p10(), row.other.median() / row.base.median())
}

fn as_json(options: &Options, names: [&str; 2], unit: &str, pinned: bool, rows: &[Row]) -> Value {
    let [base, other] = names;
    let kinds = rows.iter().map(|row| {
        let (p10, median) = ratios(row);
        let value = json!({base: row.base.json(), other: row.other.json(), "ratio": {"p10": p10, "median": median}});
        (row.kind.to_owned(), value)
    });
    json!({
        "unit": unit,
        "connections": options.connections,
        "requests_per_slice": options.requests,
        "pinned": pinned,
        "kinds": kinds.collect::<serde_json::Map<_, _>>(),
    })
}
