"""Heatmaps of a token matrix with PyTorch's interpolation: the reference for the Rust heatmaps.

    python tests/reference/heatmaps.py OUT.safetensors

OUT holds `SIZE/PREFIX/matrix` [B, S, S] and `SIZE/PREFIX/QUERY/UPSAMPLE/SCALE` [B, SIZE, SIZE], all float64.
"""

import itertools
import sys

import torch
from safetensors.torch import save_file
from torch.nn.functional import interpolate

SCALES = {
    "raw": lambda map: map,
    "max": lambda map: map / map.max(),
    "minmax": lambda map: (map - map.min()) / (map.max() - map.min()),
}
MODES = {"bilinear": dict(mode="bilinear", align_corners=False), "nearest": dict(mode="nearest-exact")}


def main():
    torch.manual_seed(0)
    tensors = {}
    for size, prefix, side in [(28, 1, 7), (28, 2, 7), (30, 1, 7), (9, 2, 4)]:
        tokens = prefix + side * side
        matrix = torch.rand(3, tokens, tokens, dtype=torch.float64)
        tensors[f"{size}/{prefix}/matrix"] = matrix
        queries = {"class": 0, str(tokens - 1): tokens - 1} | ({"dist": 1} if prefix == 2 else {})
        for query, mode, scale in itertools.product(queries, MODES, SCALES):
            maps = []
            for image in matrix:
                grid = image[queries[query]][prefix:].reshape(1, 1, side, side)
                maps.append(SCALES[scale](interpolate(grid, (size, size), **MODES[mode])[0, 0]))
            tensors[f"{size}/{prefix}/{query}/{mode}/{scale}"] = torch.stack(maps)
    save_file(tensors, sys.argv[1])


if __name__ == "__main__":
    main()
