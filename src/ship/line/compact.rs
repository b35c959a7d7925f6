//! A fast parser for lines as telepipe's programs write them: no white space between tokens,
//! no exponents, at most four levels.
//!
//! Any other line, valid or not, is left to [`read`](super::read), which takes twice the
//! instructions, most of them for the hundred buckets of a histogram.

use std::borrow::Cow;

use super::read::{Object, after_string};
use super::value::{Fields, Value};

/// The most levels of nesting.
const DEPTH: usize = 4;
/// Initial capacity for buckets; most histograms have at least this many.
const FEW_BUCKETS: usize = 32;
/// An integer of this many digits fits any 64-bit type.
const DIGITS: usize = 18;

/// Parses an object with nothing after it, or returns `None` for [`read`](super::read) to try.
pub(super) fn object(text: &str) -> Option<Fields<'_>> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.eat(b'{')?;
    let fields = cursor.fields(Object::with_capacity(32), DEPTH)?;
    (cursor.at == text.len()).then_some(fields)
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        self.at += 1;
        self.text.as_bytes().get(self.at - 1).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Option<Value<'a>> {
        let found = self.text[self.at..].starts_with(word);
        self.at += word.len();
        found.then_some(value)
    }

    /// Consumes a comma (true) or `end` (false).
    fn more(&mut self, end: u8) -> Option<bool> {
        let byte = self.next()?;
        (byte == b',' || byte == end).then_some(byte == b',')
    }

    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            b'"' => self.string().map(Value::Str),
            b'-' | b'0'..=b'9' => self.number(),
            b'{' => self.map(depth),
            b'[' => self.array(depth),
            b'n' => self.word("null", Value::Null),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            _ => None,
        }
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.eat(b'"')?;
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20))?;
        let start = self.at;
        if rest[length] == b'"' {
            self.at += length + 1;
            return Some(Cow::Borrowed(&self.text[start..start + length]));
        }
        self.at = after_string(self.text.as_bytes(), start);
        serde_json::from_str(self.text.get(start - 1..self.at)?).ok().map(Cow::Owned)
    }

    /// Consumes at least one digit.
    fn digits(&mut self) -> Option<u64> {
        let start = self.at;
        let mut value = 0u64;
        while let Some(digit @ 0..=9) = self.peek().map(|byte| byte.wrapping_sub(b'0')) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
        (self.at > start).then_some(value)
    }

    /// Consumes an unsigned integer that cannot overflow `i64`.
    fn whole(&mut self) -> Option<i64> {
        let start = self.at;
        let value = self.digits()?;
        let length = self.at - start;
        let plain = length == 1 || length <= DIGITS && self.text.as_bytes()[start] != b'0';
        if plain { i64::try_from(value).ok() } else { None }
    }

    fn sign(&mut self) -> bool {
        let minus = self.peek() == Some(b'-');
        self.at += usize::from(minus);
        minus
    }

    fn number(&mut self) -> Option<Value<'a>> {
        let start = self.at;
        let minus = self.sign();
        let whole = self.whole()?;
        let value = match self.peek() {
            Some(b'.') => {
                self.at += 1;
                self.digits()?;
                Value::F64(self.text[start..self.at].parse().ok()?)
            }
            _ if minus && whole == 0 => Value::F64(-0.0),
            _ => Value::I64(if minus { -whole } else { whole }),
        };
        (!matches!(self.peek(), Some(b'e' | b'E'))).then_some(value)
    }

    fn array(&mut self, depth: usize) -> Option<Value<'a>> {
        self.eat(b'[')?;
        let mut values = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Some(Value::Array(values));
        }
        loop {
            values.push(self.value(depth)?);
            if !self.more(b']')? {
                return Some(Value::Array(values));
            }
        }
    }

    /// Consumes the fields of an object, after its opening brace.
    fn fields(&mut self, mut object: Object<'a>, depth: usize) -> Option<Fields<'a>> {
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Some(object.fields());
        }
        loop {
            let name = self.string()?;
            self.eat(b':')?;
            object.add(name, self.value(depth)?);
            if !self.more(b'}')? {
                return Some(object.fields());
            }
        }
    }

    fn map(&mut self, depth: usize) -> Option<Value<'a>> {
        let start = self.at + 1;
        if let Some(counts) = self.counts() {
            return Some(Value::Counts(counts));
        }
        self.at = start;
        self.fields(Object::default(), depth).map(Value::Map)
    }

    fn counts(&mut self) -> Option<Vec<(i32, u64)>> {
        self.eat(b'{')?;
        let mut counts: Vec<(i32, u64)> = Vec::with_capacity(FEW_BUCKETS);
        loop {
            let (index, count) = self.count()?;
            if counts.last().is_some_and(|(last, _)| *last >= index) {
                return None;
            }
            counts.push((index, count));
            if !self.more(b'}')? {
                return Some(counts);
            }
        }
    }

    /// `"INDEX":COUNT`
    fn count(&mut self) -> Option<(i32, u64)> {
        self.eat(b'"')?;
        let (minus, whole) = (self.sign(), self.whole()?);
        if minus && whole == 0 {
            return None;
        }
        self.eat(b'"')?;
        self.eat(b':')?;
        let count = self.whole()?.unsigned_abs();
        Some((i32::try_from(if minus { -whole } else { whole }).ok()?, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::line::read;
    use proptest::prelude::*;

    /// Replaces `Counts` by the equivalent `Map`.
    fn plain(value: Value<'_>) -> Value<'_> {
        match value {
            Value::Array(values) => Value::Array(values.into_iter().map(plain).collect()),
            Value::Counts(_) => Value::Map(value.as_map().unwrap().into_owned()),
            Value::Map(fields) => {
                Value::Map(fields.into_iter().map(|(name, value)| (name, plain(value))).collect())
            }
            value => value,
        }
    }

    /// Whether the fast parser accepts the text. If so, the full parser gives the same fields.
    fn reads(text: &str) -> bool {
        let fields = object(text);
        if let Some(fields) = &fields {
            let whole = read::object(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                format!("{:?}", plain(Value::Map(fields.clone()))),
                format!("{:?}", Value::Map(whole))
            );
        }
        fields.is_some()
    }

    #[test]
    fn accepts_what_our_programs_write() {
        for text in [
            r#"{"ts":"2026-11-20T20:45:00Z","count":9,"mean_us":12.345,"zero":0,"low":-7,"no":null,"yes":true,"f":false}"#,
            r#"{"a":"é","e":"\"\u00e9\\","\n":[1,[],["x",{}]],"a":2,"m":{"k":{"l":0.5}},"z":-0,"d":-0.0}"#,
            r#"{"scale":5,"buckets":{"-3":1,"0":2,"14":999999999999999999},"ratio":{"600000000":1,"1200000000":0.5}}"#,
            r#"{"b":{"2":1,"1":1},"c":{"1":1,"1":2},"d":{"01":1},"e":{"1":-1},"f":{"-0":1},"g":{"2147483648":1},"h":{"1":1,"x":2}}"#,
            "{}",
        ] {
            assert!(reads(text), "{text}");
        }
        let fields = object(r#"{"buckets":{"-3":1,"0":2}}"#).unwrap();
        assert_eq!(fields[0].1, Value::Counts(vec![(-3, 1), (0, 2)]));
    }

    #[test]
    fn leaves_the_rest_to_the_full_parser() {
        for text in [
            "",
            "{",
            "{}}",
            "{} ",
            r#"{"a" :1}"#,
            r#"{"a":1,}"#,
            r#"{"a":{"1":2,}}"#,
            r#"{"a":[1,]}"#,
            r#"{"a":[,1]}"#,
            r#"{"a":01}"#,
            r#"{"a":-}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":1e5}"#,
            r#"{"a":1.5E1}"#,
            r#"{"a":+1}"#,
            r#"{"a":1234567890123456789}"#,
            r#"{"a":nul}"#,
            r#"{"a":truefalse}"#,
            r#"{"a":"x}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\"#,
            r#"{"a":"\""#,
            "{\"a\":\"\t\"}",
            r#"{"a":{"b":{"c":{"d":{"e":1}}}}}"#,
            r#"{"1":2,"a"}"#,
            r#"{a:1}"#,
            "[]",
        ] {
            assert!(!reads(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_full_parser(
            text in r#"\{("[a-c1é]{0,2}(\\n)?":(-?[0-9]{0,19}(\.[0-9]{0,20})?|"x?\\?"|\{("-?[0-9]{0,3}":-?[0-9]{0,2},?){0,3}\}|\[1?,?\]|null),?){0,4}\}?"#,
        ) {
            reads(&text);
        }
    }
}
