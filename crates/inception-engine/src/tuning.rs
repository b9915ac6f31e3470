//! Is the plan a good one? Its choices of algorithms against the clock, and what more threads would make of it.

use std::time::{Duration, Instant};

use crate::graph::Graph;
use crate::plan::{Picks, Rule};
use crate::steps::RunConfig;
use crate::{Compiled, Error, Options, Threads};

/// One way to compute a layer.
#[derive(Clone, Debug)]
pub struct Alternative {
    /// The kernel.
    pub kernel: String,
    /// What the cost model expects: its multiply-adds at the rate at which the picked kernels did theirs (the median over
    /// layers).
    pub predicted: Duration,
    /// Median time.
    pub median: Duration,
    /// A tenth of the runs were faster than the first, a tenth slower than the second.
    pub deciles: [Duration; 2],
}

/// A layer with every algorithm that can compute it.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The nodes that one step computes together.
    pub nodes: Vec<String>,
    /// The plan's pick comes first.
    pub alternatives: Vec<Alternative>,
}

impl Choice {
    /// The best alternative, if it is faster than the pick by more than the noise: a tenth of the pick's runs, at the most, were
    /// as fast as nine tenths of the other's.
    fn better(&self) -> Option<&Alternative> {
        let [pick, others @ ..] = &self.alternatives[..] else { return None };
        let better = others.iter().filter(|other| other.deciles[1] < pick.deciles[0]);
        better.min_by_key(|other| other.median)
    }

    /// How many times as long the pick takes as the best alternative, if that is more than the noise.
    pub fn lag(&self) -> Option<f64> {
        let best = self.better()?;
        Some(self.alternatives.first()?.median.as_secs_f64() / best.median.as_secs_f64())
    }
}

/// The kernels that were faster than the plan's picks by more than the noise, for [`Options::picks`].
pub fn picks(choices: &[Choice]) -> Picks {
    let pick = |choice: &Choice| Some((choice.nodes.first()?.clone(), choice.better()?.kernel.clone()));
    choices.iter().filter_map(pick).collect()
}

/// Whether a whole run is faster with `picks` than with those of `options`, by the medians of `repeats` runs of each in
/// alternation on one image. Layers that were faster one by one need not be so together: each was timed among
/// neighbours that may have changed, and of a hundred comparisons some are won by noise.
///
/// # Errors
/// As [`Compiled::from_graph`].
pub fn picks_pay(graph: &Graph, options: &Options, picks: &Picks, repeats: usize) -> Result<bool, Error> {
    let pool = options.pool.clone().unwrap_or_else(|| Threads::new(options.threads));
    let now = Options { pool: Some(pool), ..options.clone() };
    let then = Options { picks: picks.clone(), ..now.clone() };
    let models = [Compiled::from_graph(graph.clone(), &now)?, Compiled::from_graph(graph.clone(), &then)?];
    let input = noise(models[0].input_shape().len());
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..repeats.max(1) + 1 {
        for (model, times) in models.iter().zip(&mut times) {
            let start = Instant::now();
            model.run(&input, 1)?;
            // The first round allocates.
            if round > 0 {
                times.push(start.elapsed());
            }
        }
    }
    let [now, then] = times.map(|mut times| quantiles(&mut times).0);
    Ok(then < now)
}

/// What networks are timed on: fixed values, spread over what normalised images hold, without structure.
pub fn noise(len: usize) -> Vec<f32> {
    let value = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7 & 0xffff) as f32 / 16384.0 - 2.0;
    (0..len).map(value).collect()
}

/// Median, and first and last decile.
fn quantiles(times: &mut [Duration]) -> (Duration, [Duration; 2]) {
    times.sort_unstable();
    let at = |tenths: usize| times[(times.len() - 1) * tenths / 10];
    (at(5), [at(1), at(9)])
}

/// Times every convolution of a graph by every algorithm that can compute it, `repeats` times in alternation on batches of
/// one image, each among its neighbours, so that data lies in the caches as it does in a run.
///
/// # Errors
/// As [`Compiled::from_graph`].
pub fn choices(graph: &Graph, options: &Options, repeats: usize) -> Result<Vec<Choice>, Error> {
    let pool = options.pool.clone().unwrap_or_else(|| Threads::new(options.threads));
    let options = Options { pool: Some(pool), ..options.clone() };
    let models = [Rule::Cheapest, Rule::Direct, Rule::Winograd(0), Rule::Winograd(1), Rule::Strassen]
        .map(|rule| Compiled::by_rule(graph.clone(), &options, &rule));
    let models = models.into_iter().collect::<Result<Vec<_>, Error>>()?;
    let input = noise(models[0].input_shape().len());
    let mut times: Vec<Vec<Vec<Duration>>> =
        models.iter().map(|model| vec![Vec::new(); model.plan().steps.len()]).collect();
    for round in 0..repeats.max(1) + 1 {
        for (model, times) in models.iter().zip(&mut times) {
            for (times, time) in times.iter_mut().zip(model.time_steps(&input, 1)?) {
                // The first round allocates.
                if round > 0 {
                    times.push(time);
                }
            }
        }
    }
    // The plans differ in kernels only: a step has the same number in each.
    let steps = (0..models[0].plan().steps.len()).filter(|&step| models[0].plan().steps[step].cost > 0.0);
    let mut choices = Vec::new();
    let mut rates = Vec::new();
    for step in steps {
        let mut alternatives: Vec<(f64, Alternative)> = Vec::new();
        for (model, times) in models.iter().zip(&mut times) {
            let planned = &model.plan().steps[step];
            let kernel = planned.step.kernel();
            if alternatives.iter().any(|(_, known)| known.kernel == kernel) {
                continue;
            }
            let (median, deciles) = quantiles(&mut times[step]);
            let alternative = Alternative { kernel, predicted: Duration::ZERO, median, deciles };
            alternatives.push((planned.cost, alternative));
        }
        let (cost, pick) = &alternatives[0];
        rates.push(pick.median.as_secs_f64() / cost);
        choices.push((models[0].nodes_of(step), alternatives));
    }
    rates.sort_unstable_by(f64::total_cmp);
    let second_per_mac = rates.get(rates.len() / 2).copied().unwrap_or(0.0);
    let predict = |(cost, alternative): (f64, Alternative)| Alternative {
        predicted: Duration::from_secs_f64(cost * second_per_mac),
        ..alternative
    };
    let choice = |(nodes, alternatives): (Vec<String>, Vec<_>)| Choice {
        nodes,
        alternatives: alternatives.into_iter().map(predict).collect(),
    };
    Ok(choices.into_iter().map(choice).collect())
}

/// What a number of threads would make of a plan.
#[derive(Clone, Debug)]
pub struct Scaling {
    /// Threads.
    pub threads: usize,
    /// Expected time of a run: of each wave, that of the thread that has most to do.
    pub time: Duration,
    /// The time of one thread over `threads` times `time`: one if every thread were busy all the time.
    pub share_of_ideal: f64,
    /// The waves, those in which most time is lost first.
    pub waits: Vec<Wait>,
}

/// A wave between two meetings of the threads.
#[derive(Clone, Debug)]
pub struct Wait {
    /// The nodes that it computes.
    pub nodes: Vec<String>,
    /// The tasks that it splits into.
    pub tasks: usize,
    /// Its work, in time of one thread.
    pub work: Duration,
    /// How much longer it takes than if its work were spread evenly.
    pub lost: Duration,
}

impl Compiled {
    /// What each number of threads in `counts` would make of a run of `batch` images: an analysis of the plan from the time
    /// that each step takes one thread now (the model must have been compiled for one), not a measurement. A step's
    /// time is spread over its tasks evenly, the thread with the least to do takes the next task (in a run a thread that has
    /// done its share takes what others have left), and they meet after each wave. Meetings themselves (some tenths of a microsecond each, [`Compiled::waves`] of them) and what threads take
    /// from each other in caches and memory are not counted.
    ///
    /// # Errors
    /// As [`Compiled::run`].
    pub fn scaling(&self, batch: usize, repeats: usize, counts: &[usize]) -> Result<Vec<Scaling>, Error> {
        let input = noise(batch * self.input_shape().len());
        let mut samples = self.sample_steps(&input, batch, repeats)?;
        let times: Vec<f64> = samples.iter_mut().map(|s| quantiles(s).0.as_secs_f64()).collect();
        let alone: f64 = times.iter().sum();
        let at = |threads: usize| {
            let config = RunConfig { kernels: self.kernels(), threads, batch };
            let mut waits = Vec::new();
            let mut time = 0.0;
            for wave in &self.plan().waves {
                let work: f64 = wave.iter().map(|&step| times[step]).sum();
                let tasks = |step: usize| self.plan().steps[step].step.tasks(&config).max(1);
                let mut busy = vec![0.0f64; threads.max(1)];
                for &step in wave {
                    for _ in 0..tasks(step) {
                        let first = busy.iter_mut().min_by(|a, b| a.total_cmp(b));
                        first.into_iter().for_each(|busy| *busy += times[step] / tasks(step) as f64);
                    }
                }
                let longest = busy.into_iter().fold(0.0, f64::max);
                time += longest;
                let lost = Duration::from_secs_f64((longest - work / threads as f64).max(0.0));
                let nodes = wave.iter().flat_map(|&step| self.nodes_of(step)).collect();
                let tasks = wave.iter().map(|&step| tasks(step)).sum();
                waits.push(Wait { nodes, tasks, work: Duration::from_secs_f64(work), lost });
            }
            waits.sort_by_key(|wait| std::cmp::Reverse(wait.lost));
            Scaling {
                threads,
                time: Duration::from_secs_f64(time),
                share_of_ideal: alone / (time * threads as f64),
                waits,
            }
        };
        Ok(counts.iter().map(|&threads| at(threads)).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;
    use crate::Shape;
    use crate::graph::{Conv, Op, Window};

    fn alternative([low, median, high]: [u64; 3]) -> Alternative {
        let [low, median, high] = [low, median, high].map(Duration::from_micros);
        Alternative { kernel: String::new(), predicted: median, median, deciles: [low, high] }
    }

    #[test]
    fn a_pick_lags_only_beyond_the_noise() {
        let lag = |times: &[[u64; 3]]| {
            Choice { nodes: vec![], alternatives: times.iter().copied().map(alternative).collect() }.lag()
        };
        assert_eq!(lag(&[]), None);
        assert_eq!(lag(&[[90, 100, 110]]), None);
        assert_eq!(lag(&[[90, 100, 110], [95, 120, 130]]), None);
        assert_eq!(lag(&[[90, 100, 110], [80, 85, 95]]), None, "they overlap");
        assert_eq!(lag(&[[90, 100, 110], [70, 80, 85], [60, 50, 89]]), Some(2.0));
    }

    /// Two convolutions of 3x3 and a large pointwise one.
    fn graph() -> Graph {
        let mut graph = Graph::new(Shape::new(12, 12, 64));
        for (name, kernel, channels, out_channels) in
            [("a", 3, 64, 96), ("b", 3, 96, 512), ("c", 1, 512, 512)]
        {
            let conv = Conv {
                weight: noise(out_channels * channels * kernel * kernel),
                bias: Some(vec![0.0; out_channels]),
                out_channels,
                groups: 1,
                window: Window::square(kernel, 1, kernel / 2),
                input_relu: false,
                relu: true,
            };
            graph.add(name, Op::Conv(Box::new(conv)), &[graph.output]).unwrap();
        }
        graph
    }

    #[test]
    fn every_algorithm_is_timed_and_the_pick_is_the_plans() {
        let options = Options { threads: 2, ..Options::default() };
        let choices = choices(&graph(), &options, 3).unwrap();
        let model = Compiled::from_graph(graph(), &options).unwrap();
        assert_eq!(choices.len(), 3);
        for (choice, (other, count)) in
            choices.iter().zip([("winograd", 3), ("winograd", 3), ("strassen", 2)])
        {
            let [node] = &choice.nodes[..] else { panic!("{choice:?}") };
            let row = model.explain().iter().find(|row| row.node == *node).unwrap();
            assert_eq!(choice.alternatives[0].kernel, row.kernel);
            let kernels: Vec<&str> = choice.alternatives.iter().map(|a| &a.kernel[..]).collect();
            assert!(
                kernels.len() == count && kernels.iter().any(|kernel| kernel.contains(other)),
                "{kernels:?}"
            );
            for alternative in &choice.alternatives {
                let [low, high] = alternative.deciles;
                assert!(low <= alternative.median && alternative.median <= high);
                assert!(low > Duration::ZERO && alternative.predicted > Duration::ZERO);
            }
        }
    }

    #[test]
    fn what_was_faster_is_picked_and_used() {
        let slow = |name: &str, kernels: [&str; 2]| Choice {
            nodes: vec![name.to_owned()],
            alternatives: [[90, 100, 110], [60, 70, 80]]
                .into_iter()
                .zip(kernels)
                .map(|(times, kernel)| Alternative { kernel: kernel.to_owned(), ..alternative(times) })
                .collect(),
        };
        let found = picks(&[
            slow("a", ["winograd F(4x4,3x3)", "winograd F(2x2,3x3)"]),
            slow("b", ["winograd F(4x4,3x3)", "direct"]),
            slow("c", ["pointwise, strassen", "pointwise"]),
        ]);
        let kernels = |options: &Options| {
            let model = Compiled::from_graph(graph(), options).unwrap();
            model.explain()[1..].iter().map(|row| row.kernel.clone()).collect::<Vec<_>>()
        };
        let options = Options { picks: found, ..Options::default() };
        assert_eq!(kernels(&options), ["winograd F(2x2,3x3)", "direct", "pointwise"]);
        let unchanged = Options { picks: Picks::from([("a".into(), "winograd of old".into())]), ..options };
        assert_eq!(kernels(&unchanged), kernels(&Options::default()), "an unknown kernel, and no others");
    }

    #[test]
    fn picks_pay_only_where_a_run_is_faster() {
        let mut graph = Graph::new(Shape::new(56, 56, 128));
        for name in ["a", "b"] {
            let conv = Conv {
                weight: noise(128 * 128 * 9),
                bias: Some(vec![0.0; 128]),
                out_channels: 128,
                groups: 1,
                window: Window::square(3, 1, 1),
                input_relu: false,
                relu: true,
            };
            graph.add(name, Op::Conv(Box::new(conv)), &[graph.output]).unwrap();
        }
        // Winograd's, which the cost model picks, takes less than half as long.
        let direct: Picks = ["a", "b"].map(|name| (name.to_owned(), "direct".to_owned())).into();
        let options = Options { threads: 1, ..Options::default() };
        assert!(!picks_pay(&graph, &options, &direct, 9).unwrap());
        let options = Options { picks: direct, ..options };
        assert!(picks_pay(&graph, &options, &Picks::new(), 9).unwrap());
    }

    #[test]
    fn scaling_is_ideal_for_one_thread_and_never_more() {
        let model = Compiled::from_graph(graph(), &Options { threads: 1, ..Options::default() }).unwrap();
        let scaling = model.scaling(2, 3, &[1, 2, 16]).unwrap();
        assert!((scaling[0].share_of_ideal - 1.0).abs() < 1e-6, "{:?}", scaling[0]);
        assert!(scaling.windows(2).all(|pair| pair[1].time <= pair[0].time), "{scaling:?}");
        for Scaling { share_of_ideal, waits, .. } in &scaling {
            assert!((0.0..1.0 + 1e-6).contains(share_of_ideal));
            assert_eq!(waits.len(), model.waves());
            assert!(waits.windows(2).all(|pair| pair[0].lost >= pair[1].lost), "most is lost first");
        }
    }
}
