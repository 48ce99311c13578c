"""The PyTorch side of the tests of weight files.

weights.py make FOLDER    writes files that the crate must read, each with its content as NAME.json, and, in
                          FOLDER/refused, files that the crate must refuse
weights.py show FILE...   prints the content of each file, as read by PyTorch or safetensors, as JSON
weights.py strict FILE    loads the file strictly: into the reference ViT, or into a small network with batch norm
                          if a name is that of a batch norm

A content is a list of [name, type, shape, hexadecimal little-endian bytes].
"""

import io
import json
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vit import VisionTransformer


def content(tensors):
    def entry(name, tensor):
        tensor = tensor.detach().contiguous()
        raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        return [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), raw.hex()]

    return [entry(name, tensor) for name, tensor in tensors.items()]


def read(path):
    return load_file(path) if str(path).endswith(".safetensors") else torch.load(path)


class SmallCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 10)


def good_files():
    """Yields (name, tensors, keywords of torch.save)."""
    torch.manual_seed(7)
    dtypes = [
        torch.float32, torch.float64, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    ]  # fmt: skip
    values = torch.randn(3, 5) * 40
    kinds = {str(dtype).removeprefix("torch."): values.abs().to(dtype) for dtype in dtypes}
    kinds |= {"bool": values > 0, "scalar": torch.tensor(2.5), "empty": torch.empty(0, 4)}
    kinds |= {"special": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])}
    yield "dtypes", kinds, {}

    storage = torch.arange(120, dtype=torch.float32)
    tied = torch.randn(4, 4)
    views = {
        "whole": storage.view(10, 12),
        "transposed": storage.view(10, 12).t(),
        "window": storage.view(10, 12)[2:7, 3:9],
        "every_other": storage[1::2],
        "permuted": storage.view(4, 5, 6).permute(2, 0, 1),
        "expanded": storage[5:8].expand(6, 3),
        "none_of_it": storage[60:60],
        "tied": tied,
        "tied_too": tied,
    }
    yield "views", views, {}
    yield "parameters", {"a": nn.Parameter(values), "b": nn.Parameter(values.t())}, {}

    vit = VisionTransformer()
    yield "vit", vit.state_dict(), {}
    yield "parallel", nn.DataParallel(nn.Linear(3, 2)).state_dict(), {}
    cnn = SmallCnn()
    cnn.norm(torch.randn(6, 4, 3, 3))
    yield "cnn", cnn.state_dict(), {}
    for protocol in (3, 4, 5):
        yield f"protocol{protocol}", vit.norm.state_dict(), {"pickle_protocol": protocol}
    yield "names", OrderedDict([("größe.ß", values), ("a b", values), ("", values)]), {}
    yield "no_tensors", {}, {}
    legacy = {"_use_new_zipfile_serialization": False}
    yield "legacy_dtypes", kinds, legacy
    yield "legacy_views", views, legacy
    yield "legacy_parameters", {"a": nn.Parameter(values), "b": nn.Parameter(values.t())}, legacy
    yield "legacy_protocol4", vit.norm.state_dict(), legacy | {"pickle_protocol": 4}
    # 21 letters: the first entry of the zip's directory is then as long as a zip64 record.
    yield "vit_small_patch16_224", vit.norm.state_dict(), {}


class Execute:
    def __reduce__(self):
        return os.system, ("touch executed",)


def refused_files(folder):
    linear = nn.Linear(3, 2)
    weights = linear.state_dict()
    saved = {
        "epoch.pt": {"epoch": 3, "losses": [0.5, 0.25]},
        "model.pt": linear,
        "list.pt": list(weights.values()),
        "tensor.pt": torch.ones(3),
        "complex.pt": {"a": torch.ones(3, dtype=torch.complex64)},
        "float8.pt": {"a": torch.ones(3).to(torch.float8_e4m3fn)},
        "sparse.pt": {"a": torch.eye(3).to_sparse()},
        "uint16.pt": {"a": torch.ones(3).to(torch.uint16)},
        "execute.pt": {"a": Execute()},
    }
    for name, value in saved.items():
        torch.save(value, folder / name)
    complex_values = {"a": torch.ones(3, dtype=torch.complex64)}
    torch.save(complex_values, folder / "legacy_complex.pt", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(linear), folder / "torchscript.pt")
    (folder / "pickle.pt").write_bytes(pickle.dumps({"a": np.ones(3)}))
    np.save(folder / "array.npy", np.ones(3))
    np.savez(folder / "objects.npz", a=np.array([{}]))
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(10000)}, buffer)
    with zipfile.ZipFile(buffer) as stored:
        with zipfile.ZipFile(folder / "deflated.pt", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in stored.namelist():
                packed.writestr(name, stored.read(name))
    with zipfile.ZipFile(folder / "zip.pt", "w") as other:
        other.writestr("readme.txt", "not weights")
    save_file({"a": torch.ones(3).to(torch.float8_e4m3fn)}, folder / "float8.safetensors")


def make(folder):
    for name, value, options in good_files():
        torch.save(value, folder / f"{name}.pt", **options)
        (folder / f"{name}.json").write_text(json.dumps(content(value)))
        dense = {key: tensor.detach().contiguous().clone() for key, tensor in value.items()}
        save_file(dense, folder / f"{name}.safetensors", metadata={"made by": "PyTorch"})
    (folder / "refused").mkdir()
    refused_files(folder / "refused")


def strict(path):
    tensors = read(path)
    model = SmallCnn() if "norm.running_mean" in tensors else VisionTransformer()
    print(model.load_state_dict(tensors, strict=True))
    assert type(tensors) is (dict if path.endswith(".safetensors") else OrderedDict), type(tensors)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder]:
            make(Path(folder))
        case ["show", *files]:
            json.dump([content(read(path)) for path in files], sys.stdout)
        case ["strict", path]:
            strict(path)
        case _:
            sys.exit(__doc__)
