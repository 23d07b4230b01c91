//! What is written comes to hold, or is refused with its place.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::checkpoint::BarrierAlignment;
use crate::resource::ByteSize;

fn checked(yaml: &str) -> Config {
    Config::check(&RawConfig::from_yaml(yaml, "conf.yaml").unwrap()).unwrap()
}

fn refused(yaml: &str) -> String {
    RawConfig::from_yaml(yaml, "conf.yaml")
        .and_then(|raw| Config::check(&raw))
        .unwrap_err()
        .to_string()
}

#[test]
fn flat_and_nested_keys_are_the_same() {
    let flat =
        "taskmanager.numberOfTaskSlots: 4\ntaskmanager.memory.process.size: 2g\nyarn.tags: a,b\n";
    let nested = "taskmanager:\n  numberOfTaskSlots: 4\n  memory.process:\n    size: \"2g\"\nyarn: {tags: [a, b]}\n";
    for text in [flat, nested] {
        let config = checked(text);
        let task_manager = config.task_manager();
        assert_eq!(
            (task_manager.slots, task_manager.memory),
            (4, ByteSize::from_mib(2048))
        );
        assert_eq!(config.yarn().tags, ["a", "b"]);
    }
}

#[test]
fn a_value_knows_its_line() {
    let config = checked("# comment\n\nrest:\n  # another\n  port: 8081\n");
    assert_eq!(
        config.origin(&options::REST_PORT).to_string(),
        "conf.yaml:5"
    );
    assert_eq!(config.origin(&options::PARALLELISM), Origin::Default);
}

#[test]
fn later_layers_hold() {
    let mut raw = RawConfig::from_yaml("parallelism.default: 2\nrest.port: 1\n", "a").unwrap();
    raw.overlay(RawConfig::from_yaml("parallelism.default: 3\n", "b").unwrap());
    let config = Config::check(&raw).unwrap();
    assert_eq!(config.get(&options::PARALLELISM), 3);
    assert_eq!(config.origin(&options::PARALLELISM).to_string(), "b:1");
    raw.set_argument("parallelism.default = 4").unwrap();
    raw.set("pipeline.name", "x=y", Origin::Flag("--name".to_owned()));
    let config = Config::check(&raw).unwrap();
    assert_eq!(config.execution().parallelism, 4);
    assert_eq!(config.execution().name.as_deref(), Some("x=y"));
    assert!(config.is_set(&options::REST_PORT) && !config.is_set(&options::YARN_QUEUE));
}

#[test]
fn an_empty_file_sets_nothing() {
    for text in ["", "\n", "# only a comment\n", "---\n", "{}"] {
        let config = checked(text);
        assert_eq!(config.to_pairs(), []);
        assert_eq!(config.get(&options::PARALLELISM), 1);
    }
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_key() {
    assert_eq!(
        refused("rest.port: 1\nrest.prot: 1\n"),
        "conf.yaml:2: unknown configuration key `rest.prot`, did you mean `rest.port`?"
    );
    let mut raw = RawConfig::default();
    raw.set_argument("paralelism.default=3").unwrap();
    assert_eq!(
        Config::check(&raw).unwrap_err().to_string(),
        "-D paralelism.default=3: unknown configuration key `paralelism.default`, did you mean `parallelism.default`?"
    );
    for (key, nearest) in [
        ("restart-strategy", "restart-strategy.type"),
        (
            "taskmanager.numberoftaskslots",
            "taskmanager.numberOfTaskSlots",
        ),
        (
            "taskmanager.memory.proces.size",
            "taskmanager.memory.process.size",
        ),
        ("yarn.application.que", "yarn.application.queue"),
        ("containerized.master.env.", "containerized.master.env."),
    ] {
        assert_eq!(options::nearest(key), nearest);
    }
}

#[test]
fn a_wrong_value_says_what_is_expected_and_in_which_unit() {
    for (text, expected) in [
        (
            "x: 1\nparallelism.default: many",
            "conf.yaml:2: `parallelism.default` cannot be `many`: expected a whole number from 1 to 32768 (subtasks)",
        ),
        (
            "taskmanager.memory.process.size: 1.5g",
            "conf.yaml:1: `taskmanager.memory.process.size` cannot be `1.5g`: expected a memory size such as 512m or 2g (without a unit: bytes)",
        ),
        (
            "heartbeat.timeout: soon",
            "conf.yaml:1: `heartbeat.timeout` cannot be `soon`: expected a duration such as 100 ms, 10 s or 5 min (without a unit: milliseconds)",
        ),
        (
            "execution.target: yarn",
            "conf.yaml:1: `execution.target` cannot be `yarn`: expected one of local, yarn-per-job, yarn-application, yarn-session, remote",
        ),
        (
            "execution.attached: yes",
            "conf.yaml:1: `execution.attached` cannot be `yes`: expected true or false",
        ),
        (
            "restart-strategy.exponential-delay.backoff-multiplier: 0.5",
            "conf.yaml:1: `restart-strategy.exponential-delay.backoff-multiplier` cannot be `0.5`: expected a number of at least 1.0",
        ),
        (
            "taskmanager.network.memory.buffers-per-channel: 1025",
            "conf.yaml:1: `taskmanager.network.memory.buffers-per-channel` cannot be `1025`: expected a whole number from 1 to 1024 (buffers)",
        ),
        (
            "restart-strategy.fixed-delay.attempts: -1",
            "conf.yaml:1: `restart-strategy.fixed-delay.attempts` cannot be `-1`: expected a whole number of at least 0 (restarts)",
        ),
        (
            "env.log.level: verbose",
            "conf.yaml:1: `env.log.level` cannot be `verbose`: expected off, error, warn, info, debug or trace, or several such as info,spindle_rpc=debug",
        ),
        (
            "rest.bind-port: 9-3",
            "conf.yaml:1: `rest.bind-port` cannot be `9-3`: expected a port, a range such as 50100-50200, or 0 for any free port",
        ),
    ] {
        let text = text
            .strip_prefix("x: 1\n")
            .map_or_else(|| text.to_owned(), |rest| format!("rest.port: 1\n{rest}"));
        assert_eq!(refused(&text), expected);
    }
}

#[test]
fn what_is_no_configuration_is_refused_with_its_line() {
    for (text, start) in [
        ("a: b: c", "conf.yaml:1: not YAML"),
        ("rest.port: 1\nrest.port2: [1", "conf.yaml:2: not YAML"),
        ("- a\n- b", "conf.yaml:1: expected lines of the form"),
        ("just text", "conf.yaml:1: expected lines of the form"),
        (
            "pipeline.name:\nrest.port: 1",
            "conf.yaml:1: `pipeline.name` has no value",
        ),
        (
            "rest.port: 1\nrest:\n  port: 2",
            "conf.yaml:3: `rest.port` is set twice, first at conf.yaml:1",
        ),
        (
            "yarn.tags: [[a]]",
            "conf.yaml:1: `yarn.tags` is a list of something else",
        ),
        (
            "rest.port: 1\n---\nrest.port: 2",
            "conf.yaml:2: a second document",
        ),
        ("rest.port: *x", "conf.yaml:1: not YAML"),
    ] {
        let error = refused(text);
        assert!(error.starts_with(start), "{text:?}: {error}");
    }
}

#[test]
fn an_argument_needs_a_key_and_a_value() {
    for argument in ["", "parallelism.default", "=3"] {
        let error = RawConfig::default().set_argument(argument).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("-D {argument}: expected key=value")
        );
    }
}

#[test]
fn values_that_exclude_each_other_are_refused_with_both_places() {
    assert_eq!(
        refused("heartbeat.interval: 60 s"),
        "`heartbeat.interval` (conf.yaml:1) has to be less than `heartbeat.timeout` (default)"
    );
    assert!(refused("restart-strategy.exponential-delay.initial-backoff: 1 h").contains("at most"));
    assert!(refused("parallelism.default: 129").contains("pipeline.max-parallelism"));
}

#[test]
fn durations_read_as_flink_writes_them() {
    for (text, millis) in [
        ("100 ms", 100),
        ("1 s", 1_000),
        ("5 min", 300_000),
        ("1h", 3_600_000),
        ("2 days", 172_800_000),
        ("3m", 180_000),
        ("250", 250),
        ("0", 0),
        ("7 SECONDS", 7_000),
    ] {
        let read = parse_duration(text, Duration::from_millis(1));
        assert_eq!(read, Some(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "ms", "-1 s", "1.5 s", "1 fortnight", "99999999999 d"] {
        assert_eq!(
            parse_duration(text, Duration::from_millis(1)),
            None,
            "{text}"
        );
    }
}

#[test]
fn the_heartbeat_to_yarn_counts_seconds() {
    let yarn = checked("yarn.heartbeat.interval: 2").yarn();
    assert_eq!(yarn.heartbeat_interval, Duration::from_secs(2));
    let yarn = checked("yarn.heartbeat.interval: 200 ms").yarn();
    assert_eq!(yarn.heartbeat_interval, Duration::from_millis(200));
}

#[test]
fn variables_of_the_environment_are_found_by_their_prefix() {
    let config = checked(
        "containerized.taskmanager.env.RUST_BACKTRACE: 1\ncontainerized:\n  master:\n    env: {A.B: x}\n",
    );
    assert_eq!(config.task_manager().env["RUST_BACKTRACE"], "1");
    assert_eq!(config.job_manager().env["A.B"], "x");
}

#[test]
fn each_restart_strategy_is_understood() {
    let fixed = RestartConfig::FixedDelay {
        attempts: 3,
        delay: Duration::from_secs(1),
    };
    assert_eq!(checked("").restart(), fixed);
    for word in ["none", "disable", "\"off\""] {
        let config = checked(&format!("restart-strategy.type: {word}"));
        assert_eq!(config.restart(), RestartConfig::None);
    }
    assert_eq!(
        checked("restart-strategy.type: exponential-delay").restart(),
        RestartConfig::ExponentialDelay {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            backoff_multiplier: 1.5,
            reset_backoff_threshold: Duration::from_secs(3600),
            attempts: None,
        }
    );
}

#[test]
fn a_job_with_checkpoints_restarts_with_growing_delays_unless_it_says_otherwise() {
    let restart = |yaml: &str| checked(yaml).restart();
    let interval = "
        execution.checkpointing.interval: 10 s";
    assert!(matches!(
        restart(interval),
        RestartConfig::ExponentialDelay { attempts: None, .. }
    ));
    let off = "execution.checkpointing.interval: 0";
    assert!(matches!(restart(off), RestartConfig::FixedDelay { .. }));
    let rate = "
        restart-strategy.type: failure-rate
        restart-strategy.failure-rate.max-failures-per-interval: 4";
    assert_eq!(
        restart(&format!("{interval}{rate}")),
        RestartConfig::FailureRate {
            max_failures: 4,
            interval: Duration::from_secs(60),
            delay: Duration::from_secs(1),
        }
    );
}

#[test]
fn a_checkpoint_waits_for_barriers_as_mode_and_time_out_say() {
    let of = |yaml: &str| {
        let config = checked(yaml).checkpoints();
        (config.alignment, config.max_concurrent)
    };
    let concurrent = "
        execution.checkpointing.max-concurrent-checkpoints: 3";
    assert_eq!(of(concurrent), (BarrierAlignment::Aligned, 3));
    let unaligned = "
        execution.checkpointing.unaligned.enabled: true
        execution.checkpointing.aligned-checkpoint-timeout: 2 s";
    let timeout_ms = 2000;
    assert_eq!(
        of(&format!("{concurrent}{unaligned}")),
        (BarrierAlignment::Unaligned { timeout_ms }, 1)
    );
    let mode = "
        execution.checkpointing.mode: AT_LEAST_ONCE";
    assert_eq!(
        of(&format!("{concurrent}{unaligned}{mode}")),
        (BarrierAlignment::AtLeastOnce, 3)
    );
}

#[test]
fn former_names_of_checkpoint_options_hold_where_the_new_ones_are_not_set() {
    let of = |yaml: &str| {
        let config = checked(yaml).checkpoints();
        (config.num_retained, config.directory)
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(of(""), (1, None));
    let former = "
        state.checkpoints.num-retained: 3
        state.checkpoints.dir: hdfs:///a";
    assert_eq!(of(former), (3, text("hdfs:///a")));
    let both = "
        execution.checkpointing.num-retained: 2
        execution.checkpointing.dir: hdfs:///b";
    assert_eq!(of(&format!("{former}{both}")), (2, text("hdfs:///b")));
}

#[test]
fn rest_listens_at_its_bind_port_first() {
    let ports = |text: &str| checked(text).job_manager().rest_ports;
    assert_eq!(ports("").to_string(), "0");
    assert_eq!(ports("rest.port: 8081").to_string(), "8081");
    let both = ports("rest.port: 8081\nrest.bind-port: 9000-9002,9009");
    assert_eq!(both.ports().collect::<Vec<_>>(), [9000, 9001, 9002, 9009]);
    assert_eq!(both.to_string(), "9000-9002,9009");
}

#[test]
fn what_is_shipped_comes_to_the_same_configuration() {
    let config = checked("parallelism.default: 3\nyarn.tags: [a, b]\ntask.cancellation.timeout: 0");
    let shipped = Config::from_pairs(&config.to_pairs()).unwrap();
    assert_eq!(shipped.entries().len(), config.entries().len());
    assert_eq!(shipped.execution(), config.execution());
    assert_eq!(shipped.yarn(), config.yarn());
    assert_eq!(shipped.task_manager(), config.task_manager());
    assert_eq!(shipped.task_manager().cancellation_timeout, None);
    assert_eq!(shipped.origin(&options::PARALLELISM), Origin::Shipped);
}

#[test]
fn every_option_has_a_key_of_its_own_a_valid_default_and_the_type_it_says() {
    let mut keys: Vec<_> = options::all().map(|option| option.key).collect();
    let config = checked("");
    assert_eq!(options::read_each(&config), keys.len());
    keys.sort_unstable();
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
    for option in options::all() {
        let key = option.key;
        assert!(
            option
                .default
                .is_none_or(|default| option.kind.accepts(default)),
            "{key}"
        );
        assert_eq!(key.ends_with('.'), option.kind == Kind::Prefix, "{key}");
        assert!(
            option.doc.ends_with('.') && !option.doc.contains('|'),
            "{key}"
        );
    }
}

/// Limits of the table fit the types: the extremes read too.
#[test]
fn the_extremes_of_every_number_can_be_read() {
    let mut raw = RawConfig::default();
    for option in options::all() {
        if let Kind::Int { max, .. } = option.kind {
            raw.set(option.key, max.to_string(), Origin::Shipped);
        }
    }
    options::read_each(&Config::check(&raw).unwrap());
    for option in options::all() {
        if let Kind::Int { min, .. } = option.kind {
            raw.set(option.key, min.to_string(), Origin::Shipped);
        }
    }
    options::read_each(&Config::check(&raw).unwrap());
}

/// With `SPINDLE_WRITE_FILES` set, writes the files instead.
#[test]
fn the_files_in_the_repository_are_those_of_the_table() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for (file, text) in [
        ("docs/configuration.md", markdown()),
        ("conf/spindle-conf.yaml", yaml()),
    ] {
        let path = format!("{root}/{file}");
        if std::env::var_os("SPINDLE_WRITE_FILES").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(&path).unwrap() == text,
            "{file} is not that of the table: SPINDLE_WRITE_FILES=1 cargo test -p spindle-common writes it"
        );
    }
}

#[test]
fn the_shipped_file_sets_nothing_and_its_comments_are_valid() {
    assert_eq!(checked(&yaml()).to_pairs(), []);
    let uncommented: String = yaml()
        .lines()
        .filter(|line| !line.starts_with("##") && !line.starts_with("# -") && !line.ends_with(':'))
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| {
            line.split_once(": ")
                .is_some_and(|(key, _)| !key.contains(' '))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let with_default = options::all().filter(|option| option.default.is_some());
    let config = checked(&uncommented);
    assert_eq!(config.to_pairs().len(), with_default.count());
    assert_eq!(config.yarn(), checked("").yarn());
}

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in "[a-z:{}\\[\\]#\\-\n\t &*!|>'\"%@,?]{0,60}") {
        let _ = RawConfig::from_yaml(&text, "x").and_then(|raw| Config::check(&raw));
    }

    #[test]
    fn no_value_makes_a_check_panic(at in any::<prop::sample::Index>(), text in "[0-9a-zµ .,;-]{0,12}") {
        let all: Vec<_> = options::all().collect();
        let option = at.get(&all);
        let mut raw = RawConfig::default();
        raw.set(option.key, text, Origin::Shipped);
        if let Ok(config) = Config::check(&raw) {
            options::read_each(&config);
        }
    }
}
