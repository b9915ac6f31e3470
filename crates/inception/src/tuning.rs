//! Measured choices of kernels, kept on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use inception_engine::graph::Graph;
use inception_engine::{Isa, Options, Picks, choices, picks, picks_pay};
use inception_nn::fnv1a;
use inception_weights::PartFile;
use serde::{Deserialize, Serialize};

use crate::cpu::cpu_name;
use crate::error::Error;

/// Runs of each layer by each algorithm.
const REPEATS: usize = 15;

/// Runs of the whole network with and without what was found.
const RUNS: usize = 25;

/// What a measurement holds for: another machine, build or network is measured anew.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TuningKey {
    cpu: String,
    instruction_set: String,
    threads: usize,
    precision: String,
    version: String,
    /// Hash of names, operations, shapes and sizes of all nodes; not of weights.
    graph: u64,
}

impl TuningKey {
    fn new(graph: &Graph, options: &Options) -> Self {
        let node = |node: &inception_engine::graph::Node| {
            format!("{:?}", (&node.name, node.op.name(), &node.inputs, node.shape.to_string(), node.macs()))
        };
        let nodes: String = graph.nodes.iter().map(node).collect();
        Self {
            cpu: cpu_name(),
            // Where it cannot be used, measuring says so.
            instruction_set: options.isa.or_else(|| Isa::chosen().ok()).unwrap_or_else(Isa::best).to_string(),
            threads: options.pool.as_ref().map_or(options.threads, |pool| pool.count()),
            precision: options.precision.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: fnv1a(nodes.as_bytes()),
        }
    }

    /// Its file in `folder`.
    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{:016x}.json", fnv1a(format!("{self:?}").as_bytes())))
    }
}

/// A file.
#[derive(Serialize, Deserialize)]
struct Tuning {
    key: TuningKey,
    /// Names of kernels by names of nodes.
    picks: BTreeMap<String, String>,
}

impl Tuning {
    fn new(key: TuningKey, picks: &Picks) -> Self {
        let picks = picks.iter().map(|(node, kernel)| (node.clone(), kernel.to_string())).collect();
        Self { key, picks }
    }

    /// The picks. A kernel that this version does not have is left to the cost model.
    fn picks(&self) -> Picks {
        let known = |(node, kernel): (&String, &String)| Some((node.clone(), kernel.parse().ok()?));
        self.picks.iter().filter_map(known).collect()
    }
}

/// The kernels that are fastest here for the layers of `graph`, where they are not those that the cost model
/// picks: from `folder`, or measured and kept there.
///
/// # Errors
///
/// [`Error::Tuning`] where the folder cannot be written, before anything is measured; [`Error::Engine`].
pub(crate) fn tuned(graph: &Graph, options: &Options, folder: &Path) -> Result<Picks, Error> {
    let key = TuningKey::new(graph, options);
    let path = key.file(folder);
    // What cannot be read, or is of something else, is measured again.
    let kept = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Tuning>(&bytes).ok());
    if let Some(kept) = kept.filter(|kept| kept.key == key) {
        return Ok(kept.picks());
    }
    let failed = |source: io::Error| Error::Tuning { path: path.clone(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = PartFile::create(&path).map_err(failed)?;
    let picks = measured(graph, options)?;
    serde_json::to_writer_pretty(&mut file, &Tuning::new(key, &picks))
        .map_err(|error| failed(error.into()))?;
    file.finish().map_err(failed)?;
    Ok(picks)
}

/// The faster kernels, or none if the network is no faster for them.
fn measured(graph: &Graph, options: &Options) -> Result<Picks, inception_engine::Error> {
    let found = picks(&choices(graph, options, REPEATS)?);
    let pays = !found.is_empty() && picks_pay(graph, options, &found, RUNS)?;
    Ok(if pays { found } else { Picks::new() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;
    use crate::options::RunOptions;
    use crate::runner::Runner;
    use inception_engine::{Algorithm, KernelName};

    #[test]
    fn a_measurement_is_kept_and_used() {
        let config = inception_nn::model("GoogLeNet").unwrap().config().with_num_classes(2);
        let folder = tempfile::tempdir().unwrap();
        let tuning_folder = folder.path().join("tuning");
        let options = RunOptions { tune: Some(tuning_folder.clone()), threads: 1, ..RunOptions::default() };
        let kernels = || {
            let runner = Runner::build(|device| Ok(config.init(device)?), [96, 96], &options).unwrap();
            let compiled = runner.compiled().unwrap();
            compiled.explain().iter().map(|row| (row.node.clone(), row.kernel)).collect::<Vec<_>>()
        };
        let measured = kernels();
        let files: Vec<_> =
            fs::read_dir(&tuning_folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = &files[..] else { panic!("{files:?}") };
        let by_winograd = |(_, kernel): &&(String, Option<KernelName>)| {
            kernel.is_some_and(|kernel| kernel.algorithm() == Algorithm::Winograd)
        };
        let (node, _) = measured.iter().find(by_winograd).expect("a layer by Winograd's algorithm");

        // The file is what the second start goes by.
        let mut tuning: Tuning = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        assert_eq!(tuning.key.threads, 1);
        tuning.picks.insert(node.clone(), "direct".to_owned());
        fs::write(file, serde_json::to_vec(&tuning).unwrap()).unwrap();
        assert!(kernels().contains(&(node.clone(), Some("direct".parse().unwrap()))));

        // A kernel that only another version has is left to the cost model.
        tuning.picks = [(node.clone(), "winograd F(8x8,3x3)".to_owned())].into();
        fs::write(file, serde_json::to_vec(&tuning).unwrap()).unwrap();
        let chosen = kernels();
        let (_, kernel) = chosen.iter().find(|(name, _)| name == node).unwrap();
        assert_eq!(kernel.unwrap().algorithm(), Algorithm::Winograd);

        // One of another machine, or a damaged one, is not.
        tuning.key.cpu = "another".to_owned();
        for bytes in [serde_json::to_vec(&tuning).unwrap(), b"{".to_vec()] {
            fs::write(file, bytes).unwrap();
            kernels();
            let again: Tuning = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            assert_eq!(again.key.cpu, cpu_name());
        }
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_said_before_measuring() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = RunOptions { tune: Some(file.path().to_owned()), ..RunOptions::default() };
        let config = inception_nn::model("GoogLeNet").unwrap().config().with_num_classes(2);
        let error = Runner::build(|device| Ok(config.init(device)?), [96, 96], &options).unwrap_err();
        assert!(error.to_string().contains("tuning"), "{error}");
    }
}
