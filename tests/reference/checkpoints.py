"""Checkpoints as training scripts save them: state dicts in dictionaries, with anything beside them.

checkpoints.py make FOLDER    writes the files, and the tensors that are in them as weights.json and other.json
"""

import argparse
import datetime
import enum
import json
import os
import pathlib
import sys
from collections import OrderedDict, defaultdict

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from weights import content


class Color(enum.Enum):
    RED = 1


class Settings:
    """A class that the reader doesn't know."""

    def __init__(self):
        self.depth = 12
        self.items = [1, 2]


class DictOfOwn(dict):
    pass


class Execute:
    def __reduce__(self):
        return os.system, ("touch executed",)


def model():
    return nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(4), fc=nn.Linear(4, 3)))


def harmless(network):
    """Everything that training scripts keep beside the weights."""
    optimizer = torch.optim.AdamW(network.parameters())
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    network(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    scheduler.step()
    args = argparse.Namespace(
        lr=5e-4,
        output_dir=pathlib.PurePosixPath("out"),
        started=datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc),
        day=datetime.date(2026, 1, 2),
        color=Color.RED,
        best=np.float64(0.9),
        steps=np.int64(7),
        array=np.arange(12.0).reshape(3, 4),
        device=torch.device("cpu"),
        dtype=torch.float32,
        size=torch.Size([1, 2]),
    )
    return {
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "epoch": 7,
        "args": args,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0},
        "rng_state": torch.get_rng_state(),
        "losses": [0.5 / (step + 1) for step in range(1000)],
        "seed": 2**70,
        "minus": -(2**40),
        "sets": ({1, 2}, frozenset([3])),
        "raw": b"\x00\xff" * 200,
        "array": bytearray(b"abc"),
        "none": None,
        "flag": True,
        "counts": defaultdict(list, a=[1]),
        "settings": Settings(),
        "own": DictOfOwn(a=1),
        "text": "ß" * 300,
        "complex": 1 + 2j,
        "function": len,
    }


def make(folder):
    torch.manual_seed(11)
    network = model()
    beside = harmless(network)
    weights = OrderedDict((name, tensor.clone()) for name, tensor in network.state_dict().items())
    other = model().state_dict()
    (folder / "weights.json").write_text(json.dumps(content(weights)))
    (folder / "other.json").write_text(json.dumps(content(other)))

    def prefixed(prefix, tensors):
        return {prefix + name: tensor for name, tensor in tensors.items()}

    tagged = torch.ones(3)
    tagged.note = "an attribute"
    parameter = nn.Parameter(torch.ones(3))
    parameter.note = "an attribute"
    files = {
        "state_dict": {"state_dict": weights, "epoch": 3, "arch": "vit"},
        "model": {"model": weights} | beside,
        "model_state_dict": beside | {"model_state_dict": weights},
        "prefixes": {"state_dict": prefixed("module._orig_mod.backbone.", weights)},
        "ema": {"model": weights, "model_ema": other, "epoch": 1},
        "nested": {"ema": {"module": weights, "decay": 0.99}, "step": 1},
        "dino": {
            "student": prefixed("module.backbone.", other) | prefixed("module.head.", other),
            "teacher": prefixed("backbone.", weights) | prefixed("head.", other),
            "dino_loss": {"center": torch.zeros(1, 8)},
            "epoch": 2,
            "args": beside["args"],
        },
        "odd": weights | {"epoch": 3},
        "sparse_among": weights | {"mask": torch.eye(3).to_sparse()},
        "execute_beside": {"model": weights, "evil": Execute()},
        "execute_among": weights | {"evil": Execute()},
        "attributes": {"tensor": tagged, "parameter": parameter},
    }
    for name, value in files.items():
        for protocol in (2, 5):
            torch.save(value, folder / f"{name}.{protocol}.pt", pickle_protocol=protocol)
        torch.save(value, folder / f"{name}.legacy.ckpt", _use_new_zipfile_serialization=False)

    arrays = {name.replace(".", "/"): tensor.numpy() for name, tensor in weights.items()}
    more = {
        "fortran": np.asfortranarray(np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)),
        "half": np.arange(3, dtype=np.float16),
        "flags": np.array([True, False]),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 3), np.float32),
        "bfloat": torch.tensor([1.5, -2.0], dtype=torch.bfloat16).view(torch.uint16).numpy().view("V2"),
    }
    tensors = {name: torch.from_numpy(array.copy("C").reshape(array.shape)) for name, array in arrays.items()}
    tensors |= {
        name: torch.from_numpy(array.copy("C").reshape(array.shape)) for name, array in more.items() if name != "bfloat"
    }
    tensors["bfloat"] = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    np.savez(folder / "arrays.npz", **arrays, **more)
    np.savez_compressed(folder / "compressed.npz", **arrays, **more)
    (folder / "arrays.json").write_text(json.dumps(content(tensors)))
    np.savez(folder / "big_endian.npz", a=np.ones(3, ">f4"))

    for kind, save, ending in [("safetensors", save_file, "safetensors"), ("pytorch_model", torch.save, "bin")]:
        stem = "model" if kind == "safetensors" else kind
        sharded = folder / f"sharded_{ending}"
        sharded.mkdir()
        names = list(weights)
        parts = {f"{stem}-0000{i + 1}-of-00002.{ending}": names[i::2] for i in range(2)}
        for part, held in parts.items():
            save({name: weights[name] for name in held}, sharded / part)
        weight_map = {name: part for part, held in parts.items() for name in held}
        index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
        (sharded / f"{stem}.{ending}.index.json").write_text(json.dumps(index, indent=2))
        (sharded / "config.json").write_text(json.dumps({"model_type": "vit", "num_attention_heads": 2}))

    hub = folder / "hub"
    hub.mkdir()
    save_file(weights, hub / "model.safetensors", metadata={"format": "pt"})
    (hub / "config.json").write_text(json.dumps({"model_type": "vit", "num_attention_heads": 3}))
    (hub / "preprocessor_config.json").write_text(json.dumps({"size": 224}))
    (hub / "README.md").write_text("a model")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder]:
            make(pathlib.Path(folder))
        case _:
            sys.exit(__doc__)
