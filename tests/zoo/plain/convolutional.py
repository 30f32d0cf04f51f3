"""Convolutional classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.plain.entry import Make, add, conv_norm, head, real, several


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
