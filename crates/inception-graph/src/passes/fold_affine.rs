//! Batch norm at inference is a scale and a shift for each channel; a convolution can take them into its
//! weights.

use crate::{Conv, Graph, Op};

/// A batch norm, bias or factor as a scale and a shift for each of `channels`, in f64.
pub(super) fn affine_of(op: &Op, channels: usize) -> Option<Op> {
    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let (scale, shift) = match op {
        Op::BatchNorm(norm) => {
            let deviation = wide(&norm.variance).into_iter().map(|v| (v + norm.epsilon).sqrt());
            let scale: Vec<f64> = wide(&norm.gamma).into_iter().zip(deviation).map(|(g, d)| g / d).collect();
            let moved = wide(&norm.mean).into_iter().zip(&scale).map(|(mean, scale)| mean * scale);
            let shift = wide(&norm.beta).into_iter().zip(moved).map(|(beta, moved)| beta - moved).collect();
            (scale, shift)
        }
        Op::Bias(bias) => (vec![1.0; channels], wide(bias)),
        &Op::Scale { scale, shift } => (vec![scale; channels], vec![shift; channels]),
        _ => return None,
    };
    Some(Op::Affine { scale, shift })
}

/// Folds each affine node into the convolution before it (if it is the only reader) or after it (if that does
/// not pad, since padding enters after the shift). Folds in f64 and rounds once.
pub fn fold_affine(graph: &mut Graph) {
    for id in 0..graph.nodes.len() {
        let consumers = graph.consumers();
        let Op::Affine { scale, shift } = &graph.nodes[id].op else {
            continue;
        };
        let (scale, shift) = (scale.clone(), shift.clone());
        let source = graph.nodes[id].inputs[0];
        let alone = consumers[source].len() == 1 && graph.output != source;
        match &graph.nodes[source].op {
            Op::Conv(conv) if alone && graph.nodes[source].inputs.len() == 1 && !conv.relu => {
                // Taken, not copied: all weights twice would be most of the memory that compiling takes.
                if let Op::Conv(conv) = graph.take(source) {
                    graph.nodes[id].op = Op::Conv(Box::new(after(*conv, &scale, &shift)));
                }
                graph.nodes[id].inputs = graph.nodes[source].inputs.clone();
                // The convolution's name says more than its batch norm's.
                graph.nodes[id].name = graph.nodes[source].name.clone();
            }
            // Two affines in a row become one, which the next turn may fold further.
            Op::Affine { scale: s0, shift: t0 } if alone => {
                let composed = Op::Affine {
                    scale: s0.iter().zip(&scale).map(|(s0, s)| s0 * s).collect(),
                    shift: t0.iter().zip(&scale).zip(&shift).map(|((t0, s), t)| t0 * s + t).collect(),
                };
                graph.nodes[id].inputs = graph.nodes[source].inputs.clone();
                graph.nodes[id].op = composed;
            }
            _ => {}
        }
    }
    for id in 0..graph.nodes.len() {
        let Op::Affine { scale, shift } = &graph.nodes[id].op else {
            continue;
        };
        let consumers = graph.consumers();
        let [reader] = consumers[id][..] else {
            continue;
        };
        if graph.output == id || graph.nodes[reader].inputs[0] != id {
            continue;
        }
        let Op::Conv(conv) = &graph.nodes[reader].op else {
            continue;
        };
        if conv.window.pad != [0; 2] || conv.window.pad_end != [0; 2] || conv.input_relu {
            continue;
        }
        let folded = before(conv, scale, shift);
        graph.nodes[reader].inputs[0] = graph.nodes[id].inputs[0];
        graph.nodes[reader].op = Op::Conv(Box::new(folded));
    }
}

/// A convolution's biases, zeros if it has none.
fn biases(conv: &Conv) -> Vec<f32> {
    conv.bias.clone().unwrap_or_else(|| vec![0.0; conv.out_channels])
}

/// `affine(conv(x))` as one convolution.
fn after(mut conv: Conv, scale: &[f64], shift: &[f64]) -> Conv {
    let row = conv.weight.len() / conv.out_channels;
    let mut bias = biases(&conv);
    for (o, (&scale, &shift)) in scale.iter().zip(shift).enumerate() {
        for w in &mut conv.weight[o * row..(o + 1) * row] {
            *w = (f64::from(*w) * scale) as f32;
        }
        bias[o] = (f64::from(bias[o]) * scale + shift) as f32;
    }
    Conv { bias: Some(bias), ..conv }
}

/// `conv(affine(x))` as one convolution; exact only without padding.
fn before(conv: &Conv, scale: &[f64], shift: &[f64]) -> Conv {
    let mut folded = conv.clone();
    let taps = conv.taps();
    let per_group = conv.in_channels() / conv.groups;
    let row = per_group * taps;
    let out_per_group = conv.out_channels / conv.groups;
    let mut bias = biases(conv);
    for (o, bias) in bias.iter_mut().enumerate() {
        let mut sum = f64::from(*bias);
        for (i, w) in folded.weight[o * row..(o + 1) * row].iter_mut().enumerate() {
            let channel = o / out_per_group * per_group + i / taps;
            sum += f64::from(*w) * shift[channel];
            *w = (f64::from(*w) * scale[channel]) as f32;
        }
        *bias = sum as f32;
    }
    Conv { bias: Some(bias), ..folded }
}
