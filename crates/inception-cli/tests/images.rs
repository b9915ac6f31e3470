//! The pictures of `predict`: files, folders, standard input, lists, and what is none of them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn photograph() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/images/ILSVRC2012_val_00010010.jpeg")
}

fn predict(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_inception"))
        .args(["predict", "--model", "GoogLeNet", "--random-weights", "--json"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments does not wait for its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn answers(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `b.jpeg`, `a.jpeg`, `inner/c.jpeg` and a text.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("inner")).unwrap();
    for name in ["b.jpeg", "a.jpeg", "inner/c.jpeg"] {
        fs::copy(photograph(), folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("notes.txt"), "none").unwrap();
    folder
}

fn names(output: &Output) -> Vec<String> {
    answers(output).iter().map(|line| line["image"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn folders_lists_and_standard_input() {
    let folder = folder();
    let folder = folder.path();
    assert_eq!(names(&predict(folder, &["--image", "."], b"")), ["./a.jpeg", "./b.jpeg"]);
    let all = predict(folder, &["--image", ".", "--recursive"], b"");
    assert_eq!(names(&all), ["./a.jpeg", "./b.jpeg", "./inner/c.jpeg"]);

    fs::write(folder.join("list.txt"), "b.jpeg\r\n\ninner/c.jpeg\n").unwrap();
    let listed = predict(folder, &["--image-list", "list.txt"], b"");
    assert_eq!(names(&listed), ["b.jpeg", "inner/c.jpeg"]);

    let piped = predict(folder, &["--image-list", "-"], "\u{feff}b.jpeg\na.jpeg".as_bytes());
    assert_eq!(names(&piped), ["b.jpeg", "a.jpeg"]);
    let binary = predict(folder, &["--image-list", "a.jpeg"], b"");
    assert!(errors(&binary).contains("no list of paths"), "{}", errors(&binary));

    let whole = fs::read(photograph()).unwrap();
    let piped = predict(folder, &["--image", "-", "a.jpeg"], &whole);
    let piped = answers(&piped);
    assert_eq!(piped[0]["image"], "-");
    assert_eq!(piped[0]["top"], piped[1]["top"]);
    let cut = &whole[..whole.len() / 2];
    assert!(!predict(folder, &["--image", "-"], cut).status.success());
    assert!(predict(folder, &["--image", "-", "--accept-truncated"], cut).status.success());
}

#[test]
fn what_is_no_picture_is_named() {
    let folder = folder();
    let folder = folder.path();
    fs::create_dir_all(folder.join("outer/empty")).unwrap();
    for (image, wanted) in [
        ("https://example.org/cat.jpg", "is an address"),
        ("*.png", "the shell found none"),
        ("inner/c.jpg", "cannot read"),
        ("outer", "--recursive"),
        ("outer/empty", "there is no picture in"),
    ] {
        let output = predict(folder, &["--image", image], b"");
        assert!(!output.status.success());
        assert!(errors(&output).contains(wanted), "{image}: {}", errors(&output));
    }
}

/// Opening a pipe waits for somebody to write to it, and a device has no end.
#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused() {
    let folder = folder();
    let pipe = folder.path().join("pipe.jpg");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let output = predict(folder.path(), &["--image", "pipe.jpg", "/dev/zero", "a.jpeg"], b"");
    assert_eq!(names(&output), ["a.jpeg"]);
    assert_eq!(errors(&output).matches("it is not a file").count(), 2, "{}", errors(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_no_utf8_costs_nobody_an_answer() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder();
    let odd = std::ffi::OsStr::from_bytes(b"\xffz.jpeg");
    fs::copy(photograph(), folder.path().join(odd)).unwrap();
    let output = predict(folder.path(), &["--image", "."], b"");
    assert!(output.status.success(), "{}", errors(&output));
    let answers = answers(&output);
    assert_eq!(answers.len(), 3);
    assert!(answers[0].get("image_is_lossy").is_none());
    assert_eq!(answers[2]["image"], "./\u{fffd}z.jpeg");
    assert_eq!(answers[2]["image_is_lossy"], true);
}
