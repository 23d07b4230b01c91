//! From what the client sent to the settings of the parts.

use std::collections::BTreeSet;

use spindle_cluster::rest::Acl;
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

/// Who may look: everybody where YARN does not ask, else admins and whom the application's VIEW ACL names.
pub(crate) fn viewers(
    hadoop: &Configuration,
    acls: &[pb::ApplicationAclMap],
) -> Result<Acl, ConfError> {
    if !hadoop.get_bool("yarn.acl.enable", false)? {
        return Ok(Acl::Everybody);
    }
    let named = named(acls, pb::ApplicationAccessType::AppaccessViewApp);
    Ok(named.or(admins(hadoop)?))
}

/// Who besides the owner may change something: whom the application's MODIFY ACL names, and admins where YARN asks.
pub(crate) fn modifiers(
    hadoop: &Configuration,
    acls: &[pb::ApplicationAclMap],
) -> Result<Acl, ConfError> {
    let named = named(acls, pb::ApplicationAccessType::AppaccessModifyApp);
    if !hadoop.get_bool("yarn.acl.enable", false)? {
        // Then everybody is an admin, and nobody may have logged in.
        return Ok(named);
    }
    Ok(named.or(admins(hadoop)?))
}

/// Everybody, unless it is set, as in YARN.
fn admins(hadoop: &Configuration) -> Result<Acl, ConfError> {
    let set = hadoop.try_get("yarn.admin.acl")?;
    Ok(set.map_or(Acl::Everybody, |value| Acl::parse(&value.text)))
}

fn named(acls: &[pb::ApplicationAclMap], wanted: pb::ApplicationAccessType) -> Acl {
    acls.iter()
        .filter(|entry| entry.access_type() == wanted)
        .map(|entry| Acl::parse(entry.acl()))
        .fold(Acl::parse(""), Acl::or)
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
            Acl::Everybody
        );
        hadoop.set("yarn.acl.enable", "true");
        assert_eq!(
            viewers(&hadoop, std::slice::from_ref(&acl)).unwrap(),
            Acl::Everybody,
            "everybody is an admin by default"
        );
        hadoop.set("yarn.admin.acl", "root");
        let users = ["bob", "carol", "root"].map(str::to_owned).into();
        assert_eq!(viewers(&hadoop, &[acl]).unwrap(), Acl::Users(users));
    }

    #[test]
    fn only_who_is_named_may_change_something() {
        let mut hadoop = Configuration::new();
        let acl = pb::ApplicationAclMap {
            access_type: Some(pb::ApplicationAccessType::AppaccessModifyApp.into()),
            acl: Some("bob".to_owned()),
        };
        let acls = [acl];
        let bob = Acl::Users(BTreeSet::from(["bob".to_owned()]));
        assert_eq!(modifiers(&hadoop, &acls).unwrap(), bob, "ACLs are off");
        hadoop.set("yarn.acl.enable", "true");
        hadoop.set("yarn.admin.acl", "root");
        let users = ["bob", "root"].map(str::to_owned).into();
        assert_eq!(modifiers(&hadoop, &acls).unwrap(), Acl::Users(users));
        hadoop.set("yarn.admin.acl", "*");
        assert_eq!(modifiers(&hadoop, &acls).unwrap(), Acl::Everybody);
    }
}
