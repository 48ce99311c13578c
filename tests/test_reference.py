"""The PyTorch references of the Rust models, compared with PyTorch's own modules."""

import pathlib
import sys

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import functional as TF

sys.path.insert(0, str(pathlib.Path(__file__).parent / "reference"))
import expert  # noqa: E402
from bench import heads  # noqa: E402
from deit import MyDeiT  # noqa: E402
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


def test_the_experts_forward_pass_is_the_homeworks():
    for model, prefix in [(VisionTransformer(dropout=0.0), 1), (MyDeiT(dropout=0.0), 2)]:
        images = torch.randn(3, 1, 28, 28)
        ours, expected = expert.heads(model, images, prefix), heads(model, images)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_the_experts_views_are_torchvisions():
    images = np.random.default_rng(0).integers(0, 256, [50, 28, 28], dtype=np.uint8)
    batches = expert.Batches(images, np.arange(50), 50)
    corners = torch.cartesian_prod(torch.arange(5), torch.arange(5)).repeat(2, 1).T  # all 50 views, one of each image
    views = batches.views(torch.arange(50), corners, torch.arange(50) < 25)
    for i, image in enumerate(images):
        crop = TF.crop(TF.pad(Image.fromarray(image), 2), *corners[:, i].tolist(), 28, 28)
        expected = TF.normalize(TF.to_tensor(TF.hflip(crop) if i < 25 else crop), [0.5], [0.5])
        torch.testing.assert_close(views[i], expected, atol=1e-6, rtol=0)


def test_the_experts_batches_are_an_epoch_in_random_order():
    images = np.zeros([10, 28, 28], np.uint8)
    batches = iter(expert.Batches(images, np.arange(10), 5))
    epochs = [torch.cat([next(batches)[1] for _ in range(2)]) for _ in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist() or epochs[0].tolist() != list(range(10))
    assert next(batches)[0].shape == (5, 1, 28, 28)
