//! Random OTLP/JSON in all forms that proto3 JSON allows is read as protobuf's own parser reads it.

use serde_json::{Map, Value, json};

use crate::support::{Capture, Ship};
use crate::{decoded, decoded_files};

/// A generator of random messages (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    /// An object with some of the fields, in random order and with names in either case, perhaps with null and unknown
    /// fields.
    fn object(&mut self, fields: Vec<(&str, Value)>) -> Value {
        let mut fields: Vec<_> = fields.into_iter().filter(|_| self.below(8) > 0).collect();
        if self.below(4) == 0 {
            fields.push((
                self.pick(&["unknownField", "x"]),
                self.pick(&[json!(1), json!({"a": [null]}), json!("")]),
            ));
        }
        let mut out = Map::new();
        while !fields.is_empty() {
            let (name, value) = fields.swap_remove(self.below(fields.len() as u64) as usize);
            let name = if self.below(3) == 0 { snake(name) } else { name.to_owned() };
            out.insert(name, if self.below(12) == 0 { Value::Null } else { value });
        }
        out.into()
    }

    fn list(&mut self, element: fn(&mut Self) -> Value) -> Value {
        (0..self.below(4)).map(|_| element(self)).collect()
    }

    fn unsigned(&mut self) -> Value {
        let number = self.below(1 << 50);
        self.pick(&[
            json!(number),
            json!(number.to_string()),
            json!(number as f64),
            json!(1.544_712_660_3e18),
            json!(u64::MAX),
            json!(u64::MAX.to_string()),
            json!(0),
        ])
    }

    fn signed(&mut self) -> Value {
        let number = self.below(1 << 50) as i64 - (1 << 49);
        self.pick(&[
            json!(number),
            json!(number.to_string()),
            json!(i64::MIN),
            json!(-2.0),
            json!(i64::MAX.to_string()),
        ])
    }

    fn small(&mut self) -> Value {
        let number = self.below(1 << 20);
        self.pick(&[json!(number), json!(number.to_string()), json!(number as f64)])
    }

    fn double(&mut self) -> Value {
        let number = self.below(1 << 60) as f64 / 3.0;
        self.pick(&[
            json!(number),
            json!(7),
            json!("-1.5e-3"),
            json!("NaN"),
            json!("Infinity"),
            json!("-Infinity"),
        ])
    }

    fn text(&mut self) -> Value {
        self.pick(&[json!(""), json!("a"), json!("é😀\n\"\u{0}")])
    }

    fn id(&mut self, len: usize) -> Value {
        let digits: String = (0..2 * len).map(|_| self.pick(&['0', '7', 'a', 'F'])).collect();
        self.pick(&[json!(digits), json!("")])
    }

    fn any_value(&mut self) -> Value {
        let value = match self.below(9) {
            0 => ("stringValue", self.text()),
            1 => ("boolValue", json!(true)),
            2 => ("intValue", self.signed()),
            3 => ("doubleValue", self.double()),
            4 => (
                "bytesValue",
                self.pick(&[json!("AQ=="), json!("AQ"), json!("-_-_"), json!("+/+/"), json!("")]),
            ),
            5 => ("arrayValue", json!({ "values": self.list(Self::any_value) })),
            6 => ("kvlistValue", json!({ "values": self.list(Self::attribute) })),
            _ => ("stringValue", json!("b")),
        };
        self.object(vec![value])
    }

    fn attribute(&mut self) -> Value {
        let (key, value) = (self.text(), self.any_value());
        self.object(vec![("key", key), ("value", value)])
    }

    fn attributes(&mut self) -> Value {
        self.list(Self::attribute)
    }

    fn number_point(&mut self) -> Value {
        let value = if self.below(2) == 0 { ("asInt", self.signed()) } else { ("asDouble", self.double()) };
        let fields = vec![
            ("startTimeUnixNano", self.unsigned()),
            ("timeUnixNano", self.unsigned()),
            ("attributes", self.attributes()),
            ("flags", self.small()),
            value,
        ];
        self.object(fields)
    }

    fn histogram_point(&mut self) -> Value {
        let fields = vec![
            ("timeUnixNano", self.unsigned()),
            ("count", self.unsigned()),
            ("sum", self.double()),
            ("bucketCounts", self.list(Self::unsigned)),
            ("explicitBounds", self.list(Self::double)),
            ("min", self.double()),
            ("attributes", self.attributes()),
        ];
        self.object(fields)
    }

    fn exponential_point(&mut self) -> Value {
        let buckets = vec![
            ("offset", self.pick(&[json!(-3), json!("-3"), json!(4.0)])),
            ("bucketCounts", self.list(Self::unsigned)),
        ];
        let fields = vec![
            ("scale", self.pick(&[json!(-10), json!("20"), json!(0)])),
            ("zeroCount", self.unsigned()),
            ("zeroThreshold", self.double()),
            ("positive", self.object(buckets)),
            ("max", self.double()),
        ];
        self.object(fields)
    }

    fn quantile(&mut self) -> Value {
        let fields = vec![("quantile", self.double()), ("value", self.double())];
        self.object(fields)
    }

    fn summary_point(&mut self) -> Value {
        let fields = vec![
            ("count", self.unsigned()),
            ("sum", self.double()),
            ("quantileValues", self.list(Self::quantile)),
        ];
        self.object(fields)
    }

    fn metric(&mut self) -> Value {
        let (shape, points) = match self.below(5) {
            0 => ("gauge", self.list(Self::number_point)),
            1 => ("sum", self.list(Self::number_point)),
            2 => ("histogram", self.list(Self::histogram_point)),
            3 => ("exponentialHistogram", self.list(Self::exponential_point)),
            _ => ("summary", self.list(Self::summary_point)),
        };
        let temporality = [json!("AGGREGATION_TEMPORALITY_DELTA"), json!(2), json!("1"), json!(99)];
        let mut data = vec![("dataPoints", points)];
        if !["gauge", "summary"].contains(&shape) {
            data.push(("aggregationTemporality", self.pick(&temporality)));
        }
        if shape == "sum" {
            data.push(("isMonotonic", json!(true)));
        }
        let fields = vec![
            ("name", self.text()),
            ("description", self.text()),
            ("unit", json!("By")),
            (shape, self.object(data)),
        ];
        self.object(fields)
    }

    fn log_record(&mut self) -> Value {
        let fields = vec![
            ("timeUnixNano", self.unsigned()),
            ("observedTimeUnixNano", self.unsigned()),
            (
                "severityNumber",
                self.pick(&[json!("SEVERITY_NUMBER_ERROR2"), json!(9), json!("13"), json!(5.0)]),
            ),
            ("severityText", self.text()),
            ("body", self.any_value()),
            ("attributes", self.attributes()),
            ("droppedAttributesCount", self.small()),
            ("flags", self.small()),
            ("traceId", self.id(16)),
            ("spanId", self.id(8)),
        ];
        self.object(fields)
    }

    fn event(&mut self) -> Value {
        let fields =
            vec![("timeUnixNano", self.unsigned()), ("name", self.text()), ("attributes", self.attributes())];
        self.object(fields)
    }

    fn link(&mut self) -> Value {
        let fields = vec![("traceId", self.id(16)), ("spanId", self.id(8)), ("traceState", self.text())];
        self.object(fields)
    }

    fn span(&mut self) -> Value {
        let status = vec![
            ("message", self.text()),
            ("code", self.pick(&[json!("STATUS_CODE_ERROR"), json!(1), json!(0)])),
        ];
        let fields = vec![
            ("traceId", self.id(16)),
            ("spanId", self.id(8)),
            ("parentSpanId", self.id(8)),
            ("name", self.text()),
            ("kind", self.pick(&[json!("SPAN_KIND_CLIENT"), json!(5), json!("2")])),
            ("startTimeUnixNano", self.unsigned()),
            ("endTimeUnixNano", self.unsigned()),
            ("attributes", self.attributes()),
            ("events", self.list(Self::event)),
            ("links", self.list(Self::link)),
            ("status", self.object(status)),
        ];
        self.object(fields)
    }

    /// A line of the signal, which has at least one item.
    fn line(&mut self, signal: &str) -> Value {
        let (top, scopes, items, item): (_, _, _, fn(&mut Self) -> Value) = match signal {
            "metrics" => ("resourceMetrics", "scopeMetrics", "metrics", Self::metric),
            "logs" => ("resourceLogs", "scopeLogs", "logRecords", Self::log_record),
            _ => ("resourceSpans", "scopeSpans", "spans", Self::span),
        };
        let mut items =
            json!({ items: self.list(item), "scope": {"name": "n", "attributes": self.attributes()} });
        let always = match signal {
            "metrics" => json!({"name": "m", "gauge": {"dataPoints": [{"asInt": "1"}]}}),
            _ => json!({"attributes": []}),
        };
        items.as_object_mut().unwrap().values_mut().next().unwrap().as_array_mut().unwrap().push(always);
        let resource = vec![("attributes", self.attributes()), ("droppedAttributesCount", self.small())];
        let (top, scopes) =
            (self.pick(&[top.to_owned(), snake(top)]), self.pick(&[scopes.to_owned(), snake(scopes)]));
        json!({ top: [{ "resource": self.object(resource), scopes: [items], "schemaUrl": "u" }] })
    }
}

fn snake(name: &str) -> String {
    let split = |letter: char| match letter.is_ascii_uppercase() {
        true => vec!['_', letter.to_ascii_lowercase()],
        false => vec![letter],
    };
    name.chars().flat_map(split).collect()
}

/// The resources of all requests of each signal, in order.
fn resources(requests: &[Value]) -> [Vec<Value>; 3] {
    ["resourceMetrics", "resourceLogs", "resourceSpans"].map(|name| {
        requests.iter().flat_map(|request| request[name].as_array().cloned().unwrap_or_default()).collect()
    })
}

#[test]
fn all_forms_of_proto3_json_are_read_as_protobuf_reads_them() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let signals = ["metrics", "logs", "traces"];
    let lines: Vec<_> = (0..600).map(|n| (signals[n % 3], random.line(signals[n % 3]).to_string())).collect();
    let files: Vec<_> =
        lines.iter().map(|(signal, line)| (format!("{signal}.json"), line.clone().into_bytes())).collect();
    let Some(expected) = decoded_files(&files) else { return };
    let server = Capture::script([]);
    let input: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    let url = server.url();
    let ended = Ship::run(&["--otlp", &url], input);
    assert_eq!(
        (ended.code, ended.count("read"), ended.count("delivered")),
        (Some(0), 600, 600),
        "{}",
        ended.stderr
    );
    let found = decoded(&server.requests()).unwrap();
    for (found, expected) in resources(&found).into_iter().zip(resources(&expected)) {
        assert_eq!(found.len(), 200);
        for (found, expected) in found.into_iter().zip(expected) {
            assert_eq!(found, expected);
        }
    }
}
