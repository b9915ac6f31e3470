//! `inception train`: from folders of pictures to a file that the other commands read; the same to the bit
//! however often it is killed.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use inception_tests::formula;
use serde_json::Value;
use tempfile::TempDir;

use common::{Program, text};

const TRAIN: Program = Program("train");

/// Side of the pictures: small, so that a debug of the network takes milliseconds.
const SIDE: u32 = 64;

/// A picture of noise around a colour.
fn write_picture(path: &Path, colour: [u8; 3], seed: usize) {
    let mut noise = formula::uniform(&format!("train {seed}"));
    let pixels: Vec<u8> = (0..SIDE * SIDE)
        .flat_map(|_| colour)
        .map(|value| (f64::from(value) + noise.next().unwrap() * 40.0).clamp(0.0, 255.0) as u8)
        .collect();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}

/// Folders of three classes with `count` pictures each, from `first` on.
fn pictures(root: &Path, count: usize, first: usize) -> PathBuf {
    let classes = [("red", [200, 60, 60]), ("green", [60, 200, 60]), ("blue", [60, 60, 200])];
    for (class, (name, colour)) in classes.into_iter().enumerate() {
        let folder = root.join(name);
        fs::create_dir_all(&folder).unwrap();
        for index in 0..count {
            write_picture(&folder.join(format!("{index}.png")), colour, first + class * 1000 + index);
        }
    }
    root.to_owned()
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The arguments of a run into `to`, with others.
    fn arguments(&self, data: &Path, to: &str, others: &[&str]) -> Vec<String> {
        let (to, cache) = (self.path(to), self.path("cache"));
        let fixed = [
            "--model",
            "GoogLeNet",
            "--random-weights",
            "--crop",
            "64",
            "--resize-short",
            "64",
            "--json",
            "--data",
            text(data),
            "--to",
            text(&to),
            "--cache",
            text(&cache),
        ];
        fixed.iter().chain(others).map(|&argument| argument.to_owned()).collect()
    }

    /// The lines of a run that succeeds, and what it said.
    fn train(&self, data: &Path, to: &str, others: &[&str]) -> (Vec<Value>, String) {
        let arguments = self.arguments(data, to, others);
        let output = TRAIN.output(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        let lines = String::from_utf8(output.stdout).unwrap();
        (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), errors)
    }

    fn failure(&self, data: &Path, to: &str, others: &[&str]) -> String {
        let arguments = self.arguments(data, to, others);
        TRAIN.failure(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[test]
fn trained_files_go_through_the_other_commands() {
    let place = Place::new();
    let data = pictures(&place.path("pictures"), 10, 0);
    let other = pictures(&place.path("others"), 4, 500);
    let (lines, said) = place.train(&data, "run", &["--epochs", "12", "--lr", "0.01", "--val-share", "0.2"]);
    assert!(said.contains("24 pictures to train on, 6 for validation"), "{said}");
    let (report, epochs) = lines.split_last().unwrap();
    assert_eq!(epochs.len(), 12);
    for (number, epoch) in (1..).zip(epochs) {
        assert_eq!((&epoch["epoch"], &epoch["step"]), (&Value::from(number), &Value::from(number)));
        assert!(
            epoch["loss"].as_f64().unwrap().is_finite() && epoch["images_per_second"].as_f64().unwrap() > 0.0
        );
    }
    assert!(epochs[11]["loss"].as_f64() < epochs[0]["loss"].as_f64(), "{epochs:?}");
    assert_eq!(report["classes"], serde_json::json!(["blue", "green", "red"]));
    assert_eq!(report["best"]["val_accuracy"], 1.0, "colours are easily told apart: {report}");
    let metrics = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    let metrics: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(metrics, epochs);

    // The file knows its classes and what is done to a picture, whatever the command.
    let best = report["best"]["file"].as_str().unwrap().to_owned();
    let weights = ["--model", "GoogLeNet", "--weights", &best, "--json"];
    let image = other.join("green/1.png");
    let guess = Program("predict").json(&[&weights[..], &["--image", text(&image)]].concat());
    assert_eq!(guess["top"][0]["label"], "green", "{guess}");
    let eval = Program("eval");
    let report = eval.json(&[&weights[..], &["--data", text(&other)]].concat());
    assert_eq!((&report["images"], &report["top1"]), (&Value::from(12), &Value::from(1.0)), "{report}");
    // A folder of one of its classes is found by its name, though it is not the first one.
    let only_red = place.path("only");
    fs::create_dir_all(&only_red).unwrap();
    fs::rename(other.join("red"), only_red.join("red")).unwrap();
    let report = eval.json(&[&weights[..], &["--data", text(&only_red)]].concat());
    assert_eq!((&report["images"], &report["top1"]), (&Value::from(4), &Value::from(1.0)), "{report}");

    // To ONNX and back.
    let onnx = place.path("trained.onnx");
    let convert = Program("convert");
    convert.json(&["--model", "GoogLeNet", "--from", &best, "--to", text(&onnx), "--json"]);
    let again = place.path("again.safetensors");
    convert.json(&["--model", "GoogLeNet", "--from", text(&onnx), "--to", text(&again), "--json"]);
    let logits = |file: &Path| {
        let arguments =
            ["--model", "GoogLeNet", "--weights", text(file), "--json", "--with-logits", "--image"];
        Program("predict").json(&[&arguments[..], &[text(&image)]].concat())
    };
    assert_eq!(logits(Path::new(&best))["logits"], logits(&again)["logits"]);
    assert_eq!(logits(&again)["top"][0]["label"], "green");
}

/// The page of a run has its curves, its classes, and the one picture that is wrong, for it is in another class's
/// folder.
#[test]
fn a_page_shows_what_is_wrong() {
    let place = Place::new();
    let data = pictures(&place.path("pictures"), 10, 0);
    let val = pictures(&place.path("others"), 4, 500);
    let odd = val.join("red/odd & green.png");
    write_picture(&odd, [60, 200, 60], 900);
    place.train(&data, "run", &["--epochs", "12", "--lr", "0.01", "--val", text(&val)]);
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 3, "loss, accuracy, learning rate: {page}");
    assert!(page.contains("92.31 % of 13 pictures for validation right"), "{page}");
    assert!(page.contains("<td>red</td><td>5</td><td>80.0 %</td><td>100.0 %</td>"), "{page}");
    assert!(page.contains("<td>green</td><td>4</td><td>100.0 %</td><td>80.0 %</td>"), "{page}");
    assert!(page.contains("<h2>Wrong pictures</h2>\n<p>1 of 13.</p>"), "{page}");
    assert_eq!(page.matches("<figure><img alt=\"\" src=\"data:image/png;base64,").count(), 1);
    let caption = page.split("<figcaption>").nth(1).unwrap();
    assert!(caption.starts_with("red, taken for green, loss ") && caption.contains("odd &amp; green.png"));
}

/// What a classifier makes of features is what the whole network makes of pictures.
#[test]
fn evaluation_agrees_with_validation() {
    let place = Place::new();
    let data = pictures(&place.path("pictures"), 8, 0);
    let val = pictures(&place.path("val"), 8, 500);
    let more = ["--val", text(&val), "--epochs", "2", "--lr", "0.0003"];
    let (lines, _) = place.train(&data, "run", &more);
    let last = place.path("run/last.safetensors");
    let arguments = ["--model", "GoogLeNet", "--weights", text(&last), "--json", "--data", text(&val)];
    let report = Program("eval").json(&arguments);
    let epoch = &lines[1];
    assert_eq!(report["top1"], epoch["val_accuracy"]);
    let [ours, theirs] = [&report["loss"], &epoch["val_loss"]].map(|loss| loss.as_f64().unwrap());
    // Two orders of adding up 1024 products in single precision.
    assert!((ours - theirs).abs() < 1e-5 * theirs, "{ours} {theirs}");

    // Features are computed once.
    let (_, said) = place.train(&data, "again", &more);
    assert!(said.contains("of 24 pictures, 0 of them computed now"), "{said}");
    assert_eq!(fs::read(last).unwrap(), fs::read(place.path("again/last.safetensors")).unwrap());
    // Another picture under an old name is seen.
    write_picture(&data.join("red/3.png"), [10, 10, 10], 99);
    let (_, said) = place.train(&data, "changed", &more);
    assert!(said.contains("of 24 pictures, 24 of them computed now"), "{said}");
}

/// A process that trains, in a folder.
fn start(place: &Place, data: &Path, to: &str, others: &[&str]) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_inception"))
        .arg("train")
        .args(place.arguments(data, to, others))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

const LONG: [&str; 10] =
    ["--epochs", "400", "--batch", "4", "--mixup", "0.3", "--save-every", "0", "--optimizer", "sgd"];

/// Killed at four moments, wherever they fall, and continued each time. `bench/train/kill.py` kills at ten random ones.
#[test]
fn killed_runs_end_in_the_same_weights() {
    let place = Place::new();
    let data = pictures(&place.path("pictures"), 6, 0);
    let begun = Instant::now();
    place.train(&data, "whole", &LONG);
    let took = begun.elapsed();
    let others = [&LONG[..], &["--resume", "--lr", "0.001"]].concat();
    let mut died = 0;
    for moment in 1..=4 {
        let mut child = start(&place, &data, "killed", &others);
        sleep(took * (moment % 4 + 1) / 12);
        child.kill().unwrap();
        died += usize::from(!child.wait().unwrap().success());
    }
    assert!(died > 0, "the run is too short to be killed: {took:?}");
    place.train(&data, "killed", &others);
    for file in ["best.safetensors", "last.safetensors"] {
        let [whole, killed] = ["whole", "killed"].map(|run| fs::read(place.path(run).join(file)).unwrap());
        assert!(whole == killed, "{file} differs");
    }
    // The metrics have each epoch once, with the same figures but for the speed.
    let metrics = |run: &str| -> Vec<Value> {
        let text = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .map(|mut line: Value| {
                line.as_object_mut().unwrap().remove("images_per_second");
                line
            })
            .collect()
    };
    let (whole, killed) = (metrics("whole"), metrics("killed"));
    assert_eq!((whole.len(), killed.len()), (400, 400));
    whole.iter().zip(&killed).for_each(|(whole, killed)| assert_eq!(whole, killed));
}

/// Ctrl-C ends a run after the batch under way; what there is by then is written, and the run goes on from
/// there.
#[cfg(unix)]
#[test]
fn interrupted_runs_are_kept() {
    let place = Place::new();
    let data = pictures(&place.path("pictures"), 6, 0);
    place.train(&data, "whole", &LONG);
    let child = start(&place, &data, "interrupted", &LONG);
    let metrics = place.path("interrupted/metrics.jsonl");
    let epochs = || fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
    let begun = Instant::now();
    while epochs() < 2 && begun.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    // Whoever starts what comes next has to know that this is a part of a run.
    assert_eq!(output.status.code(), Some(1));
    assert!(place.path("interrupted/best.safetensors").exists());
    assert!(place.failure(&data, "interrupted", &LONG).contains("--resume goes on with it"));
    let (lines, _) = place.train(&data, "interrupted", &[&LONG[..], &["--resume"]].concat());
    assert!(lines.len() > 1 && lines.len() < 401, "{} lines: it did not go on", lines.len());
    let [whole, other] =
        ["whole", "interrupted"].map(|run| fs::read(place.path(run).join("last.safetensors")).unwrap());
    assert!(whole == other);
}

#[test]
fn recipes_come_from_files_and_flags() {
    let place = Place::new();
    let data = pictures(&place.path("pictures"), 4, 0);
    let recipe = place.path("recipe.toml");
    fs::write(&recipe, "epochs = 3\nlr = 0.5\nclass-weights = \"balanced\"\n").unwrap();
    let (lines, _) =
        place.train(&data, "run", &["--recipe", text(&recipe), "--lr", "0.01", "--schedule", "constant"]);
    assert_eq!((lines.len(), &lines[0]["lr"]), (4, &Value::from(0.01)));
    // A seed of the file, and one of the command line before it, whichever it is.
    fs::write(&recipe, "epochs = 1\nseed = 7\n").unwrap();
    for (to, more, seed) in [("seven", &[][..], 7), ("zero", &["--seed", "0"], 0)] {
        place.train(&data, to, &[&["--recipe", text(&recipe)], more].concat());
        let file = fs::read(place.path(to).join("last.safetensors")).unwrap();
        // The recipe is JSON in the file's metadata, which is JSON.
        let said = format!("\\\"seed\\\":{seed}");
        assert!(String::from_utf8_lossy(&file).contains(&said), "{to} has no {said}");
    }
    fs::write(&recipe, "epochs = 3\nlr = 0.5\nclass-weights = \"balanced\"\n").unwrap();
    let settings = place.failure(&data, "run", &["--resume", "--epochs", "4"]);
    assert!(settings.contains("its class-weights is \"balanced\", not \"none\""), "{settings}");
    // PaddleClas's GoogLeNet warms up in five epochs, from zero.
    let (lines, _) =
        place.train(&data, "published", &["--recipe", "paddleclas", "--epochs", "6", "--batch", "2"]);
    assert!((lines[0]["lr"].as_f64().unwrap() - 0.01 * 4.0 / 25.0).abs() < 1e-12, "{}", lines[0]);
    // Early stopping: a rate so small that nothing ever changes.
    let more = ["--epochs", "50", "--lr", "1e-30", "--patience", "3"];
    let (lines, said) = place.train(&data, "stale", &more);
    assert_eq!(lines.len(), 5, "{said}");
    assert!(said.contains("ended after 4 epochs"), "{said}");
    assert_eq!(lines[4]["best"]["epoch"], 1);
}

/// All of a network, on the CPU: it learns, validation is what `eval` finds, and a run that was killed goes on to
/// the same bits, what is drawn for pictures and for dropout included.
#[test]
fn whole_networks_are_trained() {
    let place = Place::new();
    let data = pictures(&place.path("pictures"), 4, 0);
    let val = pictures(&place.path("val"), 3, 500);
    let whole = [
        "--freeze",
        "none",
        "--val",
        text(&val),
        "--epochs",
        "4",
        "--batch",
        "4",
        "--lr",
        "0.001",
        "--mixup",
        "0.2",
        "--save-every",
        "0",
    ];
    let begun = Instant::now();
    let (lines, said) = place.train(&data, "whole", &whole);
    let took = begun.elapsed();
    assert!(said.contains("the auxiliary classifiers take no part"), "{said}");
    assert_eq!((lines.len(), &lines[3]["step"]), (5, &Value::from(12)));
    assert!(lines[3]["loss"].as_f64() < lines[0]["loss"].as_f64(), "{lines:?}");
    let last = place.path("whole/last.safetensors");
    let arguments = ["--model", "GoogLeNet", "--weights", text(&last), "--json", "--data", text(&val)];
    let report = Program("eval").json(&arguments);
    assert_eq!(report["top1"], lines[3]["val_accuracy"]);
    let [ours, theirs] = [&report["loss"], &lines[3]["val_loss"]].map(|loss| loss.as_f64().unwrap());
    // The same kernels on batches of other sizes.
    assert!((ours - theirs).abs() < 1e-5 * theirs.max(1.0), "{ours} {theirs}");

    let others = [&whole[..], &["--resume"]].concat();
    for moment in 2..=3 {
        let mut child = start(&place, &data, "killed", &others);
        sleep(took * moment / 5);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.train(&data, "killed", &others);
    for file in ["best.safetensors", "last.safetensors"] {
        let [whole, killed] = ["whole", "killed"].map(|run| fs::read(place.path(run).join(file)).unwrap());
        assert!(whole == killed, "{file} differs");
    }
}

#[test]
fn bad_input_is_named() {
    let place = Place::new();
    let data = pictures(&place.path("pictures"), 4, 0);
    // A class of one picture, one without any, and what is no picture.
    fs::create_dir_all(data.join("empty")).unwrap();
    fs::create_dir_all(data.join("lone")).unwrap();
    write_picture(&data.join("lone/0.png"), [250, 250, 250], 77);
    fs::write(data.join("red/broken.png"), b"no picture").unwrap();
    let (lines, said) = place.train(&data, "run", &["--epochs", "1"]);
    assert!(
        said.contains("1 classes have a single picture, which is trained on and not validated: lone"),
        "{said}"
    );
    assert!(said.contains("1 classes have no picture: empty"), "{said}");
    let report = lines.last().unwrap();
    assert_eq!(report["skipped"].as_array().unwrap().len(), 1);
    assert!(report["skipped"][0]["image"].as_str().unwrap().ends_with("broken.png"), "{report}");
    let refused = place.failure(&data, "none", &["--max-skipped", "0"]);
    assert!(refused.contains("--max-skipped allows more"), "{refused}");

    let diverging =
        place.failure(&data, "diverging", &["--optimizer", "sgd", "--lr", "1e38", "--batch", "2"]);
    assert!(diverging.contains("the loss diverges") && diverging.contains("a lower --lr"), "{diverging}");
    assert!(place.failure(&data, "bad", &["--lr", "0"]).contains("`lr` cannot be 0"));
    let one = place.path("one");
    fs::create_dir_all(&one).unwrap();
    fs::rename(data.join("lone"), one.join("lone")).unwrap();
    assert!(place.failure(&one, "single", &[]).contains("a single class"));
    assert!(place.failure(&place.path("nowhere"), "gone", &[]).contains("nowhere"));
    let val = pictures(&place.path("val"), 1, 900);
    fs::rename(val.join("red"), val.join("crimson")).unwrap();
    let unknown = place.failure(&data, "val", &["--val", text(&val)]);
    assert!(unknown.contains("its folder `crimson` names no class"), "{unknown}");
}

/// Pictures of two colours side by side, each of which may be there or not, and their table of labels, in the
/// form of columns or of names.
fn labelled_pictures(root: &Path, count: usize, first: usize, names: bool) -> PathBuf {
    fs::create_dir_all(root).unwrap();
    let mut table = String::from(if names { "picture,labels\n" } else { "picture,warm,cold\n" });
    for index in 0..count {
        let (warm, cold) = (index % 2, index / 2 % 2);
        let name = format!("{index}, odd.png");
        let colour = [60 + 160 * warm as u8, 60, 60 + 160 * cold as u8];
        write_picture(&root.join(&name), colour, first + index);
        table += &match names {
            true => {
                let labels: Vec<&str> = ["warm", "cold"]
                    .into_iter()
                    .zip([warm, cold])
                    .filter(|(_, has)| *has == 1)
                    .map(|(n, _)| n)
                    .collect();
                format!("\"{name}\",{}\n", labels.join(";"))
            }
            false => format!("\"{name}\",{warm},{cold}\n"),
        };
    }
    let path = root.join("labels.csv");
    fs::write(&path, table).unwrap();
    path
}

/// A table of labels is trained with binary cross entropy, and what is written has a probability for each class by
/// itself, for `predict` and `eval`.
#[test]
fn pictures_of_several_classes_are_trained() {
    let place = Place::new();
    let data = labelled_pictures(&place.path("pictures"), 24, 0, false);
    let val = labelled_pictures(&place.path("val"), 8, 500, true);
    let more = ["--val", text(&val), "--epochs", "20", "--lr", "0.01", "--class-weights", "balanced"];
    let (lines, said) = place.train(&data, "run", &more);
    assert!(said.contains("2 classes, of which a picture has any number: binary cross entropy"), "{said}");
    let (report, epochs) = lines.split_last().unwrap();
    let last = epochs.last().unwrap();
    assert!(last["loss"].as_f64() < epochs[0]["loss"].as_f64(), "{epochs:?}");
    assert_eq!(
        (&last["val_mean_average_precision"], &last["val_accuracy"]),
        (&Value::from(1.0), &Value::from(1.0))
    );
    assert_eq!(report["classes"], serde_json::json!(["warm", "cold"]));
    assert_eq!(report["best"]["val_mean_average_precision"], 1.0, "{report}");
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(
        page.contains("mAP 100.00 %, 100.00 % of the labels of 8 pictures for validation right"),
        "{page}"
    );
    assert!(
        page.contains("<td>cold</td><td>4</td><td>100.0 %</td><td>100.0 %</td><td>100.0 %</td>"),
        "{page}"
    );

    let file = place.path("run/last.safetensors");
    let weights = ["--model", "GoogLeNet", "--weights", text(&file), "--json"];
    let both = place.path("val/3, odd.png");
    let guess = Program("predict").json(&[&weights[..], &["--image", text(&both)]].concat());
    let probability = |at: usize| guess["top"][at]["probability"].as_f64().unwrap();
    assert!(probability(0) > 0.5 && probability(1) > 0.5, "each by itself: {guess}");
    let (rows, pictures) = (place.path("rows.npy"), place.path("val"));
    let features = ["--data", text(&pictures), "--layer", "probabilities", "--to", text(&rows)];
    Program("features").json(&[&weights[..], &features].concat());
    let rows = inception::metrics::npy::read_features(&rows).unwrap();
    assert!(rows.values().chunks(2).any(|row| row[0] > 0.5 && row[1] > 0.5), "{:?}", rows.values());
    let found = Program("eval").json(&[&weights[..], &["--data", text(&val), "--per-class"]].concat());
    assert_eq!(
        (&found["images"], &found["mean_average_precision"]),
        (&Value::from(8), &Value::from(1.0)),
        "{found}"
    );
    assert_eq!(
        (&found["classes"][1]["label"], &found["classes"][1]["positives"]),
        (&Value::from("cold"), &Value::from(4))
    );
    let [ours, theirs] = [&found["loss"], &last["val_loss"]].map(|loss| loss.as_f64().unwrap());
    // Two orders of adding up 1024 products in single precision.
    assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");

    // All of the network, with a part of the same pictures for validation.
    let whole =
        ["--freeze", "none", "--epochs", "2", "--batch", "8", "--lr", "0.001", "--label-smoothing", "0.1"];
    let (lines, said) = place.train(&data, "whole", &whole);
    assert!(said.contains(" pictures to train on, "), "{said}");
    assert!(
        lines[1]["loss"].as_f64().unwrap().is_finite() && lines[1]["val_accuracy"].is_number(),
        "{lines:?}"
    );
    let file = place.path("whole/last.safetensors");
    let weights = ["--model", "GoogLeNet", "--weights", text(&file), "--json", "--data", text(&val)];
    assert_eq!(Program("eval").json(&weights)["images"], 8);
}

#[test]
fn bad_tables_of_labels_are_named() {
    let place = Place::new();
    let data = labelled_pictures(&place.path("pictures"), 8, 0, false);
    let table = fs::read_to_string(&data).unwrap();
    let refused = |table: &str, others: &[&str]| {
        let path = data.with_file_name("bad.csv");
        fs::write(&path, table).unwrap();
        place.failure(&path, "bad", others)
    };
    let changed = |from: &str, to: &str| refused(&table.replacen(from, to, 1), &[]);
    for (from, to, said) in [
        ("odd.png\",1,0", "odd.png\",2,0", "its line 3 has `2` for the class `warm`; expected 0 or 1"),
        ("odd.png\",1,0", "odd.png\",1", "its line 3 has 2 fields, and its first one 3"),
        ("\"1, odd.png\"", "", "its line 3 names no picture"),
        ("\"1, odd.png\"", "\"0, odd.png\"", "its lines 2 and 3 are both of 0, odd.png"),
        ("\"7, odd.png\"", "\"7, odd.png", "the quotation mark in its line 9 is never closed"),
        ("warm,cold", "warm,warm", "two columns are named `warm`"),
    ] {
        let found = changed(from, to);
        assert!(found.contains(said), "{found}");
    }
    let none = refused(&table.replace(",1\n", ",0\n"), &[]);
    assert!(none.contains("no picture has the class `cold`"), "{none}");
    let missing = refused(&table.replace("odd", "even"), &[]);
    assert!(missing.contains("none of its 8 pictures is in"), "{missing}");
    let single = refused("picture,warm\na.png,1\n", &[]);
    assert!(single.contains("none of its 1 pictures"), "{single}");
    // Pictures for validation have the same classes.
    let other = data.with_file_name("other.csv");
    fs::write(&other, table.replacen("cold", "cool", 1)).unwrap();
    let unknown = place.failure(&data, "val", &["--val", text(&other)]);
    assert!(unknown.contains("no column is named `cold`"), "{unknown}");
    let folders = pictures(&place.path("folders"), 2, 0);
    let unlike = place.failure(&data, "val", &["--val", text(&folders)]);
    assert!(unlike.contains("it is no table of labels"), "{unlike}");
    // A picture that is not there is skipped, and said.
    let one = data.with_file_name("one.csv");
    fs::write(&one, table.replacen("1, odd", "1, even", 1)).unwrap();
    let (lines, _) = place.train(&one, "one", &["--epochs", "1", "--max-skipped", "0.2"]);
    assert_eq!(lines.last().unwrap()["skipped"][0]["image"], "1, even.png", "{lines:?}");
    // Weights whose classes exclude each other are not evaluated by it.
    let arguments = ["--model", "GoogLeNet", "--random-weights", "--data", text(&data)];
    assert!(Program("eval").failure(&arguments).contains("exclude each other"));
}

/// Two classes by one logit: the file has one output, and the other commands find the two classes and what the run
/// found of them; the same with all of the network, and through ONNX.
#[test]
fn one_logit_is_two_classes() {
    let place = Place::new();
    let data = pictures(&place.path("pictures"), 8, 0);
    let val = pictures(&place.path("val"), 6, 500);
    for folder in [&data, &val] {
        fs::remove_dir_all(folder.join("green")).unwrap();
    }
    // Some are wrong, so that accuracy and loss have something to say.
    for picture in 0..2 {
        let (from, to) =
            (val.join(format!("red/{picture}.png")), val.join(format!("blue/of red {picture}.png")));
        fs::rename(from, to).unwrap();
    }
    let common = ["--one-logit", "--val", text(&val), "--epochs", "6"];
    let whole = ["--freeze", "none", "--batch", "8", "--lr", "0.001"];
    for (name, others) in [("head", &["--lr", "0.01"][..]), ("whole", &whole[..])] {
        let (lines, _) = place.train(&data, name, &[&common[..], others].concat());
        let (report, epochs) = lines.split_last().unwrap();
        assert_eq!(report["classes"], serde_json::json!(["blue", "red"]));
        let last = place.path(name).join("last.safetensors");
        let bytes = fs::read(&last).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("head.fc.weight").unwrap().shape(), [1024, 1]);
        let arguments = ["--model", "GoogLeNet", "--weights", text(&last), "--json", "--data", text(&val)];
        let found = Program("eval").json(&arguments);
        let epoch = &epochs[5];
        assert_eq!((&found["images"], &found["top1"]), (&Value::from(12), &epoch["val_accuracy"]), "{name}");
        let [ours, theirs] = [&found["loss"], &epoch["val_loss"]].map(|loss| loss.as_f64().unwrap());
        assert!((ours - theirs).abs() < 1e-5 * theirs.max(1.0), "{name}: {ours} {theirs}");
        let page = fs::read_to_string(place.path(name).join("report.html")).unwrap();
        assert!(page.contains("<td>red</td><td>4</td>") && page.contains("Confusions"), "{page}");

        let onnx = place.path(&format!("{name}.onnx"));
        let convert = ["--model", "GoogLeNet", "--from", text(&last), "--to", text(&onnx), "--json"];
        Program("convert").json(&convert);
        let image = val.join("red/3.png");
        let predict = |file: &Path| {
            let arguments = ["--model", "GoogLeNet", "--weights", text(file), "--json", "--with-logits"];
            Program("predict").json(&[&arguments[..], &["--image", text(&image)]].concat())
        };
        let (ours, theirs) = (predict(&last), predict(&onnx));
        assert_eq!((&ours["top"], &ours["logits"]), (&theirs["top"], &theirs["logits"]), "{name}");
        assert_eq!(ours["logits"][0], 0.0);
        let logit = ours["logits"][1].as_f64().unwrap();
        let red = ours["top"].as_array().unwrap().iter().find(|guess| guess["label"] == "red").unwrap();
        let sigmoid = 1.0 / (1.0 + (-logit).exp());
        assert!((red["probability"].as_f64().unwrap() - sigmoid).abs() < 1e-6, "{ours}");
    }
    let three = pictures(&place.path("three"), 3, 0);
    let refused = place.failure(&three, "refused", &["--one-logit"]);
    assert!(refused.contains("one logit is for two classes"), "{refused}");
}

/// The values of a file by name.
fn tensors_of(path: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect()
}

/// Frozen up to a stage: what is frozen keeps its values, the rest learns, validation is what `eval` finds, and views
/// that are kept are computed once. A run that was killed goes on to the same bits, and fills the views that it lacks.
#[test]
fn stages_are_frozen() {
    let place = Place::new();
    let data = pictures(&place.path("pictures"), 6, 0);
    let val = pictures(&place.path("val"), 3, 500);
    let common =
        ["--freeze", "4e", "--val", text(&val), "--batch", "4", "--lr", "0.0001", "--save-every", "0"];
    let anew = [&common[..], &["--epochs", "4"]].concat();
    let (lines, said) = place.train(&data, "anew", &anew);
    assert!(said.contains("they read what is frozen"), "{said}");
    assert!(lines[3]["loss"].as_f64() < lines[0]["loss"].as_f64(), "{lines:?}");
    let last = place.path("anew/last.safetensors");
    let arguments = ["--model", "GoogLeNet", "--weights", text(&last), "--json", "--data", text(&val)];
    let report = Program("eval").json(&arguments);
    assert_eq!(report["top1"], lines[3]["val_accuracy"]);
    let [ours, theirs] = [&report["loss"], &lines[3]["val_loss"]].map(|loss| loss.as_f64().unwrap());
    assert!((ours - theirs).abs() < 1e-5 * theirs.max(1.0), "{ours} {theirs}");
    // Stage 4e is number 12. A classifier alone leaves all stages as they are.
    place.train(&data, "head", &["--epochs", "1"]);
    let (before, after) = (tensors_of(&place.path("head/last.safetensors")), tensors_of(&last));
    for (name, values) in &after {
        let stage = name
            .strip_prefix("stages.")
            .map(|rest| rest.split('.').next().unwrap().parse::<usize>().unwrap());
        match stage {
            Some(0..=12) => assert!(before[name] == *values, "{name} has changed"),
            Some(_) => assert!(before[name] != *values, "{name} has not changed"),
            None => {}
        }
    }

    // Two views of each picture, from an empty cache each time.
    let views = [&common[..], &["--epochs", "6", "--views", "2", "--mixup", "0.2"]].concat();
    let begun = Instant::now();
    let (_, said) = place.train(&data, "views", &views);
    let took = begun.elapsed();
    assert!(said.contains("views take"), "{said}");
    let (_, _) = place.train(&data, "again", &views);
    let file = |run: &str| fs::read(place.path(run).join("last.safetensors")).unwrap();
    assert!(file("views") == file("again"), "kept views are those that were computed");
    fs::remove_dir_all(place.path("cache")).unwrap();
    let resumed = [&views[..], &["--resume"]].concat();
    for moment in 1..=3 {
        let mut child = start(&place, &data, "killed", &resumed);
        sleep(took * moment / 6);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.train(&data, "killed", &resumed);
    assert!(file("views") == file("killed"));

    let unknown = place.failure(&data, "unknown", &["--freeze", "list"]);
    assert!(unknown.contains("there is no stage `list`") && unknown.contains("4e, pool4"), "{unknown}");
    let refused = place.failure(&data, "refused", &["--freeze", "4e", "--augment", "none", "--views", "2"]);
    assert!(refused.contains("all views are the same"), "{refused}");
    let refused = place.failure(&data, "refused", &["--freeze", "none", "--views", "2"]);
    assert!(refused.contains("they are of what is frozen"), "{refused}");
}

/// A classifier alone learns from changed pictures, too, whose features are computed once.
#[test]
fn classifiers_learn_from_views() {
    let place = Place::new();
    let data = pictures(&place.path("pictures"), 10, 0);
    let views = ["--views", "3", "--epochs", "12", "--lr", "0.01", "--val-share", "0.2"];
    let (lines, said) = place.train(&data, "run", &views);
    assert!(said.contains("3 views of 24 pictures, 72 of them computed now"), "{said}");
    assert_eq!(lines[12]["best"]["val_accuracy"], 1.0, "{lines:?}");
    let (_, said) = place.train(&data, "again", &views);
    assert!(said.contains("3 views of 24 pictures, 0 of them computed now"), "{said}");
    let file = |run: &str| fs::read(place.path(run).join("last.safetensors")).unwrap();
    assert!(file("run") == file("again"));
    let plain: Vec<&str> = views[2..].to_vec();
    place.train(&data, "plain", &plain);
    assert!(file("run") != file("plain"), "views are other pictures");
    let refused = place.failure(&data, "refused", &["--augment", "paddleclas"]);
    assert!(refused.contains("without `views`"), "{refused}");
}
