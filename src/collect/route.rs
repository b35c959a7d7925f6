//! /proc/net/route and /proc/net/ipv6_route → where the default routes lead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::text::{lines, words};

/// One default route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The interface's name.
    pub interface: String,
    /// The router; `None` if the interface's far end is the world.
    pub gateway: Option<IpAddr>,
    metric: u32,
}

/// Usable (`RTF_UP`), and not there to refuse (`RTF_REJECT`).
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

/// The default routes of the lowest metric, which are those in use.
/// /proc/net/route (kernel `net/ipv4/fib_trie.c`): interface, destination, gateway, flags,
/// two counts, metric in decimal, mask; addresses are hexadecimal, as the machine would read them from memory.
pub fn ipv4(bytes: &[u8]) -> Vec<DefaultRoute> {
    let route = |line| {
        let mut words = words(line);
        let interface = String::from_utf8_lossy(words.next()?).into_owned();
        let [destination, gateway, flags] = [hex(words.next()?)?, hex(words.next()?)?, hex(words.next()?)?];
        let metric = str::from_utf8(words.nth(2)?).ok()?.parse().ok()?;
        let mask = hex(words.next()?)?;
        let gateway = Ipv4Addr::from(gateway.to_ne_bytes());
        let gateway = (!gateway.is_unspecified()).then_some(IpAddr::V4(gateway));
        let used = destination == 0 && mask == 0 && flags & UP != 0 && flags & REJECT == 0;
        used.then_some(DefaultRoute { interface, gateway, metric })
    };
    lowest(lines(bytes).filter_map(route).collect())
}

/// The same of /proc/net/ipv6_route (kernel `net/ipv6/route.c`): destination, length of its prefix,
/// source, its prefix, next hop, metric, two counts, flags, interface; all but the last hexadecimal.
pub fn ipv6(bytes: &[u8]) -> Vec<DefaultRoute> {
    let route = |line| {
        let words: Vec<_> = words(line).collect();
        let [destination, prefix, _, _, gateway, metric, _, _, flags, interface] = words[..] else {
            return None;
        };
        let used = hex(prefix)? == 0 && hex128(destination)? == 0;
        let flags = hex(flags)?;
        let gateway = Ipv6Addr::from(hex128(gateway)?);
        let gateway = (!gateway.is_unspecified()).then_some(IpAddr::V6(gateway));
        let interface = String::from_utf8_lossy(interface).into_owned();
        let metric = hex(metric)?;
        (used && flags & UP != 0 && flags & REJECT == 0).then_some(DefaultRoute {
            interface,
            gateway,
            metric,
        })
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

    /// 192.0.2.1 as this machine would print it.
    fn router() -> String {
        format!("{:08X}", u32::from_ne_bytes([192, 0, 2, 1]))
    }

    #[test]
    fn the_lowest_metric_is_in_use() {
        let router = router();
        let text = format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
             wlan0\t00000000\t{router}\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
             eth0\t00000000\t{router}\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             ppp0\t00000000\t00000000\t0001\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth1\t00000000\t{router}\t0200\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        );
        let routes = ipv4(text.as_bytes());
        let seen: Vec<_> = routes.iter().map(|r| (r.interface.as_str(), r.gateway)).collect();
        assert_eq!(seen, [("eth0", Some("192.0.2.1".parse().unwrap())), ("ppp0", None)]);
    }

    #[test]
    fn ipv6_without_the_one_that_refuses() {
        let (zero, one) = ("0".repeat(32), "fd000000000000000000000000000001");
        let text = format!(
            "{zero} 00 {zero} 00 {one} 00000400 00000002 00000000 00000003     eth0\n\
             {zero} 00 {zero} 00 {zero} 00000000 00000001 00000000 00200200       lo\n\
             {one} 80 {zero} 00 {zero} 00000000 00000002 00000000 80200001       lo\n"
        );
        let routes = ipv6(text.as_bytes());
        let seen: Vec<_> = routes.iter().map(|r| (r.interface.as_str(), r.gateway)).collect();
        assert_eq!(seen, [("eth0", Some("fd00::1".parse().unwrap()))]);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(text in "([0-9a-fA-Fx]{0,33}[ \t\n]){0,40}|.{0,40}") {
            ipv4(text.as_bytes());
            ipv6(text.as_bytes());
        }
    }
}
