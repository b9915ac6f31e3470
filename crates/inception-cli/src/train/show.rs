//! What a run shows while it goes on.

use std::io::{Write, stdout};
use std::sync::atomic::Ordering;

use inception_train::{EpochMetrics, Event};

use super::signal::STOP;
use crate::progress::Bar;

/// Shows a run while it goes on.
pub struct Show {
    pub bar: Bar,
    epochs: u32,
    json: bool,
    /// Pictures of all epochs that were done after the first batch of this run.
    first: Option<u64>,
}

impl Show {
    /// For a run of so many epochs.
    pub fn new(epochs: u32, json: bool) -> Self {
        Self { bar: Bar::new(), epochs, json, first: None }
    }

    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Batch { epoch, done, total, loss, accuracy, .. } => {
                let (all, done) = (u64::from(self.epochs) * total, u64::from(epoch - 1) * total + done);
                let first = *self.first.get_or_insert(done);
                let what = format!("epoch {epoch}  loss {loss:.4}  accuracy {:.2} %  ", accuracy * 100.0);
                self.bar.show(done - first, done, all, &what);
            }
            // If nobody reads it any more, the batch under way is the last. What is printed at the end of the run fails,
            // too.
            Event::Epoch(metrics) if self.print(metrics).is_err() => STOP.store(true, Ordering::Relaxed),
            _ => {}
        }
    }

    fn print(&self, metrics: &EpochMetrics) -> anyhow::Result<()> {
        if self.json {
            return Ok(writeln!(stdout().lock(), "{}", serde_json::to_string(metrics)?)?);
        }
        let EpochMetrics { epoch, loss, accuracy, val_loss, val_accuracy, .. } = metrics;
        let average = average_precision(metrics.val_mean_average_precision);
        let mut line = format!("epoch {epoch}  loss {loss:.4}  accuracy {:.2} %", accuracy * 100.0);
        if let (Some(loss), Some(accuracy)) = (val_loss, val_accuracy) {
            line += &format!("  validation: loss {loss:.4}  {average}accuracy {:.2} %", accuracy * 100.0);
        }
        self.bar.line(&line);
        Ok(())
    }
}

/// The mean average precision, where there is one, for a line of text.
pub fn average_precision(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("mAP {:.2} %, ", value * 100.0))
}
