//! Whether a config takes a value, in the words of Apache Kafka 4.2.

use std::collections::BTreeMap;

use super::{Kind, TopicConfig, lookup};

/// Why a topic config of this name does not take this value, as Kafka words it.
pub fn validate(name: &str, value: &str) -> Result<(), String> {
    let config = lookup(name).ok_or_else(|| unknown(name))?;
    check(config, value).map_err(|reason| match reason {
        Reason::Value(reason) => format!("Invalid value {value} for configuration {name}: {reason}"),
        Reason::List(reason) => format!("Invalid value [{value}] for configuration {name}: {reason}"),
        Reason::Element(bad, reason) => format!("Invalid value {bad} for configuration {name}: {reason}"),
        Reason::EmptyElement => format!("Configuration '{name}' values must not be empty."),
    })
}

/// Why a topic cannot have these configs together. Unknown names come first, then bad values, then contradictions.
pub fn validate_all(configs: &BTreeMap<String, String>) -> Result<(), String> {
    if let Some(name) = configs.keys().find(|name| lookup(name).is_none()) {
        return Err(unknown(name));
    }
    for (name, value) in configs {
        validate(name, value)?;
    }
    let effective = super::effective(configs);
    let (min, max) = (effective.min_compaction_lag_ms(), effective.max_compaction_lag_ms());
    if min > max {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        ));
    }
    Ok(())
}

/// A valid value as Kafka shows it: without blanks around it, booleans in lower case, numbers in their usual form.
pub fn canonical(config: &TopicConfig, value: &str) -> String {
    let trimmed = value.trim();
    let number = match config.kind {
        Kind::Boolean => Some(trimmed.to_ascii_lowercase()),
        Kind::Int { .. } | Kind::GzipLevel => trimmed.parse::<i32>().ok().map(|n| n.to_string()),
        Kind::Long { .. } => trimmed.parse::<i64>().ok().map(|n| n.to_string()),
        // Debug keeps the `.0` of a whole number, as Java does.
        Kind::Double { .. } => trimmed.parse::<f64>().ok().map(|n| format!("{n:?}")),
        Kind::List(_) | Kind::Replicas => Some(list_values(value).collect::<Vec<_>>().join(",")),
        Kind::Choice(_) | Kind::Text => None,
    };
    number.unwrap_or_else(|| trimmed.to_owned())
}

/// The values of a list config. An empty string is an empty list.
pub fn list_values(value: &str) -> impl Iterator<Item = &str> {
    let value = value.trim();
    value.split(',').map(str::trim).skip(usize::from(value.is_empty()))
}

enum Reason {
    Value(String),
    /// Kafka prints the list with brackets.
    List(String),
    /// One value of a list.
    Element(String, String),
    EmptyElement,
}

fn check(config: &TopicConfig, value: &str) -> Result<(), Reason> {
    let trimmed = value.trim();
    match config.kind {
        Kind::Text => Ok(()),
        Kind::Boolean if trimmed.eq_ignore_ascii_case("true") || trimmed.eq_ignore_ascii_case("false") => Ok(()),
        Kind::Boolean => Err(Reason::Value("Expected value to be either true or false".into())),
        Kind::Int { min, max } => {
            let number = trimmed.parse::<i32>().map_err(|_| not_a_number("INT"))?;
            bounds(number, min, max)
        }
        Kind::Long { min, max } => {
            let number = trimmed.parse::<i64>().map_err(|_| not_a_number("LONG"))?;
            bounds(number, min, max)
        }
        Kind::Double { min, max } => {
            let number = trimmed.parse::<f64>().map_err(|_| not_a_number("DOUBLE"))?;
            if number.is_nan() { Err(not_a_number("DOUBLE")) } else { bounds(number, min, max) }
        }
        Kind::GzipLevel => match trimmed.parse::<i32>().map_err(|_| not_a_number("INT"))? {
            -1 | 1..=9 => Ok(()),
            _ => Err(Reason::Value("Value must be between 1 and 9 or equal to -1".into())),
        },
        Kind::Choice(choices) if choices.contains(&trimmed) => Ok(()),
        Kind::Choice(choices) => Err(Reason::Value(one_of(choices))),
        Kind::List(choices) => {
            for element in elements(value)? {
                if !choices.contains(&element) {
                    return Err(Reason::Element(element.to_owned(), one_of(choices)));
                }
            }
            Ok(())
        }
        Kind::Replicas => {
            let elements = elements(value)?;
            let wildcard = elements == ["*"];
            if wildcard || elements.iter().all(|element| is_replica(element)) {
                return Ok(());
            }
            Err(Reason::List(format!(
                "{} must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                config.name
            )))
        }
    }
}

fn elements(value: &str) -> Result<Vec<&str>, Reason> {
    let elements: Vec<&str> = list_values(value).collect();
    if elements.contains(&"") { Err(Reason::EmptyElement) } else { Ok(elements) }
}

fn bounds<T: PartialOrd + std::fmt::Display>(number: T, min: T, max: T) -> Result<(), Reason> {
    if number < min {
        return Err(Reason::Value(format!("Value must be at least {min}")));
    }
    if number > max {
        return Err(Reason::Value(format!("Value must be no more than {max}")));
    }
    Ok(())
}

fn is_replica(element: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    element.split_once(':').is_some_and(|(partition, broker)| digits(partition) && digits(broker))
}

fn not_a_number(kind: &str) -> Reason {
    Reason::Value(format!("Not a number of type {kind}"))
}

fn one_of(choices: &[&str]) -> String {
    format!("String must be one of: {}", choices.join(", "))
}

fn unknown(name: &str) -> String {
    format!("Unknown topic config name: {name}")
}
