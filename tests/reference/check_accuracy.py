"""Test accuracy of a ViT's weight file, computed by PyTorch alone. Also saves the weights again with PyTorch.

    check_accuracy.py WEIGHTS RAW_FOLDER COUNT SAVED    prints the number of correct predictions of the first COUNT test
                                                        images, writes SAVED
"""

import sys

import torch
from torchvision import transforms

from train_vit import FashionMnist
from vit import VisionTransformer

weights, raw, count, saved = sys.argv[1:]
model = VisionTransformer()
model.load_state_dict(torch.load(weights), strict=True)
model.eval()
torch.save(model.state_dict(), saved)

transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])
test = FashionMnist(raw, "t10k", transform)
images, labels = zip(*(test[i] for i in range(int(count))))
images, labels = torch.stack(images), torch.tensor(labels)
with torch.no_grad():
    right = [(model(x)[0].argmax(1) == y).sum() for x, y in zip(images.split(500), labels.split(500))]
print(int(sum(right)))
