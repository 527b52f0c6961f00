//! Who may depend on whom. The layers point down only, and what comes from outside has one importer.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use crate::sh;

const BELOW_SERVICES: &[&str] = &["model", "wire", "segment", "rpc", "runtime"];

/// What each crate of ours may depend on, without the `tidemark-` of their names.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("wire", &["model"]),
    ("segment", &["model"]),
    ("rpc", &["model"]),
    ("runtime", &["model"]),
    ("gateway", BELOW_SERVICES),
    ("broker", BELOW_SERVICES),
    ("storage", BELOW_SERVICES),
    ("coordinator", BELOW_SERVICES),
    ("tidemark", &["model", "wire", "segment", "rpc", "runtime", "gateway", "broker", "storage", "coordinator"]),
    ("xtask", &[]),
    // Real clients against real processes: the tests know us from outside only.
    ("tests", &["xtask"]),
];

/// The only crate that may name a library.
const SOLE_IMPORTERS: &[(&str, &str)] = &[
    ("tonic", "rpc"),
    ("tonic-prost", "rpc"),
    ("tonic-prost-build", "rpc"),
    ("prost", "rpc"),
    ("etcd-client", "coordinator"),
    ("redb", "coordinator"),
    ("object_store", "segment"),
    ("foyer", "broker"),
    ("kafka-wire", "wire"),
    ("kafka-wire-core", "wire"),
];

pub(super) fn check() -> Result<()> {
    let metadata = MetadataCommand::new().manifest_path(sh::root().join("Cargo.toml")).no_deps().exec()?;
    let packages: Vec<Edges> = metadata.packages.iter().map(edges).collect();
    let broken = violations(&packages);
    if !broken.is_empty() {
        bail!("\n  {}", broken.join("\n  "));
    }
    Ok(())
}

/// A crate of the workspace and the names of what it depends on.
struct Edges {
    name: String,
    dependencies: BTreeMap<String, bool>,
}

fn edges(package: &Package) -> Edges {
    let mut dependencies = BTreeMap::new();
    for dependency in &package.dependencies {
        let only_dev = dependency.kind == DependencyKind::Development;
        let entry = dependencies.entry(short(&dependency.name)).or_insert(only_dev);
        *entry &= only_dev;
    }
    Edges { name: short(&package.name), dependencies }
}

fn short(name: &str) -> String {
    name.strip_prefix("tidemark-").unwrap_or(name).to_owned()
}

fn violations(packages: &[Edges]) -> Vec<String> {
    let ours: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut broken = Vec::new();
    for package in packages {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            broken.push(format!("{} is not in the table of layers (xtask/src/check/layers.rs)", package.name));
            continue;
        };
        for (dependency, only_dev) in &package.dependencies {
            let kind = if *only_dev { " for its tests" } else { "" };
            // A crate's tests may use what it has for the tests of others.
            let itself = *only_dev && *dependency == package.name;
            if ours.contains(&dependency.as_str()) && !allowed.contains(&dependency.as_str()) && !itself {
                broken.push(format!("{} depends on {dependency}{kind}, which the layers forbid", package.name));
            }
            let sole = SOLE_IMPORTERS.iter().find(|(library, _)| library == dependency);
            if let Some((library, importer)) = sole.filter(|(_, importer)| *importer != package.name) {
                broken.push(format!("{} depends on {library}{kind}, which is {importer}'s alone", package.name));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, dependencies: &[&str]) -> Edges {
        let dependencies = dependencies.iter().map(|dependency| ((*dependency).to_owned(), false)).collect();
        Edges { name: name.to_owned(), dependencies }
    }

    #[test]
    fn the_layers_as_drawn_are_fine() {
        let packages =
            [of("model", &["bytes"]), of("wire", &["model", "kafka-wire"]), of("gateway", &["wire", "model"])];
        assert_eq!(violations(&packages), [""; 0]);
    }

    #[test]
    fn an_edge_between_services_is_found() {
        let packages = [of("gateway", &["broker"]), of("broker", &["foyer"])];
        assert_eq!(violations(&packages), ["gateway depends on broker, which the layers forbid"]);
    }

    #[test]
    fn an_edge_upwards_is_found() {
        let packages = [of("model", &["wire"]), of("wire", &[])];
        assert_eq!(violations(&packages), ["model depends on wire, which the layers forbid"]);
    }

    #[test]
    fn a_second_importer_is_found() {
        assert_eq!(
            violations(&[of("storage", &["object_store"])]),
            ["storage depends on object_store, which is segment's alone"]
        );
    }

    #[test]
    fn a_crate_nobody_placed_is_found() {
        assert_eq!(violations(&[of("misc", &[])]).len(), 1);
    }
}
