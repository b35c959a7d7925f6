use super::xml::unescaped;
use super::*;
use proptest::prelude::*;

/// What another reader makes of a document: the oracle.
fn same(ours: Value<'_>, theirs: &plist::Value) -> bool {
    match (ours.is(), theirs) {
        (Is::Dict(true), plist::Value::Dictionary(theirs)) => {
            let ours = ours.dict().unwrap();
            theirs.iter().all(|(key, value)| ours.get(key).is_some_and(|it| same(it, value)))
                && ours.iter().all(|(key, _)| theirs.contains_key(key))
        }
        (Is::Array(true), plist::Value::Array(theirs)) => {
            let ours: Vec<_> = children(&ours.0[1..]).collect();
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(one, other)| same(*one, other))
        }
        (Is::Text(ours), plist::Value::String(theirs)) => ours == theirs,
        (Is::Bool(ours), plist::Value::Boolean(theirs)) => ours == theirs,
        (Is::Number(ours), plist::Value::Real(theirs)) => ours.to_bits() == theirs.to_bits(),
        (Is::Number(ours), plist::Value::Integer(theirs)) => {
            let signed = theirs.as_signed().map(|it| it as f64);
            signed.or(theirs.as_unsigned().map(|it| it as f64)) == Some(*ours)
        }
        (Is::Date(ours), plist::Value::Date(theirs)) => *ours == theirs.to_xml_format(),
        (Is::Odd, plist::Value::Data(_)) => true,
        _ => false,
    }
}

/// Any value that a list can hold.
fn values() -> impl Strategy<Value = plist::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(plist::Value::Boolean),
        any::<i64>().prop_map(plist::Value::from),
        any::<u64>().prop_map(plist::Value::from),
        (-1e18..1e18f64).prop_map(plist::Value::Real),
        "[ a-z<>&\"'\u{e9}]{0,12}".prop_map(plist::Value::String),
        (0u64..4_000_000_000).prop_map(|secs| {
            plist::Value::Date((std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs)).into())
        }),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(plist::Value::Array),
            prop::collection::vec(("[a-z&<_]{1,8}", inner), 0..5)
                .prop_map(|pairs| plist::Value::Dictionary(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn reads_what_another_writes(value in values()) {
        let mut text = Vec::new();
        value.to_writer_xml(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let (ours, rest) = Tree::read(&text);
        prop_assert_eq!(rest, None);
        prop_assert!(same(ours.top().unwrap(), &value), "{}", text);
    }

    #[test]
    fn no_text_breaks_it(text in "(<plist>)?(<(/?(dict|key|array|string|integer|true/?|!--|-->)>?)?|[a-z0-9 &;]){0,40}") {
        Tree::read(&text);
    }
}

/// Its nodes as a person would write them.
fn told(text: &str) -> (String, bool) {
    let (tree, rest) = Tree::read(text);
    let nodes = tree.0.iter().map(|node| format!("{}{:?}/{} ", node.key, node.is, node.size));
    (nodes.collect::<String>().trim_end().to_owned(), rest.is_none())
}

#[test]
fn what_is_cut_off_is_read_as_far_as_it_is_whole() {
    for (cut, expected) in [
        ("<plist><dict><key>a</key><true/><key>b</key><integer>2", "Dict(false)/2 aBool(true)/1"),
        ("<plist><dict><key>a</key><array><true/><inte", "Dict(false)/3 aArray(false)/2 Bool(true)/1"),
        ("<plist><dict><key>a</key><dict><key>b</key>", "Dict(false)/2 aDict(false)/1"),
        ("<plist><dict><key>a</ke", "Dict(false)/1"),
        ("<plist><dict></array>", "Dict(false)/1"),
        ("<plist><dict></dict></plis", "Dict(true)/1"),
        ("<plist><array><string>a<b/></string></array></plist>", "Array(false)/1"),
        ("<pli", ""),
        ("", ""),
    ] {
        assert_eq!(told(cut), (expected.to_owned(), false), "{cut}");
    }
    let deep = "<array>".repeat(100_000);
    assert!(!told(&format!("<plist>{deep}")).1);
}

#[test]
fn odd_values_take_nothing_else_with_them() {
    let text = "<?xml version=\"1.0\"?><!DOCTYPE plist><!-- <dict> --><plist version=\"1.0\"><array>\
        <integer>many</integer><real>nan</real><data>AAAA</data><integer>0x1F</integer><dict/><true /></array></plist>";
    let (told, whole) = told(text);
    assert_eq!(told, "Array(true)/7 Odd/1 Number(NaN)/1 Odd/1 Number(31.0)/1 Dict(true)/1 Bool(true)/1");
    assert!(whole);
    assert_eq!(Value(&[Node { key: "".into(), is: Is::Number(f64::NAN), size: 1 }]).number(), None);
    assert_eq!(unescaped("a &amp; &#66;&#x43;&odd; &"), "a & BC&odd; &");
}
