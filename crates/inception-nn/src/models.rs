//! The one table of models.

use crate::network::{Architecture, NetworkConfig};

/// Figures that the reference publishes for a model.
///
/// Accuracy, operations and parameters: `docs/en/models/Inception_en.md` of PaddleClas. Latency: `docs/zh_CN/models/Inception.md`
/// of April 2020 (commit 8713b9a), a V100 with TensorRT, as `models_intro.md` beside it says. Later editions of the chapter have
/// other figures: V100 and T4, batch 1, 4 and 8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reference {
    /// Share of ImageNet's validation images whose label is the first guess.
    pub top1: f64,
    /// Share whose label is among the first five guesses.
    pub top5: f64,
    /// Floating-point operations of one image, in units of 10^9, as published.
    pub flops_g: f64,
    /// Parameters, in units of 10^6, as published.
    pub params_m: f64,
    /// Latency at [`LATENCY_BATCHES`] in half and in single precision, where published.
    pub latency: Option<Latency>,
}

/// Milliseconds a batch, at each of [`LATENCY_BATCHES`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Half precision.
    pub fp16_ms: [f64; 4],
    /// Single precision.
    pub fp32_ms: [f64; 4],
}

/// Batch sizes of the reference's latency table.
pub const LATENCY_BATCHES: [usize; 4] = [1, 4, 8, 32];

/// Mean and deviation of a picture's colours, on the scale of 0 to 1, that become 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalisation {
    /// Those of ImageNet's pictures.
    ImageNet,
    /// A half and a half, so that colours are from -1 to 1, as TensorFlow's training had them.
    Half,
}

/// A row of [`MODELS`].
#[derive(Clone, Copy, Debug)]
pub struct ModelSpec {
    /// The name of the reference's table.
    pub name: &'static str,
    /// Other spellings that are accepted.
    pub aliases: &'static [&'static str],
    /// What is built.
    pub architecture: Architecture,
    /// Rows and columns of the image that the published weights are evaluated on.
    pub input_size: usize,
    /// Length in pixels of the image's short side before that square is cropped from its centre.
    pub resize_short: usize,
    /// Mean and deviation that the published weights expect of a picture's colours.
    pub normalisation: Normalisation,
    /// Classes of the published weights.
    pub num_classes: usize,
    /// The published figures.
    pub reference: Reference,
    /// Why the exact counts differ from the published ones.
    pub note: &'static str,
}

impl ModelSpec {
    /// What to build; the published number of classes unless changed.
    pub fn config(&self) -> NetworkConfig {
        NetworkConfig::new(self.name, self.architecture).with_num_classes(self.num_classes)
    }
}

const XCEPTION_NOTE: &str = "published parameters and operations leave out the depthwise convolutions; operations are 2 x MACs and a little";
const INCEPTION_NOTE: &str = "operations are 2 x MACs and a little";

const TIMM_NOTE: &str = "timm counts multiply-adds";
const TORCHVISION_NOTE: &str = "torchvision counts multiply-adds, and parameters with the auxiliary head";

const TIMM_INCEPTION_V3: ModelSpec = ModelSpec {
    name: "timm-inception_v3",
    aliases: &["timm-inception_v3.tv_in1k"],
    architecture: Architecture::TorchInceptionV3,
    input_size: 299,
    resize_short: 341,
    normalisation: Normalisation::Half,
    num_classes: 1000,
    reference: torch_reference(0.77434, 0.93474, 5.73, 23.83),
    note: TIMM_NOTE,
};

/// Every model: PaddleClas's in the order of the reference's table, then those of another origin that differ.
pub static MODELS: &[ModelSpec] = &[
    ModelSpec {
        name: "GoogLeNet",
        aliases: &["inception_v1"],
        architecture: Architecture::GoogLeNet,
        input_size: 224,
        resize_short: 256,
        normalisation: Normalisation::ImageNet,
        num_classes: 1000,
        reference: Reference {
            top1: 0.707,
            top5: 0.897,
            flops_g: 2.880,
            params_m: 8.460,
            latency: Some(Latency {
                fp16_ms: [1.428, 1.833, 2.138, 4.143],
                fp32_ms: [1.436, 2.904, 3.800, 9.049],
            }),
        },
        note: "published parameters leave out the three classifiers' last layers; operations are 2 x MACs and a little",
    },
    ModelSpec {
        name: "Xception41",
        aliases: &[],
        architecture: Architecture::Xception41,
        input_size: 299,
        resize_short: 320,
        normalisation: Normalisation::ImageNet,
        num_classes: 1000,
        reference: Reference {
            top1: 0.793,
            top5: 0.945,
            flops_g: 16.740,
            params_m: 22.690,
            latency: Some(Latency {
                fp16_ms: [1.545, 2.772, 4.961, 18.447],
                fp32_ms: [3.402, 7.889, 14.953, 56.142],
            }),
        },
        note: XCEPTION_NOTE,
    },
    ModelSpec {
        name: "Xception41_deeplab",
        aliases: &[],
        architecture: Architecture::Xception41Deeplab,
        input_size: 299,
        resize_short: 320,
        normalisation: Normalisation::ImageNet,
        num_classes: 1000,
        reference: Reference {
            top1: 0.796,
            top5: 0.944,
            flops_g: 18.160,
            params_m: 26.730,
            latency: Some(Latency {
                fp16_ms: [1.630, 2.647, 4.462, 16.354],
                fp32_ms: [3.778, 8.396, 15.449, 58.735],
            }),
        },
        note: XCEPTION_NOTE,
    },
    ModelSpec {
        name: "Xception65",
        aliases: &[],
        architecture: Architecture::Xception65,
        input_size: 299,
        resize_short: 320,
        normalisation: Normalisation::ImageNet,
        num_classes: 1000,
        reference: Reference {
            top1: 0.810,
            top5: 0.955,
            flops_g: 25.950,
            params_m: 35.480,
            latency: Some(Latency {
                fp16_ms: [5.398, 4.215, 8.611, 28.702],
                fp32_ms: [6.802, 13.935, 34.301, 87.256],
            }),
        },
        note: XCEPTION_NOTE,
    },
    ModelSpec {
        name: "Xception65_deeplab",
        aliases: &[],
        architecture: Architecture::Xception65Deeplab,
        input_size: 299,
        resize_short: 320,
        normalisation: Normalisation::ImageNet,
        num_classes: 1000,
        reference: Reference {
            top1: 0.803,
            top5: 0.945,
            flops_g: 27.370,
            params_m: 39.520,
            latency: Some(Latency {
                fp16_ms: [5.317, 3.688, 6.168, 23.108],
                fp32_ms: [8.583, 12.132, 22.917, 87.983],
            }),
        },
        note: XCEPTION_NOTE,
    },
    ModelSpec {
        name: "Xception71",
        aliases: &[],
        architecture: Architecture::Xception71,
        input_size: 299,
        resize_short: 320,
        normalisation: Normalisation::ImageNet,
        num_classes: 1000,
        reference: Reference {
            top1: 0.811,
            top5: 0.955,
            flops_g: 31.770,
            params_m: 37.280,
            latency: Some(Latency {
                fp16_ms: [2.732, 5.033, 8.948, 33.857],
                fp32_ms: [6.156, 14.359, 27.360, 107.282],
            }),
        },
        note: XCEPTION_NOTE,
    },
    ModelSpec {
        name: "InceptionV3",
        aliases: &["inception_v3"],
        architecture: Architecture::InceptionV3,
        input_size: 299,
        resize_short: 320,
        normalisation: Normalisation::ImageNet,
        num_classes: 1000,
        reference: Reference { top1: 0.791, top5: 0.946, flops_g: 11.460, params_m: 23.830, latency: None },
        note: INCEPTION_NOTE,
    },
    ModelSpec {
        name: "InceptionV4",
        aliases: &["inception_v4"],
        architecture: Architecture::InceptionV4,
        input_size: 299,
        resize_short: 320,
        normalisation: Normalisation::ImageNet,
        num_classes: 1000,
        reference: Reference {
            top1: 0.808,
            top5: 0.953,
            flops_g: 24.570,
            params_m: 42.680,
            latency: Some(Latency {
                fp16_ms: [6.172, 7.558, 9.527, 24.021],
                fp32_ms: [10.384, 17.438, 23.312, 68.777],
            }),
        },
        note: INCEPTION_NOTE,
    },
    TIMM_INCEPTION_V3,
    ModelSpec {
        name: "timm-inception_v4",
        aliases: &[],
        architecture: Architecture::TimmInceptionV4,
        input_size: 299,
        resize_short: 341,
        normalisation: Normalisation::Half,
        num_classes: 1000,
        reference: torch_reference(0.80156, 0.94968, 12.28, 42.68),
        note: TIMM_NOTE,
    },
    ModelSpec {
        name: "timm-xception41",
        aliases: &[],
        architecture: Architecture::TimmXception41,
        input_size: 299,
        resize_short: 331,
        normalisation: Normalisation::Half,
        num_classes: 1000,
        reference: torch_reference(0.78504, 0.94276, 9.28, 26.97),
        note: TIMM_NOTE,
    },
    ModelSpec {
        name: "timm-xception65",
        aliases: &[],
        architecture: Architecture::TimmXception65,
        input_size: 299,
        resize_short: 318,
        normalisation: Normalisation::Half,
        num_classes: 1000,
        reference: torch_reference(0.83182, 0.96592, 13.96, 39.92),
        note: TIMM_NOTE,
    },
    ModelSpec {
        name: "timm-xception71",
        aliases: &[],
        architecture: Architecture::TimmXception71,
        input_size: 299,
        resize_short: 331,
        normalisation: Normalisation::Half,
        num_classes: 1000,
        reference: torch_reference(0.79872, 0.94928, 18.09, 42.34),
        note: TIMM_NOTE,
    },
    ModelSpec {
        name: "torchvision-inception_v3",
        aliases: &[],
        architecture: Architecture::TorchInceptionV3,
        input_size: 299,
        resize_short: 342,
        normalisation: Normalisation::Half,
        num_classes: 1000,
        reference: torch_reference(0.77294, 0.93450, 5.713, 27.161264),
        note: TORCHVISION_NOTE,
    },
    ModelSpec {
        name: "torchvision-googlenet",
        aliases: &[],
        architecture: Architecture::TorchvisionGoogLeNet,
        input_size: 224,
        resize_short: 256,
        normalisation: Normalisation::Half,
        num_classes: 1000,
        reference: torch_reference(0.69778, 0.89530, 1.498, 6.624904),
        note: "torchvision counts multiply-adds",
    },
];

/// Other published weights of networks of [`MODELS`], by timm's names: the same network, with other values and figures,
/// and, Gluon's, for other pixels. Whose weights a file has, its tensors do not say.
///
/// TensorFlow's original files have 1001 classes, of which the first is the background; timm's later copies have 1000.
/// All of them have an epsilon of 0.001, as the row has.
pub static VARIANTS: &[ModelSpec] = &[
    ModelSpec {
        name: "timm-inception_v3.tf_in1k",
        aliases: &["timm-tf_inception_v3"],
        reference: torch_reference(0.77862, 0.93644, 5.73, 23.83),
        ..TIMM_INCEPTION_V3
    },
    ModelSpec {
        name: "timm-inception_v3.tf_adv_in1k",
        aliases: &["timm-adv_inception_v3"],
        reference: torch_reference(0.77592, 0.93730, 5.73, 23.83),
        ..TIMM_INCEPTION_V3
    },
    ModelSpec {
        name: "timm-inception_v3.gluon_in1k",
        aliases: &["timm-gluon_inception_v3"],
        normalisation: Normalisation::ImageNet,
        reference: torch_reference(0.78806, 0.94374, 5.73, 23.83),
        ..TIMM_INCEPTION_V3
    },
];

/// timm's `results/results-imagenet.csv`, or torchvision's metadata of its weights.
const fn torch_reference(top1: f64, top5: f64, flops_g: f64, params_m: f64) -> Reference {
    Reference { top1, top5, flops_g, params_m, latency: None }
}

/// The row of [`MODELS`] or [`VARIANTS`] of a name or alias, whatever its case.
///
/// # Errors
///
/// [`Error::UnknownModel`](crate::Error::UnknownModel), which names the nearest ones.
pub fn model(name: &str) -> Result<&'static ModelSpec, crate::Error> {
    let matches = |known: &&str| known.eq_ignore_ascii_case(name.trim());
    MODELS
        .iter()
        .chain(VARIANTS)
        .find(|spec| matches(&spec.name) || spec.aliases.iter().any(matches))
        .ok_or_else(|| crate::Error::UnknownModel { name: name.to_owned() })
}

/// The three names of [`MODELS`] and [`VARIANTS`] most like `name`, best first.
pub(crate) fn nearest_names(name: &str) -> Vec<&'static str> {
    let name = name.trim().to_lowercase();
    let mut names: Vec<_> = MODELS.iter().chain(VARIANTS).map(|spec| spec.name).collect();
    // Likeness is a number in 0..=1; the sort is stable, so that ties keep the table's order.
    let likeness = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &name);
    names.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    names.truncate(3);
    names
}
