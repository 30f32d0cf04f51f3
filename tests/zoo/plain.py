"""Networks of the kinds that people train, in plain PyTorch and small: what `deadhead` meets when it is used.

Each is shaped as its namesake is in torchvision, in torch.nn or in people's own scripts, with sizes that differ from
one another where the architecture lets them, so that no two axes are equally long by chance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

Make = Callable[[], nn.Module]
Inputs = Callable[[int], Any]


@dataclass(frozen=True)
class Entry:
    """`build()` gives the network in float64 and evaluation mode, always the same; `inputs(rows)` a tensor or a tuple
    of tensors that it can be called with, drawn from torch's global generator, with `rows` samples along
    `batch_axis`."""

    name: str
    build: Make
    inputs: Inputs
    batch_axis: int = 0


ENTRIES: dict[str, Entry] = {}


def add(name: str, make: Make, inputs: Inputs, batch_axis: int = 0) -> None:
    """Register a network under a name of its own."""

    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make().double().eval()

    assert name not in ENTRIES, name
    ENTRIES[name] = Entry(name, build, inputs, batch_axis)


def real(*shape: int) -> Inputs:
    """Normal numbers, (rows, *shape)."""
    return lambda rows: torch.randn(rows, *shape, dtype=torch.float64)


def whole(below: int, *shape: int) -> Inputs:
    """Integers from 0 to `below` - 1, (rows, *shape)."""
    return lambda rows: torch.randint(below, (rows, *shape))


def several(*parts: Inputs) -> Inputs:
    """One argument for each part."""
    return lambda rows: tuple(part(rows) for part in parts)


def conv_norm(
    ins: int,
    outs: int,
    kernel: int = 3,
    act: Make | None = nn.ReLU,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """A convolution that keeps the size of an image (but for its stride), batch norm and an activation."""
    pad = dilation * (kernel // 2)
    parts = [
        nn.Conv2d(ins, outs, kernel, stride, pad, dilation, groups, bias=False),
        nn.BatchNorm2d(outs),
        *([] if act is None else [act()]),
    ]
    return nn.Sequential(*parts)


def head(ins: int, outs: int = 7) -> nn.Sequential:
    """The mean over an image, and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(ins, outs))


# -- convolutional classifiers --------------------------------------------------------------------------------------


class AlexNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 12, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(12, 14, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(14, 10, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(10 * 2 * 2, 20),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(20, 18),
            nn.ReLU(inplace=True),
            nn.Linear(18, 7),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


class VGG(nn.Module):
    def __init__(self, plan: Sequence[int | str] = (8, "pool", 12, 10, "pool", 14)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for step in plan:
            if isinstance(step, str):
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(width, step, 3, padding=1), nn.BatchNorm2d(step), nn.ReLU(inplace=True)]
                width = step
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(nn.Linear(width * 9, 20), nn.ReLU(True), nn.Dropout(), nn.Linear(20, 7))

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(x.view(x.size(0), -1))


class Bottleneck(nn.Module):
    def __init__(self, ins: int, width: int, outs: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(ins, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = conv_norm(ins, outs, 1, None, stride) if stride > 1 or ins != outs else None

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """With bottlenecks; with groups, a ResNeXt."""

    def __init__(self, widths: tuple[int, int] = (6, 9), groups: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        one, two = widths
        self.layer1 = nn.Sequential(Bottleneck(8, one, 20, 1, groups), Bottleneck(20, 2 * one, 20, 1, groups))
        self.layer2 = nn.Sequential(Bottleneck(20, two, 24, 2, groups), Bottleneck(24, two, 24, 1, groups))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(24, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(x, 1))


class DenseLayer(nn.Module):
    def __init__(self, ins: int, growth: int, wide: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(ins)
        self.conv1 = nn.Conv2d(ins, wide, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.norm2(x)))


class DenseBlock(nn.ModuleDict):
    def __init__(self, ins: int, growth: int, wide: int, layers: int) -> None:
        super().__init__({f"layer{i}": DenseLayer(ins + i * growth, growth, wide) for i in range(layers)})

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


def dense_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        DenseBlock(8, 5, 11, 2),
        nn.BatchNorm2d(18),
        nn.ReLU(),
        nn.Conv2d(18, 9, 1, bias=False),
        nn.AvgPool2d(2, 2),
        DenseBlock(9, 4, 13, 3),
        nn.BatchNorm2d(21),
        nn.ReLU(),
        head(21),
    )


class Branches(nn.Module):
    """GoogLeNet's inception: four ways beside each other."""

    def __init__(self, ins: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> None:
        super().__init__()
        self.branch1 = conv_norm(ins, one, 1)
        self.branch2 = nn.Sequential(conv_norm(ins, three[0], 1), conv_norm(*three))
        self.branch3 = nn.Sequential(conv_norm(ins, five[0], 1), conv_norm(*five, 5))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv_norm(ins, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


def google_net() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8, 7, stride=2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Branches(8, 5, (6, 7), (3, 4), 2),
        Branches(18, 6, (9, 10), (5, 8), 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(27, 7),
    )


class Factored(nn.Module):
    """Inception's factored convolutions: 1 x 5 behind 5 x 1, and 1 x 3 beside 3 x 1."""

    def __init__(self, ins: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(ins, 5, 1)
        self.long = nn.Sequential(
            nn.Conv2d(ins, 6, 1), nn.BatchNorm2d(6, eps=1e-3), nn.ReLU(), nn.Conv2d(6, 7, (1, 5), padding=(0, 2)),
            nn.ReLU(), nn.Conv2d(7, 9, (5, 1), padding=(2, 0)),
        )  # fmt: skip
        self.stem = nn.Conv2d(ins, 8, 1)
        self.wide = nn.Conv2d(8, 3, (1, 3), padding=(0, 1))
        self.tall = nn.Conv2d(8, 4, (3, 1), padding=(1, 0))
        self.pool = nn.Conv2d(ins, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        stem = F.relu(self.stem(x))
        both = torch.cat([self.wide(stem), self.tall(stem)], 1)
        pooled = self.pool(F.avg_pool2d(x, 3, stride=1, padding=1))
        return F.relu(torch.cat([self.one(x), self.long(x), both, pooled], 1))


class Shrink(nn.Module):
    """Inception's reduction: two strided ways and a pool that passes its channels on."""

    def __init__(self, ins: int) -> None:
        super().__init__()
        self.near = conv_norm(ins, 6, stride=2)
        self.far = nn.Sequential(conv_norm(ins, 7, 1), conv_norm(7, 5, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.near(x), self.far(x), F.max_pool2d(x, 3, 2, 1)], 1)


def inception() -> nn.Module:
    return nn.Sequential(conv_norm(3, 8), Factored(8), Shrink(31), Factored(42), head(31))


class SqueezeExcite(nn.Module):
    def __init__(self, width: int, inner: int, act: Make, gate: Make) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(width, inner, 1)
        self.fc2 = nn.Conv2d(inner, width, 1)
        self.activation = act()
        self.scale_activation = gate()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x))))) * x


class Inverted(nn.Module):
    """Widen, one filter to a channel, weigh the channels where asked to, narrow; added where the shape allows."""

    def __init__(
        self, ins: int, wide: int, outs: int, stride: int = 1, act: Make = nn.ReLU6, squeeze: Make | None = None,
        kernel: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        parts = [] if wide == ins else [conv_norm(ins, wide, 1, act)]
        parts.append(conv_norm(wide, wide, kernel, act, stride, groups=wide))
        if squeeze is not None:
            parts.append(squeeze())
        self.conv = nn.Sequential(*parts, conv_norm(wide, outs, 1, None))
        self.use_res_connect = stride == 1 and ins == outs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


def mobile_net_v2() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8, act=nn.ReLU6, stride=2),
        Inverted(8, 8, 6),
        Inverted(6, 20, 10, 2),
        Inverted(10, 22, 10),
        Inverted(10, 18, 12),
        conv_norm(12, 24, 1, nn.ReLU6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(24, 7),
    )


def mobile_net_v3() -> nn.Module:
    def squeeze(width: int, inner: int) -> Make:
        return lambda: SqueezeExcite(width, inner, nn.ReLU, nn.Hardsigmoid)

    return nn.Sequential(
        conv_norm(3, 8, act=nn.Hardswish, stride=2),
        Inverted(8, 8, 8, 1, nn.ReLU, squeeze(8, 4)),
        Inverted(8, 20, 10, 2, nn.ReLU),
        Inverted(10, 22, 10, 1, nn.Hardswish, squeeze(22, 6), kernel=5),
        Inverted(10, 18, 10, 1, nn.Hardswish, squeeze(18, 5), kernel=5),
        conv_norm(10, 24, 1, nn.Hardswish),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 16),
        nn.Hardswish(inplace=True),
        nn.Dropout(0.2),
        nn.Linear(16, 7),
    )


def efficient_net() -> nn.Module:
    def squeeze(width: int, inner: int) -> Make:
        return lambda: SqueezeExcite(width, inner, nn.SiLU, nn.Sigmoid)

    return nn.Sequential(
        conv_norm(3, 8, act=nn.SiLU, stride=2),
        Inverted(8, 8, 6, 1, nn.SiLU, squeeze(8, 2)),
        Inverted(6, 24, 10, 2, nn.SiLU, squeeze(24, 3)),
        Inverted(10, 20, 10, 1, nn.SiLU, squeeze(20, 4), kernel=5),
        conv_norm(10, 22, 1, nn.SiLU),
        head(22),
    )


class MNASNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 10, 3, 2, 1, bias=False),
            nn.BatchNorm2d(10, momentum=3e-4),
            nn.ReLU(inplace=True),
            nn.Conv2d(10, 10, 3, padding=1, groups=10, bias=False),
            nn.BatchNorm2d(10, momentum=3e-4),
            nn.ReLU(inplace=True),
            nn.Conv2d(10, 8, 1, bias=False),
            nn.BatchNorm2d(8, momentum=3e-4),
            nn.Sequential(Inverted(8, 24, 12, 2, nn.ReLU), Inverted(12, 18, 12, 1, nn.ReLU)),
            nn.Sequential(Inverted(12, 20, 14, 1, nn.ReLU, kernel=5), Inverted(14, 22, 14, 1, nn.ReLU, kernel=5)),
            nn.Conv2d(14, 16, 1, bias=False),
            nn.BatchNorm2d(16, momentum=3e-4),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2, inplace=True), nn.Linear(16, 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.layers(x).mean([2, 3]))


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    rows, channels, height, width = x.size()
    x = x.view(rows, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(rows, channels, height, width)


class ShuffleUnit(nn.Module):
    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half = outs // 2
        first = ins if stride > 1 else half
        self.branch1 = nn.Sequential()
        if stride > 1:
            self.branch1 = nn.Sequential(conv_norm(ins, ins, 3, None, stride, groups=ins), conv_norm(ins, half, 1))
        self.branch2 = nn.Sequential(
            conv_norm(first, half, 1), conv_norm(half, half, 3, None, stride, groups=half), conv_norm(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch2(x2)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(out, 2)


def shuffle_net_v2() -> nn.Module:
    return nn.Sequential(
        conv_norm(3, 8, stride=2),
        ShuffleUnit(8, 12, 2),
        ShuffleUnit(12, 12, 1),
        ShuffleUnit(12, 12, 1),
        ShuffleUnit(12, 20, 2),
        conv_norm(20, 24, 1),
        head(24),
    )


class Fire(nn.Module):
    def __init__(self, ins: int, squeeze: int, one: int, three: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(ins, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, one, 1)
        self.expand3x3 = nn.Conv2d(squeeze, three, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


def squeeze_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(8, 5, 9, 10),
        Fire(19, 6, 11, 12),
        nn.Dropout(),
        nn.Conv2d(23, 7, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(1),
    )


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of images."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, wide)
        self.pwconv2 = nn.Linear(wide, width)
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), 1e-1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.pwconv2(F.gelu(self.pwconv1(y))).permute(0, 3, 1, 2)
        return x + self.layer_scale * y


def conv_next() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4),
        ChannelNorm(8, eps=1e-6),
        ConvNextBlock(8, 20),
        ChannelNorm(8, eps=1e-6),
        nn.Conv2d(8, 12, 2, stride=2),
        ConvNextBlock(12, 24),
        nn.AdaptiveAvgPool2d(1),
        ChannelNorm(12, eps=1e-6),
        nn.Flatten(1),
        nn.Linear(12, 7),
    )


class LiteralSqueeze(nn.Module):
    """Squeeze and excite with the number of channels written out in forward: those can't be fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 9, 3, padding=1)
        self.conv2 = nn.Conv2d(9, 20, 3, padding=1)
        self.squeeze = nn.Linear(20, 6)
        self.excite = nn.Linear(6, 20)
        self.fc = nn.Linear(20, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        weights = F.adaptive_avg_pool2d(x, 1).view(x.shape[0], 20)
        weights = torch.sigmoid(self.excite(F.relu(self.squeeze(weights)))).view(-1, 20, 1, 1)
        return self.fc((x * weights).mean((2, 3)))


class Film(nn.Module):
    """A convolutional network whose features a condition scales and shifts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 9, 3, padding=1)
        self.bn = nn.BatchNorm2d(9, affine=False)
        self.conv2 = nn.Conv2d(9, 13, 3, padding=1)
        self.condition = nn.Sequential(nn.Linear(5, 16), nn.ReLU())
        self.film1 = nn.Linear(16, 18)
        self.film2 = nn.Linear(16, 26)
        self.fc = nn.Linear(13, 7)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        c = self.condition(c)
        scale, shift = self.film1(c).chunk(2, dim=1)
        x = F.relu(self.bn(self.conv1(x)) * (1 + scale[:, :, None, None]) + shift[:, :, None, None])
        scale, shift = self.film2(c)[..., None, None].chunk(2, dim=1)
        x = F.relu(self.conv2(x) * (1 + scale) + shift)
        return self.fc(x.mean((2, 3)))


for _name, _make in {
    "alexnet": AlexNet,
    "vgg_norm": VGG,
    "resnet_bottleneck": ResNet,
    "resnext": lambda: ResNet((6, 12), groups=3),
    "densenet": dense_net,
    "googlenet": google_net,
    "inception": inception,
    "mobilenet_v2": mobile_net_v2,
    "mobilenet_v3": mobile_net_v3,
    "efficientnet": efficient_net,
    "mnasnet": MNASNet,
    "shufflenet_v2": shuffle_net_v2,
    "squeezenet": squeeze_net,
    "convnext": conv_next,
    "literal_squeeze": LiteralSqueeze,
}.items():
    add(_name, _make, real(3, 32, 32) if _name in ("alexnet", "convnext") else real(3, 16, 16))
add("film", Film, several(real(3, 16, 16), real(5)))


# -- an output for each pixel ---------------------------------------------------------------------------------------


class PooledBranch(nn.Sequential):
    def __init__(self, ins: int, outs: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Conv2d(ins, outs, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        for module in self:
            x = module(x)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class DeepLab(nn.Module):
    """A dilated backbone, spatial pyramid pooling, and an auxiliary output: a dict of two."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 8, stride=2)
        self.middle = conv_norm(8, 10, dilation=2)
        self.deep = conv_norm(10, 12, dilation=4)
        self.convs = nn.ModuleList(
            [conv_norm(12, 5, 1), conv_norm(12, 6, dilation=2), conv_norm(12, 7, dilation=3), PooledBranch(12, 9)]
        )
        self.project = nn.Sequential(conv_norm(27, 11, 1), nn.Dropout(0.5))
        self.classifier = nn.Sequential(conv_norm(11, 13), nn.Conv2d(13, 4, 1))
        self.aux = nn.Sequential(conv_norm(10, 14), nn.Dropout(0.1), nn.Conv2d(14, 4, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        size = x.shape[-2:]
        middle = self.middle(self.stem(x))
        deep = self.deep(middle)
        found = self.classifier(self.project(torch.cat([conv(deep) for conv in self.convs], dim=1)))
        return {
            "out": F.interpolate(found, size=size, mode="bilinear", align_corners=False),
            "aux": F.interpolate(self.aux(middle), size=size, mode="bilinear", align_corners=False),
        }


class FCN(nn.Module):
    """Scores at three scales, upsampled by transposed convolutions and added."""

    def __init__(self) -> None:
        super().__init__()
        self.pool1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.pool2 = nn.Sequential(nn.Conv2d(8, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.pool3 = nn.Sequential(nn.Conv2d(10, 14, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Sequential(nn.Conv2d(14, 20, 2), nn.ReLU(), nn.Dropout2d())
        self.score1, self.score2, self.score3 = nn.Conv2d(8, 5, 1), nn.Conv2d(10, 5, 1), nn.Conv2d(20, 5, 1)
        self.up3 = nn.ConvTranspose2d(5, 5, 6, stride=3, bias=False)
        self.up2 = nn.ConvTranspose2d(5, 5, 4, stride=2, padding=1, bias=False)
        self.up1 = nn.ConvTranspose2d(5, 5, 4, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        one = self.pool1(x)
        two = self.pool2(one)
        up = self.up3(self.score3(self.fc(self.pool3(two))))
        up = self.up2(up[:, :, 1 : 1 + two.size(2), 1 : 1 + two.size(3)] + self.score2(two))
        return self.up1(up + self.score1(one))


def twice(ins: int, between: int, outs: int) -> nn.Sequential:
    return nn.Sequential(conv_norm(ins, between), conv_norm(between, outs))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = twice(3, 8, 9), twice(9, 12, 13), twice(13, 20, 18)
        self.up2, self.up1 = nn.ConvTranspose2d(18, 10, 2, stride=2), nn.ConvTranspose2d(14, 7, 2, stride=2)
        self.side2, self.side1 = twice(23, 15, 14), twice(16, 11, 6)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        x = self.up2(self.bottom(F.max_pool2d(two, 2)))
        x = self.up1(self.side2(torch.cat([two, x], dim=1)))
        return self.out(self.side1(torch.cat([one, x], dim=1)))


class AutoEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(12 * 16, 10),
        )
        self.decoder = nn.Sequential(
            nn.Linear(10, 14 * 16),
            nn.ReLU(),
            nn.Unflatten(1, (14, 4, 4)),
            nn.ConvTranspose2d(14, 9, 3, 2, 1, output_padding=1),
            nn.BatchNorm2d(9),
            nn.ReLU(),
            nn.ConvTranspose2d(9, 3, 3, 2, 1, output_padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Variational(nn.Module):
    """A variational autoencoder, whose code is the mean in evaluation mode: three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(20, 16)
        self.mean, self.logvar = nn.Linear(16, 6), nn.Linear(16, 6)
        self.hidden, self.out = nn.Linear(6, 14), nn.Linear(14, 20)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.encoder(x))
        mean, logvar = self.mean(h), self.logvar(h)
        code = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean) if self.training else mean
        return torch.sigmoid(self.out(F.relu(self.hidden(code)))), mean, logvar


add("deeplab", DeepLab, real(3, 16, 16))
add("fcn", FCN, real(3, 16, 16))
add("unet", UNet, real(3, 16, 16))
add("autoencoder", AutoEncoder, real(3, 16, 16))
add("variational", Variational, real(20))


# -- attention on images --------------------------------------------------------------------------------------------


class VisionBlock(nn.Module):
    def __init__(self, width: int, heads: int, wide: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, wide), nn.GELU(), nn.Dropout(0.0), nn.Linear(wide, width), nn.Dropout(0.0)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        y, _ = self.self_attention(y, y, y, need_weights=False)
        x = x + y
        return x + self.mlp(self.ln_2(x))


class VisionTransformer(nn.Module):
    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.width = width
        self.conv_proj = nn.Conv2d(3, width, 4, stride=4)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embedding = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.layers = nn.Sequential(VisionBlock(width, heads, 20), VisionBlock(width, heads, 22))
        self.ln = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        x = self.conv_proj(x).reshape(rows, self.width, -1).permute(0, 2, 1)
        x = torch.cat([self.class_token.expand(rows, -1, -1), x], dim=1) + self.pos_embedding
        return self.head(self.ln(self.layers(x))[:, 0])


def relative_index(size: int) -> Tensor:
    """For two places in a window of size x size, where in a table of (2 size - 1)^2 their distance stands."""
    places = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")).flatten(1)
    apart = places[:, :, None] - places[:, None, :] + size - 1
    return apart[0] * (2 * size - 1) + apart[1]


class WindowAttention(nn.Module):
    """Attention in (shifted) windows, as Swin's: x is (rows, height, width, channels)."""

    def __init__(self, dim: int, window: int, shift: int, num_heads: int) -> None:
        super().__init__()
        self.window, self.shift, self.num_heads = window, shift, num_heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(0.02 * torch.randn((2 * window - 1) ** 2, num_heads))
        self.register_buffer("index", relative_index(window).flatten())

    def mask(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        region = x.new_zeros((height, width))
        cuts = ((0, -self.window), (-self.window, -self.shift), (-self.shift, None))
        for i, (top, bottom) in enumerate(cuts):
            for j, (left, right) in enumerate(cuts):
                region[top:bottom, left:right] = 3 * i + j
        w = self.window
        region = region.view(height // w, w, width // w, w).permute(0, 2, 1, 3).reshape(-1, w * w)
        apart = region.unsqueeze(1) - region.unsqueeze(2)
        return apart.masked_fill(apart != 0, -100.0).masked_fill(apart == 0, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        rows, height, width, channels = x.shape
        w = self.window
        if self.shift:
            x = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2))
        windows = (height // w) * (width // w)
        x = x.view(rows, height // w, w, width // w, w, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(rows * windows, w * w, channels)
        qkv = self.qkv(x).reshape(x.size(0), x.size(1), 3, self.num_heads, channels // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = (q * (channels // self.num_heads) ** -0.5).matmul(k.transpose(-2, -1))
        bias = self.table[self.index].view(w * w, w * w, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        scores = scores + bias
        if self.shift:
            mask = self.mask(x.view(rows, height, width, channels))
            scores = scores.view(rows, windows, self.num_heads, w * w, w * w) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.num_heads, w * w, w * w)
        x = self.proj(F.softmax(scores, dim=-1).matmul(v).transpose(1, 2).reshape(rows * windows, w * w, channels))
        x = x.view(rows, height // w, width // w, w, w, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(rows, height, width, channels)
        return torch.roll(x, shifts=(self.shift, self.shift), dims=(1, 2)) if self.shift else x


class SwinBlock(nn.Module):
    def __init__(self, dim: int, shift: int, heads: int, wide: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, 2, shift, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, wide), nn.GELU(), nn.Linear(wide, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    def __init__(self, dim: int, outs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, outs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)], -1)
        return self.reduction(self.norm(x))


class Swin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)
        self.stage1 = nn.Sequential(SwinBlock(8, 0, 2, 20), SwinBlock(8, 1, 4, 22))
        self.merge = PatchMerging(8, 12)
        self.stage2 = SwinBlock(12, 0, 3, 24)
        self.last = nn.LayerNorm(12)
        self.head = nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x).permute(0, 2, 3, 1))
        x = self.last(self.stage2(self.merge(self.stage1(x))))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), 1), 1))


class PartitionAttention(nn.Module):
    """MaxViT's: among the pixels of a block, or among those at the same place of every block."""

    def __init__(self, dim: int, heads: int, size: int, grid: bool, wide: int) -> None:
        super().__init__()
        self.heads, self.size, self.grid = heads, size, grid
        self.norm = nn.LayerNorm(dim)
        self.to_qkv, self.merge = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.bias_table = nn.Parameter(0.02 * torch.randn((2 * size - 1) ** 2, heads))
        self.register_buffer("index", relative_index(size).flatten())
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, wide), nn.GELU(), nn.Linear(wide, dim))

    def forward(self, x: Tensor) -> Tensor:
        rows, channels, height, width = x.shape
        p = self.size
        x = x.reshape(rows, channels, height // p, p, width // p, p).permute(0, 2, 4, 3, 5, 1)
        x = x.reshape(rows, -1, p * p, channels)
        if self.grid:
            x = x.transpose(1, 2)
        b, g, n, _ = x.shape
        q, k, v = torch.chunk(self.to_qkv(self.norm(x)), 3, dim=-1)
        q, k, v = (t.reshape(b, g, n, self.heads, -1).permute(0, 1, 3, 2, 4) for t in (q, k, v))
        scores = torch.einsum("b g h i d, b g h j d -> b g h i j", q, k * channels**-0.5)
        bias = self.bias_table[self.index].view(p * p, p * p, -1).permute(2, 0, 1).unsqueeze(0)
        scores = F.softmax(scores + bias, dim=-1)
        y = torch.einsum("b g h i j, b g h j d -> b g h i d", scores, v).permute(0, 1, 3, 2, 4).reshape(b, g, n, -1)
        x = x + self.merge(y)
        x = x + self.mlp(x)
        if self.grid:
            x = x.transpose(1, 2)
        x = x.reshape(rows, height // p, width // p, p, p, channels).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(rows, channels, height, width)


def max_vit() -> nn.Module:
    def squeeze() -> nn.Module:
        return SqueezeExcite(20, 5, nn.SiLU, nn.Sigmoid)

    return nn.Sequential(
        conv_norm(3, 9, act=nn.GELU, stride=2),
        Inverted(9, 20, 12, 2, nn.GELU, squeeze),
        PartitionAttention(12, 3, 2, False, 22),
        PartitionAttention(12, 2, 2, True, 24),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(12),
        nn.Linear(12, 10),
        nn.Tanh(),
        nn.Linear(10, 7, bias=False),
    )


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, width: int, across: int, wide: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, across), nn.GELU(), nn.Linear(across, tokens))
        self.channels = nn.Sequential(nn.Linear(width, wide), nn.GELU(), nn.Linear(wide, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 4, stride=4)
        self.blocks = nn.Sequential(MixerBlock(16, 10, 9, 20), MixerBlock(16, 10, 13, 22))
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(1))


add("vit", VisionTransformer, real(3, 16, 16))
add("swin", Swin, real(3, 16, 16))
add("maxvit", max_vit, real(3, 16, 16))
add("mixer", Mixer, real(3, 16, 16))


# -- transformers of torch.nn ---------------------------------------------------------------------------------------


class AttentionHead(nn.Module):
    """Self attention alone, a mean over the sequence, a projection."""

    def __init__(self, width: int, heads: int, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=batch_first)
        self.project = nn.Linear(width, 7)
        self.sequence = 1 if batch_first else 0

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x)
        return self.project(y.mean(self.sequence))


class CrossAttention(nn.Module):
    """Queries, keys and values of different widths, with a mask of what is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, kdim=9, vdim=10, bias=False, batch_first=True)
        self.project = nn.Linear(12, 7)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor) -> Tensor:
        return self.project(self.attention(q, k, v, key_padding_mask=padding > 1, need_weights=False)[0])


class Encoder(nn.Module):
    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(11, 12), nn.Parameter(0.02 * torch.randn(6, 12))
        layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, norm_first=norm_first, activation="gelu")
        norm = nn.LayerNorm(12) if norm_first else None
        self.encoder = nn.TransformerEncoder(layer, 2, norm=norm, enable_nested_tensor=False)
        self.fc = nn.Linear(12, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(self.encoder(self.embed(tokens) + self.position).mean(1))


class Padded(nn.Module):
    """An encoder that is told which tokens are padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 12, padding_idx=0)
        layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc = nn.Linear(12, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = tokens == 0
        padding = torch.cat([torch.zeros_like(padding[:, :1]), padding[:, 1:]], dim=1)
        return self.fc(self.encoder(self.embed(tokens), src_key_padding_mask=padding)[:, 0])


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(12, 3, 20, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 2)
        self.fc = nn.Linear(12, 7)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.size(1), device=x.device, dtype=x.dtype)
        return self.fc(self.decoder(x, memory, tgt_mask=mask, tgt_is_causal=True))


class Translator(nn.Module):
    """nn.Transformer with a causal mask, which forward may call causal or leave it to torch to find out."""

    def __init__(self, told: bool) -> None:
        super().__init__()
        self.told = told
        self.source, self.target = nn.Embedding(11, 12), nn.Embedding(13, 12)
        self.transformer = nn.Transformer(12, 3, 1, 2, 20, batch_first=True, norm_first=True)
        self.generator = nn.Linear(12, 13)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = self.transformer.generate_square_subsequent_mask(target.size(1), dtype=self.source.weight.dtype)
        causal = True if self.told else None
        x = self.transformer(self.source(source), self.target(target), tgt_mask=mask, tgt_is_causal=causal)
        return self.generator(x)


add("attention_batch_first", lambda: AttentionHead(12, 3, True), real(5, 12))
add(
    "attention_sequence_first",
    lambda: AttentionHead(12, 3, False),
    lambda rows: torch.randn(5, rows, 12, dtype=torch.float64),
    batch_axis=1,
)
add("attention_cross", CrossAttention, several(real(5, 12), real(6, 9), real(6, 10), real(6)))
add("transformer_encoder_norm_last", lambda: Encoder(False), whole(11, 6))
add("transformer_encoder_norm_first", lambda: Encoder(True), whole(11, 6))
add("transformer_decoder", Decoder, several(real(5, 12), real(6, 12)))
add("transformer_encoder_padded", Padded, whole(11, 6))
add("transformer", lambda: Translator(False), several(whole(11, 6), whole(13, 5)))
add("transformer_told_causal", lambda: Translator(True), several(whole(11, 6), whole(13, 5)))


# -- recurrent layers -----------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """A recurrent layer of torch's over embedded tokens, and a linear layer on its last step."""

    def __init__(self, kind: type[nn.RNNBase], layers: int = 1, bidirectional: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 9)
        self.rnn = kind(9, 13, layers, batch_first=True, bidirectional=bidirectional)
        self.fc = nn.Linear(13 * (2 if bidirectional else 1), 7)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs, _ = self.rnn(self.embed(tokens))
        return self.fc(outputs[:, -1])


class LastState(nn.Module):
    """The hidden states that a GRU of two layers ends with, side by side, behind a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(8, 10)
        self.rnn = nn.GRU(10, 13, 2)
        self.fc = nn.Linear(26, 7)

    def forward(self, x: Tensor) -> Tensor:
        _, last = self.rnn(F.relu(self.before(x)).transpose(0, 1))
        return self.fc(torch.cat([last[0], last[1]], dim=1))


class Steps(nn.Module):
    """A cell that Python steps through five inputs."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell = kind(8, 13)
        self.fc = nn.Linear(13, 7)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], self.cell.hidden_size)
        c = torch.zeros_like(h)
        for step in x.unbind(1):
            if isinstance(self.cell, nn.LSTMCell):
                h, c = self.cell(step, (h, c))
            else:
                h = self.cell(step, h)
        return self.fc(h)


class OwnGru(nn.Module):
    """A gated recurrent cell out of linear layers, over five steps."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(8 + 13, 26)
        self.candidate = nn.Linear(8 + 13, 13)
        self.start = nn.Parameter(torch.zeros(13))
        self.fc = nn.Linear(13, 7)

    def forward(self, x: Tensor) -> Tensor:
        h = self.start.expand(x.shape[0], -1)
        for t in range(x.shape[1]):
            z, r = torch.sigmoid(self.gates(torch.cat([x[:, t], h], -1))).chunk(2, -1)
            h = (1 - z) * h + z * torch.tanh(self.candidate(torch.cat([x[:, t], r * h], -1)))
        return self.fc(h)


add("lstm", lambda: Recurrent(nn.LSTM), whole(11, 6))
add("lstm_two_layers", lambda: Recurrent(nn.LSTM, 2), whole(11, 6))
add("lstm_bidirectional", lambda: Recurrent(nn.LSTM, 1, True), whole(11, 6))
add("gru", lambda: Recurrent(nn.GRU), whole(11, 6))
add("gru_last_states", LastState, real(5, 8))
add("rnn", lambda: Recurrent(nn.RNN), whole(11, 6))
add("lstm_cell", lambda: Steps(nn.LSTMCell), real(5, 8))
add("gru_cell", lambda: Steps(nn.GRUCell), real(5, 8))
add("own_gru", OwnGru, real(5, 8))


# -- attention, feed-forward layers and experts of people's own ----------------------------------------------------


class FusedQkv(nn.Module):
    """timm's way: one linear layer for queries, keys and values."""

    def __init__(self, dim: int = 12, num_heads: int = 3, head_dim: int = 5) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.qkv = nn.Linear(dim, 3 * num_heads * head_dim)
        self.proj = nn.Linear(num_heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        rows, count, _ = x.shape
        qkv = self.qkv(x).reshape(rows, count, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = ((q * self.head_dim**-0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(rows, count, -1))


class SeparateQkv(nn.Module):
    """Queries, keys and values of their own, and torch's attention."""

    def __init__(self, dim: int = 12, num_heads: int = 4, head_dim: int = 5) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.q, self.k, self.v = (nn.Linear(dim, num_heads * head_dim, bias=False) for _ in range(3))
        self.out = nn.Linear(num_heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        rows, count = x.shape[:2]
        q, k, v = (
            layer(x).view(rows, count, self.num_heads, self.head_dim).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).contiguous().view(rows, count, self.num_heads * self.head_dim))


class FreeHeads(nn.Module):
    """Heads whose number forward takes from the weights: only their width is written down."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(12, 20) for _ in range(3))
        self.out = nn.Linear(20, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, 5)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        weights = (q @ k.transpose(2, 3) / math.sqrt(5)).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Grouped(nn.Module):
    """Two heads of keys and values for six heads of queries, repeated by repeat_interleave or by expand."""

    def __init__(self, expand: bool) -> None:
        super().__init__()
        self.expand = expand
        self.q_heads, self.kv_heads, self.head_dim = 6, 2, 4
        self.q = nn.Linear(14, 24, bias=False)
        self.k, self.v = nn.Linear(14, 8, bias=False), nn.Linear(14, 8, bias=False)
        self.o = nn.Linear(24, 14, bias=False)

    def repeated(self, x: Tensor) -> Tensor:
        times = self.q_heads // self.kv_heads
        if not self.expand:
            return x.repeat_interleave(times, dim=1)
        rows, heads, count, width = x.shape
        x = x[:, :, None].expand(rows, heads, times, count, width)
        return x.reshape(rows, heads * times, count, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, count, _ = x.shape
        q = self.q(x).view(rows, count, self.q_heads, self.head_dim).transpose(1, 2)
        k = self.repeated(self.k(x).view(rows, count, self.kv_heads, self.head_dim).transpose(1, 2))
        v = self.repeated(self.v(x).view(rows, count, self.kv_heads, self.head_dim).transpose(1, 2))
        scores = q @ k.transpose(-1, -2) / self.head_dim**0.5
        causal = torch.ones(count, count, dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(causal, float("-inf")).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).reshape(rows, count, -1))


class GatedChunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(9)
        self.up, self.down = nn.Linear(9, 32), nn.Linear(16, 9)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(self.norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * value)


class GatedTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(9)
        self.gate, self.up, self.down = nn.Linear(9, 16), nn.Linear(9, 16), nn.Linear(16, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class GatedGlu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(9, 32), nn.Linear(16, 9)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.glu(self.up(x)))


def top_two(logits: Tensor) -> Tensor:
    """The softmax of the two largest of each row, 0 for the others."""
    values, places = logits.topk(2, dim=-1)
    return torch.zeros_like(logits).scatter(-1, places, values.softmax(-1))


class Experts(nn.Module):
    """A mixture of experts, each a module of its own, all of them run."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(8, 10)
        self.router = nn.Linear(10, 5)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(10, 13 + i), nn.GELU(), nn.Linear(13 + i, 9)) for i in range(5)
        )
        self.fc = nn.Linear(9, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.before(x))
        weights = top_two(self.router(x))
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        return self.fc((weights.unsqueeze(-1) * outputs).sum(1))


class StackedExperts(nn.Module):
    """A mixture of experts whose weights are stacked; the router is a softmax over all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(8, 5)
        self.up = nn.Parameter(0.3 * torch.randn(5, 8, 13))
        self.up_bias = nn.Parameter(torch.zeros(5, 13))
        self.down = nn.Parameter(0.3 * torch.randn(5, 13, 9))
        self.fc = nn.Linear(9, 7)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.router(x).softmax(-1)
        hidden = F.relu(torch.einsum("nd,edh->neh", x, self.up) + self.up_bias)
        return self.fc(torch.einsum("neh,eho,ne->no", hidden, self.down, weights))


class SoftExperts(nn.Module):
    """Experts whose outputs weights without a softmax add up: any of them can be missed."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(8, 5)
        self.up, self.down = nn.Parameter(0.3 * torch.randn(5, 8, 13)), nn.Parameter(0.3 * torch.randn(5, 13, 9))
        self.fc = nn.Linear(9, 7)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(torch.einsum("nd,edh->neh", x, self.up)) * torch.sigmoid(self.router(x)).unsqueeze(-1)
        return self.fc(torch.einsum("neh,eho->no", hidden, self.down))


add("fused_qkv", FusedQkv, real(5, 12))
add("separate_qkv", SeparateQkv, real(5, 12))
add("free_heads", FreeHeads, real(6, 12))
add("grouped_query_interleave", lambda: Grouped(False), real(5, 14))
add("grouped_query_expand", lambda: Grouped(True), real(5, 14))
add("gated_chunk", GatedChunk, real(5, 9))
add("gated_two", GatedTwo, real(5, 9))
add("gated_glu", GatedGlu, real(5, 9))
add("experts_listed", Experts, real(8))
add("experts_stacked", StackedExperts, real(8))
add("experts_soft", SoftExperts, real(8))


# -- sequences, sets, tables and graphs -----------------------------------------------------------------------------


class WaveNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 1)
        self.filters = nn.ModuleList(nn.Conv1d(8, 10 + i, 2, dilation=2**i) for i in range(3))
        self.gates = nn.ModuleList(nn.Conv1d(8, 10 + i, 2, dilation=2**i) for i in range(3))
        self.residuals = nn.ModuleList(nn.Conv1d(10 + i, 8, 1) for i in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(10 + i, 14, 1) for i in range(3))
        self.end1, self.end2 = nn.Conv1d(14, 9, 1), nn.Conv1d(9, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        total: Tensor | int = 0
        for i, (conv, gate, residual, skip) in enumerate(
            zip(self.filters, self.gates, self.residuals, self.skips, strict=True)
        ):
            padded = F.pad(x, (2**i, 0))
            y = torch.tanh(conv(padded)) * torch.sigmoid(gate(padded))
            total = total + skip(y)
            x = x + residual(y)
        return self.end2(F.relu(self.end1(F.relu(total))))


class Siamese(nn.Module):
    """One tower used twice; how far apart its two outputs are, and a head on both."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 14), nn.ReLU(), nn.Linear(14, 9))
        self.head = nn.Linear(27, 5)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.tower(a), self.tower(b)
        return self.head(torch.cat([a, b, (a - b).abs()], 1)), F.cosine_similarity(a, b)


class FactorisationMachine(nn.Module):
    """Embedded fields and a bag of tags, all products of two of them, and a network on top."""

    def __init__(self) -> None:
        super().__init__()
        self.fields = nn.ModuleList(nn.Embedding(size, 8) for size in (5, 6, 7))
        self.tags = nn.EmbeddingBag(11, 8, mode="mean")
        self.first = nn.ModuleList(nn.Embedding(size, 1) for size in (5, 6, 7))
        self.deep = nn.Sequential(nn.Linear(32, 18), nn.ReLU(), nn.Linear(18, 10), nn.ReLU(), nn.Linear(10, 1))

    def forward(self, fields: Tensor, tags: Tensor) -> Tensor:
        found = [embed(fields[:, i]) for i, embed in enumerate(self.fields)]
        x = torch.stack([*found, self.tags(tags)], dim=1)
        pairs = 0.5 * (x.sum(1).square() - x.square().sum(1)).sum(1, keepdim=True)
        linear = torch.stack([embed(fields[:, i]) for i, embed in enumerate(self.first)]).sum(0)
        return torch.sigmoid(linear + pairs + self.deep(x.flatten(1)))


class TwoTowers(nn.Module):
    """A recommender: embedded people and things, a layer on each, the product of the two, and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.people, self.things = nn.Embedding(11, 9), nn.Embedding(13, 10)
        self.left, self.right = nn.Linear(9, 12), nn.Linear(10, 12)
        self.people_bias, self.things_bias = nn.Embedding(11, 1), nn.Embedding(13, 1)

    def forward(self, people: Tensor, things: Tensor) -> Tensor:
        score = (F.relu(self.left(self.people(people))) * self.right(self.things(things))).sum(-1)
        return score + self.people_bias(people).squeeze(-1) + self.things_bias(things).squeeze(-1)


class GraphNet(nn.Module):
    """Two graph convolutions with a dense adjacency matrix, one attention over neighbours, a mean over nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 12), nn.Linear(12, 14)
        self.near, self.far = nn.Linear(14, 1), nn.Linear(14, 1)
        self.three = nn.Linear(14, 10)
        self.fc = nn.Linear(10, 4)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        adjacency = (adjacency > 0).to(x.dtype) + torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        normal = adjacency / adjacency.sum(-1, keepdim=True)
        x = F.relu(normal @ self.one(x))
        x = F.relu(torch.bmm(normal, self.two(x)))
        scores = F.leaky_relu(self.near(x) + self.far(x).transpose(1, 2), 0.2)
        weights = scores.masked_fill(adjacency == 0, -1e9).softmax(-1)
        return self.fc(F.elu(weights @ self.three(x)).mean(1))


class PointNet(nn.Module):
    """A set of points: shared layers, the largest value of each feature, and a rotation that is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 9, 1))
        self.features = nn.Sequential(nn.Conv1d(3, 10, 1), nn.BatchNorm1d(10), nn.ReLU(), nn.Conv1d(10, 20, 1))
        self.fc = nn.Sequential(nn.Linear(20, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 7))

    def forward(self, x: Tensor) -> Tensor:
        turn = torch.max(self.turn(x), 2)[0].view(-1, 3, 3) + torch.eye(3, dtype=x.dtype, device=x.device)
        x = torch.bmm(x.transpose(2, 1), turn).transpose(2, 1)
        return self.fc(torch.max(self.features(x), 2, keepdim=True)[0].view(x.size(0), -1))


add("wavenet", WaveNet, real(1, 16))
add("siamese", Siamese, several(real(12), real(12)))
add("factorisation_machine", FactorisationMachine, several(whole(5, 3), whole(11, 4)))
add("two_towers", TwoTowers, several(whole(11), whole(13)))
add("graph", GraphNet, several(real(6, 5), real(6, 6)))
add("pointnet", PointNet, real(3, 15))


# -- weights that are not what they seem ----------------------------------------------------------------------------


def reparametrised(by: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Two convolutions and a layer with their weights reparametrised, and a plain head."""
    return nn.Sequential(
        by(nn.Conv2d(3, 8, 3, padding=1)),
        nn.ReLU(),
        by(nn.Conv2d(8, 10, 3, padding=1)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        by(nn.Linear(10, 13)),
        nn.ReLU(),
        nn.Linear(13, 7),
    )


def masked() -> nn.Module:
    """A network with masks on its weights."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 10, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1440, 12), nn.ReLU(),
        nn.Linear(12, 7),
    )  # fmt: skip
    prune.l1_unstructured(model[0], "weight", 0.3)
    prune.random_structured(model[2], "weight", amount=2, dim=0)
    prune.l1_unstructured(model[5], "weight", 0.5)
    prune.l1_unstructured(model[5], "bias", 2)
    return model


class Tied(nn.Module):
    """An embedding that is the output layer too, and a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 9)
        self.up, self.middle, self.down = nn.Linear(9, 16), nn.Linear(16, 16), nn.Linear(16, 9)
        self.out = nn.Linear(9, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        h = F.relu(self.middle(F.relu(self.middle(F.relu(self.up(x))))))
        return self.out(x + self.down(h))


add("weight_norm", lambda: reparametrised(parametrizations.weight_norm), real(3, 8, 8))
add("weight_norm_old", lambda: reparametrised(torch.nn.utils.weight_norm), real(3, 8, 8))
add("spectral_norm", lambda: reparametrised(parametrizations.spectral_norm), real(3, 8, 8))
add("spectral_norm_old", lambda: reparametrised(torch.nn.utils.spectral_norm), real(3, 8, 8))
add(
    "orthogonal",
    lambda: nn.Sequential(
        nn.Linear(9, 14), nn.ReLU(), parametrizations.orthogonal(nn.Linear(14, 10)), nn.Linear(10, 7)
    ),
    real(9),
)
add("masked", masked, real(3, 16, 16))
add("tied", Tied, whole(11, 6))


# -- kinds that few expect ------------------------------------------------------------------------------------------


class Maxout(nn.Module):
    """Each unit is the larger of two."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(9, 24), nn.Linear(12, 20)
        self.fc = nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x).view(x.size(0), 12, 2).amax(-1)
        return self.fc(self.two(x).view(x.size(0), -1, 2).amax(-1))


class Capsules(nn.Module):
    """Capsules with two rounds of routing; a class is the length of its capsule."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.primary = nn.Conv2d(8, 12, 3, 2)
        self.weight = nn.Parameter(0.1 * torch.randn(27, 5, 4, 6))

    @staticmethod
    def squash(x: Tensor) -> Tensor:
        square = x.square().sum(-1, keepdim=True)
        return square / (1 + square) * x / (square + 1e-8).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        x = self.primary(F.relu(self.conv(x)))
        x = self.squash(x.view(x.size(0), 3, 4, -1).permute(0, 1, 3, 2).reshape(x.size(0), -1, 4))
        votes = torch.einsum("nid,icdo->nico", x, self.weight)
        logits = torch.zeros(votes.shape[:3], dtype=x.dtype, device=x.device)
        for _ in range(2):
            found = self.squash((logits.softmax(-1).unsqueeze(-1) * votes).sum(1))
            logits = logits + (votes * found.unsqueeze(1)).sum(-1)
        return found.norm(dim=-1)


class StateSpace(nn.Module):
    """A selective state space, scanned in Python: Mamba in small."""

    def __init__(self, dim: int = 8, wide: int = 12, states: int = 4, rank: int = 3) -> None:
        super().__init__()
        self.wide, self.states, self.rank = wide, states, rank
        self.norm = nn.RMSNorm(dim)
        self.in_proj = nn.Linear(dim, 2 * wide, bias=False)
        self.conv1d = nn.Conv1d(wide, wide, 3, groups=wide, padding=2)
        self.x_proj = nn.Linear(wide, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, wide)
        self.a_log = nn.Parameter(torch.log(torch.arange(1.0, states + 1).repeat(wide, 1)))
        self.d = nn.Parameter(torch.ones(wide))
        self.out_proj = nn.Linear(wide, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, count, _ = x.shape
        u, z = self.in_proj(self.norm(x)).chunk(2, dim=-1)
        u = F.silu(self.conv1d(u.transpose(1, 2))[..., :count].transpose(1, 2))
        dt, b, c = self.x_proj(u).split([self.rank, self.states, self.states], dim=-1)
        dt = F.softplus(self.dt_proj(dt))
        decay = torch.exp(dt.unsqueeze(-1) * -torch.exp(self.a_log))
        drive = (dt * u).unsqueeze(-1) * b.unsqueeze(2)
        state = x.new_zeros(rows, self.wide, self.states)
        outputs = []
        for t in range(count):
            state = decay[:, t] * state + drive[:, t]
            outputs.append((state * c[:, t].unsqueeze(1)).sum(-1))
        y = torch.stack(outputs, dim=1) + u * self.d
        return x + self.out_proj(y * F.silu(z))


class Splines(nn.Module):
    """A Kolmogorov-Arnold network: a curve on every edge, by radial bumps on a fixed grid."""

    def __init__(self, sizes: Sequence[int] = (5, 12, 9, 4), bumps: int = 6) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(-2, 2, bumps))
        pairs = list(itertools.pairwise(sizes))
        self.curves = nn.ParameterList(0.3 * torch.randn(outs, ins, bumps) for ins, outs in pairs)
        self.straight = nn.ModuleList(nn.Linear(ins, outs) for ins, outs in pairs)

    def forward(self, x: Tensor) -> Tensor:
        for curve, straight in zip(self.curves, self.straight, strict=True):
            bumps = torch.exp(-(x.unsqueeze(-1) - self.grid).square())
            x = torch.einsum("nik,oik->no", bumps, curve) + straight(F.silu(x))
        return x


class Hyper(nn.Module):
    """A network that makes the weights of another for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.task = nn.Linear(4, 10)
        self.weight = nn.Linear(10, 6 * 9)
        self.bias = nn.Linear(10, 9)
        self.out = nn.Linear(9, 5)

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        code = F.relu(self.task(task))
        weight = self.weight(code).view(-1, 9, 6)
        hidden = torch.bmm(weight, x.unsqueeze(-1)).squeeze(-1) + self.bias(code)
        return self.out(torch.tanh(hidden))


class SoftForest(nn.Module):
    """Five trees of depth three that go both ways at every node, with shares."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(8, 14)
        self.split = nn.Linear(14, 5 * 7)
        self.leaves = nn.Parameter(torch.randn(5, 8, 4))

    def forward(self, x: Tensor) -> Tensor:
        right = torch.sigmoid(self.split(torch.tanh(self.features(x)))).view(-1, 5, 7)
        share = torch.ones_like(right[..., :1])
        for depth in range(3):
            here = right[..., 2**depth - 1 : 2 ** (depth + 1) - 1]
            share = torch.stack([share * (1 - here), share * here], dim=-1).flatten(-2)
        return torch.einsum("ntl,tlc->nc", share, self.leaves) / 5


class Flow(nn.Module):
    """Coupling layers: one half of the inputs shifts and scales the other; the code and its log density."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(3, 12 + i), nn.ReLU(), nn.Linear(12 + i, 10), nn.ReLU(), nn.Linear(10, 6))
            for i in range(3)
        )
        self.register_buffer("order", torch.tensor([2, 5, 1, 0, 4, 3]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        density = x.new_zeros(x.shape[0])
        for net in self.nets:
            kept, moved = x[:, self.order].chunk(2, 1)
            shift, scale = net(kept).split(3, 1)
            scale = torch.tanh(scale)
            x = torch.cat([kept, moved * scale.exp() + shift], 1)
            density = density + scale.sum(1)
        return x, density - 0.5 * x.square().sum(1)


class Fourier(nn.Module):
    """FNet: the mixing of tokens is a Fourier transform, what is learnt are the layers between."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inside = nn.Embedding(11, 8), nn.Linear(8, 10)
        self.norm = nn.LayerNorm(10)
        self.mlp = nn.Sequential(nn.Linear(10, 20), nn.GELU(), nn.Linear(20, 10))
        self.fc = nn.Linear(10, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.inside(self.embed(tokens))
        x = self.norm(x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real)
        return self.fc((x + self.mlp(x))[:, 0])


class Perceiver(nn.Module):
    """Learnt queries read a sequence and then each other."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(0.5 * torch.randn(5, 10))
        self.q, self.k, self.v = nn.Linear(10, 9), nn.Linear(7, 9), nn.Linear(7, 12)
        self.after = nn.Linear(12, 14)
        self.mix = nn.Parameter(0.5 * torch.randn(6, 5))
        self.fc = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.q(self.latents) @ self.k(x).transpose(1, 2) / 3).softmax(-1)
        y = F.relu(self.after(weights @ self.v(x)))
        return self.fc(F.relu(torch.einsum("qp,npd->nqd", self.mix, y)).sum(1))


class Equilibrium(nn.Module):
    """The fixed point of one layer, approached in eight steps of Runge-Kutta's second order."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.field, self.speed = nn.Linear(5, 14), nn.Linear(14, 14), nn.Linear(14, 14, bias=False)
        self.read = nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        state = torch.zeros_like(x)
        for _ in range(8):
            middle = state + 0.1 * (torch.tanh(self.field(state)) * torch.sigmoid(self.speed(x)) + x - state)
            state = state + 0.2 * (torch.tanh(self.field(middle)) * torch.sigmoid(self.speed(x)) + x - middle)
        return self.read(state)


class SuperResolution(nn.Module):
    """Pixel shuffle, group norm, a learnt slope, and the image itself added, resized."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(4, 12), nn.PReLU(12))
        self.second = nn.Sequential(nn.Conv2d(12, 9, 3, padding=1, padding_mode="reflect"), nn.InstanceNorm2d(9))
        self.up = nn.Sequential(nn.Conv2d(9, 20, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
        self.out = nn.Conv2d(5, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(self.up(F.relu(self.second(self.first(x)))))
        return y + F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)


add("maxout", Maxout, real(9))
add("capsules", Capsules, real(3, 15, 15))
add("state_space", StateSpace, real(6, 8))
add("splines", Splines, real(5))
add("hypernetwork", Hyper, several(real(6), real(4)))
add("soft_forest", SoftForest, real(8))
add("coupling_flow", Flow, real(6))
add("fourier", Fourier, whole(11, 6))
add("perceiver", Perceiver, real(8, 7))
add("equilibrium", Equilibrium, real(5))
add("super_resolution", SuperResolution, real(3, 8, 8))
