//! Splits the text that the kernel prints into lines, words and numbers.
//!
//! Works on bytes, because names in /proc need not be UTF-8. Nothing here fails:
//! malformed input yields `None` or an empty slice.

/// The lines without their newlines; skips empty ones.
pub fn lines(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while !bytes.is_empty() {
            let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
            let line = &bytes[..end];
            bytes = bytes.get(end + 1..).unwrap_or_default();
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    })
}

/// The words of a line, separated by any white space.
pub fn words(mut line: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (word, rest) = split_word(line);
        line = rest;
        (!word.is_empty()).then_some(word)
    })
}

/// An unsigned decimal number that fits into 64 bits; `None` for anything else.
pub fn number(word: &[u8]) -> Option<u64> {
    split_number(word).filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}

/// The number at the start of a line, and the rest.
#[inline]
pub fn split_number(line: &[u8]) -> Option<(u64, &[u8])> {
    let (mut value, mut rest) = (0u64, line);
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        rest = after;
    }
    match line.len() - rest.len() {
        0 => None,
        // Up to 19 digits always fit.
        1..20 => Some((value, rest)),
        length => Some((str::from_utf8(&line[..length]).ok()?.parse().ok()?, rest)),
    }
}

/// A finite decimal number with or without sign and decimals; `None` for anything else.
pub fn decimal(word: &[u8]) -> Option<f64> {
    let value: f64 = str::from_utf8(word).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// The first word of a line, and the rest.
pub fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    line.split_at(end)
}

/// Decodes blank, tab, newline, backslash and `#`, which the kernel prints as `\ooo` in names of files.
pub fn unescape(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        (rest, _) = match *rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                (&rest[4..], bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')))
            }
            _ => (tail, bytes.push(*first)),
        };
    }
    bytes
}

/// The content of a one-line file as text; `None` if it is empty.
pub fn text(bytes: &[u8]) -> Option<String> {
    // Device tree strings end in NUL.
    let trimmed = bytes.trim_ascii().strip_suffix(b"\0").unwrap_or(bytes).trim_ascii();
    (!trimmed.is_empty()).then(|| String::from_utf8_lossy(trimmed).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_and_numbers() {
        assert_eq!(words(b"  cpu0 \t 1  2").collect::<Vec<_>>(), [&b"cpu0"[..], b"1", b"2"]);
        assert_eq!(split_word(b" btime 17 x"), (&b"btime"[..], &b" 17 x"[..]));
        assert_eq!(split_word(b""), (&b""[..], &b""[..]));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(split_number(b"12K 3"), Some((12, &b"K 3"[..])));
        assert_eq!((split_number(b"x1"), split_number(b"18446744073709551616")), (None, None));
        for bad in [&b""[..], b"18446744073709551616", b"-1", b"+1", b"1.0", b"0x1", b"\xff"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
        assert_eq!((decimal(b"-0.25"), decimal(b"inf"), decimal(b"")), (Some(-0.25), None, None));
        assert_eq!(text(b"Raspberry Pi 4\0"), Some("Raspberry Pi 4".into()));
        assert_eq!((text(b" \n"), text(b"\0"), text(b"a\xff\n")), (None, None, Some("a\u{fffd}".into())));
    }

    proptest! {
        #[test]
        fn numbers_parse_as_std_does(value: u64, text in "[0-9]{1,30}") {
            prop_assert_eq!(number(value.to_string().as_bytes()), Some(value));
            prop_assert_eq!(number(text.as_bytes()), text.parse().ok());
        }
    }
}
