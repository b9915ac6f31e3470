//! Scaling: an estimate of what more threads would make of a plan.

use std::time::Duration;

use crate::steps::RunConfig;
use crate::timing::{noise, quantiles};
use crate::{Compiled, Error};

/// The estimate for a number of threads, from [`Compiled::scaling`].
#[derive(Clone, Debug)]
pub struct Scaling {
    /// Threads; none are counted as one.
    pub threads: usize,
    /// Expected time of a run: over all levels, that of the busiest thread.
    pub time: Duration,
    /// The time of one thread over `threads` times `time`: one if every thread were busy all the time.
    pub share_of_ideal: f64,
    /// The levels, those that lose most time first.
    pub waits: Vec<Wait>,
}

/// How long threads wait for each other at the end of a level.
#[derive(Clone, Debug)]
pub struct Wait {
    /// The nodes of the level.
    pub nodes: Vec<String>,
    /// The tasks of the level.
    pub tasks: usize,
    /// The time that one thread would take.
    pub work: Duration,
    /// The time lost, against work spread evenly.
    pub lost: Duration,
}

impl Compiled {
    /// Estimates a run of `batch` images on each number of threads in `counts`. It is an analysis of the
    /// plan, not a measurement: each step is timed on one thread (the model must have been compiled for one),
    /// and its time spread evenly over its tasks. The thread with the least to do takes the next task, as in
    /// a run, where a thread that has done its share takes what others have left; all wait at the end of a
    /// level. Not counted are the barriers themselves (some tenths of a microsecond each,
    /// [`Compiled::barriers`] of them), and what threads take from each other in caches and memory.
    ///
    /// # Errors
    /// As [`Compiled::run`].
    pub fn scaling(&self, batch: usize, repeats: usize, counts: &[usize]) -> Result<Vec<Scaling>, Error> {
        let input = noise(batch * self.input_shape().len());
        let mut samples = self.sample_steps(&input, batch, repeats)?;
        let times: Vec<f64> = samples.iter_mut().map(|s| quantiles(s).0.as_secs_f64()).collect();
        Ok(counts.iter().map(|&threads| self.scaled(batch, &times, threads)).collect())
    }

    /// The estimate for `threads`, from the times of the steps on one thread, in seconds.
    fn scaled(&self, batch: usize, times: &[f64], threads: usize) -> Scaling {
        let threads = threads.max(1);
        let config = RunConfig { kernels: self.kernels(), threads, cut: threads, batch };
        let tasks = |step: usize| self.plan().steps[step].step.tasks(&config).max(1);
        let mut waits = Vec::new();
        let mut time = 0.0;
        for level in &self.plan().levels {
            let work: f64 = level.iter().map(|&step| times[step]).sum();
            let mut busy = vec![0.0f64; threads];
            for &step in level {
                for _ in 0..tasks(step) {
                    let first = busy.iter_mut().min_by(|a, b| a.total_cmp(b));
                    first.into_iter().for_each(|busy| *busy += times[step] / tasks(step) as f64);
                }
            }
            let longest = busy.into_iter().fold(0.0, f64::max);
            time += longest;
            let lost = Duration::from_secs_f64((longest - work / threads as f64).max(0.0));
            let nodes = level.iter().flat_map(|&step| self.nodes_of(step)).collect();
            let tasks = level.iter().map(|&step| tasks(step)).sum();
            waits.push(Wait { nodes, tasks, work: Duration::from_secs_f64(work), lost });
        }
        waits.sort_by_key(|wait| std::cmp::Reverse(wait.lost));
        Scaling {
            threads,
            time: Duration::from_secs_f64(time),
            share_of_ideal: times.iter().sum::<f64>() / (time * threads as f64),
            waits,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;
    use crate::Options;
    use crate::tuning::tests::graph;

    #[test]
    fn scaling_is_ideal_for_one_thread_and_never_more() {
        let model = Compiled::from_graph(graph(), &Options { threads: 1, ..Options::default() }).unwrap();
        let scaling = model.scaling(2, 3, &[0, 2, 16]).unwrap();
        assert_eq!(scaling[0].threads, 1, "none are counted as one");
        assert!((scaling[0].share_of_ideal - 1.0).abs() < 1e-6, "{:?}", scaling[0]);
        assert!(scaling.windows(2).all(|pair| pair[1].time <= pair[0].time), "{scaling:?}");
        for Scaling { share_of_ideal, waits, .. } in &scaling {
            assert!((0.0..1.0 + 1e-6).contains(share_of_ideal));
            assert_eq!(waits.len(), model.barriers());
            assert!(waits.windows(2).all(|pair| pair[0].lost >= pair[1].lost), "most is lost first");
        }
    }
}
