use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const fn place(slot: u32) -> Place {
    Place {
        group: slot % 3,
        slot: slot / 3,
    }
}

fn due(timers: &mut Timers, time: i64) -> Vec<(i64, Place)> {
    std::iter::from_fn(|| timers.pop(EventTime(time)))
        .map(|(time, place)| (time.0, place))
        .collect()
}

#[test]
fn timers_fire_once_each_in_order_of_time_and_then_of_registration() {
    let mut timers = Timers::new(3);
    let day = 86_400_000;
    for (slot, time) in [
        (5, 20),
        (1, 10),
        (2, 20),
        (1, 10),
        (0, 20),
        (3, 30 * day),
        (4, -5),
    ] {
        timers.register(place(slot), EventTime(time));
    }
    let expected =
        [(-5, 4), (10, 1), (20, 5), (20, 2), (20, 0)].map(|(time, slot)| (time, place(slot)));
    assert_eq!(due(&mut timers, 20), expected);
    assert_eq!(due(&mut timers, 30 * day - 1), []);
    assert_eq!(due(&mut timers, i64::MAX), [(30 * day, place(3))]);
    assert_eq!(timers.next_time(), None);
}

#[test]
fn a_timer_for_a_time_that_is_past_fires_next() {
    let mut timers = Timers::new(3);
    timers.register(place(0), EventTime(100));
    timers.register(place(1), EventTime(100));
    timers.register(place(2), EventTime(101));
    let time = EventTime(1000);
    assert_eq!(timers.pop(time), Some((EventTime(100), place(0))));
    timers.register(place(3), EventTime(50));
    timers.register(place(4), EventTime(100));
    let rest = [(50, 3), (100, 1), (100, 4), (101, 2)].map(|(time, slot)| (time, place(slot)));
    assert_eq!(due(&mut timers, 1000), rest);
    timers.register(place(0), EventTime(1000));
    assert_eq!(timers.next_time(), Some(time));
    assert_eq!(due(&mut timers, 1000), [(1000, place(0))]);
}

#[test]
fn deleted_timers_do_not_gather() {
    let mut timers = Timers::new(3);
    for n in 0..1_000_000 {
        timers.register(place(0), EventTime(n + 3_600_000));
        timers.delete(place(0), EventTime(n + 3_600_000 - 1));
    }
    assert!(timers.dead <= DEAD_AT_LEAST, "{} are listed", timers.dead);
    assert_eq!(due(&mut timers, i64::MAX), [(4_599_999, place(0))]);
}

/// Times that are near, far and at the edges of the levels.
fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        -300_i64..600,
        (-3_i64..4).prop_map(|n| n << 16),
        (-3_i64..4).prop_map(|n| (n << 24) - 1),
        any::<i64>(),
    ]
}

#[derive(Debug, Clone)]
enum Action {
    Register(u32, i64),
    Delete(u32, i64),
    /// Fires up to this long after the last time, and registers another this long after each that fires.
    Advance(i64, Option<i64>),
}

fn action() -> impl Strategy<Value = Action> {
    let ahead = prop_oneof![0_i64..300, 0_i64..100_000, 0_i64..(1 << 27)];
    let again = prop::option::of(prop_oneof![-20_i64..40, 200_i64..70_000]);
    prop_oneof![
        6 => (0_u32..9, time()).prop_map(|(slot, time)| Action::Register(slot, time)),
        3 => (0_u32..9, time()).prop_map(|(slot, time)| Action::Delete(slot, time)),
        3 => (ahead, again).prop_map(|(ahead, again)| Action::Advance(ahead, again)),
    ]
}

proptest! {
    #[test]
    fn timers_agree_with_a_plain_ordered_set(start in prop_oneof![Just(i64::MIN), time()], actions in prop::collection::vec(action(), 0..80)) {
        let mut timers = Timers::new(3);
        // By time and slot, and the registration that each goes back to, for order.
        let mut model = BTreeMap::<(i64, u32), ()>::new();
        let mut now = start;
        assert_eq!(due(&mut timers, now), []);
        for action in actions {
            match action {
                Action::Register(slot, time) => {
                    timers.register(place(slot), EventTime(time));
                    model.insert((time, slot), ());
                }
                Action::Delete(slot, time) => {
                    timers.delete(place(slot), EventTime(time));
                    model.remove(&(time, slot));
                }
                Action::Advance(ahead, mut again) => {
                    now = now.saturating_add(ahead);
                    while let Some((time, at)) = timers.pop(EventTime(now)) {
                        let (&(first, _), ()) = model.first_key_value().unwrap();
                        prop_assert_eq!(time.0, first, "the earliest fires first");
                        let slot = at.slot * 3 + at.group;
                        prop_assert!(model.remove(&(time.0, slot)).is_some(), "a timer fires that was not registered");
                        // Once each time, lest it go on for ever.
                        if let Some(later) = again.take() {
                            let time = time.0.saturating_add(later);
                            timers.register(at, EventTime(time));
                            model.insert((time, slot), ());
                        }
                    }
                    prop_assert!(model.first_key_value().is_none_or(|((time, _), ())| *time > now), "all that is due has fired");
                }
            }
            prop_assert_eq!(timers.live, model.len());
            for slot in 0..9 {
                prop_assert_eq!(timers.has_any(place(slot)), model.keys().any(|(_, of)| *of == slot));
            }
            match (timers.next_time(), model.first_key_value()) {
                (Some(next), Some((&(first, _), ()))) => prop_assert!(next.0 <= first),
                (next, first) => prop_assert!(next.is_none() && first.is_none()),
            }
        }
    }
}
