//! Loading, precedence and discovery of whole configurations.

use std::fs;

use super::*;

fn site(properties: &[(&str, &str)]) -> String {
    let body: String = properties
        .iter()
        .map(|(name, value)| {
            format!("<property><name>{name}</name><value>{value}</value></property>\n")
        })
        .collect();
    format!("<configuration>\n{body}</configuration>\n")
}

fn text(conf: &Configuration, key: &str) -> Option<String> {
    conf.get(key).map(|value| value.text)
}

#[test]
fn later_files_override_earlier_ones_except_final_properties() {
    let mut conf = Configuration::new();
    let core = "<configuration><property><name>a</name><value>1</value><final>true</final></property>\
                <property><name>b</name><value>1</value></property></configuration>";
    conf.add_site_xml("core-site.xml", core.as_bytes(), &|_| None)
        .unwrap();
    let hdfs = site(&[("a", "2"), ("b", "2")]);
    conf.add_site_xml("hdfs-site.xml", hdfs.as_bytes(), &|_| None)
        .unwrap();
    assert_eq!(
        (text(&conf, "a").as_deref(), text(&conf, "b").as_deref()),
        (Some("1"), Some("2"))
    );
    assert_eq!(conf.get("b").unwrap().origin.to_string(), "hdfs-site.xml:3");
    conf.set("a", "3");
    assert_eq!(
        conf.get("a").unwrap(),
        Value {
            text: "3".into(),
            origin: Origin::Program
        }
    );
}

#[test]
fn a_directory_is_read_and_missing_files_set_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("core-site.xml"),
        site(&[("fs.default.name", "hdfs://nn:1")]),
    )
    .unwrap();
    let conf = Configuration::load(dir.path()).unwrap();
    assert_eq!(text(&conf, "fs.defaultFS").as_deref(), Some("hdfs://nn:1"));
    assert_eq!(conf.sources(), [dir.path().join("core-site.xml")]);
    assert_eq!(conf.get("dfs.replication").unwrap().origin, Origin::Default);
    assert!(conf.get("no.such.key").is_none());
}

#[test]
fn a_missing_directory_is_named_with_its_variable() {
    let error = Configuration::load(Path::new("/no/such/dir")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no Hadoop configuration directory `/no/such/dir` (named by HADOOP_CONF_DIR)"
    );
}

#[test]
fn a_broken_file_is_named_with_path_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("yarn-site.xml");
    fs::write(&path, "<configuration>\n<property></configuration>").unwrap();
    let error = Configuration::load(dir.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("{}:2:11: ", path.display())),
        "{error}"
    );
}

#[test]
fn discovery_prefers_the_conf_dir_and_lists_what_it_tried() {
    let home = tempfile::tempdir().unwrap();
    let etc = home.path().join("etc/hadoop");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("core-site.xml"), site(&[("k", "home")])).unwrap();
    let own = tempfile::tempdir().unwrap();
    fs::write(own.path().join("core-site.xml"), site(&[("k", "own")])).unwrap();
    let path = |dir: &Path| Some(dir.to_string_lossy().into_owned());

    let both = |name: &str| match name {
        "HADOOP_HOME" => path(home.path()),
        "HADOOP_CONF_DIR" => path(own.path()),
        _ => None,
    };
    assert_eq!(
        text(&Configuration::discover(&both).unwrap(), "k").as_deref(),
        Some("own")
    );
    let only_home = |name: &str| (name == "HADOOP_HOME").then(|| path(home.path())).flatten();
    assert_eq!(
        text(&Configuration::discover(&only_home).unwrap(), "k").as_deref(),
        Some("home")
    );
    let wrong = |name: &str| (name == "HADOOP_CONF_DIR").then(|| "/no/such/dir".to_owned());
    assert!(
        Configuration::discover(&wrong)
            .unwrap_err()
            .to_string()
            .contains("HADOOP_CONF_DIR")
    );
    let tried = ConfError::NotFound {
        tried: vec![
            "HADOOP_CONF_DIR is not set".into(),
            "no directory /x".into(),
        ],
    };
    assert_eq!(
        tried.to_string(),
        "no Hadoop configuration found, set HADOOP_CONF_DIR (HADOOP_CONF_DIR is not set, no directory /x)"
    );
}

#[test]
fn the_yarn_site_of_yarn_conf_dir_replaces_the_other() {
    let base = tempfile::tempdir().unwrap();
    fs::write(base.path().join("core-site.xml"), site(&[("c", "base")])).unwrap();
    fs::write(
        base.path().join("yarn-site.xml"),
        site(&[("y", "base"), ("only.base", "1")]),
    )
    .unwrap();
    let yarn = tempfile::tempdir().unwrap();
    fs::write(yarn.path().join("core-site.xml"), site(&[("c", "yarn")])).unwrap();
    fs::write(
        yarn.path().join("yarn-site.xml"),
        site(&[("y", "${env.WHERE}")]),
    )
    .unwrap();
    let env = |name: &str| match name {
        "HADOOP_CONF_DIR" => Some(base.path().to_string_lossy().into_owned()),
        "YARN_CONF_DIR" => Some(yarn.path().to_string_lossy().into_owned()),
        "WHERE" => Some("yarn".to_owned()),
        _ => None,
    };
    let conf = Configuration::discover(&env).unwrap();
    assert_eq!(text(&conf, "c").as_deref(), Some("base"));
    assert_eq!(text(&conf, "y").as_deref(), Some("yarn"));
    assert_eq!(text(&conf, "only.base"), None);
}

#[test]
fn a_ring_is_an_error_for_typed_getters_and_stays_as_written_otherwise() {
    let mut conf = Configuration::new();
    let bytes = site(&[("a", "${b}"), ("b", "${a}")]);
    conf.add_site_xml("x-site.xml", bytes.as_bytes(), &|_| None)
        .unwrap();
    assert_eq!(text(&conf, "a").as_deref(), Some("${b}"));
    assert_eq!(
        conf.get_u64("a", 0).unwrap_err().to_string(),
        "a (x-site.xml:2) refers to itself: a -> b -> a"
    );
}

#[test]
fn pairs_carry_what_is_set_and_expanded_but_no_defaults() {
    let mut conf = Configuration::new();
    let bytes = site(&[
        ("dir", "${env.BASE:-/b}/x"),
        ("fs.defaultFS", "hdfs://${host}:1"),
        ("host", "nn"),
    ]);
    conf.add_site_xml("core-site.xml", bytes.as_bytes(), &|_| None)
        .unwrap();
    let pairs = conf.to_pairs();
    let expected = [
        ("dir", "/b/x"),
        ("fs.defaultFS", "hdfs://nn:1"),
        ("host", "nn"),
    ];
    assert_eq!(
        pairs,
        expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
    let shipped = Configuration::from_pairs(pairs.clone());
    assert_eq!(shipped.to_pairs(), pairs);
    assert_eq!(shipped.get("host").unwrap().origin, Origin::Shipped);
    assert_eq!(shipped.default_fs().unwrap().to_string(), "hdfs://nn:1");
}
