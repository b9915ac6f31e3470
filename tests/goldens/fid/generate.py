"""Writes the goldens of this folder with the tools that compute FID: pytorch-fid, clean-fid, torch-fidelity, torchmetrics.

usage: ENV/bin/python tests/goldens/fid/generate.py npz|metrics|resize|pictures|protocols|parquet...
ENV is that of bench/fid/tools.py; for parquet it needs pyarrow.

numpy.npz, nan.npz, negative.npz  statistics as NumPy writes them: an array in Fortran order and one of f32; an entry that
                is not a number; a variance below 0
metrics.json    what the tools compute from features of an integer formula (`features` here and in the tests)
resize.json     pictures of an integer formula, stretched by each tool's own function
features.parquet, features-f16.parquet  checks that pyarrow reads what INCEPTION_WRITE_PARQUET=1 and the test `parquet` of
                inception-metrics have written
pictures/a, b   twelve small pictures each, by bench/fid/pictures.py's recipe and smaller
protocols.json  what each tool makes of these pictures with the formula's weights: 64 features of each, and all figures
"""
import json
import os
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../../..")
sys.path.insert(0, os.path.join(ROOT, "bench/fid"))
import torch  # noqa: E402

import tools  # noqa: E402
import weights as own  # noqa: E402

PROTOCOLS = {"kid": [20, 10], "splits": 3, "seed": 7}


def integers(seed, count):
    """Numbers of 16 bits."""
    n = np.arange(count, dtype=np.uint64)
    return (((n + np.uint64(seed)) * np.uint64(2654435761)) % np.uint64(1 << 32)) >> np.uint64(16)


def features(seed, pictures, dimensions, shift):
    """Rows with a factor in common, none below 0; exact in f32."""
    own_part = integers(seed, pictures * dimensions).reshape(pictures, dimensions).astype(np.int64) - 20000
    common = integers(seed + 77, pictures).astype(np.int64)[:, None] * (1 + np.arange(dimensions) % 5)
    return (np.maximum(own_part + common // 4 + shift, 0) / 65536.0).astype(np.float32)


def metrics():
    from cleanfid import fid as clean
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    cases = []
    for dimensions, first, second in ((24, 60, 75), (40, 23, 31), (8, 200, 150)):
        a, b = features(1, first, dimensions, 0), features(5000, second, dimensions, 2500)
        wide = [a.astype(np.float64), b.astype(np.float64)]
        stats = [(f.mean(axis=0), np.cov(f, rowvar=False)) for f in wide]
        subsets, size, seed, splits = 12, 15, 2020, 4
        fidelity = {"kid_subsets": subsets, "kid_subset_size": size, "rng_seed": seed, "verbose": False}
        tensors = [torch.from_numpy(f) for f in wide]
        np.random.seed(seed)
        clean_kid = clean.kernel_distance(*wide, num_subsets=subsets, max_subset_size=size)
        kid = kid_features_to_metric(*tensors, **fidelity)
        kernel = KernelInceptionDistance(torch.nn.Identity(), subsets=subsets, subset_size=size)
        kernel.real_features, kernel.fake_features, kernel._update_count = [tensors[1]], [tensors[0]], 1
        torch.manual_seed(seed)
        mean, std = kernel.compute()
        score = InceptionScore(torch.nn.Identity(), splits=splits)
        score.features, score._update_count = [tensors[0] * 4], 1
        torch.manual_seed(seed)
        score_mean, score_std = score.compute()
        isc = isc_features_to_metric(tensors[0] * 4, splits, True, seed)
        prc = prc_features_to_metric(*tensors, prc_neighborhood=3, prc_batch_size=10000, verbose=False)
        cases.append({
            "dimensions": dimensions, "first": first, "second": second, "subsets": subsets, "size": size, "seed": seed, "splits": splits,
            "mean": stats[0][0].tolist(), "variances": np.diagonal(stats[0][1]).tolist(),
            "pytorch-fid": {"fid": float(calculate_frechet_distance(*stats[0], *stats[1]))},
            "clean-fid": {"fid": float(clean.fid_from_feats(*wide)), "kid": {"mean": clean_kid}},
            "torch-fidelity": {
                "fid": fid_statistics_to_metric(*[fid_features_to_statistics(t) for t in tensors], False)["frechet_inception_distance"],
                "kid": {"mean": kid["kernel_inception_distance_mean"], "std": kid["kernel_inception_distance_std"]},
                "inception_score": {"mean": isc["inception_score_mean"], "std": isc["inception_score_std"]},
                "precision": prc["precision"], "recall": prc["recall"]},
            "torchmetrics": {
                "kid": {"mean": float(mean), "std": float(std)}, "inception_score": {"mean": float(score_mean), "std": float(score_std)}},
        })
    write("metrics.json", cases)


def npz():
    sigma = np.asfortranarray(np.arange(1.0, 10.0).reshape(3, 3))
    np.savez_compressed(os.path.join(HERE, "numpy.npz"), mu=np.array([0.5, 1.5, 2.5], np.float32), sigma=sigma, arr_0=np.array(1))
    np.savez(os.path.join(HERE, "nan.npz"), mu=np.zeros(2), sigma=np.array([[1.0, np.nan], [0.0, 1.0]]))
    np.savez(os.path.join(HERE, "negative.npz"), mu=np.zeros(2), sigma=np.array([[1.0, 0.0], [0.0, -0.5]]))


def pixels(width, height):
    n = np.arange(width * height * 3, dtype=np.uint64)
    return ((n * np.uint64(2654435761)) % np.uint64(1 << 32) >> np.uint64(24)).astype(np.uint8).reshape(height, width, 3)


SIZES = [((5, 4), 9), ((20, 13), 7), ((33, 48), 29), ((31, 97), 30), ((40, 9), 17), ((1, 1), 3), ((19, 23), 23), ((90, 7), 5),
         ((40, 40), 47), ((21, 21), 21)]


def resize():
    import torch.nn.functional as F
    from cleanfid.resize import make_resizer
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    cases = []
    for (width, height), side in SIZES:
        image = pixels(width, height)
        x = torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).float()
        size = (side, side)
        planes = {
            # pytorch-fid's pixels are of 0 to 1.
            "torch-bilinear": F.interpolate(x / 255, size=size, mode="bilinear", align_corners=False)[0].numpy() * 255,
            "torch-antialiased": F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)[0].numpy(),
            "tensor-flow-bilinear": interpolate_bilinear_2d_like_tensorflow1x(x, size=size, align_corners=False)[0].numpy(),
            "pil-bicubic": make_resizer("PIL", False, "bicubic", (side, side))(image).transpose(2, 0, 1),
        }
        rows = {name: [round(float(v), 4) for v in plane.transpose(1, 2, 0).ravel()] for name, plane in planes.items()}
        cases.append({"from": [width, height], "to": [side, side], **rows})
    write("resize.json", cases)


def pictures():
    from PIL import Image

    import pictures as recipe

    photographs = [Image.open(os.path.join(ROOT, "tests/images", name)).convert("RGB") for name in sorted(os.listdir(os.path.join(ROOT, "tests/images")))]
    for worse, name in enumerate("ab"):
        rng = np.random.default_rng(20 + worse)
        os.makedirs(os.path.join(HERE, "pictures", name), exist_ok=True)
        for index in range(12):
            image = recipe.picture(rng, photographs, worse, 0)
            width, height = (int(n) for n in rng.integers(18, 60, 2))
            image.resize((width, height), Image.BICUBIC).convert(["RGB", "RGB", "L", "RGBA", "P", "RGB"][index % 6]).save(os.path.join(HERE, "pictures", name, f"{index:02}.png"))


def protocols():
    sys.modules["generate"] = load("formula", "../generate.py")  # which the next one imports
    goldens = load("goldens", "../weights/generate.py")
    with tempfile.TemporaryDirectory() as folder:
        model = own.network().eval()
        state = {k: torch.from_numpy(np.ascontiguousarray(goldens.tensor(k, tuple(v.shape)))) if v.dim() else torch.tensor(0) for k, v in model.state_dict().items()}
        model.load_state_dict(state)
        own.save(model, folder)
        options = tools.arguments(folder, os.path.join(HERE, "pictures/a"), os.path.join(HERE, "pictures/b"), "-")
        options.kid, options.splits, options.seed = PROTOCOLS["kid"], PROTOCOLS["splits"], PROTOCOLS["seed"]
        result = {}
        for name in tools.TOOLS:
            rows, figures = tools.run(options, name, options.a, options.b)
            figures = {key: value for key, value in figures.items() if not key.endswith("seconds")}
            picked = [np.asarray(side, np.float32)[:, ::32] for side in rows]
            result[name] = {**figures, "features": [[[float(f"{v:.7g}") for v in row] for row in side] for side in picked],
                            "largest": float(max(np.abs(side).max() for side in rows))}
            print(name, figures, "spread of features", [float(np.std(side, axis=0).mean()) for side in rows])
        write("protocols.json", {**PROTOCOLS, "tools": result})


def parquet():
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, kind, dtype in (("features", pa.float32(), np.float32), ("features-f16", pa.float16(), np.float16)):
        table = pq.read_table(os.path.join(HERE, name + ".parquet"))
        assert table.schema.field("path").type == pa.string() and table.schema.field("features").type.value_type == kind, table.schema
        found = np.array([np.asarray(row, dtype) for row in table["features"].to_pylist()])
        assert np.array_equal(found, features(1, 9, 4, 0).astype(dtype)), found
        assert table["path"].to_pylist() == [f"below/ü{row}.png" for row in range(9)]
        print(name, table.schema)


def load(name, path):
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, os.path.join(HERE, path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(name, value):
    with open(os.path.join(HERE, name), "w") as file:
        json.dump(value, file)
        file.write("\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        {"npz": npz, "metrics": metrics, "resize": resize, "pictures": pictures, "protocols": protocols, "parquet": parquet}[name]()
