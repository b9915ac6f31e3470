//! `inception features`: the numbers of the network in order, whatever happens to the run.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use inception::metrics::npy;
use serde_json::Value;

use common::{Program, text};

const FEATURES: Program = Program("features");

fn json(arguments: &[&str]) -> Value {
    FEATURES.json(arguments)
}

fn failure(arguments: &[&str]) -> String {
    FEATURES.failure(arguments)
}

/// Twelve small pictures and a file that is none.
fn pictures(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    fs::create_dir_all(data.join("below")).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/fid/pictures/a");
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), data.join(entry.file_name())).unwrap();
    }
    fs::copy(data.join("03.png"), data.join("below/x.png")).unwrap();
    fs::write(data.join("04a.png"), "no picture").unwrap();
    data
}

const SMALL: [&str; 8] =
    ["--model", "GoogLeNet", "--random-weights", "--json", "--max-skipped", "0.2", "--batch", "3"];

#[test]
fn rows_are_in_order_and_the_networks() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let path = |name: &str| folder.path().join(name);
    let run = |file: &str, more: &[&str]| {
        let file = path(file);
        json(&[&SMALL[..], &["--data", text(&data), "--to", text(&file)], more].concat())
    };
    let report = run("pooled.npy", &["--paths", text(&path("paths.txt"))]);
    assert_eq!((report["images"].as_u64(), report["dimensions"].as_u64()), (Some(13), Some(1024)));
    assert_eq!(report["skipped"].as_array().unwrap().len(), 1);
    assert_eq!(report["skipped"][0]["image"], "04a.png");
    assert!(report["images_per_second"].as_f64().unwrap() > 0.0);
    let lines: Vec<String> =
        fs::read_to_string(path("paths.txt")).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 13);
    assert!(lines.is_sorted() && lines[12] == Path::new("below/x.png").to_str().unwrap(), "{lines:?}");
    let pooled = npy::read_features(&path("pooled.npy")).unwrap();
    let row = |index: usize| &pooled.values()[index * 1024..][..1024];
    assert_eq!(row(3), row(12), "the same picture");
    assert_ne!(row(3), row(4));

    // The same network in the library.
    let spec = inception::model("GoogLeNet").unwrap();
    let weights = inception::Weights::Random { seed: 0 };
    let classifier = inception::Classifier::new(spec, &weights, &inception::RunOptions::default()).unwrap();
    let wanted = classifier.predict(&inception::data::read(data.join(&lines[5])).unwrap()).unwrap().logits;
    run("logits.npy", &["--layer", "logits"]);
    run("probabilities.npy", &["--layer", "probabilities"]);
    let logits = npy::read_features(&path("logits.npy")).unwrap();
    let largest = wanted.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (found, wanted) in logits.values()[5 * 1000..].iter().zip(&wanted) {
        // A batch of three is computed in another order than one picture.
        assert!((found - wanted).abs() < 1e-5 * largest, "{found} {wanted}");
    }
    let probabilities = npy::read_features(&path("probabilities.npy")).unwrap();
    let sum: f32 = probabilities.values()[..1000].iter().sum();
    assert!((sum - 1.0).abs() < 1e-5);

    // The last stage, averaged over places, is what the classifier reads.
    let stages =
        failure(&[&SMALL[..], &["--data", text(&data), "--to", "x.npy", "--layer", "nowhere"]].concat());
    let last = stages.split(", ").last().unwrap().trim();
    run("stage.safetensors", &["--layer", last]);
    let bytes = fs::read(path("stage.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let stage = tensors.tensor("features").unwrap();
    assert_eq!(stage.shape(), [13, 1024]);
    let values = stage.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    assert!(values.eq(pooled.values().iter().copied()));
    run("half.safetensors", &["--dtype", "f16"]);
    let bytes = fs::read(path("half.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("features").unwrap().dtype(), safetensors::Dtype::F16);
}

/// The flags of `predict` and `eval` say what is done to pictures, and the run says what it did.
#[test]
fn preprocessing_can_be_given() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let features = |file: &str, more: &[&str]| {
        let file = folder.path().join(file);
        let report = json(&[&SMALL[..], &["--data", text(&data), "--to", text(&file)], more].concat());
        let warned = report["warnings"].to_string().contains("overridden");
        (npy::read_features(&file).unwrap().values().to_vec(), warned)
    };
    let (own, plain) = features("own.npy", &[]);
    let (same, same_warned) = features("same.npy", &["--preprocess", "paddleclas"]);
    let (other, other_warned) =
        features("other.npy", &["--preprocess", "timm", "--resize-short", "140", "--crop", "128"]);
    assert_eq!(own, same);
    assert_eq!([plain, same_warned, other_warned], [false, false, true]);
    assert!(own.len() == other.len() && own != other);
}

/// With the feature a file of paths and lists; without it a message that says how to get it.
#[test]
fn parquet() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let file = folder.path().join("features.parquet");
    let arguments = [&SMALL[..], &["--data", text(&data), "--to", text(&file)]].concat();
    if cfg!(feature = "parquet") {
        // What is in it, the tests of `inception-metrics` say.
        assert_eq!(json(&arguments)["images"], 13);
        let bytes = fs::read(&file).unwrap();
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1") && bytes.len() > 13 * 4096);
    } else {
        let error = failure(&arguments);
        assert!(error.contains("lacks the feature `parquet`") && error.contains("--features"), "{error}");
        assert!(!file.exists());
    }
}

/// Shards hold the whole's batches in turn.
#[test]
fn shards_are_parts_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let run = |file: &str, shard: &str| {
        let file = folder.path().join(file);
        json(&[&SMALL[..], &["--data", text(&data), "--to", text(&file), "--shard", shard]].concat());
        npy::read_features(&file).unwrap().values().to_vec()
    };
    let whole = run("whole.npy", "0/1");
    let (first, second) = (run("first.npy", "0/2"), run("second.npy", "1/2"));
    let batch = 3 * 1024;
    // Batches of pictures: 0-2, 3-5 (one of which is none), 6-8, 9-11, 12-13.
    let parts = [
        &first[..batch],
        &second[..batch - 1024],
        &first[batch..2 * batch],
        &second[batch - 1024..],
        &first[2 * batch..],
    ];
    assert_eq!(parts.concat(), whole);
}

/// Killed wherever it is, a run goes on from its state and writes the same file.
#[test]
fn killed_runs_continue() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let (state, file) = (folder.path().join("state"), folder.path().join("features.npy"));
    let arguments =
        [&SMALL[..4], &["--max-skipped", "0.2", "--batch", "1", "--data", text(&data), "--to", text(&file)]]
            .concat();
    json(&arguments);
    let whole = fs::read(&file).unwrap();
    let resumed = [&arguments[..], &["--resume", text(&state)]].concat();
    let mut kills = 0;
    for kept in [1, 4, 9] {
        fs::remove_file(&file).ok();
        let mut child = Command::new(env!("CARGO_BIN_EXE_inception"))
            .arg("features")
            .args(&resumed)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        // A record is 4 KiB of features and some names.
        while fs::metadata(&state).map_or(0, |m| m.len()) < kept * 4200 {
            assert!(start.elapsed() < Duration::from_secs(60));
            if child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    eprintln!("killed {kills} times");
    // What a crash may leave, too: half a record.
    let mut bytes = fs::read(&state).unwrap();
    bytes.truncate(bytes.len() - 1000);
    fs::write(&state, &bytes).unwrap();
    let report = json(&resumed);
    assert_eq!(report["images"], 13);
    assert_eq!(fs::read(&file).unwrap(), whole);
    // All is there: nothing is computed, and the skipped picture is still named.
    let again = json(&resumed);
    assert_eq!(
        (again["skipped"].as_array().unwrap().len(), again["images_per_second"].as_f64()),
        (1, Some(0.0))
    );
    assert_eq!(fs::read(&file).unwrap(), whole);
    // A state of something else is refused, and stays as it is.
    let other = failure(&[&resumed[..], &["--layer", "logits"]].concat());
    assert!(other.contains("its layer is pooled, not logits"), "{other}");
    let shard = failure(&[&resumed[..], &["--shard", "0/2"]].concat());
    assert!(shard.contains("its shard is 0/1, not 0/2"), "{shard}");
    let foreign = folder.path().join("foreign");
    fs::write(&foreign, "a diary").unwrap();
    let error = failure(&[&arguments[..], &["--resume", text(&foreign)]].concat());
    assert!(error.contains("not the state of such a run") && fs::read(&foreign).unwrap() == b"a diary");
}

#[test]
fn bad_input_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = pictures(folder.path());
    let run = |to: &str, data: &str| failure(&[&SMALL[..], &["--to", to, "--data", data]].concat());
    assert!(run("x.txt", text(&data)).contains(".npy, .safetensors or .parquet"));
    assert!(run("x.npy", "/nowhere").contains("/nowhere"));
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(run("x.npy", text(&empty)).contains("empty"));
    let few = failure(
        &[
            &SMALL[..4],
            &["--max-skipped", "0", "--data", text(&data), "--to", text(&folder.path().join("f.npy"))],
        ]
        .concat(),
    );
    assert!(few.contains("04a.png") && few.contains("--max-skipped"), "{few}");
    // Nothing half-written stays.
    assert!(fs::read_dir(folder.path()).unwrap().all(|entry| entry.unwrap().path().is_dir()));
    let nowhere = folder.path().join("none/x.npy");
    assert!(run(text(&nowhere), text(&data)).contains("there is no folder"));
    let two = failure(&[
        "--model",
        "GoogLeNet,InceptionV3",
        "--random-weights",
        "--data",
        text(&data),
        "--to",
        "x.npy",
    ]);
    assert!(two.contains("one --model"));
}
