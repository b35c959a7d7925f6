//! Reads /sys/class/net, the addresses and the default routes into `interface` records.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::Result;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;

use crate::collect::text::{lines, number, text, words};
use crate::collect::{Collector, Roots, Sample, unreadable};
use crate::common::emit::Emitter;
use crate::record::{INTERFACE, Interface, Kind};

/// Reads how the machine is connected, once an hour. Addresses belong to the network
/// namespace of this process, so a foreign root has none.
pub struct InterfaceCollector(Roots);

impl InterfaceCollector {
    /// Reads below `roots`.
    pub fn new(roots: &Roots) -> Self {
        Self(roots.clone())
    }

    /// The interfaces by name, with the facts of sysfs.
    fn facts_of_sysfs(&self, sample: &Sample<'_>, out: &mut Emitter) -> Result<BTreeMap<String, Interface>> {
        let folder = self.0.sys.join("class/net");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries.flatten(),
            Err(error) => {
                unreadable(out, sample.ts, &folder.to_string_lossy(), &error)?;
                return Ok(BTreeMap::new());
            }
        };
        let interfaces = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
        Ok(interfaces.filter_map(|path| described(&path)).map(|it| (it.interface.clone(), it)).collect())
    }
}

impl Collector for InterfaceCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&INTERFACE]
    }

    fn method(&self) -> String {
        let Roots { proc, sys, foreign } = &self.0;
        let addresses = if *foreign { "" } else { "addresses by getifaddrs, " };
        let (class, route) = (sys.join("class/net"), proc.join("net/route"));
        format!("{addresses}{} and {}", class.display(), route.display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        if !sample.inventory || !sample.wants(&INTERFACE) {
            return Ok(());
        }
        let mut interfaces = self.facts_of_sysfs(sample, out)?;
        if !self.0.foreign {
            match getifaddrs() {
                Ok(addresses) => addresses.for_each(|address| add(&mut interfaces, &address)),
                Err(error) => unreadable(out, sample.ts, "getifaddrs", &error.into())?,
            }
        }
        let net = self.0.proc.join("net");
        let ipv4 = fs::read(net.join("route")).map(|bytes| ipv4_defaults(&bytes));
        let ipv6 = fs::read(net.join("ipv6_route")).map(|bytes| ipv6_defaults(&bytes));
        match (ipv4, ipv6) {
            (Err(error), Err(_)) => unreadable(out, sample.ts, &net.join("route").to_string_lossy(), &error)?,
            (ipv4, ipv6) => {
                let routes: Vec<_> = ipv4.into_iter().chain(ipv6).flatten().collect();
                interfaces.values_mut().for_each(|interface| set_routes(interface, &routes));
            }
        }
        interfaces.values().try_for_each(|interface| out.emit(sample.ts, interface))
    }
}

/// Speeds in Mbit/s that mean "unknown": 0, and the -1 of drivers that store 16, 31 or 32 bits.
const UNKNOWN_SPEEDS: [u64; 4] = [0, 0xffff, 0x7fff_ffff, 0xffff_ffff];

/// Reads a directory of /sys/class/net (kernel `Documentation/ABI/testing/sysfs-class-net`).
fn described(folder: &Path) -> Option<Interface> {
    let word = |name| text(&fs::read(folder.join(name)).ok()?);
    let count = |name| number(word(name)?.as_bytes());
    let state = word("operstate");
    // Without a link, drivers report the last speed or a default.
    let linked = !matches!(state.as_deref(), Some("down" | "lowerlayerdown" | "notpresent"));
    let speed = count("speed").filter(|speed| linked && !UNKNOWN_SPEEDS.contains(speed));
    Some(Interface {
        interface: folder.file_name()?.to_string_lossy().into_owned(),
        index: count("ifindex"),
        state,
        mac: word("address").filter(|address| address.bytes().any(|byte| !matches!(byte, b'0' | b':'))),
        mtu_bytes: count("mtu").filter(|&mtu| mtu > 0),
        speed_bits_per_s: speed.and_then(|speed| speed.checked_mul(1_000_000)),
        duplex: word("duplex").filter(|duplex| linked && duplex != "unknown"),
        ..Interface::default()
    })
}

fn add(interfaces: &mut BTreeMap<String, Interface>, address: &InterfaceAddress) {
    let name = &address.interface_name;
    let new = || Interface { interface: name.clone(), ..Interface::default() };
    let interface = interfaces.entry(name.clone()).or_insert_with(new);
    let Some(ip) = &address.address else { return };
    let mask = address.netmask.as_ref();
    if let Some(v4) = ip.as_sockaddr_in() {
        let prefix =
            mask.and_then(SockaddrStorage::as_sockaddr_in).map(|mask| u32::from(mask.ip()).count_ones());
        interface.ipv4.get_or_insert_default().push(with_prefix(v4.ip().to_string(), prefix));
    } else if let Some(v6) = ip.as_sockaddr_in6() {
        let prefix =
            mask.and_then(SockaddrStorage::as_sockaddr_in6).map(|mask| u128::from(mask.ip()).count_ones());
        interface.ipv6.get_or_insert_default().push(with_prefix(v6.ip().to_string(), prefix));
    }
}

fn with_prefix(address: String, prefix: Option<u32>) -> String {
    prefix.map_or(address.clone(), |prefix| format!("{address}/{prefix}"))
}

fn set_routes(interface: &mut Interface, routes: &[DefaultRoute]) {
    let ours: Vec<_> = routes.iter().filter(|route| route.interface == interface.interface).collect();
    interface.default_route = Some(!ours.is_empty());
    let gateways: Vec<_> = ours.iter().filter_map(|route| route.gateway).map(|ip| ip.to_string()).collect();
    interface.gateways = (!gateways.is_empty()).then_some(gateways);
}

/// One default route.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DefaultRoute {
    interface: String,
    /// The router; `None` on a point-to-point link.
    gateway: Option<IpAddr>,
    metric: u32,
}

/// Whether a route is usable (`RTF_UP`), and not a refusal (`RTF_REJECT`).
fn is_used(flags: u32) -> bool {
    const UP: u32 = 0x1;
    const REJECT: u32 = 0x200;
    flags & UP != 0 && flags & REJECT == 0
}

/// The default routes of the lowest metric, which are in use, from /proc/net/route (kernel
/// `net/ipv4/fib_trie.c`): interface, destination, gateway, flags, two counts, metric in
/// decimal, mask. Addresses are hexadecimal in native byte order.
fn ipv4_defaults(bytes: &[u8]) -> Vec<DefaultRoute> {
    let route = |line| {
        let mut words = words(line);
        let interface = String::from_utf8_lossy(words.next()?).into_owned();
        let [destination, gateway, flags] = [hex(words.next()?)?, hex(words.next()?)?, hex(words.next()?)?];
        let metric = str::from_utf8(words.nth(2)?).ok()?.parse().ok()?;
        let mask = hex(words.next()?)?;
        let gateway = Ipv4Addr::from(gateway.to_ne_bytes());
        let gateway = (!gateway.is_unspecified()).then_some(IpAddr::V4(gateway));
        let used = destination == 0 && mask == 0 && is_used(flags);
        used.then_some(DefaultRoute { interface, gateway, metric })
    };
    lowest(lines(bytes).filter_map(route).collect())
}

/// The same from /proc/net/ipv6_route (kernel `net/ipv6/route.c`): destination, prefix length,
/// source, prefix length, next hop, metric, two counts, flags, interface; numbers are hexadecimal.
fn ipv6_defaults(bytes: &[u8]) -> Vec<DefaultRoute> {
    let route = |line| {
        let words: Vec<_> = words(line).collect();
        let [destination, prefix, _, _, gateway, metric, _, _, flags, interface] = words[..] else {
            return None;
        };
        let gateway = Ipv6Addr::from(hex128(gateway)?);
        let gateway = (!gateway.is_unspecified()).then_some(IpAddr::V6(gateway));
        let (interface, metric) = (String::from_utf8_lossy(interface).into_owned(), hex(metric)?);
        let used = hex(prefix)? == 0 && hex128(destination)? == 0 && is_used(hex(flags)?);
        used.then_some(DefaultRoute { interface, gateway, metric })
    };
    lowest(lines(bytes).filter_map(route).collect())
}

fn lowest(mut routes: Vec<DefaultRoute>) -> Vec<DefaultRoute> {
    let metric = routes.iter().map(|route| route.metric).min();
    routes.retain(|route| Some(route.metric) == metric);
    routes
}

fn hex(word: &[u8]) -> Option<u32> {
    u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()
}

fn hex128(word: &[u8]) -> Option<u128> {
    u128::from_str_radix(str::from_utf8(word).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn facts_that_the_driver_does_not_know_are_absent() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("eth0");
        fs::create_dir(&folder).unwrap();
        let described = |facts: &[(&str, &str)]| {
            for (name, value) in facts {
                fs::write(folder.join(name), format!("{value}\n")).unwrap();
            }
            described(&folder).unwrap()
        };
        let interface =
            described(&[("speed", "1000"), ("duplex", "full"), ("operstate", "up"), ("mtu", "1500")]);
        assert_eq!((interface.speed_bits_per_s, interface.mtu_bytes), (Some(1_000_000_000), Some(1500)));
        assert_eq!(interface.duplex.as_deref(), Some("full"));
        for speed in ["-1", "0", "65535", "4294967295", "2147483647", "unknown"] {
            assert_eq!(described(&[("speed", speed)]).speed_bits_per_s, None, "{speed}");
        }
        assert_eq!(described(&[("speed", "400000")]).speed_bits_per_s, Some(400_000_000_000));
        for state in ["down", "lowerlayerdown", "notpresent"] {
            let interface = described(&[("operstate", state)]);
            assert_eq!((interface.speed_bits_per_s, interface.duplex), (None, None), "{state}");
        }
        // Some drivers of tunnels and virtual devices do not maintain the state.
        assert!(described(&[("operstate", "unknown")]).speed_bits_per_s.is_some());
        assert_eq!(described(&[("duplex", "unknown")]).duplex, None);
        let mac = |address: &str| described(&[("address", address)]).mac;
        assert_eq!(mac("02:00:00:00:00:01").as_deref(), Some("02:00:00:00:00:01"));
        assert_eq!((mac("00:00:00:00:00:00"), mac("")), (None, None));
    }

    /// 192.0.2.1 as the kernel of this machine prints it.
    fn router() -> String {
        format!("{:08X}", u32::from_ne_bytes([192, 0, 2, 1]))
    }

    #[test]
    fn the_routes_of_the_lowest_metric_are_in_use() {
        let router = router();
        let text = format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
             wlan0\t00000000\t{router}\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
             eth0\t00000000\t{router}\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             ppp0\t00000000\t00000000\t0001\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth1\t00000000\t{router}\t0200\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        );
        let routes = ipv4_defaults(text.as_bytes());
        let seen: Vec<_> = routes.iter().map(|r| (r.interface.as_str(), r.gateway)).collect();
        assert_eq!(seen, [("eth0", Some("192.0.2.1".parse().unwrap())), ("ppp0", None)]);
    }

    #[test]
    fn ipv6_without_unreachable_routes() {
        let (zero, one) = ("0".repeat(32), "fd000000000000000000000000000001");
        let text = format!(
            "{zero} 00 {zero} 00 {one} 00000400 00000002 00000000 00000003     eth0\n\
             {zero} 00 {zero} 00 {zero} 00000000 00000001 00000000 00200200       lo\n\
             {one} 80 {zero} 00 {zero} 00000000 00000002 00000000 80200001       lo\n"
        );
        let routes = ipv6_defaults(text.as_bytes());
        let seen: Vec<_> = routes.iter().map(|r| (r.interface.as_str(), r.gateway)).collect();
        assert_eq!(seen, [("eth0", Some("fd00::1".parse().unwrap()))]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(text in "([0-9a-fA-Fx]{0,33}[ \t\n]){0,40}|.{0,40}") {
            ipv4_defaults(text.as_bytes());
            ipv6_defaults(text.as_bytes());
        }
    }
}
