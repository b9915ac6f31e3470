//! `inception eval`: the figures are PaddleClas's, and stay the same to the last bit however often a run is
//! killed and however it is cut into shards.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use inception::{DeviceKind, Outcome};
use inception_tests::formula;
use inception_tests::skeleton::Skeleton;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use common::{Program, text};

const EVAL: Program = Program("eval");

fn json(arguments: &[&str]) -> Value {
    EVAL.json(arguments)
}

fn failure(arguments: &[&str]) -> String {
    EVAL.failure(arguments)
}

/// A seeded generator of numbers below a bound.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

fn write_png(path: &Path, width: u32, height: u32, pixels: &[u8]) {
    let file = fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
}

// --- PaddleClas's figures
// ---------------------------------------------------------------------------------------------

/// `tests/goldens/eval/eval.json`; `generate.py` there says what its fields are.
#[derive(Deserialize)]
struct Goldens {
    sizes: Vec<(usize, usize)>,
    pictures: Vec<Vec<u8>>,
    networks: Vec<NetworkGolden>,
}

#[derive(Deserialize)]
struct NetworkGolden {
    model: String,
    /// Of the checkpoint.
    sha256: String,
    labels: Vec<u32>,
    top1: usize,
    top5: usize,
    loss: f64,
    #[serde(default)]
    loss_with_auxiliary_heads: Option<f64>,
}

/// The generator's `picture`.
fn picture(index: usize, width: usize, height: usize) -> Vec<u8> {
    let (wide, high) = (width.div_ceil(32), height.div_ceil(32));
    let squares: Vec<f64> =
        formula::uniform(&format!("picture squares {index}")).take(3 * wide * high).collect();
    let mut noise = formula::uniform(&format!("picture noise {index}"));
    let mut pixels = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let square = squares[(y / 32 * wide + x / 32) * 3 + channel];
                pixels.push((127.5 + square * 90.0 + noise.next().unwrap() * 30.0).floor() as u8);
            }
        }
    }
    pixels
}

#[test]
fn equals_paddleclass_evaluation() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/eval/eval.json");
    let goldens: Goldens = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(picture(0, 5, 3)[..15], goldens.pictures[0], "both evaluate one formula");
    assert_eq!(picture(1, 70, 40)[(39 * 70 + 60) * 3..], goldens.pictures[1]);

    let folder = tempfile::tempdir().unwrap();
    for (index, &(width, height)) in goldens.sizes.iter().enumerate() {
        let pixels = picture(index, width, height);
        write_png(&folder.path().join(format!("{index}.png")), width as u32, height as u32, &pixels);
    }
    let list = folder.path().join("list.txt");
    // Skeletons of the very files that PaddleClas's evaluation has read.
    let skeletons = ["googlenet", "protocol4", "deeplab", "v3", "v4"];
    assert_eq!(goldens.networks.len(), skeletons.len());
    for (golden, skeleton) in goldens.networks.iter().zip(skeletons) {
        let lines = golden.labels.iter().enumerate().map(|(index, label)| format!("{index}.png {label}\n"));
        fs::write(&list, lines.collect::<String>()).unwrap();
        let skeleton = Skeleton::restore(&format!("{skeleton}.pdparams"), folder.path());
        assert_eq!((&skeleton.model, &skeleton.files[0].sha256), (&golden.model, &golden.sha256));
        let file = folder.path().join(&skeleton.files[0].name);

        let mut runs = vec![vec!["--batch", "4"], vec!["--batch", "3", "--exact"]];
        if golden.model == "GoogLeNet" && DeviceKind::Flex.is_compiled_in() {
            runs.push(vec!["--batch", "10", "--device", "flex"]);
        }
        for flags in runs {
            let mut arguments =
                vec!["--model", &golden.model, "--weights", text(&file), "--data", text(&list)];
            arguments.push("--json");
            arguments.extend(&flags);
            let report = json(&arguments);
            let images = goldens.sizes.len();
            let name = format!("{} {flags:?}", golden.model);
            assert_eq!(report["images"], images, "{name}");
            assert_eq!(report["exact"]["top1"], golden.top1, "{name}");
            assert_eq!(report["exact"]["top5"], golden.top5, "{name}");
            assert_eq!(report["top1"], golden.top1 as f64 / images as f64);
            assert_eq!(report["top5"], golden.top5 as f64 / images as f64);
            let loss = report["loss"].as_f64().unwrap();
            println!(
                "{name}: loss {loss}, PaddleClas {}, apart {:.1e}",
                golden.loss,
                (loss - golden.loss).abs()
            );
            assert!((loss - golden.loss).abs() < 1e-4, "{name}: {loss} instead of {}", golden.loss);
            // The figure that GoogLeNet's configuration prints is another one, far from this tolerance.
            assert!(golden.loss_with_auxiliary_heads.is_none_or(|all| all - golden.loss > 0.1));
        }
    }
}

// --- a small dataset that takes a second
// --------------------------------------------------------------------------------

const SMALL: [&str; 12] = [
    "--model",
    "GoogLeNet",
    "--random-weights",
    "--crop",
    "64",
    "--resize-short",
    "72",
    "--max-skipped",
    "0.2",
    "--json",
    "--per-class",
    "--confusion",
];

/// 60 pictures of 7 classes, of which three cannot be used.
fn small() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..60_u32 {
        let class = folder.path().join((index % 7 * 100).to_string());
        fs::create_dir_all(&class).unwrap();
        let (width, height) = (72 + index % 5 * 9, 72 + index % 3 * 11);
        let path = class.join(format!("{index}.png"));
        write_png(&path, width, height, &picture(index as usize, width as usize, height as usize));
        if index % 20 == 13 {
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    folder
}

fn arguments<'a>(data: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL[..], &["--data", text(data)], more].concat()
}

/// Everything but the time.
fn figures(mut report: Value) -> Value {
    let object = report.as_object_mut().unwrap();
    object.remove("images_per_second").unwrap();
    object.remove("shards").unwrap();
    object["exact"].as_object_mut().unwrap().remove("seconds").unwrap();
    report
}

/// Runs to the end, killed at random points again and again; what it printed in the end, and how often it was
/// killed between its first and its last batch.
fn with_kills(
    arguments: &[&str],
    state: &Path,
    whole: Duration,
    random: &mut impl FnMut(u64) -> u64,
) -> (Value, usize) {
    let mut within = 0;
    for turn in 0..500 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_inception"))
            .arg("eval")
            .args(arguments)
            .args(["--resume", text(state)])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The first runs are given less than they need, later ones more and more.
        let time = whole.as_micros() as u64;
        std::thread::sleep(Duration::from_micros(random(time / 2 + time * turn / 20)));
        // SIGKILL; if it has ended by itself this does nothing.
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            return (serde_json::from_slice(&output.stdout).unwrap(), within);
        }
        assert_eq!(output.status.code(), None, "it was killed, it did not fail");
        // The kill may fall between the last line of output and the end.
        let printed = output.stdout.is_empty() || serde_json::from_slice::<Value>(&output.stdout).is_ok();
        assert!(printed, "half an object: {}", String::from_utf8_lossy(&output.stdout));
        let lines = fs::read(state).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count());
        within += usize::from(lines > 1);
    }
    panic!("it never came to its end");
}

#[test]
fn killed_runs_give_the_same_bits() {
    let data = small();
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let batch = ["--batch", "1", "--seed", "3"];
    let wanted = figures(json(&arguments(data.path(), &batch)));
    let whole = start.elapsed();
    assert_eq!(wanted["images"], 57);
    assert_eq!(wanted["skipped"].as_array().unwrap().len(), 3);
    let mut random = random(0x1234_5678_9abc_def1);
    let mut within = 0;
    // Under load a round may end before a kill hits it.
    for round in 0..40 {
        if round >= 3 && within >= 3 {
            break;
        }
        let state = folder.path().join(format!("state{round}"));
        let (report, kills) = with_kills(&arguments(data.path(), &batch), &state, whole, &mut random);
        assert_eq!(figures(report), wanted);
        within += kills;
        // Once more: nothing is left to do, and nothing is counted twice.
        let again = [&batch[..], &["--resume", text(&state)]].concat();
        assert_eq!(figures(json(&arguments(data.path(), &again))), wanted);
    }
    println!("{within} kills between the first and the last batch");
    assert!(within >= 3, "the kills missed the work");

    // A crash of the machine may cut the file anywhere, or leave zeros at its end.
    let state = folder.path().join("state0");
    let bytes = fs::read(&state).unwrap();
    let again = [&batch[..], &["--resume", text(&state)]].concat();
    for turn in 0..6 {
        let mut cut = bytes[..random(bytes.len() as u64) as usize].to_vec();
        if turn % 2 == 1 {
            cut.resize(cut.len() + 100, 0);
            if !cut.contains(&b'\n') {
                continue;
            }
        }
        fs::write(&state, cut).unwrap();
        assert_eq!(figures(json(&arguments(data.path(), &again))), wanted);
    }
    // A byte that changed is noticed, and its batch computed again.
    let mut changed = bytes.clone();
    let at = bytes.len() - 40;
    changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
    fs::write(&state, changed).unwrap();
    assert_eq!(figures(json(&arguments(data.path(), &again))), wanted);
}

#[test]
fn shards_give_the_same_bits() {
    let data = small();
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let batch = ["--batch", "3"];
    let wanted = figures(json(&arguments(data.path(), &batch)));
    let whole = start.elapsed();
    let mut random = random(99);
    for count in [1, 2, 5] {
        let (mut states, mut results) = (Vec::new(), Vec::new());
        let mut images = 0;
        for index in 0..count {
            let shard = format!("{index}/{count}");
            let state = folder.path().join(format!("state{index}of{count}"));
            let flags = [&batch[..], &["--shard", &shard]].concat();
            let (report, _) = with_kills(&arguments(data.path(), &flags), &state, whole, &mut random);
            images += report["images"].as_u64().unwrap();
            let result = folder.path().join(format!("result{index}of{count}.json"));
            fs::write(&result, report.to_string()).unwrap();
            states.push(state);
            results.push(result);
        }
        assert_eq!(images, 57);
        results.reverse();
        // Half of each kind.
        let mixed: Vec<PathBuf> = (0..count)
            .map(
                |index| {
                    if index % 2 == 0 { states[index].clone() } else { results[count - 1 - index].clone() }
                },
            )
            .collect();
        for files in [&states, &results, &mixed] {
            let mut merge = vec!["merge", "--json", "--per-class", "--confusion"];
            merge.extend(files.iter().map(|path| text(path)));
            let mut merged = figures(json(&merge));
            if merged.get("warnings").is_none() {
                // States do not keep warnings.
                merged["warnings"] = wanted["warnings"].clone();
            }
            assert_eq!(merged, wanted, "{count} shards");
        }
        let table = EVAL.output(&["merge", text(&states[0])]);
        assert_eq!(table.status.success(), count == 1);
    }
    let state = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let missing = failure(&["merge", &state("state0of5"), &state("state3of5")]);
    assert!(missing.contains("1/5, 2/5, 4/5"), "{missing}");
    let twice = failure(&["merge", &state("state0of2"), &state("result0of2.json")]);
    assert!(twice.contains("both shard 0/2"), "{twice}");
    let numbers = failure(&["merge", &state("state0of2"), &state("state1of5")]);
    assert!(numbers.contains("number of shards: 2 and 5"), "{numbers}");
    let foreign = folder.path().join("foreign");
    fs::write(&foreign, "{}").unwrap();
    assert!(failure(&["merge", text(&foreign)]).contains("neither the state nor"));
    // A part of a part.
    let bytes = fs::read(state("state1of2")).unwrap();
    let unfinished = folder.path().join("unfinished");
    fs::write(&unfinished, &bytes[..bytes.len() - 1]).unwrap();
    let message = failure(&["merge", &state("state0of2"), text(&unfinished)]);
    assert!(message.contains("1 of 10 batches are missing"), "{message}");
    // Another evaluation.
    let other = folder.path().join("other.json");
    let flags = ["--batch", "3", "--shard", "1/2", "--seed", "8"];
    fs::write(&other, json(&arguments(data.path(), &flags)).to_string()).unwrap();
    let message = failure(&["merge", &state("state0of2"), text(&other)]);
    assert!(message.contains("differ in weights: random, seed 0 and random, seed 8"), "{message}");
    for shard in ["2/2", "1/0", "x", "-1/2"] {
        failure(&arguments(data.path(), &["--shard", shard]));
    }
}

/// A line of CSV as its fields.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted, mut letters) = (vec![String::new()], false, line.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                fields.last_mut().unwrap().extend(letters.next())
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => fields.last_mut().unwrap().push(letter),
        }
    }
    fields
}

/// Wrong pictures are in one file, the same however the run was cut; and the names of classes stay with the
/// parts.
#[test]
fn misclassified_pictures_are_listed() {
    let data = small();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let labels = path("labels.txt");
    // Names as CSV has to quote them.
    let names: String = (0..1000).map(|class| format!("class \"{class}\", a name\n")).collect();
    fs::write(&labels, names).unwrap();
    let run = |flags: &[&str]| {
        json(&arguments(data.path(), &[&["--batch", "4", "--labels", &labels], flags].concat()))
    };

    let whole = path("whole.csv");
    let report = run(&["--misclassified", &whole]);
    let text = fs::read_to_string(&whole).unwrap();
    assert!(!folder.path().join("whole.csv.part").exists());
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("image,label,label_name,guess,guess_name,probability"));
    let mut confusion = std::collections::BTreeMap::new();
    for line in lines {
        let fields = fields(line);
        let [image, label, label_name, guess, guess_name, probability] = &fields[..] else {
            panic!("{line}")
        };
        assert!(image.starts_with(&format!("{label}/")) && label != guess, "{line}");
        assert_eq!(*label_name, format!("class \"{label}\", a name"));
        assert_eq!(*guess_name, format!("class \"{guess}\", a name"));
        assert!((0.001..=1.0).contains(&probability.parse::<f64>().unwrap()), "{line}");
        *confusion.entry((label.clone(), guess.clone())).or_insert(0_u64) += 1;
    }
    let rows = report["confusion"].as_array().unwrap().iter();
    let off_diagonal = rows.filter(|row| row["label"] != row["guess"]).map(|row| {
        let cell = (row["label"].to_string(), row["guess"].to_string());
        (cell, row["images"].as_u64().unwrap())
    });
    assert!(off_diagonal.eq(confusion_in_order(&confusion)), "{text}");
    let wrong = report["images"].as_u64().unwrap() - report["exact"]["top1"].as_u64().unwrap();
    assert!(wrong > 10 && report["misclassified"].as_array().unwrap().len() as u64 == wrong);

    // In shards, continued without the flag before, from states and from reports.
    let (mut states, mut reports) = (Vec::new(), Vec::new());
    for shard in ["0/2", "1/2"] {
        let name = shard.replace('/', "of");
        let (state, part) = (path(&format!("state{name}")), path(&format!("part{name}.csv")));
        run(&["--shard", shard, "--resume", &state]);
        let report = run(&["--shard", shard, "--resume", &state, "--misclassified", &part]);
        let result = path(&format!("report{name}.json"));
        fs::write(&result, report.to_string()).unwrap();
        states.push(state);
        reports.push(result);
    }
    for parts in [&states, &reports, &vec![states[0].clone(), reports[1].clone()]] {
        let merged = path("merged.csv");
        let flags = ["merge", "--json", "--per-class", "--misclassified", &merged, &parts[0], &parts[1]];
        let report = json(&flags);
        assert_eq!(fs::read_to_string(&merged).unwrap(), text);
        assert_eq!(report["classes"][1]["label"], "class \"100\", a name", "names stay with the parts");
    }
    // A report without them cannot give them.
    fs::write(path("without.json"), run(&["--shard", "1/2"]).to_string()).unwrap();
    let message = failure(&["merge", "--misclassified", &path("no.csv"), &states[0], &path("without.json")]);
    assert!(message.contains("--misclassified or --resume"), "{message}");
    assert!(!Path::new(&path("no.csv")).exists() && !Path::new(&path("no.csv.part")).exists());
    // A name that cannot be written is said before the work begins.
    let message = failure(&arguments(data.path(), &["--misclassified", "no/such/folder/wrong.csv"]));
    assert!(message.contains("no/such/folder/wrong.csv"), "{message}");
}

/// Counts of cells in the order of a report, which is that of numbers.
fn confusion_in_order(
    confusion: &std::collections::BTreeMap<(String, String), u64>,
) -> Vec<((String, String), u64)> {
    let number = |text: &String| text.parse::<u64>().unwrap();
    let mut rows: Vec<_> = confusion.iter().map(|(cell, &images)| (cell.clone(), images)).collect();
    rows.sort_by_key(|((label, guess), _)| (number(label), number(guess)));
    rows
}

#[test]
fn states_are_guarded() {
    let data = small();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let first = ["--resume", text(&state), "--batch", "2", "--limit", "20"];
    fn joined<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        [first, more].concat()
    }
    let wanted = json(&arguments(data.path(), &first));
    // What else the figures depend on.
    for (flags, what) in [
        (&["--seed", "1"][..], "weights"),
        (&["--shard", "0/2"], "shard"),
        (&["--exact"], "device"),
        (&["--mean", "0,0,0"], "preprocessing"),
    ] {
        let message = failure(&arguments(data.path(), &joined(&first, flags)));
        assert!(message.contains(&format!("its {what} is")), "{message}");
    }
    let message =
        failure(&arguments(data.path(), &["--resume", text(&state), "--batch", "5", "--limit", "20"]));
    assert!(message.contains("its batch is 2, not 5"), "{message}");
    // What it does not depend on.
    for flags in [&["--workers", "1"][..], &["--workers", "7"]] {
        assert_eq!(figures(json(&arguments(data.path(), &joined(&first, flags)))), figures(wanted.clone()));
        let fresh = [&["--batch", "2", "--limit", "20"], flags].concat();
        assert_eq!(figures(json(&arguments(data.path(), &fresh))), figures(wanted.clone()));
    }
    // Somebody's file.
    let precious = folder.path().join("thesis.txt");
    fs::write(&precious, "years of work\n").unwrap();
    assert!(failure(&arguments(data.path(), &["--resume", text(&precious)])).contains("left as it is"));
    assert_eq!(fs::read_to_string(&precious).unwrap(), "years of work\n");
    assert!(
        failure(&arguments(data.path(), &["--resume", "no/such/folder/state"]))
            .contains("no/such/folder/state")
    );
    // Two processes.
    let file = fs::File::open(&state).unwrap();
    file.lock().unwrap();
    assert!(failure(&arguments(data.path(), &first)).contains("another process"));
}

/// A limit on the size of files stands in for a full disk: the same call fails at the same place.
#[cfg(unix)]
#[test]
fn a_full_disk_keeps_finished_work() {
    let data = small();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let flags = ["--batch", "1", "--resume", text(&state)];
    let all = arguments(data.path(), &flags);
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" eval \"$@\"", env!("CARGO_BIN_EXE_inception")])
        .args(&all)
        .output()
        .unwrap();
    let errors = String::from_utf8(limited.stderr).unwrap();
    assert_eq!(limited.status.code(), Some(1), "{errors}");
    assert!(errors.contains("cannot be written") && errors.contains("goes on from there"), "{errors}");
    assert!(limited.stdout.is_empty());
    let kept = fs::read(&state).unwrap();
    assert!(kept.ends_with(b"\n"), "what was half-written is cut off");
    let kept_batches = kept.iter().filter(|&&byte| byte == b'\n').count() - 1;
    assert!((3..60).contains(&kept_batches), "{kept_batches}");
    let report = figures(json(&all));
    assert!(fs::read(&state).unwrap().starts_with(&kept));
    assert_eq!(report, figures(json(&arguments(data.path(), &["--batch", "1"]))));
}

// --- bad data
// ---------------------------------------------------------------------------------------------------------

#[test]
fn bad_pictures_are_skipped_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let class = folder.path().join("5");
    fs::create_dir(&class).unwrap();
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/preprocess/inputs");
    for good in ["cmyk.jpg", "part_grey.jpg", "rgba16.png", "exif6.jpg", "palette4.png"] {
        fs::copy(inputs.join(good), class.join(good)).unwrap();
    }
    let jpeg = fs::read(inputs.join("part_420.jpg")).unwrap();
    fs::write(class.join("cut.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    fs::write(class.join("animated.gif"), b"GIF89a\x01\0\x01\0\0\0\0").unwrap();
    fs::write(class.join("empty.png"), b"").unwrap();
    fs::write(class.join("page.jpg"), b"<!DOCTYPE html>404").unwrap();
    // 60000 x 60000 pixels, says the header.
    let mut huge = fs::read(inputs.join("rgb.png")).unwrap();
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let crc = huge[12..29].iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    huge[29..33].copy_from_slice(&(!crc).to_be_bytes());
    fs::write(class.join("huge.png"), huge).unwrap();

    let base = [
        "--model",
        "GoogLeNet",
        "--random-weights",
        "--json",
        "--data",
        text(folder.path()),
        "--max-skipped",
    ];
    let report = json(&[&base[..], &["0.5"]].concat());
    assert_eq!(report["images"], 5);
    let skipped: Vec<(&str, &str)> = report["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skipped| (skipped["image"].as_str().unwrap(), skipped["reason"].as_str().unwrap()))
        .collect();
    let wanted = [
        ("5/animated.gif", "the GIF data end before the picture does"),
        ("5/cut.jpg", "end before the picture does"),
        ("5/empty.png", "the file is empty"),
        ("5/huge.png", "60000 x 60000 pixels"),
        ("5/page.jpg", "found HTML"),
    ];
    assert_eq!(skipped.len(), wanted.len());
    for ((image, reason), (wanted_image, wanted_reason)) in skipped.into_iter().zip(wanted) {
        assert_eq!(image, wanted_image);
        assert!(reason.contains(wanted_reason), "{image}: {reason}");
    }
    let message = failure(&[&base[..], &["0.49"]].concat());
    assert!(message.contains("5 of 10 pictures could not be used, more than 49.0 %"), "{message}");
    assert!(message.contains("5/huge.png: "), "each is named: {message}");
}

#[test]
fn bad_datasets_are_refused_with_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let run = |data: &str, more: &[&str]| {
        let data = root.join(data);
        let base = ["--model", "GoogLeNet", "--random-weights", "--json", "--data", text(&data)];
        failure(&[&base[..], more].concat())
    };
    fs::create_dir(root.join("empty")).unwrap();
    assert!(run("empty", &[]).contains("no folder for a class"));
    // Each message names the next step.
    fs::create_dir_all(root.join("named/cats")).unwrap();
    fs::write(root.join("named/cats/a.jpg"), "x").unwrap();
    assert!(run("named", &[]).contains("--labels FILE names the classes"));
    assert!(run("named", &[]).contains("1000 folders"));
    fs::create_dir_all(root.join("parts/val/cats")).unwrap();
    fs::write(root.join("parts/val/cats/a.jpg"), "x").unwrap();
    assert!(run("parts", &[]).contains("give the folder val itself"));
    fs::create_dir_all(root.join("flat")).unwrap();
    fs::write(root.join("flat/a.jpg"), "x").unwrap();
    let message = run("flat", &[]);
    assert!(
        message.contains("ILSVRC2012_validation_ground_truth.txt") && message.contains("--image-root"),
        "{message}"
    );
    fs::write(root.join("truth.txt"), "490\n361\n").unwrap();
    let message = run("truth.txt", &[]);
    assert!(
        message.contains("none of its 2 pictures is in /") && message.contains("--image-root says where"),
        "{message}"
    );
    let message = run("named", &["--image-root", text(&root.join("flat"))]);
    assert!(message.contains("named: it is no list, and has its pictures in itself"), "{message}");
    assert!(run("nowhere", &[]).contains("nowhere"));
    fs::create_dir_all(root.join("hollow/3")).unwrap();
    assert!(run("hollow", &[]).contains("no picture"));
    fs::create_dir_all(root.join("far/1000")).unwrap();
    assert!(run("far", &[]).contains("1000 classes"));
    fs::write(root.join("out.txt"), "a.jpg 0\nb.jpg 1000\n").unwrap();
    assert!(run("out.txt", &[]).contains("line 2"));
    // The same label without a 0: a list that counts from 1.
    fs::write(root.join("from_one.txt"), "a.jpg 1\nb.jpg 1000\n").unwrap();
    assert!(run("from_one.txt", &[]).contains("--label-base 1"));
    fs::write(root.join("gone.txt"), "a.jpg 1\nb.jpg 2\n").unwrap();
    assert!(run("gone.txt", &[]).contains("none of its 2 pictures"));
    fs::write(root.join("names.txt"), "one\ntwo\n").unwrap();
    let labels = root.join("names.txt");
    let message = run("hollow", &["--labels", text(&labels)]);
    assert!(message.contains("2 names for 1000 classes"), "{message}");
    // A build without Parquet says how to get one with it.
    if cfg!(not(feature = "parquet")) {
        fs::write(root.join("val.parquet"), "PAR1").unwrap();
        let message = run("val.parquet", &[]);
        assert!(
            message.contains("cargo install --path crates/inception-cli --features parquet"),
            "{message}"
        );
    }
    // A single missing entry is a skipped picture.
    fs::write(root.join("some.txt"), "a.png 1\nb.png 2\n").unwrap();
    write_png(&root.join("b.png"), 64, 64, &picture(0, 64, 64));
    let list = root.join("some.txt");
    let base = ["--model", "GoogLeNet", "--random-weights", "--json", "--data", text(&list), "--max-skipped"];
    let report = json(&[&base[..], &["1"]].concat());
    assert_eq!((&report["images"], &report["skipped"][0]["image"]), (&1.into(), &"a.png".into()));
    assert!(failure(&[&base[..], &["0.1"]].concat()).contains("1 of 2 pictures"));
}

/// Each origin's weights are evaluated as their origin does it.
#[test]
fn preprocessing_follows_the_origin() {
    let of =
        |name| serde_json::to_value(inception::preprocessing(inception::nn::model(name).unwrap())).unwrap();
    for (name, resampler, arithmetic, short, mean) in [
        ("GoogLeNet", "cv2-bilinear", "paddleclas", 256, 0.485_f32),
        ("Xception65", "cv2-bilinear", "paddleclas", 320, 0.485),
        ("timm-xception65", "pil-bicubic", "torchvision", 318, 0.5),
        ("timm-xception41", "pil-bicubic", "torchvision", 331, 0.5),
        ("torchvision-googlenet", "pil-bilinear", "torchvision", 256, 0.5),
        ("torchvision-inception_v3", "pil-bilinear", "torchvision", 342, 0.5),
    ] {
        let found = of(name);
        assert_eq!(found["resampler"], resampler, "{name}");
        assert_eq!(found["arithmetic"], arithmetic, "{name}");
        assert_eq!(found["resize_short"], short, "{name}");
        assert_eq!(found["mean"][0].as_f64().unwrap() as f32, mean, "{name}");
    }
}

#[test]
fn ranks_and_losses_of_scores() {
    let of = |logits: &[f32], label| Outcome::of(logits, label);
    let unit = (1_u64 << 40) as f64;
    let outcome = of(&[1.0, 3.0, 2.0], 2);
    assert_eq!((outcome.rank, outcome.guess), (1, 1));
    let exact = (1_f64.exp() + 3_f64.exp() + 2_f64.exp()).ln() - 2.0;
    assert!((outcome.loss.unwrap() as f64 / unit - exact).abs() < 1e-11);
    // Of equal scores the lower class comes first.
    assert_eq!(of(&[1.0; 7], 0).rank, 0);
    assert_eq!(of(&[1.0; 7], 5).rank, 5);
    assert_eq!(of(&[1.0; 7], 5).guess, 0);
    // What is no number never looks like a good answer.
    let nan = f32::NAN;
    assert_eq!(of(&[nan; 9], 0).rank, 8);
    assert_eq!(of(&[nan; 9], 0).loss, None);
    assert_eq!(of(&[0.0, nan, 1.0], 2).rank, 1);
    assert_eq!(of(&[0.0, nan, 1.0], 2).loss, None);
    assert_eq!(of(&[0.0, f32::INFINITY], 0).loss, None);
    assert_eq!(of(&[0.0, f32::NEG_INFINITY], 1).loss, None);
    // Far apart, without overflow.
    assert_eq!(of(&[1e4, -1e4], 0).loss, Some(0));
    assert_eq!(of(&[1e4, -1e4], 1).loss, Some((2e4 * unit) as u64));
}
