//! Labelled pictures on a disk: folders, lists, archives.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::decode::decode;
use crate::labels::{class_of_wordnet_id, labels};
use crate::{DatasetProblem, Error, RgbImage};

/// The largest picture file that is read, in bytes: 2^29.
pub const MAX_FILE_BYTES: u64 = 1 << 29;

/// What [`Dataset::open`] has to know besides the path.
#[derive(Debug, Clone)]
pub struct DatasetOptions {
    /// Number of classes; a label beyond is an error.
    pub num_classes: usize,
    /// Where the pictures of a list are, if not beside it: a folder or a tar archive.
    pub image_root: Option<PathBuf>,
    /// A text file with one line a class, in the order of the class numbers: the name of its folder. Without it folders
    /// are named by WordNet id or by class number.
    pub labels: Option<PathBuf>,
    /// Which files of a folder of Parquet files: those whose name starts with this, as in `validation-00000-of-00014`.
    /// Needed where there is more than one such name.
    pub split: Option<String>,
}

impl DatasetOptions {
    /// `num_classes` classes, pictures beside their list, folders named by WordNet id or class number.
    pub const fn new(num_classes: usize) -> Self {
        Self { num_classes, image_root: None, labels: None, split: None }
    }
}

/// A picture and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Path relative to the dataset's root; in a Parquet file the name that it has for the picture.
    pub path: PathBuf,
    /// Its class, from 0.
    pub label: u32,
    /// Where its bytes start in the archive, and how many there are.
    at: Option<(u64, u64)>,
}

impl Item {
    pub(crate) fn new(path: PathBuf, label: u32) -> Self {
        Self { path, label, at: None }
    }
}

/// What was met besides ordinary pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encounters {
    /// Pictures that are symbolic links to files; they are used.
    pub links: usize,
    /// Hidden files and folders (`.name`), left out.
    pub hidden: usize,
    /// Files whose name is not a picture's, and what is no file at all, left out.
    pub foreign: usize,
    /// Links to folders inside a class, left out because they may lead in a circle.
    pub folder_links: usize,
    /// Classes that have a folder without a picture.
    pub empty_classes: usize,
}

/// Labelled pictures in a fixed order.
#[derive(Debug)]
pub struct Dataset {
    items: Vec<Item>,
    root: PathBuf,
    source: Source,
    encounters: Encounters,
}

/// What the pictures are in.
#[derive(Debug)]
enum Source {
    Files,
    Archive(Mutex<File>),
    #[cfg(feature = "parquet")]
    Parquet(Box<crate::parquet::ParquetFiles>),
}

impl Dataset {
    /// Lists the pictures of `path`, without opening any. What `path` is, is seen from its content:
    ///
    /// - **A folder** with a folder for each class, named by WordNet id (`n01440764`, the 1000 of ImageNet), by class
    ///   number from 0, or as a [labels file](DatasetOptions::labels) says. Order: the first picture of each class by
    ///   name, then the second of each and so on, so that the first N are of all classes.
    /// - **A list**: `relative/path label` a line, as PaddleClas has them (`val_list.txt`); the path may have spaces.
    ///   Order: that of the lines. A picture that is not there is found out only when it is read.
    /// - **A tar archive** of such folders, at any depth, read in place. The pictures of a list may be in one, too.
    /// - **A Parquet file**, or a folder of them without folders beside them, with a column of pictures (`{bytes, path}`)
    ///   and one of labels, as Hugging Face's hub ships ImageNet. Order: the files by name, the rows as they are. Needs
    ///   the feature `parquet`.
    ///
    /// # Errors
    /// [`Error::Read`] if something cannot be read, [`Error::List`] for a line that makes no sense, and
    /// [`Error::Dataset`] for everything that would give a wrong or an empty answer: no class, no picture, a folder that
    /// names no class, a label out of range, a labels file of another length, a list of which no picture is there.
    pub fn open(path: impl AsRef<Path>, options: &DatasetOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let folders = Folders::new(options)?;
        let dataset = match Kind::of(path)? {
            Kind::Folder => from_folder(path, &folders)?,
            Kind::Archive => from_archive(path, &folders)?,
            Kind::Text => from_list(path, options)?,
            Kind::Parquet => from_parquet(path, options)?,
        };
        if dataset.items.is_empty() {
            return Err(problem(path, DatasetProblem::NoPictures { encounters: dataset.encounters }));
        }
        Ok(dataset)
    }

    /// All pictures.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none; never so after [`open`](Self::open).
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Keeps the first `len` pictures.
    pub fn truncate(&mut self, len: usize) {
        self.items.truncate(len);
    }

    /// What was met besides ordinary pictures.
    pub fn encounters(&self) -> Encounters {
        self.encounters
    }

    /// Reads the file of picture `index` into `bytes`, whose content is replaced.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be read, is no file, or is larger than [`MAX_FILE_BYTES`].
    pub fn read_bytes(&self, index: usize, bytes: &mut Vec<u8>) -> Result<(), Error> {
        bytes.clear();
        let Some(item) = self.items.get(index) else {
            let source = io::Error::new(io::ErrorKind::NotFound, "the dataset has no such picture");
            return Err(Error::Read { path: self.root.clone(), source });
        };
        #[cfg(feature = "parquet")]
        if let Source::Parquet(files) = &self.source {
            let read = files.read(index, bytes).and_then(|()| check_len(bytes.len() as u64));
            return read.map_err(|source| Error::Read { path: files.file(index).to_owned(), source });
        }
        let path = self.root.join(&item.path);
        let mut read = || -> io::Result<()> {
            if let (Source::Archive(archive), Some((start, len))) = (&self.source, item.at) {
                check_len(len)?;
                // A thread that panicked while it held the file has left nothing half-done: each seeks first.
                let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
                archive.seek(SeekFrom::Start(start))?;
                (&mut *archive).take(len).read_to_end(bytes)?;
                return match bytes.len() as u64 == len {
                    true => Ok(()),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            // Opening a pipe would wait for somebody to write to it.
            let metadata = fs::metadata(&path)?;
            if !metadata.is_file() {
                return Err(io::Error::other("it is not a file"));
            }
            check_len(metadata.len())?;
            File::open(&path)?.take(MAX_FILE_BYTES + 1).read_to_end(bytes)?;
            check_len(bytes.len() as u64)
        };
        read().map_err(|source| Error::Read { path: path.clone(), source })
    }

    /// Reads and decodes picture `index`.
    ///
    /// # Errors
    /// As [`read_bytes`](Self::read_bytes) and [`decode`].
    pub fn read(&self, index: usize) -> Result<RgbImage, Error> {
        let mut bytes = Vec::new();
        self.read_bytes(index, &mut bytes)?;
        decode(&bytes)
    }
}

fn check_len(len: u64) -> io::Result<()> {
    match len <= MAX_FILE_BYTES {
        true => Ok(()),
        false => Err(io::Error::other(format!("{len} bytes, more than the limit of {MAX_FILE_BYTES}"))),
    }
}

fn problem(path: &Path, problem: DatasetProblem) -> Error {
    Error::Dataset { path: path.to_owned(), problem: Box::new(problem) }
}

fn reading(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Read { path: path.to_owned(), source }
}

/// What a path is.
enum Kind {
    Folder,
    Archive,
    Text,
    Parquet,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(reading(path))?;
        if metadata.is_dir() {
            return Ok(if holds_parquet(path)? { Self::Parquet } else { Self::Folder });
        }
        if !metadata.is_file() {
            return Err(problem(path, DatasetProblem::UnknownKind));
        }
        let mut head = Vec::new();
        File::open(path).and_then(|file| file.take(512).read_to_end(&mut head)).map_err(reading(path))?;
        const COMPRESSED: [(&[u8], &str); 4] =
            [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz")];
        if let Some((_, format)) = COMPRESSED.into_iter().find(|(magic, _)| head.starts_with(magic)) {
            return Err(problem(path, DatasetProblem::Compressed { format }));
        }
        if head.starts_with(b"PAR1") {
            return Ok(Self::Parquet);
        }
        let named_tar = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"));
        if named_tar || head.get(257..262) == Some(b"ustar") {
            return Ok(Self::Archive);
        }
        match head.contains(&0) {
            true => Err(problem(path, DatasetProblem::UnknownKind)),
            false => Ok(Self::Text),
        }
    }
}

/// Which class a folder's name stands for.
struct Folders {
    num_classes: usize,
    named: Option<HashMap<String, u32>>,
}

/// What a folder's name says.
enum Class {
    Number(u32),
    /// Not a class's name, as far as one can see.
    Unknown,
    OutOfRange(u64),
    /// A WordNet id, where the classes are not ImageNet's.
    WordNet,
}

impl Folders {
    fn new(options: &DatasetOptions) -> Result<Self, Error> {
        let num_classes = options.num_classes;
        let Some(path) = &options.labels else { return Ok(Self { num_classes, named: None }) };
        let text = fs::read_to_string(path).map_err(reading(path))?;
        let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().map(str::trim).collect();
        let found = lines.len() - lines.iter().rev().take_while(|line| line.is_empty()).count();
        if found != num_classes {
            return Err(problem(path, DatasetProblem::LabelsLength { expected: num_classes, found }));
        }
        let mut named = HashMap::new();
        for (class, line) in (0..).zip(&lines[..found]) {
            if let Some(first) = named.insert((*line).to_owned(), class) {
                let name = (*line).to_owned();
                return Err(problem(path, DatasetProblem::SameName { name, first, second: class }));
            }
        }
        Ok(Self { num_classes, named: Some(named) })
    }

    fn class(&self, name: &str) -> Class {
        if let Some(named) = &self.named {
            return named.get(name).map_or(Class::Unknown, |&class| Class::Number(class));
        }
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = name.parse().unwrap_or(u64::MAX);
            return match u32::try_from(number) {
                Ok(class) if number < self.num_classes as u64 => Class::Number(class),
                _ => Class::OutOfRange(number),
            };
        }
        match class_of_wordnet_id(name) {
            Some(class) if self.num_classes == labels().len() => Class::Number(class as u32),
            Some(_) => Class::WordNet,
            None => Class::Unknown,
        }
    }

    /// The class of the folder `name` of the dataset `path`.
    fn class_or_error(&self, path: &Path, name: &str) -> Result<u32, Error> {
        let (name, num_classes) = (name.to_owned(), self.num_classes);
        Err(problem(
            path,
            match self.class(&name) {
                Class::Number(class) => return Ok(class),
                Class::Unknown => DatasetProblem::UnknownFolder { name, by_labels: self.named.is_some() },
                Class::OutOfRange(class) => DatasetProblem::FolderOutOfRange { class, num_classes },
                Class::WordNet => DatasetProblem::WordNetFolder { name, num_classes },
            },
        ))
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a file's name is a picture's. Formats that cannot be read are among them, so that such pictures are reported
/// rather than passed over.
fn is_picture(path: &Path) -> bool {
    const EXTENSIONS: [&str; 18] = [
        "jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "pbm",
        "avif", "heic", "heif", "jp2", "jxl",
    ];
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|found| EXTENSIONS.iter().any(|known| found.eq_ignore_ascii_case(known)))
}

/// One picture of each class in turn, each class's by name.
fn in_turn(mut items: Vec<Item>) -> Vec<Item> {
    items.sort_by(|a, b| (a.label, &a.path).cmp(&(b.label, &b.path)));
    let mut turn = 0;
    let mut turns = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        turn = if index > 0 && items[index - 1].label == item.label { turn + 1 } else { 0 };
        turns.push(turn);
    }
    let mut order: Vec<(usize, Item)> = turns.into_iter().zip(items).collect();
    // Stable: within a turn the order by class stays.
    order.sort_by_key(|(turn, _)| *turn);
    order.into_iter().map(|(_, item)| item).collect()
}

/// The entries of a folder by name.
fn entries(path: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(reading(path))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

fn from_folder(root: &Path, folders: &Folders) -> Result<Dataset, Error> {
    let mut encounters = Encounters::default();
    let mut items = Vec::new();
    let mut classes: HashMap<u32, String> = HashMap::new();
    for entry in entries(root)? {
        let name = entry.file_name();
        if is_hidden(&name) {
            encounters.hidden += 1;
            continue;
        }
        // A class's folder may be a link: that is how subsets are made.
        if !fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir()) {
            encounters.foreign += 1;
            continue;
        }
        let shown = name.to_string_lossy().into_owned();
        let label = folders.class_or_error(root, &shown)?;
        if let Some(first) = classes.insert(label, shown.clone()) {
            return Err(problem(root, DatasetProblem::SameClass { class: label, first, second: shown }));
        }
        let before = items.len();
        walk(root, Path::new(&name), label, &mut items, &mut encounters)?;
        encounters.empty_classes += usize::from(items.len() == before);
    }
    if classes.is_empty() {
        return Err(problem(root, DatasetProblem::NoClasses { encounters }));
    }
    Ok(Dataset { items: in_turn(items), root: root.to_owned(), source: Source::Files, encounters })
}

/// Collects the pictures below `root/folder`.
fn walk(
    root: &Path,
    folder: &Path,
    label: u32,
    items: &mut Vec<Item>,
    encounters: &mut Encounters,
) -> Result<(), Error> {
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        let full = root.join(&folder);
        for entry in entries(&full)? {
            let name = entry.file_name();
            let path = folder.join(&name);
            let kind = entry.file_type().map_err(reading(&full))?;
            if is_hidden(&name) {
                encounters.hidden += 1;
            } else if kind.is_dir() {
                pending.push(path);
            } else if kind.is_symlink() && fs::metadata(root.join(&path)).is_ok_and(|m| m.is_dir()) {
                encounters.folder_links += 1;
            } else if (kind.is_file() || kind.is_symlink()) && is_picture(&path) {
                // A link to nothing stays: its picture is missing, which has to be noticed.
                encounters.links += usize::from(kind.is_symlink());
                items.push(Item::new(path, label));
            } else {
                encounters.foreign += 1;
            }
        }
    }
    Ok(())
}

/// The files of an archive, whatever they are, with a label of 0.
fn archive_files(path: &Path, encounters: &mut Encounters) -> Result<(File, Vec<Item>), Error> {
    let damaged = |source| problem(path, DatasetProblem::Archive { source });
    let file = File::open(path).map_err(reading(path))?;
    let mut archive = tar::Archive::new(file);
    let mut files = Vec::new();
    let mut end = 0;
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        end = entry.raw_file_position().saturating_add(entry.size());
        end = end.checked_next_multiple_of(512).unwrap_or(u64::MAX);
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let name = entry.path().map_err(damaged)?;
        // "./a/b" and "a/b" are the same.
        let name: PathBuf = name.components().filter(|part| *part != std::path::Component::CurDir).collect();
        if name.iter().any(is_hidden) {
            encounters.hidden += 1;
        } else if kind.is_file() || kind.is_contiguous() {
            let at = Some((entry.raw_file_position(), entry.size()));
            files.push(Item { path: name, label: 0, at });
        } else {
            encounters.foreign += 1;
        }
    }
    let file = archive.into_inner();
    // Empty blocks close an archive; without them what follows has been cut off.
    if file.metadata().map_err(reading(path))?.len() < end.saturating_add(512) {
        return Err(damaged(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends without an end mark")));
    }
    Ok((file, files))
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// Whether a folder has Parquet files and no folder beside them.
fn holds_parquet(root: &Path) -> Result<bool, Error> {
    let mut found = false;
    for entry in entries(root)?.iter().filter(|entry| !is_hidden(&entry.file_name())) {
        if fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(false);
        }
        found |= is_parquet(&entry.path());
    }
    Ok(found)
}

/// What a Parquet file is a part of, and of how many parts: `validation` and 14 of `validation-00000-of-00014`.
fn split_of(path: &Path) -> (String, Option<usize>) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let words: Vec<&str> = stem.split(['-', '_', '.']).collect();
    let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
    let name = words.iter().take_while(|word| !is_number(word)).copied().collect::<Vec<_>>().join("-");
    let of = words.iter().position(|word| *word == "of").and_then(|at| words.get(at + 1)?.parse().ok());
    (name, of)
}

/// The files of a folder that make up what is asked for, by name.
fn parquet_files(root: &Path, split: Option<&str>) -> Result<(Vec<PathBuf>, Encounters), Error> {
    let mut encounters = Encounters::default();
    let mut splits: BTreeMap<String, (Vec<PathBuf>, Option<usize>)> = BTreeMap::new();
    for entry in entries(root)? {
        if is_hidden(&entry.file_name()) {
            encounters.hidden += 1;
        } else if is_parquet(&entry.path()) {
            let (name, of) = split_of(&entry.path());
            let (files, parts) = splits.entry(name).or_default();
            files.push(entry.path());
            *parts = of;
        } else {
            encounters.foreign += 1;
        }
    }
    let names = || splits.keys().cloned().collect();
    let chosen = match split {
        Some(name) => splits.get(name),
        None if splits.len() == 1 => splits.values().next(),
        None => None,
    };
    let Some((files, parts)) = chosen else {
        return Err(problem(root, DatasetProblem::Splits { found: names() }));
    };
    match *parts {
        Some(parts) if parts != files.len() => {
            let found = files.len();
            Err(problem(root, DatasetProblem::MissingParts { found, parts }))
        }
        _ => Ok((files.clone(), encounters)),
    }
}

fn from_parquet(path: &Path, options: &DatasetOptions) -> Result<Dataset, Error> {
    let (files, encounters) = match path.is_dir() {
        true => parquet_files(path, options.split.as_deref())?,
        false => (vec![path.to_owned()], Encounters::default()),
    };
    #[cfg(feature = "parquet")]
    {
        let (files, items) = crate::parquet::ParquetFiles::open(&files, options.num_classes)?;
        Ok(Dataset { items, root: path.to_owned(), source: Source::Parquet(Box::new(files)), encounters })
    }
    #[cfg(not(feature = "parquet"))]
    {
        let _ = (files, encounters);
        Err(problem(path, DatasetProblem::NeedsFeature { format: "Parquet", feature: "parquet" }))
    }
}

fn from_archive(path: &Path, folders: &Folders) -> Result<Dataset, Error> {
    let mut encounters = Encounters::default();
    let (file, files) = archive_files(path, &mut encounters)?;
    let mut items = Vec::new();
    for mut item in files {
        if !is_picture(&item.path) {
            encounters.foreign += 1;
            continue;
        }
        // The innermost folder that names a class; else the innermost one, for the message.
        let above: Vec<String> =
            item.path.iter().rev().skip(1).map(|part| part.to_string_lossy().into_owned()).collect();
        let class = above.iter().find(|part| !matches!(folders.class(part), Class::Unknown));
        item.label = match class.or(above.first()) {
            Some(folder) => folders.class_or_error(path, folder)?,
            None => return Err(problem(path, DatasetProblem::NoClasses { encounters })),
        };
        items.push(item);
    }
    let source = Source::Archive(Mutex::new(file));
    Ok(Dataset { items: in_turn(items), root: path.to_owned(), source, encounters })
}

fn from_list(path: &Path, options: &DatasetOptions) -> Result<Dataset, Error> {
    let text = fs::read(path).map_err(reading(path))?;
    let Ok(text) = String::from_utf8(text) else {
        return Err(problem(path, DatasetProblem::UnknownKind));
    };
    let mut encounters = Encounters::default();
    let root = match &options.image_root {
        Some(root) => root.clone(),
        None => path.parent().unwrap_or(Path::new("")).to_owned(),
    };
    let (source, positions) = match &options.image_root {
        Some(root) if matches!(Kind::of(root)?, Kind::Archive) => {
            let (file, files) = archive_files(root, &mut encounters)?;
            let positions: HashMap<_, _> =
                files.into_iter().filter_map(|item| Some((item.path, item.at?))).collect();
            (Source::Archive(Mutex::new(file)), positions)
        }
        _ => (Source::Files, HashMap::new()),
    };

    let mut items = Vec::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |label: &str| Error::List {
            path: path.to_owned(),
            line: number,
            label: label.to_owned(),
            num_classes: options.num_classes,
        };
        // Paths may have spaces, labels have none.
        let (name, label) = line.rsplit_once([' ', '\t']).ok_or_else(|| wrong(""))?;
        let class = label.parse::<u32>().ok().filter(|&class| (class as usize) < options.num_classes);
        let name = Path::new(name.trim_end());
        let plain: PathBuf = name.components().filter(|part| *part != std::path::Component::CurDir).collect();
        let at = positions.get(&plain).copied();
        items.push(Item { path: name.to_owned(), label: class.ok_or_else(|| wrong(label))?, at });
    }
    // One missing picture is the picture's fault, all of them are the folder's.
    let found = |item: &Item| match source {
        Source::Archive(_) => item.at.is_some(),
        _ => root.join(&item.path).exists(),
    };
    if !items.is_empty() && !items.iter().any(found) {
        return Err(problem(path, DatasetProblem::AllMissing { count: items.len(), root }));
    }
    Ok(Dataset { items, root, source, encounters })
}
