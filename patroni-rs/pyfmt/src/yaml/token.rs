//! What the scanner hands to the parser.

use super::error::Mark;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    StreamStart,
    StreamEnd,
    Directive,
    DocumentStart,
    DocumentEnd,
    BlockSequenceStart,
    BlockMappingStart,
    BlockEnd,
    FlowSequenceStart,
    FlowMappingStart,
    FlowSequenceEnd,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias,
    Anchor,
    Tag,
    Scalar,
}

impl Kind {
    /// The name in error messages, as Python's `repr` shows it.
    pub fn repr(self) -> &'static str {
        match self {
            Kind::StreamStart => "'<stream start>'",
            Kind::StreamEnd => "'<stream end>'",
            Kind::Directive => "'<directive>'",
            Kind::DocumentStart => "'<document start>'",
            Kind::DocumentEnd => "'<document end>'",
            Kind::BlockSequenceStart => "'<block sequence start>'",
            Kind::BlockMappingStart => "'<block mapping start>'",
            Kind::BlockEnd => "'<block end>'",
            Kind::FlowSequenceStart => "'['",
            Kind::FlowMappingStart => "'{'",
            Kind::FlowSequenceEnd => "']'",
            Kind::FlowMappingEnd => "'}'",
            Kind::BlockEntry => "'-'",
            Kind::FlowEntry => "','",
            Kind::Key => "'?'",
            Kind::Value => "':'",
            Kind::Alias => "'<alias>'",
            Kind::Anchor => "'<anchor>'",
            Kind::Tag => "'<tag>'",
            Kind::Scalar => "'<scalar>'",
        }
    }
}

/// What a token carries besides its kind.
#[derive(Debug, Clone, Default)]
pub(super) enum Payload {
    #[default]
    None,
    /// The name of an anchor or an alias.
    Name(String),
    /// A tag's handle, unless it is verbatim, and its suffix.
    Tag(Option<String>, String),
    /// `%YAML`, with the major version.
    Version(String),
    /// `%TAG`, with its handle and prefix.
    TagPrefix(String, String),
    /// A scalar's text; is it plain?
    Scalar(String, bool),
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub kind: Kind,
    pub payload: Payload,
    pub start: Mark,
    pub end: Mark,
}
