//! Looks at the cluster, and has each thing judged.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use spindle_hadoop::conf::{Configuration, RmAddress, SITE_FILES};
use spindle_hadoop::fs::{CreateOptions, FileSystem, FsError, FsPath};
use spindle_hadoop::ipc::ClientConfig;
use spindle_hadoop::yarn::{FailoverPolicy, ResourceManagerClient, ResourceManagers};

use super::hdfs::Quota;
use super::queue::{Steps, Wanted};
use super::reach::Manager;
use super::{Check, hdfs, queue, reach};
use crate::error::report;
use crate::settings::Settings;
use crate::yarn::scheduler::{self, Queue, RmRest, number};

/// How long a ResourceManager may take to answer.
const RM_LIMIT: Duration = Duration::from_secs(5);

/// Looks at everything; one check after the other, in the order in which they should be mended.
pub(crate) async fn examine(settings: &Settings, hadoop: &Configuration) -> Vec<Check> {
    let mut checks = vec![site_files(hadoop), Check::ok("user", &settings.user)];
    let authentication = hadoop.get("hadoop.security.authentication");
    let (method, place) = authentication.map_or_else(
        || ("simple".to_owned(), String::new()),
        |value| (value.text, value.origin.to_string()),
    );
    let is_simple = method.eq_ignore_ascii_case("simple");
    checks.extend(reach::security(&method, &place));
    if !is_simple {
        return checks;
    }
    let (yarn, hdfs) = tokio::join!(of_yarn(settings, hadoop), of_hdfs(settings, hadoop));
    checks.extend(hdfs);
    checks.extend(yarn);
    checks
}

fn site_files(hadoop: &Configuration) -> Check {
    const NAME: &str = "site files";
    let read: Vec<String> = hadoop
        .sources()
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let missing: Vec<&str> = SITE_FILES
        .into_iter()
        .filter(|name| !read.iter().any(|path| path.ends_with(name)))
        .collect();
    let seen = format!("read {}", read.join(", "));
    if missing.is_empty() {
        Check::ok(NAME, seen)
    } else if read.is_empty() {
        let advice = "HADOOP_CONF_DIR names the directory of the site files";
        Check::fail(NAME, "the directory has none", advice)
    } else {
        let advice = "Hadoop's defaults stand for what it would say";
        Check::warn(NAME, format!("{seen}; no {}", missing.join(", ")), advice)
    }
}

async fn of_yarn(settings: &Settings, hadoop: &Configuration) -> Vec<Check> {
    let addresses = match hadoop.resource_managers() {
        Ok(addresses) => addresses,
        Err(error) => {
            let advice = "mend yarn-site.xml";
            return vec![Check::fail("ResourceManager", report(&error), advice)];
        }
    };
    let each = addresses.iter().map(|rm| manager(rm, &settings.user));
    let managers = futures::future::join_all(each).await;
    let mut checks = reach::resource_managers(&managers);
    if managers.iter().all(|rm| rm.rpc.is_err()) {
        let names = "queue, containers, nodes";
        checks.push(Check::skip(names, "not checked without a ResourceManager"));
        return checks;
    }
    let rest = match RmRest::new(hadoop, &settings.user) {
        Ok(rest) => rest,
        Err(why) => {
            checks.push(Check::skip(
                "ResourceManager",
                format!("its web address: {why}"),
            ));
            return checks;
        }
    };
    let info = rest.get("/ws/v1/cluster/info").await;
    let version = info.map(|answer| {
        let info = &answer.json()["clusterInfo"];
        info["hadoopVersion"].as_str().unwrap_or("?").to_owned()
    });
    checks.push(reach::version("YARN version", version));
    match rest.get("/ws/v1/cluster/metrics").await {
        Ok(answer) => checks.push(reach::nodes(scheduler::nodes(&answer.json()))),
        Err(why) => checks.push(Check::skip("nodes", format!("not known: {why}"))),
    }
    checks.extend(of_queue(settings, hadoop, &rest).await);
    let aggregated = server_setting(&rest, hadoop, "yarn.log-aggregation-enable").await;
    let aggregated = aggregated.and_then(|text| text.parse().ok());
    checks.push(reach::log_aggregation(aggregated));
    checks
}

async fn manager(rm: &RmAddress, user: &str) -> Manager {
    let place = format!("{}:{}", rm.client.connect_host(), rm.client.port);
    let id = rm.id.clone().unwrap_or_else(|| "rm".to_owned());
    let rpc = match ResourceManagers::new([(id, place)]) {
        Ok(one) => {
            let (config, once) = (ClientConfig::default(), FailoverPolicy::ONCE);
            let client = ResourceManagerClient::new(one, user, config, once);
            match tokio::time::timeout(RM_LIMIT, client.cluster_metrics()).await {
                Ok(answer) => answer.map(drop).map_err(|error| report(&error)),
                Err(_) => Err(format!("no answer in {} s", RM_LIMIT.as_secs())),
            }
        }
        Err(error) => Err(report(&error)),
    };
    Manager {
        id: rm.id.clone(),
        address: format!(
            "{} (from {}, {})",
            rm.client, rm.client.key, rm.client.origin
        ),
        rpc,
    }
}

async fn of_queue(settings: &Settings, hadoop: &Configuration, rest: &RmRest) -> Vec<Check> {
    let (yarn, user) = (&settings.yarn, settings.user.as_str());
    let answer = match rest.get("/ws/v1/cluster/scheduler").await {
        Ok(answer) => answer.json(),
        Err(why) => return vec![Check::skip("queue", format!("not known: {why}"))],
    };
    let all = scheduler::leaf_paths(&answer);
    let found = scheduler::queue(&answer, &yarn.queue);
    let mut checks = vec![queue::queue(&yarn.queue, found.as_ref(), &all)];
    let steps = steps(rest, hadoop).await;
    let wanted = Wanted {
        master: yarn.master,
        task_manager: yarn.container,
    };
    if let Some(found) = &found {
        checks.push(may_submit(rest, found, user).await);
        let master = steps.granted(wanted.master.memory.as_mib_ceil());
        checks.push(queue::am_share(found, master));
        checks.push(queue::headroom(found, user, steps, wanted));
    }
    let (master, task_manager) = (
        "jobmanager.memory.process.size",
        "taskmanager.memory.process.size",
    );
    checks.push(queue::container("JobManager", master, wanted.master, steps));
    checks.push(queue::container(
        "TaskManager",
        task_manager,
        wanted.task_manager,
        steps,
    ));
    checks.push(queue::vcores(
        found.as_ref().and_then(queue::are_vcores_counted),
    ));
    if let Some(found) = &found {
        match rest.get("/ws/v1/cluster/get-node-labels").await {
            Ok(answer) => checks.push(queue::labels(found, &label_names(&answer.json()))),
            Err(why) => checks.push(Check::skip("node labels", format!("not known: {why}"))),
        }
    }
    checks
}

async fn may_submit(rest: &RmRest, queue: &Queue, user: &str) -> Check {
    let name = queue.path.rsplit('.').next().unwrap_or_default();
    let path = format!(
        "/ws/v1/cluster/queues/{name}/access?user={user}&queue-acl-type=SUBMIT_APPLICATIONS"
    );
    let allowed =
        rest.get(&path)
            .await
            .ok()
            .and_then(|answer| match answer.json()["allowed"].as_str() {
                Some("true") => Some(true),
                Some("false") => Some(false),
                Some(_) | None => None,
            });
    queue::may_submit(user, &queue.path, allowed)
}

/// The scheduler's own figures; what it does not tell, as our site files have it.
async fn steps(rest: &RmRest, hadoop: &Configuration) -> Steps {
    let overview = rest.get("/ws/v1/cluster/scheduler-overview").await;
    let overview = overview.map_or(Value::Null, |answer| answer.json());
    let or_ours = |value: &Value, key: &str| match number(value) {
        0 => hadoop.get_u64(key, 0).unwrap_or(0),
        told => told,
    };
    let (least, most) = (
        &overview["minimumAllocation"],
        &overview["maximumAllocation"],
    );
    Steps {
        min_mib: or_ours(&least["memory"], "yarn.scheduler.minimum-allocation-mb"),
        max_mib: or_ours(&most["memory"], "yarn.scheduler.maximum-allocation-mb"),
        max_vcores: or_ours(&most["vCores"], "yarn.scheduler.maximum-allocation-vcores"),
    }
}

/// Names in `{"nodeLabelInfo": [{"name": …}, …]}`; other versions wrap or shorten it.
fn label_names(answer: &Value) -> Vec<String> {
    let list = match answer {
        Value::Object(map) => map.values().next().unwrap_or(&Value::Null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            answer
        }
    };
    let list = match list {
        Value::Array(labels) => labels.clone(),
        Value::Object(_) => vec![list.clone()],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    list.iter()
        .filter_map(|label| label["name"].as_str())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A setting as the ResourceManager has it, else as our site files say.
async fn server_setting(rest: &RmRest, hadoop: &Configuration, key: &str) -> Option<String> {
    let told = rest.get(&format!("/conf?name={key}")).await.ok();
    let told = told.and_then(|answer| {
        if let Some(value) = answer.json()["property"]["value"].as_str() {
            return Some(value.to_owned());
        }
        let (_, rest) = answer.text.split_once("<value>")?;
        Some(rest.split_once("</value>")?.0.to_owned())
    });
    told.or_else(|| hadoop.get(key).map(|value| value.text))
}

async fn of_hdfs(settings: &Settings, hadoop: &Configuration) -> Vec<Check> {
    const NAME: &str = "NameNode";
    let fs = match FileSystem::new(hadoop, &settings.user) {
        Ok(fs) => fs,
        Err(error) => return vec![Check::fail(NAME, report(&error), "mend core-site.xml")],
    };
    let home = match fs.home_dir() {
        Ok(home) => home,
        Err(error) => return vec![Check::fail(NAME, report(&error), "mend core-site.xml")],
    };
    let base = match crate::yarn::base(&fs, &home, settings) {
        Ok(base) => base,
        Err(error) => return vec![Check::fail(NAME, error.message(), "mend the setting")],
    };
    let Some(parent) = base.parent() else {
        return vec![Check::fail(
            NAME,
            "the home is the root",
            "mend core-site.xml",
        )];
    };
    let places = hadoop.namenodes(parent.authority()).unwrap_or_default();
    let places: Vec<String> = places
        .iter()
        .map(|at| format!("{at} (from {}, {})", at.key, at.origin))
        .collect();
    let place = if places.is_empty() {
        parent.to_string()
    } else {
        places.join(" or ")
    };
    let existed = match fs.stat(&parent).await {
        Ok(_) => true,
        Err(error) if error.is_not_found() => false,
        Err(error) => return vec![reach::name_node(&place, Err(report(&error)))],
    };
    let mut checks = vec![reach::name_node(&place, Ok(()))];
    let (before, start) = (now_ms(), Instant::now());
    let probed = probe(&fs, &parent, &base).await;
    let after = before + u64::try_from(start.elapsed().as_millis()).unwrap_or(0);
    let (clock, tried) = match probed {
        Ok(mtime) => (reach::clock(before, mtime, after), Ok(())),
        Err(error) => (
            Check::skip("clock", "not compared without a file in HDFS"),
            Err(report(&error)),
        ),
    };
    let web = web_addresses(hadoop, parent.authority());
    checks.push(reach::version(
        "HDFS version",
        hdfs_version(&web, &settings.user).await,
    ));
    checks.push(clock);
    checks.push(hdfs::writable(&parent.to_string(), existed, tried));
    checks.push(hdfs::quota(quota(&web, &parent, &settings.user).await));
    checks
}

/// Makes a file where Spindle keeps its own and removes it again, with all that had to be made for it; its time.
async fn probe(fs: &FileSystem, home: &FsPath, base: &FsPath) -> Result<u64, FsError> {
    let cache = base.join("cache")?;
    let mut made = Vec::new();
    for directory in [home, base, &cache] {
        if !fs.exists(directory).await? {
            made.push(directory.clone());
        }
    }
    // Left behind by a killed doctor it looks like an upload that was not finished.
    let file = cache.join(&format!("doctor.tmp-{}", uuid::Uuid::new_v4()))?;
    let options = CreateOptions::default().permission(0o600);
    let probed = async {
        fs.mkdirs(&cache, 0o700).await?;
        fs.write(&file, Vec::new().into(), &options).await?;
        let mtime_ms = fs.stat(&file).await?.mtime_ms;
        fs.delete(&file, false).await?;
        Ok(mtime_ms)
    }
    .await;
    for directory in made.iter().rev() {
        // Somebody may have put something there at this moment: then it stays.
        drop(fs.delete(directory, false).await);
    }
    probed
}

/// `http://host:port` of each NameNode whose web address is set.
fn web_addresses(hadoop: &Configuration, authority: &str) -> Vec<String> {
    let ids = hadoop
        .get_list(&format!("dfs.ha.namenodes.{authority}"))
        .unwrap_or_default();
    let mut keys: Vec<String> = ids
        .iter()
        .map(|id| format!("dfs.namenode.http-address.{authority}.{id}"))
        .collect();
    keys.push(format!("dfs.namenode.http-address.{authority}"));
    keys.push("dfs.namenode.http-address".to_owned());
    keys.iter()
        .filter_map(|key| hadoop.get(key))
        .filter(|value| !value.text.is_empty())
        .map(|value| format!("http://{}", value.text.replace("0.0.0.0", "127.0.0.1")))
        .collect()
}

async fn web(addresses: &[String], path: &str, user: &str) -> Result<Value, String> {
    let mut last = "dfs.namenode.http-address is not set".to_owned();
    let http = scheduler::client()?;
    for address in addresses {
        match scheduler::get(&http, address, path, user).await {
            Ok(answer) => return Ok(answer.json()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn hdfs_version(addresses: &[String], user: &str) -> Result<String, String> {
    let path = "/jmx?qry=Hadoop:service=NameNode,name=NameNodeInfo";
    let answer = web(addresses, path, user).await?;
    let version = answer["beans"][0]["Version"].as_str();
    let version = version.and_then(|text| text.split(',').next());
    version
        .map(str::to_owned)
        .ok_or_else(|| "the NameNode does not tell it".to_owned())
}

async fn quota(addresses: &[String], home: &FsPath, user: &str) -> Result<Quota, String> {
    let path = format!("/webhdfs/v1{}?op=GETCONTENTSUMMARY", home.path());
    let answer = web(addresses, &path, user).await?;
    let summary = &answer["ContentSummary"];
    // No limit is -1, which is no count.
    let limit = |value: &Value| value.as_u64();
    Ok(Quota {
        names: limit(&summary["quota"]),
        used_names: number(&summary["directoryCount"]) + number(&summary["fileCount"]),
        space: limit(&summary["spaceQuota"]),
        used_space: number(&summary["spaceConsumed"]),
    })
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_labels_are_read_in_each_form() {
        let one = serde_json::json!({"nodeLabelInfo": {"name": "gpu"}});
        let many = serde_json::json!({"nodeLabelInfo": [{"name": "gpu"}, {"name": ""}]});
        assert_eq!(label_names(&one), ["gpu"]);
        assert_eq!(label_names(&many), ["gpu"]);
        assert!(label_names(&serde_json::json!({})).is_empty());
        assert!(label_names(&Value::Null).is_empty());
    }

    #[tokio::test]
    async fn the_probe_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let fs = FileSystem::new(&Configuration::new(), "ann").unwrap();
        let home = FsPath::file(root.path().join("ann").to_str().unwrap()).unwrap();
        let base = home.join(".spindle").unwrap();
        assert!(probe(&fs, &home, &base).await.unwrap() > 0);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
