"""The small checkpoints of every layout as one model each: the names of their tensors, and a forward pass in PyTorch.

The names are those that each library writes; nothing is shared with the Rust code that reads them.
"""

import json
import pathlib
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch.nn.functional import gelu, layer_norm, linear

LAYOUTS = pathlib.Path(__file__).parent.parent / "layouts"
HOMEWORK = pathlib.Path(__file__).parent.parent / "methods"

TIMM = {
    "block": "blocks.{}.", "norm1": "norm1", "qkv": "attn.qkv", "proj": "attn.proj", "scale1": "ls1.gamma",
    "norm2": "norm2", "fc1": "mlp.fc1", "fc2": "mlp.fc2", "scale2": "ls2.gamma", "patch": "patch_embed.proj",
    "positions": "pos_embed", "prefix": ["cls_token", "dist_token", "reg_token", "register_tokens"], "norm": ["norm", "fc_norm"],
    "head": "head", "dist": "head_dist", "epsilon": 1e-6,
}  # fmt: skip
HUGGING_FACE = {
    "block": "encoder.layer.{}.", "norm1": "layernorm_before", "q": "attention.attention.query",
    "k": "attention.attention.key", "v": "attention.attention.value", "proj": "attention.output.dense",
    "norm2": "layernorm_after", "fc1": "intermediate.dense", "fc2": "output.dense",
    "patch": "embeddings.patch_embeddings.projection", "positions": "embeddings.position_embeddings",
    "prefix": ["embeddings.cls_token", "embeddings.distillation_token", "embeddings.register_tokens"],
    "norm": ["layernorm"], "head": "classifier", "dist": "distillation_classifier", "epsilon": 1e-12,
}  # fmt: skip
DINOV2 = HUGGING_FACE | {
    "norm1": "norm1", "norm2": "norm2", "scale1": "layer_scale1.lambda1", "scale2": "layer_scale2.lambda1",
    "fc1": "mlp.fc1", "fc2": "mlp.fc2", "epsilon": 1e-6,
}  # fmt: skip
TORCHVISION = {
    "block": "encoder.layers.encoder_layer_{}.", "norm1": "ln_1", "qkv": "self_attention.in_proj",
    "proj": "self_attention.out_proj", "norm2": "ln_2", "fc1": "mlp.0", "fc2": "mlp.3", "patch": "conv_proj",
    "positions": "encoder.pos_embedding", "prefix": ["class_token"], "norm": ["encoder.ln"], "head": "heads.head",
    "hidden": "heads.pre_logits", "epsilon": 1e-6,
}  # fmt: skip
GOOGLE = {
    "block": "Transformer/encoderblock_{}/", "norm1": "LayerNorm_0", "q": "MultiHeadDotProductAttention_1/query",
    "k": "MultiHeadDotProductAttention_1/key", "v": "MultiHeadDotProductAttention_1/value",
    "proj": "MultiHeadDotProductAttention_1/out", "norm2": "LayerNorm_2", "fc1": "MlpBlock_3/Dense_0",
    "fc2": "MlpBlock_3/Dense_1", "patch": "embedding", "positions": "Transformer/posembed_input/pos_embedding",
    "prefix": ["cls"], "norm": ["Transformer/encoder_norm"], "head": "head", "epsilon": 1e-6,
}  # fmt: skip
MATERIAL = {
    "block": "encoder.{}.", "norm1": "norm1", "q": "attention.queries", "k": "attention.keys", "v": "attention.values",
    "proj": "attention.out_projection", "norm2": "norm2", "fc1": "fc1", "fc2": "fc2", "patch": "embedding.conv1",
    "positions": "embedding.pos_embedding", "prefix": ["embedding.cls_token", "embedding.dist_token"], "norm": ["norm"],
    "head": "classifier.fc2", "hidden": "classifier.fc1", "dist": "classifier.fc_dist", "epsilon": 1e-5,
}  # fmt: skip
# The names, and the tokens that the head reads: class, patches (their mean), or both.
CASES = {
    "homework_vit": (MATERIAL, "class"), "homework_deit": (MATERIAL, "class"), "timm": (TIMM, "class"),
    "timm_registers": (TIMM, "patches"), "timm_rows": (TIMM, "patches"), "timm_patches": (TIMM, "patches"),
    "timm_deit": (TIMM, "class"), "dinov2": (TIMM, "class"), "dinov2_registers": (TIMM, "class"),
    "vit": (HUGGING_FACE, "class"), "deit": (HUGGING_FACE, "class"),
    "deit_teacher": (HUGGING_FACE | {"head": "cls_classifier"}, "class"), "dinov2_classifier": (DINOV2, "both"),
    "dinov2_features": (DINOV2, "class"), "torchvision": (TORCHVISION, "class"),
    "torchvision_two_layers": (TORCHVISION, "class"), "google": (GOOGLE, "class"),
}  # fmt: skip


def read(name):
    """A model in float64. Linear layers are pairs of a weight [outputs, inputs] and a bias or None; `heads` is 2."""
    names, pool = CASES[name]
    homework = name.startswith("homework")
    tensors = {key: tensor.double() for key, tensor in load_file((HOMEWORK if homework else LAYOUTS) / f"{name}.safetensors").items()}
    wrappers = ("vit.", "deit.", "dinov2.")
    tensors = {key.removeprefix(next((w for w in wrappers if key.startswith(w)), "")): t for key, t in tensors.items()}

    def layer(key, kernel=None):
        if f"{key}/kernel" in tensors:  # Google: [inputs, outputs], with heads as a dimension of their own
            weight, bias = tensors[f"{key}/kernel"], tensors[f"{key}/bias"].flatten()
            return weight.reshape(-1, bias.numel()).T, bias
        for weight, bias in ((".weight", ".bias"), ("/scale", "/bias"), ("_weight", "_bias")):
            if f"{key}{weight}" in tensors:
                return tensors[f"{key}{weight}"], tensors.get(f"{key}{bias}")
        return None

    def block(i):
        prefix = names["block"].format(i)
        part = lambda key: layer(prefix + names[key])
        if "qkv" in names:
            weight, bias = part("qkv")
            biases = [None] * 3 if bias is None else bias.chunk(3)
            q, k, v = zip(weight.chunk(3), biases)
        else:
            q, k, v = part("q"), part("k"), part("v")
        scales = [tensors.get(prefix + names.get(f"scale{n}", "none")) for n in (1, 2)]
        rest = {key: part(key) for key in ("norm1", "proj", "norm2", "fc1", "fc2")}
        return SimpleNamespace(q=q, k=k, v=v, scales=scales, **rest)

    weight, bias = layer(names["patch"])
    if "embedding/kernel" in tensors:  # [P, P, C, E] -> [E, C, P, P]
        weight = tensors["embedding/kernel"].permute(3, 2, 0, 1)
    norm = next(key for key in names["norm"] if layer(key))
    return SimpleNamespace(
        name=name, pool=pool, norm_after_pool=norm == "fc_norm", heads=2, epsilon=names["epsilon"],
        patch=(weight, bias), positions=tensors[names["positions"]][0],
        prefix=torch.cat([tensors[key][0] for key in names["prefix"] if key in tensors]),
        blocks=[block(i) for i in range(2)], norm=layer(norm),
        hidden=layer(names.get("hidden", "none")), head=layer(names["head"]), dist=layer(names.get("dist", "none")),
    )  # fmt: skip


def embed(model, image):
    """[C, I, I] -> [S, E]"""
    weight, bias = model.patch
    patches = torch.nn.functional.conv2d(image[None], weight, bias, stride=weight.shape[-1])[0].flatten(1).T
    rows, prefix = len(model.positions), len(model.prefix)
    if rows == len(patches):
        return torch.cat([model.prefix, patches + model.positions])
    if rows == prefix + len(patches):
        return torch.cat([model.prefix, patches]) + model.positions
    # Registers have no positions: the first row belongs to the class token, which is the first.
    cls = model.prefix[:1] + model.positions[:1]
    return torch.cat([cls, model.prefix[1:], patches + model.positions[1:]])


def forward(model, image):
    """One image -> logits [classes], attention of each layer [H, S, S], output of the last block's first norm [S, E]."""
    x = embed(model, image)
    tokens, width = x.shape
    norm = lambda x, layer: layer_norm(x, (width,), *layer, model.epsilon)
    attentions = []
    for block in model.blocks:
        # Gradients with respect to a norm's output need it in the graph of all that follows.
        normed = norm(x, block.norm1).requires_grad_()
        q, k, v = (linear(normed, *part).view(tokens, model.heads, -1).transpose(0, 1) for part in (block.q, block.k, block.v))
        attention = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
        attentions.append(attention)
        scale1, scale2 = (1.0 if scale is None else scale for scale in block.scales)
        x = x + scale1 * linear((attention @ v).transpose(0, 1).reshape(tokens, width), *block.proj)
        x = x + scale2 * linear(gelu(linear(norm(x, block.norm2), *block.fc1)), *block.fc2)
    patches = x[len(model.prefix) :]
    if model.norm_after_pool:
        features = norm(patches.mean(0), model.norm)
    else:
        x = norm(x, model.norm)
        mean = x[len(model.prefix) :].mean(0)
        features = {"class": x[0], "patches": mean, "both": torch.cat([x[0], mean])}[model.pool]
    if model.hidden:
        features = linear(features, *model.hidden).tanh()
    logits = linear(features, *model.head) if model.head else features
    if model.dist:
        logits = (logits + linear(x[1], *model.dist)) / 2
    return logits, attentions, normed


def library_results(name):
    """Images [B, C, I, I] of a case, and logits and attention as its own library computes them (see layouts.py)."""
    expected = load_file(LAYOUTS / "expected.safetensors")
    return expected["images/16"], expected[f"{name}/16/logits"], expected[f"{name}/16/attention"]


