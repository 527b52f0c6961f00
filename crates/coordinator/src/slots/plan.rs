//! Who should own which slot. No I/O, and the same on every coordinator that knows the same.

use std::collections::BTreeMap;

use tidemark_model::route::SLOTS;
use tidemark_model::{NodeId, Slot, SlotId};

/// The coordinators whose leases live, and their incarnations.
pub(super) type Live = BTreeMap<NodeId, u64>;

/// What one coordinator should do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// Slots without a living owner, to be taken.
    pub(super) take: Vec<SlotId>,
    /// Slots that are this coordinator's, to be given to others.
    pub(super) hand_over: Vec<(SlotId, NodeId)>,
}

/// What `me` should do where `slots` are owned so.
pub(super) fn steps(me: NodeId, live: &Live, slots: &BTreeMap<SlotId, Slot>) -> Steps {
    let mut steps = Steps::default();
    for (id, target) in targets(live, slots) {
        match owner(live, slots.get(&id)) {
            None if target == me => steps.take.push(id),
            Some(owner) if owner == me && target != me => steps.hand_over.push((id, target)),
            _ => {}
        }
    }
    steps
}

/// Who should own each slot: as many each, to one, and as few moves as that takes.
fn targets(live: &Live, slots: &BTreeMap<SlotId, Slot>) -> BTreeMap<SlotId, NodeId> {
    let all = || (0..SLOTS).map(SlotId);
    let mut owned: BTreeMap<NodeId, usize> = live.keys().map(|id| (*id, 0)).collect();
    for id in all() {
        if let Some(count) = owner(live, slots.get(&id)).and_then(|owner| owned.get_mut(&owner)) {
            *count += 1;
        }
    }
    let (each, more) = match owned.len() {
        0 => return BTreeMap::new(),
        count => (SLOTS as usize / count, SLOTS as usize % count),
    };
    // Where it does not divide evenly, some of those who have more keep one more. The same ones while the rest moves:
    // how many they have does not matter.
    let mut shares: Vec<(NodeId, usize)> = owned.into_iter().collect();
    shares.sort_by_key(|(id, count)| (*count <= each, *id));
    let mut room: BTreeMap<NodeId, usize> =
        shares.into_iter().enumerate().map(|(at, (id, _))| (id, each + usize::from(at < more))).collect();

    let mut targets = BTreeMap::new();
    let mut homeless = Vec::new();
    for id in all() {
        match owner(live, slots.get(&id)).and_then(|owner| Some((owner, room.get_mut(&owner)?))) {
            Some((owner, room)) if *room > 0 => {
                *room -= 1;
                targets.insert(id, owner);
            }
            _ => homeless.push(id),
        }
    }
    // The room is as large as the slots are many.
    let places = room.into_iter().flat_map(|(id, room)| std::iter::repeat_n(id, room));
    targets.extend(homeless.into_iter().zip(places));
    targets
}

fn owner(live: &Live, slot: Option<&Slot>) -> Option<NodeId> {
    slot.filter(|slot| live.get(&slot.owner) == Some(&slot.incarnation)).map(|slot| slot.owner)
}

#[cfg(test)]
mod tests;
