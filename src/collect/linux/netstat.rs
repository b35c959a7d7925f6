//! Parses the tables of /proc/net: snmp and netstat (a line of names and a line of values,
//! both starting with the protocol), snmp6 (a name and a value per line), sockstat
//! (the protocol, then names and values in turn), and the states in tcp and tcp6. The
//! files are read by `inet` and `sockets`.
//! Columns are found by name: their number and order differ between kernels.

use crate::collect::text::{lines, number, split_word, words};

/// Calls `each` with the name and value of every column of `table`, such as `Tcp:`.
/// Returns false if the table is missing.
pub fn columns<'a>(text: &'a [u8], table: &str, mut each: impl FnMut(&'a [u8], &'a [u8])) -> bool {
    let mut rows = lines(text).filter_map(|line| {
        let (label, rest) = split_word(line);
        (label == table.as_bytes()).then_some(rest)
    });
    let (Some(names), Some(values)) = (rows.next(), rows.next()) else { return false };
    words(names).zip(words(values)).for_each(|(name, value)| each(name, value));
    true
}

/// Calls `each` with every name and value of a two-column file.
pub fn pairs(text: &[u8], mut each: impl FnMut(&[u8], u64)) {
    for line in lines(text) {
        let (name, value) = split_word(line);
        if let Some(value) = number(value.trim_ascii()) {
            each(name, value);
        }
    }
}

/// Calls `each` with every protocol, name and value, such as `TCP`, `inuse`, 5.
pub fn sockstat(text: &[u8], mut each: impl FnMut(&[u8], &[u8], u64)) {
    for line in lines(text) {
        let (label, rest) = split_word(line);
        let Some(protocol) = label.strip_suffix(b":") else { continue };
        let mut rest = words(rest);
        while let (Some(name), Some(value)) = (rest.next(), rest.next()) {
            if let Some(value) = number(value) {
                each(protocol, name, value);
            }
        }
    }
}

/// Calls `each` with the state of every socket in /proc/net/tcp or tcp6: two hexadecimal
/// digits after the addresses.
pub fn tcp_states(text: &[u8], mut each: impl FnMut(u8)) {
    for line in lines(text).skip(1) {
        let state = words(line).nth(3).and_then(|word| str::from_utf8(word).ok());
        if let Some(state) = state.and_then(|word| u8::from_str_radix(word, 16).ok()) {
            each(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_by_name() {
        let text = b"Ip: A B\nIp: 1 2\nTcp: MaxConn RetransSegs InErrs\nTcp: -1 17 4\nTcpExt: A\n";
        let get = |table: &str, wanted: &str| {
            let mut found = None;
            let there = columns(text, table, |name, value| {
                if name == wanted.as_bytes() {
                    found = Some(value);
                }
            });
            there.then_some(found).flatten()
        };
        assert_eq!(get("Tcp:", "RetransSegs"), Some(&b"17"[..]));
        assert_eq!(get("Tcp:", "InErrs"), Some(&b"4"[..]));
        assert_eq!(get("Tcp:", "MaxConn"), Some(&b"-1"[..]));
        assert_eq!(get("Ip:", "B"), Some(&b"2"[..]));
        assert_eq!(get("TcpExt:", "A"), None); // its values are missing
        assert_eq!(get("Udp:", "A"), None);
    }

    #[test]
    fn pairs_sockstat_and_states() {
        let mut seen = Vec::new();
        pairs(b"Udp6InErrors   \t7\nUdp6NoPorts\nx y\n\n", |name, value| seen.push((name.to_owned(), value)));
        assert_eq!(seen, [(b"Udp6InErrors".to_vec(), 7)]);
        let mut seen = Vec::new();
        sockstat(
            b"sockets: used 9\nTCP: inuse 1 orphan x tw 3 alloc\nnonsense\n",
            |protocol, name, value| {
                seen.push(format!(
                    "{} {} {value}",
                    String::from_utf8_lossy(protocol),
                    String::from_utf8_lossy(name)
                ));
            },
        );
        assert_eq!(seen, ["sockets used 9", "TCP inuse 1", "TCP tw 3"]);
        let mut seen = Vec::new();
        let text = b"  sl  local_address rem_address   st\n 0: 0100007F:0277 00000000:0000 0A 0:0\n 1: 1:1 2:2 zz\n 2: 1\n10: 1:1 2:2 06\n";
        tcp_states(text, |state| seen.push(state));
        assert_eq!(seen, [10, 6]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(text: Vec<u8>) {
            columns(&text, "Tcp:", |_, _| ());
            pairs(&text, |_, _| ());
            sockstat(&text, |_, _, _| ());
            tcp_states(&text, |_| ());
        }

        #[test]
        fn columns_in_any_order(mut row in prop::collection::hash_map("[A-Za-z]{1,12}", any::<u32>(), 1..30)) {
            let (names, values): (Vec<_>, Vec<_>) = row.iter().map(|(name, value)| (name.clone(), value.to_string())).unzip();
            let text = format!("Tcp: {}\nTcp: {}\n", names.join(" "), values.join(" "));
            let there = columns(text.as_bytes(), "Tcp:", |name, value| {
                let name = str::from_utf8(name).unwrap();
                assert_eq!(row.remove(name).map(u64::from), number(value));
            });
            prop_assert!(there);
            prop_assert!(row.is_empty());
        }
    }
}
