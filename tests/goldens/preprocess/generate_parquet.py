"""Writes `parquet/*.parquet`: labelled pictures in Parquet as dataset hubs ship them, and `parquet.json`, what is in them.

    pip install pyarrow==26.0.1; python tests/goldens/preprocess/generate_parquet.py

The pictures are those of `inputs`. `validation-*` are as Hugging Face's `datasets` writes them: `image` of
`{bytes, path}`, `label`, Snappy, groups of few rows, two files. The others vary what writers vary.
"""
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq

HERE = os.path.dirname(os.path.abspath(__file__))
FILES = ["1x1.png", "grey1.png", "part_grey.jpg", "exif3.jpg", "palette4.png", "part_restart.jpg", "exif6.jpg", "1x1.jpg"]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema([("image", IMAGE), ("label", pa.int64())])


def rows(count, start=0):
    for i in range(start, start + count):
        name = FILES[i % len(FILES)]
        with open(os.path.join(HERE, "inputs", name), "rb") as file:
            yield {"image": {"bytes": file.read(), "path": f"{i:03}_{name}"}, "label": i * 7 % 10}


def write(name, rows, schema=SCHEMA, **options):
    rows = list(rows)
    options = {"compression": "snappy", "row_group_size": 5, **options}
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, os.path.join(HERE, "parquet", name), **options)
    picture = next(field.name for field in schema if pa.types.is_struct(field.type))
    listed = []
    for row in rows:
        image = row[picture]
        path = (image or {}).get("path")
        listed.append({"path": path, "label": row["label"], "file": path and path[4:], "bytes": bool(image and image["bytes"])})
    return {"file": name, "rows": listed}


def main():
    os.makedirs(os.path.join(HERE, "parquet"), exist_ok=True)
    other = pa.schema([("id", pa.int32()), ("caption", pa.string()), ("img", IMAGE), ("label", pa.int32())])
    some = list(rows(4))
    missing = [dict(some[0], image=None), dict(some[1], image={"bytes": None, "path": "001_away.png"}), some[2], some[3]]
    required = pa.schema([pa.field("image", pa.struct([pa.field("bytes", pa.binary(), False), pa.field("path", pa.string(), False)]), False),
                          pa.field("label", pa.int64(), False)])
    written = [
        write("validation-00000-of-00002.parquet", rows(17)),
        write("validation-00001-of-00002.parquet", rows(8, 17)),
        # Pages of few rows, with an index of them; no dictionary; the second version of pages; zstd.
        write("pages.parquet", rows(30), row_group_size=100, data_page_size=2000, write_batch_size=1, use_dictionary=False,
              compression="zstd", data_page_version="2.0", write_page_index=True),
        write("plain.parquet", rows(12), compression="none", use_dictionary=False),
        write("required.parquet", rows(3), required),
        # Other columns beside, another name of the pictures' one, labels of 32 bits.
        write("other.parquet", [{"id": i, "caption": "x", "img": row["image"], "label": row["label"]} for i, row in enumerate(rows(3))], other),
        write("missing.parquet", missing),
        write("gzip.parquet", rows(1), compression="gzip"),
    ]
    with open(os.path.join(HERE, "parquet", "parquet.json"), "w") as file:
        json.dump(written, file, indent=None)
        file.write("\n")
    for i, label in ((10, 10), (-1, -1), (None, None)):
        row = dict(some[0], label=label)
        write(f"label_{i}.parquet", [some[1], row])
    no_label = pa.schema([("image", IMAGE)])
    pq.write_table(pa.Table.from_pylist([{"image": some[0]["image"]}], schema=no_label), os.path.join(HERE, "parquet", "no_label.parquet"))


if __name__ == "__main__":
    main()
