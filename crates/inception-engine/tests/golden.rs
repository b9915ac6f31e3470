//! A whole network against its golden, without Burn: the structure is a file (`tests/structure.rs` of the
//! workspace writes it), weights and images are the formula's, and the logits are those of PaddleClas.
#![allow(missing_docs, clippy::unwrap_used)] // A test fails by panicking.

#[allow(dead_code)] // No network here has norms.
#[path = "../../../tests/src/values.rs"]
mod values;

use inception_engine::graph::{Conv, Graph, Linear, Op, Pool, PoolKind, Shape, Window};
use inception_engine::{Compiled, Options};
use serde_json::Value;
use values::Spread;

/// Relative to the largest logit; as in `tests/parity.rs`, ten times under what the project promises.
const TOLERANCE: f32 = 1e-5;

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn pair(value: &Value) -> [usize; 2] {
    [number(&value[0]), number(&value[1])]
}

fn window(value: &Value) -> Window {
    let [kernel, stride, pad, pad_end, dilation] = [0, 1, 2, 3, 4].map(|i| pair(&value[i]));
    let ceil = value[5].as_bool().unwrap();
    Window { pad_end, dilation, ceil, ..Window::new(kernel, stride, pad) }
}

/// A weight by its key and shape.
fn weight(value: &Value, spread: Spread) -> Vec<f32> {
    let shape: Vec<usize> = value[1].as_array().unwrap().iter().map(number).collect();
    values::tensor(value[0].as_str().unwrap(), &shape, spread)
}

fn operation(value: &Value) -> Op {
    let bias = |value: &Value| (!value.is_null()).then(|| weight(value, Spread::Shift));
    match value[0].as_str().unwrap() {
        "conv" => Op::Conv(Box::new(Conv {
            bias: bias(&value[2]),
            out_channels: number(&value[3]),
            groups: number(&value[4]),
            ..Conv::new(weight(&value[1], Spread::ConvWeight), window(&value[5]))
        })),
        "linear" => Op::Linear(Box::new(Linear {
            weight: weight(&value[1], Spread::LinearWeight),
            bias: bias(&value[2]),
            out_features: number(&value[3]),
            transposed: false,
        })),
        "pool" => {
            let kinds = [PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding];
            let kind = kinds.into_iter().find(|kind| value[1] == format!("{kind:?}")).unwrap();
            Op::Pool(Box::new(Pool { kind, window: window(&value[2]), bias: None, relu: false }))
        }
        "global_average_pool" => Op::GlobalAveragePool,
        "scale" => Op::Scale { scale: value[1].as_f64().unwrap(), shift: value[2].as_f64().unwrap() },
        "relu" => Op::Relu,
        "concat" => Op::Concat,
        "flatten" => Op::Flatten,
        name => panic!("{name}"),
    }
}

fn read(path: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn googlenet_gives_paddles_logits() {
    let (structure, golden) =
        (read("structure/GoogLeNet.json"), read("../../../tests/goldens/GoogLeNet.json"));
    let [height, width, channels] = [0, 1, 2].map(|i| number(&structure["input"][i]));
    let mut graph = Graph::new(Shape::new(height, width, channels));
    for node in structure["nodes"].as_array().unwrap() {
        let inputs: Vec<usize> = node[2].as_array().unwrap().iter().map(number).collect();
        graph.add(node[0].as_str().unwrap(), operation(&node[1]), &inputs).unwrap();
    }
    assert_eq!(graph.macs(), golden["macs"].as_u64().unwrap());
    let image = values::images(0..1, height);
    let wanted: Vec<f32> =
        golden["logits"][0].as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap() as f32).collect();
    let largest = wanted.iter().fold(0f32, |most, logit| most.max(logit.abs()));
    // The best tier only: an emulator takes a minute for a network, and `graphs.rs` has them all.
    let model = Compiled::from_graph(graph, &Options::default()).unwrap();
    let found = model.run(&image, 1).unwrap();
    assert_eq!(found.len(), wanted.len());
    let off = found.iter().zip(&wanted).map(|(found, wanted)| (found - wanted).abs() / largest);
    // A NaN is within no tolerance.
    let worst = off.fold(0f32, |worst, off| if off <= TOLERANCE { worst.max(off) } else { f32::INFINITY });
    println!("{}: {worst:.1e}", model.isa());
    assert!(worst <= TOLERANCE, "{}: more than {TOLERANCE:.0e} of the largest logit off", model.isa());
}
