//! Addresses and arguments: numbers that people read in hexadecimal, and that JavaScript would round.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// A number written as `"0x7ffc1a2b"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = *b"0x0000000000000000";
        let digits = (16 - self.0.leading_zeros() as usize / 4).max(1);
        for (place, byte) in text[2..2 + digits].iter_mut().rev().enumerate() {
            *byte = b"0123456789abcdef"[(self.0 >> (4 * place)) as usize & 15];
        }
        serializer.serialize_str(str::from_utf8(&text[..2 + digits]).unwrap_or_default())
    }
}

impl JsonSchema for Hex {
    fn schema_name() -> Cow<'static, str> {
        "Hex".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0x[0-9a-f]{1,16}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_standard_library_writes_it() {
        for number in [0, 1, 15, 16, 0x7ffc_1a2b, u64::MAX, 1 << 63, 0x0fff_ffff_ffff_ffff] {
            assert_eq!(serde_json::to_string(&Hex(number)).unwrap(), format!("\"{number:#x}\""));
        }
    }
}
