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
/// Powers of ten. Like the integers up to [`EXACT`], they are exact as doubles.
const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
const EXACT: u64 = 1 << 53;
/// One in each byte of a word.
const ONES: u64 = u64::MAX / 0xff;

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

    fn word(&mut self, word: &str) -> Option<()> {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        found.then_some(())
    }

    /// Consumes a comma (true) or `end` (false).
    fn more(&mut self, end: u8) -> Option<bool> {
        let byte = self.next()?;
        (byte == b',' || byte == end).then_some(byte == b',')
    }

    /// Consumes a value, into `out`, which is null.
    #[inline]
    fn value(&mut self, out: &mut Value<'a>, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match self.peek()? {
            b'"' => put(out, Value::Str(self.string()?)),
            b'-' | b'0'..=b'9' => self.number(out)?,
            b'{' => put(out, self.map(depth)?),
            b'[' => put(out, self.array(depth)?),
            b'n' => self.word("null")?,
            b't' => self.word("true").map(|()| put(out, Value::Bool(true)))?,
            b'f' => self.word("false").map(|()| put(out, Value::Bool(false)))?,
            _ => return None,
        }
        Some(())
    }

    #[inline]
    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.eat(b'"')?;
        let start = self.at;
        let end = start + plain_length(&self.text.as_bytes()[start..])?;
        if self.text.as_bytes()[end] == b'"' {
            self.at = end + 1;
            return Some(Cow::Borrowed(&self.text[start..end]));
        }
        self.escaped(start)
    }

    #[cold]
    fn escaped(&mut self, start: usize) -> Option<Cow<'a, str>> {
        self.at = after_string(self.text.as_bytes(), start);
        serde_json::from_str(self.text.get(start - 1..self.at)?).ok().map(Cow::Owned)
    }

    /// Consumes digits after `value`, as many as there are, at least one.
    fn digits(&mut self, mut value: u64) -> Option<(u64, usize)> {
        let digits = &self.text.as_bytes()[self.at..];
        let mut length = 0;
        while let Some(digit @ 0..=9) = digits.get(length).map(|byte| byte.wrapping_sub(b'0')) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            length += 1;
        }
        self.at += length;
        (length > 0).then_some((value, length))
    }

    /// Consumes an unsigned integer that cannot overflow `i64`.
    fn whole(&mut self) -> Option<i64> {
        let first = self.peek();
        let (value, length) = self.digits(0)?;
        let plain = length == 1 || length <= DIGITS && first != Some(b'0');
        if plain { i64::try_from(value).ok() } else { None }
    }

    fn sign(&mut self) -> bool {
        let minus = self.peek() == Some(b'-');
        self.at += usize::from(minus);
        minus
    }

    #[inline]
    fn number(&mut self, out: &mut Value<'a>) -> Option<()> {
        let start = self.at;
        let minus = self.sign();
        let whole = self.whole()?;
        match self.peek() {
            Some(b'.') => {
                self.at += 1;
                let before = self.at - start;
                let (digits, decimals) = self.digits(whole.unsigned_abs())?;
                // The quotient of two exact doubles is the nearest double to the number.
                let exact = digits <= EXACT && decimals < POWERS.len() && before + decimals <= DIGITS;
                let value = match exact {
                    true => digits as f64 / POWERS[decimals],
                    false => self.text[start + usize::from(minus)..self.at].parse().ok()?,
                };
                put(out, Value::F64(if minus { -value } else { value }));
            }
            _ if minus && whole == 0 => put(out, Value::F64(-0.0)),
            _ => put(out, Value::I64(if minus { -whole } else { whole })),
        }
        (!matches!(self.peek(), Some(b'e' | b'E'))).then_some(())
    }

    fn array(&mut self, depth: usize) -> Option<Value<'a>> {
        self.eat(b'[')?;
        let mut values = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Some(Value::Array(values));
        }
        loop {
            values.push(Value::Null);
            self.value(values.last_mut()?, depth)?;
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
            self.value(object.value(name)?, depth)?;
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

    /// Consumes the buckets of a histogram, each `"INDEX":COUNT`.
    fn counts(&mut self) -> Option<Vec<(i32, u64)>> {
        self.eat(b'{')?;
        let mut counts: Vec<(i32, u64)> = Vec::with_capacity(FEW_BUCKETS);
        let mut least = i64::from(i32::MIN);
        loop {
            self.eat(b'"')?;
            let (minus, whole) = (self.sign(), self.whole()?);
            let index = if minus { -whole } else { whole };
            if index < least || minus && whole == 0 {
                return None;
            }
            least = index + 1;
            self.eat(b'"')?;
            self.eat(b':')?;
            counts.push((i32::try_from(index).ok()?, self.whole()?.unsigned_abs()));
            if !self.more(b'}')? {
                return Some(counts);
            }
        }
    }
}

/// Replaces a null, which needs no drop.
fn put<'a>(out: &mut Value<'a>, value: Value<'a>) {
    std::mem::forget(std::mem::replace(out, value));
}

/// The number of bytes before the first `"`, `\` or control character.
fn plain_length(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The lowest byte in which the high bit is set is the first below `limit`; bits above it may be wrong.
        let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & (ONES << 7);
        let other = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        let found = below(word, 0x20) | other(b'"') | other(b'\\');
        if found != 0 {
            return Some(8 * index + found.trailing_zeros() as usize / 8);
        }
    }
    let found = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20))?;
    Some(8 * words.len() + found)
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
