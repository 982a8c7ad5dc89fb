//! The checks of the model of slots, each with a number of callers.

use super::{AT_MOST_N, NOT_PASSED, ONE_SLOT, SAME_N, SlotFault, SlotWait, Slots, WHOLE_ALONE};
use super::{Nested, Slot, Whole};
use crate::checker::{ALL_END, assert_broken, assert_kept, assert_promises};
use crate::kernel::Kernel;

const THREE: Slots = Slots {
    kernel: Kernel::Linux,
    roles: &[Slot(2), Slot(2), Slot(2)],
    wait: SlotWait::Threads,
    crashes: 3,
    fault: SlotFault::None,
};
const EVENTS: Slots = Slots { wait: SlotWait::Events, ..THREE };

#[test]
fn callers_of_two_slots_run_two_at_a_time_and_in_order() {
    for kernel in Kernel::ALL {
        assert_kept(Slots { kernel, ..THREE });
        assert_kept(Slots { kernel, ..EVENTS });
    }
    for kernel in Kernel::ALL {
        assert_kept(Slots { kernel, roles: &[Slot(2), Slot(2), Slot(2), Slot(2)], crashes: 2, ..THREE });
    }
    assert_kept(Slots { roles: &[Slot(2), Slot(2), Slot(2), Slot(2)], crashes: 2, ..EVENTS });
}

#[test]
fn a_caller_without_slots_waits_for_all_of_them() {
    for kernel in Kernel::ALL {
        assert_kept(Slots { kernel, roles: &[Slot(2), Slot(2), Slot(2), Whole], crashes: 2, ..THREE });
    }
    assert_kept(Slots { roles: &[Slot(2), Slot(2), Slot(2), Whole], crashes: 1, ..EVENTS });
}

#[test]
fn a_caller_without_slots_is_not_passed_by_later_callers_of_slots() {
    for kernel in Kernel::ALL {
        assert_kept(Slots { kernel, roles: &[Slot(2), Slot(2), Whole, Whole], crashes: 1, ..THREE });
    }
}

#[test]
fn a_nested_caller_that_has_inherited_nothing_waits_for_no_caller_that_waits_for_its_parent() {
    let roles = &[Slot(2), Nested(2, 0), Slot(2), Whole];
    for kernel in Kernel::ALL {
        // While both ask for each slot, each can take a slot that the other one is about to try.
        assert_promises(Slots { kernel, roles, crashes: 1, ..THREE });
    }
    assert_broken(Slots { roles, crashes: 0, fault: SlotFault::NestedQueues, ..THREE }, ALL_END);
}

#[test]
fn a_caller_with_another_number_is_refused_until_no_slot_is_held() {
    for kernel in Kernel::ALL {
        assert_kept(Slots { kernel, roles: &[Slot(2), Slot(2), Slot(1), Whole], ..THREE });
    }
}

#[test]
fn each_fault_of_the_slots_is_found() {
    let faulty = |fault| Slots { fault, crashes: 0, ..THREE };
    let one = |fault| Slots { roles: &[Slot(1), Slot(1), Slot(1)], ..faulty(fault) };
    assert_broken(one(SlotFault::SlotBeforeTurnstile), NOT_PASSED);
    assert_broken(Slots { roles: &[Slot(2), Whole], ..faulty(SlotFault::SlotWithoutLock) }, WHOLE_ALONE);
    let mixed = |fault| Slots { roles: &[Slot(2), Slot(1)], ..faulty(fault) };
    assert_broken(mixed(SlotFault::NoLookAtOthers), SAME_N);
    assert_broken(mixed(SlotFault::NoLookAtOthers), AT_MOST_N);
    assert_broken(mixed(SlotFault::LookBeforeTurnstile), SAME_N);
    let mixed_three = |fault| Slots { roles: &[Slot(2), Slot(1), Slot(2)], ..faulty(fault) };
    assert_broken(mixed_three(SlotFault::FirstLookIgnoresTurnstile), SAME_N);
    assert_broken(mixed(SlotFault::FirstLookBeforeSlot), SAME_N);
    assert_broken(faulty(SlotFault::FirstSlotKept), ONE_SLOT);
    assert_broken(faulty(SlotFault::SecondSlotKept), ONE_SLOT);
    let writers = |fault| Slots { roles: &[Slot(2), Slot(2), Whole], ..faulty(fault) };
    assert_broken(writers(SlotFault::SlotsIgnoreTheMark), NOT_PASSED);
    assert_broken(writers(SlotFault::FirstLookIgnoresTheMark), NOT_PASSED);
    assert_broken(Slots { wait: SlotWait::Events, ..one(SlotFault::NoTimer) }, ALL_END);
    assert_broken(Slots { wait: SlotWait::Events, ..one(SlotFault::WatchAfterTry) }, ALL_END);
}
