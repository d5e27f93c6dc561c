//! Reads what the program says: its lines, and its metrics page.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};

/// The sum of a metric over the series of a page that have these labels.
pub fn sum(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (series, value) = rest.rsplit_once(' ')?;
        let own = series.is_empty() || series.starts_with('{');
        (own && wanted.iter().all(|label| series.contains(label.as_str()))).then(|| value.parse::<f64>().ok())?
    });
    values.reduce(|a, b| a + b)
}

/// Collects lines as they come.
pub fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            sink.lock().unwrap().push(line);
        }
    });
    lines
}
