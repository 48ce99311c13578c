"""The CNN teacher in plain PyTorch: three stages of two 3 × 3 convolutions, batch norm and ReLU, mean, linear layer."""

from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding="same", bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return nn.functional.relu(self.bn(self.conv(x)))


class Cnn(nn.Module):
    def __init__(self, widths=(32, 64, 128), classes=10, dropout=0.1):
        super().__init__()
        pairs = zip((1,) + widths[:-1], widths)
        self.stages = nn.ModuleList(nn.Sequential(Block(i, o), Block(o, o)) for i, o in pairs)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x):
        for stage in self.stages[:-1]:
            x = nn.functional.max_pool2d(stage(x), 2)
        return self.fc(self.dropout(self.stages[-1](x).mean(dim=(2, 3))))
