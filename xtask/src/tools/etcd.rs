//! etcd: from its Go module where Go is, else Debian's package, else whatever the machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{machine, sh};

const VERSION: &str = "v3.6.5";

/// etcd's module has no command that `go install` takes, because its own uses `replace`.
const MAIN: &str = r#"// A server of etcd, from its Go module.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
"#;

/// The path of an etcd server.
pub fn binary() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("TIDEMARK_ETCD_BIN") {
        return Ok(given.into());
    }
    let dir = super::directory()?;
    let built = dir.join("etcd");
    if built.is_file() {
        return Ok(built);
    }
    if super::has_go() {
        sh::step(&format!("building etcd {VERSION}, once"));
        build(&dir.join("etcd-src"), &built)?;
        return Ok(built);
    }
    if let Some(found) = machine::program("etcd") {
        return Ok(found);
    }
    if machine::has_apt() {
        return machine::need("etcd", &["etcd-server"]);
    }
    bail!("no etcd: install Go (https://go.dev/dl) to have it built, or put an etcd 3.4 or later in PATH")
}

fn build(source: &Path, binary: &Path) -> Result<()> {
    fs::create_dir_all(source)?;
    fs::write(source.join("main.go"), MAIN)?;
    fs::write(source.join("go.mod"), "module tidemark/tools/etcd\n\ngo 1.24\n")?;
    let go = || {
        let mut command = Command::new("go");
        command.current_dir(source).env("GOFLAGS", "-mod=mod");
        command
    };
    sh::quietly(go().args(["get", &format!("go.etcd.io/etcd/server/v3@{VERSION}")]))?;
    // Renamed into place, so that an interrupted build leaves no half of it.
    let unfinished = binary.with_extension("new");
    sh::quietly(go().args(["build", "-o"]).arg(&unfinished).arg("."))?;
    Ok(fs::rename(unfinished, binary)?)
}
