//! The table of models. A row holds all that is known of a model beside its network: nothing else tests
//! names.

use crate::network::{Architecture, NetworkConfig};

/// Figures that the reference publishes for a model.
///
/// Accuracy, operations and parameters: `docs/en/models/Inception_en.md` of PaddleClas. Latency:
/// `docs/zh_CN/models/Inception.md` of April 2020 (commit 8713b9a), a V100 with TensorRT, as
/// `models_intro.md` beside it says. Later editions of the chapter have other figures: V100 and T4, batch 1,
/// 4 and 8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reference {
    /// Top-1 accuracy on ImageNet's validation images, from 0 to 1.
    pub top1: f64,
    /// Top-5 accuracy on them.
    pub top5: f64,
    /// Floating-point operations of one image, in units of 10^9, where published.
    pub flops_g: Option<f64>,
    /// Parameters, in units of 10^6, as published.
    pub params_m: f64,
    /// Latency at [`LATENCY_BATCHES`] in half and in single precision, where published.
    pub latency: Option<Latency>,
}

/// The figures of `docs/en/models/Inception_en.md`, of timm's `results/results-imagenet.csv`, or of
/// torchvision's metadata.
const fn reference(top1: f64, top5: f64, flops_g: f64, params_m: f64) -> Reference {
    Reference { top1, top5, flops_g: Some(flops_g), params_m, latency: None }
}

/// The figures of the README of keras-applications (commit 05ff470), which has errors in percent; parameters
/// as Keras counts them.
const fn keras_reference(top1: f64, top5: f64, params_m: f64) -> Reference {
    Reference { top1, top5, flops_g: None, params_m, latency: None }
}

impl Reference {
    const fn latency(self, fp16_ms: [f64; 4], fp32_ms: [f64; 4]) -> Self {
        Self { latency: Some(Latency { fp16_ms, fp32_ms }), ..self }
    }
}

/// Milliseconds per batch, at each of [`LATENCY_BATCHES`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// Half precision.
    pub fp16_ms: [f64; 4],
    /// Single precision.
    pub fp32_ms: [f64; 4],
}

/// Batch sizes of the reference's latency table.
pub const LATENCY_BATCHES: [usize; 4] = [1, 4, 8, 32];

/// How the published weights were trained: on a cosine of the learning rate without restarts, by SGD with a
/// momentum of 0.9.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Training {
    /// Times that each picture is seen.
    pub epochs: u32,
    /// Pictures in a batch.
    pub batch: usize,
    /// The highest learning rate.
    pub lr: f64,
    /// Epochs in which the learning rate rises from 0 to that.
    pub warmup: f64,
    /// Factor of the weights that is added to their gradients (L2).
    pub weight_decay: f64,
    /// Share of a label that is spread over all classes.
    pub label_smoothing: f64,
    /// Parameter of the beta distribution of mixup; 0 without mixup.
    pub mixup: f64,
}

/// PaddleClas's configurations (`ppcls/configs/ImageNet/Inception` and `Xception`), where they agree. The
/// batch is one GPU's.
const PADDLECLAS_TRAINING: Training = Training {
    epochs: 200,
    batch: 64,
    lr: 0.045,
    warmup: 0.0,
    weight_decay: 1e-4,
    label_smoothing: 0.1,
    mixup: 0.2,
};

/// Those of Xception41 and of the DeepLab pair.
const SHORTER_TRAINING: Option<Training> = Some(Training { epochs: 120, mixup: 0.0, ..PADDLECLAS_TRAINING });

/// The library that a model's network and published weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// PaddleClas 2.6.
    PaddleClas,
    /// timm 1.0.
    Timm,
    /// torchvision 0.29.
    Torchvision,
    /// `keras.applications` of Keras 3.15.
    Keras,
    /// pytorch-fid 0.3, whose network torch-fidelity, torchmetrics and clean-fid have, too.
    PytorchFid,
}

/// The framework of the published weights' state dict; `inception-weights` has the key table of each network.
///
/// Exhaustive, like [`Resampler`], [`Arithmetic`] and [`Normalisation`]: code that reads such a column has to
/// handle each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateDict {
    /// Paddle's: `weight`, `bias`, `_mean`, `_variance`.
    Paddle,
    /// PyTorch's: `weight`, `bias`, `running_mean`, `running_var`; fully connected weights are `[outputs,
    /// inputs]`.
    PyTorch,
    /// Keras's: layers by class and place, `kernel`, `gamma`, `beta`, `moving_mean`, `moving_variance`;
    /// kernels are `[height, width, inputs, outputs]`.
    Keras,
    /// That of NVIDIA's port of TensorFlow's Inception V3, which StyleGAN's and clean-fid's TorchScript has:
    /// `weight`, `beta`, `mean`, `var`, all of a convolution; fully connected weights are PyTorch's.
    Nvidia,
}

/// The interpolation with which the published weights are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resampler {
    /// OpenCV's `INTER_LINEAR`.
    Cv2Bilinear,
    /// Pillow's `BILINEAR`.
    PilBilinear,
    /// Pillow's `BICUBIC`.
    PilBicubic,
}

/// Whose rounding of sizes, crop and pixels the evaluation of the published weights has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// PaddleClas's.
    PaddleClas,
    /// torchvision's, which timm calls.
    Torchvision,
}

/// Mean and standard deviation of the pixels, on the scale of 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Normalisation {
    /// Those of ImageNet.
    ImageNet,
    /// 0.5 and 0.5: values from -1 to 1, as TensorFlow's training has them.
    Half,
}

/// A row of [`MODELS`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ModelSpec {
    /// The name of the reference's table.
    pub name: &'static str,
    /// Other spellings that are accepted.
    pub aliases: &'static [&'static str],
    /// The library that network and weights come from.
    pub origin: Origin,
    /// The network.
    pub architecture: Architecture,
    /// The kinds of state dict that published weights are, the origin's first.
    pub state_dicts: &'static [StateDict],
    /// Address of the published weights, below that of their origin, where they can be downloaded without a
    /// login.
    pub download: Option<&'static str>,
    /// The first digits of the published weights' SHA-256, where their name has them.
    pub sha256: Option<&'static str>,
    /// Rows and columns of the image that the published weights are evaluated on.
    pub input_size: usize,
    /// Length in pixels of the image's short side before that square is cropped from its centre.
    pub resize_short: usize,
    /// Interpolation of that resizing.
    pub resampler: Resampler,
    /// Whose rounding that resizing and cropping have.
    pub arithmetic: Arithmetic,
    /// Mean and standard deviation that the published weights expect.
    pub normalisation: Normalisation,
    /// Classes of the published weights.
    pub num_classes: usize,
    /// How they were trained, where their origin publishes it in a form that is taken over here.
    pub training: Option<Training>,
    /// Whether training has auxiliary classifiers, as its origin's has. (torchvision's GoogLeNet drops its own
    /// for pretrained weights; they are not built here.)
    pub auxiliary: bool,
    /// Share of the pooled features that training drops out where inference does not scale them: torchvision's.
    /// PaddleClas's is part of the network, and the networks of timm and Keras drop none out by default.
    pub dropout: Option<f64>,
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

    /// What training builds, as its origin does: with auxiliary classifiers and dropout.
    pub fn training_config(&self) -> NetworkConfig {
        let config = self.config().with_auxiliary(self.auxiliary);
        match self.dropout {
            Some(share) => config.with_dropout(share),
            None => config,
        }
    }

    /// A row of PaddleClas's: `preprocess` of its ImageNet configurations.
    const fn paddleclas(name: &'static str, architecture: Architecture, reference: Reference) -> Self {
        Self {
            name,
            aliases: &[],
            origin: Origin::PaddleClas,
            architecture,
            state_dicts: &[StateDict::Paddle],
            download: None,
            sha256: None,
            input_size: 299,
            resize_short: 320,
            resampler: Resampler::Cv2Bilinear,
            arithmetic: Arithmetic::PaddleClas,
            normalisation: Normalisation::ImageNet,
            num_classes: 1000,
            training: Some(PADDLECLAS_TRAINING),
            auxiliary: false,
            dropout: None,
            reference,
            note: INCEPTION_NOTE,
        }
    }

    /// A row of timm's, with the `default_cfg` that its weights of TensorFlow's origin have.
    const fn timm(name: &'static str, architecture: Architecture, reference: Reference) -> Self {
        Self {
            origin: Origin::Timm,
            state_dicts: &[StateDict::PyTorch],
            resampler: Resampler::PilBicubic,
            arithmetic: Arithmetic::Torchvision,
            normalisation: Normalisation::Half,
            training: None,
            note: TIMM_NOTE,
            ..Self::paddleclas(name, architecture, reference)
        }
    }

    /// A row of torchvision's. Its networks transform the input to [`Normalisation::Half`].
    const fn torchvision(name: &'static str, architecture: Architecture, reference: Reference) -> Self {
        Self {
            origin: Origin::Torchvision,
            resampler: Resampler::PilBilinear,
            note: TORCHVISION_NOTE,
            ..Self::timm(name, architecture, reference)
        }
    }

    /// A row of Keras's: `preprocess_input` in its mode `tf`, from -1 to 1. The published figures are of a
    /// single crop from the centre; that it is 7/8 of the resized side is TensorFlow's evaluation of the same
    /// weights. (`load_img(target_size=..)` of Keras's examples squeezes the whole picture instead.)
    const fn keras(name: &'static str, architecture: Architecture, reference: Reference) -> Self {
        Self {
            origin: Origin::Keras,
            state_dicts: &[StateDict::Keras],
            resize_short: 341,
            resampler: Resampler::PilBilinear,
            arithmetic: Arithmetic::Torchvision,
            normalisation: Normalisation::Half,
            training: None,
            note: KERAS_NOTE,
            ..Self::paddleclas(name, architecture, reference)
        }
    }
}

const XCEPTION_NOTE: &str = "published parameters and operations leave out the depthwise convolutions; operations are 2 x MACs and a little";
const INCEPTION_NOTE: &str = "operations are 2 x MACs and a little";

const TIMM_NOTE: &str = "timm counts multiply-adds";
const KERAS_NOTE: &str = "Keras's norms have no scale, and its figure counts running statistics";
const TORCHVISION_NOTE: &str = "torchvision counts multiply-adds, and parameters with the auxiliary head";

const FID_NOTE: &str =
    "published figures are those of the paper's network, which has 1000 classes; it counts multiply-adds";

const TIMM_INCEPTION_V3: ModelSpec = ModelSpec {
    aliases: &["timm-inception_v3.tv_in1k"],
    resize_short: 341,
    ..ModelSpec::timm(
        "timm-inception_v3",
        Architecture::TorchInceptionV3,
        reference(0.77434, 0.93474, 5.73, 23.83),
    )
};

const TIMM_INCEPTION_RESNET_V2: ModelSpec = ModelSpec {
    aliases: &["timm-inception_resnet_v2.tf_in1k"],
    resize_short: 333,
    ..ModelSpec::timm(
        "timm-inception_resnet_v2",
        Architecture::TimmInceptionResNetV2,
        reference(0.80462, 0.95308, 13.18, 55.84),
    )
};

/// Every model: PaddleClas's in the order of the reference's table, then those of other origins.
pub static MODELS: &[ModelSpec] = &[
    ModelSpec {
        aliases: &["inception_v1"],
        download: Some("dygraph/GoogLeNet_pretrained.pdparams"),
        auxiliary: true,
        input_size: 224,
        resize_short: 256,
        training: Some(Training {
            lr: 0.01,
            warmup: 5.0,
            label_smoothing: 0.0,
            mixup: 0.0,
            ..PADDLECLAS_TRAINING
        }),
        note: "published parameters leave out the three classifiers' last layers; operations are 2 x MACs and a little",
        ..ModelSpec::paddleclas(
            "GoogLeNet",
            Architecture::GoogLeNet,
            reference(0.707, 0.897, 2.880, 8.460)
                .latency([1.428, 1.833, 2.138, 4.143], [1.436, 2.904, 3.800, 9.049]),
        )
    },
    ModelSpec {
        download: Some("dygraph/Xception41_pretrained.pdparams"),
        training: SHORTER_TRAINING,
        note: XCEPTION_NOTE,
        ..ModelSpec::paddleclas(
            "Xception41",
            Architecture::Xception41,
            reference(0.793, 0.945, 16.740, 22.690)
                .latency([1.545, 2.772, 4.961, 18.447], [3.402, 7.889, 14.953, 56.142]),
        )
    },
    ModelSpec {
        download: Some("dygraph/Xception41_deeplab_pretrained.pdparams"),
        training: SHORTER_TRAINING,
        note: XCEPTION_NOTE,
        ..ModelSpec::paddleclas(
            "Xception41_deeplab",
            Architecture::Xception41Deeplab,
            reference(0.796, 0.944, 18.160, 26.730)
                .latency([1.630, 2.647, 4.462, 16.354], [3.778, 8.396, 15.449, 58.735]),
        )
    },
    ModelSpec {
        download: Some("dygraph/Xception65_pretrained.pdparams"),
        note: XCEPTION_NOTE,
        ..ModelSpec::paddleclas(
            "Xception65",
            Architecture::Xception65,
            reference(0.810, 0.955, 25.950, 35.480)
                .latency([5.398, 4.215, 8.611, 28.702], [6.802, 13.935, 34.301, 87.256]),
        )
    },
    ModelSpec {
        download: Some("dygraph/Xception65_deeplab_pretrained.pdparams"),
        training: SHORTER_TRAINING,
        note: XCEPTION_NOTE,
        ..ModelSpec::paddleclas(
            "Xception65_deeplab",
            Architecture::Xception65Deeplab,
            reference(0.803, 0.945, 27.370, 39.520)
                .latency([5.317, 3.688, 6.168, 23.108], [8.583, 12.132, 22.917, 87.983]),
        )
    },
    ModelSpec {
        download: Some("dygraph/Xception71_pretrained.pdparams"),
        training: Some(Training { batch: 32, lr: 0.0225, ..PADDLECLAS_TRAINING }),
        note: XCEPTION_NOTE,
        ..ModelSpec::paddleclas(
            "Xception71",
            Architecture::Xception71,
            reference(0.811, 0.955, 31.770, 37.280)
                .latency([2.732, 5.033, 8.948, 33.857], [6.156, 14.359, 27.360, 107.282]),
        )
    },
    ModelSpec {
        aliases: &["inception_v3"],
        download: Some("dygraph/legendary_models/InceptionV3_pretrained.pdparams"),
        ..ModelSpec::paddleclas(
            "InceptionV3",
            Architecture::InceptionV3,
            reference(0.791, 0.946, 11.460, 23.830),
        )
    },
    ModelSpec {
        aliases: &["inception_v4"],
        download: Some("dygraph/InceptionV4_pretrained.pdparams"),
        ..ModelSpec::paddleclas(
            "InceptionV4",
            Architecture::InceptionV4,
            reference(0.808, 0.953, 24.570, 42.680)
                .latency([6.172, 7.558, 9.527, 24.021], [10.384, 17.438, 23.312, 68.777]),
        )
    },
    TIMM_INCEPTION_V3,
    ModelSpec {
        resize_short: 341,
        ..ModelSpec::timm(
            "timm-inception_v4",
            Architecture::TimmInceptionV4,
            reference(0.80156, 0.94968, 12.28, 42.68),
        )
    },
    TIMM_INCEPTION_RESNET_V2,
    ModelSpec {
        resize_short: 331,
        ..ModelSpec::timm(
            "timm-xception41",
            Architecture::TimmXception41,
            reference(0.78504, 0.94276, 9.28, 26.97),
        )
    },
    ModelSpec {
        resize_short: 318,
        ..ModelSpec::timm(
            "timm-xception65",
            Architecture::TimmXception65,
            reference(0.83182, 0.96592, 13.96, 39.92),
        )
    },
    ModelSpec {
        resize_short: 331,
        ..ModelSpec::timm(
            "timm-xception71",
            Architecture::TimmXception71,
            reference(0.79872, 0.94928, 18.09, 42.34),
        )
    },
    ModelSpec {
        aliases: &["timm-legacy_xception.tf_in1k", "timm-xception"],
        resize_short: 333,
        ..ModelSpec::timm(
            "timm-legacy_xception",
            Architecture::TimmLegacyXception,
            reference(0.79040, 0.94382, 8.40, 22.86),
        )
    },
    ModelSpec {
        resize_short: 342,
        auxiliary: true,
        dropout: Some(0.5),
        ..ModelSpec::torchvision(
            "torchvision-inception_v3",
            Architecture::TorchInceptionV3,
            reference(0.77294, 0.93450, 5.713, 27.161264),
        )
    },
    ModelSpec {
        input_size: 224,
        resize_short: 256,
        dropout: Some(0.2),
        note: "torchvision counts multiply-adds",
        ..ModelSpec::torchvision(
            "torchvision-googlenet",
            Architecture::TorchvisionGoogLeNet,
            reference(0.69778, 0.89530, 1.498, 6.624904),
        )
    },
    ModelSpec::keras(
        "keras-inception_v3",
        Architecture::KerasInceptionV3,
        keras_reference(0.77898, 0.93720, 23.851784),
    ),
    ModelSpec::keras(
        "keras-inception_resnet_v2",
        Architecture::TimmInceptionResNetV2,
        keras_reference(0.80256, 0.95252, 55.873736),
    ),
    ModelSpec {
        note: "Keras's figure counts running statistics",
        ..ModelSpec::keras(
            "keras-xception",
            Architecture::KerasXception,
            keras_reference(0.79006, 0.94452, 22.910480),
        )
    },
    // Szegedy et al., *Rethinking the Inception architecture*, 2015: one crop, one network. FID has recipes
    // of its own for pictures; this is pytorch-fid's for a square one.
    ModelSpec {
        origin: Origin::PytorchFid,
        state_dicts: &[StateDict::PyTorch, StateDict::Nvidia],
        download: Some("releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"),
        sha256: Some("6726825d"),
        resize_short: 299,
        num_classes: 1008,
        normalisation: Normalisation::Half,
        note: FID_NOTE,
        ..ModelSpec::torchvision(
            "fid-inception_v3",
            Architecture::FidInceptionV3,
            reference(0.788, 0.944, 5.0, 25.0),
        )
    },
];

/// Other published weights of networks of [`MODELS`], by timm's names: the same network with other values and
/// figures; Gluon's also have another normalisation. The tensors of a file do not tell these weights apart.
///
/// TensorFlow's original files have 1001 classes, of which the first is the background; timm's later copies
/// have 1000. All of them have an epsilon of 0.001, as the row has.
pub static VARIANTS: &[ModelSpec] = &[
    ModelSpec {
        name: "timm-inception_v3.tf_in1k",
        aliases: &["timm-tf_inception_v3"],
        reference: reference(0.77862, 0.93644, 5.73, 23.83),
        ..TIMM_INCEPTION_V3
    },
    ModelSpec {
        name: "timm-inception_v3.tf_adv_in1k",
        aliases: &["timm-adv_inception_v3"],
        reference: reference(0.77592, 0.93730, 5.73, 23.83),
        ..TIMM_INCEPTION_V3
    },
    ModelSpec {
        name: "timm-inception_v3.gluon_in1k",
        aliases: &["timm-gluon_inception_v3"],
        normalisation: Normalisation::ImageNet,
        reference: reference(0.78806, 0.94374, 5.73, 23.83),
        ..TIMM_INCEPTION_V3
    },
    ModelSpec {
        name: "timm-inception_resnet_v2.tf_ens_adv_in1k",
        aliases: &["timm-ens_adv_inception_resnet_v2"],
        reference: reference(0.79978, 0.94946, 13.18, 55.84),
        ..TIMM_INCEPTION_RESNET_V2
    },
];

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
        .ok_or_else(|| {
            let names = MODELS.iter().chain(VARIANTS).map(|spec| spec.name);
            let nearest = nearest(name.trim(), names, |name| name, 3);
            crate::Error::UnknownModel { name: name.to_owned(), nearest }
        })
}

/// The `count` items whose text is most like `wanted`, whatever its case; best first, ties in the order of
/// `items`.
pub fn nearest<T>(
    wanted: &str,
    items: impl IntoIterator<Item = T>,
    text: impl Fn(&T) -> &str,
    count: usize,
) -> Vec<T> {
    let wanted = wanted.to_lowercase();
    let scored =
        items.into_iter().map(|item| (strsim::jaro_winkler(&text(&item).to_lowercase(), &wanted), item));
    let mut scored: Vec<_> = scored.collect();
    // From 0 to 1. The sort is stable.
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(count).map(|(_, item)| item).collect()
}
