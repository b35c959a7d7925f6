//! Reads network interfaces into `interface` and `netdev` records.

use ::sysinfo::{NetworkData, Networks};
use anyhow::Result;

use crate::collect::slots::Slots;
use crate::collect::{Collector, Sample, micro, rate};
use crate::common::emit::Emitter;
use crate::record::{INTERFACE, Interface, Kind, NETDEV, Netdev};

/// The collector of network interfaces.
pub struct NetworksCollector {
    networks: Networks,
    slots: Slots<Option<Counts>>,
}

/// The counts of the previous sample: bytes, packets and errors, each received and sent.
type Counts = [u64; 6];

impl NetworksCollector {
    /// Queries nothing yet.
    pub fn new() -> Self {
        Self { networks: Networks::new(), slots: Slots::new() }
    }
}

impl Collector for NetworksCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&INTERFACE, &NETDEV]
    }

    fn method(&self) -> String {
        "getifaddrs and sysctl, by the sysinfo crate".into()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        self.networks.refresh(true);
        let mut networks: Vec<_> = self.networks.iter().collect();
        networks.sort_unstable_by_key(|(name, _)| name.as_str());
        if sample.inventory && sample.wants(&INTERFACE) {
            networks.iter().try_for_each(|(name, data)| out.emit(sample.ts, &interface(name, data)))?;
        }
        for record in netdevs(&mut self.slots, &networks, sample) {
            sample.emit(&record, out)?;
        }
        Ok(())
    }
}

fn interface(name: &str, data: &NetworkData) -> Interface {
    let addresses = |v4: bool| {
        let networks = data.ip_networks().iter().filter(|network| network.addr.is_ipv4() == v4);
        let mut list: Vec<_> = networks.map(ToString::to_string).collect();
        list.sort_unstable();
        (!list.is_empty()).then_some(list)
    };
    let mac = data.mac_address();
    Interface {
        interface: name.to_owned(),
        mac: (!mac.is_unspecified()).then(|| mac.to_string()),
        mtu_bytes: Some(data.mtu()).filter(|&mtu| mtu > 0),
        ipv4: addresses(true),
        ipv6: addresses(false),
        ..Interface::default()
    }
}

fn netdevs<'a>(
    slots: &mut Slots<Option<Counts>>,
    networks: &[(&'a String, &NetworkData)],
    sample: &Sample<'_>,
) -> Vec<Netdev<'a>> {
    let interval = slots.begin(sample);
    let records = networks.iter().map(|(name, data)| {
        let now = [
            data.total_received(),
            data.total_transmitted(),
            data.total_packets_received(),
            data.total_packets_transmitted(),
            data.total_errors_on_received(),
            data.total_errors_on_transmitted(),
        ];
        let slot = slots.slot(name.as_bytes(), 0, |_| None);
        if slot.data.is_some_and(|before| now[0] < before[0] || now[1] < before[1]) {
            slot.restart();
            slot.data = None;
        }
        let before = slot.data.replace(now);
        let per_s = |index: usize| rate(Some(now[index]), before.map(|before| before[index]), interval);
        Netdev {
            interface: name,
            start_ts: slot.since.or(sample.boot),
            rx_bytes: Some(now[0]),
            rx_packets: Some(now[2]),
            rx_errors: Some(now[4]),
            tx_bytes: Some(now[1]),
            tx_packets: Some(now[3]),
            tx_errors: Some(now[5]),
            interval_s: before.and(interval).map(|interval| micro(interval.as_secs_f64())),
            rx_bytes_per_s: per_s(0),
            tx_bytes_per_s: per_s(1),
            rx_packets_per_s: per_s(2),
            tx_packets_per_s: per_s(3),
            rx_errors_per_s: per_s(4),
            tx_errors_per_s: per_s(5),
            ..Netdev::default()
        }
    });
    let records = records.collect();
    slots.end();
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::time::Timestamp;
    use std::collections::BTreeMap;
    use std::time::Duration;

    /// The counts in /proc/net/dev, by interface.
    fn kernel() -> BTreeMap<String, procfs::net::DeviceStatus> {
        procfs::net::dev_status().unwrap().into_iter().collect()
    }

    #[test]
    fn counts_are_those_of_the_kernel() {
        let sample = Sample {
            ts: Timestamp::now(),
            boot: Some(Timestamp::from_secs(1)),
            interval: Some(Duration::from_secs(2)),
            write: true,
            inventory: true,
            wanted: &|_| true,
        };
        let mut slots = Slots::new();
        let mut networks = Networks::new();
        networks.refresh(true);
        netdevs(&mut slots, &networks.iter().collect::<Vec<_>>(), &sample);
        let before = kernel();
        networks.refresh(true);
        let list: Vec<_> = networks.iter().collect();
        let records = netdevs(&mut slots, &list, &sample);
        let after = kernel();
        assert!(records.iter().any(|record| record.interface == "lo"));
        for record in records {
            let (Some(low), Some(high)) = (before.get(record.interface), after.get(record.interface)) else {
                continue;
            };
            assert!((low.recv_bytes..=high.recv_bytes).contains(&record.rx_bytes.unwrap()));
            assert!((low.sent_packets..=high.sent_packets).contains(&record.tx_packets.unwrap()));
            assert_eq!((record.start_ts, record.interval_s), (sample.boot, Some(2.0)));
            assert!(record.rx_bytes_per_s.is_some());
        }
    }

    #[test]
    fn addresses_have_their_prefix() {
        let mut networks = Networks::new();
        networks.refresh(true);
        let loopback = interface("lo", networks.get("lo").unwrap());
        assert_eq!(loopback.ipv4.unwrap(), ["127.0.0.1/8"]);
        assert_eq!(loopback.mac, None);
        assert_eq!(
            loopback.mtu_bytes.unwrap().to_string(),
            std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap().trim()
        );
    }
}
