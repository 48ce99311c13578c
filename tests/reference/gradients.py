"""Gradient rollout and Chefer's relevance with PyTorch's autograd, for each image, on a small attention network.

    python tests/reference/gradients.py OUT.safetensors

OUT holds the network (`input` [B, S, E]; per layer N `N/queries`, `N/keys`, `N/values` [E, E]; `head` [E, classes]),
its `logits`, the `classes` explained per image, and for TARGET in predicted, class, image:
`TARGET/relevance` and `TARGET/rollout/RATIO` [B, S, S]. All float64.
"""

import sys

import torch
from safetensors.torch import save_file

from rollout import discard, step

IMAGES, TOKENS, EMBED, HEADS, LAYERS, CLASSES = 4, 10, 12, 3, 4, 5


def forward(x, network):
    """One image [S, E] -> its scores [classes] and the attention [H, S, S] of each layer."""
    attentions = []
    for layer in range(LAYERS):
        q, k, v = (
            (x @ network[f"{layer}/{name}"]).reshape(TOKENS, HEADS, -1).transpose(0, 1)
            for name in ("queries", "keys", "values")
        )
        attention = (q @ k.transpose(1, 2)).softmax(-1)
        attentions.append(attention)
        x = x + torch.tanh((attention @ v).transpose(0, 1).reshape(TOKENS, EMBED))
    return x[0] @ network["head"], attentions


def explain(scores, attentions, target, ratios):
    """Relevance of one image and its gradient rollout for each ratio, from its scores [classes] and the attention
    [H, S, S] or [1, H, S, S] of each layer, both part of the graph."""
    target = scores.argmax() if target is None else target
    gradients = torch.autograd.grad(scores[target], attentions)
    weighted = [(a * g).clamp(min=0).mean(-3).squeeze(0).detach() for a, g in zip(attentions, gradients)]
    identity = torch.eye(weighted[0].shape[-1], dtype=torch.float64)
    relevance = identity
    for matrix in weighted:
        relevance = relevance + matrix @ relevance
    results = {"relevance": relevance}
    for ratio in ratios:
        product = identity
        for matrix in weighted:
            product = torch.from_numpy(step(discard(matrix.numpy(), ratio, "matrix"), "row")) @ product
        results[f"rollout/{ratio}"] = product
    return results


def main():
    torch.manual_seed(0)
    network = {"head": torch.randn(EMBED, CLASSES, dtype=torch.float64, requires_grad=True)}
    for layer in range(LAYERS):
        for name in ("queries", "keys", "values"):
            weight = torch.randn(EMBED, EMBED, dtype=torch.float64) / EMBED**0.5
            network[f"{layer}/{name}"] = weight.requires_grad_()
    inputs = torch.randn(IMAGES, TOKENS, EMBED, dtype=torch.float64)
    classes = [3, 0, 4, 1]
    tensors = {"input": inputs, "classes": torch.tensor(classes)}
    tensors["logits"] = torch.stack([forward(x, network)[0] for x in inputs])
    targets = {"predicted": [None] * IMAGES, "class": [2] * IMAGES, "image": classes}
    for name, per_image in targets.items():
        results = [explain(*forward(x, network), target, (0, 0.5, 0.9)) for x, target in zip(inputs, per_image)]
        tensors |= {f"{name}/{key}": torch.stack([r[key] for r in results]) for key in results[0]}
    save_file({name: t.detach().contiguous() for name, t in (tensors | network).items()}, sys.argv[1])


if __name__ == "__main__":
    main()
