//! From the gradient of the output to those of all tensors.

use crate::forward::{copy, values};
use crate::kernels::Kernels;
use crate::layers::{ConvLayer, DepthwiseLayer, Layer, NormLayer, Tensor};
use crate::memory::{Raw, parallel};
use crate::pool::{depthwise, depthwise_weights};
use crate::real::Real;
use crate::rows::{self, NormGradient};
use crate::trainer::{Trainer, raw};

impl<T: Real> Trainer<T> {
    /// The gradients of all tensors, from that of the output of the last [`forward`](Self::forward), in its
    /// order.
    ///
    /// Runs on rayon's threads.
    ///
    /// # Panics
    ///
    /// For a gradient of another length than the output's, and before the first [`forward`](Self::forward).
    pub fn backward(&mut self, gradient: &[T]) {
        assert!(self.batch > 0, "`forward` comes before `backward`");
        let view = self.gradients[self.output];
        let [_, gradients] = self.addresses();
        // SAFETY: the view is of these buffers.
        let output = unsafe { raw(&gradients, &view) };
        assert_eq!(gradient.len(), self.batch * output.pixels * output.channels, "as the output");
        for (pixel, values) in gradient.chunks_exact(output.channels.max(1)).enumerate() {
            // SAFETY: nobody else has access now.
            let out = unsafe { output.row_mut(pixel) };
            out.copy_from_slice(values);
        }
        rayon::scope(|_| self.differentiate());
    }

    fn differentiate(&mut self) {
        let (kernels, batch) = (T::kernels(), self.batch);
        let [outputs, gradients] = self.addresses();
        let Self { layers, inputs, outputs: places, gradients: own, tensors, zeros, sums, .. } = self;
        // Whether something is at a node's gradient already.
        let mut written = vec![false; layers.len()];
        for (id, layer) in layers.iter_mut().enumerate().rev() {
            let Some(&first) = inputs[id].first() else { continue };
            let accumulate = written[first];
            // SAFETY: the views are of these buffers, which hold `batch` images; nodes have places that no
            // other needs now, and buffers have slack.
            unsafe {
                let (x, dy) = (raw(&outputs, &places[first]), raw(&gradients, &own[id]));
                // The images have no gradient.
                let dx = (first != 0).then(|| raw(&gradients, &own[first]));
                let pixels = batch * dy.pixels;
                let node = NodeGradient { batch, x, dy, dx, accumulate };
                match layer {
                    Layer::Input | Layer::Fused => {}
                    Layer::Conv(conv) => node.of_conv(conv, kernels, tensors, zeros, sums),
                    Layer::Depthwise(depthwise) => node.of_depthwise(depthwise, tensors, sums),
                    Layer::Norm(norm) => node.of_norm(norm, tensors),
                    Layer::Bias(bias) => {
                        bias_gradient(dy, pixels, &mut tensors[*bias].gradient);
                        pass(dy, dx, pixels, accumulate);
                    }
                    Layer::Scale { scale, .. } => {
                        if let Some(dx) = dx {
                            let (scale, zero) = (T::of_f64(*scale), T::default());
                            let scaled = |range| rows::scale(dy, dx, range, scale, zero, accumulate);
                            rows::by_rows(pixels, scaled);
                        }
                    }
                    Layer::Dropout { mask, .. } => {
                        if let Some(dx) = dx {
                            rows::by_rows(pixels, |range| rows::masked(dy, mask, dx, range, accumulate));
                        }
                    }
                    Layer::Pool { pooling, chosen } => {
                        if let Some(dx) = dx {
                            if !accumulate {
                                clear(dx, batch * dx.pixels);
                            }
                            pooling.gradient(batch, dy, dx, chosen);
                        }
                    }
                    Layer::Concat => {
                        let mut channel = 0;
                        for &input in &inputs[id] {
                            let dx = (input != 0).then(|| raw(&gradients, &own[input]));
                            let channels = places[input].shape.channels;
                            pass(dy.part(channel, channels), dx, pixels, written[input]);
                            written[input] = true;
                            channel += channels;
                        }
                    }
                    Layer::Add => {
                        // The one whose place it has comes last, though neither changes what is there.
                        for &input in &inputs[id] {
                            let dx = (input != 0).then(|| raw(&gradients, &own[input]));
                            pass(dy, dx, pixels, written[input]);
                            written[input] = true;
                        }
                    }
                    Layer::Relu => {
                        if let Some(dx) = dx {
                            let y = raw(&outputs, &places[id]);
                            let clamped = |range| rows::relu_gradient(y, dy, dx, range, accumulate);
                            rows::by_rows(pixels, clamped);
                        }
                    }
                    Layer::Flatten => {
                        if let Some(dx) = dx {
                            unflatten(dy, dx, batch, accumulate);
                        }
                    }
                }
            }
            written[first] = true;
        }
    }
}

/// What a node's gradients are computed from, and where that of its first input goes.
#[derive(Clone, Copy)]
struct NodeGradient<T> {
    batch: usize,
    x: Raw<T>,
    dy: Raw<T>,
    /// None for the images.
    dx: Option<Raw<T>>,
    /// Whether something is at `dx` already, which is added to.
    accumulate: bool,
}

impl<T: Real> NodeGradient<T> {
    /// The gradients of a convolution's weights, bias and input.
    ///
    /// # Safety
    ///
    /// The kernels are of this CPU, nobody else has access to the tensors, and buffers have slack.
    unsafe fn of_conv(
        self,
        conv: &ConvLayer<T>,
        kernels: &Kernels<T>,
        tensors: &mut [Tensor],
        zeros: &[T],
        sums: &mut [T],
    ) {
        let Self { batch, x, dy, dx, accumulate } = self;
        let convolution = &conv.convolution;
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(bias) = conv.bias {
                bias_gradient(dy, batch * dy.pixels, &mut tensors[bias].gradient);
            }
            convolution.weight_gradient(kernels, batch, x, dy, sums);
            convolution.in_order(sums, &mut tensors[conv.weight].gradient);
            if let Some(dx) = dx {
                convolution.input_gradient(kernels, batch, dy, dx, &conv.packed_back, zeros, accumulate);
            }
        }
    }

    /// As [`of_conv`](Self::of_conv), of a depthwise convolution.
    ///
    /// # Safety
    ///
    /// As that function.
    unsafe fn of_depthwise(self, layer: &DepthwiseLayer<T>, tensors: &mut [Tensor], sums: &mut [T]) {
        let Self { batch, x, dy, dx, accumulate } = self;
        let (taps, channels) = (layer.forward.taps.len(), dy.channels);
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(bias) = layer.bias {
                bias_gradient(dy, batch * dy.pixels, &mut tensors[bias].gradient);
            }
            depthwise_weights(&layer.forward, batch, x, dy, sums);
        }
        for (at, value) in tensors[layer.weight].gradient.iter_mut().enumerate() {
            *value = sums[at % taps * channels + at / taps].to_f32();
        }
        if let Some(dx) = dx {
            parallel(batch, |image| {
                for phase in &layer.backward {
                    // SAFETY: the caller's promise.
                    unsafe { depthwise(phase, image, dy, dx, &layer.packed, accumulate) }
                }
            });
        }
    }

    /// The gradients of a norm's scale, shift and input.
    ///
    /// # Safety
    ///
    /// As [`of_conv`](Self::of_conv).
    unsafe fn of_norm(self, norm: &NormLayer<T>, tensors: &mut [Tensor]) {
        let Self { x, dy, dx, accumulate, .. } = self;
        let pixels = self.batch * dy.pixels;
        let channels = dy.channels;
        let batch = &norm.batch;
        let mean: Vec<T> = batch.mean.iter().map(|&mean| T::of_f64(mean)).collect();
        let sums = rows::sums(pixels, 2 * channels, |range, sums| {
            // SAFETY: the caller's promise.
            unsafe { rows::norm_sums(x, dy, range, &mean, &batch.scale, &batch.shift, norm.relu, sums) }
        });
        let gamma: Vec<T> = values(&tensors[norm.gamma]);
        let (mut factor, mut summand) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
        for channel in 0..channels {
            let (inverse, sum, product) = (batch.inverse[channel], sums[channel], sums[channels + channel]);
            tensors[norm.gamma].gradient[channel] = (product * inverse) as f32;
            tensors[norm.beta].gradient[channel] = sum as f32;
            let scale = gamma[channel].to_f64() * inverse;
            let slope = T::of_f64(-scale * inverse * inverse * product / pixels as f64);
            factor.push(slope);
            summand.push(T::of_f64(-slope.to_f64() * batch.mean[channel] - scale * sum / pixels as f64));
        }
        let Some(dx) = dx else { return };
        let (scale, shift) = (&batch.scale, &batch.shift);
        let gradient =
            NormGradient { scale, shift, factor: &factor, summand: &summand, relu: norm.relu, accumulate };
        // SAFETY: the caller's promise.
        rows::by_rows(pixels, |range| unsafe { rows::norm_gradient(x, dy, dx, range, &gradient) });
    }
}

// What follows is unsafe as the functions of `rows` are.

/// The gradient passes as it is; where the two have one place, it is there.
unsafe fn pass<T: Real>(dy: Raw<T>, dx: Option<Raw<T>>, pixels: usize, accumulate: bool) {
    let Some(dx) = dx.filter(|dx| !dx.same_memory(&dy)) else { return };
    // SAFETY: the caller's promise.
    unsafe {
        match accumulate {
            true => rows::by_rows(pixels, |range| rows::add(dy, dx, range)),
            false => copy(dy, dx, pixels),
        }
    }
}

unsafe fn clear<T: Real>(tensor: Raw<T>, pixels: usize) {
    rows::by_rows(pixels, |range| {
        for pixel in range {
            // SAFETY: each task has its own pixels.
            unsafe { tensor.row_mut(pixel) }.fill(T::default());
        }
    });
}

unsafe fn bias_gradient<T: Real>(dy: Raw<T>, pixels: usize, gradient: &mut [f32]) {
    // SAFETY: the caller's promise.
    let add = |range, sums: &mut [T]| unsafe { rows::column_sums(dy, range, sums) };
    let sums = rows::sums(pixels, dy.channels, add);
    gradient.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
}

unsafe fn unflatten<T: Real>(dy: Raw<T>, dx: Raw<T>, batch: usize, accumulate: bool) {
    parallel(batch, |image| {
        // SAFETY: pixels of the image; each task has its own.
        let gradient = unsafe { dy.row(image) };
        for pixel in 0..dx.pixels {
            // SAFETY: as above.
            let out = unsafe { dx.row_mut(image * dx.pixels + pixel) };
            for (channel, out) in out.iter_mut().enumerate() {
                let value = gradient[channel * dx.pixels + pixel];
                *out = if accumulate { *out + value } else { value };
            }
        }
    });
}
