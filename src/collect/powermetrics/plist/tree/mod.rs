//! The XML of property lists (Apple's `PropertyList-1.0.dtd`) → a tree of values that borrows from it.
//!
//! What is cut off is read as far as it is whole: a container keeps the values that came before, and a value or a
//! key alone is left out.

mod xml;

use std::borrow::Cow;

/// All values of a document, each before those that it contains.
#[derive(Debug, Default)]
pub struct Tree<'a>(Vec<Node<'a>>);

#[derive(Debug, PartialEq)]
struct Node<'a> {
    /// In a dictionary.
    key: Cow<'a, str>,
    is: Is<'a>,
    /// How many nodes it has, with itself.
    size: usize,
}

#[derive(Debug, PartialEq)]
enum Is<'a> {
    /// `<dict>`, and whether its end was there.
    Dict(bool),
    /// `<array>`, likewise.
    Array(bool),
    /// `<string>`
    Text(Cow<'a, str>),
    /// `<integer>` and `<real>`
    Number(f64),
    /// `<true/>` and `<false/>`
    Bool(bool),
    /// `<date>`, as it is written.
    Date(&'a str),
    /// What is none of these, or not what its tag says.
    Odd,
}

/// A value of a tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value<'t>(&'t [Node<'t>]);

/// Keys and values in the order of the list; `powermetrics` repeats some.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dict<'t> {
    nodes: &'t [Node<'t>],
    /// Whether nothing was cut off from it.
    pub whole: bool,
}

impl<'t> Dict<'t> {
    /// The value of a key; the last one, if there are several.
    pub fn get(self, key: &str) -> Option<Value<'t>> {
        self.iter().filter(|(known, _)| *known == key).last().map(|(_, value)| value)
    }

    /// All pairs.
    pub fn iter(self) -> impl Iterator<Item = (&'t str, Value<'t>)> {
        children(self.nodes).map(|value| (value.0[0].key.as_ref(), value))
    }
}

/// The values that follow each other in these nodes.
fn children<'t>(mut nodes: &'t [Node<'t>]) -> impl Iterator<Item = Value<'t>> {
    std::iter::from_fn(move || {
        let (value, rest) = nodes.split_at(nodes.first()?.size);
        nodes = rest;
        Some(Value(value))
    })
}

impl<'t> Value<'t> {
    fn is(self) -> &'t Is<'t> {
        &self.0[0].is
    }

    /// A finite number.
    pub fn number(self) -> Option<f64> {
        if let Is::Number(number) = self.is() { Some(*number).filter(|it| it.is_finite()) } else { None }
    }

    /// Whether a number in it is none: what a division by zero gave.
    pub fn has_nan(self) -> bool {
        self.0.iter().any(|node| matches!(node.is, Is::Number(number) if number.is_nan()))
    }

    /// A text.
    pub fn text(self) -> Option<&'t str> {
        if let Is::Text(text) = self.is() { Some(text) } else { None }
    }

    /// A date, as it is written.
    pub fn date(self) -> Option<&'t str> {
        if let Is::Date(date) = self.is() { Some(date) } else { None }
    }

    /// True or false.
    pub fn bool(self) -> Option<bool> {
        if let Is::Bool(is) = self.is() { Some(*is) } else { None }
    }

    /// A dictionary.
    pub fn dict(self) -> Option<Dict<'t>> {
        if let Is::Dict(whole) = *self.is() { Some(Dict { nodes: &self.0[1..], whole }) } else { None }
    }

    /// The dictionaries of an array; nothing of what is no array.
    pub fn dicts(self) -> impl Iterator<Item = Dict<'t>> {
        let all = if let Is::Array(_) = self.is() { &self.0[1..] } else { &[] };
        children(all).filter_map(Value::dict)
    }

    /// An array from which nothing was cut off.
    pub fn is_whole_array(self) -> bool {
        *self.is() == Is::Array(true)
    }
}

impl<'a> Tree<'a> {
    /// The values of a document; and what follows the first thing in it that was cut off or cannot be.
    pub fn read(text: &'a str) -> (Self, Option<&'a str>) {
        let (nodes, rest) = xml::read(text);
        (Self(nodes), rest)
    }

    /// The value that contains all others, if there is any.
    pub fn top(&self) -> Option<Value<'_>> {
        (!self.0.is_empty()).then_some(Value(&self.0))
    }
}

#[cfg(test)]
mod tests;
