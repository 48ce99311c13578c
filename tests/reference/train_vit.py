"""Trains the reference ViT with the homework's recipe (torchvision's transforms and loader, torch.optim, schedulers).

    .venv/bin/python tests/reference/train_vit.py RAW_FOLDER --seed 42 --out history.json

Its histories, models/reference/vit_seed*.json, are the reference for the Rust training.
"""

import argparse
import gzip
import json
import pathlib
import time

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from PIL import Image

from vit import VisionTransformer


class FashionMnist(Dataset):
    def __init__(self, raw, prefix, transform):
        def read(kind, header):
            path = pathlib.Path(raw) / f"{prefix}-{kind}-ubyte"
            data = path.read_bytes() if path.exists() else gzip.open(f"{path}.gz").read()
            return np.frombuffer(data, np.uint8, offset=header)

        self.labels = read("labels-idx1", 8)
        self.images = read("images-idx3", 16).reshape(-1, 28, 28)
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])


def evaluate(model, loader):
    model.eval()
    logits, labels = [], []
    with torch.no_grad():
        for x, y in loader:
            logits.append(model(x)[0])
            labels.append(y)
    logits, labels = torch.cat(logits), torch.cat(labels)
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    return nn.functional.cross_entropy(logits, labels).item(), accuracy


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", help="folder with the four FashionMNIST files")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    normalise = [transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
    augment = [transforms.Resize([28, 28]), transforms.RandomCrop(28, padding=2), transforms.RandomHorizontalFlip()]
    train = FashionMnist(args.raw, "train", transforms.Compose(augment + normalise))
    test = FashionMnist(args.raw, "t10k", transforms.Compose([transforms.Resize([28, 28])] + normalise))
    train_loader = DataLoader(train, batch_size=128, shuffle=True, drop_last=True)
    test_loader = DataLoader(test, batch_size=128)

    model = VisionTransformer()
    optimizer = optim.AdamW(model.parameters(), lr=5e-4, weight_decay=1e-3)
    warmup = optim.lr_scheduler.LinearLR(optimizer, 1 / args.warmup, 1.0, total_iters=args.warmup - 1)
    cosine = optim.lr_scheduler.CosineAnnealingLR(optimizer, max(args.epochs - args.warmup, 1), eta_min=1e-5)
    history = []
    for epoch in range(args.epochs):
        start, lr = time.time(), optimizer.param_groups[0]["lr"]
        model.train()
        losses, hits = [], []
        for x, y in train_loader:
            logits, _ = model(x)
            loss = nn.functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            hits.append((logits.argmax(1) == y).float().mean().item())
        test_loss, test_accuracy = evaluate(model, test_loader)
        row = dict(epoch=epoch + 1, lr=lr, train_loss=np.mean(losses), train_accuracy=np.mean(hits))
        row |= dict(test_loss=test_loss, test_accuracy=test_accuracy, seconds=round(time.time() - start, 1))
        history.append(row)
        print(json.dumps(row), flush=True)
        (warmup if epoch < args.warmup else cosine).step()
    record = dict(seed=args.seed, torch=torch.__version__, threads=args.threads, history=history)
    pathlib.Path(args.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
