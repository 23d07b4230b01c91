//! `*-site.xml` as written: a pure parser from bytes to properties, each with its line.

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

/// One `<property>` of a site file, before any `${…}` is expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// The configuration key, trimmed.
    pub name: String,
    /// The value as written, trimmed.
    pub value: String,
    /// `<final>true</final>`: files read later may not change it.
    pub is_final: bool,
    /// The line of the `<property>` element, from 1.
    pub line: usize,
}

/// A site file that is not the XML Hadoop expects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {problem}")]
pub struct SiteXmlError {
    /// The file's name as it was given to [`parse_site_xml`].
    pub file: String,
    /// Line of the fault, from 1.
    pub line: usize,
    /// Column of the fault in characters, from 1.
    pub column: usize,
    /// What is wrong there and what was expected.
    pub problem: String,
}

/// Reads the properties of one site file in the order they stand in it.
///
/// `file` only names the file in errors. A property with neither name nor value is skipped, one without a
/// `<value>` too, as Hadoop does.
///
/// # Errors
/// [`SiteXmlError`] when the bytes are not UTF-8, not well-formed XML, have another root than
/// `<configuration>`, include other files, or hold a value without a name.
pub fn parse_site_xml(file: &str, bytes: &[u8]) -> Result<Vec<Property>, SiteXmlError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let (line, column) = position(bytes, error.valid_up_to());
            return Err(SiteXmlError {
                file: file.to_owned(),
                line,
                column,
                problem: "expected UTF-8 text, found other bytes".to_owned(),
            });
        }
    };
    let mut parser = Parser {
        file,
        text,
        open: Vec::new(),
        seen_root: false,
        current: None,
        properties: Vec::new(),
    };
    parser.run()?;
    Ok(parser.properties)
}

/// The element names below `<property>` that mean something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Value,
    Final,
}

#[derive(Default)]
struct Draft {
    offset: usize,
    name: Option<String>,
    value: Option<String>,
    is_final: bool,
    /// The field whose text is being collected, and the text so far.
    collecting: Option<(Field, String)>,
}

struct Open {
    name: String,
    offset: usize,
}

struct Parser<'a> {
    file: &'a str,
    text: &'a str,
    open: Vec<Open>,
    seen_root: bool,
    current: Option<Draft>,
    properties: Vec<Property>,
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), SiteXmlError> {
        let text = self.text;
        let mut reader = Reader::from_str(text);
        loop {
            let start = offset(reader.buffer_position());
            let event = match reader.read_event() {
                Ok(event) => event,
                Err(error) => {
                    return Err(self.fault(offset(reader.error_position()), error.to_string()));
                }
            };
            match event {
                Event::Start(element) => self.begin(&element, start)?,
                Event::Empty(element) => {
                    self.begin(&element, start)?;
                    self.end(start)?;
                }
                Event::End(_) => self.end(start)?,
                Event::Text(piece) => {
                    self.text(&piece.xml_content(XmlVersion::Implicit1_0), start)?
                }
                Event::CData(piece) => {
                    self.text(&piece.xml_content(XmlVersion::Implicit1_0), start)?
                }
                Event::GeneralRef(reference) => {
                    let resolved = match reference.resolve_char_ref() {
                        Ok(Some(character)) => character.to_string(),
                        Ok(None) => {
                            match quick_xml::escape::resolve_predefined_entity(&reference) {
                                Some(text) => text.to_owned(),
                                None => {
                                    let name: &str = &reference;
                                    return Err(self.fault(
                                    start,
                                    format!("expected one of &amp; &lt; &gt; &quot; &apos;, found &{name};"),
                                ));
                                }
                            }
                        }
                        Err(error) => return Err(self.fault(start, error.to_string())),
                    };
                    self.text(&resolved, start)?;
                }
                Event::Eof => return self.finish(),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
    }

    fn begin(&mut self, element: &BytesStart<'_>, start: usize) -> Result<(), SiteXmlError> {
        let name = element.local_name().into_inner().to_owned();
        if name == "include" {
            return Err(self.fault(
                start,
                "XInclude is not supported here: copy the included properties into this file"
                    .to_owned(),
            ));
        }
        match self.open.len() {
            0 if self.seen_root => {
                return Err(self.fault(
                    start,
                    format!("expected the end of the file after </configuration>, found <{name}>"),
                ));
            }
            0 if name != "configuration" => {
                return Err(self.fault(start, format!("expected <configuration>, found <{name}>")));
            }
            0 => self.seen_root = true,
            _ => {}
        }
        let inside = self.open.last().map(|open| open.name.as_str());
        if name == "property" && inside == Some("configuration") {
            let draft = self.draft_from_attributes(element, start)?;
            self.current = Some(draft);
        } else if inside == Some("property")
            && let Some(draft) = &mut self.current
        {
            let field = match name.as_str() {
                "name" => Some(Field::Name),
                "value" => Some(Field::Value),
                "final" => Some(Field::Final),
                _ => None,
            };
            draft.collecting = field.map(|field| (field, String::new()));
        }
        self.open.push(Open {
            name,
            offset: start,
        });
        Ok(())
    }

    /// `<property name="…" value="…" final="…"/>`, the short form.
    fn draft_from_attributes(
        &self,
        element: &BytesStart<'_>,
        start: usize,
    ) -> Result<Draft, SiteXmlError> {
        let mut draft = Draft {
            offset: start,
            ..Draft::default()
        };
        for attribute in element.attributes() {
            let attribute = attribute.map_err(|error| self.fault(start, error.to_string()))?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| self.fault(start, error.to_string()))?;
            draft.assign(
                match attribute.key.local_name().into_inner() {
                    "name" => Field::Name,
                    "value" => Field::Value,
                    "final" => Field::Final,
                    _ => continue,
                },
                &value,
            );
        }
        Ok(draft)
    }

    fn text(&mut self, piece: &str, start: usize) -> Result<(), SiteXmlError> {
        if self.open.is_empty() {
            let stray = piece.trim_start_matches('\u{feff}');
            let blank = piece.len() - stray.trim_start().len();
            if !stray.trim().is_empty() {
                return Err(self.fault(
                    start + blank,
                    "expected <configuration>, found text".to_owned(),
                ));
            }
        }
        if let Some(draft) = &mut self.current
            && let Some((_, collected)) = &mut draft.collecting
        {
            collected.push_str(piece);
        }
        Ok(())
    }

    fn end(&mut self, start: usize) -> Result<(), SiteXmlError> {
        let Some(closed) = self.open.pop() else {
            return Err(self.fault(
                start,
                "expected <configuration>, found an end tag".to_owned(),
            ));
        };
        let inside = self.open.last().map(|open| open.name.as_str());
        if closed.name == "property" && inside == Some("configuration") {
            if let Some(draft) = self.current.take() {
                self.accept(draft)?;
            }
        } else if inside == Some("property")
            && let Some(draft) = &mut self.current
            && let Some((field, collected)) = draft.collecting.take()
        {
            draft.assign(field, &collected);
        }
        Ok(())
    }

    fn accept(&mut self, draft: Draft) -> Result<(), SiteXmlError> {
        let line = position(self.text.as_bytes(), draft.offset).0;
        match (draft.name, draft.value) {
            (Some(name), Some(value)) if !name.is_empty() => self.properties.push(Property {
                name,
                value,
                is_final: draft.is_final,
                line,
            }),
            (None | Some(_), Some(_)) => {
                return Err(self.fault(
                    draft.offset,
                    "expected a <name> in this <property>, found only a value".to_owned(),
                ));
            }
            (_, None) => {}
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), SiteXmlError> {
        let end = self.text.len();
        if let Some(open) = self.open.last() {
            let (line, _) = position(self.text.as_bytes(), open.offset);
            let name = &open.name;
            return Err(self.fault(
                end,
                format!(
                    "expected </{name}> for the <{name}> of line {line}, found the end of the file"
                ),
            ));
        }
        if !self.seen_root {
            return Err(self.fault(
                end,
                "expected <configuration>, found the end of the file".to_owned(),
            ));
        }
        Ok(())
    }

    fn fault(&self, offset: usize, problem: String) -> SiteXmlError {
        let (line, column) = position(self.text.as_bytes(), offset);
        SiteXmlError {
            file: self.file.to_owned(),
            line,
            column,
            problem,
        }
    }
}

impl Draft {
    fn assign(&mut self, field: Field, text: &str) {
        let text = text.trim().to_owned();
        match field {
            Field::Name => self.name = Some(text),
            Field::Value => self.value = Some(text),
            Field::Final => self.is_final = text.eq_ignore_ascii_case("true"),
        }
    }
}

fn offset(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

/// Line and column, both from 1, of a byte offset; columns count characters.
fn position(bytes: &[u8], offset: usize) -> (usize, usize) {
    let before = &bytes[..offset.min(bytes.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let column = before[start..]
        .iter()
        .filter(|byte| **byte & 0xC0 != 0x80)
        .count()
        + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Vec<Property>, SiteXmlError> {
        parse_site_xml("core-site.xml", text.as_bytes())
    }

    fn problem(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn properties_keep_order_line_and_final() {
        let found = parse(
            "<?xml version=\"1.0\"?>\n<!-- a comment -->\n<configuration>\n <property>\n  <name> a.b </name>\n  \
             <value>\n x &amp; y&#33; <![CDATA[<z>]]></value>\n  <final>TRUE</final>\n </property>\n \
             <property name=\"short\" value=\"form\"/>\n <property><name>empty</name><value/></property>\n</configuration>\n",
        )
        .unwrap();
        assert_eq!(
            found,
            vec![
                Property {
                    name: "a.b".into(),
                    value: "x & y! <z>".into(),
                    is_final: true,
                    line: 4
                },
                Property {
                    name: "short".into(),
                    value: "form".into(),
                    is_final: false,
                    line: 10
                },
                Property {
                    name: "empty".into(),
                    value: String::new(),
                    is_final: false,
                    line: 11
                },
            ]
        );
    }

    #[test]
    fn descriptions_and_empty_properties_are_ignored() {
        let found = parse(
            "<configuration><property/><property><name>n</name></property>\
             <property><description>see <b>name</b></description><name>k</name><value>v</value></property></configuration>",
        )
        .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].name.as_str(), found[0].value.as_str()),
            ("k", "v")
        );
    }

    #[test]
    fn a_wrong_end_tag_is_named_with_line_and_column() {
        let text = "<configuration>\n  <property>\n    <name>a</nam>\n";
        assert_eq!(
            problem(text),
            "core-site.xml:3:12: ill-formed document: expected `</name>`, but `</nam>` was found"
        );
    }

    #[test]
    fn a_cut_off_file_names_the_element_left_open() {
        assert_eq!(
            problem("<configuration>\n<property>\n"),
            "core-site.xml:3:1: expected </property> for the <property> of line 2, found the end of the file"
        );
        assert_eq!(
            problem(""),
            "core-site.xml:1:1: expected <configuration>, found the end of the file"
        );
    }

    #[test]
    fn another_root_text_and_a_second_root_are_refused() {
        assert_eq!(
            problem("<html/>"),
            "core-site.xml:1:1: expected <configuration>, found <html>"
        );
        assert_eq!(
            problem("\n fs.defaultFS=x"),
            "core-site.xml:2:2: expected <configuration>, found text"
        );
        assert!(
            problem("<configuration/><configuration/>").contains("expected the end of the file")
        );
    }

    #[test]
    fn a_value_without_a_name_an_include_and_an_unknown_entity_are_refused() {
        assert!(
            problem("<configuration><property><value>v</value></property></configuration>")
                .contains("expected a <name>")
        );
        assert!(
            problem("<configuration><xi:include href=\"x.xml\"/></configuration>")
                .contains("XInclude is not supported")
        );
        assert!(
            problem("<configuration><property><name>&x;</name></property></configuration>")
                .contains("found &x;")
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_are_placed() {
        let error = parse_site_xml("hdfs-site.xml", b"<configuration>\n\xff").unwrap_err();
        assert_eq!((error.line, error.column), (2, 1));
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(parse("\u{feff}<configuration/>").unwrap(), vec![]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            drop(parse_site_xml("any", &bytes));
        }

        #[test]
        fn no_mix_of_xml_pieces_makes_the_parser_panic(
            pieces in proptest::collection::vec(
                prop::sample::select(vec![
                    "<configuration>", "</configuration>", "<property>", "</property>", "<name>", "</name>", "<value>",
                    "</value>", "<final>", "</final>", "true", "&amp;", "&", ";", "<![CDATA[", "]]>", "<!--", "-->", "<",
                    ">", "é", "\n", "<property name='a'", " value=\"b&#0;\"", "/>", "<!DOCTYPE x [", "]", "<?pi", "?>",
                ]),
                0..24,
            )
        ) {
            drop(parse(&pieces.concat()));
        }

        #[test]
        fn what_is_written_is_read(pairs in proptest::collection::vec(("[a-z.]{1,12}", "[ -~]{0,20}"), 0..6)) {
            let mut text = "<configuration>".to_owned();
            for (name, value) in &pairs {
                let (name, value) = (quick_xml::escape::escape(name.as_str()), quick_xml::escape::escape(value.as_str()));
                text.push_str(&format!("<property><name>{name}</name><value>{value}</value></property>"));
            }
            text.push_str("</configuration>");
            let found: Vec<_> = parse(&text).unwrap().into_iter().map(|p| (p.name, p.value)).collect();
            let expected: Vec<_> = pairs.into_iter().map(|(name, value)| (name, value.trim().to_owned())).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
