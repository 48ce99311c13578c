"""Attention rollout in NumPy, in float64, for each image: the independent reference for the Rust implementation.

    python tests/reference/rollout.py OUT.safetensors

Follows the definition: fuse the heads, discard the smallest entries, add the identity, divide each row by its sum,
multiply from the left. `compat` is the normalisation of vit-explain's vit_rollout.py for one image. For each case,
OUT holds `CASE/attention` [B, L, H, S, S] (float32) and, for each set of options,
`CASE/FUSION/RATIO/PER/LAYERS/NORMALISATION` [B, S, S] (float64).
"""

import itertools
import math
import sys

import numpy as np
from safetensors.numpy import save_file

FUSIONS = {"mean": np.mean, "max": np.max, "min": np.min}
LAYERS = {"all": [0, 1, 2, 3, 4, 5], "0..3": [0, 1, 2], "3..6": [3, 4, 5], "2": [2], "1,4": [1, 4]}


def smallest(values, count):
    """Positions of the `count` smallest values; of equal values, the earlier positions."""
    return sorted(range(len(values)), key=lambda i: (values[i], i))[:count]


def discard(matrix, ratio, per):
    kept = matrix.copy()
    tokens = len(matrix)
    if per == "matrix":
        gone = [divmod(i, tokens) for i in smallest(matrix.flatten().tolist(), math.floor(tokens * tokens * ratio))]
    else:
        gone = [(q, k) for q in range(tokens) for k in smallest(matrix[q].tolist(), math.floor(tokens * ratio))]
    for q, k in gone:
        if (q, k) != (0, 0):
            kept[q, k] = 0.0
    return kept


def step(matrix, normalisation):
    """Factor of one layer in the product, from its fused matrix after discarding."""
    residual = matrix + np.eye(len(matrix))
    if normalisation == "row":
        return np.stack([row / row.sum() for row in residual])
    halved = residual / 2
    return halved / halved.sum(-1)  # without keepdims, the sums are broadcast along the columns


def references(name, attention):
    exact = attention.astype(np.float64)
    tensors = {f"{name}/attention": attention}
    for fusion, ratio, per in itertools.product(FUSIONS, [0, 0.5, 0.9, 0.98], ["matrix", "row"]):
        discarded = [
            [discard(FUSIONS[fusion](heads, axis=0), ratio, per) for heads in image] for image in exact
        ]
        for layers, normalisation in itertools.product(LAYERS, ["row", "compat"]):
            products = []
            for image in discarded:
                product = np.eye(attention.shape[-1])
                for layer in LAYERS[layers]:
                    product = step(image[layer], normalisation) @ product
                products.append(product)
            tensors[f"{name}/{fusion}/{ratio}/{per}/{layers}/{normalisation}"] = np.stack(products)
    return tensors


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def main():
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in {"vit": (3, 6, 4, 50, 50), "deit": (2, 6, 4, 51, 51)}.items():
        tensors |= references(name, softmax(rng.normal(scale=2.0, size=shape)).astype(np.float32))
    # With few distinct values, several entries always equal the threshold.
    coarse = np.round(softmax(rng.normal(size=(2, 6, 2, 17, 17))) * 64) / 64
    tensors |= references("ties", coarse.astype(np.float32))
    save_file(tensors, sys.argv[1])


if __name__ == "__main__":
    main()
