//! Zones of energy, and what they are called.

/// A counter of energy and its place among the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// Unique among all, and stable: `intel-rapl:0:1`.
    pub id: String,
    /// The `id` of the zone it lies in.
    pub inside: Option<String>,
    /// Which interface it belongs to: `intel-rapl`, `intel-rapl-mmio`, `power`.
    pub control: String,
    /// What its driver calls it: `package-0`, `core`, `dram`, `psys`.
    pub name: String,
    /// The value at which it wraps.
    pub range: Option<u64>,
    /// Counts for one joule.
    pub per_joule: f64,
    /// Whether it is of a single core, and not of all cores of its package.
    pub one_core: bool,
}

impl Zone {
    /// The word that records have for what uses the energy.
    pub fn domain(&self) -> String {
        match self.name.as_str() {
            name if name.starts_with("package") => "package".into(),
            "core" | "cores" if !self.one_core => "cpu".into(),
            name => slug(name),
        }
    }

    /// Whether it is of that domain.
    pub fn is(&self, domain: &str) -> bool {
        self.domain() == domain
    }

    /// The second interface to the counters of `intel-rapl`.
    pub fn mmio(&self) -> bool {
        self.control.ends_with("-mmio")
    }

    /// `package-0` of `package-0-die-1`.
    pub fn package(&self) -> &str {
        self.name.split("-die-").next().unwrap_or_default()
    }
}

/// A driver's own name as a word that can be a part of a metric's name: `CPU Package` is `cpu_package`.
pub fn slug(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// The name of a zone in records: that of its parents and its own, `package-0/core`.
pub fn path(zones: &[Zone], zone: &Zone) -> String {
    let inside = zone.inside.as_ref().and_then(|id| zones.iter().find(|other| other.id == *id));
    let mut path = match inside {
        Some(parent) => format!("{}/{}", path(zones, parent), zone.name),
        None if zone.mmio() => format!("mmio/{}", zone.name),
        None => zone.name.clone(),
    };
    let twin = |other: &&Zone| (&other.name, &other.inside) == (&zone.name, &zone.inside);
    let twins = zones.iter().filter(|other| other.control == zone.control).filter(twin);
    if twins.count() > 1 {
        // Two packages of one name.
        path = format!("{path}@{}", zone.id);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_drivers_become_words() {
        assert_eq!((slug("CPU Package"), slug("PCH-0")), ("cpu_package".into(), "pch_0".into()));
    }
}
