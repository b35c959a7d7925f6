//! NVIDIA's management library (NVML API reference), loaded at run time because it comes with the driver.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::path::{Path, PathBuf};

use libloading::{Library, Symbol};

use super::state::Values;
use crate::collect::Failure;
use crate::collect::linux::power::hwmon::is_temperature;
use crate::record::Reason;

/// The library that the driver installs.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// The library, loaded when it is first used.
pub struct Nvml {
    path: Option<PathBuf>,
    library: Option<Library>,
    open: bool,
    /// False once loading has failed.
    available: bool,
}

type Handle = *mut c_void;
type Plain = unsafe extern "C" fn() -> c_int;
type Text = unsafe extern "C" fn(c_int) -> *const c_char;
type ByBusId = unsafe extern "C" fn(*const c_char, *mut Handle) -> c_int;
type Count = unsafe extern "C" fn(*mut c_uint) -> c_int;
type ByIndex = unsafe extern "C" fn(c_uint, *mut Handle) -> c_int;
type Name = unsafe extern "C" fn(Handle, *mut c_char, c_uint) -> c_int;
type Fill<T> = unsafe extern "C" fn(Handle, *mut T) -> c_int;
type Choose = unsafe extern "C" fn(Handle, c_uint, *mut c_uint) -> c_int;

/// `nvmlUtilization_t`, in percent.
#[repr(C)]
#[derive(Default)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// `nvmlMemory_t`, in bytes.
#[repr(C)]
#[derive(Default)]
struct Memory {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlMemory_v2_t`, in bytes: `used` does not include what the driver reserves, as nvidia-smi shows it.
#[repr(C)]
struct MemoryV2 {
    /// The size of the structure, and 2 in the top byte.
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

impl Default for MemoryV2 {
    fn default() -> Self {
        let version = size_of::<Self>() as c_uint | 2 << 24;
        Self { version, total: 0, reserved: 0, free: 0, used: 0 }
    }
}

/// `nvmlPciInfo_t`.
#[repr(C)]
#[derive(Default)]
struct Pci {
    legacy: [u8; 16],
    numbers: [c_uint; 5],
    address: [u8; 32],
}

const NO_PERMISSION: c_int = 4;
const DRIVER_NOT_LOADED: c_int = 9;

impl Nvml {
    /// Loads nothing yet; without a path, never.
    pub fn new(path: Option<&Path>) -> Self {
        Self { path: path.map(Path::to_owned), library: None, open: false, available: true }
    }

    /// Reads the device at that PCI address, and no other. Unsupported values are left out.
    ///
    /// # Errors
    /// If the library cannot be started or the device is unknown.
    pub fn read(&mut self, address: &str, values: &mut Values) -> Result<(), Failure> {
        let library = self.start()?;
        let address = CString::new(address).unwrap_or_default();
        let mut device: Handle = std::ptr::null_mut();
        let by_bus_id: Symbol<'_, ByBusId> = symbol(library, c"nvmlDeviceGetHandleByPciBusId_v2")?;
        // SAFETY: a NUL-terminated string, and a valid pointer for the handle.
        check(library, unsafe { by_bus_id(address.as_ptr(), &raw mut device) })?;
        fill(library, device, values);
        Ok(())
    }

    /// Reads every device that the library knows, for systems that show none on the bus, such as WSL. Returns addresses
    /// and values; nothing without the library.
    ///
    /// # Errors
    /// If the library does not start.
    pub fn read_all(&mut self) -> Result<Vec<(String, Values)>, Failure> {
        if self.path.is_none() || !self.available {
            return Ok(Vec::new());
        }
        if let Err(why) = self.load() {
            self.available = false;
            // A library that was named on the command line must load.
            let named = self.path.as_deref() != Some(Path::new(LIBRARY));
            return if named { Err(why) } else { Ok(Vec::new()) };
        }
        let library = self.start()?;
        let mut count = 0;
        let how_many: Symbol<'_, Count> = symbol(library, c"nvmlDeviceGetCount_v2")?;
        // SAFETY: a valid pointer for the number.
        check(library, unsafe { how_many(&raw mut count) })?;
        let by_index: Symbol<'_, ByIndex> = symbol(library, c"nvmlDeviceGetHandleByIndex_v2")?;
        let mut found = Vec::new();
        for index in 0..count {
            let mut device: Handle = std::ptr::null_mut();
            // SAFETY: a valid pointer for the handle.
            if unsafe { by_index(index, &raw mut device) } == 0 {
                let mut values = Values::default();
                fill(library, device, &mut values);
                found.push((address(library, device).unwrap_or_else(|| format!("gpu{index}")), values));
            }
        }
        Ok(found)
    }

    /// Releases every device.
    pub fn close(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        if let Some(library) = &self.library
            && let Ok(shutdown) = symbol::<Plain>(library, c"nvmlShutdown")
        {
            // SAFETY: it takes no arguments, and ends what `nvmlInit_v2` began.
            unsafe { shutdown() };
        }
    }

    fn load(&mut self) -> Result<(), Failure> {
        let Some(path) = self.path.as_ref().filter(|_| self.library.is_none()) else { return Ok(()) };
        // SAFETY: loading runs the library's initialization code; the user named it, or it is the system's own.
        let loaded = unsafe { Library::new(path.as_os_str()) };
        let why = |error| Failure::new(Reason::Absent, format!("{error}; install NVIDIA's driver"));
        self.library = Some(loaded.map_err(why)?);
        Ok(())
    }

    fn start(&mut self) -> Result<&Library, Failure> {
        self.load()?;
        let Some(library) = &self.library else {
            let detail = "NVML reads this machine only, and --sys-root is another's";
            return Err(Failure::new(Reason::Unsupported, detail));
        };
        if !self.open {
            let init: Symbol<'_, Plain> = symbol(library, c"nvmlInit_v2")?;
            // SAFETY: it takes no arguments; this version opens no device until it is read.
            check(library, unsafe { init() })?;
            self.open = true;
        }
        Ok(library)
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads everything that the device supports.
fn fill(library: &Library, device: Handle, values: &mut Values) {
    let gpu = &mut values.gpu;
    gpu.name = name(library, device);
    if let Some(now) = get::<Utilization>(library, device, c"nvmlDeviceGetUtilizationRates") {
        gpu.utilization_ratio = Some(f64::from(now.gpu) / 100.0);
        gpu.memory_utilization_ratio = Some(f64::from(now.memory) / 100.0);
    }
    // Drivers before 510 only have the first version.
    let memory =
        get::<MemoryV2>(library, device, c"nvmlDeviceGetMemoryInfo_v2").map(|it| (it.used, it.total));
    let memory = memory
        .or_else(|| get::<Memory>(library, device, c"nvmlDeviceGetMemoryInfo").map(|it| (it.used, it.total)));
    (gpu.memory_used_bytes, gpu.memory_total_bytes) = memory.unzip();
    // Clock 1 is the multiprocessors', clock 2 the memory's; in megahertz.
    let hertz = |clock| {
        choose(library, device, c"nvmlDeviceGetClockInfo", clock).map(|mhz| u64::from(mhz) * 1_000_000)
    };
    gpu.frequency_hz = hertz(1);
    gpu.memory_frequency_hz = hertz(2);
    // Milliwatts, and millijoules since the driver was loaded. All bits set mean unknown (NVML_VALUE_NOT_AVAILABLE).
    values.power_watts = get::<c_uint>(library, device, c"nvmlDeviceGetPowerUsage")
        .filter(|&mw| mw != c_uint::MAX)
        .map(|mw| f64::from(mw) / 1e3);
    values.energy = get::<c_ulonglong>(library, device, c"nvmlDeviceGetTotalEnergyConsumption")
        .filter(|&mj| mj != c_ulonglong::MAX)
        .map(|mj| (mj, 1e3));
    // Sensor 0 is the GPU's.
    let celsius = choose(library, device, c"nvmlDeviceGetTemperature", 0).map(f64::from);
    values.temperature_celsius = celsius.filter(|&celsius| is_temperature(celsius));
}

fn name(library: &Library, device: Handle) -> Option<String> {
    let call: Symbol<'_, Name> = symbol(library, c"nvmlDeviceGetName").ok()?;
    let mut text: [c_char; 96] = [0; 96];
    // SAFETY: the handle is the library's, and the buffer is one byte longer than the length given.
    let result = unsafe { call(device, text.as_mut_ptr(), 95) };
    // SAFETY: the last byte of the buffer is always 0.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) };
    (result == 0).then(|| text.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
}

/// The PCI address in the form of sysfs, with a domain of four digits instead of eight.
fn address(library: &Library, device: Handle) -> Option<String> {
    let pci = get::<Pci>(library, device, c"nvmlDeviceGetPciInfo_v3")?;
    let text = CStr::from_bytes_until_nul(&pci.address).ok()?.to_str().ok()?.to_ascii_lowercase();
    let (domain, rest) = text.split_once(':')?;
    let domain = domain.strip_prefix("0000").filter(|short| short.len() == 4).unwrap_or(domain);
    Some(format!("{domain}:{rest}"))
}

/// Calls a function that fills one value. `T` must be the type of that function.
fn get<T: Default>(library: &Library, device: Handle, function: &CStr) -> Option<T> {
    let call: Symbol<'_, Fill<T>> = symbol(library, function).ok()?;
    let mut answer = T::default();
    // SAFETY: the handle is the library's, and `answer` has the type that this function fills.
    (unsafe { call(device, &raw mut answer) } == 0).then_some(answer)
}

/// Calls a function that takes a selector and fills a number.
fn choose(library: &Library, device: Handle, function: &CStr, which: c_uint) -> Option<c_uint> {
    let call: Symbol<'_, Choose> = symbol(library, function).ok()?;
    let mut answer = 0;
    // SAFETY: the handle is the library's, and the pointer to the number is valid.
    (unsafe { call(device, which, &raw mut answer) } == 0).then_some(answer)
}

fn symbol<'l, T>(library: &'l Library, name: &CStr) -> Result<Symbol<'l, T>, Failure> {
    // SAFETY: the types above are those of nvml.h for these names, which do not change within a `_v2`.
    let found = unsafe { library.get(name) };
    let why = |error| Failure::new(Reason::Unsupported, format!("{error}; NVML may be too old"));
    found.map_err(why)
}

fn check(library: &Library, result: c_int) -> Result<(), Failure> {
    let reason = match result {
        0 => return Ok(()),
        NO_PERMISSION => Reason::Denied,
        DRIVER_NOT_LOADED => Reason::Absent,
        _ => Reason::Unsupported,
    };
    let text = symbol::<Text>(library, c"nvmlErrorString").ok().and_then(|call| {
        // SAFETY: it takes a number and returns a static string or null.
        let text = unsafe { call(result) };
        // SAFETY: not null, and NUL-terminated.
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    });
    Err(Failure::new(reason, text.unwrap_or_else(|| format!("NVML error {result}"))))
}
