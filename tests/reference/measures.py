"""The measures of a trained network in PyTorch and NumPy: the reference for `vitlab evidence`.

    measures.py FOLDER    reads FOLDER/KIND.pt (vit or deit), FOLDER/teacher.pt, FOLDER/data.safetensors and
                          FOLDER/sizes.json, writes FOLDER/KIND.json

The data are `test` and `train` [N, 28, 28] uint8 with `test_labels` and `train_labels`.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file

from cnn import Cnn
from deit import MyDeiT
from rollout import FUSIONS, discard, step
from vit import VisionTransformer

folder = pathlib.Path(sys.argv[1])
sizes = json.loads((folder / "sizes.json").read_text())
data = load_file(folder / "data.safetensors")
PATCH = sizes["patch"]


def normalised(images):
    return ((images.float() / 255 - 0.5) / 0.5).unsqueeze(1)


def share(hits):
    return hits.double().mean().item()


def finite_mean(values):
    values = np.array(values)[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def moved(images, down, right):
    """Every pixel copied to its new place, if that is inside."""
    result = torch.zeros_like(images)
    side = images.shape[1]
    for row in range(side):
        for column in range(side):
            if 0 <= row + down < side and 0 <= column + right < side:
                result[:, row + down, column + right] = images[:, row, column]
    return result


def cosine(a, b):
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def row_of(attention, fusion, ratio, layers, query):
    """The query's row of one image's rollout. attention: [L, H, S, S] float64"""
    product = np.eye(attention.shape[-1])
    for layer in layers:
        product = step(discard(FUSIONS[fusion](attention[layer], axis=0), ratio, "matrix"), "row") @ product
    return product[query]


def patches(row, prefix):
    with np.errstate(invalid="ignore"):
        return row[prefix:] / row[prefix:].sum()


def pearson(a, b):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(a, b)[0, 1] if np.isfinite(a).all() and np.isfinite(b).all() else np.nan


def attention_measures(model, images, prefix):
    inputs = normalised(images)
    _, attention = model(inputs)
    count, tokens = attention.shape[1], attention.shape[-1]
    exact = attention.double().numpy()
    garment = (images.numpy() > 0).astype(float)
    side = images.shape[1] // PATCH
    covered = garment.reshape(-1, side, PATCH, side, PATCH).mean(axis=(2, 4)).reshape(len(images), -1)

    def maps(fusion, ratio, layers):
        return [patches(row_of(a, fusion, ratio, layers, 0), prefix) for a in exact]

    def both(measure):
        return {"mean_0": measure("mean", 0.0), "max_90": measure("max", 0.9)}

    def on_garment(layers):
        return both(lambda f, r: finite_mean([(m * c).sum() for m, c in zip(maps(f, r, layers), covered)]))

    def alike(a, b):
        return finite_mean([pearson(p, q) for p, q in zip(a, b)])

    entropy = -np.where(exact > 0, exact * np.log(np.where(exact > 0, exact, 1)), 0).sum(-1)  # [N, L, H, S]
    places = np.stack(np.divmod(np.arange(side * side), side), axis=1).astype(float)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    among = exact[..., prefix:, prefix:]
    distance = (among * apart).sum(-1) / among.sum(-1)  # [N, L, H, P]

    # Lengths by hooks on the branches: the input of a norm is the residual that the branch is added to.
    lengths = [{} for _ in range(count)]
    hooks = []

    def ratio(name, layer):
        def after(module, given, result):
            lengths[layer][name] = result[0] if isinstance(result, tuple) else result
        return after

    def residual(name, layer):
        def before(module, given):
            lengths[layer][name] = given[0]
        return before

    for layer, block in enumerate(model.encoder):
        hooks.append(block.norm1.register_forward_pre_hook(residual("x", layer)))
        hooks.append(block.attention.register_forward_hook(ratio("attention", layer)))
        hooks.append(block.norm2.register_forward_pre_hook(residual("between", layer)))
        hooks.append(block.fc2.register_forward_hook(ratio("mlp", layer)))
    model(inputs)
    for hook in hooks:
        hook.remove()

    def length(layer, branch, to):
        quotient = lengths[layer][branch].double().norm(dim=-1) / lengths[layer][to].double().norm(dim=-1)
        return {"class": quotient[:, 0].mean().item(), "patches": quotient[:, prefix:].mean().item()}

    single = [maps("mean", 0.0, [layer]) for layer in range(count)]
    half = count // 2
    return {
        "garment_area": float(garment.mean()),
        "garment": on_garment(range(count)),
        "layers": [
            {
                "garment": on_garment([layer]),
                "entropy": float(entropy[:, layer].mean()),
                "class_entropy": float(entropy[:, layer, :, 0].mean()),
                "distance": float(distance[:, layer].mean()),
                "attention_length": length(layer, "attention", "x"),
                "mlp_length": length(layer, "mlp", "between"),
            }
            for layer in range(count)
        ],
        "early_late": both(lambda f, r: alike(maps(f, r, range(half)), maps(f, r, range(half, count)))),
        "layer_correlations": [[alike(a, b) for b in single] for a in single],
        "own_share": [
            {
                "fusion": fusion,
                "discard_ratio": discarded,
                "layers": [
                    float(np.mean([row_of(a, fusion, discarded, range(end), 0)[0] for a in exact]))
                    for end in range(1, count + 1)
                ],
            }
            for fusion in FUSIONS
            for discarded in [0.0, 0.5, 0.9]
        ],
    }


def token_measures(model, images):
    states = [model.embedding(normalised(images))]
    attention = []
    for block in model.encoder:
        x, a = block(states[-1])
        states.append(x)
        attention.append(a)
    exact = torch.stack(attention, dim=1).double().numpy()
    rows = [[patches(row_of(a, "mean", 0.0, range(len(states) - 1), query), 2) for query in (0, 1)] for a in exact]
    tokens = model.embedding
    return {
        "learned": cosine(tokens.cls_token[0, 0], tokens.dist_token[0, 0]).item(),
        "layers": [cosine(x[:, 0], x[:, 1]).mean().item() for x in states],
        "normed": cosine(model.norm(states[-1])[:, 0], model.norm(states[-1])[:, 1]).mean().item(),
        "map_correlation": finite_mean([pearson(a, b) for a, b in rows]),
        "map_distance": float(np.mean([np.abs(a - b).sum() / 2 for a, b in rows])),
    }


def head_measures(model, teacher, heads):
    labels = data["test_labels"]
    dist, cls = heads[1], heads[0]
    decided = {"class": cls.argmax(1), "distillation": dist.argmax(1)}
    taught = teacher(normalised(data["test"])).argmax(1)
    return {
        "class": share(decided["class"] == labels),
        "distillation": share(decided["distillation"] == labels),
        "mean_logits": share((cls + dist).argmax(1) == labels),
        "mean_probabilities": share((cls.softmax(1) + dist.softmax(1)).argmax(1) == labels),
        "agreement": share(decided["class"] == decided["distillation"]),
        "teacher": {
            "accuracy": share(taught == labels),
            "training_accuracy": share(teacher(normalised(data["train"])).argmax(1) == data["train_labels"]),
            "class_agreement": share(decided["class"] == taught),
            "distillation_agreement": share(decided["distillation"] == taught),
        },
    }


def measures(kind):
    made = {"embed": sizes["embed"], "layers": sizes["layers"], "heads": sizes["heads"], "patch": PATCH}
    model = {"vit": VisionTransformer, "deit": MyDeiT}[kind](**made, dropout=0.0)
    model.load_state_dict(torch.load(folder / f"{kind}.pt"))
    model.eval()

    def accuracy(images):
        return share(model(normalised(images))[0].argmax(1) == data["test_labels"])

    def shifted(by):
        return np.mean([accuracy(moved(data["test"], *to)) for to in [(0, -by), (0, by), (-by, 0), (by, 0)]])

    prefix = {"vit": 1, "deit": 2}[kind]
    result = {
        "accuracy": accuracy(data["test"]),
        "shifts": [shifted(by) for by in range(5)],
        "attention": attention_measures(model, data["test"], prefix),
    }
    if kind == "deit":
        teacher = Cnn(dropout=0.0)
        teacher.load_state_dict(torch.load(folder / "teacher.pt"))
        teacher.eval()
        x = model.embedding(normalised(data["test"]))
        for block in model.encoder:
            x = block(x)[0]
        result["heads"] = head_measures(model, teacher, model.classifier(model.norm(x)))
        result["tokens"] = token_measures(model, data["test"])
    return result


with torch.no_grad():
    for kind in ("vit", "deit"):
        (folder / f"{kind}.json").write_text(json.dumps(measures(kind)))
