"""Logits, attention, loss, gradients and three AdamW steps of a ViT in PyTorch.

    check_vit.py FOLDER...    reads FOLDER/weights.pt and FOLDER/batch.safetensors, writes FOLDER/expected.safetensors
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from vit import VisionTransformer

for folder in map(pathlib.Path, sys.argv[1:]):
    batch = load_file(folder / "batch.safetensors")
    state = torch.load(folder / "weights.pt")  # the safe default: weights_only=True
    model = VisionTransformer(dropout=0.0, rows=state["embedding.pos_embedding"].shape[1])
    model.load_state_dict(state, strict=True)

    logits, attention = model(batch["images"])
    loss = F.cross_entropy(logits, batch["labels"])
    loss.backward()
    result = {"logits": logits, "attention": attention, "loss": loss}
    result |= {f"gradient.{name}": p.grad.clone() for name, p in model.named_parameters()}

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(batch["images"])[0], batch["labels"]).backward()
        optimizer.step()
    result |= {f"stepped.{name}": p for name, p in model.named_parameters()}
    save_file({name: t.detach().contiguous() for name, t in result.items()}, folder / "expected.safetensors")
