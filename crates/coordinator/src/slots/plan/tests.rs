use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tidemark_model::route::SLOTS;
use tidemark_model::{NodeId, Slot, SlotId};

use super::{Live, owner, steps, targets};

type Slots = BTreeMap<SlotId, Slot>;

fn live() -> impl Strategy<Value = Live> {
    btree_map((1..9_i32).prop_map(NodeId), 1..3_u64, 1..6)
}

/// Owners that live, that are gone, that are an older process of one that lives, and none.
fn slots() -> impl Strategy<Value = Slots> {
    btree_map(0..SLOTS, (1..9_i32, 1..3_u64), 0..=SLOTS as usize).prop_map(|slots| {
        let slot = |(id, (owner, incarnation))| Slot { id: SlotId(id), epoch: 3, owner: NodeId(owner), incarnation };
        slots.into_iter().map(slot).map(|slot| (slot.id, slot)).collect()
    })
}

fn counts(live: &Live, slots: &Slots) -> BTreeMap<NodeId, usize> {
    let mut counts: BTreeMap<NodeId, usize> = live.keys().map(|id| (*id, 0)).collect();
    for owner in slots.values().filter_map(|slot| owner(live, Some(slot))) {
        *counts.get_mut(&owner).unwrap() += 1;
    }
    counts
}

fn even(counts: &BTreeMap<NodeId, usize>) -> bool {
    counts.values().max().unwrap() - counts.values().min().unwrap() <= 1
}

/// What is to be done by anybody, in the order of the coordinators.
fn all_steps(live: &Live, slots: &Slots) -> Vec<(SlotId, NodeId)> {
    let of = |me: &NodeId| {
        let steps = steps(*me, live, slots);
        steps.take.into_iter().map(|id| (id, *me)).chain(steps.hand_over).collect::<Vec<_>>()
    };
    live.keys().flat_map(of).collect()
}

fn give(live: &Live, slots: &mut Slots, (id, to): (SlotId, NodeId)) {
    slots.insert(id, Slot { id, epoch: 4, owner: to, incarnation: live[&to] });
}

proptest! {
    #[test]
    fn shares_are_even_and_no_slot_moves_that_need_not(live in live(), slots in slots()) {
        let targets = targets(&live, &slots);
        prop_assert_eq!(targets.len(), SLOTS as usize);
        let mut shares: BTreeMap<NodeId, usize> = live.keys().map(|id| (*id, 0)).collect();
        targets.values().for_each(|target| *shares.get_mut(target).unwrap() += 1);
        prop_assert!(even(&shares), "{:?}", shares);

        // As many moves as the owners have too much, at the most favourable choice of who keeps one more.
        let (each, more) = (SLOTS as usize / live.len(), SLOTS as usize % live.len());
        let counts = counts(&live, &slots);
        let above = counts.values().filter(|count| **count > each).count();
        let least = counts.values().map(|count| count.saturating_sub(each)).sum::<usize>() - above.min(more);
        let moves = slots.values().filter(|slot| {
            owner(&live, Some(slot)).is_some_and(|owner| targets[&slot.id] != owner)
        });
        prop_assert_eq!(moves.count(), least);
    }

    #[test]
    fn each_slot_is_moved_by_one_coordinator_and_only_its_owner_gives_it_away(live in live(), slots in slots()) {
        let mut moved = all_steps(&live, &slots);
        moved.sort();
        let distinct = moved.windows(2).all(|pair| pair[0].0 != pair[1].0);
        prop_assert!(distinct, "{:?}", moved);
        for me in live.keys() {
            let steps = steps(*me, &live, &slots);
            let mine = |id| owner(&live, slots.get(id)) == Some(*me);
            let free = |id| owner(&live, slots.get(id)).is_none();
            prop_assert!(steps.hand_over.iter().all(|(id, to)| mine(id) && to != me && live.contains_key(to)));
            prop_assert!(steps.take.iter().all(free));
        }
    }

    /// Moves are made one by one, in any order, each by what is known then.
    #[test]
    fn moves_in_any_order_come_to_an_end_and_none_is_in_vain(
        live in live(),
        slots in slots(),
        choices in vec(any::<prop::sample::Index>(), 2 * SLOTS as usize),
    ) {
        let mut slots = slots;
        let planned = all_steps(&live, &slots).len();
        let mut made = 0;
        for choice in choices {
            let moves = all_steps(&live, &slots);
            if moves.is_empty() {
                break;
            }
            give(&live, &mut slots, *choice.get(&moves));
            made += 1;
        }
        prop_assert_eq!(all_steps(&live, &slots), vec![]);
        prop_assert!(even(&counts(&live, &slots)));
        prop_assert_eq!(made, planned);
    }
}

#[test]
fn a_process_that_is_not_the_owner_any_more_owns_nothing() {
    let live = Live::from([(NodeId(1), 2)]);
    let slot = Slot { id: SlotId(0), epoch: 3, owner: NodeId(1), incarnation: 1 };
    let steps = steps(NodeId(1), &live, &BTreeMap::from([(slot.id, slot)]));
    assert_eq!((steps.take.len(), steps.hand_over.len()), (SLOTS as usize, 0));
}
