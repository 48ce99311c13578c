"""The PyTorch side of `cargo lab bench`: trains and explains on request. Standard input has one JSON request per line.

The field `do` of a request names the method. The reply is one line, {"ok": …} or {"error": "…"}. The Rust side
(`vitlab bench`) uses the same protocol. The recipe is the homework's: torchvision's transforms and loader, modules of
torch.nn, torch.optim. Names with "-expert" stand for the same training as in `expert.py`.
"""

import itertools
import json
import pathlib
import sys
import time

import torch
from torch import optim
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms

import expert
from cnn import Cnn
from deit import MyDeiT
from train_vit import FashionMnist
from vit import VisionTransformer

BATCH = 128
NORMALISE = [transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]


def resident(field):
    """A line of the process's status in MB: resident memory ("VmRSS:") or its peak ("VmHWM:"). None if there is none."""
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(status.split(field)[1].split()[0]) * 1024 / 1e6


def peak(reset=False):
    """Peak resident memory since the last reset in MB, or None if the system doesn't report it."""
    if not reset:
        return resident("VmHWM:")
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def heads(model, images):
    """Logits of a ViT, or of both heads of a DeiT. Training steps don't need the attention stacked."""
    x = model.embedding(images)
    for block in model.encoder:
        x, _ = block(x)
    return model.classifier(model.norm(x))


class Training:
    AUGMENT = [transforms.Resize([28, 28]), transforms.RandomCrop(28, padding=2), transforms.RandomHorizontalFlip()]
    DROPOUT = 0.1

    def __init__(self, kind, raw, device):
        torch.manual_seed(42)
        self.device, name = device, kind.split("-")[0]
        self.teacher = Cnn().eval().to(device) if name == "deit" else None
        model = Cnn() if name == "cnn" else {"vit": VisionTransformer, "deit": MyDeiT}[name](dropout=self.DROPOUT)
        self.model = model.train().to(device)
        self.forward = self.model if name == "cnn" else lambda images: heads(self.model, images)
        if kind == "vit-compile":
            self.forward = torch.compile(self.forward)
        self.optimizer = self.new_optimizer()
        data = FashionMnist(raw, "train", transforms.Compose(self.AUGMENT + NORMALISE))
        self.loader = DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=0)

    def new_optimizer(self):
        return optim.AdamW(self.model.parameters(), lr=5e-5, weight_decay=1e-3)

    def loss(self, images, labels):
        """Loss and logits of one batch [B, 1, 28, 28] with labels [B]."""
        if self.teacher is None:
            logits = self.forward(images)
            return F.cross_entropy(logits, labels), logits
        with torch.no_grad():
            teacher_labels = self.teacher(images).argmax(1)
        class_logits, dist_logits = self.forward(images)
        loss = 0.5 * F.cross_entropy(class_logits, labels) + 0.5 * F.cross_entropy(dist_logits, teacher_labels)
        return loss, (class_logits + dist_logits) / 2

    def batches(self):
        while True:
            yield from self.loader

    def train(self, steps):
        losses, hits = [], []
        for x, y in itertools.islice(self.batches(), steps):
            x, y = x.to(self.device), y.to(self.device)
            loss, logits = self.loss(x, y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
            hits.append((logits.argmax(1) == y).float().mean().item())
        return sum(losses) / steps


class Matching(Training):
    """A student's training by `Config::twenty_epochs`: both heads learn the teacher's probabilities, by Muon and AdamW. For its
    time: learning rate and initial weights are others."""

    AUGMENT = [transforms.RandomHorizontalFlip()]
    DROPOUT = 0.0
    TAU = 2.0

    def new_optimizer(self):
        def is_hidden(parameter):
            # As in crate/src/train/muon.rs; the patch projection is too narrow.
            return parameter.dim() == 2 and min(parameter.shape) >= 32

        hidden = [parameter for parameter in self.model.parameters() if is_hidden(parameter)]
        others = [parameter for parameter in self.model.parameters() if not is_hidden(parameter)]
        muon = optim.Muon(hidden, lr=5e-5, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        return Optimizers(muon, optim.AdamW(others, lr=5e-5, weight_decay=0.1))

    def loss(self, images, labels):
        with torch.no_grad():
            answers = (self.teacher(images) + self.teacher(images.flip(3))) / 2
            target = F.softmax(answers / self.TAU, dim=1)
        logits = self.forward(images)
        loss = sum(0.5 * self.TAU**2 * F.cross_entropy(head / self.TAU, target) for head in logits)
        return loss, sum(logits) / 2


class Optimizers:
    """Several optimizers, each with its own parameters, that step together."""

    def __init__(self, *optimizers):
        self.optimizers = optimizers

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()


class Expert(Training):
    """The same training as an expert writes it. Without "-plain" in the name, torch.compile is used where it helps."""

    def __init__(self, kind, raw, device):
        super().__init__(kind, raw, device)
        data, cnn = self.loader.dataset, kind.startswith("cnn")
        memory_format = torch.channels_last if cnn else torch.contiguous_format
        self.model.to(memory_format=memory_format)
        if self.teacher is not None:
            self.teacher.to(memory_format=torch.channels_last)
        self.drawn = iter(expert.Batches(data.images, data.labels, BATCH, memory_format, device))
        if not cnn:
            prefix = 1 if self.teacher is None else 2
            self.forward = lambda images: expert.heads(self.model, images, prefix)
        self.compiled = False
        if not kind.endswith("-plain"):
            self.compile_if_faster()

    def new_optimizer(self):
        return optim.AdamW(self.model.parameters(), lr=5e-5, weight_decay=1e-3, fused=True)

    def compile_if_faster(self):
        """Times a few steps with and without torch.compile, and keeps the faster forward pass."""
        seconds = []
        for forward in (plain := self.forward, compiled := torch.compile(plain)):
            self.forward = forward
            try:
                self.train(3)
                start = time.perf_counter()
                self.train(10)
                seconds.append(time.perf_counter() - start)
            except Exception as error:  # torch.compile needs a C++ compiler
                print(f"torch.compile failed: {error}", file=sys.stderr)
                seconds.append(float("inf"))
        self.compiled = seconds[1] < seconds[0]
        self.forward = compiled if self.compiled else plain

    def train(self, steps):
        losses, hits = [], []
        for x, y in itertools.islice(self.drawn, steps):
            loss, logits = self.loss(x, y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
            hits.append((logits.detach().argmax(1) == y).float().mean())
        torch.stack(hits).mean().item()  # the homework reports the accuracy, too
        return torch.stack(losses).mean().item()


class Rollout:
    """Maps of single images, computed as in vit-explain: forward hooks, max fusion, discard ratio 0.9."""

    def __init__(self, weights, device):
        state = torch.load(weights)
        self.model = VisionTransformer(dropout=0.0, rows=state["embedding.pos_embedding"].shape[1]).eval()
        self.model.load_state_dict(state)
        self.model.to(device)
        self.device = device
        self.attention = []
        for block in self.model.encoder:
            block.attention.register_forward_hook(lambda module, inputs, output: self.attention.append(output[1]))

    def map(self, image):
        self.attention.clear()
        with torch.no_grad():
            self.model(image[None].to(self.device))
            eye = torch.eye(self.attention[0].shape[-1], device=self.device)
            product = eye
            for layer in self.attention:
                fused = layer[0].amax(0)
                flat = fused.flatten()
                _, lowest = flat.topk(int(len(flat) * 0.9), largest=False)
                flat[lowest[lowest != 0]] = 0
                residual = (fused + eye) / 2
                product = (residual / residual.sum(-1)) @ product
            grid = product[0, 1:].view(1, 1, 7, 7)
            grid = F.interpolate(grid / grid.max(), size=(28, 28), mode="bilinear")
        return grid[0, 0].cpu().numpy()


class TimmRollout:
    """Rollout of timm's model: hooks keep the attention of all layers, which timm's fused attention doesn't have."""

    def __init__(self, name, weights):
        self.model = timm_model(name).eval()
        self.model.load_state_dict(torch.load(weights))
        self.attention = []
        for block in self.model.blocks:
            block.attn.fused_attn = False
            block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: self.attention.append(output))

    def rows(self, images):
        """The class token's row for each image, [B, S]."""
        self.attention.clear()
        with torch.inference_mode():
            self.model(images)
            product = torch.eye(self.attention[0].shape[-1])
            for layer in self.attention:
                residual = layer.mean(1) + torch.eye(layer.shape[-1])
                product = (residual / residual.sum(-1, keepdim=True)) @ product
            return product[:, 0]


def timm_model(name):
    import timm

    return timm.create_model(name, pretrained=False)


class Worker:
    def __init__(self):
        self.trainings, self.rollouts, self.vits, self.test = {}, {}, {}, None

    def hello(self, data, threads, device="cpu"):
        self.data, self.device = data, device
        torch.set_num_threads(threads)
        return {"torch": torch.__version__, "python": sys.version.split()[0], "threads": torch.get_num_threads()}

    def train(self, model, steps):
        if model not in self.trainings:
            kind = Expert if "-expert" in model else Matching if model == "deit-matching" else Training
            self.trainings[model] = kind(model, self.data, self.device)
        peak(reset=True)
        start = time.perf_counter()
        loss = self.trainings[model].train(steps)
        seconds, compiled = time.perf_counter() - start, getattr(self.trainings[model], "compiled", None)
        return {"seconds": seconds, "images": steps * BATCH, "loss": loss, "peak_mb": peak(), "compiled": compiled}

    def explain(self, weights, images, batch):
        if self.test is None:
            self.test = FashionMnist(self.data, "t10k", transforms.Compose([transforms.Resize([28, 28])] + NORMALISE))
        if weights not in self.rollouts:
            self.rollouts[weights] = Rollout(weights, self.device)
        peak(reset=True)
        start = time.perf_counter()
        total = 0.0
        for i in range(images):
            total += float(self.rollouts[weights].map(self.test[i][0]).mean())
        return {"seconds": time.perf_counter() - start, "images": images, "mean": total / images, "peak_mb": peak()}

    def write_timm(self, name, weights):
        """Random weights of timm's model. Returns timm's version, or None if timm isn't installed."""
        try:
            import timm
        except ModuleNotFoundError:
            return None
        torch.manual_seed(42)
        torch.save(timm_model(name).state_dict(), weights)
        return timm.__version__

    def explain_vit(self, name, weights, batch, passes):
        if weights not in self.vits:
            self.vits[weights] = TimmRollout(name, weights)
        pixels = torch.arange(batch * 3 * 224 * 224) % 251
        images = (pixels.float() / 125 - 1).view(batch, 3, 224, 224)
        del pixels
        before = resident("VmRSS:")
        peak(reset=True)
        start = time.perf_counter()
        for _ in range(passes):
            rows = self.vits[weights].rows(images)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "row": rows[0].tolist(), "before_mb": before, "peak_mb": peak()}


def main():
    answers, sys.stdout = sys.stdout, sys.stderr
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"ok": getattr(worker, request.pop("do"))(**request)}
        except Exception as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            reply = {"error": f"{type(error).__name__}: {lines[0] if lines else 'without a message'}"}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
