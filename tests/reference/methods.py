"""What every method of explaining says about the small checkpoints of every layout, in float64.

    methods.py    writes homework_vit.safetensors, homework_deit.safetensors (small models of the homework's layout) and
                  expected.safetensors into tests/methods, from tests/layouts. For each CASE of small_vits.py:

    CASE/attention       [B, L, H, S]  the query's row of each layer and head (class token, or the first patch)
    CASE/rollout/RATIO   [B, S]        its row of the rollout
    CASE/TARGET/METHOD   [B, S]        relevance, grad_rollout, grad_cam, attn_lrp (γ = 0.05) and epsilon (AttnLRP with γ = 0)
                                       of the predicted class (the features where there is no class head), and of class 1
    CASE/TARGET/METHOD/absorbed [B, 2] relevance that biases and softmax absorb in AttnLRP
    images/homework      [B, 1, I, I]

Gradients are PyTorch's autograd's, AttnLRP is NumPy's without gradients. The models are those of the libraries: logits and
attention are compared with theirs (tests/layouts/expected.safetensors).
"""

import numpy as np
import torch
from safetensors.torch import save_file

import deit
import lrp
import small_vits
import vit
from gradients import explain
from rollout import discard, step

SIZES = {"embed": 16, "layers": 2, "heads": 2, "image": 16, "classes": 5, "dropout": 0.0}


def write_homework():
    """Small models of the homework with weights that make attention uneven."""
    for name, kind in (("homework_vit", vit.VisionTransformer), ("homework_deit", deit.MyDeiT)):
        model = kind(**SIZES)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                values = 0.3 * torch.randn(parameter.shape)
                parameter.copy_(1 + values if "norm" in key and "weight" in key else values)
        save_file(model.state_dict(), small_vits.HOMEWORK / f"{name}.safetensors")
        yield name, model.double().eval()


def rollouts(attentions, query):
    for ratio in (0.0, 0.5):
        product = np.eye(attentions.shape[-1])
        for heads in attentions.numpy():
            product = step(discard(heads.mean(0), ratio, "matrix"), "row") @ product
        yield f"rollout/{ratio}", product[query]


def grad_cam(score, normed, prefix):
    (gradient,) = torch.autograd.grad(score, normed, retain_graph=True)
    weights = gradient[prefix:].mean(0)
    cam = (normed.detach() * weights).sum(-1).clamp(min=0)
    cam[:prefix] = 0
    return cam


def explained(model, image, target, query):
    """The methods that explain a score, by name."""
    logits, attentions, normed = small_vits.forward(model, image)
    score = logits @ (logits / logits.norm()).detach() if target == "features" else logits[target]
    result = {"grad_cam": grad_cam(score, normed, len(model.prefix))}
    # explain() takes the scores and the place of one.
    of_gradients = explain(score[None], attentions, torch.tensor(0), (0.0,))
    result |= {"relevance": of_gradients["relevance"][query], "grad_rollout": of_gradients["rollout/0.0"][query]}
    for name, gamma in (("attn_lrp", 0.05), ("epsilon", 0.0)):
        same_logits, tokens, absorbed = lrp.explain(model, image, target, gamma)
        assert np.allclose(same_logits, logits.detach().numpy(), rtol=0, atol=1e-12), model.name
        result |= {name: torch.tensor(tokens), f"{name}/absorbed": torch.tensor(absorbed)}
    return result


def results(model, images, their_logits, their_attention):
    found = []
    query = 4 if model.name == "timm_patches" else 0
    for image, their_logits, their_attention in zip(images.double(), their_logits, their_attention):
        logits, attentions, _ = small_vits.forward(model, image)
        attentions = torch.stack(attentions).detach()  # [L, H, S, S]
        assert torch.allclose(logits.float(), their_logits.float(), rtol=0, atol=1e-5), model.name
        assert torch.allclose(attentions.float(), their_attention.float(), rtol=0, atol=1e-6), model.name
        one = {"attention": attentions[:, :, query]}
        one |= {name: torch.tensor(row) for name, row in rollouts(attentions, query)}
        predicted = logits.argmax().item() if model.head else "features"
        for name, target in (("predicted", predicted), ("1", 1)):
            one |= {f"{name}/{key}": value for key, value in explained(model, image, target, query).items()}
        found.append(one)
    return {f"{model.name}/{key}": torch.stack([one[key] for one in found]).float().contiguous() for key in found[0]}


def main():
    torch.manual_seed(25)
    small_vits.HOMEWORK.mkdir(exist_ok=True)
    images = torch.randn(2, 1, 16, 16)
    tensors = {"images/homework": images}
    for name, model in write_homework():
        with torch.no_grad():
            logits, attention = model(images.double())
        logits = sum(logits) / 2 if isinstance(logits, (list, tuple)) else logits
        tensors |= results(small_vits.read(name), images, logits, attention)
    for name in small_vits.CASES:
        if not name.startswith("homework"):
            tensors |= results(small_vits.read(name), *small_vits.library_results(name))
    save_file(tensors, small_vits.HOMEWORK / "expected.safetensors")


if __name__ == "__main__":
    main()
