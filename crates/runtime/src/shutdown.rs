//! From a signal to a drained process.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long a service may take to finish what it has begun. Kubernetes kills after 30 s: this leaves it time to exit.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(25);

/// What a shell reports for a process that SIGINT ended.
const EXIT_INTERRUPTED: i32 = 130;

/// The work did not end in time after shutdown was asked for. The caller logs it and exits with an error: what was
/// under way is lost, as in a crash, and nothing that was acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("not drained {} s after shutdown was asked for", .0.as_secs())]
pub struct DrainTimedOut(pub Duration);

/// A token that is cancelled by SIGTERM or SIGINT. A second signal exits at once, without draining.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "shutting down: finishing what is under way, once more to exit at once");
        shutdown.cancel();
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "a second signal: exiting without draining");
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(token)
}

async fn next(
    terminate: &mut tokio::signal::unix::Signal,
    interrupt: &mut tokio::signal::unix::Signal,
) -> &'static str {
    tokio::select! {
        biased;
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Runs `work`, which ends by itself after `shutdown` is cancelled, and gives up on it `deadline` after that.
pub async fn drained<F: Future>(
    shutdown: &CancellationToken,
    deadline: Duration,
    work: F,
) -> Result<F::Output, DrainTimedOut> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        output = &mut work => return Ok(output),
        () = shutdown.cancelled() => {}
    }
    tokio::time::timeout(deadline, work).await.map_err(|_| DrainTimedOut(deadline))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_in_time_is_drained() {
        let token = CancellationToken::new();
        token.cancel();
        let work = async {
            tokio::time::sleep(DRAIN_DEADLINE / 2).await;
            7
        };
        assert_eq!(drained(&token, DRAIN_DEADLINE, work).await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_hangs_is_given_up_on_only_after_shutdown() {
        let token = CancellationToken::new();
        let start = tokio::time::Instant::now();
        let asked = Duration::from_secs(3_600);
        let trigger = token.clone();
        tokio::spawn(async move {
            tokio::time::sleep(asked).await;
            trigger.cancel();
        });
        let result = drained(&token, DRAIN_DEADLINE, std::future::pending::<()>()).await;
        assert!(result.is_err());
        assert_eq!(start.elapsed().as_secs(), (asked + DRAIN_DEADLINE).as_secs());
    }
}
