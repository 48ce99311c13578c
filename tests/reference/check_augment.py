"""The homework's training transforms in torchvision: all 50 views of some images, and the number of draws of each view.

    check_augment.py FOLDER    reads FOLDER/images.safetensors ([N, 28, 28] uint8), writes FOLDER/expected.safetensors
"""

import pathlib
import sys

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision import transforms
from torchvision.transforms import functional as TF

DRAWS = 20_000

folder = pathlib.Path(sys.argv[1])
images = load_file(folder / "images.safetensors")["images"].numpy()
normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])
views = []
for image in images:
    padded = TF.pad(Image.fromarray(image), 2)
    crops = [TF.crop(padded, dy, dx, 28, 28) for dy in range(5) for dx in range(5)]
    views.append(torch.stack([normalise(v) for crop in crops for v in (crop, TF.hflip(crop))]))

homework = transforms.Compose(
    [transforms.Resize([28, 28]), transforms.RandomCrop(28, padding=2), transforms.RandomHorizontalFlip(), normalise]
)
torch.manual_seed(0)
index = {view.numpy().tobytes(): i for i, view in enumerate(views[0])}
counts = torch.zeros(50, dtype=torch.int64)
for _ in range(DRAWS):
    counts[index[homework(Image.fromarray(images[0])).numpy().tobytes()]] += 1
save_file({"views": torch.stack(views), "counts": counts}, folder / "expected.safetensors")
