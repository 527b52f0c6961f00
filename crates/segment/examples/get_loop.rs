//! What an object store gives to somebody who reads all segments in it by plain ranged GETs, one after another: the
//! measure for cold reads (`cargo xtask bench cold`). `get_loop URL [BYTES OF A RANGE]`; prints `name=value` lines.

#![allow(clippy::print_stdout, reason = "its output is its result")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use tidemark_model::Entropy;
use tidemark_segment::Bucket;

/// What a reader that knows where it wants to go asks for at once.
const RANGE: u64 = 4 << 20;

#[derive(Debug)]
struct Fixed;

impl Entropy for Fixed {
    /// Only jitter comes of it.
    fn next_u64(&self) -> u64 {
        4
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("which bucket? get_loop URL [BYTES OF A RANGE]")?;
    let range = args.next().map_or(Ok(RANGE), |bytes| bytes.parse())?;
    let bucket = Bucket::open(&url, std::env::vars(), Arc::new(Fixed))?;
    let mut objects = bucket.list("").await?;
    objects.retain(|object| object.key.ends_with(".segment"));
    let began = Instant::now();
    let mut bytes = 0;
    for object in &objects {
        for start in (0..object.size).step_by(range as usize) {
            bytes += bucket.get_range(&object.key, start..object.size.min(start + range)).await?.len();
        }
    }
    println!("objects={}", objects.len());
    println!("bytes={bytes}");
    println!("mb_per_s={:.1}", bytes as f64 / began.elapsed().as_secs_f64() / 1e6);
    Ok(())
}
