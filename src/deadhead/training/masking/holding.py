"""Entries of tensors that are held at zero while a network trains, whatever its optimizer does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deadhead.cut.optimizer_state import averages_of, flat_state_of, state_of
from deadhead.cut.surgery import Surgery, owner_of, pick
from deadhead.errors import MaskError
from deadhead.training.masking.held import Held, axes_of, bits_of, lines_of

Fresh = Callable[[str], Tensor]
"""What a tensor of the module would be if its layer were initialised again, by name."""


class Holding:
    """All tensors of a module that have closed entries, held at zero by hooks of its optimizers.

    Gradients of closed entries are set to zero as they accumulate, so that gradient clipping and averages over
    processes see what a smaller network would give; the entries themselves after every step. The optimizer's state at
    closed entries is kept aside, and zero meanwhile. Nothing asks which class an optimizer is of.

    Args:
        module: the module.
        optimizers: those that train it.
    """

    UNDISTURBED = True

    def __init__(self, module: nn.Module, optimizers: Iterable[Optimizer]) -> None:
        self.module = module
        self.optimizers = tuple(optimizers)
        self.held: dict[str, Held] = {}
        self._handles: list[Any] = []
        self._hooked: dict[str, Tensor] = {}
        for optimizer in self.optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._hook(self._before_step)))
            self._handles.append(optimizer.register_step_post_hook(self._hook(self._after_step)))
        keep = module.register_state_dict_pre_hook(lambda *_: self._hold_buffers())  # type: ignore[no-untyped-call]
        self._handles.append(keep)

    def _hook(self, act: Callable[[Optimizer], None]) -> Callable[..., None]:
        def hook(optimizer: Optimizer, *_: Any) -> None:
            if any(optimizer is each for each in self.optimizers):  # not a copy that took the hook along
                act(optimizer)

        return hook

    @torch.no_grad()
    def write(self, name: str, tensor: Tensor, value: Tensor, *, adds: bool = False) -> None:
        """Give a tensor of the module new values; closed entries remain zero.

        Args:
            name: its first name in the module.
            tensor: the module's own.
            value: the new values.
            adds: whether they are the old ones with something added, which closed entries have when they are opened.
        """
        tensor.detach().copy_(value)
        held = self.held.get(name)
        if held is None:
            return
        if adds:
            held.had += torch.where(held.closed, tensor.detach(), torch.zeros_like(tensor))
        held.hold()

    @torch.no_grad()
    def set(
        self,
        closed: Mapping[str, tuple[Tensor, dict[int, Tensor] | None]],
        fresh: Fresh | None = None,
        spared: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Hold these entries, and no others.

        Entries that are closed now are kept aside, with the optimizer's state of them; entries that are open now get
        back what they had.

        Args:
            closed: {name: (which entries, their lines as in `Held`)}.
            fresh: what entries that are open now get instead; their optimizer's state is zero then.
            spared: {name: which entries are held at what they have}.
        """
        self.check()
        spared = spared or {}
        self._start_flat_states_anew({name: entries for name, (entries, _) in closed.items()})
        for name in dict.fromkeys([*self.held, *closed, *spared]):
            held = self.held[name] if name in self.held else self._new(name)
            entries, lines = closed.get(name, (torch.zeros_like(held.closed), {}))
            owned = entries | spared[name] if name in spared else entries
            self._keep_aside(held, owned)
            self._give_back(held, owned, fresh)
            held.closed, held.bits, held.spared = entries, bits_of(held.tensor, entries, lines), spared.get(name)
            if not bool(owned.any()):
                del self.held[name]
                continue
            held.hold()
            held.mask_gradient()

    def _new(self, name: str) -> Held:
        owner, leaf = owner_of(self.module, name)
        tensor: Tensor = getattr(owner, leaf)
        held = Held(name, tensor, torch.zeros_like(tensor, dtype=torch.bool), [], torch.zeros_like(tensor))
        self.held[name] = held
        self._watch_gradient(name, tensor)
        return held

    def _watch_gradient(self, name: str, tensor: Tensor) -> None:
        """Register a hook on a tensor, once, that masks its gradient as long as entries of it are held."""
        if not tensor.requires_grad or not tensor.is_leaf or self._hooked.get(name) is tensor:
            return
        register: Any = tensor.register_post_accumulate_grad_hook

        def hook(tensor: Tensor) -> None:
            held = self.held.get(name)
            if held is not None and held.tensor is tensor:
                held.check()
                held.mask_gradient()
                held.masked = True

        self._handles.append(register(hook))
        self._hooked[name] = tensor

    def _states(self, held: Held) -> dict[str, Tensor]:
        return {
            f"{place} {key}": value
            for place, optimizer in enumerate(self.optimizers)
            for key, value in {**state_of(optimizer, held.tensor), **averages_of(optimizer, held.tensor)}.items()
        }

    def _keep_aside(self, held: Held, entries: Tensor) -> None:
        """Keep what is to be closed, of `entries`, and is not closed yet."""
        held.had = torch.where(entries & ~held.owned, held.tensor.detach(), held.had)
        for key, value in self._states(held).items():
            lines = lines_of(entries, value) & ~lines_of(held.owned, value)
            held.state[key] = torch.where(lines, value, held.state.get(key, torch.zeros_like(value)))
            value.masked_fill_(lines, 0)

    def _give_back(self, held: Held, entries: Tensor, fresh: Fresh | None) -> None:
        """Give back what is closed, and is not to be, as it is not of `entries`."""
        opened = held.owned & ~entries
        if not bool(opened.any()):
            return
        value = held.had if fresh is None else fresh(held.name).to(held.tensor)
        held.tensor.detach().copy_(torch.where(opened, value, held.tensor.detach()))
        held.had.masked_fill_(opened, 0)
        for key, state in self._states(held).items():
            had, lines = held.state.get(key), lines_of(held.owned, state) & ~lines_of(entries, state)
            if had is not None:
                state.copy_(torch.where(lines, had if fresh is None else torch.zeros_like(had), state))
                had.masked_fill_(lines, 0)

    def _start_flat_states_anew(self, closed: Mapping[str, Tensor]) -> None:
        """Forget what optimizers such as LBFGS know about all parameters at once, where what is closed changes: their
        estimate of the curvature is of another network."""
        changed = [
            name
            for name in {*closed, *self.held}
            if name not in closed or name not in self.held or not torch.equal(closed[name], self.held[name].closed)
        ]
        for optimizer in self.optimizers if changed else ():
            if flat_state_of(optimizer):
                optimizer.state.clear()

    def _before_step(self, optimizer: Optimizer) -> None:
        for held in self.held.values():
            if not held.masked and isinstance(held.tensor, nn.Parameter):
                held.mask_gradient()  # one that no backward pass gave
            held.masked = False

    def _after_step(self, optimizer: Optimizer) -> None:
        for held in self.held.values():
            self._check_in_place(held)
            held.hold()

    def _check_in_place(self, held: Held) -> None:
        if not held.is_in(self.module):
            raise MaskError(
                f"{held.name} is another tensor than the one whose entries were closed, so that these are lost: "
                "something replaced it (an optimizer, a wrapper, an assignment); make the masks after that, or load "
                "their state_dict."
            )

    def _hold_buffers(self) -> None:
        for held in self.held.values():
            if not isinstance(held.tensor, nn.Parameter):
                held.hold()

    def check(self) -> None:
        """Raise `MaskError` where a closed entry is not zero, or its tensor is no longer the module's."""
        self._hold_buffers()
        for held in self.held.values():
            self._check_in_place(held)
            held.check()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """A context in which closed entries have what they had: what a cut of units changes is seen where they give
        something. Autograd's counters and hooks do not see it."""
        values = {name: held.tensor.detach().clone() for name, held in self.held.items()}
        try:
            for held in self.held.values():
                held.tensor.data.copy_(torch.where(held.closed, held.had, held.tensor.detach()))
            yield
        finally:
            for name, value in values.items():
                self.held[name].tensor.data.copy_(value)

    def follow(self, surgery: Surgery) -> None:
        """Follow a cut in place: the entries that are held, and what they had, are cut along."""
        for name in list(self.held):
            held, axes = self.held[name], surgery.keep.get(name, {})
            if axes:
                owner, leaf = owner_of(self.module, name)
                tensor, closed = getattr(owner, leaf), pick(held.closed, axes)
                new = Held(
                    name,
                    tensor,
                    closed,
                    bits_of(tensor, closed, None),
                    pick(held.had, axes),
                    {key: pick(value, axes_of(value, held.closed, axes)) for key, value in held.state.items()},
                )
                self.held[name] = new
                self._watch_gradient(name, tensor)
                if not bool(new.closed.any()):
                    del self.held[name]
                else:
                    new.hold()

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """{tensor: what its closed entries had, and the optimizer's state of them}."""
        return {name: {"had": held.had, "state": dict(held.state)} for name, held in self.held.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what closed entries had, for the same tensors and entries."""
        for name, held in self.held.items():
            held.had = state[name]["had"].to(held.tensor)
            held.state = {key: value.to(held.tensor) for key, value in state[name]["state"].items()}

    def stop(self) -> None:
        """Remove all hooks; closed entries are as they are, and no longer held."""
        self.held, self._hooked = {}, {}
        for handle in self._handles:
            handle.remove()
        self._handles = []
