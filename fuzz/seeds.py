"""Writes the seeds of the fuzz targets that start from nothing that the tests have: python3 fuzz/seeds.py"""
import gzip
import io
import json
import os
import tarfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDENS = os.path.join(HERE, "../tests/goldens")


def write(target, name, content):
    os.makedirs(os.path.join(HERE, "corpus", target), exist_ok=True)
    with open(os.path.join(HERE, "corpus", target, name), "wb") as file:
        file.write(content)


def read(name):
    with open(os.path.join(GOLDENS, name), "rb") as file:
        return file.read()


def zipped(members, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def tarred(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


for name in ("hdf5_v110", "hdf5_latest", "keras2_flat_weights"):
    write("keras", name, zipped([("metadata.json", b"{}"), ("config.json", b"{}"), ("model.weights.h5", read(f"weights/keras/{name}.h5"))]))
layer = {"class_name": "Dense", "config": {"name": "dense", "units": 4, "activation": "relu"}}
config = json.dumps({"class_name": "Sequential", "config": {"layers": [layer, layer]}}).encode()
write("keras", "config", zipped([("config.json", config), ("model.weights.h5", read("weights/keras/hdf5_v110.h5"))]))
write("torchscript", "traced", read("weights/files/traced.pt"))
write("exported", "exported", read("weights/files/exported.pt2"))
# The same archive with other sizes and strides of one weight: a dimension of one with the largest stride, and no strides at all.
archive = zipfile.ZipFile(io.BytesIO(read("weights/files/exported.pt2")))
members = {name: archive.read(name) for name in archive.namelist()}
listing = next(name for name in members if name.endswith("model_weights_config.json"))
config = json.loads(members[listing])
meta = config["config"]["conv.weight"]["tensor_meta"]
for seed, sizes, strides in (("stride-of-one", (27, 1, 4), (1, 2**64 - 1, 27)), ("strides-missing", (4, 3, 3, 3), ())):
    meta["sizes"], meta["strides"] = ([{"as_int": n} for n in numbers] for numbers in (sizes, strides))
    members[listing] = json.dumps(config).encode()
    write("exported", seed, zipped(members.items()))
for name in os.listdir(os.path.join(GOLDENS, "weights/graphs")):
    if name.endswith(".onnx"):
        write("matching", name[:-5], read("weights/graphs/" + name))

picture = read("preprocess/inputs/1x1.png")
classes = [("1/a.png", picture), ("0/b.jpg", picture), ("n01440764/" + "x" * 120 + ".jpg", picture)]
nested = tarred([("n01440764.tar", tarred([("a.JPEG", picture)])), ("n02328150.tar", tarred([("b.JPEG", picture)]))])
for name, members in (("classes", classes), ("named", [("cat/a.jpg", b"1"), ("dog/a.jpg", b"22"), ("emu/a.jpg", b"")])):
    write("archives", name + "_tar", tarred(members))
    write("archives", name + "_targz", gzip.compress(tarred(members), mtime=0))
    write("archives", name + "_zip", zipped(members))
    write("archives", name + "_deflated", zipped(members, zipfile.ZIP_DEFLATED))
write("archives", "nested_tar", nested)
write("archives", "nested_targz", gzip.compress(nested, mtime=0))
write("archives", "members_targz", gzip.compress(nested[:1000], mtime=0) + gzip.compress(nested[1000:], mtime=0))

write("lists", "paddleclas", b"val/a.jpg 0\nval/b c.jpg 2\n")
write("lists", "from_one", b"a.jpg 1\nb.jpg 3\n")
write("lists", "kaggle", b"ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 85 1 499 272 n02328150 1 2 3 4 \n")
write("lists", "ground_truth", b"490\n361\n171\n")
write("lists", "bom", b"\xef\xbb\xbfa.jpg\t0\r\n")
write("lists", "paths", b"a.jpg\nb.png\n")
for number, text in enumerate((b"a 0", b"a b 1\n\n\nc 0", b"1000\n1", b"./a/./b.jpg 2", b"/etc/passwd 0", b"../../a 1", b"a.jpg 00000000001")):
    write("lists", f"more{number}", text)
for number, text in enumerate(("a", "3 musketeers\n7 dwarfs", "1:a\n0:b", "0,a\n1,b", '[["n1", "a"], ["n2", "b"]]', '{"a": 0}')):
    write("labels", f"more{number}", text.encode())
for name, text in (("lines", "cat\ndog, hound\n"), ("numbers", "0 cat\n1 dog\n"), ("list", '["cat", "dog"]'),
                   ("keras", '{"0": ["n02123045", "cat"], "1": ["n02084071", "dog"]}'), ("class_to_idx", '{"class_to_idx": {"dog": 1, "cat": 0}}'),
                   ("map", '{"0": "cat", "1": "dog"}'), ("bom", "\ufeffcat\r\ndog\r\n")):
    write("labels", name, text.encode())
