"""The four tools on two folders of pictures, with weights from a folder that `weights.py` has filled.

usage: ENV/bin/python bench/fid/tools.py WEIGHTS A B OUT.json [--npy DIR] [--seed N] [--kid SUBSETS SIZE] [--splits N] [--only TOOL] [--threads N]
                                        [--workers N]
ENV has torch, torchvision, pytorch-fid, clean-fid, torch-fidelity, torchmetrics and scipy before 1.18.
A are the generated pictures, B the real ones. OUT.json gets each tool's figures; DIR its features, TOOL-a.npy and TOOL-b.npy.
Pictures may have any sizes: tools that need equal ones get one picture at a time.
"""
import argparse
import contextlib
import glob
import io
import json
import os
import sys
import time
import warnings

import numpy as np
import torch

warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import weights as own  # noqa: E402


# What pytorch-fid and clean-fid look for; torch-fidelity opens whatever it is told to.
EXTENSIONS = (".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def files(folder):
    return sorted(path for path in glob.glob(os.path.join(folder, "*")) if path.lower().endswith(EXTENSIONS))


def pytorch_fid(options, a, b):
    from pathlib import Path

    from pytorch_fid import fid_score
    from pytorch_fid.inception import InceptionV3

    own.network(torch.load(os.path.join(options.weights, own.NAME)))  # from now on its own code gets this file
    model = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    features = [fid_score.get_activations([Path(f) for f in files(folder)], model, options.batch, num_workers=options.workers) for folder in (a, b)]
    stats = [(np.mean(f, axis=0), np.cov(f, rowvar=False)) for f in features]
    start = time.perf_counter()
    fid = fid_score.calculate_frechet_distance(*stats[0], *stats[1])
    return features, {"fid": fid, "root_seconds": time.perf_counter() - start}


def clean_fid(options, a, b):
    from cleanfid import fid
    from cleanfid.inception_torchscript import InceptionV3W

    model = InceptionV3W(options.weights, download=False)
    of = lambda folder: fid.get_folder_features(folder, model, num_workers=options.workers, batch_size=options.batch, device=torch.device("cpu"), verbose=False)
    features = [of(a), of(b)]
    start = time.perf_counter()
    distance = fid.fid_from_feats(*features)
    seconds = time.perf_counter() - start
    np.random.seed(options.seed)
    kid = fid.kernel_distance(*features, num_subsets=options.kid[0], max_subset_size=options.kid[1])
    return features, {"fid": distance, "kid": {"mean": kid}, "root_seconds": seconds}


def torch_fidelity(options, a, b):
    from PIL import Image
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # What its `calculate_metrics` does, but that the features come out, too.
    model = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], os.path.join(options.weights, own.NAME))
    features, logits = [], []
    with torch.no_grad():
        for folder in (a, b):
            pixels = (torch.from_numpy(np.asarray(Image.open(f).convert("RGB")).transpose(2, 0, 1)[None].copy()) for f in files(folder))
            rows = [model(picture) for picture in pixels]
            features.append(torch.cat([row for row, _ in rows]))
            logits.append(torch.cat([classes for _, classes in rows]))
    start = time.perf_counter()
    fid = metric_fid.fid_statistics_to_metric(*[metric_fid.fid_features_to_statistics(f) for f in features], False)
    seconds = time.perf_counter() - start
    kid = metric_kid.kid_features_to_metric(*features, kid_subsets=options.kid[0], kid_subset_size=min(options.kid[1], *(len(f) for f in features)),
                                            rng_seed=options.seed, verbose=False)
    score = metric_isc.isc_features_to_metric(logits[0], options.splits, True, options.seed)
    shares = metric_prc.prc_features_to_metric(*features, prc_neighborhood=3, prc_batch_size=10000, verbose=False)
    return [f.numpy() for f in features], {
        "fid": fid["frechet_inception_distance"],
        "kid": {"mean": kid["kernel_inception_distance_mean"], "std": kid["kernel_inception_distance_std"]},
        "inception_score": {"mean": score["inception_score_mean"], "std": score["inception_score_std"]},
        "precision": shares["precision"], "recall": shares["recall"], "root_seconds": seconds}


def torchmetrics(options, a, b):
    from PIL import Image
    from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
    from torchmetrics.image.inception import InceptionScore
    from torchmetrics.image.kid import KernelInceptionDistance

    path = os.path.join(options.weights, own.NAME)
    fid = FrechetInceptionDistance(2048, feature_extractor_weights_path=path)
    features = [[], []]
    logits = []
    both = NoTrainInceptionV3("x", ["2048", "logits_unbiased"], path)
    network = both._torch_fidelity_forward
    with torch.no_grad():
        for side, folder in enumerate((a, b)):
            found = files(folder)
            for start in range(0, len(found), options.batch):
                pixels = np.stack([np.asarray(Image.open(f).convert("RGB")).transpose(2, 0, 1) for f in found[start:start + options.batch]])
                rows, classes = network(torch.from_numpy(pixels))
                features[side].append(rows.numpy())
                if side == 0:
                    logits.append(classes)
    features = [np.concatenate(f) for f in features]
    # The metric's own sums, fed with the features that its own network has computed.
    fid.inception = torch.nn.Identity()
    for real, rows in ((False, features[0]), (True, features[1])):
        fid.update(torch.from_numpy(rows), real)
    start = time.perf_counter()
    distance = float(fid.compute())
    seconds = time.perf_counter() - start
    kid = KernelInceptionDistance(torch.nn.Identity(), subsets=options.kid[0], subset_size=min(options.kid[1], *(len(f) for f in features)))
    kid.real_features, kid.fake_features = [torch.from_numpy(features[1]).double()], [torch.from_numpy(features[0]).double()]
    kid._update_count = 1
    torch.manual_seed(options.seed)
    mean, std = kid.compute()
    score = InceptionScore(torch.nn.Identity(), splits=options.splits)
    score.features = [torch.cat(logits).double()]
    score._update_count = 1
    torch.manual_seed(options.seed)
    score_mean, score_std = score.compute()
    return features, {
        "fid": distance, "kid": {"mean": float(mean), "std": float(std)},
        "inception_score": {"mean": float(score_mean), "std": float(score_std)}, "root_seconds": seconds}


TOOLS = {"pytorch-fid": pytorch_fid, "clean-fid": clean_fid, "torch-fidelity": torch_fidelity, "torchmetrics": torchmetrics}


def only_torch_fidelity(options, a, b):
    import torch_fidelity as tool

    path = os.path.join(options.weights, own.NAME)
    return tool.calculate_metrics(input1=a, input2=b, cuda=False, batch_size=options.batch, fid=True, verbose=False, cache=False,
                                  feature_extractor="inception-v3-compat", feature_extractor_weights_path=path)


def only_torchmetrics(options, a, b):
    """A loader of a worker thread, and the metric as its documentation has it, for pictures of one size."""
    from PIL import Image
    from torch.utils.data import DataLoader
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Pictures(torch.utils.data.Dataset):
        def __init__(self, folder):
            self.files = files(folder)

        def __len__(self):
            return len(self.files)

        def __getitem__(self, index):
            return torch.from_numpy(np.asarray(Image.open(self.files[index]).convert("RGB")).transpose(2, 0, 1).copy())

    fid = FrechetInceptionDistance(2048, feature_extractor_weights_path=os.path.join(options.weights, own.NAME))
    with torch.no_grad():
        for folder, real in ((a, False), (b, True)):
            for batch in DataLoader(Pictures(folder), options.batch, num_workers=options.workers):
                fid.update(batch, real)
    return float(fid.compute())


def only_clean_fid(options, a, b):
    from cleanfid import fid
    from cleanfid.inception_torchscript import InceptionV3W

    model = InceptionV3W(options.weights, download=False)
    of = lambda folder: fid.get_folder_features(folder, model, num_workers=options.workers, batch_size=options.batch, device=torch.device("cpu"), verbose=False)
    return fid.fid_from_feats(of(a), of(b))


# FID alone, from files: for timing. (pytorch-fid's function above does no more.)
FID_ONLY = {"pytorch-fid": lambda *rest: pytorch_fid(*rest)[1]["fid"], "clean-fid": only_clean_fid, "torch-fidelity": only_torch_fidelity,
            "torchmetrics": only_torchmetrics}


def run(options, name, a, b):
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        features, figures = TOOLS[name](options, a, b)
    figures["seconds"] = time.perf_counter() - start
    return features, figures


def arguments(*values):
    parser = argparse.ArgumentParser()
    parser.add_argument("weights")
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("out")
    parser.add_argument("--npy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--kid", type=int, nargs=2, default=[100, 1000])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--only", choices=TOOLS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    return parser.parse_args(values or None)


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    result = {}
    for name in [options.only] if options.only else TOOLS:
        features, figures = run(options, name, options.a, options.b)
        if options.npy:
            os.makedirs(options.npy, exist_ok=True)
            for side, rows in zip("ab", features):
                np.save(os.path.join(options.npy, f"{name}-{side}.npy"), np.asarray(rows, np.float32))
        result[name] = {**figures, "kid_size": options.kid[1]}
        print(name, figures, flush=True)
    with open(options.out, "w") as file:
        json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
