//! Many members in random order: joins, leaves, crashes, pauses, lost answers, requests that arrive twice, topics that come,
//! grow and go, members of both protocols, coordinators that die between deciding, storing and answering.
//!
//! At every moment no partition is read by two members, and nothing is known of who is gone. Left alone, the group ends up
//! stable with all partitions read, by those who are to read them.

mod clients;
mod world;

use self::world::World;

/// Seeds for each kind of run. Set `TIDEMARK_SEEDS` for more, `TIDEMARK_SEED` for one of them.
fn seeds(default: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    match number("TIDEMARK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIDEMARK_SEEDS").unwrap_or(default),
    }
}

#[test]
fn consumers_share_topics() {
    for seed in seeds(250) {
        let mut world = World::new(seed, false);
        world.run(120);
        world.settle();
        world.end();
    }
}

#[test]
fn consumers_of_both_protocols_share_topics() {
    for seed in seeds(250) {
        let mut world = World::new(seed, true);
        world.run(120);
        world.settle();
        world.end();
    }
}
