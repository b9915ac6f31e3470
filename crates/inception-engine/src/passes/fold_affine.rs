//! Batch norm at inference is a scale and a shift for each channel; a convolution can take them into its weights.

use crate::graph::{Conv, Graph, Op};

/// Folds each affine node into the convolution before it (if it is the only reader) or after it (if that does not pad,
/// since padding enters after the shift). Folds in f64 and rounds once.
pub(super) fn run(graph: &mut Graph) {
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
                let folded = after(conv, &scale, &shift);
                graph.nodes[id].inputs = graph.nodes[source].inputs.clone();
                // The convolution's name says more than its batch norm's.
                graph.nodes[id].name = graph.nodes[source].name.clone();
                graph.nodes[id].op = Op::Conv(Box::new(folded));
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

/// `affine(conv(x))` as one convolution.
fn after(conv: &Conv, scale: &[f64], shift: &[f64]) -> Conv {
    let mut folded = conv.clone();
    let row = conv.weight.len() / conv.out_channels;
    for (o, (&scale, &shift)) in scale.iter().zip(shift).enumerate() {
        for w in &mut folded.weight[o * row..(o + 1) * row] {
            *w = (f64::from(*w) * scale) as f32;
        }
        folded.bias[o] = (f64::from(conv.bias[o]) * scale + shift) as f32;
    }
    folded
}

/// `conv(affine(x))` as one convolution; exact only without padding.
fn before(conv: &Conv, scale: &[f64], shift: &[f64]) -> Conv {
    let mut folded = conv.clone();
    let taps = conv.taps();
    let per_group = conv.in_channels() / conv.groups;
    let row = per_group * taps;
    let out_per_group = conv.out_channels / conv.groups;
    for o in 0..conv.out_channels {
        let mut bias = f64::from(conv.bias[o]);
        for (i, w) in folded.weight[o * row..(o + 1) * row].iter_mut().enumerate() {
            let channel = o / out_per_group * per_group + i / taps;
            bias += f64::from(*w) * shift[channel];
            *w = (f64::from(*w) * scale[channel]) as f32;
        }
        folded.bias[o] = bias as f32;
    }
    folded
}
