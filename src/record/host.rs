//! The `host` and `interface` records: facts about the machine and its network.

use super::prelude::*;

/// The body of a `host` record: facts that hardly ever change.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Host {
    /// The name of the machine; the field `host` can differ (`--host`).
    pub hostname: Option<String>,
    /// The operating system, as in `uname -s`: `Linux`, `Darwin`.
    pub os: Option<String>,
    /// Its release, as in `uname -r`.
    pub release: Option<String>,
    /// Its version, as in `uname -v`.
    pub version: Option<String>,
    /// The distribution, for people: `PRETTY_NAME` of os-release.
    pub distribution: Option<String>,
    /// The distribution, for programs: `ID` of os-release.
    pub distribution_id: Option<String>,
    /// The distribution's version: `VERSION_ID` of os-release.
    pub distribution_version: Option<String>,
    /// The instruction set, as in `uname -m`.
    pub architecture: Option<String>,
    /// The maker of the machine, from the firmware (DMI).
    pub vendor: Option<String>,
    /// Its model, from the firmware (DMI or device tree).
    pub model: Option<String>,
    /// The name of the processor.
    pub processor: Option<String>,
    /// The number of logical CPUs online.
    pub logical_cpus: Option<u32>,
    /// The number of physical cores of these CPUs.
    pub physical_cores: Option<u32>,
    /// The lowest frequency of any CPU, in hertz.
    pub frequency_min_hz: Option<u64>,
    /// The highest frequency of any CPU, in hertz.
    pub frequency_max_hz: Option<u64>,
    /// The boot time.
    pub boot_ts: Option<Timestamp>,
    /// The time zone's name in the IANA database.
    pub time_zone: Option<String>,
    /// The offset of local time from UTC now, in seconds; positive east of Greenwich.
    pub utc_offset_s: Option<i32>,
}

/// One at the start, then one an hour.
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
    /// `up`, `down`, `unknown` (loopback and tunnels that are up) … (RFC 2863).
    pub state: Option<String>,
    /// Its link-layer address; absent if it has none.
    pub mac: Option<String>,
    /// The largest packet, in bytes.
    pub mtu_bytes: Option<u64>,
    /// Its speed; absent if it is down, or the driver does not know it.
    pub speed_bits_per_s: Option<u64>,
    /// `full` or `half`; absent if it is down, or the driver does not know it.
    pub duplex: Option<String>,
    /// IPv4 addresses with prefix length: `192.0.2.7/24`.
    pub ipv4: Option<Vec<String>>,
    /// IPv6 addresses with prefix length.
    pub ipv6: Option<Vec<String>>,
    /// Whether a default route of IPv4 or IPv6 uses this interface.
    pub default_route: Option<bool>,
    /// The routers of these default routes.
    pub gateways: Option<Vec<String>>,
}

/// One at the start, then one an hour.
pub const INTERFACE: Kind = Kind::log::<Interface>(
    "interface",
    "A network interface: addresses, speed, default route",
    Severity::Is(Level::Info),
)
.about(&[("interface", "network.interface.name")]);
