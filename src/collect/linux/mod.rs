//! The collectors of Linux, which read /proc, /sys and netlink, and their list in the order in which scrape writes
//! their records.

mod blockdev;
pub mod cgroup;
mod disk;
mod diskstats;
mod file;
mod filesystem;
mod host;
mod inet;
mod interface;
mod load;
mod memory;
mod mountinfo;
mod netdev;
mod netstat;
mod paging;
mod pidstat;
pub mod power;
mod pressure;
mod prober;
mod processes;
mod sockets;
mod stat;
pub mod statvfs;
mod tcp_sockets;
pub mod virtual_memory;

use super::{Collector, Settings};
use crate::record::{Load, Memory, Paging};
use file::FileCollector;
pub use stat::boot_time;

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
