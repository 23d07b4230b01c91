//! Who to talk to: ResourceManagers, NameNodes, the default file system, each with the key it came from.

use std::fmt;

use super::typed::invalid;
use super::{ConfError, Configuration, Origin, Value};

const RM_HOSTNAME: &str = "yarn.resourcemanager.hostname";

/// A server's address, and the setting that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Host name or address, as configured.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The configuration key the address came from.
    pub key: String,
    /// Where that key was set.
    pub origin: Origin,
}

impl HostPort {
    /// The host to connect to: a wildcard such as `0.0.0.0` means this machine, as for Hadoop's own clients.
    #[must_use]
    pub fn connect_host(&self) -> &str {
        match self.host.as_str() {
            "0.0.0.0" => "127.0.0.1",
            "::" | "0:0:0:0:0:0:0:0" => "::1",
            host => host,
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The addresses of one ResourceManager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RmAddress {
    /// Its id among `yarn.resourcemanager.ha.rm-ids`; nothing without HA.
    pub id: Option<String>,
    /// ApplicationClientProtocol.
    pub client: HostPort,
    /// ApplicationMasterProtocol.
    pub scheduler: HostPort,
    /// Admin protocol.
    pub admin: HostPort,
    /// Web UI and REST.
    pub webapp: HostPort,
    /// Web UI and REST speak https.
    pub https: bool,
}

/// What `fs.defaultFS` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultFs {
    /// `hdfs`, `file`, …
    pub scheme: String,
    /// `host:port` or the nameservice; empty for `file`.
    pub authority: String,
    /// Where `fs.defaultFS` was set.
    pub origin: Origin,
}

impl fmt::Display for DefaultFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl Configuration {
    /// The ResourceManagers, in the order of `yarn.resourcemanager.ha.rm-ids`; one without HA.
    ///
    /// # Errors
    /// [`ConfError::Missing`] if HA is on without ids or an id without address, [`ConfError::Invalid`] for an address that
    /// is none.
    pub fn resource_managers(&self) -> Result<Vec<RmAddress>, ConfError> {
        if !self.get_bool("yarn.resourcemanager.ha.enabled", false)? {
            return Ok(vec![self.resource_manager(None)?]);
        }
        let ids = self.get_list("yarn.resourcemanager.ha.rm-ids")?;
        if ids.is_empty() {
            return Err(ConfError::Missing {
                key: "yarn.resourcemanager.ha.rm-ids".to_owned(),
                because: "yarn.resourcemanager.ha.enabled is true".to_owned(),
            });
        }
        ids.into_iter()
            .map(|id| self.resource_manager(Some(id)))
            .collect()
    }

    fn resource_manager(&self, id: Option<String>) -> Result<RmAddress, ConfError> {
        let https = self
            .filled("yarn.http.policy")?
            .is_some_and(|policy| policy.text.eq_ignore_ascii_case("HTTPS_ONLY"));
        let address = |name: &str, port: u16| {
            self.rm_address(&format!("yarn.resourcemanager.{name}"), id.as_deref(), port)
        };
        Ok(RmAddress {
            client: address("address", 8032)?,
            scheduler: address("scheduler.address", 8030)?,
            admin: address("admin.address", 8033)?,
            webapp: if https {
                address("webapp.https.address", 8090)?
            } else {
                address("webapp.address", 8088)?
            },
            https,
            id,
        })
    }

    fn rm_address(&self, key: &str, id: Option<&str>, port: u16) -> Result<HostPort, ConfError> {
        let suffixed = |key: &str| id.map_or_else(|| key.to_owned(), |id| format!("{key}.{id}"));
        let (own, hostname) = (suffixed(key), suffixed(RM_HOSTNAME));
        if let Some(value) = self.filled(&own)? {
            return parse_host_port(&own, value, Some(port));
        }
        match self.filled(&hostname)? {
            Some(value) => parse_host_port(&hostname, value, None).map(|mut address| {
                // A hostname has no port; where one was written nevertheless it would be the wrong one here.
                address.port = port;
                address
            }),
            None => Err(ConfError::Missing {
                key: format!("{own} or {hostname}"),
                because: "yarn.resourcemanager.ha.rm-ids names that id".to_owned(),
            }),
        }
    }

    /// The default file system.
    ///
    /// # Errors
    /// [`ConfError::Invalid`] if `fs.defaultFS` is no URI of a file system.
    pub fn default_fs(&self) -> Result<DefaultFs, ConfError> {
        const KEY: &str = "fs.defaultFS";
        let Some(value) = self.filled(KEY)? else {
            return Ok(DefaultFs {
                scheme: "file".to_owned(),
                authority: String::new(),
                origin: Origin::Default,
            });
        };
        let origin = value.origin.clone();
        let (scheme, authority) = match value.text.split_once(':') {
            _ if value.text == "local" => ("file".to_owned(), String::new()),
            Some((scheme, rest)) if rest.starts_with('/') => {
                let rest = rest.strip_prefix("//").unwrap_or("");
                let authority = rest.split('/').next().unwrap_or("");
                (scheme.to_ascii_lowercase(), authority.to_owned())
            }
            // Hadoop takes a bare `host:port` for HDFS.
            Some(_) | None if !value.text.contains('/') => ("hdfs".to_owned(), value.text.clone()),
            Some(_) | None => return Err(invalid(KEY, value, "a URI such as hdfs://host:8020")),
        };
        let is_scheme = scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        if !is_scheme || scheme.is_empty() || (scheme != "file" && authority.is_empty()) {
            return Err(invalid(KEY, value, "a URI such as hdfs://host:8020"));
        }
        Ok(DefaultFs {
            scheme,
            authority,
            origin,
        })
    }

    /// The NameNodes behind the authority of an `hdfs://` URI: those of a nameservice, or the one it names itself.
    ///
    /// # Errors
    /// [`ConfError::Missing`] if a nameservice's NameNode has no address, [`ConfError::Invalid`] for an address that is
    /// none.
    pub fn namenodes(&self, authority: &str) -> Result<Vec<HostPort>, ConfError> {
        let ids = self.get_list(&format!("dfs.ha.namenodes.{authority}"))?;
        if !ids.is_empty() {
            return ids
                .iter()
                .map(|id| {
                    let key = format!("dfs.namenode.rpc-address.{authority}.{id}");
                    let value = self.filled(&key)?.ok_or_else(|| ConfError::Missing {
                        key: key.clone(),
                        because: format!("dfs.ha.namenodes.{authority} names that NameNode"),
                    })?;
                    parse_host_port(&key, value, Some(8020))
                })
                .collect();
        }
        if self
            .get_list("dfs.nameservices")?
            .iter()
            .any(|ns| ns == authority)
        {
            let key = format!("dfs.namenode.rpc-address.{authority}");
            if let Some(value) = self.filled(&key)? {
                return Ok(vec![parse_host_port(&key, value, Some(8020))?]);
            }
        }
        let default = self.default_fs()?;
        let (key, origin) = if default.authority == authority && default.scheme == "hdfs" {
            ("fs.defaultFS".to_owned(), default.origin)
        } else {
            (
                format!("the path's own hdfs://{authority}"),
                Origin::Program,
            )
        };
        let value = Value {
            text: authority.to_owned(),
            origin,
        };
        Ok(vec![parse_host_port(&key, value, Some(8020))?])
    }
}

/// `host`, `host:port`, `[v6]:port` or one of them after `scheme://`; without `default_port` the port is not looked at.
fn parse_host_port(
    key: &str,
    value: Value,
    default_port: Option<u16>,
) -> Result<HostPort, ConfError> {
    let expected = "host:port";
    let text = value
        .text
        .split_once("://")
        .map_or(value.text.as_str(), |(_, rest)| rest);
    let text = text.split('/').next().unwrap_or("");
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) if port.starts_with(':') => (host, Some(&port[1..])),
            Some(_) | None => return Err(invalid(key, value, expected)),
        }
    } else {
        match text.split_once(':') {
            // More than one colon and no brackets: an IPv6 address alone.
            Some((_, port)) if port.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None => default_port.unwrap_or(0),
        Some(port) => match port.parse() {
            Ok(port) => port,
            Err(_) => return Err(invalid(key, value, expected)),
        },
    };
    if host.is_empty() || host.contains(char::is_whitespace) || host.contains("${") {
        return Err(invalid(key, value, expected));
    }
    Ok(HostPort {
        host: host.to_owned(),
        port,
        key: key.to_owned(),
        origin: value.origin,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn conf(pairs: &[(&str, &str)]) -> Configuration {
        Configuration::from_pairs(pairs.iter().map(|(k, v)| (*k, *v)))
    }

    #[test]
    fn without_any_setting_the_rm_is_on_this_machine_with_default_ports() {
        let found = Configuration::new().resource_managers().unwrap();
        let [rm] = found.as_slice() else {
            panic!("{found:?}")
        };
        let ports = [&rm.client, &rm.scheduler, &rm.admin, &rm.webapp].map(|address| address.port);
        assert_eq!(ports, [8032, 8030, 8033, 8088]);
        assert_eq!(
            (rm.client.host.as_str(), rm.client.connect_host()),
            ("0.0.0.0", "127.0.0.1")
        );
        assert_eq!(
            (rm.client.key.as_str(), &rm.client.origin),
            (RM_HOSTNAME, &Origin::Default)
        );
        assert!(rm.id.is_none() && !rm.https);
    }

    #[test]
    fn an_own_address_wins_over_the_hostname() {
        let conf = conf(&[
            (RM_HOSTNAME, "rm.example"),
            ("yarn.resourcemanager.address", "other.example:9032"),
            (
                "yarn.resourcemanager.webapp.address",
                "${yarn.resourcemanager.hostname}:1",
            ),
        ]);
        let rm = &conf.resource_managers().unwrap()[0];
        assert_eq!(rm.client.to_string(), "other.example:9032");
        assert_eq!(rm.client.key, "yarn.resourcemanager.address");
        assert_eq!(rm.scheduler.to_string(), "rm.example:8030");
        assert_eq!(rm.scheduler.key, RM_HOSTNAME);
        assert_eq!(rm.webapp.to_string(), "rm.example:1");
    }

    #[test]
    fn with_ha_each_id_has_its_own_addresses() {
        let mut conf = conf(&[
            ("yarn.resourcemanager.ha.enabled", "true"),
            ("yarn.resourcemanager.ha.rm-ids", "rm1, rm2"),
            ("yarn.resourcemanager.hostname.rm1", "a"),
            ("yarn.resourcemanager.address.rm2", "b:1"),
            ("yarn.http.policy", "HTTPS_ONLY"),
        ]);
        assert_eq!(
            conf.resource_managers().unwrap_err().to_string(),
            "yarn.resourcemanager.scheduler.address.rm2 or yarn.resourcemanager.hostname.rm2 is not set, \
             but yarn.resourcemanager.ha.rm-ids names that id"
        );
        conf.set("yarn.resourcemanager.hostname.rm2", "b");
        let rms = conf.resource_managers().unwrap();
        let seen: Vec<_> = rms
            .iter()
            .map(|rm| (rm.id.as_deref(), rm.client.to_string(), rm.webapp.port))
            .collect();
        assert_eq!(
            seen,
            [
                (Some("rm1"), "a:8032".to_owned(), 8090),
                (Some("rm2"), "b:1".to_owned(), 8090)
            ]
        );
    }

    #[test]
    fn an_address_that_is_none_is_refused_with_its_key() {
        let conf = conf(&[("yarn.resourcemanager.address", "rm:port")]);
        assert_eq!(
            conf.resource_managers().unwrap_err().to_string(),
            "yarn.resourcemanager.address = `rm:port` (shipped with the application): expected host:port"
        );
    }

    #[test]
    fn default_fs_takes_the_forms_hadoop_takes() {
        let read = |text| {
            conf(&[("fs.defaultFS", text)])
                .default_fs()
                .map(|fs| fs.to_string())
        };
        assert_eq!(
            Configuration::new().default_fs().unwrap().to_string(),
            "file://"
        );
        assert_eq!(read("hdfs://nn:8020/").unwrap(), "hdfs://nn:8020");
        assert_eq!(read("hdfs://ns").unwrap(), "hdfs://ns");
        assert_eq!(read("nn:8020").unwrap(), "hdfs://nn:8020");
        assert_eq!(read("local").unwrap(), "file://");
        assert!(read("hdfs:///").is_err());
        assert!(read("/data").is_err());
    }

    #[test]
    fn namenodes_carry_the_key_they_came_from() {
        let conf = conf(&[
            ("fs.defaultFS", "hdfs://nn"),
            ("dfs.nameservices", "ns,solo"),
            ("dfs.ha.namenodes.ns", "nn1, nn2"),
            ("dfs.namenode.rpc-address.ns.nn1", "a:8020"),
            ("dfs.namenode.rpc-address.ns.nn2", "b"),
            ("dfs.namenode.rpc-address.solo", "s:1"),
        ]);
        let read = |authority| {
            let found = conf.namenodes(authority).unwrap();
            found
                .into_iter()
                .map(|nn| (nn.to_string(), nn.key))
                .collect::<Vec<_>>()
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            read("ns"),
            [
                pair("a:8020", "dfs.namenode.rpc-address.ns.nn1"),
                pair("b:8020", "dfs.namenode.rpc-address.ns.nn2")
            ]
        );
        assert_eq!(read("solo"), [pair("s:1", "dfs.namenode.rpc-address.solo")]);
        assert_eq!(read("nn"), [pair("nn:8020", "fs.defaultFS")]);
        assert_eq!(read("x:9"), [pair("x:9", "the path's own hdfs://x:9")]);
    }

    #[test]
    fn ipv6_addresses_keep_their_brackets() {
        let value = |text: &str| Value {
            text: text.to_owned(),
            origin: Origin::Program,
        };
        let found = parse_host_port("k", value("[::]:80"), None).unwrap();
        assert_eq!(
            (found.to_string().as_str(), found.connect_host()),
            ("[::]:80", "::1")
        );
        assert_eq!(
            parse_host_port("k", value("fe80::1"), Some(5))
                .unwrap()
                .to_string(),
            "[fe80::1]:5"
        );
    }

    proptest! {
        #[test]
        fn no_address_makes_the_parser_panic(text in "[\\[\\]:/a0é. -]{0,12}") {
            drop(parse_host_port("k", Value { text: text.clone(), origin: Origin::Program }, None));
            drop(conf(&[("fs.defaultFS", &text)]).default_fs());
        }
    }
}
