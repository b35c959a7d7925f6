//! The list of Linux collectors, in the order in which scrape writes their records.

use super::{
    Collector, Settings, disk, filesystem, host, inet, interface, load, memory, netdev, paging, pressure,
    processes, sockets, stat,
};

/// Makes every collector. A new one adds its line here.
pub fn collectors(settings: &Settings) -> Vec<Box<dyn Collector>> {
    let Settings { roots, top, .. } = settings;
    let mut all: Vec<Box<dyn Collector>> = vec![
        Box::new(host::HostCollector::new(roots)),
        Box::new(interface::InterfaceCollector::new(roots)),
        Box::new(stat::StatCollector::new(settings)),
        Box::new(load::LoadCollector::new(roots)),
        Box::new(pressure::PressureCollector::new(roots)),
        Box::new(memory::MemoryCollector::new(roots)),
        Box::new(paging::PagingCollector::new(roots)),
        Box::new(disk::DiskCollector::new(roots)),
        Box::new(filesystem::FilesystemCollector::new(roots)),
        Box::new(netdev::NetdevCollector::new(roots)),
        Box::new(inet::InetCollector::new(roots)),
        Box::new(sockets::SocketsCollector::new(roots)),
    ];
    if let Some(top) = top {
        all.push(Box::new(processes::ProcessesCollector::new(settings, *top)));
    }
    all
}
