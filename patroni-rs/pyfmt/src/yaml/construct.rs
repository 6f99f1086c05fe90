//! Nodes to values. Follows PyYAML 6.0.3's SafeConstructor (constructor.py, MIT).
//!
//! PyYAML fills collections breadth first, after they exist; errors show in that
//! order, so a first pass goes through the graph like that and a second one builds
//! the tree. PyYAML shares what aliases point to; a [`Value`] is a tree, so what
//! aliases repeat is copied, the copies are bounded, and a [`Sharing`] beside the value
//! says what is one.

use std::collections::VecDeque;

use indexmap::IndexMap;

use super::compose::{Content, Id, Node};
use super::error::{Fault, Mark, Result};
use super::resolve::Tag;
use super::scalar;
use super::sharing::{Document, Sharing};
use crate::value::{str_repr, Map, Value};

/// Values that one document may become, aliases counted every time.
const MAX_VALUES: usize = 2_000_000;

enum State {
    New,
    Scalar(Value),
    /// A collection that the first pass has seen.
    Collection,
    /// A collection that the second pass is inside of.
    Open,
}

struct Constructor {
    nodes: Vec<Node>,
    states: Vec<State>,
    queue: VecDeque<Id>,
    budget: usize,
    /// In how many places a node is the value of.
    uses: Vec<usize>,
}

/// The value of a graph, and which parts of it are one object.
pub(super) fn construct(nodes: Vec<Node>, root: Id) -> Result<Document> {
    let states = nodes.iter().map(|_| State::New).collect();
    let uses = vec![0; nodes.len()];
    let mut constructor = Constructor { nodes, states, queue: VecDeque::new(), budget: MAX_VALUES, uses };
    constructor.visit(root)?;
    while let Some(id) = constructor.queue.pop_front() {
        constructor.fill(id)?;
    }
    constructor.count_uses();
    constructor.budget = MAX_VALUES;
    let (value, sharing) = constructor.build(root)?;
    Ok(Document { value, sharing })
}

impl Constructor {
    fn node(&self, id: Id) -> Result<&Node> {
        self.nodes.get(id).ok_or_else(|| Fault::python("RuntimeError", "no such node"))
    }

    /// First pass: constructs a scalar, or queues a collection.
    fn visit(&mut self, id: Id) -> Result<()> {
        if !matches!(self.states.get(id), Some(State::New)) {
            return Ok(());
        }
        let node = self.node(id)?;
        let state = match &node.tag {
            Tag::Seq | Tag::Map | Tag::Omap | Tag::Pairs | Tag::Set => {
                self.queue.push_back(id);
                State::Collection
            }
            Tag::Merge | Tag::Value | Tag::Other(_) => {
                let tag = str_repr(&node.tag.full());
                let problem = format!("could not determine a constructor for the tag {tag}");
                return Err(Fault::constructor(None, problem, node.start));
            }
            tag => State::Scalar(scalar::construct(tag, self.text(id, 0)?, node.start)?),
        };
        if let Some(slot) = self.states.get_mut(id) {
            *slot = state;
        }
        Ok(())
    }

    /// The text of a scalar; a mapping with a `=` key lends the text of its value.
    fn text(&self, id: Id, depth: usize) -> Result<&str> {
        let node = self.node(id)?;
        match &node.content {
            Content::Scalar(text) => return Ok(text),
            Content::Mapping(_) if depth > 100 => {
                return Err(Fault::python("RecursionError", "maximum recursion depth exceeded"));
            }
            Content::Mapping(pairs) => {
                for (key, value) in pairs {
                    if self.node(*key)?.tag == Tag::Value {
                        return self.text(*value, depth + 1);
                    }
                }
            }
            Content::Sequence(_) => {}
        }
        let problem = format!("expected a scalar node, but found {}", node.kind());
        Err(Fault::constructor(None, problem, node.start))
    }

    /// First pass: visits what a collection holds.
    fn fill(&mut self, id: Id) -> Result<()> {
        match self.node(id)?.tag {
            Tag::Seq => self.fill_sequence(id),
            Tag::Omap => self.fill_pairs(id, "while constructing an ordered map"),
            Tag::Pairs => self.fill_pairs(id, "while constructing pairs"),
            _ => self.fill_mapping(id),
        }
    }

    fn fill_sequence(&mut self, id: Id) -> Result<()> {
        let node = self.node(id)?;
        let Content::Sequence(items) = node.content.clone() else {
            let problem = format!("expected a sequence node, but found {}", node.kind());
            return Err(Fault::constructor(None, problem, node.start));
        };
        items.into_iter().try_for_each(|item| self.visit(item))
    }

    fn fill_mapping(&mut self, id: Id) -> Result<()> {
        self.flatten(id, 0)?;
        let node = self.node(id)?;
        let start = node.start;
        let Content::Mapping(pairs) = node.content.clone() else {
            let problem = format!("expected a mapping node, but found {}", node.kind());
            return Err(Fault::constructor(None, problem, start));
        };
        for (key, value) in pairs {
            self.visit(key)?;
            if !matches!(self.states.get(key), Some(State::Scalar(_))) {
                let context = Some(("while constructing a mapping", start));
                return Err(Fault::constructor(context, "found unhashable key", self.node(key)?.start));
            }
            self.visit(value)?;
        }
        Ok(())
    }

    /// `!!omap` and `!!pairs`: a sequence of mappings of one pair each.
    fn fill_pairs(&mut self, id: Id, context: &str) -> Result<()> {
        let node = self.node(id)?;
        let at = Some((context, node.start));
        let Content::Sequence(items) = node.content.clone() else {
            let problem = format!("expected a sequence, but found {}", node.kind());
            return Err(Fault::constructor(at, problem, node.start));
        };
        for item in items {
            let item = self.node(item)?;
            let Content::Mapping(pairs) = &item.content else {
                let problem = format!("expected a mapping of length 1, but found {}", item.kind());
                return Err(Fault::constructor(at, problem, item.start));
            };
            let [(key, value)] = pairs.as_slice() else {
                let problem = format!("expected a single mapping item, but found {} items", pairs.len());
                return Err(Fault::constructor(at, problem, item.start));
            };
            let (key, value) = (*key, *value);
            self.visit(key)?;
            self.visit(value)?;
        }
        Ok(())
    }

    /// Replaces the `<<` keys of a mapping by what they name, before its own keys.
    fn flatten(&mut self, id: Id, depth: usize) -> Result<()> {
        let node = self.node(id)?;
        let start = node.start;
        let Content::Mapping(pairs) = &node.content else { return Ok(()) };
        let special = |tag: &Tag| matches!(tag, Tag::Merge | Tag::Value);
        if !pairs.iter().any(|(key, _)| self.nodes.get(*key).is_some_and(|k| special(&k.tag))) {
            return Ok(());
        }
        if depth > 100 {
            return Err(Fault::python("RecursionError", "maximum recursion depth exceeded"));
        }
        let mut sources = Vec::new();
        let mut own = Vec::new();
        for (key, value) in pairs.clone() {
            match self.node(key)?.tag {
                Tag::Merge => sources.push(value),
                Tag::Value => {
                    if let Some(node) = self.nodes.get_mut(key) {
                        node.tag = Tag::Str;
                    }
                    own.push((key, value));
                }
                _ => own.push((key, value)),
            }
        }
        // PyYAML takes the keys out as it goes; a mapping merged into itself ends there.
        self.set_pairs(id, own.clone());
        let mut merged = Vec::new();
        for source in sources {
            self.merge(source, start, depth, &mut merged)?;
        }
        merged.extend(own);
        self.set_pairs(id, merged);
        Ok(())
    }

    fn set_pairs(&mut self, id: Id, pairs: Vec<(Id, Id)>) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.content = Content::Mapping(pairs);
        }
    }

    /// Adds the pairs of a mapping, or of a list of mappings of which the first wins.
    fn merge(&mut self, source: Id, start: Mark, depth: usize, merged: &mut Vec<(Id, Id)>) -> Result<()> {
        const CONTEXT: &str = "while constructing a mapping";
        let node = self.node(source)?;
        match &node.content {
            Content::Mapping(_) => self.merge_one(source, depth, merged),
            Content::Sequence(items) => {
                let items = items.clone();
                let mut parts = Vec::new();
                for item in items {
                    let node = self.node(item)?;
                    if !matches!(node.content, Content::Mapping(_)) {
                        let problem = format!("expected a mapping for merging, but found {}", node.kind());
                        return Err(Fault::constructor(Some((CONTEXT, start)), problem, node.start));
                    }
                    let mut part = Vec::new();
                    self.merge_one(item, depth, &mut part)?;
                    parts.push(part);
                }
                merged.extend(parts.into_iter().rev().flatten());
                Ok(())
            }
            Content::Scalar(_) => {
                let problem =
                    format!("expected a mapping or list of mappings for merging, but found {}", node.kind());
                Err(Fault::constructor(Some((CONTEXT, start)), problem, node.start))
            }
        }
    }

    fn merge_one(&mut self, id: Id, depth: usize, merged: &mut Vec<(Id, Id)>) -> Result<()> {
        self.flatten(id, depth + 1)?;
        let Content::Mapping(pairs) = self.node(id)?.content.clone() else { return Ok(()) };
        self.spend(pairs.len())?;
        merged.extend(pairs);
        Ok(())
    }

    fn spend(&mut self, values: usize) -> Result<()> {
        match self.budget.checked_sub(values) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => Err(Fault::python("MemoryError", "the document expands to too many values")),
        }
    }

    /// Between the passes: counts the places of each node that the first one reached.
    fn count_uses(&mut self) {
        for (node, state) in self.nodes.iter().zip(&self.states) {
            if !matches!(state, State::Collection) {
                continue;
            }
            let mut count = |id: &Id| {
                if let Some(uses) = self.uses.get_mut(*id) {
                    *uses += 1;
                }
            };
            match &node.content {
                Content::Sequence(items) => items.iter().for_each(&mut count),
                Content::Mapping(pairs) => pairs.iter().for_each(|(_, value)| count(value)),
                Content::Scalar(_) => {}
            }
        }
    }

    /// Second pass.
    fn build(&mut self, id: Id) -> Result<(Value, Sharing)> {
        self.spend(1)?;
        let object = (self.uses.get(id) > Some(&1)).then_some(id);
        match self.states.get(id) {
            Some(State::Scalar(value)) => {
                let object = object.filter(|_| matches!(value, Value::Timestamp(_)));
                return Ok((value.clone(), Sharing::of(object, IndexMap::new())));
            }
            Some(State::Open) => {
                let start = self.node(id)?.start;
                return Err(Fault::constructor(None, "found unconstructable recursive node", start));
            }
            _ => {}
        }
        self.set_state(id, State::Open);
        let node = self.node(id)?;
        let as_set = node.tag == Tag::Set;
        let as_pairs = matches!(node.tag, Tag::Omap | Tag::Pairs);
        let mut below = IndexMap::new();
        let value = match node.content.clone() {
            Content::Sequence(items) if as_pairs => self.build_pairs(&items, &mut below)?,
            Content::Sequence(items) => self.build_list(&items, &mut below)?,
            Content::Mapping(pairs) => self.build_map(&pairs, as_set, &mut below)?,
            Content::Scalar(_) => Value::Null,
        };
        self.set_state(id, State::Collection);
        Ok((value, Sharing::of(object, below)))
    }

    fn set_state(&mut self, id: Id, state: State) {
        if let Some(slot) = self.states.get_mut(id) {
            *slot = state;
        }
    }

    fn build_list(&mut self, items: &[Id], below: &mut IndexMap<Value, Sharing>) -> Result<Value> {
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            let (value, sharing) = self.build(*item)?;
            note(below, index(list.len()), sharing);
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn build_map(
        &mut self,
        pairs: &[(Id, Id)],
        as_set: bool,
        below: &mut IndexMap<Value, Sharing>,
    ) -> Result<Value> {
        let mut map = Map::new();
        for (key, value) in pairs {
            let (key, _) = self.build(*key)?;
            let (value, sharing) = if as_set { Default::default() } else { self.build(*value)? };
            below.shift_remove(&key);
            note(below, key.clone(), sharing);
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }

    fn build_pairs(&mut self, items: &[Id], below: &mut IndexMap<Value, Sharing>) -> Result<Value> {
        let mut list = Vec::new();
        for item in items {
            let Content::Mapping(pairs) = self.node(*item)?.content.clone() else { continue };
            for (key, value) in pairs {
                let (key, _) = self.build(key)?;
                let (value, sharing) = self.build(value)?;
                let mut pair = IndexMap::new();
                note(&mut pair, index(1), sharing);
                note(below, index(list.len()), Sharing::of(None, pair));
                list.push(Value::List(vec![key, value]));
            }
        }
        Ok(Value::List(list))
    }
}

fn index(i: usize) -> Value {
    Value::Int(i64::try_from(i).unwrap_or(i64::MAX))
}

fn note(below: &mut IndexMap<Value, Sharing>, key: Value, sharing: Sharing) {
    if !sharing.is_empty() {
        below.insert(key, sharing);
    }
}
