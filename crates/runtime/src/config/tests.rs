use std::collections::BTreeMap;
use std::io::Write as _;

use serde::Deserialize;

use super::*;
use crate::telemetry::{LogFormat, Telemetry};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    listen: String,
    coordinators: Vec<String>,
    max_frame_bytes: u64,
    rack: Option<String>,
    limit: Option<u32>,
    labels: BTreeMap<String, String>,
    telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9092".into(),
            coordinators: vec!["http://127.0.0.1:7000".into()],
            max_frame_bytes: 100,
            rack: None,
            limit: None,
            labels: BTreeMap::new(),
            telemetry: Telemetry::default(),
        }
    }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from_env(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Sources { env: env(pairs), ..Sources::default() }.resolve()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    let file = file(text);
    Sources { file: Some(file.path().to_owned()), ..Sources::default() }.resolve()
}

#[test]
fn nothing_set_is_the_default() {
    assert_eq!(from_env(&[("PATH", "/bin")]).unwrap(), Config::default());
}

#[test]
fn file_then_environment_then_flags_win() {
    let file = file("listen = 'a:1'\nmax_frame_bytes = 5\nrack = 'r1'\n[telemetry]\nlog = 'debug'\n");
    let config: Config = Sources {
        file: Some(file.path().to_owned()),
        env: env(&[
            ("TIDEMARK_LISTEN", "b:2"),
            ("TIDEMARK_MAX_FRAME_BYTES", "6"),
            ("TIDEMARK_TELEMETRY__LOG_FORMAT", "json"),
        ]),
        flags: vec![("listen", "c:3".into())],
    }
    .resolve()
    .unwrap();
    assert_eq!((config.listen.as_str(), config.max_frame_bytes, config.rack.as_deref()), ("c:3", 6, Some("r1")));
    assert_eq!((config.telemetry.log.as_str(), config.telemetry.log_format), ("debug", LogFormat::Json));
}

#[test]
fn text_from_the_environment_is_read_as_the_keys_type() {
    let config = from_env(&[
        ("TIDEMARK_LISTEN", "9092"),
        ("TIDEMARK_COORDINATORS", "http://a:1, http://b:2"),
        ("TIDEMARK_RACK", "1"),
        ("TIDEMARK_LIMIT", "7"),
    ])
    .unwrap();
    assert_eq!((config.listen.as_str(), config.rack.as_deref(), config.limit), ("9092", Some("1"), Some(7)));
    assert_eq!(config.coordinators, ["http://a:1", "http://b:2"]);
    let config = from_env(&[("TIDEMARK_COORDINATORS", r#"["http://a:1"]"#), ("TIDEMARK_LABELS__TEAM", "x")]).unwrap();
    assert_eq!(config.coordinators, ["http://a:1"]);
    assert_eq!(config.labels, BTreeMap::from([("team".to_owned(), "x".to_owned())]));
}

#[test]
fn an_unknown_key_in_the_file_is_named_with_its_line_and_the_one_meant() {
    let error = from_file("listen = 'a:1'\n\n[telemetry]\nlgo = 'x'\n").unwrap_err();
    let ConfigError::UnknownKey { key, place: Place::File { line, .. }, suggestion } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((key.as_str(), *line, suggestion.as_deref()), ("telemetry.lgo", 4, Some("telemetry.log")));
    let text = error.to_string();
    assert!(text.contains(".toml, line 4") && text.contains("did you mean `telemetry.log`?"), "{text}");
}

#[test]
fn a_key_of_another_section_is_pointed_to() {
    let error = from_file("log = 'info'").unwrap_err().to_string();
    assert!(error.contains("`telemetry.log`"), "{error}");
}

#[test]
fn an_unknown_environment_variable_is_named_and_so_is_the_one_meant() {
    let error = from_env(&[("TIDEMARK_LISTN", "a:1")]).unwrap_err().to_string();
    assert_eq!(error, "unknown key `listn` in the environment variable TIDEMARK_LISTN; did you mean TIDEMARK_LISTEN?");
    let error = from_env(&[("TIDEMARK_TELEMETRY__FORMAT", "json")]).unwrap_err().to_string();
    assert!(error.contains("TIDEMARK_TELEMETRY__FORMAT"), "{error}");
    let error = from_env(&[("TIDEMARK_QUUX", "1")]).unwrap_err().to_string();
    assert!(error.ends_with("TIDEMARK_QUUX; --print-config shows all there are"), "{error}");
}

#[test]
fn what_tests_and_tools_set_is_not_configuration() {
    let set = [("TIDEMARK_E2E_BOOTSTRAP", "x"), ("TIDEMARK_TEST_X", "1"), ("TIDEMARK_ETCD_BIN", "/bin/etcd")];
    assert_eq!(from_env(&set).unwrap(), Config::default());
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_place() {
    let error = from_env(&[("TIDEMARK_MAX_FRAME_BYTES", "many")]).unwrap_err().to_string();
    assert!(error.contains("`max_frame_bytes` in the environment variable TIDEMARK_MAX_FRAME_BYTES"), "{error}");
    let error = from_file("\nmax_frame_bytes = -1").unwrap_err().to_string();
    assert!(error.contains(".toml, line 2"), "{error}");
    let error = from_file("[telemetry]\nlog_format = 'xml'").unwrap_err().to_string();
    assert!(error.contains("`telemetry.log_format`") && error.contains("line 2") && error.contains("json"), "{error}");
    let error = from_file("coordinators = ['a', 7]").unwrap_err().to_string();
    assert!(error.contains("`coordinators.1`") && error.contains("line 1"), "{error}");
    let error = from_env(&[("TIDEMARK_TELEMETRY", "x")]).unwrap_err().to_string();
    assert!(error.contains("a section"), "{error}");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named() {
    let error = Sources { file: Some("/nowhere/tidemark.toml".into()), ..Sources::default() }.resolve::<Config>();
    assert!(error.unwrap_err().to_string().contains("/nowhere/tidemark.toml"));
    let error = from_file("listen = ").unwrap_err();
    assert!(matches!(error, ConfigError::Syntax { .. }), "{error:?}");
}

#[test]
fn the_printed_configuration_gives_the_same_again() {
    let config = Config { rack: Some("r".into()), listen: "x:1".into(), ..Config::default() };
    assert_eq!(from_file(&to_toml(&config).unwrap()).unwrap(), config);
    assert_eq!(from_file(&to_toml(&Config::default()).unwrap()).unwrap(), Config::default());
}

#[test]
fn a_key_names_its_environment_variable() {
    assert_eq!(variable("telemetry.log"), "TIDEMARK_TELEMETRY__LOG");
}
