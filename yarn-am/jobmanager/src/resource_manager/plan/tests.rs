use proptest::prelude::*;
use spindle_common::resource::{ByteSize, SlotProfile};

use super::*;
use crate::resource_manager::capacity::total;

fn limits(slots: u32) -> Limits {
    let (memory, vcores) = (ByteSize::from_mib(512), 1);
    let container = ResourceProfile { memory, vcores };
    Limits {
        sizes: Sizes { container, slots },
        most: ResourceLimits::default(),
    }
}

fn supply(starting: u32, registered: u32, limits: &Limits) -> Supply {
    let size = limits.sizes.container;
    let counts = |n: u32| (n > 0).then_some((size, n)).into_iter().collect();
    Supply {
        rooms: Vec::new(),
        starting: counts(starting),
        registered: counts(registered),
        troubled: Vec::new(),
        nodes: 0,
    }
}

fn equal_parts(n: u32) -> Vec<SlotCounts> {
    vec![SlotCounts::from([(None, n)])]
}

fn pending(plan: &ContainerPlan) -> u32 {
    plan.asks.iter().map(|ask| ask.pending).sum()
}

fn slot(cores: f64, mib: u64) -> Option<SlotProfile> {
    Some(SlotProfile::new(cores, ByteSize::from_mib(mib)))
}

#[test]
fn the_narrowest_limit_holds_and_is_named() {
    let mut config = JobManagerConfig {
        slots_per_task_manager: 2,
        ..JobManagerConfig::default()
    };
    assert_eq!(Ceiling::of(&config), None);
    config.limits.slots = Some(7);
    let ceiling = |config: &JobManagerConfig| Ceiling::of(config).map(|c| (c.containers, c.limit));
    let of_slots = (3, "slotmanager.number-of-slots.max: 7".to_owned());
    assert_eq!(ceiling(&config), Some(of_slots));
    config.limits.memory = Some(ByteSize::from_mib(2047));
    config.limits.cpu = Some(2.5);
    let (containers, limit) = ceiling(&config).unwrap();
    assert_eq!(containers, 1);
    assert!(limit.starts_with("slotmanager.max-total-resource.memory: "));
    config.limits.memory = None;
    let of_cpu = (2, "slotmanager.max-total-resource.cpu: 2.5".to_owned());
    assert_eq!(ceiling(&config), Some(of_cpu));
}

#[test]
fn slots_of_a_group_are_packed_and_what_is_too_large_gets_a_container_made_to_measure() {
    let limits = Limits {
        sizes: Sizes {
            container: ResourceProfile {
                memory: ByteSize::from_mib(32 + 400),
                vcores: 4,
            },
            slots: 4,
        },
        most: ResourceLimits::default(),
    };
    let job = SlotCounts::from([(None, 2), (slot(0.5, 100), 3), (slot(1.0, 1000), 2)]);
    let asks = |supply: &Supply| -> Vec<(u64, u32)> {
        let plan = plan(std::slice::from_ref(&job), supply, &limits, false);
        let ask = |ask: &ContainerAsk| (ask.profile.memory.as_mib_ceil(), ask.pending);
        plan.asks.iter().map(ask).collect()
    };
    // 200 + 300 MiB are more than the 400 of one.
    let mut supply = supply(0, 0, &limits);
    assert_eq!(asks(&supply), [(432, 2), (1032, 2)]);
    supply.starting = ContainerCounts::from([(limits.sizes.container, 1)]);
    assert_eq!(asks(&supply), [(432, 1), (1032, 2)]);
    // What a registered one has left counts too.
    let size = limits.sizes.container;
    supply.rooms = vec![(size, limits.sizes.room(size))];
    assert_eq!(asks(&supply), [(1032, 2)]);
}

#[test]
fn no_job_gets_containers_past_one_that_the_limits_leave_short() {
    let mut limits = limits(1);
    limits.most.memory = Some(ByteSize::from_mib(512 + 2000));
    let demands = [
        SlotCounts::from([(slot(1.0, 1500), 2)]),
        SlotCounts::from([(None, 1)]),
    ];
    let plan = plan(&demands, &supply(0, 1, &limits), &limits, false);
    assert_eq!(plan.asks.len(), 1);
    assert_eq!(plan.asks[0].profile.memory.as_mib_ceil(), 1532);
    assert_eq!(plan.asks[0].pending, 1);
}

#[test]
fn spread_out_no_node_has_more_than_its_share() {
    let limits = limits(1);
    let mut supply = supply(1, 2, &limits);
    let most = |supply: &Supply, wanted: u32, spread: bool| {
        plan(&equal_parts(wanted), supply, &limits, spread).most_per_node
    };
    assert_eq!(most(&supply, 3, true), None, "nobody knows the nodes");
    supply.nodes = 3;
    assert_eq!(most(&supply, 3, false), None);
    assert_eq!(most(&supply, 1, true), None, "nothing is asked for");
    // Two are there, one starts and serves one slot; four more on three nodes.
    assert_eq!(most(&supply, 5, true), Some(3));
    supply.troubled = vec![NodeName::new("a")];
    assert_eq!(most(&supply, 5, true), Some(4));
}

/// A slot of any size, as text does not show it: a third fit into no usual container.
fn any_slot() -> impl Strategy<Value = Option<SlotProfile>> {
    prop::option::weighted(
        0.7,
        (1_u32..2500, 1_u64..1500).prop_map(|(cpu_millis, mib)| SlotProfile {
            memory: ByteSize::from_mib(mib),
            cpu_millis,
        }),
    )
}

fn any_demand() -> impl Strategy<Value = SlotCounts> {
    prop::collection::btree_map(any_slot(), 1_u32..6, 0..4)
}

/// Whether slots find room one by one, the largest first, as the SlotManager gives them.
fn all_find_room(
    demands: &[SlotCounts],
    mut rooms: Vec<(ResourceProfile, Room)>,
    sizes: Sizes,
) -> bool {
    for demand in demands {
        for (slot, n) in sizes.largest_first(demand) {
            for _ in 0..n {
                let theirs = |size| sizes.may_hold(size, slot);
                let mut rooms = rooms.iter_mut().filter(|(size, _)| theirs(*size));
                let Some((_, room)) = rooms.find(|(_, room)| room.times(sizes, slot) > 0) else {
                    return false;
                };
                *room = room.without(sizes, slot, 1);
            }
        }
    }
    true
}

fn rooms(supply: &Supply, sizes: Sizes) -> Vec<(ResourceProfile, Room)> {
    let mut rooms = supply.rooms.clone();
    for (size, n) in usual_first(&supply.starting, sizes) {
        rooms.extend((0..n).map(|_| (size, sizes.room(size))));
    }
    rooms
}

proptest! {
    #[test]
    fn what_is_pending_and_starting_holds_the_missing_slots_and_no_container_more(
        missing in 0_u32..1000, starting in 0_u32..50, slots in 1_u32..8, nodes in 0_u32..6, troubled in 0_usize..6,
        registered in 0_u32..50,
    ) {
        let limits = limits(slots);
        let mut supply = supply(starting, registered, &limits);
        supply.troubled = (0..troubled).map(|n| NodeName::new(format!("node-{n}"))).collect();
        supply.nodes = nodes;
        let plan = plan(&equal_parts(missing), &supply, &limits, false);
        let coming = pending(&plan) + starting;
        prop_assert!(coming * slots >= missing);
        prop_assert!(pending(&plan) == 0 || (coming - 1) * slots < missing);
        prop_assert!(plan.avoid.is_empty() || plan.avoid.len() < nodes as usize);
    }

    #[test]
    fn slots_of_all_sizes_find_room_in_what_is_coming(
        demands in prop::collection::vec(any_demand(), 0..4), slots in 1_u32..5, starting in 0_u32..4,
        left in prop::collection::vec(any_demand(), 0..3),
    ) {
        let limits = limits(slots);
        let sizes = limits.sizes;
        let mut supply = supply(starting, 2, &limits);
        // Registered ones that others have taken something of.
        supply.rooms = left.iter().map(|taken| {
            let empty = sizes.room(sizes.container);
            let room = taken.iter().fold(empty, |room, (slot, n)| {
                room.without(sizes, *slot, room.times(sizes, *slot).min(*n))
            });
            (sizes.container, room)
        }).collect();
        let wanted: u32 = demands.iter().map(total).sum();
        let find_room = |supply: &Supply| all_find_room(&demands, rooms(supply, sizes), sizes);
        let mut asked = needed(&demands, &supply, &limits);
        prop_assert_eq!(asked.is_empty(), find_room(&supply), "as long as one has no room");
        // What was asked for starts; with other containers there first, a slot or two may lie elsewhere.
        for _ in 0..3 {
            prop_assert!(asked.values().sum::<u32>() <= wanted, "not one without a slot");
            for (size, n) in asked {
                *supply.starting.entry(size).or_default() += n;
            }
            asked = needed(&demands, &supply, &limits);
        }
        prop_assert!(asked.is_empty() && find_room(&supply));
    }

    #[test]
    fn no_plan_goes_beyond_the_limits(
        demands in prop::collection::vec(any_demand(), 0..4), slots in 1_u32..4,
        starting in 0_u32..10, registered in 0_u32..10, most in (1_u32..40, 1_u64..20_000, 0.5_f64..20.0),
    ) {
        let mut limits = limits(slots);
        limits.most = ResourceLimits {
            slots: Some(most.0),
            memory: Some(ByteSize::from_mib(most.1)),
            cpu: Some(most.2),
        };
        let supply = supply(starting, registered, &limits);
        let needed = needed(&demands, &supply, &limits);
        let mut all = needed.clone();
        for (size, n) in supply.registered.iter().chain(&supply.starting) {
            *all.entry(*size).or_default() += n;
        }
        prop_assert!(needed.is_empty() || limits.broken_by(&all).is_none());
    }
}

#[test]
fn when_all_nodes_had_trouble_the_one_with_the_oldest_is_asked_again() {
    let limits = limits(1);
    let mut supply = supply(0, 0, &limits);
    supply.troubled = ["b", "c", "a"].map(NodeName::new).to_vec();
    supply.nodes = 3;
    let plan = plan(&equal_parts(1), &supply, &limits, false);
    let avoid: Vec<&str> = plan.avoid.iter().map(NodeName::as_str).collect();
    assert_eq!(avoid, ["a", "c"]);
}
