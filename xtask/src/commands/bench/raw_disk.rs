//! What the disk can do at most for somebody who acknowledges only what is on it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

const CHUNK: usize = 8 << 20;
const CHUNKS: usize = 128;

/// Megabytes per second, written in sequence with an fdatasync after each chunk.
pub(super) fn measure(dir: &Path) -> Result<f64> {
    let path = dir.join("raw-disk");
    let mut file = File::create(&path)?;
    let chunk = vec![0x5a; CHUNK];
    let began = Instant::now();
    for _ in 0..CHUNKS {
        file.write_all(&chunk)?;
        file.sync_data()?;
    }
    let took = began.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok((CHUNK * CHUNKS) as f64 / took / 1e6)
}
