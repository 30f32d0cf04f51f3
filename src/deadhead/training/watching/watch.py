"""What happens to the units and weights of a network while the caller's own loop trains it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from deadhead.errors import DataError
from deadhead.files import append_line, write_together
from deadhead.graph.network import Network
from deadhead.training.watching.adjustments import Adjustments, check_trained
from deadhead.training.watching.events import TensorBoard
from deadhead.training.watching.history import History, Record
from deadhead.training.watching.measuring import Measuring
from deadhead.training.watching.panels import figure, png
from deadhead.training.watching.revive import revive as revive_units
from deadhead.training.watching.vitality import NEGLIGIBLE
from deadhead.training.wrapped import unwrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Watch:
    """The recording of one training run; made by `watch`. As a context manager it ends with its block, else with
    `stop()`.

    Attributes:
        adjustments: For each parameter's name the sum of `abs(w_t - w_(t-1))` over the optimizer's steps so far, in
            the parameter's shape.
        steps: How many steps that were.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        >>> recording = watch(layer, optimizer)
        >>> layer(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
        >>> recording.stop()
        >>> recording.steps, recording.adjustments["weight"].round(decimals=3)
        (1, tensor([[1., 1.]]))
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        measuring: Measuring | None = None,
        *,
        every: int = 50,
        mrp_every: int | None = 40,
        folder: str | Path | None = None,
        tensorboard: TensorBoard | None = None,
        revive: bool = False,
        seed: int = 0,
        adjustments: bool = True,
    ) -> None:
        self._optimizer, self._measuring, self._every, self._mrp_every = optimizer, measuring, every, mrp_every
        self._folder, self._tensorboard, self._revive = folder, tensorboard, revive
        self._generator = torch.Generator().manual_seed(seed)
        check_trained(model, optimizer)
        self._adjustments = Adjustments(model, optimizer) if adjustments else None
        self.steps = 0
        if measuring is not None:
            self.measure(mrp=None)
        self._handle: RemovableHandle | None = optimizer.register_step_post_hook(self._record)

    def _record(self, *_: object) -> None:
        if self._adjustments is not None:
            self._adjustments.add()
        self.steps += 1
        if self._measuring is not None and self.steps % self._every == 0:
            self.measure(mrp=None)

    @property
    def adjustments(self) -> dict[str, Tensor]:
        """The sum of the absolute changes of each parameter, in its shape; raises `DataError` where they are not
        recorded."""
        if self._adjustments is None:
            raise DataError("This watch records no adjustments of weights; give watch(..., adjustments=True).")
        return self._adjustments.totals

    @property
    def history(self) -> History:
        """The measurements so far; raises `DataError` for a watch without data."""
        return self._measured().history

    @property
    def network(self) -> Network:
        """The traced network that is measured; raises `DataError` for a watch without data."""
        return self._measured().network

    def _measured(self) -> Measuring:
        if self._measuring is None:
            raise DataError("This watch has no data to measure units on; give watch(..., data=batches, loss=...).")
        return self._measuring

    def _last(self) -> Record:
        return self._measured().history.records[-1]

    @property
    def dead(self) -> dict[str, list[int]]:
        """The units that were dead at the last measurement, by group; groups without any are left out."""
        return {name: list(each.dead) for name, each in self._last().groups.items() if each.dead}

    @property
    def frozen(self) -> dict[str, list[int]]:
        """The units that were frozen at the last measurement, by group; groups without any are left out."""
        return {name: list(each.frozen) for name, each in self._last().groups.items() if each.frozen}

    @property
    def causes(self) -> dict[str, dict[int, str]]:
        """Why each unit of `dead` is dead, {group: {unit: cause}}: "constant output", "flat region of the activation",
        "outgoing weights are zero", or "small output and small outgoing weights"."""
        return {name: dict(each.causes) for name, each in self._last().groups.items() if each.causes}

    @property
    def thresholds(self) -> dict[str, Mapping[str, Any]]:
        """What counted as about 0 at the last measurement, {group: {"dead", "frozen", "by"}}: a unit is dead where no
        sample's loss changes by more than "dead" when it is replaced by its mean, as measured ("mrp") or estimated to
        first order ("mrs") as "by" says; frozen where `abs(dL_n/dh)` is nowhere above "frozen"."""
        return {name: each.thresholds for name, each in self._last().groups.items()}

    def measure(self, mrp: bool | None = True) -> Record:
        """Measure now, beside the measurements at every so many steps.

        Args:
            mrp: whether the mean replacement penalty is measured too, a pass for each unit; None as at other
                measurements.

        Raises:
            DataError: the watch has no data.
        """
        measuring = self._measured()
        count = len(measuring.history)
        due = self._mrp_every is not None and count % self._mrp_every == 0
        record = measuring.measure(self.steps, due if mrp is None else mrp, asked=mrp is not None)
        if self._revive and self.steps:
            record = self._revived(record)
        if self._folder is not None:
            append_line(Path(self._folder, "history.jsonl"), record.line())
        if self._tensorboard is not None:
            self._tensorboard.write(record)
        return record

    def _revived(self, record: Record) -> Record:
        measuring = self._measured()
        dead = {group: record.groups[group.name].dead for group in measuring.groups if group.name in record.groups}
        for group, units in dead.items():
            if units:
                revive_units(measuring.network, group, units, self._optimizer, self._generator)
        if self._adjustments is not None:
            self._adjustments.skip()
        told = {name: replace(each, revived=each.dead) for name, each in record.groups.items()}
        measuring.history.records[-1] = replace(record, groups=told)
        return measuring.history.records[-1]

    def stop(self) -> None:
        """End the recording; what was recorded is kept."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            if self._adjustments is not None:
                self._adjustments.release()
            if self._tensorboard is not None:
                self._tensorboard.close()

    def figure(
        self, groups: Sequence[str] | str | None = None, units: Mapping[str, Sequence[int]] | None = None
    ) -> Figure:
        """The units through time: one row for each group with penalty, saliency, norms of gradient and weights and the
        loss, one line for each unit; and histograms before and after the nonlinearity.

        Args:
            groups: the groups' names; by default the first ones.
            units: {group: the units that are drawn}; by default those that are dead and those whose saliency is the
                largest.

        Raises:
            DataError: the watch has no data, or there is no such group or unit.

        Source:
            Evci (2018), figures 3.1 and 3.2.
        """
        return figure(self.history, groups, units)

    def save(self, folder: str | Path) -> None:
        """Write `history.json` and `units.png` into a folder.

        Raises:
            DataError: the watch has no data.
            OSError: the folder cannot be made or written.
        """
        history = self.history
        picture = png(figure(history)) if history.groups else None
        files: dict[Path, bytes | str] = {Path(folder, "history.json"): history.text()}
        if picture is not None:
            files[Path(folder, "units.png")] = picture
        write_together(files)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def watch(
    model_or_network: nn.Module | Network,
    optimizer: Optimizer,
    *,
    data: Iterable[Any] | None = None,
    loss: Any = None,
    every: int = 50,
    samples: int = 64,
    groups: Sequence[str] | str | None = None,
    units: Mapping[str, Sequence[int]] | None = None,
    site: str = "producer",
    mrp_every: int | None = 40,
    dead_below: float = NEGLIGIBLE,
    frozen_below: float = NEGLIGIBLE,
    warn_above: float = 0.1,
    revive: str | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    tensorboard: Any = None,
    adjustments: bool | None = None,
) -> Watch:
    """Record what happens to units and weights while a network is trained.

    Without `data`, every step of the optimizer adds the absolute change of each parameter to `adjustments`, for the
    criterion `gradient`. With `data`, the units are measured too, now and after every `every` steps: mean replacement
    penalty and saliency, gradients, weights, histograms before and after the nonlinearity, the loss, and which units
    are dead or frozen and why. The network is measured in evaluation mode.

    Training is not disturbed: weights, gradients, optimizer, random numbers, batch-norm statistics and modes are to the
    bit what they would be without the watch (but for `revive`).

    A measurement is one pass forward and backward over the probe, so that its cost goes with `samples / every`: with
    64 samples every 50 steps of 32 samples, less than a tenth is added to the time of training; 1,000 samples, as in
    the source, add about half of it. The penalty takes a pass for each unit, at every `mrp_every`-th measurement.
    The recording of adjustments takes the memory of two copies of the parameters, and four passes over them a step.

    Args:
        model_or_network: The network that is trained, or its traced `Network`.
        optimizer: The optimizer that trains it, of any class.
        data: The probe: any iterable of batches that are not trained on, read once; None records adjustments alone.
        loss: A name, a torch.nn loss, or a callable (outputs, batch) to a loss for each sample; needed with `data`.
        every: Measure after every so many steps of the optimizer, and once before the first.
        samples: At most so many samples of `data` are read. More samples cost more and name dead
            units more surely: a unit that is active on 1 sample in 64 is missed by a third of such probes.
        groups: Shell patterns of the groups that are measured; all by default.
        units: {group: units}, whose penalty and histograms are recorded; all units of the measured groups by default.
        site: "producer": a unit is replaced by its mean where its layer gives it, before batch norm, pool and
            nonlinearity, as in the source; "consumer": where it is read.
        mrp_every: Measure the penalty at every so many measurements, where at most 1,024 units are chosen; None leaves
            it out.
        dead_below: A unit is dead where replacing it by its mean changes no sample's loss by more than this fraction
            of what is typical of its layer, the upper quartile of its units' maximum changes.
        frozen_below: A unit is frozen where the gradient at its output is at no sample and position above this fraction
            of what is typical of its layer.
        warn_above: A warning is logged where more than this fraction of a group's units is dead.
        revive: "anew" re-initialises dead units after each measurement as their layers would, and zeroes the
            optimizer's state of their entries; None leaves them.
        seed: Of what `revive` draws.
        folder: Where `history.jsonl` is appended to, a line for each measurement, so that a killed run leaves what it
            had.
        tensorboard: A folder for TensorBoard, or a `torch.utils.tensorboard.SummaryWriter`; of each group the first 16
            units are shown, or those of `units`.
        adjustments: Whether adjustments are recorded; by default without `data`.

    Returns:
        The recording, which is also a context manager: `adjustments` and `steps`; with data `dead`, `frozen`, `causes`,
        `thresholds`, `history`, `figure()` and `save()`.

    Raises:
        DataError: The optimizer holds no parameter of the model, or an argument cannot be used.
        LossError: The loss cannot be computed on the data.
        TraceError: The module cannot be traced.

    Source:
        Evci (2018), sections 3.1 to 3.4. "Pruning in neural networks: purpose and concept", gradient-based pruning
        ("those least adjusted during training").

    Example:
        >>> import deadhead as dh
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with watch(model, optimizer) as seen:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(1, 2)).sum().backward()
        ...         optimizer.step()
        >>> seen.steps, seen.adjustments["2.bias"]  # three steps of 0.1 times a gradient of 1
        (3, tensor([0.3000]))
        >>> data = [(torch.randn(8, 2), torch.randn(8, 1))]
        >>> scores = dh.score(model, data, loss="mse", criterion="gradient", adjustments=seen.adjustments)
        >>> scores["0"].shape
        torch.Size([4])

        A unit that nothing reads is dead, and the history has its saliency through time:

        >>> _ = model[2].weight.data[:, 3].zero_()
        >>> with watch(model, optimizer, data=data, loss="mse", every=1) as seen:
        ...     pass
        >>> seen.dead, seen.causes
        ({'0': [3]}, {'0': {3: 'outgoing weights are zero'}})
        >>> seen.history.series("0", "mrs").shape
        torch.Size([1, 4])
    """
    network = model_or_network if isinstance(model_or_network, Network) else unwrapped(model_or_network)
    model = network.module if isinstance(network, Network) else network
    if every < 1 or (mrp_every is not None and mrp_every < 1):
        raise DataError(f"every={every} and mrp_every={mrp_every} count steps and measurements: give at least 1.")
    if revive not in (None, "anew"):
        raise DataError(f'revive={revive!r} is no way to revive units; give "anew", or None to leave them.')
    if data is None:
        if loss is not None or folder is not None or tensorboard is not None or revive is not None:
            raise DataError("loss=, folder=, tensorboard= and revive= need data=, batches to measure units on.")
        if adjustments is False:
            raise DataError("A watch without data= records adjustments or nothing; give data=, or leave the rest.")
        return Watch(model, optimizer)
    measuring = Measuring(
        network, data, loss, samples=samples, groups=groups, units=units, site=site, dead_below=dead_below,
        frozen_below=frozen_below, warn_above=warn_above,
    )  # fmt: skip
    writer = None if tensorboard is None else TensorBoard(tensorboard, units)
    return Watch(
        model, optimizer, measuring, every=every, mrp_every=mrp_every, folder=folder, tensorboard=writer,
        revive=revive is not None, seed=seed, adjustments=bool(adjustments),
    )  # fmt: skip
