//! From a checkpoint to a network, all of it.

use std::collections::{HashMap, HashSet};

use burn::tensor::{Device, TensorData};
use inception_nn::{ModelSpec, Network, TensorInfo, load_tensors};

use crate::checkpoint::{Checkpoint, Dtype, Entry};
use crate::dialect::{Dialect, NameRow, name_table};
use crate::error::{Error, Problem};

/// A network with a checkpoint's weights.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The network.
    pub network: Network,
    /// Number of classes, found from the classifier's shape.
    pub num_classes: usize,
    /// Whose names the file used.
    pub dialect: Dialect,
    /// Our names of tensors in which a value is infinite or not a number.
    pub not_finite: Vec<String>,
}

/// Builds the network of `spec` with as many classes as `checkpoint` has, on `device`, and fills all of it.
///
/// # Errors
///
/// [`Error::Mismatch`] with every tensor that is missing, unknown, misshapen or of the wrong kind; [`Error::Io`] while
/// reading the values.
pub fn load(spec: &ModelSpec, checkpoint: &Checkpoint, device: &Device) -> Result<Loaded, Error> {
    let entries: HashMap<&str, &Entry> = checkpoint.entries.iter().map(|e| (e.key.as_str(), e)).collect();
    let published = spec.config().init(device)?;
    let known = |table: &[NameRow]| table.iter().filter(|row| entries.contains_key(row.key.as_str())).count();
    let tables = [Dialect::Native, Dialect::PaddleClas]
        .map(|dialect| (dialect, name_table(&published, spec.architecture, dialect)));
    let (dialect, table) =
        tables.into_iter().max_by_key(|(_, table)| known(table)).expect("there are dialects");

    let num_classes = table
        .iter()
        .find(|row| row.tensor.name == "head.fc.bias")
        .and_then(|row| entries.get(row.key.as_str()))
        .and_then(|entry| entry.shape.first().copied())
        .unwrap_or(spec.num_classes);
    let network = spec.config().with_num_classes(num_classes).init(device)?;
    let table = match num_classes == spec.num_classes {
        true => table,
        false => name_table(&network, spec.architecture, dialect),
    };
    let problems = differences(&table, checkpoint, &entries);
    if !problems.is_empty() {
        return Err(Error::Mismatch { path: checkpoint.path.clone(), model: spec.name, problems });
    }

    let mut rows = table.iter();
    let mut not_finite = Vec::new();
    let network = load_tensors(network, |info: &TensorInfo| {
        let row = rows.next().expect("a row for each tensor");
        let values = checkpoint.values(entries[row.key.as_str()])?;
        if values.iter().any(|v| !v.is_finite()) {
            not_finite.push(info.name.clone());
        }
        Ok::<_, Error>(Some(TensorData::new(values, info.shape.clone())))
    })?;
    Ok(Loaded { network, num_classes, dialect, not_finite })
}

/// Everything in which the file and the network differ.
fn differences(table: &[NameRow], checkpoint: &Checkpoint, entries: &HashMap<&str, &Entry>) -> Vec<Problem> {
    let wanted: HashSet<&str> = table.iter().map(|row| row.key.as_str()).collect();
    let unused = || checkpoint.entries.iter().filter(|e| !wanted.contains(e.key.as_str()));
    let of_network = table.iter().filter_map(|row| {
        let NameRow { tensor, key } = row;
        match entries.get(key.as_str()) {
            None => Some(Problem::Missing {
                key: key.clone(),
                shape: tensor.shape.clone(),
                nearest: unused()
                    .map(|e| (strsim::jaro_winkler(&e.key, key), &e.key))
                    .max_by(|a, b| a.0.total_cmp(&b.0))
                    .map(|(_, nearest)| nearest.clone()),
            }),
            Some(entry) if entry.shape != tensor.shape => Some(Problem::Shape {
                key: key.clone(),
                wanted: tensor.shape.clone(),
                found: entry.shape.clone(),
            }),
            Some(Entry { dtype: Dtype::Other(dtype), .. }) => {
                Some(Problem::Dtype { key: key.clone(), dtype: dtype.clone() })
            }
            Some(_) => None,
        }
    });
    let of_file = unused().map(|e| Problem::Unknown { key: e.key.clone(), shape: e.shape.clone() });
    of_network.chain(of_file).collect()
}
