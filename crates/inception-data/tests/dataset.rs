//! Folders, lists and archives: order, what is left out, and a clear error for each kind of bad data.
#![allow(clippy::unwrap_used)] // In a test the panic is the report.

mod common;

use std::fs;
use std::path::Path;

use common::input;
use inception_data::{
    Dataset, DatasetOptions, DatasetProblem, Error, LoaderOptions, Preprocessing, ScanStats, load,
};
use tempfile::TempDir;

/// A folder with these files; a name that ends in `/` is a folder.
fn folder(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let picture = input("1x1.png");
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
        if !name.ends_with('/') {
            fs::write(path, &picture).unwrap();
        }
    }
    folder
}

fn names(dataset: &Dataset) -> Vec<(String, u32)> {
    dataset.items().iter().map(|item| (item.path.display().to_string(), item.label)).collect()
}

fn owned(names: &[(&str, u32)]) -> Vec<(String, u32)> {
    names.iter().map(|(name, label)| ((*name).to_owned(), *label)).collect()
}

fn refused(path: &Path, options: &DatasetOptions) -> (DatasetProblem, String) {
    match Dataset::open(path, options) {
        Err(error @ Error::Dataset { .. }) => {
            let message = error.to_string();
            match error {
                Error::Dataset { problem, .. } => (*problem, message),
                _ => unreachable!(),
            }
        }
        other => panic!("{other:?}"),
    }
}

/// Links, hidden files, other files, links to folders, empty classes.
fn counts(dataset: &Dataset) -> [usize; 5] {
    let stats = dataset.scan_stats();
    [stats.links, stats.hidden, stats.other_files, stats.folder_links, stats.empty_classes]
}

#[test]
fn folders_by_number_one_of_each_class_in_turn() {
    let folder = folder(&["10/b.jpg", "2/z.png", "2/A.JPEG", "2/deep/er/m.jpg", "0003/x.jpg", "7/"]);
    let dataset = Dataset::open(folder.path(), &DatasetOptions::new(11)).unwrap();
    let wanted =
        [("2/A.JPEG", 2), ("0003/x.jpg", 3), ("10/b.jpg", 10), ("2/deep/er/m.jpg", 2), ("2/z.png", 2)];
    assert_eq!(names(&dataset), owned(&wanted));
    assert_eq!(counts(&dataset), [0, 0, 0, 0, 1]);
    assert!(dataset.read(0).is_ok());
}

#[test]
fn folders_by_wordnet_id() {
    let folder = folder(&["n15075141/a.JPEG", "n01440764/b.JPEG", "n02328150/c.JPEG"]);
    let dataset = Dataset::open(folder.path(), &DatasetOptions::new(1000)).unwrap();
    let wanted = [("n01440764/b.JPEG", 0), ("n02328150/c.JPEG", 332), ("n15075141/a.JPEG", 999)];
    assert_eq!(names(&dataset), owned(&wanted));
    let (problem, message) = refused(folder.path(), &DatasetOptions::new(10));
    assert!(matches!(problem, DatasetProblem::WordNetFolder { num_classes: 10, .. }));
    assert!(message.contains("labels file"), "{message}");
}

#[test]
fn folders_by_labels_file() {
    let folder = folder(&["cat/a.jpg", "dog/b.jpg"]);
    let labels = folder.path().join("names.txt");
    let mut options = DatasetOptions::new(3);
    options.labels = Some(labels.clone());
    fs::write(&labels, "dog\r\nbird\r\ncat\r\n\r\n").unwrap();
    let dataset = Dataset::open(folder.path(), &options).unwrap();
    assert_eq!(names(&dataset), owned(&[("dog/b.jpg", 0), ("cat/a.jpg", 2)]));
    assert_eq!(dataset.scan_stats().other_files, 1, "the labels file itself");

    fs::write(&labels, "dog\nbird\n").unwrap();
    let (problem, message) = refused(folder.path(), &options);
    assert!(matches!(problem, DatasetProblem::LabelsLength { expected: 3, found: 2 }));
    assert!(message.contains("names.txt") && message.contains('3') && message.contains('2'), "{message}");
    fs::write(&labels, "dog\nbird\nfish\n").unwrap();
    assert!(matches!(
        refused(folder.path(), &options).0,
        DatasetProblem::UnknownFolder { by_labels: true, .. }
    ));
    fs::write(&labels, "dog\nbird\ndog\n").unwrap();
    assert!(matches!(
        refused(folder.path(), &options).0,
        DatasetProblem::SameName { first: 0, second: 2, .. }
    ));
}

#[cfg(unix)]
#[test]
fn links_hidden_and_foreign_files_are_counted() {
    use std::os::unix::fs::symlink;
    let folder = folder(&[
        "0/a.jpg",
        "0/.b.jpg",
        "0/notes.txt",
        "0/._a.jpg",
        ".git/x.jpg",
        "readme.md",
        "0/UPPER.WEBP",
    ]);
    let root = folder.path();
    symlink("a.jpg", root.join("0/link.jpg")).unwrap();
    symlink("nowhere.jpg", root.join("0/dangling.jpg")).unwrap();
    symlink("..", root.join("0/circle")).unwrap();
    symlink("0", root.join("1")).unwrap();
    let dataset = Dataset::open(root, &DatasetOptions::new(2)).unwrap();
    // Both names of the folder count, with what is in it.
    assert_eq!(counts(&dataset), [4, 5, 3, 2, 0]);
    assert_eq!(dataset.len(), 8);
    let dangling = dataset.items().iter().position(|item| item.path.ends_with("dangling.jpg")).unwrap();
    assert!(matches!(dataset.read(dangling), Err(Error::Read { .. })));
    assert!(dataset.scan_stats().to_string().contains("5 hidden"), "{}", dataset.scan_stats());
}

#[test]
fn lists_keep_their_order() {
    let folder = folder(&["val/b.jpg", "val/with space.jpg", "val/a.jpg"]);
    let list = folder.path().join("val_list.txt");
    fs::write(&list, "\u{feff}val/b.jpg 5\r\nval/with space.jpg 0\n\n./val/a.jpg\t9\nval/missing.jpg 1")
        .unwrap();
    let dataset = Dataset::open(&list, &DatasetOptions::new(10)).unwrap();
    let wanted = [("val/b.jpg", 5), ("val/with space.jpg", 0), ("./val/a.jpg", 9), ("val/missing.jpg", 1)];
    assert_eq!(names(&dataset), owned(&wanted));
    for index in 0..3 {
        dataset.read(index).unwrap();
    }
    assert!(matches!(dataset.read(3), Err(Error::Read { .. })));
    assert!(matches!(dataset.read(4), Err(Error::Read { .. })));

    let elsewhere = folder.path().join("lists");
    fs::create_dir(&elsewhere).unwrap();
    fs::copy(&list, elsewhere.join("list.txt")).unwrap();
    let (problem, message) = refused(&elsewhere.join("list.txt"), &DatasetOptions::new(10));
    assert!(matches!(problem, DatasetProblem::AllMissing { count: 4, .. }), "{message}");
    let mut rooted = DatasetOptions::new(10);
    rooted.image_root = Some(folder.path().to_owned());
    Dataset::open(elsewhere.join("list.txt"), &rooted).unwrap().read(0).unwrap();
}

#[test]
fn lists_say_which_line_is_wrong() {
    let folder = folder(&["a.jpg"]);
    let list = folder.path().join("list.txt");
    for (text, wanted) in [
        (
            "a.jpg 0\na.jpg 10\n",
            "line 2: expected `relative/path label` with a label of 0 to 9, found the label `10`",
        ),
        (
            "a.jpg 0\n\na.jpg -1\n",
            "line 3: expected `relative/path label` with a label of 0 to 9, found the label `-1`",
        ),
        ("a.jpg x", "line 1: expected `relative/path label` with a label of 0 to 9, found the label `x`"),
        ("a.jpg", "line 1: expected `relative/path label` with a label of 0 to 9, found no label"),
    ] {
        fs::write(&list, text).unwrap();
        let message = Dataset::open(&list, &DatasetOptions::new(10)).unwrap_err().to_string();
        assert!(message.ends_with(wanted), "{message}");
    }
}

/// Labels from 1 to the number of classes are named, and read if they are asked for.
#[test]
fn lists_that_count_from_one() {
    let folder = folder(&["a.jpg", "b.jpg"]);
    let list = folder.path().join("list.txt");
    let mut options = DatasetOptions::new(10);
    fs::write(&list, "a.jpg 1\nb.jpg 10\n").unwrap();
    assert!(matches!(refused(&list, &options).0, DatasetProblem::OneBased { num_classes: 10 }));
    options.label_base = 1;
    let dataset = Dataset::open(&list, &options).unwrap();
    assert_eq!(names(&dataset), owned(&[("a.jpg", 0), ("b.jpg", 9)]));
    // A 0 among them is wrong then.
    fs::write(&list, "a.jpg 0\nb.jpg 10\n").unwrap();
    assert!(matches!(Dataset::open(&list, &options), Err(Error::List { line: 1, .. })));
    options.label_base = 0;
    assert!(matches!(Dataset::open(&list, &options), Err(Error::List { line: 2, .. })));
}

#[test]
fn kaggles_validation_labels() {
    let folder = folder(&["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"]);
    let list = folder.path().join("LOC_val_solution.csv");
    let rows = "ImageId,PredictionString\r\nILSVRC2012_val_00000002,n02328150 85 1 499 272 n02328150 1 2 3 4 \r\n\
                ILSVRC2012_val_00000001,n01440764 85 1 499 272 \r\n";
    fs::write(&list, rows).unwrap();
    let dataset = Dataset::open(&list, &DatasetOptions::new(1000)).unwrap();
    let wanted = [("ILSVRC2012_val_00000002.JPEG", 332), ("ILSVRC2012_val_00000001.JPEG", 0)];
    assert_eq!(names(&dataset), owned(&wanted));
    assert!(matches!(
        refused(&list, &DatasetOptions::new(10)).0,
        DatasetProblem::WordNetList { num_classes: 10 }
    ));
    fs::write(&list, rows.replace("n01440764", "n99999999")).unwrap();
    let message = Dataset::open(&list, &DatasetOptions::new(1000)).unwrap_err().to_string();
    assert!(message.contains("line 3") && message.contains("n99999999"), "{message}");
}

/// As many folders as classes, and none names one: torchvision's order.
#[test]
fn folders_by_sorted_name() {
    let folder = folder(&["dog/a.jpg", "Bird/b.jpg", "cat/c.jpg"]);
    let dataset = Dataset::open(folder.path(), &DatasetOptions::new(3)).unwrap();
    assert_eq!(names(&dataset), owned(&[("Bird/b.jpg", 0), ("cat/c.jpg", 1), ("dog/a.jpg", 2)]));
    assert_eq!(dataset.scan_stats().sorted_classes, 3);
    assert!(dataset.scan_stats().to_string().contains("in the order of their names"));
    // One class more or less, and nothing is guessed.
    for num_classes in [2, 4] {
        let (problem, _) = refused(folder.path(), &DatasetOptions::new(num_classes));
        assert!(matches!(problem, DatasetProblem::UnknownFolder { by_labels: false, .. }));
    }
}

#[test]
fn cut_pictures_are_read_on_demand() {
    let folder = folder(&[]);
    let photograph = input("ILSVRC2012_val_00010010.jpeg");
    fs::write(folder.path().join("cut.jpg"), &photograph[..photograph.len() / 2]).unwrap();
    let list = folder.path().join("list.txt");
    fs::write(&list, "cut.jpg 0").unwrap();
    let mut options = DatasetOptions::new(1);
    assert!(matches!(Dataset::open(&list, &options).unwrap().read(0), Err(Error::Truncated { .. })));
    options.accept_truncated = true;
    assert!(Dataset::open(&list, &options).unwrap().read(0).is_ok());
}

#[test]
fn bad_datasets_are_refused() {
    let options = DatasetOptions::new(10);
    assert!(matches!(Dataset::open("no/such/folder", &options), Err(Error::Read { .. })));
    let problem = |names: &[&str]| refused(folder(names).path(), &options).0;
    assert!(matches!(problem(&[]), DatasetProblem::NoClasses { .. }));
    assert!(matches!(
        problem(&["a.jpg", "b.jpg"]),
        DatasetProblem::NoClasses { stats: ScanStats { other_files: 2, .. } }
    ));
    assert!(matches!(problem(&["1/", "2/notes.txt"]), DatasetProblem::NoPictures { .. }));
    assert!(matches!(
        problem(&["10/a.jpg"]),
        DatasetProblem::FolderOutOfRange { class: 10, num_classes: 10 }
    ));
    assert!(matches!(problem(&["99999999999999999999/a.jpg"]), DatasetProblem::FolderOutOfRange { .. }));
    assert!(matches!(problem(&["cats/a.jpg"]), DatasetProblem::UnknownFolder { by_labels: false, .. }));
    assert!(matches!(problem(&["3/a.jpg", "03/a.jpg"]), DatasetProblem::SameClass { class: 3, .. }));

    let folder = folder(&["a.jpg"]);
    let file = folder.path().join("data");
    let refused = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        refused(&file, &options).0
    };
    assert!(matches!(refused(b""), DatasetProblem::NoPictures { .. }));
    assert!(matches!(refused(b"\x1f\x8b\x08"), DatasetProblem::Compressed { format: "gzip" }));
    assert!(matches!(refused(b"\0\0\0"), DatasetProblem::UnknownKind));
    assert!(matches!(refused(b"a.jpg 1\n\xff 2\n"), DatasetProblem::UnknownKind));
}

/// What a build leaves out is said by name, whether it is a file or a folder.
#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_names_its_feature() {
    let files = common::goldens_dir().join("parquet");
    let mut options = DatasetOptions::new(10);
    options.split = Some("validation".to_owned());
    for path in [&files.join("plain.parquet"), &files] {
        let (problem, message) = refused(path, &options);
        assert!(matches!(problem, DatasetProblem::NeedsFeature { feature: "parquet", .. }), "{message}");
        assert!(message.contains("--features parquet"), "{message}");
    }
}

/// A tar archive of these names, each with the 1x1 image.
fn archive(names: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let picture = input("1x1.png");
    for name in names {
        let mut header = tar::Header::new_gnu();
        header.set_size(picture.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &picture[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn archives_are_read_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("val.tar");
    let long = format!("val/2/{}.jpg", "x".repeat(200));
    let bytes = archive(&["./val/1/b.jpg", "val/1/a.png", &long, "val/readme.txt", "val/.hidden/1/c.jpg"]);
    fs::write(&path, &bytes).unwrap();
    let dataset = Dataset::open(&path, &DatasetOptions::new(3)).unwrap();
    assert_eq!(names(&dataset), owned(&[("val/1/a.png", 1), (&long, 2), ("val/1/b.jpg", 1)]));
    assert_eq!(counts(&dataset), [0, 1, 1, 0, 0]);
    for index in 0..3 {
        assert_eq!(dataset.read(index).unwrap(), inception_data::decode(&input("1x1.png")).unwrap());
    }
    assert!(matches!(
        refused(&path, &DatasetOptions::new(2)).0,
        DatasetProblem::FolderOutOfRange { class: 2, .. }
    ));

    // A list's images in an archive.
    let list = folder.path().join("list.txt");
    fs::write(&list, "val/1/b.jpg 7\nval/1/none.jpg 7\n").unwrap();
    let mut rooted = DatasetOptions::new(10);
    rooted.image_root = Some(path.clone());
    let dataset = Dataset::open(&list, &rooted).unwrap();
    dataset.read(0).unwrap();
    assert!(matches!(dataset.read(1), Err(Error::Read { .. })));

    // Cut within a header or within an image, and damaged.
    for len in (512..bytes.len() - 1024).step_by(100).chain([1024, bytes.len() - 1024]) {
        fs::write(&path, &bytes[..len]).unwrap();
        let problem = refused(&path, &DatasetOptions::new(3)).0;
        assert!(matches!(problem, DatasetProblem::Archive { .. }), "{len}: {problem}");
    }
    let mut damaged = bytes.clone();
    damaged[10] ^= 1;
    fs::write(&path, damaged).unwrap();
    assert!(matches!(refused(&path, &DatasetOptions::new(3)).0, DatasetProblem::Archive { .. }));
    fs::write(&path, archive(&["a.jpg"])).unwrap();
    assert!(matches!(refused(&path, &DatasetOptions::new(3)).0, DatasetProblem::NoClasses { .. }));
}

/// ImageNet's training pictures: an archive for each class in an archive.
#[test]
fn archives_in_an_archive_are_folders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.tar");
    let inner = archive(&["n02328150_1.JPEG", "n02328150_2.JPEG"]);
    let other = archive(&["n01440764_7.JPEG"]);
    let build = |members: &[(&str, &[u8])]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    };
    fs::write(&path, build(&[("n02328150.tar", &inner[..]), ("n01440764.tar", &other[..])])).unwrap();
    let dataset = Dataset::open(&path, &DatasetOptions::new(1000)).unwrap();
    let wanted = [
        ("n01440764/n01440764_7.JPEG", 0),
        ("n02328150/n02328150_1.JPEG", 332),
        ("n02328150/n02328150_2.JPEG", 332),
    ];
    assert_eq!(names(&dataset), owned(&wanted));
    for index in 0..3 {
        assert_eq!(dataset.read(index).unwrap(), inception_data::decode(&input("1x1.png")).unwrap());
    }
    // An inner archive that was cut.
    fs::write(&path, build(&[("n02328150.tar", &inner[..inner.len() - 1024 - 512])])).unwrap();
    let problem = refused(&path, &DatasetOptions::new(1000)).0;
    assert!(matches!(problem, DatasetProblem::Archive { .. }), "{problem}");
}

/// The batches are the same whatever the number of workers, and each image is where its number says.
#[test]
fn batches_do_not_depend_on_workers() {
    let folder = folder(&[]);
    let files =
        ["rgb.png", "part_444.jpg", "exif6.jpg", "filtered.png", "grey.png", "part_420.jpg", "1x1.png"];
    let mut list = String::new();
    for turn in 0..5 {
        for file in files {
            let name = format!("{turn}{file}");
            let bytes = input(file);
            // Every sixth image is cut.
            let len = if list.lines().count() % 6 == 3 { bytes.len() / 2 } else { bytes.len() };
            fs::write(folder.path().join(&name), &bytes[..len]).unwrap();
            list += &format!("{name} {turn}\n");
        }
    }
    let path = folder.path().join("list.txt");
    fs::write(&path, list).unwrap();
    let dataset = Dataset::open(&path, &DatasetOptions::new(5)).unwrap();
    let preprocessing = Preprocessing::paddleclas(20, 16);

    let mut wanted = vec![0.0; preprocessing.output_len() * dataset.len()];
    let mut cut = Vec::new();
    for (index, out) in wanted.chunks_exact_mut(preprocessing.output_len()).enumerate() {
        match dataset.read(index) {
            Ok(image) => preprocessing.apply(&image, out).unwrap(),
            Err(_) => cut.push(index),
        }
    }
    assert_eq!(cut.len(), 6);
    for (batch, workers, prefetch) in [(4, 1, 1), (4, 3, 2), (35, 2, 1), (100, 9, 3), (1, 2, 0), (8, 0, 1)] {
        let options = LoaderOptions { batch, workers, prefetch };
        let (mut found, mut skipped, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        let all = 0..dataset.len().div_ceil(batch);
        load::<()>(&dataset, &preprocessing, &options, all.clone(), |batch, reuse| {
            assert_eq!(batch.items.start, numbers.len() * options.batch);
            numbers.push(batch.number);
            found.extend_from_slice(&batch.input);
            skipped.extend(batch.skipped.iter().map(|(index, _)| *index));
            reuse(batch.input);
            Ok(())
        })
        .unwrap();
        assert_eq!(numbers, all.collect::<Vec<_>>());
        assert!(found == wanted, "{options:?}");
        assert_eq!(skipped, cut);
    }

    // Stopping early ends the threads; numbers beyond the end are passed over.
    let options = LoaderOptions { batch: 4, workers: 2, prefetch: 1 };
    let mut seen = 0;
    let stopped = load(&dataset, &preprocessing, &options, [5, 77, 2, 0, 1], |batch, _| {
        seen += 1;
        if batch.number == 2 { Err("enough") } else { Ok(()) }
    });
    assert_eq!((stopped, seen), (Err("enough"), 2));
}
