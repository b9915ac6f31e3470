//! `inception serve`, from its start on a free port to its end.

#![cfg(all(unix, feature = "serve"))]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Program, text};
use serde_json::Value;

/// A server at work.
struct Server {
    child: Child,
    log: BufReader<ChildStderr>,
    address: String,
}

impl Server {
    /// Starts one with a log in JSON, and waits until it is ready.
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_inception"))
            .args(["serve", "--http", "127.0.0.1:0", "--log", "json", "--lame-duck", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, log, address: String::new() };
        server.address = server.logged("ready")["http"].as_str().unwrap().to_owned();
        server
    }

    /// The next line of the log that says this.
    fn logged(&mut self, message: &str) -> Value {
        let mut seen = String::new();
        loop {
            let start = seen.len();
            assert!(self.log.read_line(&mut seen).unwrap() > 0, "the log ended without `{message}`: {seen}");
            let line: Value = serde_json::from_str(&seen[start..]).unwrap_or_default();
            if line["message"] == message {
                return line;
            }
        }
    }

    /// Posts, and reads the status and the body.
    fn post(&self, path: &str, body: &[u8]) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn photograph() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/images/ILSVRC2012_val_00010010.jpeg")
}

const SMALL: [&str; 4] = ["--resize-short", "72", "--crop", "64"];

/// A file of GoogLeNet with the values of a seed.
fn file(folder: &Path, name: &str, seed: u64) -> PathBuf {
    let file = folder.join(name);
    let spec = inception::model("GoogLeNet").unwrap();
    inception::nn::with_storage_device(|device| {
        let network = spec.config().with_seed(seed).init(device).unwrap();
        inception::weights::save(&network, &inception::weights::Metadata::of(spec), &file).unwrap();
    });
    file
}

/// What `predict` answers.
fn predicted(weights: &Path) -> Value {
    let image = photograph();
    let flags = [
        "--model",
        "GoogLeNet",
        "--weights",
        text(weights),
        "--image",
        text(&image),
        "--json",
        "--with-logits",
    ];
    Program("predict").json(&[&flags[..], &SMALL].concat())
}

#[test]
fn a_server_from_its_start_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let first = file(folder.path(), "first.safetensors", 1);
    let model = format!("flowers:GoogLeNet={}", text(&first));
    let mut server = Server::start(&[&["--model", &model][..], &SMALL].concat());
    let picture = fs::read(photograph()).unwrap();
    let classify = "/v1/models/flowers/classify?logits=true";
    let (status, answer) = server.post(classify, &picture);
    let wanted = predicted(&first);
    assert_eq!(status, 200);
    for key in ["logits", "top", "warnings"] {
        assert_eq!(answer[key], wanted[key], "{key}");
    }
    assert_eq!(answer["model"], "flowers");

    // Another file under the same name.
    let second = file(folder.path(), "second.safetensors", 2);
    fs::rename(&second, &first).unwrap();
    assert_eq!(
        server.post(classify, &picture).1["logits"],
        wanted["logits"],
        "it is read when it is told to"
    );
    server.signal("-HUP");
    server.logged("a model was loaded again");
    assert_eq!(server.post(classify, &picture).1["logits"], predicted(&first)["logits"]);
    // And one that is none: what is served stays, and no client is told a file's name.
    fs::write(&first, "nothing").unwrap();
    server.signal("-HUP");
    assert!(
        server
            .logged("a model was not loaded again; the one before it stays")
            .to_string()
            .contains("first.safetensors")
    );
    assert_eq!(server.post(classify, &picture).0, 200);

    server.signal("-TERM");
    server.logged("stopped");
    let start = Instant::now();
    let status = loop {
        match server.child.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(start.elapsed() < Duration::from_secs(20)),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success());
    let mut printed = String::new();
    server.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "");
}

#[test]
fn flags_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("serve.toml");
    fs::write(
        &config,
        "model = [\"GoogLeNet\", \"again:GoogLeNet\"]\nrandom-weights = true\nseed = 3\nqueue = 50\nmax-delay-ms = 0.5\n\
         resize-short = 72\ncrop = 60\nhttp = \"256.0.0.1:1\"\n",
    )
    .unwrap();
    // The command line comes before the file, which has an address that is none. (All of the file is looked
    // at first.)
    let error = Program("serve").failure(&["--config", text(&config)]);
    assert!(error.contains("256.0.0.1:1") && error.contains("serve.toml"), "{error}");
    let good = fs::read_to_string(&config).unwrap().replace("http = \"256.0.0.1:1\"\n", "");
    fs::write(&config, good).unwrap();
    let server = Server::start(&["--config", text(&config), "--crop", "64"]);
    let picture = fs::read(photograph()).unwrap();
    let (status, answer) = server.post("/v1/models/again/classify", &picture);
    assert_eq!((status, &answer["model"]), (200, &"again".into()), "{answer}");
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("random weights (seed 3)") && warnings.contains("overridden"), "{warnings}");
    // A model of the command line is instead of those of the file.
    let server = Server::start(&["--config", text(&config), "--crop", "64", "--model", "other:GoogLeNet"]);
    assert_eq!(server.post("/v1/models/again/classify", &picture).0, 404);
    assert_eq!(server.post("/v1/models/other/classify", &picture).0, 200);
}

#[test]
fn what_cannot_be_served_is_named() {
    let serve = Program("serve");
    let random =
        |flags: &[&str]| serve.failure(&[&["--model", "GoogLeNet", "--random-weights"][..], flags].concat());
    for (error, wanted) in [
        (serve.failure(&[]), "--model"),
        (serve.failure(&["--model", "GoogLeNot"]), "GoogLeNet"),
        (
            serve.failure(&["--model", "GoogLeNet"]),
            "--model GoogLeNet=FILE, --pretrained or --random-weights",
        ),
        (serve.failure(&["--model", "GoogLeNet=/nonexistent.pt"]), "/nonexistent.pt"),
        (random(&["--model", "googlenet"]), "two models are called GoogLeNet"),
        (random(&["--tls-cert", "/nonexistent.pem"]), "--tls-key"),
        (random(&["--tls-cert", "/nonexistent.pem", "--tls-key", "/nonexistent.pem"]), "/nonexistent.pem"),
        (random(&["--api-key-file", "/nonexistent"]), "/nonexistent"),
        (random(&["--http", "192.0.2.1:80"]), "cannot listen on 192.0.2.1:80"),
        (serve.failure(&["--config", "/nonexistent.toml"]), "/nonexistent.toml"),
    ] {
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}
