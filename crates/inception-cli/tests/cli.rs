//! The commands as a user runs them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use inception::DeviceKind;
use inception_tests::{engine_logits, storage};
use serde_json::Value;

fn inception(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_inception")).args(arguments).output().unwrap()
}

fn photograph(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/images").join(name);
    path.to_str().unwrap().to_owned()
}

/// The engine, and flex in builds that have it.
fn cpu_devices() -> impl Iterator<Item = &'static str> {
    [DeviceKind::Engine, DeviceKind::Flex]
        .into_iter()
        .filter(|kind| kind.is_compiled_in())
        .map(DeviceKind::name)
}

const RABBIT: &str = "ILSVRC2012_val_00000010.jpeg";
const OTHER: &str = "ILSVRC2012_val_00010010.jpeg";

/// Standard output of a command that succeeds.
fn stdout(arguments: &[&str]) -> String {
    let output = inception(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn json_lines(arguments: &[&str]) -> Vec<Value> {
    stdout(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Standard error of a command that fails as it should: an error, not a panic, and nothing half-written.
fn failure(arguments: &[&str]) -> String {
    let output = inception(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {:?} {errors}", output.status);
    assert!(errors.contains("error: "), "{arguments:?}: {errors}");
    assert!(!errors.contains("panicked"), "{arguments:?}: {errors}");
    let out = String::from_utf8(output.stdout).unwrap();
    for line in out.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    errors
}

fn logits(line: &Value) -> Vec<f64> {
    line["logits"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Of Burn's CPU backends those that this build has; without them the engine is held to give the same logits
/// again.
#[test]
fn engine_flex_and_ndarray_agree_on_photographs() {
    for kind in [DeviceKind::Engine, DeviceKind::Flex, DeviceKind::Ndarray] {
        match kind.is_compiled_in() {
            true => agrees_on_photographs(kind.name()),
            false => eprintln!("SKIPPED: {kind} is a feature of that name"),
        }
    }
}

/// A device beside the engine.
fn agrees_on_photographs(other: &str) {
    let images = [photograph(RABBIT), photograph(OTHER)];
    let on = |device| {
        let mut arguments = vec!["predict", "--model", "GoogLeNet,InceptionV3", "--random-weights", "--json"];
        arguments.extend([
            "--with-logits",
            "--seed",
            "3",
            "--device",
            device,
            "--image",
            &images[0],
            &images[1],
        ]);
        json_lines(&arguments)
    };
    let engine = on("engine");
    assert_eq!(engine.len(), 4);
    for (a, b) in engine.iter().zip(&on(other)) {
        assert_eq!((&a["image"], &a["model"]), (&b["image"], &b["model"]));
        let (x, y) = (logits(a), logits(b));
        assert_eq!(x.len(), 1000);
        let largest = x.iter().fold(0f64, |m, v| m.max(v.abs()));
        let worst = x.iter().zip(&y).fold(0f64, |m, (p, q)| m.max((p - q).abs()));
        assert!(worst <= 1e-5 * largest, "{worst} of {largest}");
        let classes = |line: &Value| -> Vec<u64> {
            line["top"].as_array().unwrap().iter().map(|g| g["index"].as_u64().unwrap()).collect()
        };
        assert_eq!(classes(a).len(), 5);
        assert_eq!(classes(a), classes(b));
    }
    assert_ne!(logits(&engine[0]), logits(&engine[1]), "two photographs, two answers");
    let warning = engine[0]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("random weights"), "{warning}");
}

#[test]
fn probabilities_sum_to_one_and_labels_fit() {
    let image = photograph(RABBIT);
    let arguments = [
        "predict",
        "--model",
        "googlenet",
        "--random-weights",
        "--json",
        "--top-k",
        "5000",
        "--image",
        &image,
    ];
    let lines = json_lines(&arguments);
    let top = lines[0]["top"].as_array().unwrap();
    assert_eq!(top.len(), 1000);
    let sum: f64 = top.iter().map(|guess| guess["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    let first = top.iter().find(|guess| guess["index"] == 0).unwrap();
    assert_eq!(first["label"], "tench, Tinca tinca");
}

/// A network written under our own names gives its own logits back, with its own number of classes.
#[test]
fn weights_from_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.bin"); // the content says what it is, not the name
    let spec = inception::nn::model("GoogLeNet").unwrap();
    let device = storage();
    let network = spec.config().with_num_classes(7).with_seed(9).init(&device).unwrap();
    inception::weights::save(&network, &inception::weights::Metadata::of(spec), &file).unwrap();
    let (file, image) = (file.to_str().unwrap(), photograph(RABBIT));
    let run = |model| {
        ["predict", "--model", model, "--weights", file, "--json", "--with-logits", "--image", &image]
            .map(str::to_owned)
            .to_vec()
    };
    let arguments = run("GoogLeNet");
    let lines = json_lines(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let given = logits(&lines[0]);

    let picture = inception::data::read(&image).unwrap();
    let preprocessing = inception::preprocessing(spec);
    let mut input = vec![0.0; preprocessing.output_len()];
    preprocessing.apply(&picture, &mut input).unwrap();
    let data = inception::burn::tensor::TensorData::new(input, [1, 3, 224, 224]);
    let wanted = engine_logits(&network, data);
    assert_eq!(given.len(), 7);
    let given: Vec<f32> = given.iter().map(|&v| v as f32).collect();
    assert_eq!(given, wanted);
    assert!(lines[0].get("warnings").is_none(), "{}", lines[0]);
    assert_eq!(lines[0]["top"][0]["label"], Value::Null, "seven classes are not ImageNet's");

    let other = run("InceptionV3");
    let errors = failure(&other.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(errors.contains("does not fit InceptionV3") && errors.contains("is missing"), "{errors}");
    assert!(errors.lines().count() < 12, "one screen: {errors}");
}

#[test]
fn models_as_json() {
    let rows: Value = serde_json::from_str(&stdout(&["models", "--json"])).unwrap();
    let rows = rows.as_array().unwrap();
    assert!(rows.len() >= 8);
    for row in rows {
        for key in ["name", "input_size", "resize_short", "parameters", "macs"] {
            assert!(!row[key].is_null(), "{key} in {row}");
        }
        for key in ["top1", "top5", "flops_g", "params_m"] {
            assert!(row["reference"].get(key).is_some(), "{key} in {row}");
        }
    }
}

#[test]
fn help_lists_the_models() {
    let help = stdout(&["--help"]);
    for spec in inception::nn::MODELS {
        assert!(help.contains(spec.name), "{} in {help}", spec.name);
    }
}

/// What is wrong with a picture is said, and the pictures beside it keep their answers.
#[test]
fn bad_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let whole = std::fs::read(photograph(RABBIT)).unwrap();
    // A PNG's signature and a header that declares 60000 x 60000 pixels.
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
    bomb.extend([0; 4]);
    let cases = [
        (write("empty.jpg", b""), "empty"),
        (write("cut.jpg", &whole[..whole.len() / 2]), "--accept-truncated"),
        (write("text.png", b"not a picture at all"), "found text"),
        (write("bomb.png", &bomb), "bomb.png"),
        (folder.path().join("missing.png"), "cannot read"),
    ];
    let good = photograph(OTHER);
    let mut arguments = vec!["predict", "--model", "GoogLeNet", "--random-weights", "--json", "--image"];
    arguments.extend(cases.iter().map(|(path, _)| path.to_str().unwrap()));
    arguments.push(&good);
    let output = inception(&arguments);
    assert!(!output.status.success());
    let errors = String::from_utf8(output.stderr).unwrap();
    for (path, reason) in &cases {
        let line = errors.lines().find(|line| line.contains(path.to_str().unwrap()));
        let line = line.unwrap_or_else(|| panic!("nothing said of {}: {errors}", path.display()));
        assert!(line.contains(reason), "{line}");
    }
    assert!(errors.contains("5 of 6"), "{errors}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1, "the good one is answered");
}

/// Random weights let Xception71's activations grow beyond what f16 holds.
#[test]
fn logits_that_overflow_are_an_error() {
    if !DeviceKind::Flex.is_compiled_in() {
        return eprintln!("SKIPPED: flex, which has f16, is a feature of that name");
    }
    let image = photograph(RABBIT);
    let predict = |precision| {
        let network = ["predict", "--model", "Xception71", "--random-weights", "--device", "flex", "--json"];
        [&network[..], &["--precision", precision, "--image", &image]].concat()
    };
    let error = failure(&predict("f16"));
    assert!(error.contains("f16 ends at 65504"), "{error}");
    assert_eq!(json_lines(&predict("bf16")).len(), 1);
}

#[test]
fn bad_arguments() {
    let image = photograph(RABBIT);
    let predict = |rest: &[&str]| failure(&[&["predict", "--image", &image], rest].concat());
    let errors = predict(&["--model", "Xcepton41", "--random-weights"]);
    assert!(errors.contains("nearest are Xception41"), "{errors}");
    let errors = predict(&["--model", "GoogLeNet"]);
    assert!(errors.contains("--random-weights"), "{errors}");
    let errors = predict(&["--model", "GoogLeNet", "--random-weights", "--device", "tpu"]);
    assert!(errors.contains("engine, flex, ndarray"), "{errors}");
    for kind in DeviceKind::ALL.into_iter().filter(|kind| !kind.is_compiled_in()) {
        let errors = predict(&["--model", "GoogLeNet", "--random-weights", "--device", kind.name()]);
        assert!(errors.contains(&format!("this build has no `{kind}` device")), "{errors}");
        let command = format!("`cargo install --path crates/inception-cli --features {kind}`");
        assert!(errors.contains(&command), "{errors}");
    }
    let errors = predict(&["--model", "GoogLeNet", "--random-weights", "--precision", "f16"]);
    assert!(errors.contains("f32, bf16 and int8"), "{errors}");
    let on_ndarray = ["--random-weights", "--precision", "bf16", "--device", "ndarray"];
    let errors = predict(&[&["--model", "GoogLeNet"][..], &on_ndarray].concat());
    assert!(errors.contains("f32 only"), "{errors}");
    let errors = predict(&["--model", "GoogLeNet", "--random-weights", "--threads", "0"]);
    assert!(errors.contains("--threads"), "{errors}");
    let errors = predict(&["--model", "GoogLeNet", "--weights", "/nonexistent/file"]);
    assert!(errors.contains("/nonexistent/file"), "{errors}");
    let errors = predict(&["--model", "GoogLeNet", "--weights", env!("CARGO_MANIFEST_DIR")]);
    assert!(errors.contains("a folder"), "{errors}");
    let errors = predict(&["--model", "GoogLeNet", "--weights", &image]);
    assert!(errors.contains("not a known format"), "{errors}");
}

/// Nothing to read the output is no failure.
#[test]
fn closed_pipe() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_inception"))
        .arg("models")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}

/// A result is worth more than what is said beside it.
#[test]
#[cfg(target_os = "linux")]
fn standard_error_that_takes_nothing() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let image = photograph(RABBIT);
    let output = Command::new(env!("CARGO_BIN_EXE_inception"))
        .args(["predict", "--model", "GoogLeNet", "--random-weights", "--json", "--image", &image])
        .stderr(full)
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok());
}

#[test]
fn bench_and_baseline() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.json");
    let bench = ["bench", "--model", "GoogLeNet", "--batch", "1,2", "--seconds", "0.05"];
    let json = stdout(&[&bench[..], &["--json"]].concat());
    let rows: Value = serde_json::from_str(&json).unwrap();
    for (row, batch) in rows.as_array().unwrap().iter().zip([1, 2]) {
        assert_eq!((row["model"].as_str(), row["batch"].as_u64()), (Some("GoogLeNet"), Some(batch)));
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
        assert!(number("min_ms") <= number("median_ms") && number("median_ms") <= number("max_ms"), "{row}");
        let per_second = number("images_per_second");
        assert!((per_second - 1e3 * batch as f64 / number("median_ms")).abs() < 1e-6 * per_second, "{row}");
        // 1 431 556 352 multiply-adds an image, two operations each.
        let gflops = 2.0 * 1.431_556_352 * per_second;
        assert!((number("gflops") - gflops).abs() < 1e-6 * gflops, "{row}");
        assert!(number("runs") >= 6.0 && number("threads") >= 1.0, "{row}");
    }
    std::fs::write(&file, &json).unwrap();
    let baseline = ["--baseline", file.to_str().unwrap()];
    let table = stdout(&[&bench[..], &baseline].concat());
    assert!(table.contains("against the baseline") && table.contains('x'), "{table}");
    let csv = stdout(&[&bench[..], &["--csv"]].concat());
    assert_eq!(csv.lines().count(), 3, "{csv}");
    assert!(csv.lines().all(|line| line.split(',').count() == 13), "{csv}");

    // What --rows kept of a run is a baseline, too: a row a line.
    let kept = folder.path().join("kept.jsonl");
    stdout(&[&bench[..], &["--rows", kept.to_str().unwrap()]].concat());
    let table = stdout(&[&bench[..], &["--baseline", kept.to_str().unwrap()]].concat());
    assert!(table.contains("against the baseline"), "{table}");

    std::fs::write(&file, "[]").unwrap();
    assert!(failure(&[&bench[..], &baseline].concat()).contains("no rows"));
    std::fs::write(&file, "{").unwrap();
    assert!(failure(&[&bench[..], &baseline].concat()).contains("reading "));
    assert!(failure(&["bench", "--batch", "0"]).contains("1 to 256"));
}

/// What is measured by then is printed, whole, when a signal ends the command.
#[test]
#[cfg(unix)]
fn interrupted_bench() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;
    for signal in ["INT", "TERM"] {
        // The second cell takes at least seven runs of 250 images.
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("rows.jsonl");
        let arguments =
            ["bench", "--model", "GoogLeNet", "--batch", "1,250", "--seconds", "0.05", "--json", "--rows"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_inception"));
        let mut child =
            command.args(arguments).arg(&kept).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(errors.any(|line| line.unwrap().starts_with("1 of 2")), "the first cell is done");
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let rest: Vec<String> = errors.map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{rest:?}");
        assert!(rest.join("\n").contains("interrupted; 1 of 2 cells"), "{rest:?}");
        let rows: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((rows.as_array().unwrap().len(), &rows[0]["batch"]), (1, &Value::from(1)));
        // What --rows has kept is there even if the process had been killed.
        let kept: Value = serde_json::from_str(std::fs::read_to_string(kept).unwrap().trim_end()).unwrap();
        assert_eq!(kept, rows[0]);
    }
}

#[test]
fn bench_keeps_rows_beside_one_that_fails() {
    for device in cpu_devices() {
        let arguments = ["bench", "--model", "GoogLeNet", "--batch", "1,64,2", "--seconds", "0.05", "--json"];
        // 64 images alone are 38 MB, two with their maps on flex 10.
        let output = inception(&[&arguments[..], &["--device", device, "--memory", "30"]].concat());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("GoogLeNet at batch 64: a batch of 64 needs at least"), "{errors}");
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let timed: Vec<bool> =
            rows.as_array().unwrap().iter().map(|row| row["median_ms"].is_number()).collect();
        assert_eq!(timed, [true, false, true], "{device}");
        assert!(rows[1]["error"].as_str().unwrap().contains("30 MB are free"), "{rows}");
    }
}

#[test]
fn bench_on_several_numbers_of_threads() {
    let arguments = ["bench", "--model", "InceptionV3", "--threads", "1,2", "--seconds", "0.05"];
    for device in cpu_devices() {
        let arguments = [&arguments[..], &["--device", device, "--json"]].concat();
        let rows: Value = serde_json::from_str(&stdout(&arguments)).unwrap();
        assert_eq!((&rows[0]["threads"], &rows[1]["threads"]), (&Value::from(1), &Value::from(2)));
        let median = |row: usize| rows[row]["median_ms"].as_f64().unwrap();
        let share = rows[1]["share_of_ideal"].as_f64().unwrap();
        assert!((share - median(0) / median(1) / 2.0).abs() < 1e-9, "{rows}");
        assert!(rows[0]["share_of_ideal"].is_null());
        assert_eq!(rows[0]["environment"]["pinned"], cfg!(target_os = "linux"), "{rows}");
    }
    assert!(stdout(&arguments).contains("of ideal scaling"));
    let image = photograph(RABBIT);
    let predict =
        ["predict", "--model", "GoogLeNet", "--random-weights", "--image", &image, "--threads", "1,2"];
    assert!(failure(&predict).contains("one is wanted here"));
}

#[test]
fn bench_report() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("a/b");
    let to = |path: &Path| -> Vec<String> {
        let arguments = ["bench", "--model", "GoogLeNet,InceptionV3", "--batch", "1,2", "--threads", "1,2"];
        let rest = ["--seconds", "0.05", "--csv", "--report", path.to_str().unwrap()];
        arguments.iter().chain(&rest).map(|&argument| argument.to_owned()).collect()
    };
    let run = |arguments: &[String]| inception(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(run(&to(&report)).status.success());
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 5, "three of accuracy, one of batches, one of threads");
    for text in ["InceptionV3", "Accuracy against operations", "Scaling over threads", "threads", "commit"] {
        assert!(page.contains(text), "{text}");
    }
    assert!(
        !page.contains("http://") || page.matches("http://").count() == page.matches("www.w3.org").count()
    );

    // The same page of rows that were kept.
    let rows = folder.path().join("rows.json");
    let kept = ["bench", "--model", "GoogLeNet", "--seconds", "0.05", "--json"];
    std::fs::write(&rows, stdout(&kept)).unwrap();
    let again = folder.path().join("again");
    let paths = [rows.to_str().unwrap(), again.to_str().unwrap()];
    let table = stdout(&["bench", "--table", paths[0], "--report", paths[1]]);
    assert!(table.contains("| GoogLeNet |"), "{table}");
    assert!(std::fs::read_to_string(again.join("index.html")).unwrap().contains("<td>GoogLeNet</td>"));

    // A page that cannot be written costs no rows.
    std::fs::remove_file(report.join("index.html")).unwrap();
    std::fs::create_dir(report.join("index.html")).unwrap();
    let output = run(&to(&report));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.contains("index.html"), "{errors}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1 + 8);
    // A folder that cannot be made is said before anything is measured.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = run(&to(&file));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.contains("making"), "{errors}");
    assert!(output.stdout.is_empty());
}

#[test]
fn explain_accounts_for_all_multiply_adds() {
    let rows: Value = serde_json::from_str(&stdout(&["explain", "--model", "Xception41", "--json"])).unwrap();
    let rows = rows.as_array().unwrap();
    let macs: u64 = rows.iter().map(|row| row["macs"].as_u64().unwrap()).sum();
    assert_eq!(macs, 8_498_210_072, "what `models` counts");
    assert!(stdout(&["explain", "--model", "Xception41"]).contains("pointwise"));
}

/// Names of classes and what is done to pictures are given once and kept by `convert`; what is assumed is
/// said.
#[test]
fn names_and_pixels_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let spec = inception::model("torchvision-googlenet").unwrap();
    let device = storage();
    let network = spec.config().with_num_classes(3).with_seed(1).init(&device).unwrap();
    let plain = path("plain.safetensors");
    inception::weights::save(&network, &inception::weights::Metadata::default(), plain.as_ref()).unwrap();
    let labels = path("labels.txt");
    std::fs::write(&labels, "0 cat\n1 dog, hound\n2 axolotl\n").unwrap();
    let image = photograph(RABBIT);
    let predict = |weights: &str, more: &[&str]| {
        let base = ["predict", "--model", spec.name, "--image", &image, "--json", "--weights", weights];
        inception(&[&base[..], more].concat())
    };
    let names = |output: &Output| {
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut rows = line["top"].as_array().unwrap().clone();
        rows.sort_by_key(|row| row["index"].as_u64());
        rows.into_iter().map(|row| row["label"].clone()).collect::<Vec<_>>()
    };
    let errors = |output: &Output| String::from_utf8(output.stderr.clone()).unwrap();
    let bare = predict(&plain, &[]);
    assert_eq!(names(&bare), [Value::Null, Value::Null, Value::Null]);
    assert!(errors(&bare).contains("assumed: torchvision-googlenet"), "{}", errors(&bare));
    let named = predict(&plain, &["--labels", &labels, "--preprocess", "imagenet"]);
    assert_eq!(names(&named), ["cat", "dog, hound", "axolotl"]);
    assert!(!errors(&named).contains("assumed"), "{}", errors(&named));
    assert_ne!(bare.stdout, named.stdout);
    // The same, twice to the byte, and without a flag from there on.
    for extension in ["safetensors", "bpk", "onnx"] {
        let [first, second] = ["a", "b"].map(|name| path(&format!("{name}.{extension}")));
        for to in [&first, &second] {
            stdout(&[
                "convert",
                "--model",
                spec.name,
                "--from",
                &plain,
                "--to",
                to,
                "--labels",
                &labels,
                "--preprocess",
                "imagenet",
            ]);
        }
        assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap(), "{extension}");
        let kept = predict(&first, &[]);
        assert_eq!(names(&kept), ["cat", "dog, hound", "axolotl"], "{extension}");
        assert!(!errors(&kept).contains("assumed"), "{extension}: {}", errors(&kept));
        let tops = [&kept, &named].map(|output| {
            let line: Value = serde_json::from_slice(&output.stdout).unwrap();
            line["top"].clone()
        });
        assert_eq!(tops[0], tops[1], "{extension}");
        // What the user says comes before what the file says.
        let other = predict(&first, &["--preprocess", "torchvision", "--mean", "0,0,0", "--std", "1,1,1"]);
        assert!(errors(&other).contains("overridden"), "{}", errors(&other));
        assert_ne!(other.stdout, kept.stdout, "{extension}");
    }
    // As many names as classes, and each error once.
    std::fs::write(&labels, "cat\ndog\n").unwrap();
    for arguments in [
        ["predict", "--weights", &plain, "--image", &image],
        ["convert", "--from", &plain, "--to", &path("c.onnx")],
    ] {
        let message = failure(&[&arguments[..], &["--model", spec.name, "--labels", &labels]].concat());
        assert!(message.contains("2 names for 3 classes"), "{message}");
    }
    let message = failure(&["inspect", &path("absent.pth")]);
    assert_eq!(message.matches("No such file").count(), 1, "{message}");
}

/// Quantised on two photographs, a network has their first classes and nearly their logits. Its file is little more than
/// a quarter as large. It says what it is where it runs in `f32`, and weights without a calibration are refused with
/// what to do.
#[test]
fn quantize_and_int8() {
    let dir = tempfile::tempdir().unwrap();
    let [plain, small] = ["plain.safetensors", "small.safetensors"].map(|name| dir.path().join(name));
    let [plain, small] = [&plain, &small].map(|path| path.to_str().unwrap());
    let spec = inception::model("GoogLeNet").unwrap();
    let device = storage();
    let network = spec.config().with_num_classes(10).init(&device).unwrap();
    inception::weights::save(&network, &inception::weights::Metadata::of(spec), plain.as_ref()).unwrap();
    let folder = photograph("");
    let quantize = ["quantize", "--model", "GoogLeNet", "--weights", plain, "--data", &folder, "--to", small];
    let report = &json_lines(&[&quantize[..], &["--json"]].concat())[0];
    assert_eq!((&report["images"], &report["agreement"]), (&2.into(), &1.0.into()), "{report}");
    assert!(report["error"].as_f64().unwrap() < 0.05, "{report}");
    let layers = report["layers"].as_array().unwrap();
    assert!(
        layers.len() > 60 && layers.iter().all(|layer| layer["snr_db"].as_f64() > Some(15.0)),
        "{report}"
    );

    // Where the classes are equal no layer stays in f32.
    let drop = &json_lines(&[&quantize[..], &["--json", "--max-drop", "0"]].concat())[0];
    assert_eq!((&drop["in_f32"], &drop["agreement"]), (&serde_json::json!([]), &1.0.into()), "{drop}");
    assert!(failure(&[&quantize[..], &["--max-drop", "1.5"]].concat()).contains("from 0 to below 1"));

    let [large, little] = [plain, small].map(|path| std::fs::metadata(path).unwrap().len());
    assert!(little * 10 < large * 3, "{little} of {large} bytes");
    let listed: Value = serde_json::from_str(&stdout(&["inspect", "--json", small])).unwrap();
    let types: Vec<&str> =
        listed["tensors"].as_array().unwrap().iter().map(|t| t["dtype"].as_str().unwrap()).collect();
    assert!(types.contains(&"i8") && types.contains(&"f32"), "{types:?}");
    assert_eq!(listed["likely_models"], serde_json::json!(["GoogLeNet"]));

    let predict = |file: &str, precision: &str| {
        let (first, second) = (photograph(RABBIT), photograph(OTHER));
        let network = ["predict", "--model", "GoogLeNet", "--weights", file, "--precision", precision];
        json_lines(&[&network[..], &["--json", "--with-logits", "--image", &first, &second]].concat())
    };
    let wanted = predict(plain, "f32");
    // Rounding errors of 8 bits: a layer's are half a percent, and most of them average out.
    for (precision, tolerance) in [("f32", 0.05), ("int8", 0.05)] {
        for (wanted, found) in wanted.iter().zip(predict(small, precision)) {
            let largest = logits(wanted).iter().fold(0.0f64, |m, x| m.max(x.abs()));
            let off =
                logits(wanted).iter().zip(logits(&found)).map(|(w, f)| (w - f).abs()).fold(0.0, f64::max);
            assert!(off > 0.0 && off < tolerance * largest, "{precision}: {off} of {largest}");
        }
    }
    for (class, name) in [RABBIT, OTHER].iter().enumerate() {
        let folder = dir.path().join(format!("data/{class}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(photograph(name), folder.join(name)).unwrap();
    }
    let data = dir.path().join("data");
    let eval = ["eval", "--model", "GoogLeNet", "--data", data.to_str().unwrap(), "--json", "--weights"];
    let plainly = &json_lines(&[&eval[..], &[plain]].concat())[0];
    let against = ["--precision", "int8", "--against", "f32", "--against-weights", plain];
    let both = &json_lines(&[&eval[..], &[small], &against].concat())[0];
    let other = &both["against"];
    for figure in ["top1", "top5", "loss"] {
        assert_eq!(other[figure], plainly[figure], "{both}");
    }
    assert_eq!((&other["device"], &other["agreement"]), (&"engine".into(), &1.0.into()), "{both}");
    let error = other["error"].as_f64().unwrap();
    assert!(error > 0.0 && error < 0.05 && other["worst"].as_array().unwrap().len() == 2, "{both}");

    let bench = ["bench", "--model", "GoogLeNet", "--precision", "int8", "--seconds", "0.01", "--runs", "1"];
    let rows: Value = serde_json::from_str(&stdout(&[&bench[..], &["--json"]].concat())).unwrap();
    assert_eq!(rows[0]["precision"], "int8");
    assert!(rows[0]["median_ms"].as_f64().unwrap() > 0.0 && rows[0].get("weights").is_none(), "{rows}");
    let rows: Value =
        serde_json::from_str(&stdout(&[&bench[..], &["--json", "--weights", small]].concat())).unwrap();
    assert!(rows[0]["median_ms"].as_f64().unwrap() > 0.0 && rows[0]["weights"] == small, "{rows}");
    let output = inception(&[&bench[..], &["--weights", plain]].concat());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && errors.contains("needs scales"), "{errors}");
    let two = ["bench", "--model", "GoogLeNet,InceptionV3", "--weights", small];
    assert!(failure(&two).contains("give one --model"));

    let image = photograph(RABBIT);
    let with = |file| {
        let network = ["predict", "--model", "GoogLeNet", "--weights", file, "--precision", "int8"];
        failure(&[&network[..], &["--image", &image]].concat())
    };
    let said = inception(&["predict", "--model", "GoogLeNet", "--weights", small, "--image", &image]).stderr;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("is quantised for int8, and runs in f32"), "{said}");
    // Converted, it is a file of floating-point numbers.
    let floats = dir.path().join("floats.safetensors");
    let floats = floats.to_str().unwrap();
    stdout(&["convert", "--model", "GoogLeNet", "--from", small, "--to", floats]);
    assert!(with(floats).contains("needs scales"));
    // As ONNX the same integers, but biases are whole numbers there: in int8 a byte here and there is the next one, which
    // later layers round again (1.7 % of the largest logit here). In f32 the classifier's bias has what makes up for its
    // rounded weights there (0.9 %).
    let qdq = dir.path().join("small.onnx");
    let qdq = qdq.to_str().unwrap();
    stdout(&["convert", "--model", "GoogLeNet", "--from", small, "--precision", "int8", "--to", qdq]);
    let bytes = std::fs::metadata(qdq).unwrap().len();
    assert!(bytes * 3 < large, "{bytes} of {large} bytes");
    let (wanted, floats_wanted) = (predict(small, "int8"), predict(small, "f32"));
    for (precision, wanted, tolerance) in [("int8", wanted, 0.04), ("f32", floats_wanted, 0.02)] {
        for (wanted, found) in wanted.iter().zip(predict(qdq, precision)) {
            let largest = logits(wanted).iter().fold(0.0f64, |m, x| m.max(x.abs()));
            let off =
                logits(wanted).iter().zip(logits(&found)).map(|(w, f)| (w - f).abs()).fold(0.0, f64::max);
            assert!(off < tolerance * largest, "{precision}: {off} of {largest}");
        }
    }
    let refused =
        failure(&["convert", "--model", "GoogLeNet", "--from", plain, "--precision", "int8", "--to", qdq]);
    assert!(refused.contains("`inception quantize` writes a file that has them"), "{refused}");
    let errors = with(plain);
    assert!(errors.contains("needs scales") && errors.contains("`inception quantize` writes"), "{errors}");
    for (flag, value, wanted) in [
        ("--to", "other.bpk", "has to end in .safetensors or .onnx"),
        ("--ranges", "best", "expected least-squares"),
        ("--data", "nowhere", "nowhere"),
        ("--weights", small, "is quantised already"),
    ] {
        let mut arguments = quantize.map(str::to_owned).to_vec();
        match arguments.iter().position(|argument| argument == flag) {
            Some(at) => arguments[at + 1] = value.to_owned(),
            None => arguments.extend([flag.to_owned(), value.to_owned()]),
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let errors = failure(&arguments);
        assert!(errors.contains(wanted), "{errors}");
    }
}
