//! The effective value of an interface's setting combined with `all`'s (include/linux/inetdevice.h and net/ipv6).

use crate::setting::{Key, Place, is_listed};

/// Major and minor number of a kernel.
pub type Release = (u32, u32);

/// How the kernel uses the two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// The higher of both: `IN_DEV_MAXCONF`.
    Higher,
    /// The lower of both: `min` in net/ipv6/exthdrs.c.
    Lower,
    /// On if one of them is: `IN_DEV_ORCONF`.
    Either,
    /// On if both of them are: `IN_DEV_ANDCONF`.
    Both,
    /// `Both` where the interface forwards, else `Either`: `IN_DEV_RX_REDIRECTS`.
    ByForwarding,
    /// `all`'s, unless that is 0: `mld_force_mld_version`, `addrconf_ifdown`.
    AllFirst,
    /// The oldest version that one of them asks for: `IGMP_V1_SEEN`, `IGMP_V2_SEEN`.
    Oldest,
}

/// The settings of IPv4, and the first kernel that uses them so.
const V4: [(Together, Release, &str); 6] = [
    (Together::Higher, (0, 0), "arp_accept arp_announce arp_ignore arp_notify rp_filter"),
    (
        Together::Either,
        (0, 0),
        "accept_local arp_filter drop_gratuitous_arp drop_unicast_in_l2_multicast log_martians promote_secondaries
        proxy_arp route_localnet secure_redirects send_redirects shared_media src_valid_mark",
    ),
    (Together::Either, (5, 11), "disable_policy disable_xfrm ignore_routes_with_linkdown proxy_arp_pvlan"),
    (Together::Both, (0, 0), "accept_source_route arp_evict_nocarrier bc_forwarding bootp_relay mc_forwarding"),
    (Together::ByForwarding, (0, 0), "accept_redirects"),
    (Together::Oldest, (0, 0), "force_igmp_version"),
];

/// The settings of IPv6. Its `all.forwarding` is a setting of its own, and others of `all` are written to every interface
/// (`addrconf_disable_change`).
const V6: [(Together, Release, &str); 7] = [
    (Together::Higher, (4, 14), "accept_dad"),
    (Together::Lower, (0, 0), "accept_source_route rpl_seg_enabled seg6_enabled"),
    (Together::Either, (0, 0), "enhanced_dad proxy_ndp"),
    (Together::Either, (4, 14), "ndisc_notify optimistic_dad use_optimistic"),
    (Together::Either, (5, 18), "disable_policy"),
    (Together::Both, (0, 0), "ndisc_evict_nocarrier"),
    (Together::AllFirst, (0, 0), "force_mld_version keep_addr_on_down"),
];

/// Settings of `all` that no kernel code reads: net/ipv4/igmp.c and arp.c use the interface's alone.
const V4_UNREAD: &str = "igmpv2_unsolicited_report_interval igmpv3_unsolicited_report_interval medium_id tag";
/// The same of IPv6: none of these is read from `devconf_all` anywhere in net/.
const V6_UNREAD: &str = "accept_ra accept_ra_defrtr accept_ra_from_local accept_ra_min_hop_limit accept_ra_min_lft
    accept_ra_mtu accept_ra_pinfo accept_ra_rt_info_max_plen accept_ra_rt_info_min_plen accept_ra_rtr_pref
    accept_redirects accept_untracked_na autoconf dad_transmits drop_unicast_in_l2_multicast drop_unsolicited_na
    force_tllao ioam6_enabled ioam6_id ioam6_id_wide max_addresses max_desync_factor mldv1_unsolicited_report_interval
    mldv2_unsolicited_report_interval mtu ndisc_tclass ra_defrtr_metric ra_honor_pio_life ra_honor_pio_pflag
    regen_max_retry regen_min_advance router_probe_interval router_solicitation_delay router_solicitation_interval
    router_solicitation_max_interval router_solicitations seg6_require_hmac suppress_frag_ndisc temp_prefered_lft
    temp_valid_lft use_oif_addrs_only use_tempaddr";

/// How a kernel of this release uses the setting of an interface together with `all`'s, where it does.
pub fn together(place: &Place, release: Release) -> Option<Together> {
    let table = match (place.family, place.table) {
        ("ipv4", "conf") => V4.as_slice(),
        ("ipv6", "conf") => V6.as_slice(),
        _ => return None,
    };
    let row = table.iter().find(|(_, since, names)| *since <= release && is_listed(names, place.name));
    row.map(|(together, ..)| *together)
}

/// Whether `key` is a setting of `all` that no kernel code reads.
pub fn is_unread(key: &Key) -> bool {
    key.place().is_some_and(|place| {
        let names = if place.family == "ipv4" { V4_UNREAD } else { V6_UNREAD };
        place.table == "conf" && place.interface == "all" && is_listed(names, place.name)
    })
}

impl Together {
    /// The value that the kernel uses for an interface that has `own` and forwards or not; `own` itself where it means the same.
    pub fn effective(self, own: i64, all: i64, forwards: bool) -> i64 {
        match self {
            Together::Higher => own.max(all),
            Together::Lower => own.min(all),
            Together::Either if own == 0 && all != 0 => 1,
            Together::Both if all == 0 => 0,
            Together::Either | Together::Both => own,
            Together::ByForwarding if forwards => Together::Both.effective(own, all, forwards),
            Together::ByForwarding => Together::Either.effective(own, all, forwards),
            Together::AllFirst if all != 0 => all,
            Together::AllFirst => own,
            Together::Oldest => [own, all].into_iter().filter(|v| (1..=2).contains(v)).min().unwrap_or(own),
        }
    }

    /// Whether 0 in `all` leaves on what an interface has on.
    pub fn zero_leaves_on(self, own: i64, forwards: bool) -> bool {
        matches!(self, Together::Higher | Together::Either | Together::ByForwarding)
            && self.effective(own, 0, forwards) > 0
    }
}

/// The numbers in a release such as `4.18.0-147.el8`.
pub fn release(text: &str) -> Option<Release> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective(key: &str, own: i64, all: i64, forwards: bool, kernel: &str) -> Option<i64> {
        let key = Key::parse(key).unwrap();
        let together = together(&key.place().unwrap(), release(kernel).unwrap())?;
        Some(together.effective(own, all, forwards))
    }

    #[test]
    fn values_are_combined_as_the_kernel_does() {
        for (name, own, all, forwards, expected) in [
            ("ipv4.conf.e0.rp_filter", 0, 2, true, 2),
            ("ipv4.conf.e0.rp_filter", 2, 1, true, 2),
            ("ipv4.conf.e0.arp_ignore", 1, 2, true, 2),
            ("ipv4.conf.e0.arp_announce", 2, 0, true, 2),
            ("ipv4.conf.e0.arp_accept", 1, 2, true, 2),
            ("ipv4.conf.e0.send_redirects", 0, 1, true, 1),
            ("ipv4.conf.e0.send_redirects", 2, 1, true, 2),
            ("ipv4.conf.e0.log_martians", 0, -1, true, 1),
            ("ipv4.conf.e0.proxy_arp", 1, 0, true, 1),
            ("ipv4.conf.e0.accept_source_route", 1, 0, true, 0),
            ("ipv4.conf.e0.accept_source_route", 0, 1, true, 0),
            ("ipv4.conf.e0.bc_forwarding", 1, 1, true, 1),
            // By what the interface forwards, and by nothing else.
            ("ipv4.conf.e0.accept_redirects", 0, 1, true, 0),
            ("ipv4.conf.e0.accept_redirects", 1, 0, true, 0),
            ("ipv4.conf.e0.accept_redirects", 0, 1, false, 1),
            ("ipv4.conf.e0.accept_redirects", 1, 0, false, 1),
            ("ipv4.conf.e0.force_igmp_version", 0, 2, true, 2),
            ("ipv4.conf.e0.force_igmp_version", 3, 1, true, 1),
            ("ipv4.conf.e0.force_igmp_version", 2, 3, true, 2),
            ("ipv4.conf.e0.force_igmp_version", 3, 0, true, 3),
            ("ipv6.conf.e0.accept_source_route", 0, -1, true, -1),
            ("ipv6.conf.e0.seg6_enabled", 1, 0, true, 0),
            ("ipv6.conf.e0.proxy_ndp", 0, 1, true, 1),
            ("ipv6.conf.e0.accept_dad", 0, 1, true, 1),
            ("ipv6.conf.e0.ndisc_evict_nocarrier", 1, 0, true, 0),
            ("ipv6.conf.e0.force_mld_version", 2, 1, true, 1),
            ("ipv6.conf.e0.force_mld_version", 2, 0, true, 2),
            ("ipv6.conf.e0.keep_addr_on_down", 0, 1, true, 1),
        ] {
            let found = effective(&format!("net.{name}"), own, all, forwards, "6.12.0-1.el10");
            assert_eq!(found, Some(expected), "{name} {own} {all} {forwards}");
        }
    }

    #[test]
    fn settings_that_are_not_combined() {
        for key in [
            "net.ipv4.conf.e0.forwarding",
            "net.ipv4.conf.e0.medium_id",
            "net.ipv4.conf.e0.no_such",
            "net.ipv4.neigh.e0.proxy_delay",
            "net.ipv6.conf.e0.forwarding",
            "net.ipv6.conf.e0.disable_ipv6",
            "net.ipv6.conf.e0.accept_ra",
            "net.ipv6.conf.e0.rp_filter",
        ] {
            assert_eq!(effective(key, 0, 1, true, "6.18.44"), None, "{key}");
        }
        for (key, old, new) in [
            ("net.ipv4.conf.e0.proxy_arp_pvlan", "4.18.0-147.el8.x86_64", "5.14.0"),
            ("net.ipv4.conf.e0.ignore_routes_with_linkdown", "5.10.0", "5.11"),
            ("net.ipv6.conf.e0.accept_dad", "3.10.0-1160.el7", "4.18.0"),
        ] {
            assert_eq!((effective(key, 0, 1, true, old), effective(key, 0, 1, true, new)), (None, Some(1)), "{key}");
        }
        for text in ["", "x", "6", "6.x", "99999999999.1"] {
            assert_eq!(release(text), None, "{text}");
        }
    }

    #[test]
    fn settings_of_all_that_the_kernel_does_not_read() {
        for (key, unread) in [
            ("net.ipv6.conf.all.accept_ra", true),
            ("net.ipv6.conf.all.accept_redirects", true),
            ("net.ipv6.conf.all.autoconf", true),
            ("net.ipv4.conf.all.medium_id", true),
            ("net.ipv4.conf.all.accept_redirects", false),
            ("net.ipv6.conf.all.forwarding", false),
            ("net.ipv6.conf.all.disable_ipv6", false),
            ("net.ipv6.conf.default.accept_ra", false),
            ("net.ipv6.conf.e0.accept_ra", false),
            ("net.core.somaxconn", false),
        ] {
            assert_eq!(is_unread(&Key::parse(key).unwrap()), unread, "{key}");
        }
    }
}
