"""Two processes that train one network with `DistributedDataParallel`, each on data of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deadhead.errors import DeadheadError
from deadhead.training.masking.gradual import Gradual
from deadhead.training.masking.masks import Masks
from deadhead.training.wrapped import distributed_wrapper


def network() -> nn.Sequential:
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 6, bias=False), nn.Tanh(), nn.Linear(6, 2)
    )
    return model.double()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[tuple[Tensor, Tensor]]) -> None:
    for inputs, targets in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()


def _message(call: Any) -> str:
    try:
        call()
    except DeadheadError as error:
        return str(error)
    return ""


def _trainer(rank: int, folder: str) -> None:
    """What each process does; what it saw is saved in the folder."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    generator = torch.Generator().manual_seed(rank)
    data = [
        (
            torch.randn(8, 3, generator=generator, dtype=torch.float64) * (1 + rank),
            torch.randint(2, (8,), generator=generator),
        )
        for _ in range(20)
    ]
    model = network()
    wrapped: Any = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    train(wrapped, optimizer, data[:3])
    assert distributed_wrapper(torch.compile(wrapped, backend="eager")) is wrapped
    refused = _message(lambda: Gradual(wrapped, optimizer, data, loss="mse", schedule={1: 0.5}, cut="as it goes"))
    masks = Masks(wrapped, optimizer, example=data[0][0])
    masks.prune(data, loss="cross_entropy", units=0.6)
    masks.prune(data, loss="cross_entropy", weights=0.3, criterion="taylor1")
    units, keep = masks.closed, masks.keep
    train(wrapped, optimizer, data)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    masks.cut(inplace=True)
    retired = _message(lambda: wrapped(data[0][0]))
    again = DistributedDataParallel(model)
    train(again, optimizer, data)
    cut = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = {
        "units": units, "keep": keep, "state": state, "cut": cut, "messages": [refused, retired],
        "refused": masks.refused, "sizes": [len(model[0].bias), len(model[3].weight)],
    }  # fmt: skip
    torch.save(seen, f"{folder}/seen{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def both(folder: Path) -> list[dict[str, Any]]:
    """What each of the two processes saw."""
    mp.spawn(_trainer, (str(folder),), nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"seen{rank}.pt", weights_only=False) for rank in (0, 1)]
