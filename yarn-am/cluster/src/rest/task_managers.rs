//! TaskManagers as Flink's REST API shows them. Flink: `TaskManagerInfo`, `TaskManagerDetailsInfo`.

use serde_json::{Value, json};
use spindle_common::id::ResourceId;
use spindle_common::resource::SlotProfile;
use spindle_jobmanager::message::{TaskManagerView, View};

use crate::clock::Clock;

pub(super) fn all(view: &View, clock: Clock) -> Vec<Value> {
    view.task_managers
        .iter()
        .map(|(resource, manager)| info(resource, manager, clock))
        .collect()
}

pub(super) fn details(view: &View, resource: &ResourceId, clock: Clock) -> Option<Value> {
    let manager = view.task_managers.get(resource)?;
    let mut details = info(resource, manager, clock);
    details["allocatedSlots"] = json!([]);
    details["metrics"] = json!({
        "heapUsed": manager.resident_bytes,
        "heapCommitted": manager.resident_bytes,
        "heapMax": manager.profile.memory.as_bytes(),
        "nonHeapUsed": manager.worker_resident_bytes,
        "nonHeapCommitted": manager.worker_resident_bytes,
        "nonHeapMax": manager.profile.memory.as_bytes(),
        "directCount": 0, "directUsed": 0, "directMax": 0,
        "mappedCount": 0, "mappedUsed": 0, "mappedMax": 0,
        "garbageCollectors": [],
    });
    Some(details)
}

fn info(resource: &ResourceId, manager: &TaskManagerView, clock: Clock) -> Value {
    let memory = manager.profile.memory.as_bytes();
    let used = manager.resident_bytes + manager.worker_resident_bytes;
    let shown = |of: SlotProfile| {
        json!({
            "cpuCores": of.cpu_cores(),
            "taskHeapMemory": of.memory.as_bytes() >> 20,
            "taskOffHeapMemory": 0,
            "managedMemory": 0,
            "networkMemory": 0,
            "extendedResources": {},
        })
    };
    json!({
        "id": resource.as_str(),
        "path": format!("{}:{}", manager.host, manager.pid),
        "dataPort": -1,
        "jmxPort": -1,
        // The name is Flink's; what it holds there, too, is the time of the heartbeat.
        "timeSinceLastHeartbeat": clock.epoch_ms(manager.last_heartbeat),
        "slotsNumber": manager.slots,
        "freeSlots": manager.free_slots,
        "totalResource": shown(manager.total),
        "freeResource": shown(manager.free),
        "hardware": {
            "cpuCores": manager.profile.vcores,
            "physicalMemory": memory,
            "freeMemory": memory.saturating_sub(used),
            "managedMemory": 0,
        },
        "memoryConfiguration": {
            "frameworkHeap": 0, "taskHeap": memory, "frameworkOffHeap": 0, "taskOffHeap": 0,
            "networkMemory": 0, "managedMemory": 0, "jvmMetaspace": 0, "jvmOverhead": 0,
            "totalFlinkMemory": memory, "totalProcessMemory": memory,
        },
        "host": manager.host,
        "node": manager.node.as_str(),
        "pid": manager.pid,
        "since": clock.epoch_ms(manager.since),
        "residentMemory": manager.resident_bytes,
        "workerResidentMemory": manager.worker_resident_bytes,
    })
}
