//! Progress of commands that go through many pictures.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use inception::{ExtractProgress, Skipped};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress on standard error: a bar on a terminal, now and then a line elsewhere.
pub struct Bar {
    bar: ProgressBar,
    start: Instant,
    /// When it was shown last.
    last: Instant,
    lines: Lines,
    /// Skipped pictures that were named.
    named: usize,
}

/// Lines of progress where there is no terminal.
struct Lines {
    last: Instant,
}

impl Lines {
    /// Time between two lines.
    const PAUSE: Duration = Duration::from_secs(30);

    /// Whether it is time for the next line, which is then counted from.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now.duration_since(self.last) >= Self::PAUSE;
        if due {
            self.last = now;
        }
        due
    }
}

/// Skipped pictures that are named while the run goes on; the result has them all.
const NAMED: usize = 20;

impl Bar {
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let start = Instant::now();
        Self { bar, start, last: start, lines: Lines { last: start }, named: 0 }
    }

    /// Begins with other pictures, or with the same ones again, after those that were shown last: speed and time left
    /// are of these alone.
    pub fn restart(&mut self) {
        self.start = self.last;
    }

    /// Shows how far a run is. `what` is said of it beside its speed.
    pub fn show(&mut self, done_now: u64, done: u64, total: u64, what: &str) {
        let elapsed = self.start.elapsed().as_secs_f64();
        let speed = if elapsed > 0.0 { done_now as f64 / elapsed } else { 0.0 };
        let left = match speed > 0.0 {
            true => format!("{} left", clock((total - done) as f64 / speed)),
            false => "starting".to_owned(),
        };
        let message = format!("{what}{speed:.1} images/s  {left}");
        if stderr().is_terminal() {
            self.bar.set_length(total);
            self.bar.set_position(done);
            self.bar.set_message(message);
        } else if self.lines.is_due(Instant::now()) {
            stderrln!("{done}/{total}  {message}");
        }
        self.last = Instant::now();
    }

    /// Names the first pictures that were skipped, of all so far.
    pub fn name_skipped<'a>(&mut self, skipped: impl Iterator<Item = &'a Skipped>) {
        for skipped in skipped.take(NAMED).skip(self.named) {
            self.named += 1;
            self.bar.suspend(|| stderrln!("skipped: {}: {}", skipped.image, skipped.reason));
            if self.named == NAMED {
                self.bar.suspend(|| stderrln!("skipped: further ones are in the result only"));
            }
        }
    }

    /// Shows how far an extraction is.
    pub fn show_extraction(&mut self, progress: &ExtractProgress<'_>) {
        self.name_skipped(progress.extraction.skipped.iter());
        self.show(progress.done_now, progress.done, progress.total, "");
    }

    /// Writes a line that stays.
    #[cfg(feature = "train")]
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| stderrln!("{text}"));
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Seconds as a clock shows them.
fn clock(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_every_half_minute() {
        let start = Instant::now();
        let mut lines = Lines { last: start };
        let due: Vec<u64> =
            (0..100).filter(|&second| lines.is_due(start + Duration::from_secs(second))).collect();
        assert_eq!(due, [30, 60, 90]);
        // Batches that take longer than that have a line each.
        assert!(
            lines.is_due(start + Duration::from_secs(500)) && !lines.is_due(start + Duration::from_secs(529))
        );
    }
}
