//! [`OneOrMore`]: a list that is nearly always one item long, and then allocates nothing.

/// At least one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OneOrMore<T> {
    first: T,
    rest: Vec<T>,
}

impl<T> OneOrMore<T> {
    pub const fn one(first: T) -> Self {
        Self { first, rest: Vec::new() }
    }

    /// `None` of no items.
    pub fn collect(items: impl IntoIterator<Item = T>) -> Option<Self> {
        let mut items = items.into_iter();
        Some(Self { first: items.next()?, rest: items.collect() })
    }

    pub fn push(&mut self, item: T) {
        self.rest.push(item);
    }

    pub fn len(&self) -> usize {
        1 + self.rest.len()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    pub fn map<U>(&self, mut f: impl FnMut(&T) -> U) -> OneOrMore<U> {
        OneOrMore { first: f(&self.first), rest: self.rest.iter().map(f).collect() }
    }
}
