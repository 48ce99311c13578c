"""Small random checkpoints of every layout, and what their own libraries compute from them.

    layouts.py FOLDER    writes NAME.safetensors (the checkpoint), NAME.json (what stands beside it) and
                         expected.safetensors: the images of three sizes, and for each checkpoint the logits and the
                         attention [B, L, H, S, S] of each size, of the last layer only for other sizes than trained on

Needs timm, transformers, torchvision and SciPy; the tests read only the files.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import scipy.ndimage
import timm
import torch
import torchvision
import transformers
from safetensors.torch import load_file, save_file
from timm.layers import set_fused_attn
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch.nn.functional import interpolate

set_fused_attn(False)
FOLDER = pathlib.Path(sys.argv[1])
EMBED, HEADS, LAYERS, CLASSES, PATCH, HIDDEN = 16, 2, 2, 5, 4, 24
TRAINED, SIZES = 16, (16, 12, 24)
torch.manual_seed(24)
IMAGES = {size: torch.randn(2 if size == TRAINED else 1, 3, size, size) for size in SIZES}
EXPECTED = {f"images/{size}": images for size, images in IMAGES.items()}


def random_(tensors):
    """Weights that make attention uneven, and tokens so small that the norm's epsilon counts."""
    for name, tensor in tensors.items():
        values = torch.randn(tensor.shape)
        if any(part in name for part in ("token", "cls", "pos", "patch_embed", "conv_proj", "embedding")):
            values *= 1e-2
        elif tensor.ndim == 1:
            centre = 1.0 if any(part in name for part in ("norm", "ln", "gamma", "lambda")) and "bias" not in name else 0.0
            values = centre + 0.2 * values
        else:
            values *= 0.3
        tensor.copy_(values)
    return tensors


@torch.no_grad()
def randomised(model):
    random_(dict(model.named_parameters()))
    return model.eval()


def write(name, tensors, beside, run):
    """`run(images)` gives logits and attention."""
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, FOLDER / f"{name}.safetensors")
    (FOLDER / f"{name}.json").write_text(json.dumps(beside, indent=1) + "\n")
    for size, images in IMAGES.items():
        with torch.no_grad():
            logits, attention = run(images)
        EXPECTED[f"{name}/{size}/logits"] = logits
        layers = list(attention) if size == TRAINED else [attention[-1]]
        EXPECTED[f"{name}/{size}/attention"] = torch.stack(layers, 1)


# timm


def timm_run(model):
    kept = []
    for block in model.blocks:
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output))

    def run(images):
        kept.clear()
        return model(images), list(kept)

    return run


SMALL = {
    "img_size": TRAINED, "patch_size": PATCH, "embed_dim": EMBED, "depth": LAYERS, "num_heads": HEADS,
    "mlp_ratio": HIDDEN / EMBED, "num_classes": CLASSES, "dynamic_img_size": True,
}  # fmt: skip
PRETRAINED = {
    "input_size": [3, TRAINED, TRAINED], "crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic",
    "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
}  # fmt: skip


def write_timm(name, architecture, model, **options):
    config = {
        "architecture": architecture, "num_classes": CLASSES, "num_features": EMBED,
        "global_pool": model.global_pool, "pretrained_cfg": PRETRAINED, "model_args": {"num_heads": HEADS},
        **options,
    }  # fmt: skip
    write(name, model.state_dict(), {"config": config}, timm_run(model))


def timm_models():
    def vit(**options):
        return randomised(VisionTransformer(**SMALL | options))

    write_timm("timm", "vit_tiny_patch4_16", vit(), label_names=["a", "b", "c", "d", "e"])
    registers = vit(reg_tokens=3, no_embed_class=True, init_values=0.1, global_pool="avg")
    write_timm("timm_registers", "vit_tiny_patch4_reg3_16", registers)
    write_timm("timm_rows", "vit_tiny_patch4_reg2_16", vit(reg_tokens=2, qkv_bias=False, global_pool="avg", fc_norm=False))
    patches = vit(reg_tokens=4, class_token=False, no_embed_class=True, global_pool="avg", fc_norm=False)
    write_timm("timm_patches", "vit_tiny_patch4_reg4_gap_16", patches)
    distilled = randomised(VisionTransformerDistilled(**SMALL))
    write_timm("timm_deit", "deit_tiny_distilled_patch4_16", distilled)


# facebookresearch/dinov2: its tensors, which timm's loader reads, and its own interpolation


def dinov2_positions(positions, side, offset, antialias):
    rows = positions[:, 1:]
    old = int(rows.shape[1] ** 0.5)
    grid = rows.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    scale = (side + offset) / old
    size = {"scale_factor": (scale, scale)} if offset else {"size": (side, side)}
    grid = interpolate(grid, mode="bicubic", antialias=antialias, **size)
    assert grid.shape[-1] == side
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], 1)


def write_dinov2(name, registers):
    options = SMALL | {"init_values": 1.0, "num_classes": 0, "dynamic_img_size": False}
    options |= {"reg_tokens": registers, "no_embed_class": bool(registers)}
    theirs = VisionTransformer(**options).state_dict()
    if registers:
        theirs["register_tokens"] = theirs.pop("reg_token")
        theirs["pos_embed"] = torch.zeros(1, (TRAINED // PATCH) ** 2 + 1, EMBED)
    theirs["mask_token"] = torch.zeros(1, EMBED)
    random_(theirs)

    def run(images):
        side = images.shape[-1] // PATCH
        tensors = dict(theirs)
        if images.shape[-1] != TRAINED:
            tensors["pos_embed"] = dinov2_positions(theirs["pos_embed"], side, *((0, True) if registers else (0.1, False)))
        model = VisionTransformer(**options | {"img_size": images.shape[-1]}).eval()
        model.load_state_dict(checkpoint_filter_fn(tensors, model))
        return timm_run(model)(images)

    write(name, theirs, {"heads": HEADS}, run)


# transformers


def write_transformers(name, kind, config, processor=None, old=None):
    config = config(
        hidden_size=EMBED, num_hidden_layers=LAYERS, num_attention_heads=HEADS, image_size=TRAINED, patch_size=PATCH,
        attn_implementation="eager", id2label={i: f"class {i}" for i in range(CLASSES)}, **(old or {}),
    )  # fmt: skip
    model = randomised(kind(config))

    def run(images):
        options = {} if "Dinov2" in kind.__name__ else {"interpolate_pos_encoding": True}
        outputs = model(images, output_attentions=True, **options)
        logits = outputs.logits if hasattr(outputs, "logits") else outputs.last_hidden_state[:, 0]
        return logits, outputs.attentions

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = load_file(f"{folder}/model.safetensors")
        beside = {"config": json.loads(pathlib.Path(folder, "config.json").read_text())}
    if processor:
        beside["preprocessor"] = processor
    # Files keep the older names; these are the ones that the model has in memory now.
    present = model.state_dict()
    beside["present_names"] = {
        name: next(key for key, value in present.items() if value.shape == tensor.shape and (value == tensor).all())
        for name, tensor in tensors.items()
    }
    assert sorted(beside["present_names"].values()) == sorted(present)
    write(name, tensors, beside, run)


def transformers_models():
    hidden = {"intermediate_size": HIDDEN}
    stretched = {
        "do_resize": True, "size": {"height": TRAINED, "width": TRAINED}, "resample": 2, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25],
    }  # fmt: skip
    cropped = stretched | {
        "size": {"shortest_edge": 20}, "crop_size": {"height": TRAINED, "width": TRAINED}, "do_center_crop": True,
        "resample": 3,
    }  # fmt: skip
    t = transformers
    write_transformers("vit", t.ViTForImageClassification, t.ViTConfig, stretched, hidden)
    write_transformers("deit", t.DeiTForImageClassification, t.DeiTConfig, None, hidden)
    write_transformers("deit_teacher", t.DeiTForImageClassificationWithTeacher, t.DeiTConfig, None, hidden)
    ratio = {"mlp_ratio": 2}
    write_transformers("dinov2_classifier", t.Dinov2ForImageClassification, t.Dinov2Config, cropped, ratio)
    registers = ratio | {"num_register_tokens": 3}
    write_transformers("dinov2_features", t.Dinov2WithRegistersModel, t.Dinov2WithRegistersConfig, None, registers)


# torchvision


def write_torchvision(name, **options):
    def create(size):
        return torchvision.models.VisionTransformer(
            size, PATCH, LAYERS, HEADS, EMBED, HIDDEN, num_classes=CLASSES, **options
        ).eval()

    theirs = randomised(create(TRAINED)).state_dict()

    def run(images):
        size = images.shape[-1]
        model = create(size)
        tensors = torchvision.models.vision_transformer.interpolate_embeddings(size, PATCH, dict(theirs))
        model.load_state_dict(tensors)
        kept = []
        for layer in model.encoder.layers:
            original = layer.self_attention.forward

            def forward(q, k, v, need_weights, original=original):
                mixed, attention = original(q, k, v, need_weights=True, average_attn_weights=False)
                kept.append(attention)
                return mixed, attention

            layer.self_attention.forward = forward
        return model(images), kept

    write(name, theirs, {"heads": HEADS}, run)


# google-research/vision_transformer: arrays by its names, which timm's loader reads


def google_arrays():
    shapes = {
        "cls": (1, 1, EMBED),
        "embedding/kernel": (PATCH, PATCH, 3, EMBED),
        "embedding/bias": (EMBED,),
        "head/kernel": (EMBED, CLASSES),
        "head/bias": (CLASSES,),
        "Transformer/posembed_input/pos_embedding": (1, (TRAINED // PATCH) ** 2 + 1, EMBED),
        "Transformer/encoder_norm/scale": (EMBED,),
        "Transformer/encoder_norm/bias": (EMBED,),
    }
    for i in range(LAYERS):
        block, attention = f"Transformer/encoderblock_{i}", "MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            shapes[f"{block}/{attention}/{part}/kernel"] = (EMBED, HEADS, EMBED // HEADS)
            shapes[f"{block}/{attention}/{part}/bias"] = (HEADS, EMBED // HEADS)
        shapes[f"{block}/{attention}/out/kernel"] = (HEADS, EMBED // HEADS, EMBED)
        shapes[f"{block}/{attention}/out/bias"] = (EMBED,)
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes[f"{block}/{norm}/scale"] = shapes[f"{block}/{norm}/bias"] = (EMBED,)
        for dense, (inputs, outputs) in enumerate([(EMBED, HIDDEN), (HIDDEN, EMBED)]):
            shapes[f"{block}/MlpBlock_3/Dense_{dense}/kernel"] = (inputs, outputs)
            shapes[f"{block}/MlpBlock_3/Dense_{dense}/bias"] = (outputs,)
    return random_({name: torch.zeros(shape) for name, shape in shapes.items()})


def write_google(name):
    theirs = google_arrays()

    def run(images):
        size = images.shape[-1]
        model = VisionTransformer(**SMALL | {"dynamic_img_size": False}).eval()
        with tempfile.TemporaryDirectory() as folder:
            np.savez(f"{folder}/vit.npz", **{key: tensor.numpy() for key, tensor in theirs.items()})
            model.load_pretrained(f"{folder}/vit.npz")
        if size == TRAINED:
            return timm_run(model)(images)
        # As the function `load_pretrained` of Google's checkpoint.py.
        positions = theirs["Transformer/posembed_input/pos_embedding"].numpy()[0]
        side, old = size // PATCH, TRAINED // PATCH
        zoom = (side / old, side / old, 1)
        grid = scipy.ndimage.zoom(positions[1:].reshape(old, old, -1), zoom, order=1).reshape(side * side, -1)
        tensors = model.state_dict() | {"pos_embed": torch.tensor(np.concatenate([positions[:1], grid]))[None]}
        other = VisionTransformer(**SMALL | {"img_size": size, "dynamic_img_size": False}).eval()
        other.load_state_dict(tensors)
        return timm_run(other)(images)

    write(name, theirs, {}, run)


FOLDER.mkdir(exist_ok=True)
timm_models()
write_dinov2("dinov2", 0)
write_dinov2("dinov2_registers", 3)
transformers_models()
write_torchvision("torchvision")
write_torchvision("torchvision_two_layers", representation_size=EMBED)
write_google("google")
save_file({name: tensor.contiguous() for name, tensor in EXPECTED.items()}, FOLDER / "expected.safetensors")
versions = {library.__name__: library.__version__ for library in (torch, timm, transformers, torchvision)}
print(json.dumps(versions), sum(path.stat().st_size for path in FOLDER.iterdir()), "bytes")
