//! From the name of a folder to a class.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{DatasetProblem, Error};
use crate::labels::{class_of_wordnet_id, labels};

/// The classes that folders are named after.
pub(super) struct ClassNames {
    num_classes: usize,
    /// The classes by their names, if they have some; with a second one of the same name.
    by_name: Option<HashMap<String, (u32, Option<u32>)>>,
}

/// What the name of a folder says.
pub(super) enum NamedClass {
    /// This class.
    Known(u32),
    /// Not the name of a class.
    Unknown,
    /// The name of two classes.
    Twice(u32, u32),
    /// A class number that the network does not have.
    OutOfRange(u64),
    /// A WordNet id, where the classes are not ImageNet's.
    WordNet,
}

impl ClassNames {
    /// Those of these names, and WordNet ids and class numbers.
    pub fn new(num_classes: usize, labels: Option<&[String]>) -> Self {
        let by_name = labels.map(|labels| {
            let mut by_name: HashMap<String, (u32, Option<u32>)> = HashMap::new();
            for (class, name) in (0..).zip(labels) {
                by_name
                    .entry(name.clone())
                    .and_modify(|found| found.1 = Some(class))
                    .or_insert((class, None));
            }
            by_name
        });
        Self { num_classes, by_name }
    }

    /// What `name` says.
    pub fn class(&self, name: &str) -> NamedClass {
        match self.by_name.as_ref().and_then(|by_name| by_name.get(name)) {
            Some(&(class, None)) => return NamedClass::Known(class),
            Some(&(first, Some(second))) => return NamedClass::Twice(first, second),
            None => {}
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
    /// number, a WordNet id or the name of a class, of which none are given.
    pub fn are_in_order_of(&self, folders: &[String]) -> bool {
        let unknown = |name: &String| matches!(self.class(name), NamedClass::Unknown);
        self.by_name.is_none() && folders.len() == self.num_classes && folders.iter().all(unknown)
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
                let by_labels = self.by_name.is_some();
                DatasetProblem::UnknownFolder { name: owned(), by_labels, num_classes }
            }
            NamedClass::Twice(first, second) => DatasetProblem::SameName { name: owned(), first, second },
            NamedClass::OutOfRange(class) => DatasetProblem::FolderOutOfRange { class, num_classes },
            NamedClass::WordNet => DatasetProblem::WordNetFolder { name: owned(), num_classes },
        };
        Err(Error::dataset(path, problem))
    }
}
