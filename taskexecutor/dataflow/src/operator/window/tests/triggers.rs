use super::*;

#[test]
fn without_a_trigger_the_global_window_never_fires() {
    Setup::of(GlobalWindows).tells(
        "
        push 1 1 2
        watermark max
        end
        ",
    );
}

#[test]
fn a_count_fires_with_all_that_the_window_holds() {
    let setup = Setup::of(GlobalWindows).trigger(CountTrigger::of(2));
    setup.tells(
        "
        push 1 2 1
        -> 1: 2 in global
        push 2 1 1
        -> 2: 2 in global
        -> 1: 4 in global
        watermark max
        end
        ",
    );
}

#[test]
fn a_purging_trigger_forgets_what_it_fired() {
    let trigger = PurgingTrigger::of(CountTrigger::of(2));
    Setup::of(TumblingWindows::of(ms(10)))
        .trigger(trigger)
        .tells(
            "
        push 1@0 1@1 1@2 1@12
        -> 1: 2 in 0..10
        watermark 30
        push 1@3 1@40 1@41
        -> 1: 2 in 40..50
        ",
        );
}

#[test]
fn within_the_allowed_lateness_each_late_record_fires_its_window_again() {
    let setup = Setup::of(TumblingWindows::of(ms(10))).lateness(5).late();
    setup.tells(
        "
        push 1@1
        watermark 9
        -> 1: 1 in 0..10
        push 1@2 1@3 2@4
        -> 1: 2 in 0..10
        -> 1: 3 in 0..10
        -> 2: 1 in 0..10
        watermark 13
        push 1@2
        -> 1: 4 in 0..10
        watermark 14
        push 1@2 1@14
        -> late 1@2
        watermark max
        -> 1: 1 in 10..20
        ",
    );
}

#[test]
fn lateness_counts_for_each_of_the_windows_of_a_record() {
    let setup = Setup::of(SlidingWindows::of(ms(10), ms(5)))
        .lateness(2)
        .late();
    setup.tells(
        "
        push 1@6
        watermark 10
        -> 1: 1 in 0..10
        push 1@7
        -> 1: 2 in 0..10
        watermark 11
        push 1@8
        watermark 16
        -> 1: 3 in 5..15
        push 1@9 1@10
        -> late 1@9
        watermark max
        -> 1: 1 in 10..20
        ",
    );
}

#[test]
fn a_purged_window_starts_from_nothing_when_late_records_come() {
    let trigger = PurgingTrigger::of(EventTimeTrigger);
    let setup = Setup::of(TumblingWindows::of(ms(10))).trigger(trigger);
    setup.lateness(10).tells(
        "
        push 1@1 1@2
        watermark 9
        -> 1: 2 in 0..10
        push 1@3
        -> 1: 1 in 0..10
        watermark max
        ",
    );
}

#[test]
fn a_continuous_trigger_of_event_time_fires_at_each_multiple_and_at_the_end() {
    let trigger = ContinuousEventTimeTrigger::of(ms(4));
    let setup = Setup::of(TumblingWindows::of(ms(10))).trigger(trigger);
    setup.tells(
        "
        push 1@1 1@2
        watermark 3
        watermark 4
        -> 1: 2 in 0..10
        push 1@7
        watermark 9
        -> 1: 3 in 0..10
        -> 1: 3 in 0..10
        ",
    );
    let setup = Setup::of(GlobalWindows).trigger(ContinuousEventTimeTrigger::of(ms(4)));
    setup.tells(
        "
        push 1@1
        watermark 4
        -> 1: 1 in global
        push 1@5
        watermark max
        -> 1: 2 in global
        -> 1: 2 in global
        ",
    );
}

#[test]
fn a_continuous_trigger_of_event_time_goes_on_in_a_session_that_grows() {
    let trigger = ContinuousEventTimeTrigger::of(ms(10));
    let setup = Setup::of(SessionWindows::with_gap(ms(8))).trigger(trigger);
    setup.tells(
        "
        push 1@1 1@14
        watermark 8
        -> 1: 1 in 1..9
        push 1@9
        watermark 12
        watermark max
        -> 1: 2 in 9..22
        -> 1: 2 in 9..22
        ",
    );
}

#[test]
fn a_continuous_trigger_of_processing_time_fires_at_each_multiple() {
    let trigger = ContinuousProcessingTimeTrigger::of(ms(10));
    let setup = Setup::of(GlobalWindows).trigger(trigger);
    setup.tells(
        "
        clock 3
        push 1 2
        clock 10
        clock 11
        -> 1: 1 in global
        -> 2: 1 in global
        push 1
        clock 45
        -> 1: 2 in global
        -> 2: 1 in global
        clock 51
        -> 1: 2 in global
        -> 2: 1 in global
        push 3
        end
        -> 1: 2 in global
        -> 3: 1 in global
        -> 2: 1 in global
        ",
    );
}

#[test]
fn a_trigger_of_processing_time_may_fire_windows_of_event_time() {
    let setup = Setup::of(TumblingWindows::of(ms(10)));
    setup
        .trigger(ContinuousProcessingTimeTrigger::of(ms(100)))
        .tells(
            "
        push 1@3
        clock 101
        -> 1: 1 in 0..10
        watermark 9
        clock 1000
        ",
        );
}

#[test]
fn a_delta_fires_when_a_record_is_far_from_the_one_that_fired() {
    let delta = |(_, a): &Reading, (_, b): &Reading| f64::from((b - a).abs());
    let setup = Setup::of(GlobalWindows).trigger(DeltaTrigger::of(10.0, delta));
    setup.tells(
        "
        push 1:100 1:110 1:111
        -> 1: 3 in global
        push 1:115 1:100
        -> 1: 5 in global
        ",
    );
}

/// Fires at the first record of a window, and 5 ms of event time after it, unless a record with value 7 comes.
struct Early;

impl Trigger<Reading> for Early {
    type State = Option<i64>;

    fn on_element(
        &self,
        record: &Reading,
        time: EventTime,
        _: TimeWindow,
        due: &mut Option<i64>,
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        match *due {
            None => {
                *due = Some(time.0 + 5);
                context.register_event_time_timer(EventTime(time.0 + 5));
                TriggerResult::Fire
            }
            Some(due) if record.1 == 7 => {
                context.delete_event_time_timer(EventTime(due));
                TriggerResult::Purge
            }
            Some(_) => TriggerResult::Continue,
        }
    }

    fn on_event_time(
        &self,
        time: EventTime,
        _: TimeWindow,
        due: &mut Option<i64>,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        assert_eq!(*due, Some(time.0));
        TriggerResult::Fire
    }

    fn on_merge(
        &self,
        _: TimeWindow,
        due: &mut Option<i64>,
        absorbed: Vec<Option<i64>>,
        context: &mut TriggerContext<'_>,
    ) {
        *due = absorbed.into_iter().chain([*due]).flatten().min();
        if let Some(due) = *due {
            context.register_event_time_timer(EventTime(due));
        }
    }
}

#[test]
fn a_trigger_of_ones_own_sets_and_deletes_timers() {
    Setup::of(TumblingWindows::of(ms(100)))
        .trigger(Early)
        .tells(
            "
        push 1@3
        -> 1: 1 in 0..100
        push 2@3 1@4 2:7@4
        -> 2: 1 in 0..100
        watermark 50
        -> 1: 2 in 0..100
        push 1@60
        watermark max
        ",
        );
    Setup::of(SessionWindows::with_gap(ms(20)))
        .trigger(Early)
        .tells(
            "
        push 1@30 1@0
        -> 1: 1 in 30..50
        -> 1: 1 in 0..20
        push 1@15
        watermark 10
        -> 1: 3 in 0..50
        watermark max
        ",
        );
}
