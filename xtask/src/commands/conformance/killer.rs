//! Kills coordinators by turns while clients are at work, who are not to notice.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use xtask::cluster::Services;

/// From the start of one to the next kill, and until a killed one is started again.
const BETWEEN_KILLS: Duration = Duration::from_secs(6);
const AWAY: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);

pub(super) struct Killer {
    stop: Arc<AtomicBool>,
    killed: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Killer {
    pub(super) fn start(services: &Arc<Mutex<Services>>, coordinators: usize) -> Self {
        let (stop, killed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let thread = {
            let (services, stop, killed) = (Arc::clone(services), Arc::clone(&stop), Arc::clone(&killed));
            std::thread::spawn(move || {
                let waits = |time: Duration| {
                    let until = Instant::now() + time;
                    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(TICK);
                    }
                    !stop.load(Ordering::Relaxed)
                };
                while waits(BETWEEN_KILLS) {
                    let count = killed.fetch_add(1, Ordering::Relaxed) as usize;
                    let name = format!("coordinator-{}", count % coordinators.max(1));
                    locked(&services).kill(&name).expect("a coordinator of this name");
                    waits(AWAY);
                    locked(&services).start_unready(&name).expect("it has started before");
                }
            })
        };
        Self { stop, killed, thread: Some(thread) }
    }

    pub(super) fn killed(&self) -> u32 {
        self.killed.load(Ordering::Relaxed)
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Why it panicked is on standard error.
            let _ = thread.join();
        }
    }
}

pub(super) fn locked(services: &Mutex<Services>) -> MutexGuard<'_, Services> {
    services.lock().unwrap_or_else(PoisonError::into_inner)
}
