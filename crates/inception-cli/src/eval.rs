//! `eval`

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use inception::data::{self, Dataset, DatasetOptions, LoaderOptions, ScanStats};
use inception::{
    Classifier, Details, EvalOptions, EvalReport, EvalSettings, ModelSpec, Other, Precision, Progress,
    RunOptions, Shard, StateFile, Weights, cores, dataset_hash, evaluate, evaluate_against, merge,
};

use crate::args::{self, NetworkArgs};
use crate::eval_labels::{self, LabelOptions};
use crate::misclassified::Misclassified;
use crate::progress::Bar;

/// The command: a run, or `eval merge`. By hand, because clap's derive cannot make all of a run's flags
/// optional at once.
pub enum Eval {
    Merge(Box<Merge>),
    Run(Box<Run>),
}

impl FromArgMatches for Eval {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand() {
            Some((_, matches)) => Ok(Self::Merge(Box::new(Merge::from_arg_matches(matches)?))),
            None => Ok(Self::Run(Box::new(Run::from_arg_matches(matches)?))),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Eval {
    fn augment_args(command: Command) -> Command {
        let merge = Command::new("merge")
            .about("Merge the shards of an evaluation: their --resume files or their --json output");
        Run::augment_args(command)
            .args_conflicts_with_subcommands(true)
            .subcommand(Merge::augment_args(merge))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[derive(Args)]
pub struct Merge {
    /// One file for each shard
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Output {
    /// Counts for each class, too
    #[arg(long)]
    per_class: bool,
    /// The confusion matrix, too
    #[arg(long)]
    confusion: bool,
    /// Write the pictures that were taken for something else to FILE, as CSV: picture, class, likeliest class
    /// and its probability; with --json they are in the object, too
    #[arg(long, value_name = "FILE")]
    misclassified: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    network: NetworkArgs,
    /// Labelled pictures: a folder with one folder a class (WordNet id or number), an archive of one (tar,
    /// tar.gz, zip), a list of `relative/path label` lines, ImageNet's own lists or the folder with one of
    /// them, or Parquet (a file or a folder of them; needs the feature `parquet`); for weights with a probability
    /// for each class by itself a table of labels, as `train` takes it
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Where the pictures of a list are, if not beside it: a folder or an archive
    #[arg(long, value_name = "PATH")]
    image_root: Option<PathBuf>,
    /// Names of the classes in their order, which are those of a folder's folders, too: one a line, `0 name`
    /// a line, or JSON
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Which files of a folder of Parquet files: what their names start with, as `validation`
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// What a list counts its first class as: 0, or 1
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1))]
    label_base: u32,
    /// Read JPEG files that end early, what is missing filled in grey
    #[arg(long)]
    accept_truncated: bool,
    /// Pictures in a batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// Threads that read and decode pictures [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,
    /// Only the first N pictures
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Only part I of N, counted from 0; `eval merge` merges the parts
    #[arg(long, value_name = "I/N", default_value = "0/1")]
    shard: Shard,
    /// Keep finished batches in FILE, and continue from there
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Fail if more than this share of the pictures cannot be used
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = args::share)]
    max_skipped: f64,
    /// Run the same pictures in DTYPE, too, and say how far the two are apart: top-1 and top-5 of both, the
    /// share with the same class, the pictures that differ most
    #[arg(long, value_name = "DTYPE", conflicts_with = "resume")]
    against: Option<Precision>,
    /// The weights for --against, as what was quantised [default: the same]
    #[arg(long, value_name = "FILE", requires = "against")]
    against_weights: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Eval {
    pub fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Merge(merge) => merge.run(),
            Self::Run(run) => run.run(),
        }
    }
}

impl Merge {
    fn run(&self) -> anyhow::Result<()> {
        let file = self.output.misclassified()?;
        let report = merge(&self.files, self.output.details())?;
        if self.output.per_class && report.classes.is_none() {
            stderrln!(
                "warning: not every file has counts for each class; its run needs --per-class or --resume"
            );
        }
        if self.output.confusion && report.confusion.is_none() {
            stderrln!(
                "warning: not every file has the confusion matrix; its run needs --confusion or --resume"
            );
        }
        if file.is_some() && report.misclassified.is_none() {
            bail!("not every file has the misclassified pictures; its run needs --misclassified or --resume");
        }
        self.output.print(&report, file)
    }
}

impl Output {
    fn details(&self) -> Details {
        Details {
            per_class: self.per_class,
            confusion: self.confusion,
            misclassified: self.misclassified.is_some(),
        }
    }

    /// The file of misclassified pictures, opened before hours of work, so that a bad name is no loss.
    fn misclassified(&self) -> anyhow::Result<Option<Misclassified>> {
        self.misclassified.as_deref().map(Misclassified::create).transpose()
    }

    /// Prints the report, and then writes the file of misclassified pictures.
    fn print(&self, report: &EvalReport, file: Option<Misclassified>) -> anyhow::Result<()> {
        let text = match self.json {
            true => serde_json::to_string(report)? + "\n",
            false => report.table(),
        };
        let mut out = stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        file.map_or(Ok(()), |file| file.finish(report.misclassified.as_deref().unwrap_or_default()))
    }
}

impl Run {
    fn run(&self) -> anyhow::Result<()> {
        if self.resume.is_some() && self.network.models.models.len() > 1 {
            bail!("--resume keeps the state of one model; run them one by one, each with a file of its own");
        }
        if self.output.misclassified.is_some() && self.network.models.models.len() > 1 {
            bail!("--misclassified is for one model; run them one by one, each with a file of its own");
        }
        let mut file = self.output.misclassified()?;
        let run_options = self.network.device.apply()?;
        for spec in &self.network.models.models {
            let (weights, classifier, warnings) =
                self.network.classifier(spec, &run_options, self.labels.as_deref())?;
            let preprocessing = *classifier.preprocessing();
            stderrln!("{}: {}", spec.name, serde_json::to_string(&preprocessing)?);

            let mut options = DatasetOptions::new(classifier.num_classes());
            options.image_root.clone_from(&self.image_root);
            // ImageNet's are those of networks of which nobody says anything else.
            let own = classifier.labels().filter(|&labels| labels != data::labels()).map(<[_]>::to_vec);
            let named = self.labels.as_ref().and(classifier.labels()).map(<[_]>::to_vec);
            options.labels = named.or_else(|| own.clone());
            options.split.clone_from(&self.split);
            (options.label_base, options.accept_truncated) = (self.label_base, self.accept_truncated);
            if Dataset::is_label_table(&self.data)? {
                self.refuse_for_labels()?;
                options.labels = classifier.labels().map(<[_]>::to_vec);
                let label_options = LabelOptions {
                    model: spec.name,
                    loader: LoaderOptions {
                        batch: self.batch.into(),
                        workers: self.options().workers,
                        prefetch: 2,
                    },
                    max_skipped: self.max_skipped,
                    per_class: self.output.per_class,
                    json: self.output.json,
                };
                eval_labels::evaluate(&classifier, &self.data, &options, &label_options, &warnings)?;
                continue;
            }
            let mut dataset = Dataset::open(&self.data, &options)?;
            if let Some(limit) = self.limit {
                dataset.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            }
            let stats = dataset.scan_stats();
            if stats != ScanStats::default() {
                stderrln!("{}: {stats}", self.data.display());
            }
            let settings = EvalSettings {
                model: spec.name.to_owned(),
                weights: weights
                    .identity()
                    .with_context(|| format!("reading the weights of {}", spec.name))?,
                device: run_options.description(),
                preprocessing,
                dataset: dataset_hash(&dataset),
                pictures: dataset.len(),
                classes: classifier.num_classes(),
                batch: self.batch.into(),
                labels: own,
            };
            let report = match self.other(spec, &weights, &run_options, &settings)? {
                Some(other) => self.evaluate_against(&classifier, other, &dataset, &settings, &warnings)?,
                None => self.evaluate(&classifier, &dataset, &settings, &warnings)?,
            };
            self.output.print(&report, file.take())?;
        }
        Ok(())
    }

    fn evaluate(
        &self,
        classifier: &Classifier,
        dataset: &Dataset,
        settings: &EvalSettings,
        warnings: &[String],
    ) -> anyhow::Result<EvalReport> {
        let mut state = match &self.resume {
            Some(path) => Some(StateFile::open(path, settings, self.shard)?),
            None => None,
        };
        if let (Some(path), true) = (&self.resume, state.as_ref().is_some_and(StateFile::torn)) {
            stderrln!("warning: the last batch in {} was not whole; it is computed again", path.display());
        }
        let options = self.options();
        let mut bar = Bar::new();
        let evaluation =
            evaluate(classifier.runner(), dataset, settings, &options, state.as_mut(), |progress| {
                let Progress { tally, done_now, done, total, .. } = progress;
                bar.name_skipped(tally.skipped.values());
                let (top1, top5) = (tally.top1_share() * 100.0, tally.top5_share() * 100.0);
                bar.show(done_now, done, total, &format!("top-1 {top1:.2} %  top-5 {top5:.2} %  "));
            });
        bar.finish();
        Ok(EvalReport::new(&evaluation?, warnings, self.output.details()))
    }

    /// Refuses what there is only for pictures of one class each.
    fn refuse_for_labels(&self) -> anyhow::Result<()> {
        let asked = [
            ("--resume", self.resume.is_some()),
            ("--shard", self.shard != Shard::WHOLE),
            ("--limit", self.limit.is_some()),
            ("--against", self.against.is_some()),
            ("--confusion", self.output.confusion),
            ("--misclassified", self.output.misclassified.is_some()),
        ];
        match asked.into_iter().find(|(_, asked)| *asked) {
            Some((flag, _)) => {
                bail!("{flag} is for pictures of one class each, and not for a table of labels")
            }
            None => Ok(()),
        }
    }

    fn options(&self) -> EvalOptions {
        EvalOptions {
            shard: self.shard,
            workers: self.workers.map_or_else(cores, usize::from),
            prefetch: 2,
            max_skipped: self.max_skipped,
            misclassified: self.output.misclassified.is_some(),
        }
    }

    /// The other run of --against: its network, its options in words, and its weights.
    fn other(
        &self,
        spec: &'static ModelSpec,
        weights: &Weights,
        options: &RunOptions,
        settings: &EvalSettings,
    ) -> anyhow::Result<Option<(Classifier, String, String)>> {
        let Some(precision) = self.against else { return Ok(None) };
        let options = options.clone().with_precision(precision);
        let weights = self.against_weights.clone().map_or_else(|| weights.clone(), Weights::File);
        let other = Classifier::with_preprocessing(spec, &weights, &options, |_| settings.preprocessing)?;
        let (found, wanted) = (other.num_classes(), settings.classes);
        ensure!(found == wanted, "the weights of --against have {found} classes, and the others {wanted}");
        for warning in other.warnings() {
            stderrln!("warning: {}, --against: {warning}", spec.name);
        }
        let identity = weights.identity().context("reading the weights of --against")?;
        Ok(Some((other, options.description(), identity)))
    }

    /// As [`evaluate`](Self::evaluate), and the same pictures by the other run.
    fn evaluate_against(
        &self,
        classifier: &Classifier,
        (other, device, weights): (Classifier, String, String),
        dataset: &Dataset,
        settings: &EvalSettings,
        warnings: &[String],
    ) -> anyhow::Result<EvalReport> {
        let other = Other { runner: other.runner(), device, weights };
        let (mut bar, total) = (Bar::new(), settings.pictures as u64);
        let runner = classifier.runner();
        let done = evaluate_against(runner, &other, dataset, settings, &self.options(), |tally, done| {
            bar.name_skipped(tally.skipped.values());
            bar.show(done, done, total, "");
        });
        bar.finish();
        let (evaluation, against) = done?;
        Ok(EvalReport::new(&evaluation, warnings, self.output.details()).with_against(against))
    }
}
