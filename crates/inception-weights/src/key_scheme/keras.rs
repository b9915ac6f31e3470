//! The layers of `keras.applications`, in the order of our fields.
//!
//! A layer's name is its class and its place among those of its class in `Model.layers`. Keras sorts these by
//! their distance from the output, which mixes the branches of a module; those at one distance stay in the
//! order in which they were made. Keras 2.15 and 3.15 give the same order.

use inception_nn::Architecture as A;

use super::table::KeyTable;

/// The convolutions of a module: the places in Keras's order, from 0, of what our fields have one after the
/// other.
#[derive(Clone, Copy)]
struct Module {
    places: &'static [usize],
    /// Whether a convolution without norm closes it.
    residual: bool,
}

const fn module(places: &'static [usize]) -> Module {
    Module { places, residual: false }
}

const fn residual(places: &'static [usize]) -> Module {
    Module { places, residual: true }
}

const STEM: Module = module(&[0, 1, 2, 3, 4]);
const V3_A: Module = module(&[3, 1, 4, 0, 2, 5, 6]);
const V3_B: Module = module(&[2, 0, 1, 3]);
const V3_C: Module = module(&[6, 2, 4, 7, 0, 1, 3, 5, 8, 9]);
const V3_D: Module = module(&[2, 4, 0, 1, 3, 5]);
const V3_E: Module = module(&[7, 1, 3, 4, 0, 2, 5, 6, 8]);
const V3: &[(Module, usize)] = &[(STEM, 1), (V3_A, 3), (V3_B, 1), (V3_C, 4), (V3_D, 1), (V3_E, 2)];

const RESNET_A: Module = residual(&[3, 1, 4, 0, 2, 5]);
const RESNET_B: Module = residual(&[2, 0, 1, 3]);
const RESNET_REDUCTION_B: Module = module(&[1, 4, 2, 5, 0, 3, 6]);
const RESNET: &[(Module, usize)] = &[
    (STEM, 1),
    (V3_A, 1),
    (RESNET_A, 10),
    (V3_B, 1),
    (RESNET_B, 20),
    (RESNET_REDUCTION_B, 1),
    (RESNET_B, 10),
    (module(&[0]), 1),
];

pub(super) const TABLES: &[KeyTable] = &[
    KeyTable::new(A::KerasInceptionV3, || inception(V3)).without_scale(),
    KeyTable::new(A::TimmInceptionResNetV2, || inception(RESNET)).without_scale(),
    KeyTable::new(A::KerasXception, xception),
];

/// A layer of a class by its place, with what separates it from a variable.
fn layer(class: &str, place: usize) -> String {
    match place {
        0 => format!("{class}/"),
        _ => format!("{class}_{place}/"),
    }
}

/// Modules, each so many times, and the classifier.
fn inception(modules: &[(Module, usize)]) -> Vec<String> {
    let (mut convs, mut norms) = (0, 0);
    let mut layers = Vec::new();
    for module in modules.iter().flat_map(|&(module, times)| std::iter::repeat_n(module, times)) {
        for place in module.places {
            layers.push(layer("conv2d", convs + place));
            layers.push(layer("batch_normalization", norms + place));
        }
        convs += module.places.len();
        norms += module.places.len();
        if module.residual {
            layers.push(layer("conv2d", convs));
            convs += 1;
        }
    }
    layers.push(layer("dense", 0));
    layers
}

fn xception() -> Vec<String> {
    let (mut convs, mut norms, mut separables) = (0, 0, 0);
    let mut layers = Vec::new();
    let next = |class: &str, count: &mut usize| {
        *count += 1;
        layer(class, *count - 1)
    };
    for _ in 0..2 {
        layers.push(next("conv2d", &mut convs));
        layers.push(next("batch_normalization", &mut norms));
    }
    let entry = [(2, true); 3];
    let middle = [(3, false); 8];
    let exit = [(2, true), (2, false)];
    for (count, projects) in entry.into_iter().chain(middle).chain(exit) {
        for _ in 0..count {
            let separable = next("separable_conv2d", &mut separables);
            layers.extend(["depthwise_", "pointwise_"].map(|half| format!("{separable}{half}")));
            layers.push(next("batch_normalization", &mut norms));
        }
        if projects {
            layers.push(next("conv2d", &mut convs));
            layers.push(next("batch_normalization", &mut norms));
        }
    }
    layers.push(layer("dense", 0));
    layers
}
