"""Dinov2 in plain PyTorch (arXiv 2304.07193), with the names of the tensors in Hugging Face's transformers.

Written from the paper's description, not from vitlab: tokens, attention and the tokens of all layers.
"""

import json
import pathlib

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    def __init__(self, embed, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(embed, embed) for _ in range(3))

    def forward(self, x):
        batch, tokens, embed = x.shape
        q, k, v = (f(x).view(batch, tokens, self.heads, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        weights = (q @ k.transpose(2, 3) / (embed // self.heads) ** 0.5).softmax(-1)
        return (weights @ v).transpose(1, 2).reshape(batch, tokens, embed), weights


class Dense(nn.Module):
    def __init__(self, embed):
        super().__init__()
        self.dense = nn.Linear(embed, embed)

    def forward(self, x):
        return self.dense(x)


class Attention(nn.Module):
    def __init__(self, embed, heads):
        super().__init__()
        self.attention = SelfAttention(embed, heads)
        self.output = Dense(embed)

    def forward(self, x):
        mixed, weights = self.attention(x)
        return self.output(mixed), weights


class MLP(nn.Module):
    def __init__(self, embed, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(embed, hidden), nn.Linear(hidden, embed)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Scale(nn.Module):
    def __init__(self, embed):
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(embed))

    def forward(self, x):
        return x * self.lambda1


class Block(nn.Module):
    def __init__(self, embed, heads, hidden):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(embed, eps=1e-6), nn.LayerNorm(embed, eps=1e-6)
        self.attention = Attention(embed, heads)
        self.layer_scale1, self.layer_scale2 = Scale(embed), Scale(embed)
        self.mlp = MLP(embed, hidden)

    def forward(self, x):
        mixed, weights = self.attention(self.norm1(x))
        x = x + self.layer_scale1(mixed)
        return x + self.layer_scale2(self.mlp(self.norm2(x))), weights


class Patches(nn.Module):
    def __init__(self, embed, patch):
        super().__init__()
        self.projection = nn.Conv2d(3, embed, patch, patch)

    def forward(self, images):
        return self.projection(images).flatten(2).transpose(1, 2)


class Embeddings(nn.Module):
    def __init__(self, embed, patch, side):
        super().__init__()
        self.side, self.patch = side, patch
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed))
        self.position_embeddings = nn.Parameter(torch.randn(1, 1 + side * side, embed))
        self.patch_embeddings = Patches(embed, patch)

    def positions(self, side, embed):
        """transformers interpolates bicubically, without a low-pass filter and without DINOv2's offset of 0.1."""
        grid = self.position_embeddings[:, 1:].reshape(1, self.side, self.side, embed).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
        return torch.cat([self.position_embeddings[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def forward(self, images):
        patches = self.patch_embeddings(images)
        tokens = torch.cat([self.cls_token.expand(images.shape[0], -1, -1), patches], 1)
        return tokens + self.positions(images.shape[-1] // self.patch, patches.shape[-1])


class Encoder(nn.Module):
    def __init__(self, embed, layers, heads, hidden):
        super().__init__()
        self.layer = nn.ModuleList(Block(embed, heads, hidden) for _ in range(layers))

    def forward(self, x):
        layers, attention = [x], []
        for block in self.layer:
            x, weights = block(x)
            layers.append(x)
            attention.append(weights)
        return torch.stack(layers, 1), torch.stack(attention, 1)


class Dinov2(nn.Module):
    def __init__(self, embed, layers, heads, patch, side, mlp_ratio=4):
        super().__init__()
        self.embeddings = Embeddings(embed, patch, side)
        self.encoder = Encoder(embed, layers, heads, mlp_ratio * embed)
        self.layernorm = nn.LayerNorm(embed, eps=1e-6)

    def forward(self, images):
        """[B, 3, I, I] -> the normalised tokens [B, S, E], the attention [B, L, H, S, S] and the tokens before the first
        and after each block [B, L + 1, S, E]."""
        layers, attention = self.encoder(self.embeddings(images))
        return self.layernorm(layers[:, -1]), attention, layers


def load(folder):
    """A model from a folder in Hugging Face's layout, in float64."""
    config = json.loads(pathlib.Path(folder, "config.json").read_text())
    sizes = [config[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size")]
    model = Dinov2(*sizes, config["image_size"] // config["patch_size"], config["mlp_ratio"])
    model.load_state_dict(load_file(pathlib.Path(folder, "model.safetensors")), strict=True)
    return model.double().eval()
