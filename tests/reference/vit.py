"""The homework's Vision Transformer in PyTorch: the independent reference for the Rust models.

Follows the paper (arXiv 2010.11929, section 3.1) with the parameter names of the homework's material notebook and
PyTorch's own modules where they exist, so that it shares only the mathematics with the Rust code.
"""

import torch
from torch import nn


class EmbedLayer(nn.Module):
    """[B, C, I, I] images -> [B, S, E] tokens, the class token first.

    `rows` is the number of rows of the position embedding: one per patch (added before the class token is prepended)
    or one per token (added afterwards).
    """

    def __init__(self, channels, embed, image, patch, dropout, rows):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, embed, patch, stride=patch)
        self.pos_embedding = nn.Parameter(torch.zeros(1, rows, embed))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed))
        self.dropout = nn.Dropout(dropout)

    def forward(self, images):
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        cls = self.cls_token.expand(len(images), -1, -1)
        if self.pos_embedding.shape[1] == patches.shape[1]:
            tokens = torch.cat([cls, patches + self.pos_embedding], dim=1)
        else:
            tokens = torch.cat([cls, patches], dim=1) + self.pos_embedding
        return self.dropout(tokens)


class SelfAttention(nn.Module):
    def __init__(self, embed, heads):
        super().__init__()
        self.heads = heads
        for name in ("queries", "keys", "values", "out_projection"):
            setattr(self, name, nn.Linear(embed, embed))

    def forward(self, x):
        def split(t):
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.queries(x)), split(self.keys(x)), split(self.values(x))
        attention = torch.einsum("bhqd,bhkd->bhqk", q, k).div(q.shape[-1] ** 0.5).softmax(-1)
        mixed = torch.einsum("bhqk,bhkd->bqhd", attention, v).flatten(2)
        return self.out_projection(mixed), attention


class Encoder(nn.Module):
    def __init__(self, embed, heads, forward_mul, dropout):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed)
        self.attention = SelfAttention(embed, heads)
        self.norm2 = nn.LayerNorm(embed)
        self.fc1 = nn.Linear(embed, embed * forward_mul)
        self.fc2 = nn.Linear(embed * forward_mul, embed)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        mixed, attention = self.attention(self.norm1(x))
        x = x + self.dropout(mixed)
        x = x + self.dropout(self.fc2(nn.functional.gelu(self.fc1(self.norm2(x)))))
        return x, attention


class Classifier(nn.Module):
    def __init__(self, embed, classes):
        super().__init__()
        self.fc1 = nn.Linear(embed, embed)
        self.fc2 = nn.Linear(embed, classes)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x[:, 0])))


class VisionTransformer(nn.Module):
    def __init__(
        self, channels=1, embed=64, layers=6, heads=4, forward_mul=2, image=28, patch=4, classes=10, dropout=0.1, rows=None
    ):
        super().__init__()
        rows = rows or (image // patch) ** 2 + 1
        self.embedding = EmbedLayer(channels, embed, image, patch, dropout, rows)
        self.encoder = nn.ModuleList(Encoder(embed, heads, forward_mul, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(embed)
        self.classifier = Classifier(embed, classes)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.embedding.pos_embedding, std=0.02)
        nn.init.trunc_normal_(self.embedding.cls_token, std=0.02)

    def forward(self, images):
        """Logits [B, 10] and the attention of all layers [B, L, H, S, S]."""
        x = self.embedding(images)
        attention = []
        for block in self.encoder:
            x, a = block(x)
            attention.append(a)
        return self.classifier(self.norm(x)), torch.stack(attention, dim=1)
