//! The table of models: counts, names, sizes, and the copies of it in the README and in docs/models.md.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashSet;

use burn::tensor::{Device, Tensor};
use inception::{counts_markdown, model_rows, models_markdown, preprocessing};
use inception_graph::{Graph, Op, Parameter, PoolKind, Shape, capture_structure};
use inception_nn::{Error, MODELS, Network, Origin, OutputStride, model};
use inception_tests::golden::read;
use inception_tests::storage;

#[test]
fn counts_equal_paddles() {
    for row in model_rows().unwrap() {
        if model(row.name).unwrap().origin != Origin::PaddleClas {
            continue; // `weights.rs` counts those.
        }
        let golden = read(row.name);
        assert_eq!(row.parameters, golden.parameters, "{}", row.name);
        assert_eq!(row.macs, golden.macs, "{}", row.name);
    }
}

/// The published figures are these counts with what the notes say left out.
#[test]
fn published_figures_are_explained() {
    for spec in MODELS.iter().filter(|spec| spec.origin == Origin::PaddleClas) {
        let is_depthwise = |t: &&inception_nn::TensorInfo| t.shape.len() == 4 && t.shape[1] == 1;
        let size = |t: &inception_nn::TensorInfo| t.shape.iter().product::<usize>();
        let tensors = spec.config().tensors().unwrap();
        let classifiers = ["head.fc", "auxiliary1.fc2", "auxiliary2.fc2"];
        let left_out: usize = match spec.name {
            "GoogLeNet" => {
                let last = tensors.iter().filter(|t| classifiers.iter().any(|c| t.name.starts_with(c)));
                last.map(size).sum()
            }
            _ => tensors.iter().filter(is_depthwise).map(size).sum(),
        };
        let trainable = tensors.iter().filter(|tensor| tensor.role.is_trainable());
        let counted = (trainable.map(size).sum::<usize>() - left_out) as f64 / 1e6;
        let off = (counted - spec.reference.params_m).abs();
        assert!(off < 0.006, "{}: {counted} M against {} M", spec.name, spec.reference.params_m);
    }
}

#[test]
fn names_are_unique_and_found() {
    let mut seen = HashSet::new();
    for spec in MODELS {
        for name in [spec.name].iter().chain(spec.aliases) {
            assert!(seen.insert(name.to_lowercase()), "{name} twice");
            assert_eq!(model(&name.to_uppercase()).unwrap().name, spec.name);
        }
    }
    let error = model("Xcepton65").unwrap_err().to_string();
    assert!(error.contains("Xception65"), "{error}");
}

#[test]
fn input_and_crop_are_one() {
    for spec in MODELS {
        assert_eq!(preprocessing(spec).crop as usize, spec.input_size, "{}", spec.name);
    }
}

/// TensorFlow's padding `same` depends on the size of the map: at each size the graph has the shapes and
/// paddings of a graph that was captured there.
#[test]
fn keras_xception_at_any_size() {
    let config = model("keras-xception").unwrap().config().with_num_classes(3);
    let network = config.init(&storage()).unwrap();
    for size @ [height, width] in [[7, 8], [12, 30], [71, 74], [150, 299], [35, 2 * 299]] {
        let init = |device: &Device| config.init(device).unwrap();
        let captured = capture_structure(init, Network::forward, [3, height, width]).unwrap();
        let graph = network.graph(size).unwrap();
        let pools = |graph: &Graph<Parameter>| {
            let pools = graph.nodes.iter().filter_map(|node| match &node.op {
                Op::Pool(pool) if pool.kind == PoolKind::Max => Some((pool.window.pad, node.shape)),
                _ => None,
            });
            pools.collect::<Vec<_>>()
        };
        assert_eq!(pools(&graph).len(), 4);
        assert_eq!(pools(&graph), pools(&captured), "{size:?}");
    }
}

/// At the minimum every network runs, and gives a map of the size that it announces; below it is refused.
#[test]
fn minimum_input() {
    let device = storage();
    let minima = MODELS.iter().map(|spec| {
        let config = spec.config().with_num_classes(3);
        let network = config.init(&device).unwrap();
        let side = network.minimum_input();
        let announced = network.graph([side, side + 1]).unwrap().features().size();
        // Burn's own arithmetic of shapes, not ours.
        let mut features = [0; 4];
        let forward = |network: &Network, images: Tensor<4>| {
            features = network.forward_features(images.clone()).dims();
            network.forward(images)
        };
        let init = |device: &Device| config.init(device).unwrap();
        let graph = capture_structure(init, forward, [3, side, side + 1]).unwrap();
        assert_eq!(features[2..], announced, "{}", spec.name);
        assert_eq!(graph.nodes[graph.output].shape, Shape::new(1, 1, 3), "{}", spec.name);
        let refused = network.check_input([side - 1, side]).unwrap_err();
        assert_eq!(refused, Error::InputSize { height: side - 1, width: side, minimum: side });
        (spec.name, side)
    });
    let mut minima: Vec<_> = minima.collect();
    minima.retain(|(name, _)| model(name).unwrap().origin == Origin::PaddleClas);
    assert_eq!(
        minima,
        [
            ("GoogLeNet", 61),
            ("Xception41", 1),
            ("Xception41_deeplab", 1),
            ("Xception65", 1),
            ("Xception65_deeplab", 1),
            ("Xception71", 1),
            ("InceptionV3", 75),
            ("InceptionV4", 75),
        ]
    );
}

#[test]
fn what_cannot_be_built_is_refused() {
    let device = storage();
    let config = model("Xception41").unwrap().config();
    assert_eq!(config.clone().with_num_classes(0).init(&device).unwrap_err(), Error::NoClasses);
    let strided = config.with_output_stride(OutputStride::S16).init(&device).unwrap_err();
    assert_eq!(strided, Error::FixedOutputStride { model: "Xception41" });
}

#[test]
fn output_strides() {
    let spec = model("Xception65_deeplab").unwrap();
    for (stride, side) in [(OutputStride::S8, 65), (OutputStride::S16, 33), (OutputStride::S32, 17)] {
        let config = spec.config().with_output_stride(stride);
        assert_eq!(config.graph([513, 513]).unwrap().features().size(), [side, side]);
    }
}

#[test]
fn readme_has_the_table() {
    let rows = model_rows().unwrap();
    for (file, command, table) in [
        ("README.md", "models", models_markdown(&rows)),
        ("docs/models.md", "models --counts", counts_markdown(&rows)),
    ] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(file);
        let text = std::fs::read_to_string(path).unwrap();
        assert!(
            text.contains(&table),
            "{file}'s table is stale: replace it by what `cargo xtask {command}` prints"
        );
    }
}
