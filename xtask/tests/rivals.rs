//! `cargo xtask rivals` with our own engine in the place of a rival, and what the docs say beside what the
//! data say.

#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn xtask(arguments: &[&str]) -> Output {
    Command::new(XTASK).args(arguments).current_dir(root()).output().unwrap()
}

/// An environment whose Python is a shell script: called as `python -c ...`, or `python SCRIPT RUNTIME
/// THREADS PRECISION`.
fn environment(folder: &Path, runtime: &str) {
    let python = folder.join("rivals/bin/python");
    fs::create_dir_all(python.parent().unwrap()).unwrap();
    fs::write(&python, format!("#!/bin/sh\n[ \"$1\" = -c ] && exit 0\n{runtime}\n")).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn rivals_alternate_and_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (environments, out) = (folder.path().join("environments"), folder.path().join("out"));
    let (environments, out) = (environments.to_str().unwrap(), out.to_str().unwrap());
    let rivals =
        ["rivals", "--model", "GoogLeNet", "--rival", "onnxruntime", "--rounds", "2", "--seconds", "0.05"];
    let with =
        |batch| [&rivals[..], &["--batch", batch, "--environments", environments, "--out", out]].concat();
    let data = || -> Vec<Value> {
        let text = fs::read_to_string(Path::new(out).join("rivals.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };

    // The rival is our own engine, which reads the ONNX file that the command writes.
    environment(
        environments.as_ref(),
        &format!("exec {XTASK} rival-worker --model GoogLeNet --threads $3 --precision $4"),
    );
    let output = xtask(&with("2"));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("best rival / ours") && printed.contains("onnxruntime"), "{printed}");
    let cells = data();
    assert_eq!((cells.len(), &cells[0]["batch"]), (1, &Value::from(2)));
    for runtime in cells[0]["runtimes"].as_array().unwrap() {
        let rounds = runtime["rounds_ms"].as_array().unwrap();
        assert!(rounds.len() == 2 && rounds.iter().all(|round| !round.as_array().unwrap().is_empty()));
        assert!(runtime["logits_differ"].as_f64().unwrap() <= 1e-6, "the same engine: {runtime}");
    }
    assert!(cells[0]["environment"]["cpu"].is_string());

    // The cell is not measured again.
    let before = data();
    assert!(xtask(&with("2")).status.success());
    assert_eq!(before, data());

    // One that answers with the images instead of logits is refused; the cell that was measured stays.
    let liar =
        "while read verb a b; do case $verb in load) echo ready 0;; infer) cp $a $b; echo done;; esac; done";
    environment(environments.as_ref(), liar);
    let output = xtask(&with("1"));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("GoogLeNet at batch 1") && errors.contains("logits are off"), "{errors}");
    // One that dies says so.
    environment(environments.as_ref(), "exit 3");
    let output = xtask(&with("1"));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && errors.contains("onnxruntime ended"), "{errors}");
    assert_eq!(before, data());
}

#[test]
#[cfg(target_os = "linux")]
fn cold_processes_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let (environments, out) = (folder.path().join("environments"), folder.path().join("out"));
    let rivals = ["rivals", "--costs", "--model", "GoogLeNet", "--rival", "onnxruntime", "--rounds", "2"];
    let (environments, out) = (environments.to_str().unwrap(), out.to_str().unwrap());
    environment(
        environments.as_ref(),
        &format!("exec {XTASK} rival-worker --model GoogLeNet --threads $3 --precision $4"),
    );
    let output = xtask(&[&rivals[..], &["--environments", environments, "--out", out]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = Path::new(out).join("costs.json");
    let rows: Vec<Value> = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    for runtime in rows[0]["runtimes"].as_array().unwrap() {
        let times = |key: &str| -> Vec<f64> {
            runtime[key].as_array().unwrap().iter().map(|ms| ms.as_f64().unwrap()).collect()
        };
        let (load, cold) = (times("load_ms"), times("cold_ms"));
        assert!(load.len() == 2 && load.iter().zip(&cold).all(|(load, cold)| 0.0 < *load && load < cold));
        let [before, resting, peak] =
            ["before_mb", "resting_mb", "peak_mb"].map(|key| runtime[key].as_f64().unwrap());
        // GoogLeNet without its heads for training has 28 MB of weights.
        assert!(before < 28.0 && before + 28.0 < resting && resting <= peak, "{runtime}");
    }
    assert!(!xtask(&["rivals", "--costs", "--batch", "8"]).status.success());
}

/// The commands of `inception`, by the same code, and the workspace's own.
#[test]
fn xtask_has_every_command() {
    let stdout = |arguments: &[&str]| {
        let output = xtask(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let help = stdout(&["--help"]);
    let user = [
        "predict", "bench", "eval", "devices", "models", "explain", "convert", "inspect", "features", "fid",
        "serve", "train", "quantize",
    ];
    for command in user.iter().chain(&["rivals", "parity", "check"]) {
        let line = help.lines().find(|line| line.split_whitespace().next() == Some(command));
        assert!(line.is_some(), "{command} in {help}");
    }
    assert!(
        help.contains("cargo xtask predict --model GoogLeNet") && !help.contains("rival-worker"),
        "{help}"
    );
    assert!(serde_json::from_str::<Value>(&stdout(&["models", "--json"])).unwrap().is_array());
    for kind in inception::DeviceKind::ALL.into_iter().filter(|kind| !kind.is_compiled_in()) {
        let output = xtask(&["bench", "--device", kind.name()]);
        let errors = String::from_utf8(output.stderr).unwrap();
        let command = format!("`cargo run --release --package xtask --features {kind} -- ...`");
        assert!(output.status.code() == Some(1) && errors.contains(&command), "{errors}");
    }
}

/// Between a comment with a command and one that says `end`, the docs have what the command prints.
#[test]
fn docs_have_what_commands_print() {
    let mut blocks = 0;
    for file in ["README.md", "docs/latency.md", "docs/engine.md"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for block in text.split("<!-- cargo xtask ").skip(1) {
            let (command, rest) = block.split_once(" -->\n\n").unwrap();
            let (given, _) = rest.split_once("\n<!-- end -->").unwrap_or_else(|| panic!("{command}: no end"));
            let output = xtask(&command.split_whitespace().collect::<Vec<_>>());
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
            let wanted = String::from_utf8(output.stdout).unwrap();
            assert!(given == wanted, "{file} has not what `cargo xtask {command}` prints:\n{wanted}");
            blocks += 1;
        }
    }
    assert!(blocks > 0);
}
