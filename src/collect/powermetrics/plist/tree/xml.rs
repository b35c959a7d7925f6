//! The elements of a property list, one after another → its values, each before those that it contains.

use std::borrow::Cow;

use super::{Is, Node};

/// The values of a document; and what follows the first thing in it that was cut off or cannot be.
pub(super) fn read(text: &str) -> (Vec<Node<'_>>, Option<&str>) {
    // A line of a key and a number has about so many bytes.
    let mut reader = Reader { text, at: 0, nodes: Vec::with_capacity(text.len() / 32), whole: true };
    if reader.next() == Some(Tag::Open("plist")) {
        let tag = reader.next();
        reader.value(tag, Cow::Borrowed(""), 0);
    }
    let whole = reader.whole && reader.next() == Some(Tag::Close("plist"));
    (reader.nodes, (!whole).then(|| &text[reader.at..]))
}

/// Above this depth a list is given up: `powermetrics` nests seven deep, and a stack is finite.
const DEEPEST: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Tag<'a> {
    /// `<dict>`
    Open(&'a str),
    /// `<true/>`
    Empty(&'a str),
    /// `</dict>`
    Close(&'a str),
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    nodes: Vec<Node<'a>>,
    /// False after something that was cut off or cannot be.
    whole: bool,
}

impl<'a> Reader<'a> {
    /// The next tag; what is between tags is blank here, and short, so that a plain loop is fastest.
    fn next(&mut self) -> Option<Tag<'a>> {
        let (text, bytes) = (self.text, self.text.as_bytes());
        loop {
            let start = self.at + bytes[self.at..].iter().position(|&byte| byte == b'<')? + 1;
            if let Some((tag, length)) = usual(&bytes[start..]) {
                self.at = start + length;
                return Some(tag);
            }
            if bytes[start..].starts_with(b"!--") {
                self.at = start + text[start..].find("-->")?;
                continue;
            }
            let end = |byte: &u8| matches!(byte, b'>' | b' ' | b'\t' | b'\n' | b'\r');
            let name_end = start + bytes[start..].iter().position(end)?;
            let stop = name_end + bytes[name_end..].iter().position(|&byte| byte == b'>')?;
            self.at = stop + 1;
            let name = &text[start..name_end];
            return Some(match bytes[start] {
                b'?' | b'!' => continue,
                b'/' => Tag::Close(&name[1..]),
                _ if bytes[stop - 1] == b'/' => Tag::Empty(name.strip_suffix('/').unwrap_or(name)),
                _ => Tag::Open(name),
            });
        }
    }

    /// Adds the value that begins with this tag; nothing, if it is not whole and not a container.
    fn value(&mut self, tag: Option<Tag<'a>>, key: Cow<'a, str>, depth: usize) {
        let at = self.nodes.len();
        let is = match tag {
            Some(Tag::Open("dict")) if depth < DEEPEST => Some(Is::Dict(true)),
            Some(Tag::Open("array")) if depth < DEEPEST => Some(Is::Array(true)),
            Some(Tag::Open("dict" | "array") | Tag::Close(_)) | None => None,
            Some(Tag::Open(name)) => self.content(name).map(|content| scalar(name, content)),
            Some(Tag::Empty(name)) => Some(scalar(name, Content::default())),
        };
        let Some(is) = is else {
            self.whole = false;
            return;
        };
        self.nodes.push(Node { key, is, size: 1 });
        match tag {
            Some(Tag::Open("dict")) => {
                self.dict(depth + 1);
                self.nodes[at].is = Is::Dict(self.whole);
            }
            Some(Tag::Open("array")) => {
                self.array(depth + 1);
                self.nodes[at].is = Is::Array(self.whole);
            }
            _ => return,
        }
        self.nodes[at].size = self.nodes.len() - at;
    }

    fn dict(&mut self, depth: usize) {
        while self.whole {
            let key = match self.next() {
                Some(Tag::Close("dict")) => return,
                Some(Tag::Open("key")) => self.content("key"),
                Some(Tag::Empty("key")) => Some(Content::default()),
                _ => None,
            };
            match key {
                Some(key) => {
                    let tag = self.next();
                    self.value(tag, key.unescaped(), depth);
                }
                None => self.whole = false,
            }
        }
    }

    fn array(&mut self, depth: usize) {
        while self.whole {
            let tag = self.next();
            if tag == Some(Tag::Close("array")) {
                return;
            }
            self.value(tag, Cow::Borrowed(""), depth);
        }
    }

    /// What is between a tag and its end; nothing, if there is another tag in between.
    fn content(&mut self, name: &str) -> Option<Content<'a>> {
        let rest = &self.text[self.at..];
        let first = memchr::memchr2(b'<', b'&', rest.as_bytes())?;
        let references = rest.as_bytes()[first] == b'&';
        let end = if references { first + rest[first..].find('<')? } else { first };
        let after = rest[end + 1..].strip_prefix('/')?.strip_prefix(name)?.strip_prefix('>')?;
        self.at = self.text.len() - after.len();
        Some(Content { text: &rest[..end], references })
    }
}

/// What an element contains.
#[derive(Clone, Copy, Default)]
struct Content<'a> {
    text: &'a str,
    /// Whether there may be such as `&amp;`.
    references: bool,
}

/// What nearly every tag is, and its length: told by comparing words, which is faster than to look for its end.
fn usual(rest: &[u8]) -> Option<(Tag<'static>, usize)> {
    Some(match rest {
        _ if rest.starts_with(b"key>") => (Tag::Open("key"), 4),
        _ if rest.starts_with(b"integer>") => (Tag::Open("integer"), 8),
        _ if rest.starts_with(b"real>") => (Tag::Open("real"), 5),
        _ if rest.starts_with(b"/dict>") => (Tag::Close("dict"), 6),
        _ if rest.starts_with(b"dict>") => (Tag::Open("dict"), 5),
        _ if rest.starts_with(b"string>") => (Tag::Open("string"), 7),
        _ => return None,
    })
}

/// The value of an element that contains no others.
fn scalar<'a>(name: &str, content: Content<'a>) -> Is<'a> {
    let number = |number: Option<f64>| number.map_or(Is::Odd, Is::Number);
    let text = content.text.trim_ascii();
    match name {
        "integer" => number(integer(text)),
        "real" => number(text.parse().ok()),
        "string" => Is::Text(content.unescaped()),
        "true" => Is::Bool(true),
        "false" => Is::Bool(false),
        "date" => Is::Date(text),
        "dict" => Is::Dict(true),
        "array" => Is::Array(true),
        _ => Is::Odd,
    }
}

/// Decimal or, as Apple's own reader takes it, hexadecimal.
fn integer(text: &str) -> Option<f64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok().map(|it| it as f64);
    }
    let signed = text.parse::<i64>().ok().map(|it| it as f64);
    signed.or_else(|| text.parse::<u64>().ok().map(|it| it as f64))
}

impl<'a> Content<'a> {
    fn unescaped(self) -> Cow<'a, str> {
        if self.references { Cow::Owned(unescaped(self.text)) } else { Cow::Borrowed(self.text) }
    }
}

/// With `&amp;` and its like replaced; what is no such reference stays.
pub(super) fn unescaped(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let reference = after.split_once(';').and_then(|(name, after)| Some((reference(name)?, after)));
        match reference {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}
