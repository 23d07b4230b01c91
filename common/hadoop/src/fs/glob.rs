//! Patterns over names: `*`, `?`, `[a-c]`, `[^a]`, `{a,b}`, and `\` before a character that means itself.

use super::FsError;

/// More alternatives than this are a mistake.
const MAX_ALTERNATIVES: usize = 1024;

/// One way through all `{…}` of a pattern: components from the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// One entry a path component.
    pub(super) components: Vec<Component>,
}

/// One component of a path pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Component {
    /// A name that is taken as it is.
    Literal(String),
    /// A name that must match.
    Matching(Vec<Token>),
}

/// One piece of a name pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// This character.
    Char(char),
    /// `?`.
    AnyChar,
    /// `*`.
    AnyText,
    /// `[…]`: ranges, and whether they are excluded.
    Set(Vec<(char, char)>, bool),
}

/// Understands `text`, an absolute path pattern.
pub(super) fn parse(text: &str) -> Result<Vec<Pattern>, FsError> {
    let invalid = |reason| FsError::InvalidPath {
        text: text.to_owned(),
        reason,
    };
    let mut alternatives = Vec::new();
    expand_braces(text, &mut alternatives).map_err(invalid)?;
    alternatives
        .iter()
        .map(|alternative| {
            let components = alternative
                .split('/')
                .filter(|part| !part.is_empty())
                .map(component)
                .collect::<Result<_, _>>()
                .map_err(invalid)?;
            Ok(Pattern { components })
        })
        .collect()
}

/// Whether `text` has to be looked for at all.
pub(super) fn has_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

/// Replaces the first `{a,b}` by each of its alternatives and goes on until none is left.
fn expand_braces(text: &str, out: &mut Vec<String>) -> Result<(), &'static str> {
    let mut pending = vec![text.to_owned()];
    while let Some(text) = pending.pop() {
        let Some(Braces {
            open,
            commas,
            close,
        }) = first_braces(&text)?
        else {
            out.push(text);
            continue;
        };
        let mut cuts = vec![open];
        cuts.extend(commas);
        cuts.push(close);
        for window in cuts.windows(2).rev() {
            let middle = &text[window[0] + 1..window[1]];
            pending.push(format!("{}{middle}{}", &text[..open], &text[close + 1..]));
        }
        if pending.len() + out.len() > MAX_ALTERNATIVES {
            return Err("it has too many alternatives");
        }
    }
    Ok(())
}

/// Byte offsets of a `{`, the commas on its level, and its `}`.
struct Braces {
    open: usize,
    commas: Vec<usize>,
    close: usize,
}

fn first_braces(text: &str) -> Result<Option<Braces>, &'static str> {
    let (mut open, mut commas, mut depth) = (None, Vec::new(), 0_usize);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, open) {
            ('\\', _) => {
                chars.next();
            }
            ('{', None) => open = Some(at),
            ('{', Some(_)) => depth += 1,
            (',', Some(_)) if depth == 0 => commas.push(at),
            ('}', Some(open)) if depth == 0 => {
                return Ok(Some(Braces {
                    open,
                    commas,
                    close: at,
                }));
            }
            ('}', Some(_)) => depth -= 1,
            _ => {}
        }
    }
    match open {
        Some(_) => Err("`{` has no `}`"),
        None => Ok(None),
    }
}

fn component(text: &str) -> Result<Component, &'static str> {
    let mut tokens = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::AnyText,
            '?' => Token::AnyChar,
            '\\' => Token::Char(chars.next().ok_or("`\\` stands at the end of a name")?),
            '[' => set(&mut chars)?,
            c => Token::Char(c),
        });
    }
    let literal = tokens
        .iter()
        .map(|token| match token {
            Token::Char(c) => Some(*c),
            Token::AnyChar | Token::AnyText | Token::Set(..) => None,
        })
        .collect::<Option<String>>();
    Ok(literal.map_or(Component::Matching(tokens), Component::Literal))
}

fn set(chars: &mut std::str::Chars<'_>) -> Result<Token, &'static str> {
    const OPEN: &str = "`[` has no `]`";
    let mut ranges = Vec::new();
    let mut excluded = false;
    let mut rest = chars.as_str();
    if let Some(after) = rest.strip_prefix(['^', '!']) {
        (excluded, rest) = (true, after);
    }
    let mut inside = rest.chars();
    loop {
        let low = match inside.next().ok_or(OPEN)? {
            ']' if !ranges.is_empty() => break,
            '\\' => inside.next().ok_or(OPEN)?,
            c => c,
        };
        let mut ahead = inside.clone();
        let high = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) if high != ']' => {
                inside = ahead;
                high
            }
            _ => low,
        };
        if low > high {
            return Err("a range in `[…]` is upside down");
        }
        ranges.push((low, high));
    }
    *chars = inside;
    Ok(Token::Set(ranges, excluded))
}

/// Whether all of `name` is matched.
pub(super) fn matches(tokens: &[Token], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    // The last `*` seen, and where its match ends so far: the only place worth going back to.
    let mut star: Option<(usize, usize)> = None;
    let (mut token, mut at) = (0, 0);
    while at < name.len() {
        let fits = match tokens.get(token) {
            Some(Token::AnyText) => {
                star = Some((token, at));
                token += 1;
                continue;
            }
            Some(Token::AnyChar) => true,
            Some(Token::Char(c)) => *c == name[at],
            Some(Token::Set(ranges, excluded)) => {
                let inside = ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&name[at]));
                inside != *excluded
            }
            None => false,
        };
        if fits {
            (token, at) = (token + 1, at + 1);
        } else if let Some((star_token, end)) = star {
            star = Some((star_token, end + 1));
            (token, at) = (star_token + 1, end + 1);
        } else {
            return false;
        }
    }
    tokens[token..].iter().all(|token| *token == Token::AnyText)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        parse(pattern)
            .unwrap()
            .iter()
            .any(|pattern| match pattern.components.as_slice() {
                [Component::Literal(literal)] => literal == name,
                [Component::Matching(tokens)] => matches(tokens, name),
                other => panic!("{other:?}"),
            })
    }

    #[test]
    fn stars_question_marks_and_sets_match_whole_names() {
        assert!(fits("*", "") && fits("*.csv", "a.csv") && fits("a*b*c", "aXbYbZc"));
        assert!(!fits("*.csv", "a.csv.gz") && !fits("a*b*c", "aXbYbZ"));
        assert!(fits("part-?", "part-é") && !fits("part-?", "part-") && !fits("part-?", "part-10"));
        assert!(fits("[a-cx]1", "b1") && fits("[a-cx]1", "x1") && !fits("[a-cx]1", "d1"));
        assert!(
            fits("[^a-c]", "d") && !fits("[!a-c]", "a") && fits("[]]", "]") && fits("[a-]", "-")
        );
    }

    #[test]
    fn alternatives_nest_and_may_span_components() {
        assert!(fits("{a,b{1,2}}.csv", "b2.csv") && !fits("{a,b{1,2}}.csv", "b.csv"));
        assert_eq!(parse("/{x/y,z}/*").unwrap().len(), 2);
        assert_eq!(parse("/{x/y,z}/*").unwrap()[0].components.len(), 3);
    }

    #[test]
    fn a_backslash_takes_the_meaning_away() {
        assert!(fits("a\\*", "a*") && !fits("a\\*", "ab") && fits("\\{a,b}", "{a,b}"));
        assert_eq!(
            parse("/a\\*").unwrap()[0].components,
            [Component::Literal("a*".to_owned())]
        );
    }

    #[test]
    fn unfinished_patterns_are_refused() {
        for text in ["/{a,b", "/[a", "/[z-a]", "/a\\"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"{a,b}".repeat(20)).is_err());
    }

    proptest! {
        #[test]
        fn no_pattern_and_name_panic_or_hang(pattern in "[a*?{},\\[\\]^\\\\/é-]{0,20}", name in "[a-cé]{0,20}") {
            for pattern in parse(&pattern).unwrap_or_default() {
                for component in pattern.components {
                    if let Component::Matching(tokens) = component {
                        matches(&tokens, &name);
                    }
                }
            }
        }

        #[test]
        fn a_name_with_a_star_in_it_matches_itself(name in "[a-d.]{1,10}", at in 0_usize..10) {
            let at = at.min(name.len());
            let pattern = format!("{}*{}", &name[..at], &name[at..]);
            prop_assert!(fits(&pattern, &name));
        }
    }
}
