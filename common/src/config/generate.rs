//! The files that are written from the table.

use std::fmt::Write;

use super::kind::{Kind, OptionSpec};
use super::options::SECTIONS;

/// `docs/configuration.md`: every option with its type, default and meaning.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Written from the table in `common/src/config/options.rs`; a test keeps them in step.\n\n\
         Options are read from `conf/spindle-conf.yaml`, then from `-D key=value`; the later one holds. In the file, keys may be\n\
         flat (`a.b.c: v`) or nested. An unknown key, or a value of another type, is an error that names the place.\n\n\
         Keys and meanings are Flink's, except where the last column says *ours*. Durations read `100 ms`, `1 s`, `5 min`, `1 h`\n\
         (a number alone is in milliseconds unless said otherwise), memory sizes `512m`, `2g` (units of 1024).\n",
    );
    for section in SECTIONS {
        let _ = write!(
            text,
            "\n## {}\n\n| key | type | default | meaning | since |\n| --- | --- | --- | --- | --- |\n",
            section.title
        );
        for option in section.options {
            let default = option
                .default
                .map_or_else(|| "(none)".to_owned(), |default| format!("`{default}`"));
            let origin = if option.flink { "" } else { ", *ours*" };
            let _ = writeln!(
                text,
                "| `{}` | {} | {default} | {} | {}{origin} |",
                shown_key(option),
                shown_type(option),
                option.doc,
                option.since,
            );
        }
    }
    text
}

/// `conf/spindle-conf.yaml`: every option as a comment, with its default.
pub fn yaml() -> String {
    let mut text = String::from(
        "# Configuration of Spindle. Each option stands here with its default, commented out: remove the `#` to change one.\n\
         # More about them in docs/configuration.md. Both files are written from the same table.\n",
    );
    for section in SECTIONS {
        let _ = write!(text, "\n# ---- {} ----\n", section.title);
        for option in section.options {
            text.push('\n');
            for line in wrapped(
                &format!("{} Type: {}.", option.doc, shown_type(option)),
                110,
            ) {
                let _ = writeln!(text, "## {line}");
            }
            let default = option.default.unwrap_or("");
            let line = format!("# {}: {default}", shown_key(option));
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
}

fn shown_key(option: &OptionSpec) -> String {
    if option.kind == Kind::Prefix {
        format!("{}NAME", option.key)
    } else {
        option.key.to_owned()
    }
}

fn shown_type(option: &OptionSpec) -> String {
    let name = option.kind.name();
    if let Kind::Enum(words) = option.kind {
        return format!("one of {}", words.join(", "));
    }
    match option.unit {
        "" => name.to_owned(),
        unit => format!("{name} ({unit})"),
    }
}

/// Lines of at most `width` characters, broken at spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
