//! Folders, lists and archives: order, what is left out, and a clear error for each kind of bad data.
#![allow(clippy::unwrap_used)] // In a test the panic is the report.

mod common;

use std::fs;
use std::io::Write;
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

/// A sample of a folder with a folder for each class has pictures of all of them.
#[test]
fn samples_are_spread_over_all_pictures() {
    let all: Vec<String> = (0..10).map(|i| format!("{}/{i}.png", if i < 5 { "a" } else { "b" })).collect();
    let folder = folder(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let sample = |len: usize| {
        let mut dataset = Dataset::open_unlabelled(folder.path()).unwrap();
        dataset.sample_evenly(len);
        names(&dataset).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(sample(0), [""; 0]);
    assert_eq!(sample(1), ["a/0.png"]);
    assert_eq!(sample(4), ["a/0.png", "a/2.png", "b/5.png", "b/7.png"]);
    assert_eq!(sample(9).len(), 9);
    assert_eq!(sample(10), all);
    assert_eq!(sample(1000), all);
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
    assert!(message.contains("ImageNet's 1000") && message.contains("the network has 10"), "{message}");
}

/// Training takes the classes that the data have; a file that was trained on them finds them again by name.
#[test]
fn classes_of_the_data_itself() {
    let own = |path: &Path| Dataset::open_with_own_classes(path, &DatasetOptions::new(0));
    let cats = folder(&["dog/b.jpg", "cat/a.jpg", "cat/c.jpg", "empty/", ".hidden/d.jpg"]);
    let (dataset, classes) = own(cats.path()).unwrap();
    assert_eq!(names(&dataset), owned(&[("cat/a.jpg", 0), ("dog/b.jpg", 1), ("cat/c.jpg", 0)]));
    let named = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    assert_eq!((classes.count, classes.names), (3, named(&["cat", "dog", "empty"])));
    // WordNet ids are names as any other, and numbers from 0 are in the order of numbers.
    let ids = folder(&["n02123045/a.jpg", "n01440764/b.jpg"]);
    assert_eq!(own(ids.path()).unwrap().1.names, named(&["n01440764", "n02123045"]));
    let numbers: Vec<String> = (0..11).map(|class| format!("{class}/a.jpg")).collect();
    let numbers = folder(&numbers.iter().map(String::as_str).collect::<Vec<_>>());
    let (dataset, classes) = own(numbers.path()).unwrap();
    assert_eq!(classes.names.unwrap()[9..], ["9", "10"]);
    assert_eq!(names(&dataset)[10], ("10/a.jpg".to_owned(), 10));
    let mut options = DatasetOptions::new(0);
    options.labels = named(&["dog", "empty", "cat"]);
    let (dataset, classes) = Dataset::open_with_own_classes(cats.path(), &options).unwrap();
    assert_eq!((classes.names, dataset.items()[0].label), (named(&["dog", "empty", "cat"]), 0));

    let one = folder(&["x.jpg"]);
    // Archives, of which those in gzip are read from their start on.
    let tar = archive(&["cat/a.jpg", "dog/b.jpg", "cat/c.jpg"]);
    let zip = zip_of(&[("cat/a.jpg", b"a"), ("dog/b.jpg", b"b"), ("cat/c.jpg", b"c")]);
    for (name, bytes) in [("a.tar.gz", gzip(&tar)), ("a.tar", tar), ("a.zip", zip)] {
        let path = one.path().join(name);
        fs::write(&path, bytes).unwrap();
        let (dataset, classes) = own(&path).unwrap();
        assert_eq!((dataset.len(), classes.count, classes.names), (3, 2, named(&["cat", "dog"])), "{name}");
    }
}

#[test]
fn classes_of_a_list_itself() {
    let folder = folder(&["a.jpg", "b.jpg", "c.jpg"]);
    let list = folder.path().join("list.txt");
    let own = |text: &str| {
        fs::write(&list, text).unwrap();
        Dataset::open_with_own_classes(&list, &DatasetOptions::new(0))
    };
    let (dataset, classes) = own("a.jpg 0\nb.jpg 2\nc.jpg 2\n").unwrap();
    assert_eq!((dataset.len(), classes.count, classes.names), (3, 3, None));
    let problem = |text: &str| match own(text) {
        Err(Error::Dataset { problem, .. }) => *problem,
        other => panic!("{other:?}"),
    };
    assert!(matches!(problem("a.jpg 1\nb.jpg 2\n"), DatasetProblem::OneBased { num_classes: 2 }));
    let sparse = problem("a.jpg 0\nb.jpg 4000000000\n");
    assert!(matches!(sparse, DatasetProblem::SparseLabels { largest: 4_000_000_000, pictures: 2 }));
}

#[test]
fn versions_tell_of_changes() {
    let folder = folder(&["cat/a.jpg", "dog/b.jpg"]);
    let versions = || Dataset::open_unlabelled(folder.path()).unwrap().versions();
    let before = versions();
    assert_eq!(before, versions());
    fs::write(folder.path().join("dog/b.jpg"), b"another").unwrap();
    let after = versions();
    assert_eq!((before[0], after[1][0]), (after[0], 7));
    assert_ne!(before[1], after[1]);
}

#[test]
fn folders_by_names_of_classes() {
    let folder = folder(&["cat/a.jpg", "dog/b.jpg"]);
    let mut options = DatasetOptions::new(3);
    let names_of = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    options.labels = names_of(&["dog", "bird", "cat"]);
    let dataset = Dataset::open(folder.path(), &options).unwrap();
    assert_eq!(names(&dataset), owned(&[("dog/b.jpg", 0), ("cat/a.jpg", 2)]));

    options.labels = names_of(&["dog", "bird", "fish"]);
    assert!(matches!(
        refused(folder.path(), &options).0,
        DatasetProblem::UnknownFolder { by_labels: true, .. }
    ));
    options.labels = names_of(&["dog", "cat", "dog"]);
    assert!(matches!(
        refused(folder.path(), &options).0,
        DatasetProblem::SameName { first: 0, second: 2, .. }
    ));
    // Two classes of one name are no trouble where no folder has it: ImageNet's cranes. Folders may still be
    // named by WordNet ids then.
    let imagenet = self::folder(&["n01440764/a.jpg", "n15075141/b.jpg"]);
    options = DatasetOptions::new(1000);
    options.labels = Some(inception_data::labels().iter().map(|&name| name.to_owned()).collect());
    let dataset = Dataset::open(imagenet.path(), &options).unwrap();
    assert_eq!(names(&dataset), owned(&[("n01440764/a.jpg", 0), ("n15075141/b.jpg", 999)]));
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
        ("a.jpg", "with a label of 0 to 9, found no label behind a space or a tab"),
        ("a.jpg,0", "found no label behind a space or a tab"),
    ] {
        fs::write(&list, text).unwrap();
        let message = Dataset::open(&list, &DatasetOptions::new(10)).unwrap_err().to_string();
        assert!(message.ends_with(wanted), "{message}");
    }
}

/// The list of an archive's files is no archive.
#[test]
fn lists_may_be_named_after_an_archive() {
    let folder = folder(&["a.jpg"]);
    let list = folder.path().join("val.tar.txt");
    fs::write(&list, "a.jpg 3\n").unwrap();
    assert_eq!(names(&Dataset::open(&list, &DatasetOptions::new(10)).unwrap()), owned(&[("a.jpg", 3)]));
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

/// The development kit's numbers are another order than that of the classes. Both columns are facts about
/// ImageNet's first validation pictures: their numbers in `ILSVRC2012_validation_ground_truth.txt`, and their
/// WordNet ids in TensorFlow's `imagenet_2012_validation_synset_labels.txt`.
#[test]
fn ground_truth_of_the_development_kit() {
    const FIRST: [(u32, &str); 11] = [
        (490, "n01751748"),
        (361, "n09193705"),
        (171, "n02105855"),
        (822, "n04263257"),
        (297, "n03125729"),
        (482, "n01735189"),
        (13, "n02346627"),
        (704, "n02776631"),
        (599, "n03794056"),
        (164, "n02328150"),
        (649, "n01917289"),
    ];
    let all: std::collections::BTreeSet<_> =
        (1..=1000).map(|id| inception_data::class_of_devkit_id(id).unwrap()).collect();
    assert!(all.len() == 1000 && inception_data::class_of_devkit_id(1001).is_none());

    let pictures: Vec<String> = (1..=11).map(|n| format!("ILSVRC2012_val_{n:08}.JPEG")).collect();
    let pictures: Vec<&str> = pictures.iter().map(String::as_str).collect();
    let flat = folder(&pictures);
    let truth = FIRST.map(|(id, _)| format!("{id}\n")).concat();
    let wanted: Vec<(String, u32)> = pictures
        .iter()
        .zip(FIRST)
        .map(|(name, (_, id))| ((*name).to_owned(), inception_data::class_of_wordnet_id(id).unwrap() as u32))
        .collect();
    let options = DatasetOptions::new(1000);
    // Pictures that nobody says the classes of.
    let (problem, message) = refused(flat.path(), &options);
    assert!(matches!(problem, DatasetProblem::NoClasses { stats: ScanStats { loose_pictures: 11, .. } }));
    assert!(message.contains("11 pictures outside the folders of classes"), "{message}");
    // The list in its own folder, the pictures beside it, in another folder, or in an archive.
    let kit = tempfile::tempdir().unwrap();
    let list = kit.path().join("ILSVRC2012_validation_ground_truth.txt");
    fs::write(&list, &truth).unwrap();
    assert!(matches!(refused(&list, &options).0, DatasetProblem::AllMissing { count: 11, .. }));
    let tar = kit.path().join("ILSVRC2012_img_val.tar");
    fs::write(&tar, archive(&pictures)).unwrap();
    for root in [flat.path(), &tar] {
        let mut rooted = options.clone();
        rooted.image_root = Some(root.to_owned());
        let dataset = Dataset::open(&list, &rooted).unwrap();
        assert_eq!(names(&dataset), wanted);
        dataset.read(10).unwrap();
    }
    fs::copy(&list, flat.path().join("ILSVRC2012_validation_ground_truth.txt")).unwrap();
    let dataset = Dataset::open(flat.path(), &options).unwrap();
    assert_eq!(names(&dataset), wanted);
    dataset.read(0).unwrap();
    // Kaggle's list in a flat folder, too.
    fs::remove_file(flat.path().join("ILSVRC2012_validation_ground_truth.txt")).unwrap();
    let rows = "ImageId,PredictionString\nILSVRC2012_val_00000003,n02105855 85 1 499 272 \n";
    fs::write(flat.path().join("LOC_val_solution.csv"), rows).unwrap();
    let dataset = Dataset::open(flat.path(), &options).unwrap();
    assert_eq!(names(&dataset), owned(&[("ILSVRC2012_val_00000003.JPEG", 230)]));

    assert!(matches!(refused(&list, &DatasetOptions::new(10)).0, DatasetProblem::WordNetList { .. }));
    for wrong in ["0", "1001", "99999999999999999999"] {
        fs::write(&list, format!("1\n{wrong}\n2\n")).unwrap();
        let (problem, message) = refused(&list, &options);
        assert!(matches!(problem, DatasetProblem::DevkitLabel { line: 2, .. }), "{message}");
        assert!(message.contains(wrong), "{message}");
    }
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
    // In an archive, too, whatever is above them.
    let path = folder.path().join("pets.tar");
    fs::write(&path, archive(&["pets/val/dog/a.jpg", "pets/val/Bird/b.jpg", "pets/val/cat/c.jpg"])).unwrap();
    let dataset = Dataset::open(&path, &DatasetOptions::new(3)).unwrap();
    let wanted = [("pets/val/Bird/b.jpg", 0), ("pets/val/cat/c.jpg", 1), ("pets/val/dog/a.jpg", 2)];
    assert_eq!(names(&dataset), owned(&wanted));
    assert_eq!(dataset.scan_stats().sorted_classes, 3);
    let (problem, _) = refused(&path, &DatasetOptions::new(4));
    assert!(matches!(problem, DatasetProblem::UnknownFolder { by_labels: false, .. }));
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
        DatasetProblem::NoClasses { stats: ScanStats { loose_pictures: 2, other_files: 0, .. } }
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
    assert!(matches!(refused(&gzip(b"a.jpg 1")), DatasetProblem::Compressed { format: "gzip" }));
    assert!(matches!(refused(b"7z\xbc\xaf"), DatasetProblem::Compressed { format: "7-Zip" }));
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
    let picture = input("1x1.png");
    tar_of(&names.iter().map(|name| (*name, &picture[..])).collect::<Vec<_>>())
}

/// A tar archive of these members.
fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zip archive of these members, stored or deflated in turn.
fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
    for (index, (name, content)) in members.iter().enumerate() {
        let deflated = index % 2 == 1;
        let method =
            if deflated { rawzip::CompressionMethod::DEFLATE } else { rawzip::CompressionMethod::STORE };
        let (mut entry, config) = archive.new_file(*name).compression_method(method).start().unwrap();
        if deflated {
            let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::default());
            let mut writer = config.wrap(encoder);
            writer.write_all(content).unwrap();
            let (encoder, descriptor) = writer.finish().unwrap();
            encoder.finish().unwrap();
            entry.finish(descriptor).unwrap();
        } else {
            let mut writer = config.wrap(&mut entry);
            writer.write_all(content).unwrap();
            let (_, descriptor) = writer.finish().unwrap();
            entry.finish(descriptor).unwrap();
        }
    }
    archive.finish().unwrap();
    bytes
}

/// What a picture's bytes are in these tests: so many as no two others have.
fn content(index: usize) -> Vec<u8> {
    (0..index * 37 % 1500).map(|at| (at * index) as u8).collect()
}

/// A tar archive in gzip: in the order of the archive, from the front on, whoever asks for what.
#[test]
fn archives_in_gzip_are_read_from_the_front() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("val.tar.gz");
    let all: Vec<(String, Vec<u8>)> =
        (0..200).map(|index| (format!("val/{}/{index}.jpg", index * 7 % 5), content(index))).collect();
    let members: Vec<(&str, &[u8])> = all.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let bytes = gzip(&tar_of(&members));
    fs::write(&path, &bytes).unwrap();
    let dataset = Dataset::open(&path, &DatasetOptions::new(5)).unwrap();
    let wanted: Vec<(String, u32)> =
        all.iter().enumerate().map(|(index, (name, _))| (name.clone(), (index * 7 % 5) as u32)).collect();
    assert_eq!(names(&dataset), wanted, "one of each class in turn would unpack it again and again");
    let unlabelled = Dataset::open_unlabelled(&path).unwrap();
    assert_eq!(unlabelled.items().len(), 200);
    let mut random = common::random();
    let mut order: Vec<usize> = (0..200).chain((0..200).rev()).collect();
    order.extend((0..300).map(|_| random(200)));
    // Out of order as several threads ask, in steps as a shard does.
    order.extend((0..200).map(|index| index ^ 3).chain((0..200).step_by(40)));
    let mut found = Vec::new();
    for index in order {
        dataset.read_bytes(index, &mut found).unwrap();
        assert!(found == all[index].1, "picture {index}");
    }
    // The pictures of a list are read in the order of the archive.
    let list = folder.path().join("list.txt");
    fs::write(&list, format!("{} 3\n{} 4\nval/none.jpg 0\n", all[150].0, all[7].0)).unwrap();
    let mut rooted = DatasetOptions::new(5);
    rooted.image_root = Some(path.clone());
    let dataset = Dataset::open(&list, &rooted).unwrap();
    assert_eq!(names(&dataset), owned(&[("val/none.jpg", 0), (&all[7].0, 4), (&all[150].0, 3)]));
    dataset.read_bytes(2, &mut found).unwrap();
    assert_eq!(found, all[150].1);
    assert!(matches!(dataset.read_bytes(0, &mut found), Err(Error::Read { .. })));

    // Whatever its name is; two members of gzip one after the other; archives in an archive.
    let other = folder.path().join("data");
    let tar = archive(&["n02328150_1.JPEG", "n02328150_2.JPEG"]);
    let nested = tar_of(&[("n02328150.tar", &tar), ("n01440764.tar", &archive(&["x.JPEG"]))]);
    fs::write(&other, [gzip(&nested[..700]), gzip(&nested[700..])].concat()).unwrap();
    let dataset = Dataset::open(&other, &DatasetOptions::new(1000)).unwrap();
    let wanted =
        [("n02328150/n02328150_1.JPEG", 332), ("n02328150/n02328150_2.JPEG", 332), ("n01440764/x.JPEG", 0)];
    assert_eq!(names(&dataset), owned(&wanted));
    for index in [2, 0, 1] {
        assert_eq!(dataset.read(index).unwrap(), inception_data::decode(&input("1x1.png")).unwrap());
    }
    // Cut anywhere, or with another sum: never as if it were whole.
    for cut in (20..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        fs::write(&path, &bytes[..cut]).unwrap();
        let problem = refused(&path, &DatasetOptions::new(5)).0;
        assert!(matches!(problem, DatasetProblem::Archive { .. }), "{cut}: {problem}");
    }
    let mut damaged = bytes;
    let sum = damaged.len() - 8;
    damaged[sum] ^= 1;
    fs::write(&path, damaged).unwrap();
    assert!(matches!(refused(&path, &DatasetOptions::new(5)).0, DatasetProblem::Archive { .. }));
    // A megabyte of headers in a few kilobytes, and a picture of nothing: more than pictures shrink.
    let bomb = gzip(&vec![0; 64 << 20]);
    let mut header = tar::Header::new_gnu();
    header.set_path("1/a.jpg").unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    let huge = [gzip(header.as_bytes()), bomb].concat();
    fs::write(&path, huge).unwrap();
    let (problem, message) = refused(&path, &DatasetOptions::new(5));
    assert!(matches!(problem, DatasetProblem::Archive { .. }) && message.contains("250 times"), "{message}");
}

#[test]
fn zip_archives_are_read_by_their_directory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("val.zip");
    let all: Vec<(String, Vec<u8>)> =
        (0..40).map(|index| (format!("val/{}/{index:02}.jpg", index % 4), content(index))).collect();
    let mut members: Vec<(&str, &[u8])> =
        all.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    members.extend([
        ("val/readme.txt", &b"text"[..]),
        ("__MACOSX/val/0/._00.jpg", b"fork"),
        ("../../1/up.jpg", b"x"),
    ]);
    let bytes = zip_of(&members);
    fs::write(&path, &bytes).unwrap();
    let dataset = Dataset::open(&path, &DatasetOptions::new(4)).unwrap();
    assert_eq!((dataset.len(), counts(&dataset)), (41, [0, 1, 1, 0, 0]));
    assert_eq!(names(&dataset)[..2], owned(&[("val/0/00.jpg", 0), ("1/up.jpg", 1)]));
    let mut found = Vec::new();
    for (index, item) in dataset.items().iter().enumerate().filter(|(_, item)| item.path.starts_with("val")) {
        let number: usize = item.path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        dataset.read_bytes(index, &mut found).unwrap();
        assert!(found == all[number].1, "{}", item.path.display());
        assert_eq!(item.label as usize, number % 4);
    }
    let list = folder.path().join("list.txt");
    fs::write(&list, "val/3/07.jpg 2\n").unwrap();
    let mut rooted = DatasetOptions::new(5);
    rooted.image_root = Some(path.clone());
    Dataset::open(&list, &rooted).unwrap().read_bytes(0, &mut found).unwrap();
    assert_eq!(found, content(7));

    // Cut anywhere; a byte of a picture changed, which its sum tells.
    for cut in (4..bytes.len()).step_by(61).chain([bytes.len() - 1]) {
        fs::write(&path, &bytes[..cut]).unwrap();
        let problem = refused(&path, &DatasetOptions::new(4)).0;
        assert!(matches!(problem, DatasetProblem::Archive { .. }), "{cut}: {problem}");
    }
    let mut damaged = bytes.clone();
    let at = bytes.windows(20).position(|window| window == &content(38)[..20]).unwrap();
    damaged[at + 5] ^= 1;
    fs::write(&path, damaged).unwrap();
    let dataset = Dataset::open(&path, &DatasetOptions::new(4)).unwrap();
    let index = dataset.items().iter().position(|item| item.path.ends_with("38.jpg")).unwrap();
    assert!(matches!(dataset.read_bytes(index, &mut found), Err(Error::Read { .. })));
    // A picture that is said to be small, and unpacks to 64 MB.
    let bomb = zip_of(&[("0/a.jpg", b""), ("0/b.jpg", &vec![0; 64 << 20])]);
    let mut lied = bomb.clone();
    let directory = bomb.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    lied[directory + 24..directory + 28].copy_from_slice(&100_u32.to_le_bytes());
    fs::write(&path, lied).unwrap();
    let dataset = Dataset::open(&path, &DatasetOptions::new(4)).unwrap();
    assert!(matches!(dataset.read_bytes(1, &mut found), Err(Error::Read { .. })));
    assert!(found.capacity() < 1 << 20);
    // Encrypted, and packed otherwise.
    for (at, value, reason) in [(8, 1, "encrypted"), (10, 12, "BZIP2")] {
        let mut other = zip_of(&[("0/a.jpg", b"abc")]);
        let directory = other.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
        other[directory + at] = value;
        fs::write(&path, other).unwrap();
        let dataset = Dataset::open(&path, &DatasetOptions::new(4)).unwrap();
        let error = dataset.read_bytes(0, &mut found).unwrap_err();
        let reason_found = std::error::Error::source(&error).unwrap().to_string();
        assert!(reason_found.contains(reason), "{reason_found}");
    }
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
    fs::write(&path, tar_of(&[("n02328150.tar", &inner[..]), ("n01440764.tar", &other[..])])).unwrap();
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
    fs::write(&path, tar_of(&[("n02328150.tar", &inner[..inner.len() - 1024 - 512])])).unwrap();
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

/// Tables of labels in both forms, and what their classes are.
#[test]
fn tables_of_labels() {
    let folder = folder(&["a.png", "b, 2.png", "c.png"]);
    let open = |table: &str, labels: Option<&[&str]>| {
        let path = folder.path().join("labels.csv");
        fs::write(&path, table).unwrap();
        assert!(Dataset::is_label_table(&path).unwrap());
        let mut options = DatasetOptions::new(0);
        options.labels = labels.map(|labels| labels.iter().map(|&label| label.to_owned()).collect());
        Dataset::open_multilabel(&path, &options).map(|(dataset, classes)| {
            let items = dataset.items().iter();
            let labels: Vec<Vec<u32>> = items.map(|item| item.labels.clone().unwrap().into_vec()).collect();
            (dataset, labels, classes.names.unwrap())
        })
    };
    let problem = |table: &str, labels: Option<&[&str]>| match open(table, labels) {
        Err(Error::Dataset { problem, .. }) => problem.to_string(),
        other => panic!("{other:?}"),
    };
    let columns =
        "\u{feff}path, sky ,\"sea, \"\"blue\"\"\"\r\na.png,1,0\r\n\"b, 2.png\", 0 ,1.0\r\n\r\nc.png,0,0\r\n";
    let (dataset, labels, found) = open(columns, None).unwrap();
    assert_eq!(found, ["sky", "sea, \"blue\""]);
    assert_eq!(labels, [vec![0], vec![1], vec![]]);
    assert_eq!(dataset.items()[1].path, Path::new("b, 2.png"));
    assert!(dataset.is_multilabel() && dataset.read(1).is_ok());
    // Of known classes the columns are found by name.
    let (_, labels, found) = open(columns, Some(&["sea, \"blue\"", "sky"])).unwrap();
    assert_eq!((&found[1][..], labels), ("sky", vec![vec![1], vec![0], vec![]]));
    assert_eq!(problem(columns, Some(&["sky"])), "its line 1 names `sea, \"blue\"`, which is no class");
    assert_eq!(problem(columns, Some(&["sky", "sun"])), "no column is named `sun`, which is a class");

    let by_name = "path,labels\na.png,sky; sea\n\"b, 2.png\",\nc.png,sun;sun\n";
    let (_, labels, found) = open(by_name, None).unwrap();
    assert_eq!(found, ["sea", "sky", "sun"]);
    assert_eq!(labels, [vec![0, 1], vec![], vec![2]]);
    let (_, labels, _) = open(by_name, Some(&["sun", "sky", "sea", "sand"])).unwrap();
    assert_eq!(labels, [vec![1, 2], vec![], vec![0]]);
    assert_eq!(problem(by_name, Some(&["sun", "sea"])), "its line 2 names `sky`, which is no class");

    // One column of 0 and 1 is a class.
    let (_, labels, found) = open("path,sky\na.png,1\nc.png,0\n", None).unwrap();
    assert_eq!((found, labels), (vec!["sky".to_owned()], vec![vec![0], vec![]]));
    // Not one label each, and no tables.
    let path = folder.path().join("labels.csv");
    assert!(matches!(refused(&path, &DatasetOptions::new(2)).0, DatasetProblem::SeveralClasses));
    assert_eq!(names(&Dataset::open_unlabelled(&path).unwrap()), owned(&[("a.png", 0), ("c.png", 0)]));
    for broken in [",", ",\n", "a,b", "path,\na.png,1\n", "path,x,y\n\n"] {
        problem(broken, None);
    }
    fs::write(folder.path().join("list.csv"), "a.png 0\n").unwrap();
    assert!(!Dataset::is_label_table(folder.path().join("list.csv")).unwrap());
}
