//! Patterns of topic names, as consumers subscribe to them (KIP-848), in RE2's syntax.
//!
//! A pattern becomes an automaton that reads each byte of a name once, so that a hostile one costs nothing when it is
//! matched, and what it costs to make is bounded by the automaton's size: [`MAX_STATES`] and [`MAX_AUTOMATON`] refuse those
//! that would grow without end, like `.*a.{20}`.
//!
//! The syntax is the one of Rust's regex library, which is of RE2's kind. Where both read a pattern differently it is
//! refused rather than misread: character classes within classes and operators on them (`[a[bc]]`, `[a&&b]`, `[a--b]`,
//! `[a~~b]`), the flags `x`, `u` and `R`, and word boundaries that RE2 does not have (`\<`, `\b{start}`). `\Q…\E` is RE2's
//! alone and is understood; `\C`, a single byte, and octal escapes are not. `\d`, `\s`, `\w` and `\b` are ASCII's, as in RE2.

use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::{Anchored, Input};
use regex_syntax::ast::{self, Ast, ClassSetItem, Flag, FlagsItemKind};
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{Hir, Look};
use tidemark_model::GroupError;

/// Bytes of a pattern. Sixty names of the greatest length fit, joined by `|`.
pub(crate) const MAX_PATTERN: usize = 16 * 1024;
/// Bytes of the states that the automaton is made from: ten for each byte of the longest pattern.
const MAX_STATES: usize = 1024 * 1024;
/// Bytes of an automaton, and of what it takes to make it: some ten milliseconds of work. Patterns of topics take a few KiB.
const MAX_AUTOMATON: usize = 1024 * 1024;
/// Parentheses in parentheses.
const MAX_NESTING: u32 = 100;

/// A pattern that names match as a whole. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Arc<dense::DFA<Vec<u32>>>);

impl Pattern {
    pub(crate) fn compile(pattern: &str) -> Result<Self, GroupError> {
        compile(pattern).map(|automaton| Self(Arc::new(automaton))).map_err(|why| {
            let shown: String = pattern.chars().take(200).collect();
            GroupError::InvalidRegularExpression(format!(
                "SubscribedTopicRegex `{shown}` is not a valid regular expression: {why}."
            ))
        })
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        let found = self.0.try_search_fwd(&Input::new(name).anchored(Anchored::Yes));
        matches!(found, Ok(Some(_)))
    }
}

fn compile(pattern: &str) -> Result<dense::DFA<Vec<u32>>, String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!("it is longer than {MAX_PATTERN} bytes"));
    }
    let quoted = unquote(pattern);
    let parsed = ast::parse::ParserBuilder::new().nest_limit(MAX_NESTING).build().parse(&quoted);
    let parsed = parsed.map_err(|error| error.kind().to_string())?;
    ast::visit(&parsed, OnlyRe2).map_err(str::to_owned)?;
    // Names are ASCII, and so are RE2's classes. Classes of other characters need the other mode.
    let translate = |unicode| TranslatorBuilder::new().unicode(unicode).utf8(false).build().translate(&quoted, &parsed);
    let meaning = translate(false).or_else(|_| translate(true)).map_err(|error| error.kind().to_string())?;
    let whole = Hir::concat(vec![Hir::look(Look::Start), meaning, Hir::look(Look::End)]);
    automaton(&whole).ok_or_else(|| "it is too large".to_owned())
}

/// None where it would be too large, which is all that can be wrong with what has been parsed.
fn automaton(meaning: &Hir) -> Option<dense::DFA<Vec<u32>>> {
    let states = thompson::Config::new().which_captures(WhichCaptures::None).nfa_size_limit(Some(MAX_STATES));
    let states = thompson::Compiler::new().configure(states.utf8(false)).build_from_hir(meaning).ok()?;
    let bounds = dense::Config::new().dfa_size_limit(Some(MAX_AUTOMATON)).determinize_size_limit(Some(MAX_AUTOMATON));
    let config = bounds.start_kind(StartKind::Anchored).unicode_word_boundary(true);
    dense::Builder::new().configure(config).build_from_nfa(&states).ok()
}

/// Makes escapes of what is between `\Q` and `\E`, or the end.
fn unquote(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        plain.push_str(before);
        match escape.strip_prefix(r"\Q") {
            Some(quoted) => {
                let (literal, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
                plain.push_str(&regex_syntax::escape(literal));
                rest = after;
            }
            None => {
                // What follows a backslash is not a backslash of its own.
                let end = escape.chars().take(2).map(char::len_utf8).sum();
                let (escape, after) = escape.split_at(end);
                plain.push_str(escape);
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// Finds what RE2 reads in another way.
struct OnlyRe2;

impl ast::Visitor for OnlyRe2 {
    type Output = ();
    type Err = &'static str;

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        let flags = match ast {
            Ast::Flags(flags) => Some(&flags.flags),
            Ast::Group(group) => group.flags(),
            Ast::Assertion(assertion) => return known_assertion(&assertion.kind),
            _ => None,
        };
        for item in flags.iter().flat_map(|flags| &flags.items) {
            if let FlagsItemKind::Flag(Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace) = item.kind {
                return Err("unknown flag");
            }
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        match item {
            ClassSetItem::Bracketed(_) => Err("a class in a class"),
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), Self::Err> {
        Err("an operator in a class")
    }
}

fn known_assertion(kind: &ast::AssertionKind) -> Result<(), &'static str> {
    use ast::AssertionKind as Kind;
    match kind {
        Kind::StartLine | Kind::EndLine | Kind::StartText | Kind::EndText => Ok(()),
        Kind::WordBoundary | Kind::NotWordBoundary => Ok(()),
        Kind::WordBoundaryStart
        | Kind::WordBoundaryEnd
        | Kind::WordBoundaryStartAngle
        | Kind::WordBoundaryEndAngle
        | Kind::WordBoundaryStartHalf
        | Kind::WordBoundaryEndHalf => Err("unknown boundary"),
    }
}

#[cfg(test)]
mod tests;
