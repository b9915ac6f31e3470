//! Tuning: every layer timed by each algorithm that can compute it, and picks made of that.

use std::time::{Duration, Instant};

use crate::graph::Graph;
use crate::plan::{Picks, Rule};
use crate::timing::{noise, quantiles};
use crate::{Compiled, Error, KernelName, Options};

/// One way to compute a layer.
#[derive(Clone, Debug)]
pub struct Alternative {
    /// The kernel.
    pub kernel: KernelName,
    /// The cost model's prediction: its multiply-adds at the rate of the picked kernels (the median over
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
    /// The best alternative, if it is faster than the pick by more than the noise: a tenth of the pick's
    /// runs, at the most, were as fast as nine tenths of the other's.
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
    let pick = |choice: &Choice| Some((choice.nodes.first()?.clone(), choice.better()?.kernel));
    choices.iter().filter_map(pick).collect()
}

/// Whether a whole run is faster with `picks` than with those of `options`, by the medians of `repeats` runs
/// of each in alternation on one image. Layers that were faster one by one need not be so together: each was
/// timed among neighbours that may have changed, and noise wins some of a hundred comparisons.
///
/// # Errors
/// As [`Compiled::from_graph`].
pub fn picks_pay(graph: &Graph, options: &Options, picks: &Picks, repeats: usize) -> Result<bool, Error> {
    let now = Options { pool: Some(options.pool()), ..options.clone() };
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

/// Times every convolution of a graph by every algorithm that can compute it, `repeats` times in alternation
/// on batches of one image, each among its neighbours, so that data lies in the caches as it does in a run.
///
/// # Errors
/// As [`Compiled::from_graph`].
pub fn choices(graph: &Graph, options: &Options, repeats: usize) -> Result<Vec<Choice>, Error> {
    let options = Options { pool: Some(options.pool()), ..options.clone() };
    let models = [Rule::Cheapest, Rule::Direct, Rule::Winograd(0), Rule::Winograd(1), Rule::Strassen]
        .map(|rule| Compiled::compile(graph.clone(), &options, &rule, false));
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
    Ok(compare(&models, &mut times))
}

/// The alternatives of each step, from its `times` in each of the models; the pick is the first model's. The
/// plans differ in kernels only: a step has the same number in each.
fn compare(models: &[Compiled], times: &mut [Vec<Vec<Duration>>]) -> Vec<Choice> {
    let steps = &models[0].plan().steps;
    let (mut choices, mut costs, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for step in (0..steps.len()).filter(|&step| steps[step].cost > 0.0) {
        let (mut alternatives, mut expected) = (Vec::<Alternative>::new(), Vec::new());
        for (model, times) in models.iter().zip(&mut *times) {
            let planned = &model.plan().steps[step];
            let kernel = planned.step.kernel();
            if alternatives.iter().any(|known| known.kernel == kernel) {
                continue;
            }
            let (median, deciles) = quantiles(&mut times[step]);
            alternatives.push(Alternative { kernel, predicted: Duration::ZERO, median, deciles });
            expected.push(planned.cost);
        }
        rates.push(alternatives[0].median.as_secs_f64() / expected[0]);
        choices.push(Choice { nodes: models[0].nodes_of(step), alternatives });
        costs.push(expected);
    }
    rates.sort_unstable_by(f64::total_cmp);
    let seconds_per_mac = rates.get(rates.len() / 2).copied().unwrap_or(0.0);
    for (choice, costs) in choices.iter_mut().zip(costs) {
        for (alternative, cost) in choice.alternatives.iter_mut().zip(costs) {
            alternative.predicted = Duration::from_secs_f64(cost * seconds_per_mac);
        }
    }
    choices
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
pub(crate) mod tests {
    use super::*;
    use crate::graph::{Conv, Op, Window};
    use crate::{Algorithm, Shape};

    fn alternative([low, median, high]: [u64; 3]) -> Alternative {
        let [low, median, high] = [low, median, high].map(Duration::from_micros);
        Alternative { kernel: KernelName::Copy, predicted: median, median, deciles: [low, high] }
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
    pub(crate) fn graph() -> Graph {
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
            choices.iter().zip([(Algorithm::Winograd, 3), (Algorithm::Winograd, 3), (Algorithm::Strassen, 2)])
        {
            let [node] = &choice.nodes[..] else { panic!("{choice:?}") };
            let row = model.explain().iter().find(|row| row.node == *node).unwrap();
            assert_eq!(Some(choice.alternatives[0].kernel), row.kernel);
            let kernels: Vec<KernelName> = choice.alternatives.iter().map(|a| a.kernel).collect();
            assert!(
                kernels.len() == count && kernels.iter().any(|kernel| kernel.algorithm() == other),
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
                .map(|(times, kernel)| Alternative { kernel: kernel.parse().unwrap(), ..alternative(times) })
                .collect(),
        };
        let found = picks(&[
            slow("a", ["winograd F(4x4,3x3)", "winograd F(2x2,3x3)"]),
            slow("b", ["winograd F(4x4,3x3)", "direct"]),
            slow("c", ["pointwise, strassen", "pointwise"]),
        ]);
        let kernels = |options: &Options| {
            let model = Compiled::from_graph(graph(), options).unwrap();
            model.explain()[1..].iter().map(|row| row.lowering.clone()).collect::<Vec<_>>()
        };
        let options = Options { picks: found, ..Options::default() };
        assert_eq!(kernels(&options), ["winograd F(2x2,3x3)", "direct", "pointwise"]);
        // A transform of another kernel size: the cost model decides, as for the layers that have no pick.
        let other = "winograd F(4x4,5x5)".parse().unwrap();
        let unchanged = Options { picks: Picks::from([("a".into(), other)]), ..options };
        assert_eq!(kernels(&unchanged), kernels(&Options::default()));
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
        let direct: Picks = ["a", "b"].map(|name| (name.to_owned(), "direct".parse().unwrap())).into();
        let options = Options { threads: 1, ..Options::default() };
        assert!(!picks_pay(&graph, &options, &direct, 9).unwrap());
        let options = Options { picks: direct, ..options };
        assert!(picks_pay(&graph, &options, &Picks::new(), 9).unwrap());
    }
}
