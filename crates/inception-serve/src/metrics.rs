//! What a server counts, in Prometheus's format.

use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::error::BoxError;

/// Upper bounds of times, in seconds.
const TIMES: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Upper bounds of pictures in a batch.
const BATCHES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Counters, by model where they have one.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    stage_seconds: HistogramVec,
    batch: HistogramVec,
    waiting: IntGaugeVec,
    pictures: IntCounterVec,
    reloads: IntCounterVec,
    ready: IntGauge,
    pub connections: IntGauge,
}

/// A part of the way of a picture.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    /// Waiting to be decoded.
    Queue,
    /// Decoding, resizing, normalising.
    Decode,
    /// Waiting for the engine and for others of its batch.
    Batch,
    /// The network, for the whole batch.
    Compute,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Decode => "decode",
            Self::Batch => "batch",
            Self::Compute => "compute",
        }
    }
}

impl Metrics {
    pub fn new() -> Result<Self, BoxError> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let histogram = |name: &str, help: &str, bounds: &[f64], labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
            let histogram = HistogramVec::new(options, labels)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let waiting = Opts::new("inception_waiting_pictures", "Pictures that wait for the engine");
        let waiting = IntGaugeVec::new(waiting, &["model"])?;
        registry.register(Box::new(waiting.clone()))?;
        Ok(Self {
            requests: counter(
                "inception_requests_total",
                "Requests by protocol and by HTTP's status, or gRPC's",
                &["protocol", "code"],
            )?,
            request_seconds: histogram(
                "inception_request_seconds",
                "Time from the head of a request for a model to its answer",
                TIMES,
                &["model", "protocol"],
            )?,
            stage_seconds: histogram(
                "inception_stage_seconds",
                "Time of the parts of a picture's way: queue, decode, batch, compute",
                TIMES,
                &["model", "stage"],
            )?,
            batch: histogram(
                "inception_batch_pictures",
                "Pictures that are computed at the same time, for each batch and each picture without one",
                BATCHES,
                &["model"],
            )?,
            pictures: counter(
                "inception_pictures_total",
                "Pictures: answered, invalid, failed, refused (queue full)",
                &["model", "outcome"],
            )?,
            reloads: counter("inception_reloads_total", "Models loaded again", &["model", "outcome"])?,
            ready: gauge("inception_ready", "1 after the first answer of every model")?,
            connections: gauge("inception_connections", "Open connections")?,
            waiting,
            registry,
        })
    }

    /// All of it as text.
    pub fn text(&self) -> Result<Vec<u8>, BoxError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    pub fn request(&self, protocol: &str, code: &str) {
        self.requests.with_label_values(&[protocol, code]).inc();
    }

    pub fn answered(&self, model: &str, protocol: &str, time: Duration) {
        self.request_seconds.with_label_values(&[model, protocol]).observe(time.as_secs_f64());
    }

    pub fn stage(&self, model: &str, stage: Stage, time: Duration) {
        self.stage_seconds.with_label_values(&[model, stage.name()]).observe(time.as_secs_f64());
    }

    pub fn batch(&self, model: &str, pictures: usize) {
        self.batch.with_label_values(&[model]).observe(pictures as f64);
    }

    pub fn waiting(&self, model: &str, pictures: usize) {
        self.waiting.with_label_values(&[model]).set(i64::try_from(pictures).unwrap_or(i64::MAX));
    }

    pub fn pictures(&self, model: &str, outcome: &str, count: usize) {
        self.pictures.with_label_values(&[model, outcome]).inc_by(count as u64);
    }

    pub fn reload(&self, model: &str, outcome: &str) {
        self.reloads.with_label_values(&[model, outcome]).inc();
    }

    pub fn ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }
}
