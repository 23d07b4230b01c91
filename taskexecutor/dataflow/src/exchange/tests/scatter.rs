//! Whatever way records get to a consumer, each gets its own, in order, with their event times.

use std::collections::BTreeMap;

use super::*;

type Emitted = Arc<Mutex<Vec<(usize, Buffer)>>>;

/// Keeps what is emitted. Of the consumers, one may run on the producer's thread; all but the last are in its process.
struct Kept {
    consumers: usize,
    beside: Option<usize>,
    emitted: Emitted,
}

impl ResultPartition for Kept {
    fn subpartitions(&self) -> usize {
        self.consumers
    }

    fn emit(&mut self, consumer: usize, buffer: Buffer) -> Result<(), TaskError> {
        self.emitted.lock().unwrap().push((consumer, buffer));
        Ok(())
    }

    fn is_local(&self, consumer: usize) -> bool {
        consumer + 1 < self.consumers || self.is_beside(consumer)
    }

    fn is_beside(&self, consumer: usize) -> bool {
        self.beside == Some(consumer)
    }
}

/// How records are dealt out.
#[derive(Debug, Clone, Copy)]
enum Way {
    ByKey,
    ToFirst,
    ToAll,
}

impl Way {
    fn partitioner<T: KeyOf + 'static>(self) -> Box<dyn Partitioner<T>> {
        match self {
            Self::ByKey => Box::new(HashPartitioner::new(
                Arc::new(ByValue(|record: &T| record.key())),
                128,
            )),
            Self::ToFirst => Box::new(Global),
            Self::ToAll => Box::new(Broadcast),
        }
    }

    fn consumers<T: KeyOf>(self, record: &T, consumers: usize) -> Vec<usize> {
        match self {
            Self::ByKey => {
                let group = key_group(key_hash(&record.key()), 128);
                vec![subtask_of(group, consumers as u32, 128) as usize]
            }
            Self::ToFirst => vec![0],
            Self::ToAll => (0..consumers).collect(),
        }
    }
}

trait KeyOf: crate::record::Record + PartialEq + std::fmt::Debug {
    fn of(key: u8, number: u64) -> Self;

    fn key(&self) -> u64;

    fn number(&self) -> u64;
}

impl KeyOf for (u64, u64) {
    fn of(key: u8, number: u64) -> Self {
        (u64::from(key), number)
    }

    fn key(&self) -> u64 {
        self.0
    }

    fn number(&self) -> u64 {
        self.1
    }
}

impl KeyOf for (String, u64) {
    fn of(key: u8, number: u64) -> Self {
        ("x".repeat(usize::from(key)), number)
    }

    fn key(&self) -> u64 {
        self.0.len() as u64
    }

    fn number(&self) -> u64 {
        self.1
    }
}

/// Batches of keys, with event times or without, and whether a flush follows.
type Batches = Vec<(Vec<u8>, bool, bool)>;

fn check<T: KeyOf>(consumers: usize, beside: Option<usize>, way: Way, batches: &Batches) {
    let emitted = Emitted::default();
    let partition = Kept {
        consumers,
        beside,
        emitted: Arc::clone(&emitted),
    };
    let mut writer = ExchangeWriter::<T>::new(
        Arc::from("map"),
        Box::new(partition),
        way.partitioner(),
        Arc::default(),
    );
    let mut expected: BTreeMap<usize, Vec<(T, Option<EventTime>)>> = BTreeMap::new();
    let mut number = 0;
    for (keys, timed, flush) in batches {
        let mut batch = Batch::new();
        for &key in keys {
            number += 1;
            let record = T::of(key, number);
            let timestamp = timed.then_some(EventTime(number as i64));
            for consumer in way.consumers(&record, consumers) {
                let all = expected.entry(consumer).or_default();
                all.push((record.clone(), timestamp));
            }
            batch.push(record, timestamp);
        }
        writer.push(&mut batch).unwrap();
        if *flush {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
    let mut came: BTreeMap<usize, Vec<(T, Option<EventTime>)>> = BTreeMap::new();
    for (consumer, buffer) in emitted.lock().unwrap().drain(..) {
        let all = came.entry(consumer).or_default();
        let before = all.len();
        let records = buffer.records as usize;
        match buffer.objects {
            Some(objects) => {
                let mut elements = objects.downcast::<LocalElements<T>>().unwrap();
                all.extend(elements.batch.drain());
            }
            None => {
                let mut batch = Batch::new();
                let mut elements = Elements::<T>::of(&buffer.bytes);
                while let Some(element) = elements.next(&mut batch).unwrap() {
                    assert_eq!(element, Element::Records);
                    all.extend(batch.drain());
                }
            }
        }
        assert_eq!(all.len() - before, records);
    }
    let numbers = |all: &BTreeMap<usize, Vec<(T, Option<EventTime>)>>| -> Vec<Vec<u64>> {
        all.values()
            .map(|of| of.iter().map(|(record, _)| record.number()).collect())
            .collect()
    };
    assert_eq!(numbers(&came), numbers(&expected));
    assert!(came == expected, "a record or an event time is another one");
}

proptest! {
    #[test]
    fn each_consumer_gets_its_records_in_order(
        consumers in 1_usize..9,
        beside in any::<Option<prop::sample::Index>>(),
        way in prop_oneof![4 => Just(Way::ByKey), 1 => Just(Way::ToFirst), 1 => Just(Way::ToAll)],
        batches in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..600), any::<bool>(), any::<bool>()), 0..8),
    ) {
        let beside = beside.map(|index| index.index(consumers));
        check::<(u64, u64)>(consumers, beside, way, &batches);
        check::<(String, u64)>(consumers, beside, way, &batches);
    }
}
