//! Values to text: the layout of collections and the choice of styles. Follows
//! PyYAML 6.0.3's representer.py, serializer.py and emitter.py (MIT).

use super::analyze::{analyze, Analysis};
use super::represent::{represent, Style};
use super::resolve::{resolve, Tag};
use super::sharing::{Anchors, Sharing};
use super::DumpOptions;
use crate::value::{Map, Value};

/// The longest key, with its tag, that is written without `? `.
const MAX_SIMPLE_KEY: usize = 128;

/// Where a node stands.
#[derive(Clone, Copy, Default)]
struct Context {
    root: bool,
    mapping: bool,
    simple_key: bool,
}

const ROOT: Context = Context { root: true, mapping: false, simple_key: false };
const ITEM: Context = Context { root: false, mapping: false, simple_key: false };
const SIMPLE_KEY: Context = Context { root: false, mapping: true, simple_key: true };
const IN_MAPPING: Context = Context { root: false, mapping: true, simple_key: false };

pub(super) struct Emitter {
    pub(super) out: String,
    pub(super) best_width: usize,
    pub(super) best_indent: usize,
    pub(super) allow_unicode: bool,
    flow_style: bool,
    sort_keys: bool,
    /// `None` outside the root node.
    pub(super) indent: Option<usize>,
    pub(super) column: usize,
    /// Was the last character white space?
    pub(super) whitespace: bool,
    /// Has this line only indentation and indicators so far?
    pub(super) indention: bool,
    /// Must `...` end the document?
    pub(super) open_ended: bool,
    flow_level: usize,
    anchors: Anchors,
}

/// A value and what is shared in it.
type Shared<'a> = (&'a Value, Option<&'a Sharing>);

/// A scalar that is ready to be written.
struct Scalar {
    tag: Tag,
    text: Vec<char>,
    literal: bool,
    analysis: Analysis,
    /// The plain text reads back as this tag.
    plain_implicit: bool,
}

impl Emitter {
    pub fn new(options: DumpOptions) -> Emitter {
        let best_indent = if (2..10).contains(&options.indent) { options.indent } else { 2 };
        let best_width = if options.width > best_indent * 2 { options.width } else { 80 };
        Emitter {
            out: String::new(),
            best_width,
            best_indent,
            allow_unicode: options.allow_unicode,
            flow_style: options.default_flow_style,
            sort_keys: options.sort_keys,
            indent: None,
            column: 0,
            whitespace: true,
            indention: true,
            open_ended: false,
            flow_level: 0,
            anchors: Anchors::default(),
        }
    }

    /// The document that holds `value`, in which is shared what `sharing` says.
    pub fn document(mut self, value: &Value, sharing: &Sharing) -> String {
        let root = (value, Some(sharing).filter(|s| !s.is_empty()));
        self.name_anchors(root);
        self.anchors.begin();
        self.node(root, ROOT);
        self.write_indent();
        if self.open_ended {
            self.write_indicator("...", true);
            self.write_indent();
        }
        self.out
    }

    /// Meets all objects in the order in which they are written: it gives the numbers.
    fn name_anchors(&mut self, (value, sharing): Shared<'_>) {
        let Some(here) = sharing else { return };
        if here.object().is_some_and(|object| self.anchors.meet(object)) {
            return;
        }
        match value {
            Value::List(items) => {
                for item in shared_items(items, sharing) {
                    self.name_anchors(item);
                }
            }
            Value::Map(map) => {
                for (key, value) in self.pairs(map) {
                    self.name_anchors((value, here.get(key)));
                }
            }
            _ => {}
        }
    }

    fn node(&mut self, (value, sharing): Shared<'_>, context: Context) {
        if let Some((mark, again)) = sharing.and_then(Sharing::object).and_then(|o| self.anchors.mark(o)) {
            self.write_indicator(&mark, true);
            if again {
                return;
            }
        }
        match value {
            Value::List(items) => self.sequence(items, sharing, context),
            Value::Map(map) => self.mapping(map, sharing),
            scalar => self.scalar(scalar, context),
        }
    }

    /// Runs `body` at a deeper indentation.
    fn indented(&mut self, flow: bool, indentless: bool, body: impl FnOnce(&mut Emitter)) {
        let outer = self.indent;
        self.indent = match outer {
            None => Some(if flow { self.best_indent } else { 0 }),
            Some(indent) if indentless => Some(indent),
            Some(indent) => Some(indent + self.best_indent),
        };
        body(self);
        self.indent = outer;
    }

    fn sequence(&mut self, items: &[Value], sharing: Option<&Sharing>, context: Context) {
        let items = shared_items(items, sharing);
        if self.flow_level > 0 || self.flow_style || items.is_empty() {
            return self.flow('[', ']', &items, |e, item| e.node(*item, ITEM));
        }
        let indentless = context.mapping && !self.indention;
        self.indented(false, indentless, |e| {
            for item in items {
                e.write_indent();
                e.write_block_indicator("-");
                e.node(item, ITEM);
            }
        });
    }

    fn mapping(&mut self, map: &Map, sharing: Option<&Sharing>) {
        let pairs = self.pairs(map);
        if self.flow_level > 0 || self.flow_style || pairs.is_empty() {
            return self.flow('{', '}', &pairs, |e, (key, value)| {
                e.flow_pair(key, (value, sharing.and_then(|s| s.get(key))));
            });
        }
        self.indented(false, false, |e| {
            for (key, value) in pairs {
                e.write_indent();
                e.block_pair(key, (value, sharing.and_then(|s| s.get(key))));
            }
        });
    }

    fn flow<T>(&mut self, open: char, close: char, items: &[T], mut write: impl FnMut(&mut Emitter, &T)) {
        self.write_opening(open);
        self.flow_level += 1;
        self.indented(true, false, |e| {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    e.write_indicator(",", false);
                }
                e.fold_line();
                write(e, item);
            }
        });
        self.flow_level -= 1;
        self.write_indicator(close.encode_utf8(&mut [0; 4]), false);
    }

    fn fold_line(&mut self) {
        if self.column > self.best_width {
            self.write_indent();
        }
    }

    fn flow_pair(&mut self, key: &Value, value: Shared<'_>) {
        if self.is_simple_key(key) {
            self.node((key, None), SIMPLE_KEY);
            self.write_indicator(":", false);
        } else {
            self.write_indicator("?", true);
            self.node((key, None), IN_MAPPING);
            self.fold_line();
            self.write_indicator(":", true);
        }
        self.node(value, IN_MAPPING);
    }

    fn block_pair(&mut self, key: &Value, value: Shared<'_>) {
        if self.is_simple_key(key) {
            self.node((key, None), SIMPLE_KEY);
            self.write_indicator(":", false);
        } else {
            self.write_block_indicator("?");
            self.node((key, None), IN_MAPPING);
            self.write_indent();
            self.write_block_indicator(":");
        }
        self.node(value, IN_MAPPING);
    }

    /// The pairs in the order they are written.
    fn pairs<'a>(&self, map: &'a Map) -> Vec<(&'a Value, &'a Value)> {
        let mut pairs: Vec<_> = map.iter().collect();
        if self.sort_keys && pairs.windows(2).all(|p| matches!(p, [a, b] if compare(a.0, b.0).is_some())) {
            pairs.sort_by(|a, b| compare(a.0, b.0).unwrap_or(std::cmp::Ordering::Equal));
        }
        pairs
    }

    fn is_simple_key(&self, key: &Value) -> bool {
        match key {
            Value::List(items) => items.is_empty(),
            Value::Map(map) => map.is_empty(),
            scalar => {
                let scalar = self.prepare(scalar);
                // The tag counts even where it is not written: `!!` and its name.
                scalar.tag.name().len() + 2 + scalar.text.len() < MAX_SIMPLE_KEY
                    && !scalar.analysis.empty
                    && !scalar.analysis.multiline
            }
        }
    }

    fn prepare(&self, value: &Value) -> Scalar {
        let (tag, text, literal) = represent(value);
        let plain_implicit = resolve(&text) == tag;
        let text: Vec<char> = text.chars().collect();
        let analysis = analyze(&text, self.allow_unicode);
        Scalar { tag, text, literal, analysis, plain_implicit }
    }

    fn scalar(&mut self, value: &Value, context: Context) {
        let scalar = self.prepare(value);
        let style = self.choose_style(&scalar, context);
        let implicit = if style == Style::Plain { scalar.plain_implicit } else { scalar.tag == Tag::Str };
        if !implicit {
            self.write_indicator(&format!("!!{}", scalar.tag.name()), true);
        }
        let split = !context.simple_key;
        self.indented(true, false, |e| match style {
            Style::Plain => e.write_plain(&scalar.text, split, context.root),
            Style::Single => e.write_single_quoted(&scalar.text, split),
            Style::Double => e.write_double_quoted(&scalar.text, split),
            Style::Literal => e.write_literal(&scalar.text),
        });
    }

    fn choose_style(&self, scalar: &Scalar, context: Context) -> Style {
        let analysis = &scalar.analysis;
        if scalar.literal {
            let fits = self.flow_level == 0 && !context.simple_key && analysis.block;
            return if fits { Style::Literal } else { Style::Double };
        }
        let plain = if self.flow_level > 0 { analysis.flow_plain } else { analysis.block_plain };
        let bad_key = context.simple_key && (analysis.empty || analysis.multiline);
        if scalar.plain_implicit && plain && !bad_key {
            return Style::Plain;
        }
        if analysis.single_quoted && !(context.simple_key && analysis.multiline) {
            return Style::Single;
        }
        Style::Double
    }
}

fn shared_items<'a>(items: &'a [Value], sharing: Option<&'a Sharing>) -> Vec<Shared<'a>> {
    let numbered = items.iter().zip(0_i64..);
    numbered.map(|(item, i)| (item, sharing.and_then(|s| s.get(&Value::Int(i))))).collect()
}

/// Python's order of two keys; `None` where it raises TypeError, which leaves the
/// mapping unsorted.
fn compare(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Timestamp(x), Value::Timestamp(y)) if a.type_name() == b.type_name() => Some(x.cmp(y)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::BigInt(a), Value::BigInt(b)) => Some(compare_digits(a, b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn compare_digits(a: &str, b: &str) -> std::cmp::Ordering {
    let magnitude = |x: &str, y: &str| x.len().cmp(&y.len()).then_with(|| x.cmp(y));
    match (a.strip_prefix('-'), b.strip_prefix('-')) {
        (None, None) => magnitude(a, b),
        (Some(a), Some(b)) => magnitude(b, a),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
    }
}
