"""A module whose matrices with zeros are stored as CSR (compressed sparse rows)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deadhead.cut.surgery import copy_of, owner_of


def csr(tensor: Tensor) -> Tensor:
    """A tensor as a matrix of its first axis by all others, in CSR with indices of 32 bits.

    Example:
        >>> csr(torch.tensor([[0.0, 2.0], [0.0, 0.0]])).values()
        tensor([2.])
    """
    matrix = tensor.detach().reshape(tensor.shape[0], -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its CSR a beta, each time
        found = matrix.to_sparse_csr()
        rows, columns = found.crow_indices().int(), found.col_indices().int()
        return torch.sparse_csr_tensor(rows, columns, found.values(), found.shape, check_invariants=False)


class SparseLinear(nn.Module):
    """A linear layer whose weight is CSR: `y = W x + b` by torch's product of a sparse and a dense matrix.

    Attributes:
        weight: (outputs, inputs), CSR.
        bias: (outputs,) or None.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = csr(layer.weight)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        columns = x.reshape(-1, self.in_features).T
        # One fused product with the bias takes less time than a product and a sum.
        bias = self.bias[:, None] if self.bias is not None else columns.new_zeros(())
        product = torch.addmm(bias, self.weight, columns)
        return product.T.reshape(*x.shape[:-1], self.out_features)


class Sparse(nn.Module):
    """A copy of a module whose matrices with zeros are CSR.

    Linear layers multiply by them. For all other ops (convolutions, embeddings, attention's fused products), for
    weights that several modules share, and for number types without a sparse product, torch has none: their weights
    are stored as CSR and made dense in every call.

    Args:
        module: what is copied; it is left as it was.
        multiply: False: linear layers, too, are made dense in every call.

    Attributes:
        multiplied: {name of a weight: CSR} of linear layers.
        unpacked: {name of a weight: CSR} of those that are made dense.
    """

    def __init__(self, module: nn.Module, multiply: bool = True) -> None:
        super().__init__()
        self.module = copy_of(module).requires_grad_(False)
        self.multiplied: dict[str, Tensor] = {}
        self.unpacked: dict[str, Tensor] = {}
        self._shapes: dict[str, torch.Size] = {}
        names: dict[int, int] = {}
        for _, parameter in self.module.named_parameters(remove_duplicate=False):
            names[id(parameter)] = names.get(id(parameter), 0) + 1
        for name, parameter in list(self.module.named_parameters()):
            if parameter.dim() < 2 or not parameter.is_floating_point() or bool((parameter != 0).all()):
                continue
            owner, leaf = owner_of(self.module, name)
            if multiply and type(owner) is nn.Linear and names[id(parameter)] == 1 and name != leaf:
                parent, place = owner_of(self.module, name.rpartition(".")[0])
                layer = SparseLinear(owner)
                setattr(parent, place, layer)
                self.multiplied[name] = layer.weight
            else:
                self.unpacked[name] = csr(parameter)
                self._shapes[name] = parameter.shape
        for name in self.unpacked:
            parameter = self.module.get_parameter(name)
            parameter.data = parameter.new_empty(0)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns."""
        dense = {name: each.to_dense().reshape(self._shapes[name]) for name, each in self.unpacked.items()}
        return functional_call(self.module, dense, args, kwargs) if dense else self.module(*args, **kwargs)

    def count(self) -> int:
        """The values of parameters that are stored, those that are zero in a CSR matrix not among them."""
        whole = sum(parameter.numel() for parameter in self.module.parameters())
        return whole + sum(len(each.values()) for each in (*self.multiplied.values(), *self.unpacked.values()))

    def stored(self) -> dict[str, Tensor]:
        """All tensors that are held between calls: of a CSR matrix its values and both lists of indices."""
        tensors: dict[str, Tensor] = {}
        for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers()):
            if name not in self.unpacked:
                tensors[name] = tensor.detach()
        for name, each in (*self.multiplied.items(), *self.unpacked.items()):
            tensors[f"{name}.values"] = each.values()
            tensors[f"{name}.rows"] = each.crow_indices()
            tensors[f"{name}.columns"] = each.col_indices()
        return tensors
