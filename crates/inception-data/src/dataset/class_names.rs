//! From the name of a folder to a class.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::error::{DatasetProblem, Error};
use crate::labels::{class_of_wordnet_id, labels};

/// The classes that folders are named after.
pub(super) struct ClassNames {
    num_classes: usize,
    /// The classes by the lines of a labels file, if there is one.
    by_line: Option<HashMap<String, u32>>,
}

/// What the name of a folder says.
pub(super) enum NamedClass {
    /// This class.
    Known(u32),
    /// Not the name of a class.
    Unknown,
    /// A class number that the network does not have.
    OutOfRange(u64),
    /// A WordNet id, where the classes are not ImageNet's.
    WordNet,
}

impl ClassNames {
    /// Those of a labels file, one name a line; without one WordNet ids or class numbers.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Dataset`] for a labels file of another length or with a name twice.
    pub fn new(num_classes: usize, labels_file: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = labels_file else { return Ok(Self { num_classes, by_line: None }) };
        let text = fs::read_to_string(path).map_err(Error::reading(path))?;
        let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().map(str::trim).collect();
        let found = lines.len() - lines.iter().rev().take_while(|line| line.is_empty()).count();
        if found != num_classes {
            return Err(Error::dataset(path, DatasetProblem::LabelsLength { expected: num_classes, found }));
        }
        let mut by_line = HashMap::new();
        for (class, line) in (0..).zip(&lines[..found]) {
            if let Some(first) = by_line.insert((*line).to_owned(), class) {
                let name = (*line).to_owned();
                return Err(Error::dataset(path, DatasetProblem::SameName { name, first, second: class }));
            }
        }
        Ok(Self { num_classes, by_line: Some(by_line) })
    }

    /// What `name` says.
    pub fn class(&self, name: &str) -> NamedClass {
        if let Some(by_line) = &self.by_line {
            return by_line.get(name).map_or(NamedClass::Unknown, |&class| NamedClass::Known(class));
        }
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = name.parse().unwrap_or(u64::MAX);
            return match u32::try_from(number) {
                Ok(class) if number < self.num_classes as u64 => NamedClass::Known(class),
                _ => NamedClass::OutOfRange(number),
            };
        }
        match class_of_wordnet_id(name) {
            Some(class) if self.num_classes == labels().len() => NamedClass::Known(class as u32),
            Some(_) => NamedClass::WordNet,
            None => NamedClass::Unknown,
        }
    }

    /// Whether `folders`, by name, can only be the classes in their order: there are as many, and none is a
    /// number, a WordNet id or a line of the labels file.
    pub fn are_in_order_of(&self, folders: &[OsString]) -> bool {
        let unknown = |name: &OsString| matches!(self.class(&name.to_string_lossy()), NamedClass::Unknown);
        self.by_line.is_none() && folders.len() == self.num_classes && folders.iter().all(unknown)
    }

    /// The class of the folder `name` of the dataset `path`.
    ///
    /// # Errors
    /// [`Error::Dataset`] if it is the name of none.
    pub fn class_or_error(&self, path: &Path, name: &str) -> Result<u32, Error> {
        let num_classes = self.num_classes;
        let owned = || name.to_owned();
        let problem = match self.class(name) {
            NamedClass::Known(class) => return Ok(class),
            NamedClass::Unknown => {
                DatasetProblem::UnknownFolder { name: owned(), by_labels: self.by_line.is_some() }
            }
            NamedClass::OutOfRange(class) => DatasetProblem::FolderOutOfRange { class, num_classes },
            NamedClass::WordNet => DatasetProblem::WordNetFolder { name: owned(), num_classes },
        };
        Err(Error::dataset(path, problem))
    }
}
