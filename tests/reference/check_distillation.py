"""Outputs, losses and gradients of a student and a teacher in PyTorch.

    check_distillation.py FOLDER    reads FOLDER/{student,teacher}.pt and FOLDER/batch.safetensors,
                                    writes FOLDER/expected.safetensors
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from cnn import Cnn
from deit import MyDeiT

folder = pathlib.Path(sys.argv[1])
batch = load_file(folder / "batch.safetensors")
images, labels = batch["images"], batch["labels"]
student, teacher = MyDeiT(dropout=0.0), Cnn(dropout=0.0)
student.load_state_dict(torch.load(folder / "student.pt"), strict=True)
teacher.load_state_dict(torch.load(folder / "teacher.pt"), strict=True)
result = {}


def gradients(name, loss, model):
    names, parameters = zip(*model.named_parameters())
    for key, gradient in zip(names, torch.autograd.grad(loss, parameters, retain_graph=True)):
        result[f"{name}.{key}"] = gradient


teacher.eval()
with torch.no_grad():
    result["teacher"] = teacher(images)
student.eval()
result["average"], result["attention"] = student(images)
student.train()
(result["class"], result["dist"]), _ = student(images)

# Both losses, from equations 2 and 3 of the paper.
teacher_labels = result["teacher"].argmax(dim=1)
for smoothing in (0.0, 0.1):
    label_loss = F.cross_entropy(result["class"], labels, label_smoothing=smoothing)
    hard = 0.5 * label_loss + 0.5 * F.cross_entropy(result["dist"], teacher_labels)
    p = torch.softmax(result["teacher"] / 3.0, dim=1)
    divergence = (p * (p.log() - torch.log_softmax(result["dist"] / 3.0, dim=1))).sum(dim=1)
    result[f"hard.{smoothing}"] = hard
    result[f"soft.{smoothing}"] = 0.9 * label_loss + 0.1 * 9.0 * divergence.mean()
    result[f"soft_element.{smoothing}"] = 0.9 * label_loss + 0.1 * 9.0 * divergence.mean() / 10
gradients("hard_gradient", result["hard.0.0"], student)
gradients("soft_gradient", result["soft.0.0"], student)

teacher.train()
result["teacher_training"] = teacher(images)
for name, buffer in teacher.named_buffers():
    result[f"buffer.{name}"] = buffer.clone()
gradients("teacher_gradient", F.cross_entropy(teacher(batch["noisy"]), labels[:2]), teacher)
save_file({name: t.detach().contiguous() for name, t in result.items()}, folder / "expected.safetensors")
