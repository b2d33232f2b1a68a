//! XML to a small tree of elements that know their line.
//!
//! The tree is bounded in size, depth and number (see [`Bounds`]). A DOCTYPE is refused and only
//! the five predefined entities and character references are replaced: no file is ever read or
//! grown through XML. Names lose their namespace prefix and their case, as in Hazelcast's reader.

use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::error::{Bounds, ConfigError, Place, printable};
use super::file::Lines;
use super::note::Notes;
use super::variables::Variables;

/// An element with everything in it.
#[derive(Debug, Default)]
pub(crate) struct Element {
    /// Without prefix, in lower case.
    pub(crate) name: String,
    /// The line of its `<`.
    pub(crate) line: u32,
    /// Name (as the element's) and value.
    pub(crate) attributes: Vec<(String, String)>,
    /// In the order of the file.
    pub(crate) children: Vec<Element>,
    /// Its own text, comments left out, trimmed.
    pub(crate) text: String,
}

/// Reads the document; variables are replaced in texts and attribute values.
pub(crate) fn read(
    file: &str,
    text: &str,
    variables: &Variables<'_>,
    notes: &mut Notes,
) -> Result<Element, ConfigError> {
    let lines = Lines::new(text.as_bytes());
    let mut builder =
        Builder { file, lines, variables, notes, open: Vec::new(), root: None, count: 0 };
    let mut reader = Reader::from_str(text);
    loop {
        let at = offset(reader.buffer_position());
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => {
                let at = offset(reader.error_position());
                let said = error.to_string();
                let kinds = ["ill-formed document: ", "syntax error: "];
                let reason = kinds.iter().find_map(|kind| said.strip_prefix(kind)).unwrap_or(&said);
                return Err(builder.syntax(at, reason.to_owned()));
            }
        };
        match event {
            Event::Start(start) => builder.start(at, &start)?,
            Event::Empty(start) => {
                builder.start(at, &start)?;
                builder.end()?;
            }
            Event::End(_) => builder.end()?,
            Event::Text(piece) => builder.text(at, &piece.xml10_content())?,
            Event::CData(piece) => builder.text(at, &piece.xml10_content())?,
            Event::GeneralRef(entity) => builder.entity(at, &entity)?,
            Event::Decl(declaration) => {
                let declared = declaration.encoding().and_then(Result::ok);
                builder.encoding(at, declared.as_deref(), text)?;
            }
            Event::DocType(_) => {
                return Err(ConfigError::Entity {
                    file: file.to_owned(),
                    line: builder.lines.of(at),
                    what: "a DOCTYPE".to_owned(),
                });
            }
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => return builder.finish(at),
        }
    }
}

fn offset(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

struct Builder<'a> {
    file: &'a str,
    lines: Lines,
    variables: &'a Variables<'a>,
    notes: &'a mut Notes,
    /// The elements whose end has not come yet, outermost first.
    open: Vec<Element>,
    root: Option<Element>,
    count: usize,
}

impl Builder<'_> {
    fn syntax(&self, at: usize, reason: String) -> ConfigError {
        ConfigError::Syntax {
            file: self.file.to_owned(),
            line: self.lines.of(at),
            format: "XML",
            reason: printable(&reason),
        }
    }

    fn place(&self, line: u32) -> Place {
        let names: Vec<&str> = self.open.iter().map(|e| e.name.as_str()).collect();
        Place { file: self.file.to_owned(), line, path: names.join("/") }
    }

    fn start(&mut self, at: usize, start: &BytesStart<'_>) -> Result<(), ConfigError> {
        if self.open.is_empty() && self.root.is_some() {
            return Err(self.syntax(at, "a second outermost element".to_owned()));
        }
        let line = self.lines.of(at);
        self.count += 1;
        let bound = |max, what| ConfigError::Bound { place: self.place(line), max, what };
        if self.count > Bounds::ELEMENTS {
            return Err(bound(Bounds::ELEMENTS, "elements"));
        }
        if self.open.len() >= Bounds::DEPTH {
            return Err(bound(Bounds::DEPTH, "levels of elements"));
        }
        let name = self.name(at, start.local_name().as_ref())?;
        self.open.push(Element { name, line, ..Element::default() });
        let attributes = self.attributes(at, start)?;
        if let Some(element) = self.open.last_mut() {
            element.attributes = attributes;
        }
        Ok(())
    }

    fn name(&self, at: usize, name: &str) -> Result<String, ConfigError> {
        if name.is_empty() {
            return Err(self.syntax(at, "an element or attribute without a name".to_owned()));
        }
        if name.chars().any(char::is_control) {
            return Err(self.syntax(at, format!("the name {name:?} holds a control character")));
        }
        if name.len() > Bounds::NAME_BYTES {
            let place = self.place(self.lines.of(at));
            let what = "bytes in a name";
            return Err(ConfigError::Bound { place, max: Bounds::NAME_BYTES, what });
        }
        Ok(name.to_ascii_lowercase())
    }

    fn attributes(
        &mut self,
        at: usize,
        start: &BytesStart<'_>,
    ) -> Result<Vec<(String, String)>, ConfigError> {
        let mut all = Vec::new();
        for (count, attribute) in start.attributes().enumerate() {
            if count >= Bounds::ATTRIBUTES {
                let (place, max) = (self.place(self.lines.of(at)), Bounds::ATTRIBUTES);
                return Err(ConfigError::Bound { place, max, what: "attributes" });
            }
            let attribute = attribute.map_err(|error| self.syntax(at, error.to_string()))?;
            let key = attribute.key.as_ref();
            // Namespaces and the schema's location say nothing that is needed here.
            if key == "xmlns" || key.starts_with("xmlns:") || key.starts_with("xsi:") {
                continue;
            }
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| self.syntax(at, error.to_string()))?;
            let name = self.name(at, attribute.key.local_name().as_ref())?;
            let mut place = self.place(self.lines.of(at));
            place.path.push_str(&format!("/@{name}"));
            let value = self.variables.replace(value.trim(), &place, self.notes)?;
            all.push((name, value));
        }
        Ok(all)
    }

    fn text(&mut self, at: usize, piece: &str) -> Result<(), ConfigError> {
        match self.open.last_mut() {
            // The space between elements is no text: a long file has much of it.
            Some(element) if element.text.is_empty() && piece.trim().is_empty() => {}
            Some(element) => element.text.push_str(piece),
            None if piece.trim().is_empty() => {}
            None => return Err(self.syntax(at, "text outside of <hazelcast>".to_owned())),
        }
        Ok(())
    }

    fn entity(&mut self, at: usize, entity: &BytesRef<'_>) -> Result<(), ConfigError> {
        let of_number =
            entity.resolve_char_ref().map_err(|error| self.syntax(at, error.to_string()))?;
        let character = of_number.or(match entity.as_ref() {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "apos" => Some('\''),
            "quot" => Some('"'),
            _ => None,
        });
        let Some(character) = character else {
            let name: String = entity.chars().take(40).collect();
            let path = self.place(0).path;
            return Err(ConfigError::Entity {
                file: self.file.to_owned(),
                line: self.lines.of(at),
                what: format!("the entity &{}; in {path}", printable(&name)),
            });
        };
        self.text(at, character.encode_utf8(&mut [0; 4]))
    }

    fn encoding(&self, at: usize, declared: Option<&str>, text: &str) -> Result<(), ConfigError> {
        let Some(declared) = declared else { return Ok(()) };
        let utf8 = ["utf-8", "utf8", "us-ascii", "ascii"];
        if text.is_ascii() || utf8.iter().any(|name| declared.eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        Err(self.syntax(
            at,
            "it declares an encoding other than UTF-8; save it in UTF-8 and say so in its first line"
                .to_owned(),
        ))
    }

    fn end(&mut self) -> Result<(), ConfigError> {
        // The reader has already refused an end without a start.
        let Some(mut element) = self.open.pop() else { return Ok(()) };
        let mut place = self.place(element.line);
        if !place.path.is_empty() {
            place.path.push('/');
        }
        place.path.push_str(&element.name);
        element.text = self.variables.replace(element.text.trim(), &place, self.notes)?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn finish(self, at: usize) -> Result<Element, ConfigError> {
        if let Some(open) = self.open.last() {
            return Err(ConfigError::Syntax {
                file: self.file.to_owned(),
                line: open.line,
                format: "XML",
                reason: format!("<{0}> is never closed: </{0}> is missing", open.name),
            });
        }
        let empty = self.syntax(at, "there is no element in it".to_owned());
        self.root.ok_or(empty)
    }
}

/// An element, seen from where it stands: knows its file and path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) file: &'a str,
    pub(crate) element: &'a Element,
    parent: Option<&'a Node<'a>>,
}

impl<'a> Node<'a> {
    pub(crate) fn root(file: &'a str, element: &'a Element) -> Self {
        Self { file, element, parent: None }
    }

    pub(crate) fn name(&self) -> &'a str {
        &self.element.name
    }

    pub(crate) fn text(&self) -> &'a str {
        &self.element.text
    }

    /// The elements in it.
    pub(crate) fn children(&'a self) -> impl Iterator<Item = Node<'a>> {
        let file = self.file;
        self.element.children.iter().map(move |element| Self { file, element, parent: Some(self) })
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&'a str> {
        let found = self.element.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn place(&self) -> Place {
        let mut names = vec![self.name()];
        let mut above = self.parent;
        while let Some(node) = above {
            names.push(node.name());
            above = node.parent;
        }
        names.reverse();
        Place { file: self.file.to_owned(), line: self.element.line, path: names.join("/") }
    }

    pub(crate) fn attribute_place(&self, name: &str) -> Place {
        let mut place = self.place();
        place.path.push_str(&format!("/@{name}"));
        place
    }

    /// That its text is not allowed.
    pub(crate) fn refused(&self, allowed: impl Into<String>) -> ConfigError {
        ConfigError::value(self.place(), self.text(), allowed)
    }
}
