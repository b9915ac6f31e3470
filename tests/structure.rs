//! The structure of GoogLeNet, which the engine's tests read where there is no Burn to capture it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::path::Path;

use inception_graph::{Graph, Op, Parameter, Window};
use inception_tests::{golden::read, storage};
use inception_weights::{KeyScheme, key_table};
use serde_json::{Value, json};

const FILE: &str = "../crates/inception-engine/tests/structure/GoogLeNet.json";

fn window(w: &Window) -> Value {
    assert!(!w.same, "GoogLeNet names its padding");
    json!([w.kernel, w.stride, w.pad, w.pad_end, w.dilation, w.ceil])
}

/// An operation by name, with what a network as it is captured can have; weights by PaddleClas's keys.
fn operation(op: &Op<Parameter>, keys: &HashMap<String, String>) -> Value {
    let weight = |parameter: &Parameter| json!([keys[&parameter.name], parameter.shape]);
    let name = op.name();
    match op {
        Op::Conv(c) => {
            assert!(!c.input_relu && !c.relu, "nothing is fused in a captured graph");
            let bias = c.bias.as_ref().map(weight);
            json!(["conv", weight(&c.weight), bias, c.out_channels, c.groups, window(&c.window)])
        }
        Op::Linear(l) => {
            assert!(!l.transposed, "Burn's own layout");
            json!(["linear", weight(&l.weight), l.bias.as_ref().map(weight), l.out_features])
        }
        Op::Pool(p) => json!(["pool", format!("{:?}", p.kind), window(&p.window)]),
        Op::GlobalAveragePool => json!(["global_average_pool"]),
        Op::Scale { scale, shift } => json!([name, scale, shift]),
        Op::Relu | Op::Concat | Op::Flatten => json!([name]),
        _ => panic!("GoogLeNet has no {name}"),
    }
}

/// A line for each node after the input: its name, its operation, and the nodes that it reads.
fn text(graph: &Graph<Parameter>, keys: &HashMap<String, String>) -> String {
    let rows =
        graph.nodes.iter().skip(1).map(|node| json!([node.name, operation(&node.op, keys), node.inputs]));
    let rows: Vec<String> = rows.map(|row| row.to_string()).collect();
    let shape = graph.nodes[0].shape;
    format!(
        "{{\"input\": [{}, {}, {}],\n\"nodes\": [\n{}\n]}}\n",
        shape.height,
        shape.width,
        shape.channels,
        rows.join(",\n")
    )
}

/// The file is what the network is now. `WRITE=1` writes it anew.
#[test]
fn the_engines_copy_of_a_structure_is_the_networks() {
    let spec = inception_nn::model("GoogLeNet").unwrap();
    let network = spec.config().init(&storage()).unwrap();
    let scheme = KeyScheme::of_origin(spec);
    let keys =
        key_table(&network, spec.architecture, scheme).into_iter().map(|row| (row.tensor.name, row.key));
    let size = read(spec.name).size;
    let graph = network.graph([size, size]).unwrap();
    assert_eq!(graph.output, graph.nodes.len() - 1);
    let found = text(&graph, &keys.collect());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("WRITE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap();
    assert!(wanted == found, "{FILE} is out of date; run this test with WRITE=1");
}
