// SPDX-License-Identifier: GPL-2.0-only
//! The types of a device over time, as consecutive spans in bounded memory.

use std::collections::BTreeMap;

use iommuctl_policy::DomainType;

/// How many spans of a device are kept. A page cannot show more.
pub const MAX_SPANS: usize = 400;

/// The state of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// `blocked`: it can reach no memory.
    Blocked,
    /// `DMA`: strict.
    Dma,
    /// `DMA-FQ`: lazy.
    DmaFq,
    /// `identity`: not translated.
    Identity,
    /// Another type.
    Other,
    /// Not known.
    NotKnown,
}

impl State {
    /// All states, the best protected first.
    pub const ALL: [Self; 6] = [
        Self::Blocked,
        Self::Dma,
        Self::DmaFq,
        Self::Identity,
        Self::Other,
        Self::NotKnown,
    ];

    /// The state for a type.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match DomainType::from_kernel(text) {
            DomainType::Dma => Self::Dma,
            DomainType::DmaFq => Self::DmaFq,
            DomainType::Identity => Self::Identity,
            DomainType::Blocked => Self::Blocked,
            DomainType::Unmanaged | DomainType::Unknown(_) => Self::Other,
        }
    }

    /// The name: that of the kernel's type, if there is one.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Dma => "DMA",
            Self::DmaFq => "DMA-FQ",
            Self::Identity => "identity",
            Self::Other => "other",
            Self::NotKnown => "not-known",
        }
    }

    /// Whether unmapped memory is inaccessible at once; `false` if the state is not known.
    #[must_use]
    pub fn is_strict(self) -> bool {
        matches!(self, Self::Dma | Self::Blocked)
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

/// A set of states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States(u8);

impl States {
    /// The set with only this state.
    #[must_use]
    pub fn only(state: State) -> Self {
        Self(state.bit())
    }

    /// The set with this state added.
    pub fn insert(&mut self, state: State) {
        self.0 |= state.bit();
    }

    fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All states in the set, the best protected first.
    pub fn iter(self) -> impl Iterator<Item = State> {
        State::ALL
            .into_iter()
            .filter(move |state| self.0 & state.bit() != 0)
    }

    /// The only state in the set; `None` if there are several.
    #[must_use]
    pub fn single(self) -> Option<State> {
        let mut states = self.iter();
        let first = states.next();
        first.filter(|_| states.next().is_none())
    }

    /// Whether a known state in the set is not strict.
    #[must_use]
    pub fn has_weak(self) -> bool {
        self.iter()
            .any(|state| !state.is_strict() && state != State::NotKnown)
    }
}

/// A span of time in which a device had a state, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The beginning.
    pub from: i64,
    /// The end.
    pub to: i64,
    /// The states; several, alternating, where they changed too often to be listed.
    pub states: States,
}

/// The spans of a device in a period.
#[derive(Clone, Debug)]
pub struct Spans {
    /// The beginning of the period, if it has one.
    from: Option<i64>,
    /// Its end.
    to: i64,
    list: Vec<Span>,
    /// The exact duration of each state, however few spans are kept.
    time: BTreeMap<State, i64>,
    /// All states that occurred, even for less than a millisecond.
    seen: States,
}

impl Spans {
    /// Starts a period without spans.
    #[must_use]
    pub fn new(from: Option<i64>, to: i64) -> Self {
        Self {
            from,
            to,
            list: Vec::new(),
            time: BTreeMap::new(),
            seen: States::default(),
        }
    }

    /// Appends a span.
    pub fn push(&mut self, from: i64, to: i64, state: State) {
        let to = to.max(from);
        let begin = self.from.unwrap_or(i64::MIN);
        if from >= self.to || (to <= begin && from < begin) {
            return;
        }
        self.seen.insert(state);
        let behind = self.list.last().map_or(i64::MIN, |last| last.to);
        let from = from.max(begin).max(behind);
        let to = to.min(self.to);
        if to <= from {
            return;
        }
        *self.time.entry(state).or_default() += to - from;
        let states = States::only(state);
        match self.list.last_mut() {
            Some(last) if last.to == from && last.states == states => last.to = to,
            _ => self.list.push(Span { from, to, states }),
        }
        if self.list.len() > MAX_SPANS {
            self.join_shortest();
        }
    }

    /// Merges the two neighbouring spans that are shortest together.
    fn join_shortest(&mut self) {
        let pairs = self.list.windows(2).enumerate();
        let shortest = pairs.min_by_key(|(_, pair)| match pair {
            [a, b] => b.to - a.from,
            _ => i64::MAX,
        });
        let Some((at, _)) = shortest else { return };
        let second = self.list.remove(at + 1);
        if let Some(first) = self.list.get_mut(at) {
            if first.to < second.from {
                first.states.insert(State::NotKnown);
            }
            first.to = second.to;
            first.states = first.states.union(second.states);
        }
    }

    /// How long it had the state. The rest of the period is not known.
    #[must_use]
    pub fn time(&self) -> &BTreeMap<State, i64> {
        &self.time
    }

    /// All states that it had at any time.
    #[must_use]
    pub fn seen(&self) -> States {
        self.seen
    }

    /// All spans, without gaps from `begin` (of the period, if it has one): the gaps are filled with [`State::NotKnown`].
    #[must_use]
    pub fn filled(&self, begin: i64) -> Vec<Span> {
        let mut at = self.from.unwrap_or(begin);
        let states = States::only(State::NotKnown);
        let mut filled: Vec<Span> = Vec::with_capacity(self.list.len());
        let mut add = |span: Span| match filled.last_mut() {
            Some(last) if last.states == span.states => last.to = span.to,
            _ => filled.push(span),
        };
        for span in &self.list {
            if at < span.from {
                let (from, to) = (at, span.from);
                add(Span { from, to, states });
            }
            add(*span);
            at = span.to;
        }
        if at < self.to {
            let (from, to) = (at, self.to);
            add(Span { from, to, states });
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simple(spans: &[Span]) -> Vec<(i64, i64, Option<State>)> {
        spans
            .iter()
            .map(|s| (s.from, s.to, s.states.single()))
            .collect()
    }

    #[test]
    fn equal_neighbours_are_one_and_gaps_are_said() {
        let mut spans = Spans::new(Some(10), 100);
        spans.push(0, 20, State::Dma);
        spans.push(20, 30, State::Dma);
        spans.push(40, 50, State::DmaFq);
        spans.push(50, 500, State::Dma);
        let wanted = [
            (10, 30, Some(State::Dma)),
            (30, 40, Some(State::NotKnown)),
            (40, 50, Some(State::DmaFq)),
            (50, 100, Some(State::Dma)),
        ];
        assert_eq!(simple(&spans.filled(0)), wanted);
        assert_eq!(spans.time()[&State::Dma], 70);
        assert!(spans.seen().has_weak());
    }

    #[test]
    fn what_is_outside_of_the_period_was_not_seen() {
        let mut spans = Spans::new(Some(10), 100);
        spans.push(0, 10, State::Identity);
        spans.push(100, 200, State::Identity);
        assert!(!spans.seen().has_weak());
        // For less than a millisecond, but in it.
        spans.push(50, 50, State::DmaFq);
        assert!(spans.seen().has_weak());
        assert_eq!(simple(&spans.filled(0)), [(10, 100, Some(State::NotKnown))]);
    }

    #[test]
    fn any_number_of_changes_takes_no_more_memory_and_no_time_is_lost() {
        let mut spans = Spans::new(None, 2_000_000);
        for n in 0..100_000 {
            let state = if n % 2 == 0 { State::Dma } else { State::DmaFq };
            spans.push(10 * n, 10 * n + 10, state);
        }
        spans.push(1_000_000, 2_000_000, State::Dma);
        let filled = spans.filled(0);
        assert!(filled.len() <= MAX_SPANS);
        assert_eq!(
            (filled[0].from, filled[filled.len() - 1].to),
            (0, 2_000_000)
        );
        assert!(filled.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert_eq!(spans.time()[&State::DmaFq], 500_000);
        assert_eq!(spans.time()[&State::Dma], 1_500_000);
        // What lasted long is still by itself.
        assert_eq!(filled[filled.len() - 1].states.single(), Some(State::Dma));
    }
}
