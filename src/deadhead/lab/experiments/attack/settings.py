"""Settings of the experiment `attack`: Evci's constants, and what is smaller here so that it ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attacks:
    """Settings; layers, learning rate, epochs, repeats, intervals, starts and the multipliers 100 and 1,000 are Evci's.

    The source trains every attacked network to the end, a choice that costs days here: attacked copies start from the
    intact network at the step of their first attack, on the same batches, and are followed for 1,000 to 1,500
    steps, those with several starts to a common end. Ratios to the intact network are taken at the same step.

    Args:
        data: "cifar10", or "digits" magnified to 32x32.
        networks: "norm" (ReLU and batch norm), "relu", "tanh".
        norm: where batch norm stands: "after" the nonlinearity, as the source's histograms have it, or "before".
        units: attacked in each layer, a quarter of it apart: 0, 2, 4 of conv1, as in figure 3.1, 0, 4, 8 of conv2, as
            in figure 3.9, 0, 16, 32 of fc1, as in figure 3.7.
        epochs: of the intact networks.
        tanh_epochs: of the intact Tanh network.
        batch_size: of training; a choice.
        learning_rate: of SGD without momentum.
        samples: validation images, which are not trained on.
        repeats: attacked steps.
        interval: between them.
        wide_interval: between them where multipliers are compared.
        mild: multiplier with batch norm; also for ReLU, where the source names none.
        strong: multiplier with Tanh; also for ReLU, and for all networks where they are compared.
        early: first attacked step with batch norm.
        late: first attacked step with Tanh and ReLU.
        starts: first attacked steps that are compared with batch norm.
        tanh_starts: the same with Tanh, unit 16 of fc1.
        multipliers: that are compared; a choice.
        early_end: up to which copies attacked early are trained.
        late_end: the same for those attacked late.
        last: the same for those whose starts are compared.
        fade_end: the same for the unit of fc1 that is attacked first with Tanh.
        checkpoints: steps after which units are measured.
        stack: copies that train side by side.
    """

    data: str = "cifar10"
    networks: tuple[str, ...] = ("norm", "relu", "tanh")
    norm: str = "after"
    units: int = 3
    epochs: int = 10
    tanh_epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 0.01
    samples: int = 1000
    repeats: int = 10
    interval: int = 10
    wide_interval: int = 100
    mild: float = 100.0
    strong: float = 1000.0
    early: int = 50
    late: int = 2000
    starts: tuple[int, ...] = (500, 1500, 2500, 5000)
    tanh_starts: tuple[int, ...] = (50, 2500, 5000)
    multipliers: tuple[float, ...] = (10.0, 30.0, 100.0, 300.0)
    early_end: int = 1500
    late_end: int = 3000
    last: int = 6000
    fade_end: int = 8000
    checkpoints: tuple[int, ...] = (
        100, 500, 1000, 1500, 2000, 2500, 3000, 4000, 6000, 8000, 13000, 14500, 25000,
    )  # fmt: skip
    stack: int = 8


QUICK = {
    "data": "digits", "units": 1, "epochs": 1, "tanh_epochs": 1, "batch_size": 60, "samples": 20, "repeats": 2,
    "interval": 1, "wide_interval": 1, "early": 1, "late": 3, "starts": (1, 2, 3), "tanh_starts": (1, 2),
    "multipliers": (10.0, 100.0), "early_end": 5, "late_end": 5, "last": 5, "fade_end": 5, "checkpoints": (4,),
}  # fmt: skip
BEFORE = {"norm": "before", "networks": ("norm",), "starts": (), "multipliers": (), "units": 2, "epochs": 3}
