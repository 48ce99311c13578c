"""Training of the homework's models as an expert writes it in PyTorch, with the homework's mathematics.

The images are one tensor in memory, a batch is augmented at once, attention is PyTorch's fused kernel, and no number is read
back in a step. `bench.py` measures it beside the homework's own code.
"""

import torch
from torch.nn import functional as F

SIDE, PADDING = 28, 2


class Batches:
    """Endless shuffled batches ([B, 1, 28, 28] in [-1, 1], labels [B]), augmented by a random crop and flip of each image."""

    def __init__(self, images, labels, batch, memory_format=torch.contiguous_format, device="cpu"):
        self.padded = F.pad(torch.tensor(images), [PADDING] * 4).to(device)  # [N, 32, 32] uint8
        self.labels = torch.tensor(labels, dtype=torch.int64, device=device)
        self.batch, self.memory_format = batch, memory_format

    def __iter__(self):
        device = self.labels.device
        while True:
            order = torch.randperm(len(self.labels), device=device)
            for first in range(0, len(order) - self.batch + 1, self.batch):
                index = order[first : first + self.batch]
                corners = torch.randint(2 * PADDING + 1, [2, self.batch], device=device)
                yield self.views(index, corners, torch.rand(self.batch, device=device) < 0.5), self.labels[index]

    def views(self, index, corners, flipped):
        """Crops with their upper left corners (y, x) [2, B] in the padded images, mirrored where `flipped` [B]."""
        places = torch.arange(SIDE, device=index.device)
        rows = corners[0][:, None] + places
        columns = corners[1][:, None] + torch.where(flipped[:, None], places.flip(0), places)
        pixels = self.padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]  # [B, 28, 28]
        return pixels[:, None].float().div_(127.5).sub_(1).contiguous(memory_format=self.memory_format)


def attention(part, x):
    """The output of the homework's attention [B, S, E]; its weights are never stored."""

    def split(t):
        return t.unflatten(-1, (part.heads, -1)).transpose(1, 2)

    q, k, v = (split(layer(x)) for layer in (part.queries, part.keys, part.values))
    return part.out_projection(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def heads(model, images, prefix):
    """Logits of a ViT, or of both heads of a DeiT. The last norm is that of the `prefix` tokens which the heads read."""
    x = model.embedding(images)
    for block in model.encoder:
        x = x + block.dropout(attention(block.attention, block.norm1(x)))
        x = x + block.dropout(block.fc2(F.gelu(block.fc1(block.norm2(x)))))
    return model.classifier(model.norm(x[:, :prefix]))
