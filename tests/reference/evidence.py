"""Deletion and insertion areas, standard errors and rank correlations in NumPy: the reference for the Rust comparisons.

    python tests/reference/evidence.py IN.safetensors OUT.safetensors

IN holds `weights` [C·I·I, K] and `bias` [K] of a linear model, `images` [N, C, I, I], and the maps `maps` and `random`
[N, G, G], all float32; `steps` [1] int64; and `a`, `b` [R, S] float32, lists to correlate.

OUT holds for each score (probability of the predicted class, similarity) `SCORE/NAME` with NAME one of deletion, insertion,
deletion_against_random, insertion_against_random, score: the mean and its standard error [2]; and `correlations` [R].
"""

import sys

import numpy as np
from safetensors.numpy import load_file, save_file


def upsampled(grids, side):
    """[N, G, G] -> [N, I, I], linear between the centres of the cells, constant beyond the outer ones."""
    cells = grids.shape[1]
    position = np.clip((np.arange(side) + 0.5) * cells / side - 0.5, 0, cells - 1)
    weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(cells)[None, :]))  # [I, G]
    return np.einsum("yr,nrc,xc->nyx", weights, grids.astype(np.float64), weights)


def softmax(logits):
    exp = np.exp(logits - logits.max())
    return exp / exp.sum()


def area(image, order, model, score, steps, insert):
    """Area under one image's curve."""
    baseline = np.broadcast_to(image.mean(axis=(1, 2), keepdims=True), image.shape)
    source, goal = (baseline, image) if insert else (image, baseline)
    original = model(image)
    shares, values = [], []
    for step in range(steps + 1):
        count = int(np.floor(step * len(order) / steps + 0.5))
        changed = source.copy().reshape(len(image), -1)
        changed[:, order[:count]] = goal.reshape(len(image), -1)[:, order[:count]]
        output = model(changed.reshape(image.shape))
        if score == "probability":
            values.append(softmax(output)[original.argmax()])
        else:
            values.append(output @ original / np.sqrt((output @ output) * (original @ original)))
        shares.append(count / len(order))
    return sum((b - a) * (p + q) / 2 for a, b, p, q in zip(shares, shares[1:], values, values[1:]))


def estimate(values):
    return np.array([values.mean(), values.std(ddof=1) / np.sqrt(len(values))])


def ranks(values):
    """Ranks from 1; equal values have the mean of their ranks."""
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def main():
    given = load_file(sys.argv[1])
    weights, bias = given["weights"].astype(np.float64), given["bias"].astype(np.float64)
    images, steps = given["images"].astype(np.float64), int(given["steps"][0])
    model = lambda image: image.reshape(-1) @ weights + bias
    out = {}
    for score in ["probability", "similarity"]:
        areas = {}
        for name in ["maps", "random"]:
            maps = upsampled(given[name], images.shape[-1])
            orders = [np.argsort(-map.astype(np.float32).reshape(-1), kind="stable") for map in maps]
            for direction, insert in [("deletion", False), ("insertion", True)]:
                some = [area(i, order, model, score, steps, insert) for i, order in zip(images, orders)]
                areas[name, direction] = np.array(some)
        gains = {d: areas["maps", d] - areas["random", d] for d in ["deletion", "insertion"]}
        for direction, gain in gains.items():
            out[f"{score}/{direction}"] = estimate(areas["maps", direction])
            out[f"{score}/{direction}_against_random"] = estimate(gain)
        out[f"{score}/score"] = estimate(gains["insertion"] - gains["deletion"])
    out["correlations"] = np.array([np.corrcoef(ranks(a), ranks(b))[0, 1] for a, b in zip(given["a"], given["b"])])
    save_file(out, sys.argv[2])


if __name__ == "__main__":
    main()
