//! Medians of what was measured, side by side.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::system::Kind;

#[derive(Debug, Default)]
pub(super) struct Results {
    // In the order in which they were first measured.
    rows: Vec<String>,
    values: BTreeMap<(String, Kind), Vec<f64>>,
    disk: Vec<f64>,
    notes: Vec<String>,
}

impl Results {
    pub(super) fn add(&mut self, kind: Kind, row: &str, value: f64) {
        if !self.rows.iter().any(|known| known == row) {
            self.rows.push(row.to_owned());
        }
        self.values.entry((row.to_owned(), kind)).or_default().push(value);
    }

    /// Megabytes per second of the disk alone.
    pub(super) fn add_disk(&mut self, value: f64) {
        self.disk.push(value);
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(super) fn markdown(&self) -> String {
        let mut kinds: Vec<Kind> = self.values.keys().map(|(_, kind)| *kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let mut text = String::new();
        let mut line = |cells: Vec<String>| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        let mut head = vec![String::new()];
        for kind in &kinds {
            head.push(kind.to_string());
            if *kind != Kind::Kafka {
                head.push("ratio".to_owned());
            }
        }
        let columns = head.len();
        line(head);
        line((0..columns).map(|column| if column == 0 { "---" } else { "---:" }.to_owned()).collect());
        for row in &self.rows {
            let kafka = self.median(row, Kind::Kafka);
            let mut cells = vec![row.clone()];
            for kind in &kinds {
                let value = self.median(row, *kind);
                cells.push(value.map_or_else(String::new, shown));
                if *kind != Kind::Kafka {
                    let ratio = value.zip(kafka).map(|(ours, theirs)| format!("{:.2}x", ours / theirs));
                    cells.push(ratio.unwrap_or_default());
                }
            }
            line(cells);
        }
        if let Some(disk) = median(self.disk.clone()) {
            let _ =
                writeln!(text, "\nThe disk alone: {disk:.0} MB/s written in sequence with an fdatasync every 8 MB.");
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }

    fn median(&self, row: &str, kind: Kind) -> Option<f64> {
        median(self.values.get(&(row.to_owned(), kind))?.clone())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { values[middle - 1].midpoint(upper) })
}

fn shown(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let mut results = Results::default();
        for value in [100.0, 300.0, 200.0] {
            results.add(Kind::Kafka, "produce", value);
        }
        for value in [300.0, 500.0] {
            results.add(Kind::Standalone, "produce", value);
        }
        results.add_disk(800.0);
        let table = results.markdown();
        assert!(table.contains("\n| produce | 200 | 400 | 2.00x |\n"), "{table}");
        assert!(table.contains("The disk alone: 800 MB/s"), "{table}");
    }
}
