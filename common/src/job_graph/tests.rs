use super::*;
use crate::resource::ByteSize;

fn vertex(name: &str, parallelism: u32, group: &str) -> JobVertex {
    JobVertex {
        id: JobVertexId::of_uid(name),
        parallelism,
        max_parallelism: 128,
        operators: vec![OperatorDescriptor {
            uid: name.to_owned(),
            name: name.to_owned(),
            kind: OperatorKind::Transform,
        }],
        splits: Vec::new(),
        staging: Vec::new(),
        slot_sharing_group: group.to_owned(),
    }
}

fn graph() -> JobGraph {
    JobGraph {
        name: "job".to_owned(),
        vertices: vec![
            vertex("a", 2, DEFAULT_SLOT_SHARING_GROUP),
            vertex("b", 3, "heavy"),
            vertex("c", 4, DEFAULT_SLOT_SHARING_GROUP),
        ],
        edges: Vec::new(),
        slot_profiles: BTreeMap::new(),
    }
}

#[test]
fn a_job_needs_the_slots_of_all_its_groups() {
    let mut graph = graph();
    let profile = SlotProfile::new(1.0, ByteSize::from_mib(64));
    graph.slot_profiles.insert("heavy".to_owned(), profile);
    let groups: Vec<_> = graph
        .slot_sharing_groups()
        .iter()
        .map(|group| (group.name, group.slots, group.profile))
        .collect();
    assert_eq!(groups, [("default", 4, None), ("heavy", 3, Some(profile))]);
    assert_eq!((graph.slots(), graph.tasks()), (7, 9));
}

#[test]
fn a_program_whose_groups_differ_is_another_program() {
    let (mine, mut other) = (graph(), graph());
    assert_eq!(mine.first_difference(&other), None);
    other.vertices[1].slot_sharing_group = "light".to_owned();
    assert_ne!(mine.fingerprint(), other.fingerprint());
    let mut profiled = graph();
    let profile = SlotProfile::new(1.0, ByteSize::from_mib(64));
    profiled.slot_profiles.insert("heavy".to_owned(), profile);
    assert_ne!(mine.fingerprint(), profiled.fingerprint());
    for different in [&other, &profiled] {
        let what = mine.first_difference(different);
        assert_eq!(what.as_deref(), Some("the slot sharing groups differ"));
    }
}

#[test]
fn slots_of_nothing_are_refused() {
    let mut graph = graph();
    let nothing = SlotProfile::new(1.0, ByteSize::from_bytes(0));
    graph.slot_profiles.insert("heavy".to_owned(), nothing);
    let error = graph.validate().unwrap_err().to_string();
    assert!(
        error.contains("`heavy` are to have 0b and 1 cores"),
        "{error}"
    );
}

#[test]
fn both_ends_of_an_edge_know_the_same_channels() {
    for (producers, consumers) in (1..9).flat_map(|p| (1..9).map(move |c| (p, c))) {
        for partitioning in [Partitioning::Hash, Partitioning::Rescale] {
            let mut busiest = 0;
            for producer in 0..producers {
                let to = partitioning.consumers_of(producer, producers, consumers);
                busiest = busiest.max(to.len() as u32);
                assert!(!to.is_empty());
                for consumer in 0..consumers {
                    let from = partitioning.producers_of(consumer, producers, consumers);
                    assert!(!from.is_empty());
                    assert_eq!(from.contains(&producer), to.contains(&consumer));
                }
            }
            if partitioning == Partitioning::Rescale {
                assert_eq!(busiest, consumers.div_ceil(producers));
            }
        }
    }
}
