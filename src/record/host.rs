//! What the machine is, and how it is connected.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Kind, Level, Record, Severity};
use crate::common::time::Timestamp;

/// The body of a `host` record: what hardly ever changes.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Host {
    /// The name that the machine has for itself; `host` can be another (`--host`).
    pub hostname: Option<String>,
    /// The operating system, as `uname -s` says: `Linux`, `Darwin`.
    pub os: Option<String>,
    /// Its release, as `uname -r` says.
    pub release: Option<String>,
    /// Its version, as `uname -v` says.
    pub version: Option<String>,
    /// The distribution, for people: `PRETTY_NAME` of os-release.
    pub distribution: Option<String>,
    /// The distribution, for programs: `ID` of os-release.
    pub distribution_id: Option<String>,
    /// The distribution's version: `VERSION_ID` of os-release.
    pub distribution_version: Option<String>,
    /// The instruction set, as `uname -m` says.
    pub architecture: Option<String>,
    /// Who made the machine, as its firmware says (DMI).
    pub vendor: Option<String>,
    /// Its model, as its firmware says (DMI or device tree).
    pub model: Option<String>,
    /// The processor's name.
    pub processor: Option<String>,
    /// Logical CPUs online.
    pub logical_cpus: Option<u32>,
    /// Physical cores that these belong to.
    pub physical_cores: Option<u32>,
    /// The lowest frequency of any CPU, in hertz.
    pub frequency_min_hz: Option<u64>,
    /// The highest frequency of any CPU, in hertz.
    pub frequency_max_hz: Option<u64>,
    /// When it was booted.
    pub boot_ts: Option<Timestamp>,
    /// The time zone's name in the IANA database.
    pub time_zone: Option<String>,
    /// How far local time is ahead of UTC now, in seconds.
    pub utc_offset_s: Option<i32>,
}

impl Record for Host {
    const KIND: &'static Kind = &HOST;
}

/// At the start, and hourly.
pub const HOST: Kind = Kind::log::<Host>(
    "host",
    "The machine: operating system, model, processor, boot time, time zone",
    Severity::Is(Level::Info),
)
.about(&[("distribution", "os.description"), ("processor", "host.cpu.model.name")]);

/// The body of an `interface` record: one network interface and its addresses.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Interface {
    /// Its name.
    pub interface: String,
    /// Its number.
    pub index: Option<u64>,
    /// `up`, `down`, `unknown` (which loopback and tunnels are when up) … (RFC 2863).
    pub state: Option<String>,
    /// Its link-layer address.
    pub mac: Option<String>,
    /// Largest packet that it takes, in bytes.
    pub mtu_bytes: Option<u64>,
    /// Its speed; absent if it is down or virtual.
    pub speed_bits_per_s: Option<u64>,
    /// `full` or `half`; absent if it is down or virtual.
    pub duplex: Option<String>,
    /// IPv4 addresses, each with the length of its prefix: `192.0.2.7/24`.
    pub ipv4: Option<Vec<String>>,
    /// IPv6 addresses, likewise.
    pub ipv6: Option<Vec<String>>,
    /// Whether packets to anywhere else go out here, over IPv4 or IPv6.
    pub default_route: Option<bool>,
    /// The routers that these packets go to.
    pub gateways: Option<Vec<String>>,
}

impl Record for Interface {
    const KIND: &'static Kind = &INTERFACE;
}

/// At the start, and hourly.
pub const INTERFACE: Kind = Kind::log::<Interface>(
    "interface",
    "A network interface: addresses, speed, whether the default route leads there",
    Severity::Is(Level::Info),
)
.about(&[("interface", "network.interface.name")]);
