//! Checkpoints against the libraries that wrote them: whole networks of timm, torchvision and pytorch-fid
//! from the formula's weights, and small files in every form that the libraries write.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::TensorData;
use half::{bf16, f16};
use inception_data::Resampler;
use inception_graph::Op;
use inception_nn::{
    MODELS, ModelSpec, Network, NetworkConfig, Origin, TensorInfo, TensorRole, VARIANTS, load_tensors,
    trainable_parameters,
};
use inception_tests::golden::{TOLERANCE, check_logits, worst_difference};
use inception_tests::{engine_logits, formula, formula_network, storage};
use inception_weights::{
    Checkpoint, Dtype, Entry, Error, Format, KeyScheme, LoadOptions, Metadata, Problem, convert,
    fitting_models, key_table, likely_models, load, load_with, save, save_as, save_burnpack, save_onnx,
};
use serde::Deserialize;

/// A file of `goldens/weights`; `generate.py` there says what its fields are.
#[derive(Deserialize)]
struct Golden {
    model: String,
    size: usize,
    parameters: usize,
    macs: u64,
    logits: Vec<Vec<f32>>,
    keys: Vec<(String, Vec<usize>)>,
}

fn torch_golden(name: &str) -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/weights").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn check(name: &str) {
    let golden = torch_golden(name);
    let spec = inception_nn::model(&golden.model).unwrap();
    let device = storage();
    let network = formula_network(spec, &spec.config(), &device);
    assert_eq!(spec.input_size, golden.size);
    let scheme = KeyScheme::of_origin(spec);
    let constants =
        key_table(&network, spec.architecture, scheme).into_iter().filter(|r| r.constant.is_some());
    let constants: usize = constants.map(|row| row.tensor.shape.iter().product::<usize>()).sum();
    assert_eq!(trainable_parameters(&network), golden.parameters + constants, "{name}");
    assert_eq!(network.graph([golden.size, golden.size]).unwrap().macs(), golden.macs, "{name}");
    let values = engine_logits(&network, formula::images(0..2, golden.size));
    for (row, reference) in values.chunks(spec.num_classes).zip(&golden.logits) {
        check_logits(row, reference, name);
    }
}

macro_rules! parity {
    ($($test:ident: $name:literal),* $(,)?) => {
        const CHECKED: &[&str] = &[$($name),*];
        $(#[test] fn $test() { check($name) })*
    };
}

parity! {
    timm_inception_v3: "timm-inception_v3",
    timm_inception_v4: "timm-inception_v4",
    timm_inception_resnet_v2: "timm-inception_resnet_v2",
    timm_xception41: "timm-xception41",
    timm_xception65: "timm-xception65",
    timm_xception71: "timm-xception71",
    timm_legacy_xception: "timm-legacy_xception",
    torchvision_inception_v3: "torchvision-inception_v3",
    torchvision_googlenet: "torchvision-googlenet",
    keras_inception_v3: "keras-inception_v3",
    keras_inception_resnet_v2: "keras-inception_resnet_v2",
    keras_xception: "keras-xception",
    fid_inception_v3: "fid-inception_v3",
}

fn of_other_origin() -> impl Iterator<Item = &'static ModelSpec> {
    MODELS.iter().filter(|spec| spec.origin != Origin::PaddleClas)
}

#[test]
fn every_model_of_other_origin_is_checked() {
    for spec in of_other_origin() {
        assert!(CHECKED.contains(&spec.name), "{} is not checked", spec.name);
    }
}

/// The table of names is total both ways: each of our tensors has one key of the library's state dict, in its
/// shape, and each key of that is used or on the written list of those that are not.
#[test]
fn names_are_total() {
    for spec in of_other_origin() {
        let scheme = KeyScheme::of_origin(spec);
        let network = spec.config().init(&storage()).unwrap();
        let mut table = key_table(&network, spec.architecture, scheme);
        table.retain(|row| row.constant.is_none());
        let mut ours: Vec<_> = table.iter().map(|row| (row.key.clone(), row.shape())).collect();
        let mut theirs = torch_golden(spec.name).keys;
        let all = theirs.len();
        theirs.retain(|(key, _)| !scheme.is_unused(spec.architecture, key));
        let counts_batches = scheme == KeyScheme::PyTorch;
        assert_eq!(theirs.len() < all, counts_batches, "{}: the counters of batches are unused", spec.name);
        if scheme == KeyScheme::Keras {
            theirs.iter_mut().for_each(|(key, shape)| *shape = of_kernel(key, shape));
        }
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{}", spec.name);
    }
}

/// The auxiliary classifier of torchvision's Inception V3 has its names, too, and is passed over for inference,
/// taken for training, and kept by `convert`, but for ONNX; in part or of other classes it is passed over always.
#[test]
fn auxiliary_classifiers_are_for_training() {
    let (folder, device) = (tempfile::tempdir().unwrap(), storage());
    let spec = inception_nn::model("torchvision-inception_v3").unwrap();
    let config = spec.config().with_num_classes(5).with_auxiliary(true);
    let network = formula_network(spec, &config, &device);
    let is_auxiliary = |name: &str| name.starts_with("auxiliary.");
    let full = spec.config().with_auxiliary(true).init(&device).unwrap();
    let table = key_table(&full, spec.architecture, KeyScheme::PyTorch);
    let ours = table.into_iter().filter(|row| is_auxiliary(&row.tensor.name));
    let mut ours: Vec<_> = ours.map(|row| (row.key.clone(), row.shape())).collect();
    let mut theirs = torch_golden(spec.name).keys;
    theirs.retain(|(key, _)| key.starts_with("AuxLogits.") && !key.ends_with(".num_batches_tracked"));
    ours.sort();
    theirs.sort();
    assert_eq!((ours.len(), &ours), (12, &theirs));

    let file = |edit: &dyn Fn(&mut Tensors)| {
        let bytes = write_config(spec, &config, KeyScheme::PyTorch, None, |tensors| edit(tensors));
        Checkpoint::from_bytes("memory", bytes).unwrap()
    };
    let whole = file(&|_| {});
    let mut options = LoadOptions::default();
    options.auxiliary = true;
    let taken = |checkpoint: &Checkpoint| {
        let loaded = load_with(spec, checkpoint, &device, options.clone()).unwrap();
        (loaded.network.has_auxiliary(), loaded.unused.len(), tensors_of(&loaded.network))
    };
    let loaded = load(spec, &whole, &device).unwrap();
    assert_eq!((loaded.network.has_auxiliary(), loaded.unused.len()), (false, 12));
    assert!(taken(&whole) == (true, 0, tensors_of(&network)));
    // A classifier of which only one part was replaced, as people do who do not train on the other's loss.
    let other = file(&|tensors| {
        let fc = tensors.iter_mut().find(|(key, ..)| key == "AuxLogits.fc.bias").unwrap();
        (fc.1, fc.2) = (vec![1000], vec![0.0; 1000]);
    });
    let part = file(&|tensors| tensors.retain(|(key, ..)| key != "AuxLogits.conv1.bn.weight"));
    for checkpoint in [other, part] {
        let (auxiliary, unused, _) = taken(&checkpoint);
        assert!(!auxiliary && unused >= 11, "{unused} unused");
    }

    let [native, onnx] = ["a.safetensors", "a.onnx"].map(|name| folder.path().join(name));
    for (path, auxiliary) in [(&native, true), (&onnx, false)] {
        let converted = convert(spec, &whole, path, &Dtype::F32, &Metadata::of(spec)).unwrap();
        assert_eq!(converted.loaded.network.has_auxiliary(), auxiliary);
        let again = Checkpoint::open(path).unwrap();
        assert_eq!(taken(&again).0, auxiliary);
        assert!(!load(spec, &again, &device).unwrap().network.has_auxiliary());
    }
    assert!(taken(&Checkpoint::open(&native).unwrap()).2 == tensors_of(&network));
}

/// What timm says of each of its weights: pixels and epsilons. (That `tf_`, `adv_` and `gluon_inception_v3`
/// compute the same as `inception_v3` of equal weights, the script that wrote the file has checked.)
#[test]
fn weights_of_timm_get_the_pixels_that_they_expect() {
    #[derive(Deserialize)]
    struct Pixels {
        mean: [f32; 3],
        std: [f32; 3],
        interpolation: String,
        crop: u32,
        resize_short: usize,
        epsilons: Vec<f64>,
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/weights/timm-pixels.json");
    let rows: BTreeMap<String, Pixels> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let of_timm = MODELS.iter().chain(VARIANTS).filter(|spec| spec.origin == Origin::Timm);
    assert_eq!(of_timm.count(), rows.len());
    for (name, pixels) in rows {
        let spec = inception_nn::model(&name).unwrap();
        assert_eq!(spec.name, name);
        let ours = inception::preprocessing(spec);
        assert_eq!((ours.mean, ours.std), (pixels.mean, pixels.std), "{name}");
        assert_eq!((ours.crop, spec.resize_short), (pixels.crop, pixels.resize_short), "{name}");
        assert_eq!((ours.resampler, &*pixels.interpolation), (Resampler::PilBicubic, "bicubic"), "{name}");
        let network = spec.config().init(&storage()).unwrap();
        let graph = network.graph([spec.input_size; 2]).unwrap();
        let norms = graph.nodes.iter().filter_map(|node| match &node.op {
            Op::BatchNorm(norm) => Some(norm.epsilon),
            _ => None,
        });
        for epsilon in norms {
            assert_eq!(pixels.epsilons, [epsilon], "{name}");
        }
    }
}

/// Other weights of a row are for that row's network.
#[test]
fn variants_are_of_a_row() {
    for variant in VARIANTS {
        let (row, _) = variant.name.split_once('.').unwrap();
        let row = inception_nn::model(row).unwrap();
        assert_eq!(
            (row.architecture, row.input_size, row.num_classes),
            (variant.architecture, variant.input_size, variant.num_classes)
        );
        for alias in variant.aliases {
            assert_eq!(inception_nn::model(alias).unwrap().name, variant.name);
        }
    }
}

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/weights/files")
}

/// `TENSORS` of `goldens/weights/generate.py`.
const TENSORS: &[(&str, &[usize])] = &[
    ("conv.weight", &[4, 3, 3, 3]),
    ("norm.weight", &[4]),
    ("norm.bias", &[4]),
    ("fc.weight", &[6, 5]),
    ("fc.bias", &[5]),
];

/// Every value of every small file, bit by bit.
#[test]
fn small_files_hold_what_the_libraries_put_in() {
    let mut seen = 0;
    for file in std::fs::read_dir(files()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let checkpoint = Checkpoint::open(&path).unwrap_or_else(|e| panic!("{e}"));
        let mut wanted = TENSORS.len();
        if name == "with_optimizer.pdparams" {
            wanted += 1; // The optimiser's, which loading passes over.
        }
        assert_eq!(checkpoint.entries.len(), wanted, "{name}");
        for (key, shape) in TENSORS {
            let of_key = |k: &str| k == *key || k.ends_with(&format!(".{key}"));
            let entry =
                checkpoint.entries.iter().find(|e| of_key(&e.key)).unwrap_or_else(|| panic!("{name}: {key}"));
            assert_eq!(entry.shape, *shape, "{name}: {key}");
            let exact = formula::uniform(key).map(|v| v as f32).take(entry.len());
            let exact: Vec<f32> = match entry.dtype {
                Dtype::F16 => exact.map(|v| f16::from_f32(v).to_f32()).collect(),
                Dtype::Bf16 => exact.map(|v| bf16::from_f32(v).to_f32()).collect(),
                _ => exact.collect(),
            };
            let expected_dtype = match &name {
                n if n.starts_with("f16") => Dtype::F16,
                n if n.starts_with("bf16") => Dtype::Bf16,
                n if n.starts_with("f64") => Dtype::F64,
                _ => Dtype::F32,
            };
            assert_eq!(entry.dtype, expected_dtype, "{name}: {key}");
            assert_eq!(checkpoint.values(entry).unwrap(), exact, "{name}: {key}");
        }
        seen += 1;
    }
    assert!(seen >= 32, "only {seen} files");
}

/// Keras's shape of a kernel, `[height, width, inputs, outputs]`, in our order.
fn of_kernel(key: &str, shape: &[usize]) -> Vec<usize> {
    match *shape {
        [height, width, channels, filters] if key.ends_with("depthwise_kernel") => {
            vec![channels, filters, height, width]
        }
        [height, width, inputs, outputs] => vec![outputs, inputs, height, width],
        _ => shape.to_vec(),
    }
}

fn keras_files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/weights/keras")
}

/// The variables of `keras_small` in `goldens/weights/generate.py`, in our order of dimensions.
const KERAS_SMALL: &[(&str, &[usize])] = &[
    ("conv2d/kernel", &[4, 3, 3, 2]),
    ("batch_normalization/beta", &[4]),
    ("batch_normalization/moving_mean", &[4]),
    ("batch_normalization/moving_variance", &[4]),
    ("separable_conv2d/depthwise_kernel", &[4, 1, 3, 3]),
    ("separable_conv2d/pointwise_kernel", &[5, 4, 1, 1]),
    ("batch_normalization_1/gamma", &[5]),
    ("batch_normalization_1/beta", &[5]),
    ("batch_normalization_1/moving_mean", &[5]),
    ("batch_normalization_1/moving_variance", &[5]),
    ("conv2d_1/kernel", &[5, 5, 1, 1]),
    ("conv2d_1/bias", &[5]),
    ("conv2d_2/kernel", &[5, 5, 1, 1]),
    ("dense/kernel", &[5, 2]),
    ("dense/bias", &[2]),
];

/// What `formula::tensor` gives for a variable of Keras's.
fn of_keras(key: &str, shape: &[usize]) -> Vec<f32> {
    let role = match key.rsplit('/').next().unwrap() {
        "bias" => TensorRole::Bias,
        "gamma" => TensorRole::NormScale,
        "beta" => TensorRole::NormShift,
        "moving_mean" => TensorRole::RunningMean,
        "moving_variance" => TensorRole::RunningVariance,
        _ if shape.len() == 2 => TensorRole::LinearWeight,
        _ => TensorRole::ConvWeight,
    };
    let info = TensorInfo { name: key.to_owned(), shape: shape.to_vec(), role };
    formula::tensor(key, &info).try_into_vec::<f32>().unwrap()
}

/// Every value of every small file of Keras 2 and 3, bit by bit, whatever the process had named its layers,
/// and with the base model in another or not; an optimiser's state beside them is passed over.
#[test]
fn keras_files_hold_what_keras_put_in() {
    let mut seen = 0;
    for file in std::fs::read_dir(keras_files()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("hdf5") {
            continue; // The next test.
        }
        let checkpoint = Checkpoint::open(&path).unwrap_or_else(|e| panic!("{e}"));
        let format = if name.ends_with(".keras") { Format::Keras } else { Format::KerasH5 };
        assert_eq!(checkpoint.format, format, "{name}");
        let found = |entry: &&Entry| !entry.key.contains("seed_generator");
        let found: BTreeMap<_, _> = checkpoint.entries.iter().filter(found).map(|e| (&*e.key, e)).collect();
        assert_eq!(found.len(), KERAS_SMALL.len(), "{name}: {:?}", found.keys());
        for (key, shape) in KERAS_SMALL {
            let entry = found.get(key).unwrap_or_else(|| panic!("{name}: {key} in {:?}", found.keys()));
            assert_eq!((&entry.shape[..], &entry.dtype), (*shape, &Dtype::F32), "{name}: {key}");
            assert_eq!(checkpoint.values(entry).unwrap(), of_keras(key, shape), "{name}: {key}");
        }
        seen += 1;
    }
    assert!(seen >= 11, "only {seen} files");
}

/// What h5py writes when it is told to: read, or refused by name.
#[test]
fn other_forms_of_hdf5_are_read_or_named() {
    for (name, wanted) in [
        ("latest", Ok(Dtype::F32)),
        ("v110", Ok(Dtype::F32)),
        ("f16", Ok(Dtype::F16)),
        ("f64", Ok(Dtype::F64)),
        ("big_endian", Ok(Dtype::Other("big-endian numbers".to_owned()))),
        ("compressed", Err("`layers/conv2d/vars/0` is compressed")),
    ] {
        let opened = Checkpoint::open(keras_files().join(format!("hdf5_{name}.h5")));
        match (opened, wanted) {
            (Ok(checkpoint), Ok(dtype)) => {
                assert_eq!(checkpoint.entries.len(), 3, "{name}");
                for entry in &checkpoint.entries {
                    assert_eq!(entry.dtype, dtype, "{name}: {}", entry.key);
                    let exact = of_keras(&entry.key, &entry.shape);
                    match dtype {
                        Dtype::Other(_) => assert!(checkpoint.values(entry).is_err()),
                        Dtype::F16 => {
                            let exact = exact.iter().map(|&v| f16::from_f32(v).to_f32());
                            assert!(exact.eq(checkpoint.values(entry).unwrap()), "{name}: {}", entry.key);
                        }
                        _ => assert_eq!(checkpoint.values(entry).unwrap(), exact, "{name}: {}", entry.key),
                    }
                }
            }
            (Err(error), Err(reason)) => assert!(error.to_string().contains(reason), "{name}: {error}"),
            (opened, wanted) => panic!("{name}: {opened:?}, not {wanted:?}"),
        }
    }
}

fn tensors_of(network: &Network) -> Vec<(String, Vec<f32>)> {
    let mut tensors = Vec::new();
    inception_nn::read_tensors(network, |info, data| {
        tensors.push((info.name.clone(), data.try_into_vec::<f32>().unwrap()));
        Ok::<_, std::convert::Infallible>(())
    })
    .unwrap();
    tensors
}

/// One network of each kind of layer and of stage.
const ROUND_TRIPS: &[&str] = &[
    "GoogLeNet",
    "InceptionV3",
    "Xception41_deeplab",
    "timm-inception_resnet_v2",
    "timm-xception41",
    "timm-legacy_xception",
];

/// Through every format that we write and back: the same bits, and what the file says about itself.
#[test]
fn round_trips_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    let device = storage();
    for &name in ROUND_TRIPS {
        let spec = inception_nn::model(name).unwrap();
        let network = spec.config().with_num_classes(7).with_seed(3).init(&device).unwrap();
        let metadata = Metadata::of(spec).with("labels", "[\"a\"]");
        let [first, second] = ["a.safetensors", "b.bpk"].map(|file| folder.path().join(file));
        save(&network, &metadata, &first).unwrap();
        let loaded = load(spec, &Checkpoint::open(&first).unwrap(), &device).unwrap();
        save_burnpack(&loaded.network, &metadata, &second).unwrap();
        let checkpoint = Checkpoint::open(&second).unwrap();
        assert_eq!(checkpoint.metadata, metadata);
        let again = load(spec, &checkpoint, &device).unwrap();
        assert_eq!((again.num_classes, again.key_scheme), (7, KeyScheme::Native));
        assert!(tensors_of(&network) == tensors_of(&again.network), "{name}: not the same values");
        // ONNX has no place for what only training needs.
        let third = folder.path().join("c.onnx");
        save_onnx(&network, spec, &metadata, &third).unwrap();
        let checkpoint = Checkpoint::open(&third).unwrap();
        assert_eq!(checkpoint.metadata, metadata);
        let fits: Vec<_> = likely_models(&checkpoint).iter().map(|spec| spec.name).collect();
        assert!(fits.contains(&name), "{fits:?}");
        let again = load(spec, &checkpoint, &device).unwrap();
        assert!(
            again.not_in_file.iter().all(|tensor| tensor.starts_with("auxiliary")),
            "{:?}",
            again.not_in_file
        );
        for ((tensor, ours), (_, theirs)) in tensors_of(&network).iter().zip(tensors_of(&again.network)) {
            assert!(*ours == theirs || again.not_in_file.contains(tensor), "{name}: {tensor}");
        }
        // Another network's graph is refused with the first difference.
        let other =
            inception_nn::model(if name == "GoogLeNet" { "InceptionV4" } else { "GoogLeNet" }).unwrap();
        let error = load(other, &checkpoint, &device).unwrap_err().to_string();
        assert!(error.contains("the network has") && error.contains("where the file has"), "{error}");
    }
}

/// In 16 bits: each value is the nearest that there is.
#[test]
fn half_precision_is_rounded_once() {
    let folder = tempfile::tempdir().unwrap();
    let device = storage();
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    let network = formula_network(spec, &spec.config().with_num_classes(3), &device);
    let full = tensors_of(&network);
    for (dtype, round) in [
        (Dtype::F16, (|v| f16::from_f32(v).to_f32()) as fn(f32) -> f32),
        (Dtype::Bf16, |v| bf16::from_f32(v).to_f32()),
    ] {
        let path = folder.path().join(format!("{dtype}.safetensors"));
        save_as(&network, &Metadata::of(spec), &dtype, &path).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert!(checkpoint.entries.iter().all(|entry| entry.dtype == dtype));
        let loaded = load(spec, &checkpoint, &device).unwrap();
        for ((tensor, exact), (_, found)) in full.iter().zip(tensors_of(&loaded.network)) {
            assert!(exact.iter().map(|&v| round(v)).eq(found), "{dtype}: {tensor}");
        }
        // Formats that have single precision only say so before they are written.
        for name in ["a.bpk", "a.onnx"] {
            let path = folder.path().join(name);
            let error = convert(spec, &checkpoint, &path, &dtype, &Metadata::of(spec)).unwrap_err();
            assert!(matches!(error, Error::UnwritableDtype { .. }) && !path.exists(), "{error}");
        }
    }
    // What 16 bits have no room for is not made infinite.
    let large = load_tensors(network, |info| {
        let count = info.shape.iter().product();
        Ok::<_, Error>(Some(TensorData::new(vec![70_000f32; count], info.shape.clone())))
    });
    let (large, path) = (large.unwrap(), folder.path().join("large.safetensors"));
    let error = save_as(&large, &Metadata::of(spec), &Dtype::F16, &path).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }) && !path.exists(), "{error}");
    save_as(&large, &Metadata::of(spec), &Dtype::Bf16, &path).unwrap();
}

/// An ONNX file has no auxiliary heads: those of the network are made when it is written.
#[test]
fn files_without_auxiliary_heads_convert() {
    let folder = tempfile::tempdir().unwrap();
    let spec = inception_nn::model("GoogLeNet").unwrap();
    let [onnx, back] = ["a.onnx", "a.safetensors"].map(|name| folder.path().join(name));
    {
        let device = storage();
        let network = formula_network(spec, &spec.config().with_num_classes(3), &device);
        save_onnx(&network, spec, &Metadata::of(spec), &onnx).unwrap();
    }
    // Without the device of the network that was saved.
    let converted =
        convert(spec, &Checkpoint::open(&onnx).unwrap(), &back, &Dtype::F32, &Metadata::of(spec)).unwrap();
    assert_eq!(converted.tensors, Checkpoint::open(&back).unwrap().entries.len());
    assert!(converted.tensors > 0 && converted.loaded.num_classes == 3);
}

/// What Burn's own `Module::save_file` writes can be loaded.
#[test]
fn burns_own_files_load() {
    let folder = tempfile::tempdir().unwrap();
    let device = storage();
    let spec = inception_nn::model("GoogLeNet").unwrap();
    let network = spec.config().with_num_classes(7).with_seed(3).init(&device).unwrap();
    let path = folder.path().join("burn.bpk");
    network.clone().save_file(&path).unwrap();
    let loaded = load(spec, &Checkpoint::open(&path).unwrap(), &device).unwrap_or_else(|e| panic!("{e}"));
    assert!(tensors_of(&network) == tensors_of(&loaded.network));
    // And the other way round.
    let ours = folder.path().join("ours.bpk");
    save_burnpack(&network, &Metadata::of(spec), &ours).unwrap();
    let fresh = spec.config().with_num_classes(7).with_seed(4).init(&device).unwrap();
    let theirs = fresh.try_load_file(&ours).unwrap_or_else(|e| panic!("{e}"));
    assert!(tensors_of(&network) == tensors_of(&theirs));
}

/// Keys, shapes and values of a file.
type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Writes a file with timm's names.
fn write_pytorch(spec: &ModelSpec, classes: usize, edit: impl FnOnce(&mut Tensors)) -> Vec<u8> {
    write_scheme(spec, KeyScheme::PyTorch, classes, None, edit)
}

/// Writes a safetensors file with the names of a scheme, and one piece of metadata.
fn write_scheme(
    spec: &ModelSpec,
    scheme: KeyScheme,
    classes: usize,
    metadata: Option<(&str, &str)>,
    edit: impl FnOnce(&mut Tensors),
) -> Vec<u8> {
    write_config(spec, &spec.config().with_num_classes(classes), scheme, metadata, edit)
}

/// The same, of a network of `config`.
fn write_config(
    spec: &ModelSpec,
    config: &NetworkConfig,
    scheme: KeyScheme,
    metadata: Option<(&str, &str)>,
    edit: impl FnOnce(&mut Tensors),
) -> Vec<u8> {
    let network = formula_network(spec, config, &storage());
    let table = key_table(&network, spec.architecture, scheme);
    let mut tensors: Vec<_> = table
        .iter()
        .zip(tensors_of(&network))
        .filter(|(row, _)| row.constant.is_none())
        .map(|(row, (_, values))| {
            let values = match (row.transposed, &row.tensor.shape[..]) {
                (true, &[rows, columns]) => (0..columns)
                    .flat_map(|c| (0..rows).map(move |r| (r, c)))
                    .map(|(r, c)| values[r * columns + c])
                    .collect(),
                _ => values,
            };
            (row.key.clone(), row.shape(), values)
        })
        .collect();
    edit(&mut tensors);
    let views = tensors.iter().map(|(key, shape, values)| {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        (
            key.as_str(),
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let metadata = metadata.map(|(key, value)| [(key.to_owned(), value.to_owned())].into());
    safetensors::serialize(views, metadata).unwrap()
}

/// A classifier of 1001 classes is TensorFlow's: its first class is the background.
#[test]
fn the_background_class_is_dropped_and_said() {
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    let device = storage();
    let bytes = write_pytorch(spec, 1001, |_| {});
    let checkpoint = Checkpoint::from_bytes("memory", bytes).unwrap();
    let mut options = LoadOptions::default();
    options.keep_background = true;
    let kept = load_with(spec, &checkpoint, &device, options).unwrap();
    let dropped = load(spec, &checkpoint, &device).unwrap();
    assert_eq!((kept.num_classes, kept.background_dropped), (1001, false));
    assert_eq!((dropped.num_classes, dropped.background_dropped), (1000, true));
    let logits = |network| engine_logits(network, formula::images(0..1, 64));
    let (all, rest) = (logits(&kept.network), logits(&dropped.network));
    assert!(worst_difference(&rest, &all[1..]) < 1e-6);
}

/// Wrong files: every difference by name.
#[test]
fn differences_are_named() {
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    let device = storage();
    let problems = |edit: &dyn Fn(&mut Tensors)| {
        let bytes = write_pytorch(spec, 10, edit);
        match load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &device) {
            Err(Error::Mismatch { problems, .. }) => problems,
            Ok(_) => panic!("loaded"),
            Err(other) => panic!("{other}"),
        }
    };
    let at = |tensors: &Tensors, key: &str| tensors.iter().position(|t| t.0 == key).unwrap();
    let missing = problems(&|t| {
        let i = at(t, "conv1.bn.bias");
        t.remove(i);
    });
    assert_eq!(missing, [Problem::Missing { key: "conv1.bn.bias".into(), shape: vec![64], nearest: None }]);
    let transposed = problems(&|t| {
        let i = at(t, "fc.weight");
        t[i].1.reverse();
    });
    assert_eq!(transposed.len(), 1);
    assert!(transposed[0].to_string().ends_with("(transposed?)"), "{}", transposed[0]);
    let renamed = problems(&|t| {
        let i = at(t, "conv1.bn.bias");
        t[i].0 = "conv1.bn.beta".into();
    });
    assert_eq!(renamed.len(), 2);
    assert!(renamed[0].to_string().contains("the file has `conv1.bn.beta`"), "{}", renamed[0]);
    // Not a difference: wrappers, counters, heads for training.
    let bytes = write_pytorch(spec, 10, |t| {
        t.push(("conv1.bn.num_batches_tracked".into(), vec![], vec![0.0]));
        t.push(("aux1.fc1.bias".into(), vec![1], vec![0.0]));
        t.iter_mut().for_each(|t| t.0.insert_str(0, "module."));
    });
    let loaded = load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &device).unwrap();
    assert_eq!(loaded.unused.len(), 2);
    // Infinite and undefined values load, and are named.
    let bytes = write_pytorch(spec, 10, |t| {
        let i = at(t, "conv1.bn.bias");
        t[i].2[0] = f32::NAN;
        let i = at(t, "fc.bias");
        t[i].2[0] = f32::INFINITY;
    });
    let loaded = load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &device).unwrap();
    assert_eq!(loaded.not_finite.len(), 2);
    let warnings = loaded.warnings().concat();
    assert!(loaded.not_finite.iter().all(|tensor| warnings.contains(tensor)), "{warnings}");
    assert!(loaded.not_finite.contains(&"head.fc.bias".to_owned()), "{:?}", loaded.not_finite);
}

/// What Keras calls `include_top=False`, of any origin.
#[test]
fn a_file_without_classifier_is_named() {
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    let bytes = write_pytorch(spec, 10, |t| t.retain(|t| !t.0.starts_with("fc.")));
    let checkpoint = Checkpoint::from_bytes("memory", bytes).unwrap();
    let error = load(spec, &checkpoint, &storage()).unwrap_err();
    assert!(matches!(error, Error::NoClassifier { .. }), "{error}");
    assert!(error.to_string().contains("include_top=False"), "{error}");
}

/// Another network's file is recognised.
#[test]
fn the_right_model_is_proposed() {
    let device = storage();
    let spec = inception_nn::model("timm-xception41").unwrap();
    let bytes = write_pytorch(spec, 5, |_| {});
    let checkpoint = Checkpoint::from_bytes("memory", bytes).unwrap();
    let names: Vec<_> = likely_models(&checkpoint).iter().map(|spec| spec.name).collect();
    assert_eq!(names, ["timm-xception41"]);
    let error =
        load(inception_nn::model("Xception41").unwrap(), &checkpoint, &device).unwrap_err().to_string();
    assert!(error.contains("its tensors are those of timm-xception41"), "{error}");
}

/// The places of dictionaries in a file, and their tensors.
type Dicts<'a> = &'a [(&'a [&'a str], &'a Tensors)];

/// A file of PyTorch's older format: dictionaries of tensors below these keys.
fn write_legacy(dicts: Dicts) -> Vec<u8> {
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let int = |value: usize| [b"J", &(value as u32).to_le_bytes()[..]].concat();
    let tuple = |values: &[usize]| {
        [b"(".to_vec(), values.iter().flat_map(|&v| int(v)).collect(), b"t".to_vec()].concat()
    };
    let (mut object, mut keys, mut storages) = (b"\x80\x02}".to_vec(), b"\x80\x02](".to_vec(), Vec::new());
    let mut number = 0;
    for (path, tensors) in dicts {
        for (depth, key) in path.iter().enumerate() {
            object.extend(text(key));
            if depth + 1 < path.len() {
                object.extend(b"}");
            }
        }
        object.extend(b"}(");
        for (key, shape, values) in *tensors {
            let strides: Vec<usize> = (0..shape.len()).map(|i| shape[i + 1..].iter().product()).collect();
            let storage = text(&number.to_string());
            let parts = [
                text(key),
                b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
                text("storage"),
                b"ctorch\nFloatStorage\n".to_vec(),
                storage.clone(),
                text("cpu"),
                int(values.len()),
                b"NtQK\x00".to_vec(),
                tuple(shape),
                tuple(&strides),
                b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
            ];
            object.extend(parts.concat());
            keys.extend(storage);
            storages.extend((values.len() as u64).to_le_bytes());
            storages.extend_from_slice(bytemuck::cast_slice(values));
            number += 1;
        }
        object.extend(b"u");
        object.extend(b"s".repeat(path.len()));
    }
    object.extend(b".");
    keys.extend(b"e.");
    let head = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    [head.to_vec(), object, keys, storages].concat()
}

/// The tensors of a network under PyTorch's keys.
fn pytorch_tensors(spec: &ModelSpec, classes: usize, edit: impl FnOnce(&mut Tensors)) -> Tensors {
    let bytes = write_pytorch(spec, classes, edit);
    let checkpoint = Checkpoint::from_bytes("memory", bytes).unwrap();
    let entries = checkpoint.entries.iter();
    entries.map(|e| (e.key.clone(), e.shape.clone(), checkpoint.values(e).unwrap())).collect()
}

fn bias_of(network: &Network) -> f32 {
    tensors_of(network).iter().find(|(name, _)| name == "head.fc.bias").unwrap().1[0]
}

/// Of two dictionaries that fit, the average is taken, as timm does, unless the user names the other.
#[test]
fn the_average_is_taken_and_said() {
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    let device = storage();
    let with_bias = |value: f32| {
        pytorch_tensors(spec, 3, |t| t.iter_mut().filter(|t| t.0 == "fc.bias").for_each(|t| t.2[0] = value))
    };
    let (plain, average) = (with_bias(1.0), with_bias(2.0));
    let one: Tensors = vec![("best_acc1".into(), vec![1], vec![0.5])];
    let file = write_legacy(&[
        (&["state_dict"], &plain),
        (&["nested", "model_ema"], &average),
        (&["metrics"], &one),
    ]);
    let checkpoint = Checkpoint::from_bytes("memory", file).unwrap();
    let loaded = load(spec, &checkpoint, &device).unwrap();
    assert_eq!(bias_of(&loaded.network), 2.0);
    let warnings = loaded.warnings().concat();
    assert!(warnings.contains("`nested.model_ema` are taken; `state_dict` would fit, too"), "{warnings}");
    let named = |name: &str| {
        let mut options = LoadOptions::default();
        options.state_dict = Some(name.to_owned());
        load_with(spec, &checkpoint, &device, options)
    };
    assert_eq!(bias_of(&named("state_dict").unwrap().network), 1.0);
    assert_eq!(bias_of(&named("model_ema").unwrap().network), 2.0);
    let error = named("ema").unwrap_err();
    assert!(matches!(error, Error::NoStateDict { .. }), "{error}");
    assert!(error.to_string().contains("`state_dict`"), "{error}");
    // A distillation has its teacher beside it, below another prefix.
    let both: Tensors = [("Teacher.", &average), ("Student.", &plain)]
        .iter()
        .flat_map(|(prefix, tensors)| {
            tensors
                .iter()
                .map(move |(key, shape, values)| (format!("{prefix}{key}"), shape.clone(), values.clone()))
        })
        .collect();
    let file = write_legacy(&[(&["model", "weights"], &both)]);
    let loaded = load(spec, &Checkpoint::from_bytes("memory", file).unwrap(), &device).unwrap();
    assert_eq!(bias_of(&loaded.network), 1.0);
}

/// Any prefix is left out, and what no part of the network needs is a warning.
#[test]
fn prefixes_and_unexpected_tensors_are_said() {
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    let device = storage();
    let load_edited = |edit: &dyn Fn(&mut Tensors)| {
        let bytes = write_pytorch(spec, 4, edit);
        load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &device)
    };
    let loaded = load_edited(&|t| {
        t.push(("conv1.conv.total_ops".into(), vec![1], vec![1.0]));
        t.iter_mut().for_each(|t| t.0.insert_str(0, "net.encoder."));
        t.push(("criterion.weight".into(), vec![4], vec![1.0; 4]));
    })
    .unwrap();
    let warnings = loaded.warnings().join("; ");
    assert!(warnings.contains("the prefix `net.encoder.`"), "{warnings}");
    assert_eq!(loaded.unexpected, ["net.encoder.conv1.conv.total_ops", "criterion.weight"]);
    // What the network would compute with is none of these.
    for key in ["conv1.conv.bias", "inception6a.branch1.conv.weight", "fc2.weight"] {
        let shape = if key == "fc2.weight" { vec![2, 4] } else { vec![64, 1, 1, 1] };
        let count = shape.iter().product();
        let error = load_edited(&|t| t.push((key.into(), shape.clone(), vec![0.0; count]))).unwrap_err();
        assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
    }
    // A layer behind a wrapped network is no head of it.
    let error = load_edited(&|t| {
        t.iter_mut().for_each(|t| t.0.insert_str(0, "backbone."));
        t.push(("classifier.weight".into(), vec![2, 4], vec![0.0; 8]));
    });
    assert!(error.unwrap_err().to_string().contains("`classifier.weight`"));
}

/// A classifier is found by its shape, whatever it is called and however it is written.
#[test]
fn heads_of_any_name_are_found() {
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    let device = storage();
    let wanted = formula_network(spec, &spec.config().with_num_classes(4), &device);
    for name in ["fc.1", "last_linear", "head.fc", "classifier.1", "head"] {
        let bytes = write_pytorch(spec, 4, |t| {
            for tensor in t.iter_mut().filter(|t| t.0.starts_with("fc.")) {
                tensor.0 = tensor.0.replace("fc.", &format!("{name}."));
            }
            // An auxiliary head's last layer has as many inputs.
            t.push(("aux1.fc2.weight".into(), vec![4, 1024], vec![0.0; 4096]));
        });
        let checkpoint = Checkpoint::from_bytes("memory", bytes).unwrap();
        let loaded = load(spec, &checkpoint, &device).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(tensors_of(&wanted) == tensors_of(&loaded.network), "{name}");
        assert!(loaded.warnings().concat().contains(&format!("`{name}`")), "{name}");
        assert!(fitting_models(&checkpoint).iter().any(|fit| fit.name == spec.name));
    }
    // As a 1x1 convolution, and without bias.
    let bytes = write_pytorch(spec, 4, |t| {
        t.retain(|t| t.0 != "fc.bias");
        t.iter_mut().filter(|t| t.0 == "fc.weight").for_each(|t| t.1.extend([1, 1]));
    });
    let loaded = load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &device).unwrap();
    let without_bias = |network: &Network| {
        let mut all = tensors_of(network);
        all.retain(|(name, _)| name != "head.fc.bias");
        all
    };
    assert!(without_bias(&wanted) == without_bias(&loaded.network));
    assert_eq!(bias_of(&loaded.network), 0.0);
}

/// Two fully connected layers, as fine-tuning puts them: against the sums by hand, on the engine too, and
/// through every format that we write.
#[test]
fn heads_of_several_layers_run() {
    let folder = tempfile::tempdir().unwrap();
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    let device = storage();
    let value =
        |key: &str, count: usize| formula::uniform(key).map(|v| v as f32).take(count).collect::<Vec<f32>>();
    let (first, bias, second) = (value("a", 16 * 1024), value("b", 16), value("c", 5 * 16));
    for relu in [true, false] {
        let bytes = write_pytorch(spec, 4, |t| {
            t.retain(|t| !t.0.starts_with("fc."));
            t.push(("fc.0.weight".into(), vec![16, 1024], first.clone()));
            t.push(("fc.0.bias".into(), vec![16], bias.clone()));
            t.push((format!("fc.{}.weight", if relu { 3 } else { 1 }), vec![5, 16], second.clone()));
        });
        let loaded = load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &device).unwrap();
        assert_eq!((loaded.num_classes, loaded.hidden.len(), loaded.hidden[0].relu), (5, 1, relu));
        // What the classifier is given: the logits of one that passes it on.
        let bytes = write_pytorch(spec, 4, |t| {
            t.retain(|t| !t.0.starts_with("fc."));
            let identity = (0..1024 * 1024).map(|i| if i / 1024 == i % 1024 { 1.0 } else { 0.0 }).collect();
            t.push(("fc.weight".into(), vec![1024, 1024], identity));
        });
        let passing = load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &device).unwrap();
        let run = |network: &Network| engine_logits(network, formula::images(0..1, 64));
        let features = run(&passing.network);
        let sum = |row: &[f32], x: &[f32]| row.iter().zip(x).map(|(a, b)| a * b).sum::<f32>();
        let hidden = first.chunks(1024).zip(&bias).map(|(row, bias)| sum(row, &features) + bias);
        let hidden: Vec<f32> = hidden.map(|v| if relu { v.max(0.0) } else { v }).collect();
        let wanted: Vec<f32> = second.chunks(16).map(|row| sum(row, &hidden)).collect();
        assert!(worst_difference(&run(&loaded.network), &wanted) < TOLERANCE, "{wanted:?}");
        for name in ["a.safetensors", "a.bpk", "a.onnx"] {
            let path = folder.path().join(name);
            let metadata = Metadata::of(spec).with_head(&loaded.network);
            match name {
                "a.safetensors" => save(&loaded.network, &metadata, &path).unwrap(),
                "a.bpk" => save_burnpack(&loaded.network, &metadata, &path).unwrap(),
                _ => save_onnx(&loaded.network, spec, &metadata, &path).unwrap(),
            }
            let again = load(spec, &Checkpoint::open(&path).unwrap(), &device)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(again.hidden, loaded.hidden, "{name}");
            assert!(tensors_of(&again.network) == tensors_of(&loaded.network), "{name}");
        }
    }
}

/// What the classifier of a network is given: the logits of one that passes it on.
fn features_of(spec: &ModelSpec, images: fn() -> TensorData) -> Vec<f32> {
    let bytes = write_pytorch(spec, 4, |t| {
        t.retain(|t| !t.0.starts_with("fc."));
        let identity = (0..1024 * 1024).map(|i| if i / 1024 == i % 1024 { 1.0 } else { 0.0 }).collect();
        t.push(("fc.weight".into(), vec![1024, 1024], identity));
    });
    let passing = load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &storage()).unwrap();
    engine_logits(&passing.network, images())
}

/// `BatchNorm1d` in a `Sequential` head: before its layers, between them, before and behind the ReLU, behind
/// the last. Against the sums by hand in double precision.
#[test]
fn norms_in_heads_are_folded() {
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    let device = storage();
    let images = || formula::images(0..1, 64);
    let features: Vec<f64> = features_of(spec, images).into_iter().map(f64::from).collect();
    let value = |key: &str, count: usize| -> Vec<f32> {
        formula::uniform(key).map(|v| v as f32).take(count).collect()
    };
    // Kinds of members by their numbers: Linear, ReLU, BatchNorm; dropout where nothing is. In all of them
    // the ReLU is where a gap says that there is one.
    for head in ["BL", "LBR.L", "LRB.L", "BLBRL", "LBRLB", "LBL"] {
        let (mut tensors, mut x, mut wide) = (Tensors::new(), features.clone(), 1024);
        let last = head.rfind('L').unwrap();
        for (number, kind) in head.chars().enumerate() {
            let key = |field: &str| format!("fc.{number}.{field}");
            match kind {
                'L' => {
                    let outputs = if number == last { 5 } else { 16 };
                    let (weight, bias) =
                        (value(&key("weight"), outputs * wide), value(&key("bias"), outputs));
                    let row = |row: &[f32]| row.iter().zip(&x).map(|(a, b)| f64::from(*a) * b).sum::<f64>();
                    x = weight.chunks(wide).zip(&bias).map(|(w, b)| row(w) + f64::from(*b)).collect();
                    tensors.push((key("weight"), vec![outputs, wide], weight));
                    tensors.push((key("bias"), vec![outputs], bias));
                    wide = outputs;
                }
                'R' => x.iter_mut().for_each(|x| *x = x.max(0.0)),
                'B' => {
                    let of = |field: &str| value(&key(field), wide);
                    let variance: Vec<f32> = of("running_var").iter().map(|v| v.abs() + 0.5).collect();
                    let (weight, bias, mean) = (of("weight"), of("bias"), of("running_mean"));
                    for (i, x) in x.iter_mut().enumerate() {
                        let factor = f64::from(weight[i]) / (f64::from(variance[i]) + 1e-5).sqrt();
                        *x = (*x - f64::from(mean[i])) * factor + f64::from(bias[i]);
                    }
                    let fields = [
                        ("weight", weight),
                        ("bias", bias),
                        ("running_mean", mean),
                        ("running_var", variance),
                    ];
                    tensors.extend(fields.map(|(field, values)| (key(field), vec![wide], values)));
                    tensors.push((key("num_batches_tracked"), vec![1], vec![7.0]));
                }
                _ => {}
            }
        }
        let bytes = write_pytorch(spec, 4, |t| {
            t.retain(|t| !t.0.starts_with("fc."));
            t.extend(tensors);
        });
        let checkpoint = Checkpoint::from_bytes("memory", bytes).unwrap();
        let loaded = load(spec, &checkpoint, &device).unwrap_or_else(|e| panic!("{head}: {e}"));
        let layers = head.matches('L').count();
        assert_eq!((loaded.num_classes, loaded.hidden.len()), (5, layers - 1), "{head}");
        assert_eq!(loaded.hidden.iter().any(|layer| layer.relu), head.contains('R'), "{head}");
        let warnings = loaded.warnings().concat();
        assert!(warnings.contains("are folded into it, with an epsilon of 0.00001"), "{warnings}");
        assert!(loaded.unexpected.is_empty(), "{head}: {:?}", loaded.unexpected);
        let wanted: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        let found = engine_logits(&loaded.network, images());
        assert!(worst_difference(&found, &wanted) < TOLERANCE, "{head}: {found:?}, {wanted:?}");
    }
    // A norm of other channels is no part of it.
    let bytes = write_pytorch(spec, 4, |t| {
        t.iter_mut().filter(|t| t.0.starts_with("fc.")).for_each(|t| t.0 = t.0.replace("fc.", "fc.1."));
        for field in ["weight", "bias", "running_mean", "running_var"] {
            t.push((format!("fc.0.{field}"), vec![7], vec![1.0; 7]));
        }
    });
    let error = load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &device).unwrap_err();
    assert!(error.to_string().contains("`fc.0.weight`"), "{error}");
}

/// Several `Dense` layers of Keras, which are numbered through. Whether a ReLU is between them the model's
/// description says, which the reader keeps as metadata.
#[test]
fn heads_of_keras_run() {
    let spec = inception_nn::model("keras-xception").unwrap();
    let device = storage();
    let value =
        |key: &str, count: usize| formula::uniform(key).map(|v| v as f32).take(count).collect::<Vec<f32>>();
    let (first, bias, second) = (value("a", 2048 * 16), value("b", 16), value("c", 16 * 5));
    let identity = |t: &mut Tensors| {
        t.retain(|t| !t.0.starts_with("dense/"));
        let identity = (0..2048 * 2048).map(|i| if i / 2048 == i % 2048 { 1.0 } else { 0.0 }).collect();
        t.push(("dense/kernel".into(), vec![2048, 2048], identity));
    };
    let images = || formula::images(0..1, 71);
    let bytes = write_scheme(spec, KeyScheme::Keras, 4, None, identity);
    let passing = load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &device).unwrap();
    let features = engine_logits(&passing.network, images());
    for said in [None, Some("[true]"), Some("[false]")] {
        let relu = said != Some("[false]");
        let metadata = said.map(|said| (Metadata::HEAD, said));
        let bytes = write_scheme(spec, KeyScheme::Keras, 4, metadata, |t| {
            t.retain(|t| !t.0.starts_with("dense/"));
            t.push(("dense/kernel".into(), vec![2048, 16], first.clone()));
            t.push(("dense/bias".into(), vec![16], bias.clone()));
            t.push(("dense_1/kernel".into(), vec![16, 5], second.clone()));
        });
        let loaded = load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &device).unwrap();
        assert_eq!((loaded.num_classes, loaded.hidden.len(), loaded.hidden[0].relu), (5, 1, relu));
        let warnings = loaded.warnings().concat();
        assert!(warnings.contains("its classifier is `dense`, `dense_1`"), "{warnings}");
        assert_eq!(warnings.contains("a ReLU is assumed"), said.is_none(), "{warnings}");
        let column = |matrix: &[f32], columns: usize, column: usize, x: &[f32]| -> f32 {
            matrix.iter().skip(column).step_by(columns).zip(x).map(|(a, b)| a * b).sum()
        };
        let hidden = (0..16).map(|i| column(&first, 16, i, &features) + bias[i]);
        let hidden: Vec<f32> = hidden.map(|v| if relu { v.max(0.0) } else { v }).collect();
        let wanted: Vec<f32> = (0..5).map(|i| column(&second, 5, i, &hidden)).collect();
        let found = engine_logits(&loaded.network, images());
        assert!(worst_difference(&found, &wanted) < TOLERANCE, "{found:?}, {wanted:?}");
    }
}

/// One logit is the log-odds of the second of two classes.
#[test]
fn one_logit_is_a_sigmoid() {
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    let device = storage();
    let bytes = write_pytorch(spec, 1, |_| {});
    let loaded = load(spec, &Checkpoint::from_bytes("memory", bytes).unwrap(), &device).unwrap();
    assert_eq!((loaded.num_classes, loaded.single_logit), (2, true));
    let one = formula_network(spec, &spec.config().with_num_classes(1), &device);
    let run = |network: &Network| engine_logits(network, formula::images(0..1, 64));
    let (two, one) = (run(&loaded.network), run(&one));
    // The same sum, in another order.
    assert!(two[0] == 0.0 && (two[1] - one[0]).abs() < 1e-5 * one[0].abs(), "{two:?}, {one:?}");
}

/// A network fits only if it loads.
#[test]
fn what_does_not_load_does_not_fit() {
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    let bytes = write_pytorch(spec, 4, |t| t.retain(|t| t.0 != "conv1.bn.bias"));
    let checkpoint = Checkpoint::from_bytes("memory", bytes).unwrap();
    assert!(fitting_models(&checkpoint).is_empty());
    assert_eq!(likely_models(&checkpoint).len(), 1);
    // The tensors of a shallow network are among those of a deep one.
    let deep = inception_nn::model("timm-xception65").unwrap();
    let checkpoint = Checkpoint::from_bytes("memory", write_pytorch(deep, 4, |_| {})).unwrap();
    let fits: Vec<_> = fitting_models(&checkpoint).iter().map(|spec| spec.name).collect();
    assert_eq!(fits, ["timm-xception65"]);
}

/// Keys in which the network's could be anywhere, or each behind a prefix of its own: told at once.
#[test]
fn hostile_keys_are_told_at_once() {
    let file = |keys: &[String]| {
        let tensor = |key: &String| format!(r#""{key}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#);
        let header = format!("{{{}}}", keys.iter().map(tensor).collect::<Vec<_>>().join(","));
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
    };
    let dots = vec![".".repeat(60_000) + "fc.weight"];
    let prefixes: Vec<String> = (0..20_000).map(|i| format!("p{i:06}.fc.weight")).collect();
    let spec = inception_nn::model("torchvision-googlenet").unwrap();
    for keys in [dots, prefixes] {
        let checkpoint = Checkpoint::from_bytes("hostile", file(&keys)).unwrap();
        let start = std::time::Instant::now();
        assert!(matches!(load(spec, &checkpoint, &storage()), Err(Error::Mismatch { .. })));
        // It takes a second at most; it took minutes.
        assert!(start.elapsed().as_secs() < 15, "{:?}", start.elapsed());
    }
}
