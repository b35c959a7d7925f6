//! The resource: the service and the host that telemetry comes from.

use anyhow::{Context as _, Result, bail};

use super::names::Names;
use super::wire;
use crate::ship::line::{Fields, Value, get};

/// Settings of the encoder.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which names metrics and attributes have.
    pub names: Names,
    /// `service.name`
    pub service: String,
    /// Distinguishes several pipelines on one host, in `service.instance.id`.
    pub pipeline: String,
    /// The name of this host.
    pub host: String,
    /// The host of lines without `host`: this one, unless the environment sets another name.
    pub default_host: String,
    /// `host.id`, for records of this host only.
    pub host_id: Option<String>,
    /// Attributes that override all others. Those of the host (`host.…`, `os.…`) apply to this
    /// host only.
    pub attributes: Vec<(String, String)>,
}

impl Options {
    /// Reads the settings from this machine and from the environment: `OTEL_SERVICE_NAME` and
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    ///
    /// # Errors
    /// If the attributes are not `key=value` pairs with percent-encoded values.
    pub fn from_env() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut attributes = match variable("OTEL_RESOURCE_ATTRIBUTES") {
            Some(text) => parse_attributes(&text).context("OTEL_RESOURCE_ATTRIBUTES")?,
            None => Vec::new(),
        };
        let mut take = |name: &str| {
            let index = attributes.iter().position(|(key, _)| key == name)?;
            Some(attributes.remove(index).1)
        };
        let named = take("service.name");
        let service = variable("OTEL_SERVICE_NAME").or(named).unwrap_or_else(|| "telepipe".to_owned());
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        // Not for records that name their host: one name for all would merge their hosts.
        let default_host = take("host.name").filter(|name| !name.is_empty()).unwrap_or_else(|| host.clone());
        let host_id = std::fs::read_to_string("/etc/machine-id").ok();
        Ok(Self {
            names: Names::default(),
            service,
            pipeline: String::new(),
            host,
            default_host,
            host_id: host_id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()),
            attributes,
        })
    }

    /// Encodes the `Resource` of a host. Attributes of this machine are left out for other hosts.
    /// `own` are the attributes of the record, which override all others.
    pub fn resource(&self, host: &str, own: &Fields<'_>) -> Vec<u8> {
        let host = get(own, "host.name").and_then(Value::as_str).unwrap_or(host);
        let here = host == self.host || host == self.default_host;
        let instance = instance_id(&[&self.service, &self.pipeline, host]);
        let version = env!("CARGO_PKG_VERSION");
        let mut all = vec![
            ("service.name", self.service.as_str()),
            ("service.instance.id", &instance),
            ("host.name", host),
        ];
        if here {
            all.extend(self.host_id.as_deref().map(|id| ("host.id", id)));
            all.push(("os.type", os_type()));
        }
        all.extend([
            ("telemetry.sdk.name", "telepipe"),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.version", version),
        ]);
        let about_host = |key: &str| key.starts_with("host.") || key.starts_with("os.");
        let given: Vec<_> = self.attributes.iter().filter(|(key, _)| here || !about_host(key)).collect();
        all.retain(|(key, _)| !given.iter().any(|(given, _)| given == key));
        all.extend(given.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let mut out = Vec::new();
        for (key, value) in all.into_iter().filter(|(key, _)| get(own, key).is_none()) {
            wire::key_text(&mut out, 1, key, value);
        }
        wire::key_values(&mut out, 1, own);
        out
    }
}

/// The value of `os.type` for this system.
fn os_type() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

/// Returns a UUID that depends on the names only (RFC 9562, version 8).
fn instance_id(names: &[&str]) -> String {
    let hash = fnv(names.iter().flat_map(|name| name.bytes().chain([0])));
    let uuid = hash & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{uuid:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// FNV-1a of 128 bits.
fn fnv(bytes: impl Iterator<Item = u8>) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

/// Parses `key=value,key=value`, percent-encoded. The last value of a key wins.
fn parse_attributes(text: &str) -> Result<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = Vec::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let Some((key, value)) = pair.split_once('=') else { bail!("`{pair}` is not key=value") };
        let (key, value) = (percent_decode(key.trim())?, percent_decode(value.trim())?);
        if key.is_empty() {
            bail!("`{pair}` has no key");
        }
        all.retain(|(before, _)| *before != key);
        all.push((key, value));
    }
    Ok(all)
}

/// Decodes percent-encoding.
///
/// # Errors
/// If the text is not percent-encoded UTF-8.
pub fn percent_decode(text: &str) -> Result<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    out.extend_from_slice(parts.next().unwrap_or("").as_bytes());
    for part in parts {
        let hex = part.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some(hex) = hex else { bail!("`{text}` has a % without two hexadecimal digits after it") };
        out.push(u8::from_str_radix(hex, 16)?);
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(out).with_context(|| format!("`{text}` is not UTF-8 once decoded"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use opentelemetry_proto::tonic::common::v1::any_value;

    use super::*;

    #[test]
    fn attributes_of_the_environment() {
        let parse = |text| parse_attributes(text).map_err(|error| error.to_string());
        let pairs = |pairs: &[(&str, &str)]| {
            Ok(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(parse("a=1, b.c = x%2Cy%3D%C3%A9 ,a=2,"), pairs(&[("b.c", "x,y=é"), ("a", "2")]));
        assert_eq!(parse("k="), pairs(&[("k", "")]));
        for wrong in ["a", "=1", "a=%", "a=%2", "a=%zz", "a=%+1", "a=%FF", "a=%é1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn instance_ids_depend_on_every_part() {
        let ids =
            [["a", "b", "c"], ["a", "bc", ""], ["ab", "", "c"], ["a", "b", "c"]].map(|n| instance_id(&n));
        assert_eq!(ids[0], ids[3]);
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
        let parts: Vec<_> = ids[0].split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!((&ids[0][14..15], "89ab".contains(&ids[0][19..20])), ("8", true));
        // A test vector of the FNV authors.
        assert_eq!(fnv(b"a".iter().copied()), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn given_attributes_override_and_those_of_the_host_apply_to_this_one() {
        let given = [("service.instance.id", "1"), ("host.id", "x"), ("cloud.region", "eu")];
        let options = Options {
            names: Names::Semconv,
            service: "s".into(),
            pipeline: String::new(),
            host: "h".into(),
            default_host: "named".into(),
            host_id: Some("found".into()),
            attributes: given.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        };
        let resource = |host: &str| {
            let bytes = options.resource(host, &Fields::new());
            let found: opentelemetry_proto::tonic::resource::v1::Resource =
                prost::Message::decode(&bytes[..]).unwrap();
            let text = |pair: opentelemetry_proto::tonic::common::v1::KeyValue| {
                let Some(any_value::Value::StringValue(text)) = pair.value.unwrap().value else { panic!() };
                (pair.key, text)
            };
            let pairs: Vec<_> = found.attributes.into_iter().map(text).collect();
            let map: HashMap<_, _> = pairs.iter().cloned().collect();
            assert_eq!(map.len(), pairs.len(), "{pairs:?}");
            map
        };
        for (host, id, os) in [("h", Some("x"), true), ("named", Some("x"), true), ("other", None, false)] {
            let resource = resource(host);
            let get = |key: &str| resource.get(key).map(String::as_str);
            assert_eq!((get("host.name"), get("host.id"), get("os.type").is_some()), (Some(host), id, os));
            assert_eq!((get("service.instance.id"), get("cloud.region")), (Some("1"), Some("eu")));
        }
    }
}
