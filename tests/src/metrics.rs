//! What a process tells of itself at `/metrics`, in Prometheus's text format.

use anyhow::{Context as _, Result};
use xtask::process::http_get;

/// The sum of a metric over its series whose labels hold all of `labels`; none where there is no such series.
pub fn metric(http: &str, name: &str, labels: &[&str]) -> Result<Option<f64>> {
    let (_, page) = http_get(http, "/metrics")?;
    sum(&page, name, labels)
}

fn sum(page: &str, name: &str, labels: &[&str]) -> Result<Option<f64>> {
    let series = page.lines().filter(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
        rest.is_some_and(|rest| labels.iter().all(|label| rest.contains(label)))
    });
    let mut sum = None;
    for line in series {
        let (_, value) = line.rsplit_once(' ').context("a metric has a value")?;
        sum = Some(sum.unwrap_or(0.0) + value.parse::<f64>().with_context(|| line.to_owned())?);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_their_whole_name_and_their_labels() {
        let page = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\"} 4\na_total 7\nb 0\nc one\n";
        let of = |name, labels: &[&str]| sum(page, name, labels).unwrap();
        assert_eq!(of("a", &[]), Some(7.0));
        assert_eq!(of("a", &["x=\"1\"", "y=\"2\""]), Some(3.0));
        assert_eq!(of("a", &["x=\"2\""]), None);
        assert_eq!((of("a_total", &[]), of("b", &[]), of("a_to", &[])), (Some(7.0), Some(0.0), None));
        assert!(sum(page, "c", &[]).is_err());
    }
}
