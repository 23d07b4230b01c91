use std::sync::Mutex;

use super::*;

#[test]
fn a_tumbling_window_fires_when_the_watermark_reaches_its_last_instant() {
    Setup::of(TumblingWindows::of(ms(10))).tells(
        "
        push 1@3 1@9 2@3 1@10
        watermark 8
        watermark 9
        -> 1: 2 in 0..10
        -> 2: 1 in 0..10
        push 1@12
        watermark 40
        -> 1: 2 in 10..20
        push 1@39 1@40
        watermark max
        -> 1: 1 in 40..50
        ",
    );
}

#[test]
fn a_record_behind_the_watermark_still_counts_while_its_window_is_open() {
    let setup = Setup::of(TumblingWindows::of(ms(10))).late();
    setup.tells(
        "
        watermark 5
        push 1@2
        watermark 9
        -> 1: 1 in 0..10
        push 1@9 1@10
        -> late 1@9
        watermark max
        -> 1: 1 in 10..20
        ",
    );
}

#[test]
fn late_records_that_nobody_reads_are_dropped_and_counted() {
    let mut rig = Setup::of(TumblingWindows::of(ms(10))).counting();
    rig.operator.watermark(at(9)).unwrap();
    rig.push(&[((1, 0), 9), ((1, 0), 10), ((1, 0), -3)]);
    assert_eq!(rig.dropped(), 2);
}

#[test]
fn sliding_windows_share_what_they_have_in_common() {
    Setup::of(SlidingWindows::of(ms(10), ms(4))).tells(
        "
        push 1@0 1@5 2@7
        watermark 1
        -> 1: 1 in -8..2
        watermark 6
        -> 1: 2 in -4..6
        push 1@6
        watermark 10
        -> 1: 3 in 0..10
        -> 2: 1 in 0..10
        push 2@9
        watermark max
        -> 1: 2 in 4..14
        -> 2: 2 in 4..14
        -> 2: 1 in 8..18
        ",
    );
}

#[test]
fn a_record_between_two_windows_belongs_to_none() {
    let setup = Setup::of(SlidingWindows::of(ms(3), ms(10))).late();
    setup.tells(
        "
        push 1@2 1@3 1@9 1@10
        watermark 5
        -> 1: 1 in 0..3
        push 1@4 1@7
        -> late 1@4
        watermark max
        -> 1: 1 in 10..13
        ",
    );
}

#[test]
fn an_offset_moves_the_windows() {
    Setup::of(TumblingWindows::of(ms(10)).offset(ms(13))).tells(
        "
        push 1@2 1@3 1@12 1@-8
        watermark max
        -> 1: 1 in -17..-7
        -> 1: 1 in -7..3
        -> 1: 2 in 3..13
        ",
    );
}

#[test]
fn windows_of_processing_time_fire_when_their_last_millisecond_is_over() {
    Setup::of(TumblingWindows::of(ms(10)).on_processing_time()).tells(
        "
        clock 3
        push 1 2
        watermark 1000
        clock 9
        push 1
        clock 10
        -> 1: 2 in 0..10
        -> 2: 1 in 0..10
        push 1
        clock 4
        push 1
        clock 35
        -> 1: 2 in 10..20
        push 7
        end
        -> 7: 1 in 30..40
        ",
    );
    Setup::of(SlidingWindows::of(ms(10), ms(5)).on_processing_time()).tells(
        "
        clock 3
        push 1
        clock 7
        -> 1: 1 in -5..5
        push 1@1
        clock 10
        -> 1: 2 in 0..10
        end
        -> 1: 1 in 5..15
        ",
    );
}

#[test]
fn windows_before_the_epoch_are_aligned_to_it() {
    let windows = TumblingWindows::of(ms(10));
    for (time, start) in [(-1, -10), (-10, -10), (-11, -20), (0, 0)] {
        assert_eq!(
            windows.window_of(EventTime(time)).start,
            EventTime(start),
            "{time}"
        );
    }
}

#[test]
fn the_ends_of_time_do_not_overflow() {
    for (size, slide) in [(1000, 1000), (1000, 7), (7, 1000), (u64::MAX, u64::MAX)] {
        let setup = Setup::of(SlidingWindows::of(ms(size), ms(slide)).offset(ms(3)));
        let mut rig = setup.counting();
        rig.push(&[((1, 0), i64::MIN), ((2, 0), i64::MAX), ((3, 0), 0)]);
        rig.operator.watermark(Watermark::MAX).unwrap();
        let fired = rig.records();
        assert!(size < slide || fired.len() >= 3, "{fired:?}");
    }
}

#[test]
fn what_fires_in_one_run_fires_in_the_same_order_in_the_next() {
    let run = || {
        let mut rig = Setup::of(SlidingWindows::of(ms(20), ms(10))).counting();
        let records: Vec<_> = (0..3000_u32)
            .map(|n| ((n * 7 % 501, 0), i64::from(n % 100)))
            .collect();
        rig.push(&records);
        rig.operator.watermark(Watermark::MAX).unwrap();
        rig.records()
    };
    assert_eq!(run(), run());
}

/// Counts how often records are cloned.
#[derive(serde::Serialize, serde::Deserialize)]
struct Precious {
    #[serde(skip)]
    clones: Arc<Mutex<u32>>,
}

impl Clone for Precious {
    fn clone(&self) -> Self {
        *self.clones.lock().unwrap() += 1;
        Self {
            clones: Arc::clone(&self.clones),
        }
    }
}

#[test]
fn a_window_function_over_all_records_clones_none_of_them() {
    let (next, seen) = tape::<usize>();
    let spec = WindowSpec {
        selector: Arc::new(ByValue(|_: &Precious| ())),
        windows: TumblingWindows::of(ms(10)).into(),
        lateness_ms: 0,
        late: None,
    };
    let count = |_: &WindowContext<'_, ()>,
                 records: &Vec<Precious>,
                 out: &mut WindowOutput<'_, usize>| out.emit(records.len());
    let mut operator = window_operator(
        &context(0, 1),
        &spec,
        Arc::new(ToList),
        Arc::new(Contents(count)),
        Arc::new(EndOfWindow::Event),
        next,
    );
    let clones = Arc::new(Mutex::new(0));
    let mut batch = Batch::new();
    for time in 0..5 {
        batch.push(
            Precious {
                clones: Arc::clone(&clones),
            },
            Some(EventTime(time)),
        );
    }
    operator.push(&mut batch).unwrap();
    operator.watermark(Watermark::MAX).unwrap();
    assert_eq!(seen.lock().unwrap()[0], Seen::Record(5, Some(9)));
    assert_eq!(*clones.lock().unwrap(), 0);
}
