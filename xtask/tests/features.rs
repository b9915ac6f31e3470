//! The packages that `cargo xtask` and the tests share have the same features, so that they are compiled
//! once.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::process::Command;

/// The packages from a registry that a build of `selection` compiles, each with its features.
fn packages(selection: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(cargo)
        .args(["tree", "--manifest-path", manifest, "--locked", "--edges", "all", "--prefix", "none"])
        .args(["--format", "{p}: {f}", selection])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    // Packages of the workspace have a path behind their version, and lines of features no colon.
    let lines = lines.lines().filter(|line| line.contains(": ") && !line.contains("(/"));
    lines.map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

#[test]
fn the_two_commands_of_the_readme_compile_burn_once() {
    let (command, tests) = (packages("--package=xtask"), packages("--workspace"));
    assert!(command.iter().any(|package| package.starts_with("burn-core ")), "{command:?}");
    let differ: Vec<_> = command.difference(&tests).map(String::as_str).collect();
    assert!(differ.is_empty(), "the tests have other features of:\n{}", differ.join("\n"));
}
