"""Muon and AdamW steps, mixed images and losses of target distributions in PyTorch.

    check_recipes.py FOLDER    reads FOLDER/input.safetensors, writes FOLDER/expected.safetensors
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from torch.optim import _muon

folder = pathlib.Path(sys.argv[1])
given = load_file(folder / "input.safetensors")
result = {}


def iterate(gradient, coefficients, steps, eps):
    """torch.optim.Muon's iteration in the gradient's own type; PyTorch has it in bfloat16."""
    a, b, c = coefficients
    wide = gradient.size(0) <= gradient.size(1)
    x = gradient if wide else gradient.T
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


_muon._zeropower_via_newtonschulz = iterate

names = sorted(name.removeprefix("start.") for name in given if name.startswith("start."))
hidden = [name for name in names if given[f"start.{name}"].dim() >= 2 and min(given[f"start.{name}"].flatten(1).shape) >= 32]
parameters = {name: torch.nn.Parameter(given[f"start.{name}"].flatten(1) if name in hidden else given[f"start.{name}"].clone()) for name in names}
muon = torch.optim.Muon([parameters[name] for name in hidden], lr=2e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
adamw = torch.optim.AdamW([parameters[name] for name in names if name not in hidden], lr=2e-3, weight_decay=0.1)
for step in range(3):
    for name, parameter in parameters.items():
        parameter.grad = given[f"gradient.{step}.{name}"].reshape(parameter.shape)
    muon.step()
    adamw.step()
for name, parameter in parameters.items():
    result[f"stepped.{name}"] = parameter.detach().reshape(given[f"start.{name}"].shape)
result["hidden"] = torch.tensor([name in hidden for name in names])

# Two heads with target distributions, each with a weight and a temperature.
logits = [given[f"logits.{head}"].requires_grad_() for head in range(2)]
loss = 0
for head, (weight, tau) in enumerate([(0.7, 1.0), (0.3, 3.0)]):
    log_p = torch.log_softmax(logits[head] / tau, dim=1)
    loss = loss - weight * tau**2 * (given[f"targets.{head}"] * log_p).sum(dim=1).mean()
result["loss"] = loss.detach()
for head, gradient in enumerate(torch.autograd.grad(loss, logits)):
    result[f"logits_gradient.{head}"] = gradient

save_file({name: tensor.contiguous() for name, tensor in result.items()}, folder / "expected.safetensors")
