//! `--pretrained` as a user runs it, with a server on this machine in the place of PaddleClas's.

#![cfg(feature = "download")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use inception_tests::storage;
use serde_json::Value;

/// Sends `body` to whoever asks, and remembers what was asked for.
fn server(body: Vec<u8>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(|line| line.unwrap());
            log.lock().unwrap().push(lines.next().unwrap());
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    (address, asked)
}

fn run(cache: &Path, mirror: &str, offline: bool, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inception"));
    command.args(arguments).env("INCEPTION_CACHE", cache).env("INCEPTION_MIRROR", mirror);
    command.env("INCEPTION_OFFLINE", if offline { "1" } else { "" }).output().unwrap()
}

#[test]
fn published_weights_are_downloaded_once() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, file) = (folder.path().join("cache"), folder.path().join("weights.safetensors"));
    let spec = inception::nn::model("GoogLeNet").unwrap();
    let device = storage();
    let network = spec.config().with_num_classes(7).with_seed(9).init(&device).unwrap();
    inception::weights::save(&network, &inception::weights::Metadata::of(spec), &file).unwrap();
    let (mirror, asked) = server(std::fs::read(&file).unwrap());
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/images/ILSVRC2012_val_00000010.jpeg");
    let (image, file) = (image.to_str().unwrap(), file.to_str().unwrap());
    let predict = |offline: bool, weights: &[&str]| {
        let rest = ["--json", "--with-logits", "--image", image];
        run(&cache, &mirror, offline, &[&["predict", "--model", "googlenet"], weights, &rest].concat())
    };
    let refused = |output: Output, reason: &str| {
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{errors}");
        assert!(errors.contains("error: ") && errors.contains(reason), "{errors}");
    };

    refused(predict(true, &["--pretrained"]), "offline");
    let wanted = predict(false, &["--weights", file]);
    let first = predict(false, &["--pretrained"]);
    let progress = String::from_utf8(first.stderr).unwrap();
    assert!(first.status.success() && progress.contains("GoogLeNet: downloading, 0.0 MB of "), "{progress}");
    serde_json::from_slice::<Value>(&first.stdout).unwrap();
    assert_eq!(first.stdout, wanted.stdout);
    // From the cache, without the server.
    let second = predict(true, &["--pretrained"]);
    assert_eq!(second.stdout, wanted.stdout);
    assert!(!String::from_utf8(second.stderr).unwrap().contains("downloading"));
    assert_eq!(asked.lock().unwrap()[..], ["GET /dygraph/GoogLeNet_pretrained.pdparams HTTP/1.1"]);

    let half = folder.path().join("half.safetensors");
    let to = half.to_str().unwrap();
    let convert =
        ["convert", "--model", "GoogLeNet", "--pretrained", "--precision", "f16", "--json", "--to", to];
    let converted = run(&cache, &mirror, true, &convert);
    assert!(converted.status.success(), "{}", String::from_utf8(converted.stderr).unwrap());
    let line: Value = serde_json::from_slice(&converted.stdout).unwrap();
    assert_eq!(line["bytes"], std::fs::metadata(&half).unwrap().len());

    // A file that has been replaced since.
    std::fs::write(cache.join("GoogLeNet.pdparams"), "something else").unwrap();
    refused(predict(false, &["--pretrained"]), "is not what was downloaded");
}

#[test]
fn what_cannot_be_had_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], reason: &str| {
        let output = run(folder.path(), "http://127.0.0.1:9", false, arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{errors}");
        assert!(errors.contains("error: ") && errors.contains(reason), "{errors}");
    };
    let image = ["--image", "a.jpg"];
    let timm = ["predict", "--model", "timm-xception41", "--pretrained"];
    refused(&[&timm[..], &image].concat(), "no published weights of timm-xception41 are known");
    let both = ["predict", "--model", "GoogLeNet", "--pretrained", "--random-weights"];
    refused(&[&both[..], &image].concat(), "cannot be used with");
    refused(&["convert", "--model", "GoogLeNet", "--to", "a.onnx"], "--from");
    // Nobody listens at that address.
    refused(&["convert", "--model", "GoogLeNet", "--pretrained", "--to", "a.onnx"], "http://127.0.0.1:9");
    let help = run(folder.path(), "", false, &["predict", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    for variable in ["INCEPTION_CACHE", "INCEPTION_MIRROR", "INCEPTION_OFFLINE"] {
        assert!(help.contains(variable), "{help}");
    }
}
