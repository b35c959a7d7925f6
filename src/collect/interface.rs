//! /sys/class/net, the addresses of this machine and its default routes → `interface`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;

use super::route::{self, DefaultRoute};
use super::text::{number, text};
use super::{Collector, Roots, Sample, unreadable};
use crate::common::emit::Emitter;
use crate::record::{INTERFACE, Interface, Kind};

/// Reads once an hour how the machine is connected. Addresses are those of this
/// process's network namespace, so foreign trees have none.
pub struct InterfaceCollector(Roots);

impl InterfaceCollector {
    /// Of these trees.
    pub fn new(roots: &Roots) -> Self {
        Self(roots.clone())
    }

    /// The interfaces by name, and what /sys says of them.
    fn named(&self, sample: &Sample<'_>, out: &mut Emitter) -> Result<BTreeMap<String, Interface>> {
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
        let mut interfaces = self.named(sample, out)?;
        if !self.0.foreign {
            match getifaddrs() {
                Ok(addresses) => addresses.for_each(|address| add(&mut interfaces, &address)),
                Err(error) => unreadable(out, sample.ts, "getifaddrs", &error.into())?,
            }
        }
        let net = self.0.proc.join("net");
        let ipv4 = fs::read(net.join("route")).map(|bytes| route::ipv4(&bytes));
        let ipv6 = fs::read(net.join("ipv6_route")).map(|bytes| route::ipv6(&bytes));
        match (ipv4, ipv6) {
            (Err(error), Err(_)) => {
                unreadable(out, sample.ts, &net.join("route").to_string_lossy(), &error)?;
            }
            (ipv4, ipv6) => {
                let routes: Vec<_> = ipv4.into_iter().chain(ipv6).flatten().collect();
                interfaces.values_mut().for_each(|interface| set_routes(interface, &routes));
            }
        }
        interfaces.values().try_for_each(|interface| out.emit(sample.ts, interface))
    }
}

/// What a folder of /sys/class/net says (kernel `Documentation/ABI/testing/sysfs-class-net`).
fn described(folder: &Path) -> Option<Interface> {
    let word = |name| text(&fs::read(folder.join(name)).ok()?);
    let count = |name| number(word(name)?.as_bytes());
    Some(Interface {
        interface: folder.file_name()?.to_string_lossy().into_owned(),
        index: count("ifindex"),
        state: word("operstate"),
        mac: word("address"),
        mtu_bytes: count("mtu"),
        // In Mbit/s; -1, or an error, where there is none.
        speed_bits_per_s: count("speed")
            .and_then(|speed| speed.checked_mul(1_000_000))
            .filter(|&speed| speed > 0),
        duplex: word("duplex").filter(|duplex| duplex != "unknown"),
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
