//! `limits show`.

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use super::ask::{Answer, ask_all};
use super::table::{self, Column};
use super::whose;
use crate::cli::store::StoreArgs;
use crate::config::env::Env;
use crate::model::limits_view::{BucketView, CountedIn, LimitsQuery, LimitsView, SHOW_PATH, Whose};
use crate::model::units::Rate;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// E-mail or number of an account, or a client address (of IPv6: its /64)
    #[arg(value_name = "USER|ADDRESS")]
    whose: String,
}

/// Prints the buckets that are not full, of each gateway that runs on the data folder.
pub(super) async fn run(args: &ShowArgs, store: &StoreArgs, env: &Env, out: &mut impl Write) -> anyhow::Result<()> {
    let whose = whose::find(&args.whose, store, env).await?;
    let data_dir = store.settings(env)?.data_dir;
    let mut failed = Ok(());
    for Answer { pid, outcome } in ask_all(&data_dir, SHOW_PATH, &LimitsQuery { whose, policy: None })? {
        let done = outcome.and_then(|view| {
            print(whose, pid, &view, out)?;
            view.missing.map_or(Ok(()), |missing| bail!("gateway {pid}: not known: {missing}"))
        });
        failed = failed.and(done);
    }
    failed
}

fn print(whose: Whose, pid: u32, view: &LimitsView, out: &mut impl Write) -> std::io::Result<()> {
    let full = if view.buckets.is_empty() { "every bucket is full" } else { "buckets that are not full:" };
    writeln!(out, "gateway {pid}, {whose}: {full}")?;
    let columns = [
        Column::Left("POLICY"),
        Column::Left("LIMIT"),
        Column::Right("LEFT"),
        Column::Right("FULL AGAIN IN"),
        Column::Left("COUNTED IN"),
    ];
    let rows: Vec<_> = view.buckets.iter().map(row).collect();
    table::write(columns, &rows, out)
}

fn row(bucket: &BucketView) -> [String; 5] {
    let counted_in = match bucket.counted_in {
        CountedIn::Memory => "memory",
        CountedIn::Redis => "redis",
    };
    let (left, full_in) = (bucket.left.to_string(), seconds(bucket.full_in_ms));
    [bucket.scope.clone(), limit(bucket), left, full_in, counted_in.to_owned()]
}

/// `50/min+20`: the rate, and the burst on top.
fn limit(bucket: &BucketView) -> String {
    let period = Duration::from_millis(bucket.window_ms);
    let rate = match bucket.window_ms {
        1_000 | 60_000 | 3_600_000 | 86_400_000 => Rate { limit: bucket.limit, period }.to_string(),
        millis => format!("{}/{}", bucket.limit, seconds(millis)),
    };
    format!("{rate}+{}", bucket.burst)
}

/// Seconds with the tenth that is not earlier than the truth.
fn seconds(millis: u64) -> String {
    let tenths = millis.div_ceil(100);
    format!("{}.{}s", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_line() {
        let bucket = BucketView {
            scope: "match:route:match".to_owned(),
            limit: 50,
            burst: 20,
            window_ms: 60_000,
            left: 0,
            full_in_ms: 83_901,
            counted_in: CountedIn::Memory,
        };
        let third = BucketView { window_ms: 180_000, scope: "m:all".to_owned(), left: 70, ..bucket.clone() };
        let view = LimitsView { buckets: vec![bucket, third], missing: None };
        let mut text = Vec::new();
        print(Whose::User(7), 9, &view, &mut text).unwrap();
        let expected = "gateway 9, user 7: buckets that are not full:\n\
            POLICY             LIMIT         LEFT  FULL AGAIN IN  COUNTED IN\n\
            match:route:match  50/min+20        0          84.0s  memory\n\
            m:all              50/180.0s+20    70          84.0s  memory\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        let (mut text, view) = (Vec::new(), LimitsView { buckets: Vec::new(), missing: None });
        print(Whose::User(7), 9, &view, &mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "gateway 9, user 7: every bucket is full\n");
    }
}
