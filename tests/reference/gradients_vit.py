"""Gradient rollout and Chefer's relevance of the PyTorch ViT with autograd, for each image, in float64.

    gradients_vit.py FOLDER    reads FOLDER/weights.safetensors (the state dict) and FOLDER/batch.safetensors (images,
                               classes), writes FOLDER/expected.safetensors: relevance and rollout/0 [B, S, S]
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file

from gradients import explain
from vit import VisionTransformer

folder = pathlib.Path(sys.argv[1])
batch = load_file(folder / "batch.safetensors")
state = load_file(folder / "weights.safetensors")
model = VisionTransformer(dropout=0.0, rows=state["embedding.pos_embedding"].shape[1])
model.load_state_dict(state, strict=True)
model.double()

attentions = []
for block in model.encoder:
    block.attention.register_forward_hook(lambda module, inputs, outputs: attentions.append(outputs[1]))

results = []
for image, target in zip(batch["images"], batch["classes"]):
    attentions.clear()
    scores, _ = model(image[None].double())
    results.append(explain(scores[0], attentions, target, (0,)))
tensors = {name: torch.stack([r[name] for r in results]) for name in results[0]}
save_file(tensors, folder / "expected.safetensors")
