//! From images to outputs, as in training.

use crate::layers::{BatchStatistics, Layer, NormLayer, Tensor};
use crate::memory::{Raw, parallel};
use crate::real::Real;
use crate::rows;
use crate::trainer::{Trainer, raw};

impl<T: Real> Trainer<T> {
    /// The output for images `[batch, channels, height, width]`, row-major: `[batch, outputs]`, or pixels by
    /// channels where it is a map. Norms normalise by the batch and bring their running statistics up to
    /// date; which values are dropped out follows from `seed`.
    ///
    /// Runs on rayon's threads.
    ///
    /// # Panics
    ///
    /// For images of another length, and none.
    pub fn forward(&mut self, images: &[f32], batch: usize, seed: u64) -> Vec<T> {
        assert!(batch > 0, "a batch has images");
        rayon::scope(|_| {
            self.load(images, batch);
            self.pack();
            self.compute(seed);
        });
        let view = self.outputs[self.output];
        let [outputs, _] = self.addresses();
        // SAFETY: the view is of these buffers.
        let output = unsafe { raw(&outputs, &view) };
        // SAFETY: nobody writes it now.
        let pixels = (0..batch * output.pixels).flat_map(|pixel| unsafe { output.row(pixel) });
        pixels.copied().collect()
    }

    fn compute(&mut self, seed: u64) {
        let (kernels, batch) = (T::kernels(), self.batch);
        let [outputs, _] = self.addresses();
        let Self { layers, inputs, outputs: views, tensors, zeros, norm_momentum, norm_unbiased, .. } = self;
        // A single value has no unbiased estimate, and its variance is 0.
        let correction = |values: usize| match *norm_unbiased && values > 1 {
            true => values as f64 / (values - 1) as f64,
            false => 1.0,
        };
        for (id, layer) in layers.iter_mut().enumerate() {
            let Some(&first) = inputs[id].first() else { continue };
            // SAFETY: the views are of these buffers, which hold `batch` images; nodes have places that no
            // other needs now, and buffers have slack.
            unsafe {
                let (from, to) = (raw(&outputs, &views[first]), raw(&outputs, &views[id]));
                let pixels = batch * to.pixels;
                match layer {
                    Layer::Input | Layer::Fused => {}
                    Layer::Conv(conv) => {
                        let bias = conv.bias.map(|bias| values::<T>(&tensors[bias]));
                        let bias = bias.as_deref();
                        conv.convolution.output(kernels, batch, from, to, &conv.packed, bias, zeros);
                    }
                    Layer::Depthwise(layer) => {
                        parallel(batch, |image| {
                            crate::pool::depthwise(&layer.forward, image, from, to, &layer.packed, false);
                        });
                        if let Some(bias) = layer.bias {
                            add_bias(to, pixels, &values(&tensors[bias]));
                        }
                    }
                    Layer::Norm(norm) => {
                        normalize(norm, tensors, [*norm_momentum, correction(pixels)], from, to, pixels);
                    }
                    Layer::Bias(bias) => {
                        copy(from, to, pixels);
                        add_bias(to, pixels, &values(&tensors[*bias]));
                    }
                    &mut Layer::Scale { scale, shift } => {
                        let (scale, shift) = (T::of_f64(scale), T::of_f64(shift));
                        rows::by_rows(pixels, |range| rows::scale(from, to, range, scale, shift, false));
                    }
                    Layer::Dropout { probability, factor, mask } => {
                        let len = pixels * to.channels;
                        draw(mask, len, (*probability, T::of_f64(*factor)), seed ^ (id as u64) << 32);
                        rows::by_rows(pixels, |range| rows::masked(from, mask, to, range, false));
                    }
                    Layer::Pool { pooling, chosen } => {
                        if pooling.kind == inception_graph::PoolKind::Max {
                            chosen.resize(pixels * to.channels, 0);
                        }
                        pooling.output(batch, from, to, chosen);
                    }
                    Layer::Concat => {
                        let mut channel = 0;
                        for &input in &inputs[id] {
                            let from = raw(&outputs, &views[input]);
                            copy(from, to.part(channel, from.channels), pixels);
                            channel += from.channels;
                        }
                    }
                    Layer::Add => {
                        let other = raw(&outputs, &views[inputs[id][1]]);
                        let (own, other) = if to.same_memory(&other) { (other, from) } else { (from, other) };
                        copy(own, to, pixels);
                        rows::by_rows(pixels, |range| rows::add(other, to, range));
                    }
                    Layer::Relu => rows::by_rows(pixels, |range| rows::relu(from, to, range)),
                    Layer::Flatten => parallel(batch, |image| {
                        let out = to.row_mut(image);
                        for pixel in 0..from.pixels {
                            let x = from.row(image * from.pixels + pixel);
                            for (channel, &x) in x.iter().enumerate() {
                                out[channel * from.pixels + pixel] = x;
                            }
                        }
                    }),
                }
            }
        }
    }
}

/// The values of a tensor to compute with.
pub(crate) fn values<T: Real>(tensor: &Tensor) -> Vec<T> {
    tensor.values.iter().map(|&value| T::of(value)).collect()
}

/// Copies `from` to `to`, unless they are one.
///
/// # Safety
///
/// As of [`rows::scale`].
pub(crate) unsafe fn copy<T: Real>(from: Raw<T>, to: Raw<T>, pixels: usize) {
    if !from.same_memory(&to) {
        let (one, zero) = (T::of(1.0), T::default());
        // SAFETY: the caller's promise.
        rows::by_rows(pixels, |range| unsafe { rows::scale(from, to, range, one, zero, false) });
    }
}

/// # Safety
///
/// As of [`rows::affine`].
unsafe fn add_bias<T: Real>(to: Raw<T>, pixels: usize, bias: &[T]) {
    let ones = vec![T::of(1.0); bias.len()];
    // SAFETY: the caller's promise.
    rows::by_rows(pixels, |range| unsafe { rows::affine(to, to, range, &ones, bias, false) });
}

/// A norm by the statistics of the batch. The running ones take `momentum` as its share, and its variance
/// times `correction`.
///
/// # Safety
///
/// As of [`rows::affine`].
unsafe fn normalize<T: Real>(
    norm: &mut NormLayer<T>,
    tensors: &mut [Tensor],
    [momentum, correction]: [f64; 2],
    from: Raw<T>,
    to: Raw<T>,
    pixels: usize,
) {
    let channels = from.channels;
    // Values less one of them: their squares then lose nothing to a mean that is far from zero.
    // SAFETY: the first pixel, which nobody writes now.
    let pivot = unsafe { from.row(0) }.to_vec();
    let moments = |range, sums: &mut [T]| {
        // SAFETY: the caller's promise.
        unsafe { rows::moments(from, range, &pivot, sums) }
    };
    let sums = rows::sums(pixels, 2 * channels, moments);
    let mut batch = BatchStatistics::default();
    for channel in 0..channels {
        let moved = sums[channel] / pixels as f64;
        let mean = pivot[channel].to_f64() + moved;
        let spread = sums[channels + channel] / pixels as f64 - moved * moved;
        // What is no number stays that.
        let variance = if spread < 0.0 { 0.0 } else { spread };
        let inverse = 1.0 / (variance + norm.epsilon).sqrt();
        let [gamma, beta] = [norm.gamma, norm.beta].map(|at| f64::from(tensors[at].values[channel]));
        let scale = T::of_f64(gamma * inverse);
        batch.mean.push(mean);
        batch.inverse.push(inverse);
        batch.scale.push(scale);
        batch.shift.push(T::of_f64(beta - mean * scale.to_f64()));
        for (at, new) in [(norm.mean, mean), (norm.variance, variance * correction)] {
            let running = &mut tensors[at].values[channel];
            *running = ((1.0 - momentum) * f64::from(*running) + momentum * new) as f32;
        }
    }
    rows::by_rows(pixels, |range| {
        // SAFETY: the caller's promise.
        unsafe { rows::affine(from, to, range, &batch.scale, &batch.shift, norm.relu) }
    });
    norm.batch = batch;
}

/// `factor`, and zeros in a share of `probability`: SplitMix64 of the place.
fn draw<T: Real>(mask: &mut Vec<T>, len: usize, (probability, factor): (f64, T), seed: u64) {
    let zero = T::default();
    mask.clear();
    mask.extend((0..len as u64).map(|at| {
        let mut bits = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        if ((bits >> 11) as f64 / (1_u64 << 53) as f64) < probability { zero } else { factor }
    }));
}
