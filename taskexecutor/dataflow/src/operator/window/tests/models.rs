//! Naive models that agree with the operators record by record, whatever comes in whatever order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The windows that hold an instant: looks at every window there is.
fn holding(time: i64, size: i64, slide: i64, offset: i64) -> Vec<(i64, i64)> {
    let around = (time.abs() + size + offset) / slide + 2;
    (-around..=around)
        .map(|n| offset + n * slide)
        .map(|start| (start, start + size))
        .filter(|(start, end)| (*start..*end).contains(&time))
        .collect()
}

/// Key, window and the values in it.
type Row = (u32, i64, i64, Vec<i32>);

fn listing(key: &u32, window: TimeWindow, mut values: Vec<i32>) -> Row {
    values.sort_unstable();
    (*key, window.start.0, window.end.0, values)
}

/// A rig that hands on the values of all records.
fn lister<Tr: Trigger<Reading>>(setup: Setup<Tr>) -> Rig<Row> {
    let output = |key: &u32, window: TimeWindow, records: Vec<Reading>| {
        listing(
            key,
            window,
            records.into_iter().map(|(_, value)| value).collect(),
        )
    };
    setup.rig(ToList, Results(output))
}

/// A trigger like the default, of which the operator does not know that it is.
struct Plain;

impl Trigger<Reading> for Plain {
    type State = ();

    fn on_element(
        &self,
        record: &Reading,
        time: EventTime,
        window: TimeWindow,
        state: &mut (),
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        EventTimeTrigger.on_element(record, time, window, state, context)
    }

    fn on_event_time(
        &self,
        time: EventTime,
        window: TimeWindow,
        state: &mut (),
        context: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        Trigger::<Reading>::on_event_time(&EventTimeTrigger, time, window, state, context)
    }

    fn on_merge(
        &self,
        window: TimeWindow,
        state: &mut (),
        absorbed: Vec<()>,
        context: &mut TriggerContext<'_>,
    ) {
        Trigger::<Reading>::on_merge(&EventTimeTrigger, window, state, absorbed, context);
    }
}

/// Records with their event times, then how far the watermark comes.
type Step = (Vec<(u32, i64)>, i64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let records = prop::collection::vec((0_u32..6, -50_i64..300), 0..30);
    prop::collection::vec((records, -60_i64..320), 0..20)
}

/// Runs the steps through the rig and the model, and compares what fires with each record batch and each watermark.
fn compare<M: Model>(
    rig: &mut Rig<Row>,
    model: &mut M,
    steps: Vec<Step>,
) -> Result<(), TestCaseError> {
    let (mut watermark, mut value) = (i64::MIN, 0);
    for (records, advance) in steps {
        let mut input = Vec::new();
        for (key, time) in records {
            value += 1;
            input.push(((key, value), time));
        }
        rig.push(&input);
        let mut expected = Vec::new();
        for ((key, value), time) in input {
            model.record(key, value, time, watermark, &mut expected);
        }
        let fired = rig.records();
        let fired: Vec<Row> = fired.into_iter().map(|(row, _)| row).collect();
        prop_assert_eq!(fired, expected, "at watermark {}", watermark);
        let before = watermark;
        watermark = watermark.max(advance);
        rig.operator.watermark(at(watermark)).unwrap();
        let fired = rig.records();
        let times: Vec<i64> = fired.iter().map(|(_, time)| *time).collect();
        prop_assert!(times.is_sorted(), "windows fire in the order of their ends");
        let mut fired: Vec<Row> = fired.into_iter().map(|(row, _)| row).collect();
        let mut expected = model.advance(before, watermark);
        fired.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(
            fired,
            expected,
            "from watermark {} to {}",
            before,
            watermark
        );
    }
    prop_assert_eq!(rig.dropped(), model.late());
    Ok(())
}

trait Model {
    fn record(&mut self, key: u32, value: i32, time: i64, watermark: i64, fired: &mut Vec<Row>);
    fn advance(&mut self, before: i64, watermark: i64) -> Vec<Row>;
    fn late(&self) -> u64;
}

struct AlignedModel {
    size: i64,
    slide: i64,
    offset: i64,
    lateness: i64,
    open: BTreeMap<(u32, i64, i64), Vec<i32>>,
    late: u64,
}

impl Model for AlignedModel {
    fn record(&mut self, key: u32, value: i32, time: i64, watermark: i64, fired: &mut Vec<Row>) {
        let mut windows = holding(time, self.size, self.slide, self.offset);
        windows.retain(|(_, end)| end - 1 + self.lateness > watermark);
        if windows.is_empty() && time + self.lateness <= watermark {
            self.late += 1;
        }
        // Latest first, as in Flink.
        for (start, end) in windows.into_iter().rev() {
            let values = self.open.entry((key, start, end)).or_default();
            values.push(value);
            if end - 1 <= watermark {
                fired.push((key, start, end, values.clone()));
            }
        }
    }

    fn advance(&mut self, before: i64, watermark: i64) -> Vec<Row> {
        let ended = |end: i64| before < end - 1 && end - 1 <= watermark;
        let all = self.open.iter();
        let fired = all.filter(|((_, _, end), _)| ended(*end));
        let fired = fired.map(|(&(key, start, end), values)| (key, start, end, values.clone()));
        let fired = fired.collect();
        let lateness = self.lateness;
        self.open
            .retain(|(_, _, end), _| end - 1 + lateness > watermark);
        fired
    }

    fn late(&self) -> u64 {
        self.late
    }
}

struct SessionModel {
    gap: i64,
    lateness: i64,
    open: Vec<Row>,
    late: u64,
}

impl Model for SessionModel {
    fn record(&mut self, key: u32, value: i32, time: i64, watermark: i64, fired: &mut Vec<Row>) {
        let mut session = (key, time, time + self.gap, Vec::new());
        let touches = |row: &Row| row.0 == key && row.1 <= time + self.gap && time <= row.2;
        let touching: Vec<Row> = self.open.extract_if(.., |row| touches(row)).collect();
        for (_, start, end, values) in touching {
            session.1 = session.1.min(start);
            session.2 = session.2.max(end);
            session.3.extend(values);
        }
        if session.2 - 1 + self.lateness <= watermark {
            self.late += 1;
            return;
        }
        session.3.push(value);
        session.3.sort_unstable();
        if session.2 - 1 <= watermark {
            fired.push(session.clone());
        }
        self.open.push(session);
    }

    fn advance(&mut self, before: i64, watermark: i64) -> Vec<Row> {
        let ended = |row: &&Row| before < row.2 - 1 && row.2 - 1 <= watermark;
        let fired = self.open.iter().filter(ended).cloned().collect();
        let lateness = self.lateness;
        self.open.retain(|row| row.2 - 1 + lateness > watermark);
        fired
    }

    fn late(&self) -> u64 {
        self.late
    }
}

fn aligned(size: i64, slide: i64, offset: i64) -> SlidingWindows {
    SlidingWindows::of(ms(size as u64), ms(slide as u64)).offset(ms(offset as u64))
}

const fn model(size: i64, slide: i64, offset: i64, lateness: i64) -> AlignedModel {
    AlignedModel {
        size,
        slide,
        offset: offset % slide,
        lateness,
        open: BTreeMap::new(),
        late: 0,
    }
}

proptest! {
    #[test]
    fn aligned_windows_agree_with_a_plain_model(
        steps in steps(), size in 1_i64..60, slide in 1_i64..60, offset in 0_i64..100, tumbling: bool,
    ) {
        let slide = if tumbling { size } else { slide };
        let mut rig = lister(Setup::of(aligned(size, slide, offset)));
        compare(&mut rig, &mut model(size, slide, offset, 0), steps)?;
    }

    #[test]
    fn aligned_windows_with_lateness_or_a_trigger_agree_with_a_plain_model(
        steps in steps(), size in 1_i64..60, slide in 1_i64..60, offset in 0_i64..100, lateness in 0_i64..80,
    ) {
        let setup = Setup::of(aligned(size, slide, offset)).trigger(Plain).lateness(lateness);
        compare(&mut lister(setup), &mut model(size, slide, offset, lateness), steps)?;
    }

    #[test]
    fn sessions_agree_with_a_plain_model(
        steps in steps(), gap in 1_i64..40, lateness in prop_oneof![Just(0), 0_i64..80],
    ) {
        let sessions = SessionWindows::with_gap(ms(gap as u64));
        let mut rig = lister(Setup::of(sessions).lateness(lateness));
        let mut model = SessionModel { gap, lateness, open: Vec::new(), late: 0 };
        compare(&mut rig, &mut model, steps)?;
    }

    #[test]
    fn counts_agree_with_the_records_themselves(
        steps in steps(), size in 1_i64..60, slide in 1_i64..60, offset in 0_i64..100,
    ) {
        // The same windows, shown records by one operator and given them by the other.
        let mut counts = Setup::of(aligned(size, slide, offset)).counting();
        let mut lists = lister(Setup::of(aligned(size, slide, offset)));
        for (records, advance) in steps {
            let records: Vec<_> = records.into_iter().map(|(key, time)| ((key, 0), time)).collect();
            counts.push(&records);
            lists.push(&records);
            counts.operator.watermark(at(advance)).unwrap();
            lists.operator.watermark(at(advance)).unwrap();
            let listed = lists.records().into_iter();
            let listed: Vec<Counted> = listed.map(|((key, start, end, values), _)| (key, start, end, values.len() as u64)).collect();
            let counted: Vec<Counted> = counts.records().into_iter().map(|(row, _)| row).collect();
            prop_assert_eq!(counted, listed);
        }
        prop_assert_eq!(counts.dropped(), lists.dropped());
    }
}
