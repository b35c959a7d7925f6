//! Names of tables and columns.
//!
//! A kind or field gives its name to its table or column wherever SQLite allows.
//! It compares names without regard to case, reserves some, and a column has one
//! type. Where the plain name cannot be used, the name becomes `^what:name`, in
//! which `^` stands before every capital; no plain name begins with `^`. So two
//! different names never meet, and which is whose can be told from the names alone.

/// Whether a kind or field may give its own name: where it may not, it is marked.
pub fn plain(name: &str) -> bool {
    let prefixed = name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"));
    let reserved = prefixed || ["rowid", "oid", "_rowid_"].iter().any(|own| name.eq_ignore_ascii_case(own));
    !(name.is_empty() || name.starts_with('^') || name.contains('\0') || reserved)
}

/// The other name, which is free of all that: `what` says what it is for.
pub fn marked(what: &str, name: &str) -> String {
    let mut marked = format!("^{what}:");
    for letter in name.chars() {
        match letter {
            '^' => marked.push_str("^^"),
            '\0' => marked.push_str("^0"),
            'A'..='Z' => marked.extend(['^', letter]),
            _ => marked.push(letter),
        }
    }
    marked
}

/// As it stands in SQL.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn different_names_stay_different(a in "[aAbB^0\0\"]{0,5}", b in "[aAbB^0\0\"]{0,5}") {
            let fold = |name: &str| marked("number", name).to_ascii_lowercase();
            prop_assert_eq!(a == b, fold(&a) == fold(&b));
            prop_assert!(!plain(&marked("number", &a)));
            prop_assert!(!marked("number", &a).contains('\0'));
        }
    }

    #[test]
    fn reserved_names_are_not_plain() {
        for name in ["", "rowid", "OID", "sqlite_master", "SQLite_x", "^a", "a\0b"] {
            assert!(!plain(name), "{name}");
        }
        for name in ["a", "sqlite", "select", "a b\"c", "ünï", "éééé"] {
            assert!(plain(name), "{name}");
        }
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
