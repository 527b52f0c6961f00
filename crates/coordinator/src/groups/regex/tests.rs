use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

#[test]
fn names_match_as_a_whole() {
    for (pattern, yes, no) in [
        ("orders", &["orders"][..], &["orders2", "old-orders", ""][..]),
        ("orders.*", &["orders", "orders-eu"], &["old-orders"]),
        ("a|ab", &["a", "ab"], &["abb", "b"]),
        ("^a$|^b$", &["a", "b"], &["ab"]),
        (r"t-\d{1,3}", &["t-1", "t-123"], &["t-", "t-1234"]),
        ("(?i)ORDERS", &["orders", "Orders"], &[]),
        (r"\Qa.b\E.*", &["a.b", "a.bc"], &["axb"]),
        (r"x\Q+*", &["x+*"], &["x"]),
        (r"\\Q", &[r"\Q"], &["Q"]),
        (r"(?P<kind>clicks|views)\.\w+", &["clicks.eu"], &["clicks."]),
        (r"[[:alpha:]]+", &["abc"], &["a1"]),
        (r"\pL+", &["abc", "äß"], &["1"]),
        (r"[^_].*", &["a"], &["_a"]),
        ("", &[""], &["a"]),
        ("a\n|b", &["b"], &["a"]),
    ] {
        let pattern = Pattern::compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert!(yes.iter().all(|name| pattern.matches(name)), "{pattern:?} {yes:?}");
        assert!(!no.iter().any(|name| pattern.matches(name)), "{pattern:?} {no:?}");
    }
}

#[test]
fn what_re2_refuses_or_reads_otherwise_is_refused() {
    let long = "a".repeat(MAX_PATTERN + 1);
    let nested = format!("{}a{}", "(".repeat(200), ")".repeat(200));
    for pattern in [
        "(",
        ")",
        "a)(b",
        "a)|(?:b",
        "*",
        "[",
        "a{2,1}",
        r"(a)\1",
        "(?=a)",
        "(?!a)",
        "(?<=a)b",
        "(?x)a b",
        "(?x:a )",
        "(?R)a",
        "[a[bc]]",
        "[a-z&&b]",
        "[a-z--b]",
        r"\<a",
        r"\b{start}a",
        r"\C",
        r"\1",
        "\\",
        &long,
        &nested,
        "((a{100}){100}){100}",
        r"(\pL{100}){100}",
    ] {
        let refused = Pattern::compile(pattern);
        assert!(
            matches!(&refused, Err(GroupError::InvalidRegularExpression(why)) if why.len() < 500),
            "{pattern:.40} {refused:?}"
        );
    }
}

/// Generous, because it runs unoptimized and beside other tests.
#[test]
fn a_hostile_pattern_costs_bounded_time() {
    const SOON: Duration = Duration::from_secs(60);
    let begun = Instant::now();
    let name = "a".repeat(249);
    let many = vec!["(x+x+)+y"; MAX_PATTERN / 9].join("|");
    for pattern in
        ["(a+)+b", "(a|a)*b", "(a*)*b", "((a{0,50}){0,50}){0,50}", &"a?".repeat(4000), &"(a|".repeat(90), &many]
    {
        if let Ok(pattern) = Pattern::compile(pattern) {
            (0..100).for_each(|_| assert!(!pattern.matches(&format!("{name}c"))));
        }
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

proptest! {
    #[test]
    fn no_pattern_makes_it_panic(pattern in r"(\\[QEA-Za-z0-9<{\[]|[a-c?*+|.(){}\[\]^$&~,0-9-]|\PC){0,24}", name in "[a-c.]{0,8}") {
        if let Ok(pattern) = Pattern::compile(&pattern) {
            pattern.matches(&name);
        }
    }

    #[test]
    fn quoted_text_is_literal(text in r"[a-z.*+?()\[\]{}|^$-]{0,12}", name in "[a-z.]{0,12}") {
        let pattern = Pattern::compile(&format!(r"\Q{text}\E"))?;
        prop_assert!(pattern.matches(&text));
        prop_assert_eq!(pattern.matches(&name), name == text);
    }
}
