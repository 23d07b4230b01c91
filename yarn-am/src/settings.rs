//! From what the client sent to the settings of the parts.

use std::collections::BTreeSet;

use spindle_cluster::rest::Viewers;
use spindle_hadoop::conf::{ConfError, Configuration};
use spindle_hadoop::proto::yarn as pb;

/// Hosts whose word on the user is taken: the web proxy, else every ResourceManager's own.
pub(crate) fn proxy_hosts(hadoop: &Configuration) -> Result<BTreeSet<String>, ConfError> {
    let own = hadoop.try_get("yarn.web-proxy.address")?;
    if let Some(address) = own.filter(|value| !value.text.is_empty()) {
        let host = address
            .text
            .rsplit_once(':')
            .map_or(&*address.text, |(host, _)| host);
        return Ok(BTreeSet::from([host.to_owned()]));
    }
    let managers = hadoop.resource_managers()?;
    // A web address of 0.0.0.0 says nothing of the machine; the other address does.
    let hosts = managers.iter().map(|manager| {
        let web = &manager.webapp;
        if web.connect_host() == web.host {
            &web.host
        } else {
            &manager.scheduler.host
        }
    });
    Ok(hosts.cloned().collect())
}

/// Who may look: everybody where YARN does not ask, else whom the application's view ACL names.
pub(crate) fn viewers(
    hadoop: &Configuration,
    acls: &[pb::ApplicationAclMap],
) -> Result<Viewers, ConfError> {
    if !hadoop.get_bool("yarn.acl.enable", false)? {
        return Ok(Viewers::All);
    }
    let admins = hadoop
        .try_get("yarn.admin.acl")?
        .map_or_else(String::new, |value| value.text);
    let views = acls
        .iter()
        .filter(|entry| entry.access_type() == pb::ApplicationAccessType::AppaccessViewApp)
        .map(|entry| entry.acl().to_owned());
    let mut users = BTreeSet::new();
    for acl in views.chain([admins]) {
        if acl.trim() == "*" {
            return Ok(Viewers::All);
        }
        // "users groups": whose groups a user is in is not known here.
        let names = acl.split(' ').next().unwrap_or_default();
        users.extend(
            names
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
        );
    }
    Ok(Viewers::Users(users))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_the_resource_manager_unless_it_has_an_address_of_its_own() {
        let mut hadoop = Configuration::new();
        hadoop.set("yarn.resourcemanager.hostname", "rm1");
        assert_eq!(
            proxy_hosts(&hadoop).unwrap(),
            BTreeSet::from(["rm1".to_owned()])
        );
        hadoop.set("yarn.web-proxy.address", "proxy:9999");
        assert_eq!(
            proxy_hosts(&hadoop).unwrap(),
            BTreeSet::from(["proxy".to_owned()])
        );
    }

    #[test]
    fn with_acls_only_those_named_may_look() {
        let mut hadoop = Configuration::new();
        let acl = pb::ApplicationAclMap {
            access_type: Some(pb::ApplicationAccessType::AppaccessViewApp.into()),
            acl: Some("bob,carol staff".to_owned()),
        };
        assert_eq!(
            viewers(&hadoop, std::slice::from_ref(&acl)).unwrap(),
            Viewers::All
        );
        hadoop.set("yarn.acl.enable", "true");
        assert_eq!(
            viewers(&hadoop, std::slice::from_ref(&acl)).unwrap(),
            Viewers::All,
            "everybody is an admin by default"
        );
        hadoop.set("yarn.admin.acl", "root");
        let users = ["bob", "carol", "root"].map(str::to_owned).into();
        assert_eq!(viewers(&hadoop, &[acl]).unwrap(), Viewers::Users(users));
    }
}
