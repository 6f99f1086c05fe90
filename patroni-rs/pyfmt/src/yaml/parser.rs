//! Tokens to events. Follows PyYAML 6.0.3's parser.py (MIT): a pushdown automaton
//! over the YAML 1.1 grammar, with its error messages.

use std::collections::BTreeMap;

use super::error::{Fault, Mark, Result};
use super::scanner::Scanner;
use super::token::{Kind, Payload, Token};
use crate::value::str_repr;

/// An anchor and a tag before a node.
#[derive(Debug, Default)]
pub(super) struct Properties {
    pub anchor: Option<String>,
    pub tag: Option<String>,
}

#[derive(Debug)]
pub(super) enum Event {
    StreamStart,
    StreamEnd,
    DocumentStart,
    DocumentEnd,
    Alias(String),
    /// The last field: may the tag follow from the text, as for plain scalars?
    Scalar(Properties, String, bool),
    SequenceStart(Properties),
    SequenceEnd,
    MappingStart(Properties),
    MappingEnd,
}

/// What the parser expects next.
#[derive(Debug, Clone, Copy)]
enum State {
    StreamStart,
    ImplicitDocumentStart,
    DocumentStart,
    DocumentContent,
    DocumentEnd,
    BlockNode,
    BlockSequenceEntry,
    IndentlessSequenceEntry,
    BlockMappingKey,
    BlockMappingValue,
    FlowSequenceEntry { first: bool },
    FlowSequenceMappingKey,
    FlowSequenceMappingValue,
    FlowSequenceMappingEnd,
    FlowMappingKey { first: bool },
    FlowMappingValue,
    FlowMappingEmptyValue,
    End,
}

type Placed = (Event, Mark);

pub(super) struct Parser {
    pub(super) scanner: Scanner,
    state: State,
    states: Vec<State>,
    /// Where the open collections started, for error messages.
    marks: Vec<Mark>,
    tag_handles: BTreeMap<String, String>,
}

fn default_handles() -> BTreeMap<String, String> {
    [("!", "!"), ("!!", "tag:yaml.org,2002:")].map(|(h, p)| (h.to_owned(), p.to_owned())).into()
}

fn empty_scalar(mark: Mark) -> Placed {
    (Event::Scalar(Properties::default(), String::new(), true), mark)
}

impl Parser {
    pub fn new(scanner: Scanner) -> Parser {
        Parser {
            scanner,
            state: State::StreamStart,
            states: Vec::new(),
            marks: Vec::new(),
            tag_handles: default_handles(),
        }
    }

    /// The next event and where it starts. After the end comes the end again.
    pub fn next(&mut self) -> Result<Placed> {
        match self.state {
            State::StreamStart => {
                let token = self.scanner.next()?;
                self.state = State::ImplicitDocumentStart;
                Ok((Event::StreamStart, token.start))
            }
            State::ImplicitDocumentStart => self.implicit_document_start(),
            State::DocumentStart => self.document_start(),
            State::DocumentContent => self.document_content(),
            State::DocumentEnd => self.document_end(),
            State::BlockNode => self.node(true, false),
            State::BlockSequenceEntry => self.block_sequence_entry(),
            State::IndentlessSequenceEntry => self.indentless_sequence_entry(),
            State::BlockMappingKey => self.block_mapping_key(),
            State::BlockMappingValue => self.block_mapping_value(),
            State::FlowSequenceEntry { first } => self.flow_sequence_entry(first),
            State::FlowSequenceMappingKey => self.flow_sequence_mapping_key(),
            State::FlowSequenceMappingValue => self.flow_sequence_mapping_value(),
            State::FlowSequenceMappingEnd => {
                self.state = State::FlowSequenceEntry { first: false };
                let (_, mark) = self.scanner.peek()?;
                Ok((Event::MappingEnd, mark))
            }
            State::FlowMappingKey { first } => self.flow_mapping_key(first),
            State::FlowMappingValue => self.flow_mapping_value(),
            State::FlowMappingEmptyValue => {
                self.state = State::FlowMappingKey { first: false };
                let (_, mark) = self.scanner.peek()?;
                Ok(empty_scalar(mark))
            }
            State::End => Ok((Event::StreamEnd, self.scanner.peek()?.1)),
        }
    }

    fn at(&mut self, kinds: &[Kind]) -> Result<bool> {
        Ok(kinds.contains(&self.scanner.peek()?.0))
    }

    fn pop(&mut self) -> State {
        self.states.pop().unwrap_or(State::End)
    }

    fn implicit_document_start(&mut self) -> Result<Placed> {
        let (kind, mark) = self.scanner.peek()?;
        if matches!(kind, Kind::Directive | Kind::DocumentStart | Kind::StreamEnd) {
            return self.document_start();
        }
        self.states.push(State::DocumentEnd);
        self.state = State::BlockNode;
        Ok((Event::DocumentStart, mark))
    }

    fn document_start(&mut self) -> Result<Placed> {
        while self.at(&[Kind::DocumentEnd])? {
            self.scanner.next()?;
        }
        let (kind, mark) = self.scanner.peek()?;
        if kind == Kind::StreamEnd {
            self.state = State::End;
            return Ok((Event::StreamEnd, mark));
        }
        self.directives()?;
        let (kind, at) = self.scanner.peek()?;
        if kind != Kind::DocumentStart {
            let problem = format!("expected '<document start>', but found {}", kind.repr());
            return Err(Fault::parser(None, problem, at));
        }
        self.scanner.next()?;
        self.states.push(State::DocumentEnd);
        self.state = State::DocumentContent;
        Ok((Event::DocumentStart, mark))
    }

    fn document_content(&mut self) -> Result<Placed> {
        let (kind, mark) = self.scanner.peek()?;
        if matches!(kind, Kind::Directive | Kind::DocumentStart | Kind::DocumentEnd | Kind::StreamEnd) {
            self.state = self.pop();
            return Ok(empty_scalar(mark));
        }
        self.node(true, false)
    }

    fn document_end(&mut self) -> Result<Placed> {
        let (kind, mark) = self.scanner.peek()?;
        if kind == Kind::DocumentEnd {
            self.scanner.next()?;
        }
        self.state = State::DocumentStart;
        Ok((Event::DocumentEnd, mark))
    }

    fn directives(&mut self) -> Result<()> {
        let mut versioned = false;
        self.tag_handles.clear();
        while self.at(&[Kind::Directive])? {
            let token = self.scanner.next()?;
            match token.payload {
                Payload::Version(_) if versioned => {
                    return Err(Fault::parser(None, "found duplicate YAML directive", token.start));
                }
                Payload::Version(major) if major != "1" => {
                    let problem = "found incompatible YAML document (version 1.* is required)";
                    return Err(Fault::parser(None, problem, token.start));
                }
                Payload::Version(_) => versioned = true,
                Payload::TagPrefix(handle, prefix) => {
                    if self.tag_handles.contains_key(&handle) {
                        let problem = format!("duplicate tag handle {}", str_repr(&handle));
                        return Err(Fault::parser(None, problem, token.start));
                    }
                    self.tag_handles.insert(handle, prefix);
                }
                _ => {}
            }
        }
        for (handle, prefix) in default_handles() {
            self.tag_handles.entry(handle).or_insert(prefix);
        }
        Ok(())
    }

    fn node(&mut self, block: bool, indentless: bool) -> Result<Placed> {
        if self.at(&[Kind::Alias])? {
            let token = self.scanner.next()?;
            self.state = self.pop();
            let Payload::Name(name) = token.payload else { return Ok(empty_scalar(token.start)) };
            return Ok((Event::Alias(name), token.start));
        }
        let (properties, start) = self.properties()?;
        let (kind, mark) = self.scanner.peek()?;
        let start = start.unwrap_or(mark);
        let implicit = properties.tag.as_deref().is_none_or(|t| t == "!");
        let event = match kind {
            Kind::BlockEntry if indentless => {
                self.state = State::IndentlessSequenceEntry;
                Event::SequenceStart(properties)
            }
            Kind::Scalar => {
                let token = self.scanner.next()?;
                self.state = self.pop();
                let Payload::Scalar(text, plain) = token.payload else { return Ok(empty_scalar(start)) };
                let resolves = (plain && properties.tag.is_none()) || properties.tag.as_deref() == Some("!");
                Event::Scalar(properties, text, resolves)
            }
            Kind::FlowSequenceStart => {
                self.open(State::FlowSequenceEntry { first: true })?;
                Event::SequenceStart(properties)
            }
            Kind::FlowMappingStart => {
                self.open(State::FlowMappingKey { first: true })?;
                Event::MappingStart(properties)
            }
            Kind::BlockSequenceStart if block => {
                self.open(State::BlockSequenceEntry)?;
                Event::SequenceStart(properties)
            }
            Kind::BlockMappingStart if block => {
                self.open(State::BlockMappingKey)?;
                Event::MappingStart(properties)
            }
            _ if properties.anchor.is_some() || properties.tag.is_some() => {
                self.state = self.pop();
                Event::Scalar(properties, String::new(), implicit)
            }
            _ => {
                let context = if block { "while parsing a block node" } else { "while parsing a flow node" };
                let problem = format!("expected the node content, but found {}", kind.repr());
                return Err(Fault::parser(Some((context, start)), problem, mark));
            }
        };
        Ok((event, start))
    }

    /// Takes the token that opens a collection.
    fn open(&mut self, state: State) -> Result<()> {
        let token = self.scanner.next()?;
        self.marks.push(token.start);
        self.state = state;
        Ok(())
    }

    /// An anchor and a tag in either order, and where the first of them starts.
    fn properties(&mut self) -> Result<(Properties, Option<Mark>)> {
        let (mut properties, mut start) = (Properties::default(), None);
        let mut tag = None;
        loop {
            let (kind, mark) = self.scanner.peek()?;
            let wanted = match kind {
                Kind::Anchor => properties.anchor.is_none(),
                Kind::Tag => tag.is_none(),
                _ => false,
            };
            if !wanted {
                break;
            }
            start = start.or(Some(mark));
            match self.scanner.next()?.payload {
                Payload::Name(name) => properties.anchor = Some(name),
                Payload::Tag(handle, suffix) => tag = Some((handle, suffix, mark)),
                _ => break,
            }
        }
        if let Some((handle, suffix, mark)) = tag {
            properties.tag = Some(match handle {
                None => suffix,
                Some(handle) => match self.tag_handles.get(&handle) {
                    Some(prefix) => format!("{prefix}{suffix}"),
                    None => {
                        let problem = format!("found undefined tag handle {}", str_repr(&handle));
                        let context = start.map(|s| ("while parsing a node", s));
                        return Err(Fault::parser(context, problem, mark));
                    }
                },
            });
        }
        Ok((properties, start))
    }

    /// Closes a collection, on its last token if it has one.
    fn close(&mut self, event: Event) -> Result<Placed> {
        let token = self.scanner.next()?;
        self.state = self.pop();
        self.marks.pop();
        Ok((event, token.start))
    }

    /// The node after an indicator, or an empty scalar if one of `ends` follows.
    fn node_or_empty(
        &mut self,
        indicator: &Token,
        ends: &[Kind],
        then: State,
        node: impl FnOnce(&mut Parser) -> Result<Placed>,
    ) -> Result<Placed> {
        if self.at(ends)? {
            self.state = then;
            return Ok(empty_scalar(indicator.end));
        }
        self.states.push(then);
        node(self)
    }

    fn unexpected(&mut self, context: &str, expected: &str) -> Result<Placed> {
        let (kind, mark) = self.scanner.peek()?;
        let context = self.marks.last().map(|m| (context, *m));
        Err(Fault::parser(context, format!("expected {expected} {}", kind.repr()), mark))
    }

    fn block_sequence_entry(&mut self) -> Result<Placed> {
        const THEN: State = State::BlockSequenceEntry;
        if self.at(&[Kind::BlockEntry])? {
            let token = self.scanner.next()?;
            return self
                .node_or_empty(&token, &[Kind::BlockEntry, Kind::BlockEnd], THEN, |p| p.node(true, false));
        }
        if !self.at(&[Kind::BlockEnd])? {
            return self.unexpected("while parsing a block collection", "<block end>, but found");
        }
        self.close(Event::SequenceEnd)
    }

    fn indentless_sequence_entry(&mut self) -> Result<Placed> {
        const THEN: State = State::IndentlessSequenceEntry;
        const ENDS: [Kind; 4] = [Kind::BlockEntry, Kind::Key, Kind::Value, Kind::BlockEnd];
        if self.at(&[Kind::BlockEntry])? {
            let token = self.scanner.next()?;
            return self.node_or_empty(&token, &ENDS, THEN, |p| p.node(true, false));
        }
        let (_, mark) = self.scanner.peek()?;
        self.state = self.pop();
        Ok((Event::SequenceEnd, mark))
    }

    fn block_mapping_key(&mut self) -> Result<Placed> {
        const ENDS: [Kind; 3] = [Kind::Key, Kind::Value, Kind::BlockEnd];
        if self.at(&[Kind::Key])? {
            let token = self.scanner.next()?;
            return self.node_or_empty(&token, &ENDS, State::BlockMappingValue, |p| p.node(true, true));
        }
        if !self.at(&[Kind::BlockEnd])? {
            return self.unexpected("while parsing a block mapping", "<block end>, but found");
        }
        self.close(Event::MappingEnd)
    }

    fn block_mapping_value(&mut self) -> Result<Placed> {
        const ENDS: [Kind; 3] = [Kind::Key, Kind::Value, Kind::BlockEnd];
        self.value(&ENDS, State::BlockMappingKey, |p| p.node(true, true))
    }

    /// A mapping's value after `:`, or the empty scalar that stands for none.
    fn value(
        &mut self,
        ends: &[Kind],
        then: State,
        node: impl FnOnce(&mut Parser) -> Result<Placed>,
    ) -> Result<Placed> {
        let (kind, mark) = self.scanner.peek()?;
        if kind != Kind::Value {
            self.state = then;
            return Ok(empty_scalar(mark));
        }
        let token = self.scanner.next()?;
        self.node_or_empty(&token, ends, then, node)
    }

    fn flow_sequence_entry(&mut self, first: bool) -> Result<Placed> {
        if !self.at(&[Kind::FlowSequenceEnd])? {
            if !first {
                if !self.at(&[Kind::FlowEntry])? {
                    return self.unexpected("while parsing a flow sequence", "',' or ']', but got");
                }
                self.scanner.next()?;
            }
            let (kind, mark) = self.scanner.peek()?;
            if kind == Kind::Key {
                self.state = State::FlowSequenceMappingKey;
                return Ok((Event::MappingStart(Properties::default()), mark));
            }
            if kind != Kind::FlowSequenceEnd {
                self.states.push(State::FlowSequenceEntry { first: false });
                return self.node(false, false);
            }
        }
        self.close(Event::SequenceEnd)
    }

    fn flow_sequence_mapping_key(&mut self) -> Result<Placed> {
        const ENDS: [Kind; 3] = [Kind::Value, Kind::FlowEntry, Kind::FlowSequenceEnd];
        let token = self.scanner.next()?;
        self.node_or_empty(&token, &ENDS, State::FlowSequenceMappingValue, |p| p.node(false, false))
    }

    fn flow_sequence_mapping_value(&mut self) -> Result<Placed> {
        const ENDS: [Kind; 2] = [Kind::FlowEntry, Kind::FlowSequenceEnd];
        self.value(&ENDS, State::FlowSequenceMappingEnd, |p| p.node(false, false))
    }

    fn flow_mapping_key(&mut self, first: bool) -> Result<Placed> {
        const ENDS: [Kind; 3] = [Kind::Value, Kind::FlowEntry, Kind::FlowMappingEnd];
        if !self.at(&[Kind::FlowMappingEnd])? {
            if !first {
                if !self.at(&[Kind::FlowEntry])? {
                    return self.unexpected("while parsing a flow mapping", "',' or '}', but got");
                }
                self.scanner.next()?;
            }
            if self.at(&[Kind::Key])? {
                let token = self.scanner.next()?;
                return self.node_or_empty(&token, &ENDS, State::FlowMappingValue, |p| p.node(false, false));
            }
            if !self.at(&[Kind::FlowMappingEnd])? {
                self.states.push(State::FlowMappingEmptyValue);
                return self.node(false, false);
            }
        }
        self.close(Event::MappingEnd)
    }

    fn flow_mapping_value(&mut self) -> Result<Placed> {
        const ENDS: [Kind; 2] = [Kind::FlowEntry, Kind::FlowMappingEnd];
        self.value(&ENDS, State::FlowMappingKey { first: false }, |p| p.node(false, false))
    }
}
