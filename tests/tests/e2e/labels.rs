//! Node labels: containers run on the nodes that bear them, and a label that no node bears is refused in words.

use serde_json::{Value, json};
use spindle_tests::hadoop::{OwnHadoop, wait};
use spindle_tests::spindle::{Attached, spindle};

use super::{LIMIT, trial, user};

/// A cluster of two nodes, the first of which is labelled `fast`; and the names of both.
fn labelled(store: &std::path::Path) -> (OwnHadoop, [String; 2]) {
    let store = format!(
        "yarn.node-labels.fs-store.root-dir=file://{}",
        store.display()
    );
    let hadoop = OwnHadoop::of_nodes(
        2,
        &[
            "yarn.node-labels.enabled=true",
            &store,
            "yarn.scheduler.capacity.root.default.accessible-node-labels=*",
            "yarn.scheduler.capacity.root.accessible-node-labels.fast.capacity=100",
            "yarn.scheduler.capacity.root.default.accessible-node-labels.fast.capacity=100",
        ],
    );
    let nodes = hadoop.rm("nodes");
    let node = |n: usize| nodes["nodes"]["node"][n]["id"].as_str().unwrap().to_owned();
    let nodes = [node(0), node(1)];
    let post = |path: &str, body: Value| {
        let url = format!("{}/ws/v1/cluster/{path}?user.name={}", hadoop.web(), user());
        ureq::post(&url)
            .send_json(body)
            .expect("the ResourceManager takes labels");
    };
    post(
        "add-node-labels",
        json!({"nodeLabelInfo": [{"name": "fast", "exclusivity": true}]}),
    );
    post(
        "replace-node-to-labels",
        json!({"nodeToLabels": [{"nodeId": nodes[0], "labels": ["fast"]}]}),
    );
    (hadoop, nodes)
}

fn run(hadoop: &OwnHadoop, setting: &str) -> Attached {
    let mut command = spindle(&hadoop.conf_dir());
    command.args(["run", "-t", "yarn-per-job", "--output", "json", "-p", "2"]);
    command.args(["-D", setting, "-D", "taskmanager.memory.process.size=256m"]);
    command.arg(trial());
    command.args(["--records", "6000", "--rate", "1000", "--collect"]);
    Attached::start(&mut command)
}

#[test]
fn containers_run_on_the_nodes_whose_label_was_asked_for() {
    let store = tempfile::tempdir().unwrap();
    let (hadoop, nodes) = labelled(store.path());
    let containers = || {
        let all = hadoop.rm("nodes");
        let all = all["nodes"]["node"].as_array().unwrap().clone();
        nodes.clone().map(|id| {
            let node = all.iter().find(|node| node["id"] == id).unwrap();
            node["numContainers"].as_u64().unwrap()
        })
    };
    for (setting, expected) in [
        ("yarn.taskmanager.node-label=fast", [2, 1]),
        ("yarn.application.node-label=fast", [3, 0]),
    ] {
        let mut client = run(&hadoop, setting);
        client.wait_state("RUNNING", LIMIT);
        wait(
            LIMIT,
            &format!("containers {expected:?} with {setting}"),
            || (containers() == expected).then_some(()),
        );
        let (code, events) = client.end(LIMIT);
        assert_eq!(code, 0, "{events:#?}");
        wait(LIMIT, "the containers to be gone", || {
            (containers() == [0, 0]).then_some(())
        });
    }
    for setting in [
        "yarn.taskmanager.node-label=gone",
        "yarn.application.node-label=gone",
    ] {
        let (code, events) = run(&hadoop, setting).end(LIMIT);
        assert_ne!(code, 0, "{events:#?}");
        let told = events
            .iter()
            .filter_map(|event| event["message"].as_str())
            .any(|message| message.contains("gone"));
        assert!(told, "{setting}: {events:#?}");
    }
}
