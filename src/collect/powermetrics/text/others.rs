//! Rows of the battery, of heat, and of what is measured elsewhere.

use nom::Parser as _;
use nom::bytes::complete::{tag, take_until};
use nom::character::complete::space0;
use nom::sequence::delimited;

use super::Text;
use crate::collect::powermetrics::bounds;
use crate::collect::powermetrics::value::{number, plain, with_unit};
use crate::record::{Fan, Temperature, ThermalPressure};

impl Text {
    /// False if it is none of these.
    pub(super) fn others(&mut self, name: &str, value: &[u8]) -> bool {
        match name {
            "Machine model" | "SMC version" | "EFI version" | "OS version" | "Boot arguments"
            | "Boot time" => true,
            "Battery" => {
                let charge = value.strip_prefix(b"percent_charge:").and_then(number).filter(|it| *it >= 0.0);
                charge.map(|charge| self.sample.charge(charge)).is_some()
            }
            "Backlight level" => {
                let ratio = level(value);
                ratio.map(|_| self.sample.battery().backlight_ratio = ratio).is_some()
            }
            "Keyboard Backlight level" => {
                let ratio = level(value);
                ratio.map(|_| self.sample.battery().keyboard_backlight_ratio = ratio).is_some()
            }
            "out" | "in" => traffic(value, ["packets/s", "bytes/s"]),
            "read" | "write" => traffic(value, ["ops/s", "KBytes/s"]),
            "Current pressure level" => {
                let level = String::from_utf8_lossy(value).into_owned();
                let one_word = !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_alphabetic());
                if one_word {
                    self.pressure().level = Some(level);
                }
                one_word
            }
            _ => self.smc(name, value).is_some(),
        }
    }

    fn pressure(&mut self) -> &mut ThermalPressure {
        self.sample.pressure.get_or_insert_default()
    }

    /// Rows of the smc sampler (Intel).
    fn smc(&mut self, name: &str, value: &[u8]) -> Option<()> {
        if let Some(label) = name.strip_suffix(" temperature") {
            let id = label.to_ascii_lowercase().replace(' ', "_");
            self.sample.temperatures.push(Temperature {
                component: if id.starts_with("cpu") {
                    "cpu"
                } else if id.starts_with("gpu") {
                    "gpu"
                } else {
                    "other"
                },
                sensor_id: id,
                label: Some(label.to_owned()),
                source: "smc".into(),
                temperature_celsius: with_unit(value, "C").and_then(bounds::celsius)?,
                ..Temperature::default()
            });
            return Some(());
        }
        if name == "Fan" || name.starts_with("Fan ") {
            let speed_rpm = with_unit(value, "rpm").and_then(bounds::rpm)?;
            let sensor_id = format!("fan{}", self.sample.fans.len());
            let label = name.strip_prefix("Fan ").map(str::to_owned);
            self.sample.fans.push(Fan { sensor_id, label, source: "smc".into(), speed_rpm });
            return Some(());
        }
        let number = number(value)?;
        let pressure = self.pressure();
        let level = || bounds::level(number);
        match name {
            "CPU Thermal level" => pressure.cpu_level = Some(level()? as i64),
            "GPU Thermal level" => pressure.gpu_level = Some(level()? as i64),
            "IO Thermal level" => pressure.io_level = Some(level()? as i64),
            "CPU Plimit" => pressure.cpu_plimit = Some(level()?),
            "GPU Plimit" | "GPU Plimit (Int)" => pressure.gpu_plimit = Some(level()?),
            _ if name.starts_with("GPU2 Plimit") => pressure.gpu2_plimit = Some(level()?),
            "Number of prochots" => pressure.prochots = Some(bounds::count(number)?),
            _ => return None,
        }
        Some(())
    }
}

/// `910 (range 0-1024)`, `104 (off 0 on range 32-512)`: the part of the most.
fn level(value: &[u8]) -> Option<f64> {
    let range =
        delimited((space0, tag("("), take_until("range "), tag("range "), plain, tag("-")), plain, tag(")"));
    let read = |bytes| (plain, range).parse(bytes);
    let (_, (value, most)): (_, (f64, f64)) = read(value).ok()?;
    (most > 0.0).then(|| bounds::ratio(value / most))?
}

/// `3.89 packets/s, 375.67 bytes/s`, and what disks say, without a comma. `scrape` measures these.
fn traffic(value: &[u8], units: [&str; 2]) -> bool {
    let text = String::from_utf8_lossy(value).replace(',', " ");
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    matches!(words[..], [one, unit, other, second]
        if [unit, second] == units && number(one.as_bytes()).is_some() && number(other.as_bytes()).is_some())
}

/// `Total IRQ: 2057.23 interrupts/sec`, `|-> IPI: …`, `Vector 0x46(SMC): …`.
pub(super) fn interrupts(line: &[u8]) -> bool {
    let Some(colon) = line.iter().rposition(|&byte| byte == b':') else { return false };
    let named = [&b"Total IRQ"[..], b"|-> ", b"Vector "].iter().any(|name| line.starts_with(name));
    named && with_unit(&line[colon + 1..], "interrupts/sec").is_some()
}
