//! Timing by repetition: warm up until steady, then run until the median is known well enough.

use std::time::{Duration, Instant};

use inception::engine::quantile;

/// A clock that never goes back.
pub trait Clock {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;
}

/// The system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// When to stop measuring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StopRule {
    /// Time for a measurement, its warm-up included.
    pub budget: Duration,
    /// Fewest timed runs, whatever they take; at least one is made.
    pub runs: usize,
    /// Stop when half the width of the median's 95 % interval, over the median, is below this.
    pub precision: f64,
}

impl Default for StopRule {
    /// Three seconds, or the median to half a percent.
    fn default() -> Self {
        Self { budget: Duration::from_secs(3), runs: MIN_RUNS, precision: 0.005 }
    }
}

/// Fewest timed runs unless asked otherwise: with fewer than six, no two of them bound the median with 95 %
/// confidence.
pub const MIN_RUNS: usize = 6;

/// Share of the budget that warming up may take.
const WARM_UP_SHARE: u32 = 4;

/// Warm-up ends when the medians of two windows of this many runs, one after the other, are within
/// [`STEADY`].
const WINDOW: usize = 3;
const STEADY: f64 = 0.03;

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The median of values in any order; `None` if there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let sorted = sorted(values);
    (!sorted.is_empty()).then(|| quantile(&sorted, 0.5))
}

/// The times of all runs of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Seconds, shortest first; never empty.
    sorted: Vec<f64>,
    /// Runs before timing began.
    pub warm_up: usize,
}

impl Sample {
    /// Of timed runs in any order; `None` if there are none.
    pub fn new(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let sorted = sorted(times.into_iter().map(|time| time.as_secs_f64()));
        (!sorted.is_empty()).then_some(Self { sorted, warm_up: 0 })
    }

    /// Of timed runs in milliseconds, in any order; `None` if there are none.
    pub fn of_ms(times: impl IntoIterator<Item = f64>) -> Option<Self> {
        Self::new(times.into_iter().map(|ms| Duration::from_secs_f64(ms.max(0.0) / 1e3)))
    }

    /// Number of timed runs.
    pub fn runs(&self) -> usize {
        self.sorted.len()
    }

    /// The quantile of the times at `share`, by linear interpolation; 0.5 is the median.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_secs_f64(quantile(&self.sorted, share))
    }

    /// The first decile, the median and the last decile, in milliseconds.
    pub fn spread_ms(&self) -> [f64; 3] {
        [0.1, 0.5, 0.9].map(|share| quantile(&self.sorted, share) * 1e3)
    }

    /// The median time.
    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// The runs between which the median of the distribution lies with 95 % confidence: order statistics,
    /// which assume nothing of the distribution. (The normal approximation of the binomial; exact enough from
    /// six runs on.)
    pub fn median_interval(&self) -> (Duration, Duration) {
        let n = self.sorted.len() as f64;
        let half = 1.96 * n.sqrt() / 2.0;
        let low = (n / 2.0 - half).floor().max(1.0) as usize - 1;
        let high = ((n / 2.0 + half).ceil() as usize).min(self.sorted.len() - 1);
        (Duration::from_secs_f64(self.sorted[low]), Duration::from_secs_f64(self.sorted[high]))
    }

    fn is_precise(&self, precision: f64) -> bool {
        let (low, high) = self.median_interval();
        (high - low).as_secs_f64() <= 2.0 * precision * self.median().as_secs_f64()
    }
}

/// Times `run` again and again.
///
/// # Errors
///
/// The first error of `run`.
pub fn measure<E>(
    clock: &impl Clock,
    stop: StopRule,
    mut run: impl FnMut() -> Result<(), E>,
) -> Result<Sample, E> {
    let begin = clock.now();
    let mut time = || -> Result<Duration, E> {
        let start = clock.now();
        run()?;
        Ok(clock.now().saturating_sub(start))
    };
    let mut warm_up = Vec::new();
    while !is_steady(&warm_up) {
        warm_up.push(time()?);
        if clock.now() - begin > stop.budget / WARM_UP_SHARE {
            break;
        }
    }
    let mut sample = Sample { sorted: Vec::new(), warm_up: warm_up.len() };
    loop {
        let taken = time()?.as_secs_f64();
        let place = sample.sorted.partition_point(|&other| other <= taken);
        sample.sorted.insert(place, taken);
        let spent = clock.now() - begin > stop.budget;
        if sample.runs() >= stop.runs && (spent || sample.is_precise(stop.precision)) {
            return Ok(sample);
        }
    }
}

fn is_steady(times: &[Duration]) -> bool {
    let middle = |window: &[Duration]| quantile(&sorted(window.iter().map(Duration::as_secs_f64)), 0.5);
    let Some((before, last)) = times.len().checked_sub(2 * WINDOW).map(|i| times[i..].split_at(WINDOW))
    else {
        return false;
    };
    (middle(before) - middle(last)).abs() <= STEADY * middle(last)
}

/// How a timing compares with an earlier one of the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Within the spread of either timing.
    Noise,
    /// Faster than that.
    Faster,
    /// Slower than that.
    Slower,
}

/// The median of a timing with its first and last decile.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Spread {
    pub low_ms: f64,
    pub median_ms: f64,
    pub high_ms: f64,
}

/// Medians of one process and the next differ by up to this share though nothing changed: memory lies
/// elsewhere. (Seen on a two-core virtual machine: 2 %.)
pub const BETWEEN_PROCESSES: f64 = 0.03;

impl Spread {
    /// Compares with an earlier timing: a change is one only if the spreads of the two do not even touch, and
    /// the medians differ by more than [`BETWEEN_PROCESSES`]. `time_scale` is how many times as fast the
    /// machine itself was then, by its measured peak: what that explains is no change either.
    pub fn against(self, baseline: Self, time_scale: f64) -> Change {
        let ratio = self.median_ms / baseline.median_ms;
        let (slowest, fastest) = (time_scale.max(1.0), time_scale.min(1.0));
        if self.low_ms > baseline.high_ms * slowest && ratio > (1.0 + BETWEEN_PROCESSES) * slowest {
            Change::Slower
        } else if self.high_ms < baseline.low_ms * fastest && ratio < (1.0 - BETWEEN_PROCESSES) * fastest {
            Change::Faster
        } else {
            Change::Noise
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// A clock that only a fake device moves.
    #[derive(Default)]
    struct FakeClock(Cell<Duration>);

    impl Clock for FakeClock {
        fn now(&self) -> Duration {
            self.0.get()
        }
    }

    fn ms(milliseconds: f64) -> Duration {
        Duration::from_secs_f64(milliseconds / 1e3)
    }

    /// Measures a device whose n-th run takes `time(n)` milliseconds.
    fn fake(stop: StopRule, time: impl Fn(usize) -> f64) -> Sample {
        let clock = FakeClock::default();
        let runs = Cell::new(0);
        let sample = measure(&clock, stop, || {
            clock.0.set(clock.now() + ms(time(runs.get())));
            runs.set(runs.get() + 1);
            Ok::<_, Infallible>(())
        });
        let sample = sample.unwrap();
        assert_eq!(runs.get(), sample.warm_up + sample.runs(), "every run is accounted for");
        sample
    }

    #[test]
    fn a_constant_device_is_known_at_once() {
        let sample = fake(StopRule::default(), |_| 10.0);
        assert_eq!((sample.warm_up, sample.runs()), (2 * WINDOW, MIN_RUNS));
        assert_eq!(sample.median(), ms(10.0));
        assert_eq!(sample.median_interval(), (ms(10.0), ms(10.0)));
    }

    #[test]
    fn a_slow_start_is_not_timed() {
        let sample = fake(StopRule::default(), |n| if n < 5 { 50.0 - 8.0 * n as f64 } else { 10.0 });
        assert_eq!(sample.quantile(1.0), ms(10.0), "nothing of the start is left");
        assert!(sample.warm_up >= 5 + WINDOW, "{}", sample.warm_up);
    }

    #[test]
    fn outliers_are_kept_and_do_not_move_the_median() {
        let jitter = |n: usize| 10.0 + 0.1 * (n % 3) as f64;
        let stop = StopRule { precision: 0.0, ..StopRule::default() };
        let sample = fake(stop, |n| if n % 10 == 9 { 90.0 } else { jitter(n) });
        assert!((10.0..=10.2).contains(&(sample.median().as_secs_f64() * 1e3)), "{:?}", sample.median());
        assert_eq!(sample.quantile(1.0), ms(90.0));
        assert!(sample.runs() > 100, "a precision that cannot be had uses the budget: {}", sample.runs());
    }

    #[test]
    fn a_device_slower_than_the_budget_still_gets_its_runs() {
        let sample = fake(StopRule::default(), |_| 60_000.0);
        assert_eq!((sample.warm_up, sample.runs()), (1, MIN_RUNS));
        let fewer = fake(StopRule { runs: 3, ..StopRule::default() }, |_| 60_000.0);
        assert_eq!((fewer.warm_up, fewer.runs()), (1, 3));
    }

    #[test]
    fn quantiles_by_hand() {
        let sample = Sample::new([3.0, 2.0, 1.0, 10.0, 4.0].map(ms)).unwrap();
        let near = |a: Duration, b: f64| (a.as_secs_f64() * 1e3 - b).abs() < 1e-6;
        assert!(near(sample.median(), 3.0) && near(sample.quantile(0.25), 2.0));
        assert!(near(sample.quantile(0.9), 7.6) && near(sample.quantile(0.0), 1.0));
    }

    /// 95 of 100 intervals hold the true median: of 2000 seeded samples, all but a few more than 5 % must.
    #[test]
    fn the_interval_holds_the_median() {
        let mut random = SmallRng::seed_from_u64(1);
        for runs in [6, 15, 60] {
            let held = (0..2000).filter(|_| {
                // Skewed, as timings are; the median of u^4 is 1/16.
                let times = (0..runs).map(|_| Duration::from_secs_f64(random.random::<f64>().powi(4)));
                let (low, high) = Sample::new(times).unwrap().median_interval();
                let median = Duration::from_secs_f64(1.0 / 16.0);
                low <= median && median <= high
            });
            let share = held.count() as f64 / 2000.0;
            assert!(share > 0.94, "{share} with {runs} runs");
        }
    }

    fn spread(sample: &Sample) -> Spread {
        let [low_ms, median_ms, high_ms] = sample.spread_ms();
        Spread { low_ms, median_ms, high_ms }
    }

    /// A device with noise of a few percent, skewed to the slow side.
    fn noisy(seed: u64, factor: f64) -> Spread {
        let random = std::cell::RefCell::new(SmallRng::seed_from_u64(seed));
        let sample = fake(StopRule::default(), |_| {
            let noise: f64 = random.borrow_mut().random();
            factor * 10.0 * (1.0 + 0.06 * noise * noise)
        });
        spread(&sample)
    }

    #[test]
    fn an_unchanged_device_is_never_flagged_and_a_slowed_one_always() {
        let baseline = noisy(100, 1.0);
        for seed in 0..20 {
            assert_eq!(noisy(seed, 1.0).against(baseline, 1.0), Change::Noise, "seed {seed}");
            assert_eq!(noisy(seed, 1.1).against(baseline, 1.0), Change::Slower, "seed {seed}");
            assert_eq!(noisy(seed, 0.9).against(baseline, 1.0), Change::Faster, "seed {seed}");
        }
    }

    #[test]
    fn a_slower_machine_is_no_slower_network() {
        let (baseline, now) = (noisy(100, 1.0), noisy(1, 1.25));
        assert_eq!(now.against(baseline, 1.0), Change::Slower);
        assert_eq!(now.against(baseline, 1.25), Change::Noise);
        assert_eq!(noisy(1, 1.5).against(baseline, 1.25), Change::Slower, "more than the machine explains");
        assert_eq!(noisy(1, 0.8).against(baseline, 0.8), Change::Noise);
    }

    #[test]
    fn an_error_ends_the_measurement() {
        let mut runs = 0;
        let result = measure(&SystemClock::default(), StopRule::default(), || {
            runs += 1;
            if runs < 3 { Ok(()) } else { Err("lost") }
        });
        assert_eq!(result, Err("lost"));
        assert_eq!(runs, 3);
    }
}
