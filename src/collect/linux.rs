//! The list of Linux collectors, in the order in which scrape writes their records.

use super::file::FileCollector;
use super::{
    Collector, Settings, disk, filesystem, host, inet, interface, netdev, pressure, processes, sockets, stat,
};
use crate::record::{Load, Memory, Paging};

/// Makes every collector. A new one adds its line here.
pub fn collectors(settings: &Settings) -> Vec<Box<dyn Collector>> {
    let Settings { roots, top, .. } = settings;
    let mut all: Vec<Box<dyn Collector>> = vec![
        Box::new(host::HostCollector::new(roots)),
        Box::new(interface::InterfaceCollector::new(roots)),
        Box::new(stat::StatCollector::new(settings)),
        Box::new(FileCollector::<Load>::new(roots)),
        Box::new(pressure::PressureCollector::new(roots)),
        Box::new(FileCollector::<Memory>::new(roots)),
        Box::new(FileCollector::<Paging>::new(roots)),
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
