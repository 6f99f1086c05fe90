//! Events to a graph of nodes. Follows PyYAML 6.0.3's composer.py (MIT).

use std::collections::HashMap;

use super::error::{Fault, Mark, Result};
use super::parser::{Event, Parser, Properties};
use super::resolve::{resolve, Tag};
use crate::value::str_repr;

/// Nesting that is refused. PyYAML gives up near 490, with a RecursionError; a thread's
/// stack here is smaller.
const MAX_DEPTH: usize = 256;

/// Nodes that one document may have.
const MAX_NODES: usize = 2_000_000;

/// The place of a node in [`Graph::nodes`]. An alias is the same place again.
pub(super) type Id = usize;

#[derive(Debug, Clone)]
pub(super) enum Content {
    Scalar(String),
    Sequence(Vec<Id>),
    Mapping(Vec<(Id, Id)>),
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub tag: Tag,
    pub content: Content,
    pub start: Mark,
}

impl Node {
    /// The kind of node as error messages name it.
    pub fn kind(&self) -> &'static str {
        match self.content {
            Content::Scalar(_) => "scalar",
            Content::Sequence(_) => "sequence",
            Content::Mapping(_) => "mapping",
        }
    }
}

struct Composer<'a> {
    parser: &'a mut Parser,
    nodes: Vec<Node>,
    anchors: HashMap<String, Id>,
    depth: usize,
}

/// The nodes of the only document of a stream and the id of its root; `None` for a
/// stream without one.
pub(super) fn compose(parser: &mut Parser) -> Result<Option<(Vec<Node>, Id)>> {
    parser.next()?;
    let (event, _) = parser.next()?;
    if matches!(event, Event::StreamEnd) {
        return Ok(None);
    }
    let mut composer = Composer { parser, nodes: Vec::new(), anchors: HashMap::new(), depth: 0 };
    let event = composer.parser.next()?;
    let root = composer.node(event)?;
    composer.parser.next()?;
    let (event, mark) = composer.parser.next()?;
    if !matches!(event, Event::StreamEnd) {
        let start = composer.nodes.get(root).map_or(mark, |n| n.start);
        let context = Some(("expected a single document in the stream", start));
        return Err(Fault::composer(context, "but found another document", mark));
    }
    Ok(Some((composer.nodes, root)))
}

impl Composer<'_> {
    fn node(&mut self, (event, mark): (Event, Mark)) -> Result<Id> {
        let (properties, tag, content) = match event {
            Event::Alias(name) => {
                return self.anchors.get(&name).copied().ok_or_else(|| {
                    Fault::composer(None, format!("found undefined alias {}", str_repr(&name)), mark)
                });
            }
            Event::Scalar(properties, text, resolves) => {
                let tag = if resolves { resolve(&text) } else { Tag::Str };
                (properties, tag, Content::Scalar(text))
            }
            Event::SequenceStart(properties) => (properties, Tag::Seq, Content::Sequence(Vec::new())),
            Event::MappingStart(properties) => (properties, Tag::Map, Content::Mapping(Vec::new())),
            _ => (Properties::default(), Tag::Null, Content::Scalar(String::new())),
        };
        self.check_anchor(&properties, mark)?;
        let tag = match properties.tag.as_deref() {
            None | Some("!") => tag,
            Some(full) => Tag::explicit(full),
        };
        let id = self.nodes.len();
        if id >= MAX_NODES {
            return Err(Fault::python("MemoryError", "the document has too many nodes"));
        }
        let is_scalar = matches!(content, Content::Scalar(_));
        self.nodes.push(Node { tag, content, start: mark });
        if let Some(anchor) = properties.anchor {
            self.anchors.insert(anchor, id);
        }
        if !is_scalar {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(Fault::python("RecursionError", "maximum recursion depth exceeded"));
            }
            self.children(id)?;
            self.depth -= 1;
        }
        Ok(id)
    }

    fn check_anchor(&self, properties: &Properties, mark: Mark) -> Result<()> {
        let Some(anchor) = &properties.anchor else { return Ok(()) };
        let Some(first) = self.anchors.get(anchor).and_then(|id| self.nodes.get(*id)) else { return Ok(()) };
        let context = format!("found duplicate anchor {}; first occurrence", str_repr(anchor));
        Err(Fault::composer(Some((&context, first.start)), "second occurrence", mark))
    }

    fn children(&mut self, id: Id) -> Result<()> {
        loop {
            let event = self.parser.next()?;
            if matches!(event.0, Event::SequenceEnd | Event::MappingEnd | Event::StreamEnd) {
                return Ok(());
            }
            let child = self.node(event)?;
            let is_mapping = self.nodes.get(id).is_some_and(|n| matches!(n.content, Content::Mapping(_)));
            let value = if is_mapping {
                let event = self.parser.next()?;
                self.node(event)?
            } else {
                child
            };
            match self.nodes.get_mut(id).map(|n| &mut n.content) {
                Some(Content::Sequence(items)) => items.push(child),
                Some(Content::Mapping(pairs)) => pairs.push((child, value)),
                _ => {}
            }
        }
    }
}
