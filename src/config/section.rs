//! The tables of a TOML file, from which keys are taken one by one. What is wrong with a key is noted with its
//! place, and reading goes on, so that one run shows everything that needs mending.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Position, Problem, quote};

/// A file's text and what was found wrong in it so far.
pub struct Document<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

/// One of its tables: the keys that nobody has taken yet.
pub struct Section<'t> {
    /// `None` for the keys above the first `[table]` line.
    name: Option<&'static str>,
    table: DeTable<'t>,
}

/// A value and the text that it was read from.
pub struct Node<'n, 't> {
    file: &'t str,
    value: &'n Spanned<DeValue<'t>>,
}

/// Why a value will not do.
pub struct Mistake {
    span: Range<usize>,
    words: Words,
}

/// What an error says: what stands there, what should, and what to do.
pub struct Words {
    pub found: String,
    pub expected: String,
    pub mend: String,
}

impl<'t> Document<'t> {
    /// Parses `text`. Where it is no TOML, every syntax error is noted.
    pub fn parse(text: &'t str) -> (Document<'t>, Section<'t>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut problems: Vec<Problem> = errors.iter().map(|error| syntax_problem(text, error)).collect();
        problems.sort_by_key(|problem| problem.at);
        // What follows the first error of a line is mostly that error's echo.
        problems.dedup_by_key(|problem| problem.at.line);
        (Document { text, problems }, Section { name: None, table: table.into_inner() })
    }

    /// What was found wrong, in the file's order.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.at);
        self.problems
    }

    /// Whether nothing was found wrong yet.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Takes the table `[name]` out of `section`. A table that is not there is an empty one.
    pub fn section(&mut self, section: &mut Section<'t>, name: &'static str) -> Section<'t> {
        let Some(value) = section.take(name) else {
            return Section { name: Some(name), table: DeTable::new() };
        };
        let span = value.span();
        if let DeValue::Table(table) = value.into_inner() {
            return Section { name: Some(name), table };
        }
        let mend = format!("write a line [{name}], and its keys below that line");
        let found = quote(self.text, span.clone());
        self.note(name, &span, &Words { found, expected: "a table".to_owned(), mend });
        Section { name: Some(name), table: DeTable::new() }
    }

    /// Takes `key` out of `section` and reads it; `default` where it is not there or will not do.
    pub fn read<T>(
        &mut self,
        section: &mut Section<'t>,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Node<'_, 't>) -> Result<T, Mistake>,
    ) -> T {
        let Some(value) = section.take(key) else { return default };
        match parse(&Node { file: self.text, value: &value }) {
            Ok(read) => read,
            Err(mistake) => {
                self.note(&section.path_of(key), &mistake.span, &mistake.words);
                default
            }
        }
    }

    /// Notes every key that is still in `section`: nobody knows it. `known` are the keys of this section, and
    /// `elsewhere` finds the table that a key belongs to where this is not it.
    pub fn refuse_rest(
        &mut self,
        section: &Section<'t>,
        known: &[&str],
        elsewhere: impl Fn(&str) -> Option<String>,
    ) {
        for key in section.table.keys() {
            let name = key.get_ref().as_ref();
            let spelt = name.replace('_', "-").to_lowercase();
            let mend = if known.contains(&spelt.as_str()) {
                format!("write {spelt}")
            } else if let Some(place) = elsewhere(&spelt) {
                format!("{spelt} belongs {place}")
            } else if let Some(similar) = similar(&spelt, known) {
                format!("write {similar}, or remove it")
            } else {
                "remove it".to_owned()
            };
            let expected = format!("one of {}", known.join(", "));
            let words = Words { found: "an unknown key".to_owned(), expected, mend };
            self.note(&section.path_of(name), &key.span(), &words);
        }
    }

    /// Notes that a key, which reads well by itself, does not fit another one. `place` is where it is set, or
    /// `None` where it is left to its default: then the file's start is named.
    pub fn contradict(&mut self, key: &str, place: Option<Range<usize>>, mistake: &Words) {
        let span = place.unwrap_or(0..0);
        self.note(key, &span, mistake);
    }

    fn note(&mut self, key: &str, span: &Range<usize>, words: &Words) {
        let Words { found, expected, mend } = words;
        let at = Position::of(self.text, span.start);
        self.problems
            .push(Problem { at, message: format!("{key}: found {found}, expected {expected}: {mend}") });
    }
}

/// The key that is likely to be meant.
fn similar<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    /// A letter too many, one too few, two that have changed places.
    const SLIPS: usize = 2;
    let distances = known.iter().map(|key| (strsim::damerau_levenshtein(name, key), *key));
    let (distance, nearest) = distances.min()?;
    (distance <= SLIPS && 2 * distance < name.len()).then_some(nearest)
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let mend = match error.message() {
        "duplicate key" => "remove one of the two",
        _ => "write each key on a line of its own as KEY = VALUE, text in quotes",
    };
    let quoted = match quote(text, span.clone()) {
        empty if empty.is_empty() => String::new(),
        quoted => format!(" at {quoted}"),
    };
    let message = format!("syntax error{quoted}: {}: {mend}", error.message());
    Problem { at: Position::of(text, span.start), message }
}

impl<'t> Section<'t> {
    /// Where the value of `key` stands, if it is there and not yet taken.
    pub fn place(&self, key: &str) -> Option<Range<usize>> {
        self.table.get(key).map(Spanned::span)
    }

    fn take(&mut self, key: &str) -> Option<Spanned<DeValue<'t>>> {
        self.table.remove(key)
    }

    fn path_of(&self, key: &str) -> String {
        self.name.map_or_else(|| key.to_owned(), |name| format!("{name}.{key}"))
    }
}

impl<'n, 't> Node<'n, 't> {
    /// An integer, written in any of TOML's ways; `None` where it is something else or does not fit.
    pub fn integer(&self) -> Option<i64> {
        let integer = self.value.get_ref().as_integer()?;
        i64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// A string.
    pub fn string(&self) -> Option<&'n str> {
        self.value.get_ref().as_str()
    }

    /// A boolean.
    pub fn boolean(&self) -> Option<bool> {
        self.value.get_ref().as_bool()
    }

    /// An array's elements.
    pub fn elements(&self) -> Option<Vec<Node<'n, 't>>> {
        let array = self.value.get_ref().as_array()?;
        Some(array.iter().map(|value| Node { file: self.file, value }).collect())
    }

    /// What stands here, as it is written.
    pub fn text(&self) -> String {
        quote(self.file, self.value.span())
    }

    /// That `expected` should stand here instead, and `mend` is what to do.
    pub fn mistake(&self, expected: impl Into<String>, mend: impl Into<String>) -> Mistake {
        self.mistake_found(self.text(), expected, mend)
    }

    /// The same, where what stands here is better said in words.
    pub fn mistake_found(
        &self,
        found: impl Into<String>,
        expected: impl Into<String>,
        mend: impl Into<String>,
    ) -> Mistake {
        let words = Words { found: found.into(), expected: expected.into(), mend: mend.into() };
        Mistake { span: self.value.span(), words }
    }
}
