"""The homework's distilled student in PyTorch (arXiv 2012.12877, section 4), from the parts of the reference ViT."""

import torch
from torch import nn

from vit import Classifier, Encoder


class DistilledEmbedLayer(nn.Module):
    """[B, 1, 28, 28] images -> [B, N + 2, E] tokens: class, distillation, patches."""

    def __init__(self, embed, patch, patches, dropout):
        super().__init__()
        self.conv1 = nn.Conv2d(1, embed, patch, stride=patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, embed))
        self.pos_embedding = nn.Parameter(torch.zeros(1, patches + 2, embed))
        self.dropout = nn.Dropout(dropout)

    def forward(self, images):
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        both = torch.cat([self.cls_token, self.dist_token], dim=1).expand(len(images), -1, -1)
        return self.dropout(torch.cat([both, patches], dim=1) + self.pos_embedding)


class DistilledClassifier(Classifier):
    def __init__(self, embed, classes):
        super().__init__(embed, classes)
        self.fc_dist = nn.Linear(embed, classes)

    def forward(self, tokens):
        return super().forward(tokens), self.fc_dist(tokens[:, 1])


class MyDeiT(nn.Module):
    def __init__(self, embed=64, layers=6, heads=4, forward_mul=2, image=28, patch=4, classes=10, dropout=0.1):
        super().__init__()
        self.embedding = DistilledEmbedLayer(embed, patch, (image // patch) ** 2, dropout)
        self.encoder = nn.ModuleList(Encoder(embed, heads, forward_mul, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(embed)
        self.classifier = DistilledClassifier(embed, classes)

    def forward(self, images):
        """Logits of both heads in training or their mean at inference, and the attention [B, L, H, S, S]."""
        x = self.embedding(images)
        attention = []
        for block in self.encoder:
            x, a = block(x)
            attention.append(a)
        heads = self.classifier(self.norm(x))
        return heads if self.training else sum(heads) / 2, torch.stack(attention, dim=1)
