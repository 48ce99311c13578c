"""Test accuracy of a ViT's weight file, computed by PyTorch alone. Also saves the weights again with PyTorch.

    check_accuracy.py WEIGHTS RAW_FOLDER SAVED    prints the number of correct predictions, writes SAVED
"""

import sys

import torch
from torchvision import transforms

from train_vit import FashionMnist
from vit import VisionTransformer

weights, raw, saved = sys.argv[1:]
model = VisionTransformer()
model.load_state_dict(torch.load(weights), strict=True)
model.eval()
torch.save(model.state_dict(), saved)

transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])
test = FashionMnist(raw, "t10k", transform)
images = torch.stack([image for image, _ in test])
labels = torch.tensor([label for _, label in test])
with torch.no_grad():
    right = [(model(x)[0].argmax(1) == y).sum() for x, y in zip(images.split(500), labels.split(500))]
print(int(sum(right)))
