"""The CNN teacher in PyTorch: three stages of 3 × 3 convolutions, batch norm, ReLU and pooling, two linear layers."""

from torch import nn


class ConvBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding="same", bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return nn.functional.relu(self.bn(self.conv(x)))


class Cnn(nn.Module):
    def __init__(self, stages=((32,), (64, 64), (128, 128)), classes=10, dropout=0.1):
        super().__init__()
        inputs, self.stages = 1, nn.ModuleList()
        for widths in stages:
            pairs = zip((inputs,) + widths[:-1], widths)
            self.stages.append(nn.Sequential(*(ConvBlock(i, o) for i, o in pairs)))
            inputs = widths[-1]
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(inputs * 3 * 3, 256)
        self.fc2 = nn.Linear(256, classes)

    def forward(self, x):
        for stage in self.stages:
            x = nn.functional.max_pool2d(stage(x), 2)
        hidden = nn.functional.relu(self.fc1(self.dropout(x.flatten(1))))
        return self.fc2(self.dropout(hidden))
