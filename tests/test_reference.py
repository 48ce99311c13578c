"""The PyTorch references of the Rust models, compared with PyTorch's own modules."""

import pathlib
import sys

import torch
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).parent / "reference"))
from vit import Encoder, SelfAttention, VisionTransformer  # noqa: E402


def test_attention_is_pytorchs():
    torch.manual_seed(0)
    ours, theirs = SelfAttention(64, 4), nn.MultiheadAttention(64, 4, batch_first=True)
    with torch.no_grad():
        parts = [ours.queries, ours.keys, ours.values]
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.out_proj.load_state_dict(ours.out_projection.state_dict())
    x = torch.randn(3, 50, 64)
    expected, attention = theirs(x, x, x, average_attn_weights=False)
    mixed, weights = ours(x)
    torch.testing.assert_close(mixed, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(weights, attention, atol=1e-6, rtol=0)


def test_block_is_pytorchs():
    torch.manual_seed(0)
    ours = Encoder(64, 4, 2, dropout=0.0)
    theirs = nn.TransformerEncoderLayer(64, 4, 128, 0.0, "gelu", batch_first=True, norm_first=True)
    with torch.no_grad():
        parts = [ours.attention.queries, ours.attention.keys, ours.attention.values]
        theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.self_attn.out_proj.load_state_dict(ours.attention.out_projection.state_dict())
        for name, part in [("norm1", ours.norm1), ("norm2", ours.norm2), ("linear1", ours.fc1), ("linear2", ours.fc2)]:
            getattr(theirs, name).load_state_dict(part.state_dict())
    x = torch.randn(3, 50, 64)
    torch.testing.assert_close(ours(x)[0], theirs(x), atol=1e-5, rtol=0)


def test_size_is_the_homeworks():
    assert sum(p.numel() for p in VisionTransformer().parameters()) == 210_122
