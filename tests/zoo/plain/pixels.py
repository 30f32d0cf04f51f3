"""Networks with an output for each pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.plain.entry import add, conv_norm, real


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
