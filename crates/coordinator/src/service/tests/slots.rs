//! Slots over coordinators that come, go, stop and wake up.

mod cases;
mod etcd;
mod kit;

use super::on_both;

on_both! { cases:
    one_coordinator_owns_all_slots_and_can_be_found;
    slots_spread_over_coordinators_as_they_come_and_go;
    a_clean_shutdown_hands_everything_over_at_once;
    who_takes_a_slot_reads_all_that_was_acknowledged;
    the_slots_of_a_dead_coordinator_are_taken_within_its_lease_and_a_second;
    a_woken_owner_writes_nothing_and_confirms_nothing;
    writes_of_one_slot_keep_their_order_and_go_together;
    one_lost_slot_fails_only_its_own_writes;
    a_transaction_that_arrives_late_changes_nothing;
    a_lost_lease_is_had_again_and_nothing_else_changes;
    a_process_of_the_same_name_takes_its_place_for_good;
}
