"""Union-find over labels, whole arrays of them at a time, some of which are fixed for a reason."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.int64]


class UnionFind:
    """Labels 0, 1, 2, ... that can be merged. While it is `muted`, nothing is fixed."""

    def __init__(self) -> None:
        self.muted = False
        self._parent: Array = np.zeros(1, dtype=np.int64)
        self._count = 0
        self._fixed: list[tuple[Array, str]] = []
        self._fixed_mask: NDArray[np.bool_] | None = None

    def fresh(self, count: int) -> Array:
        """`count` new labels."""
        start = self._count
        self._count += count
        if self._count > len(self._parent):
            grown = np.arange(max(self._count, 2 * len(self._parent)), dtype=np.int64)
            grown[: len(self._parent)] = self._parent
            grown[len(self._parent) :] = np.arange(len(self._parent), len(grown))
            self._parent = grown
        self._parent[start : self._count] = np.arange(start, self._count)
        return np.arange(start, self._count, dtype=np.int64)

    def find(self, labels: Array) -> Array:
        """The root of each label."""
        roots = self._parent[labels]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self._parent[labels] = roots
        return roots

    def union(self, left: Array, right: Array) -> None:
        """Merge `left` and `right` entry by entry (broadcast)."""
        left, right = np.broadcast_arrays(left, right)
        left, right = self.find(left.ravel()), self.find(right.ravel())
        while True:
            apart = left != right
            if not apart.any():
                return
            left, right = left[apart], right[apart]
            self._parent[np.maximum(left, right)] = np.minimum(left, right)
            left, right = self.find(left), self.find(right)
            self._fixed_mask = None

    def fix(self, labels: Array, why: str) -> None:
        """Fix labels for a reason: no unit may hold any of them."""
        if labels.size and not self.muted:
            self._fixed.append((labels.ravel(), why))
            self._fixed_mask = None

    def fixed(self, labels: Array) -> NDArray[np.bool_]:
        """Which of `labels` are fixed."""
        if self._fixed_mask is None or len(self._fixed_mask) < self._count:
            mask = np.zeros(self._count, dtype=np.bool_)
            for each, _ in self._fixed:
                mask[self.find(each)] = True
            self._fixed_mask = mask
        return self._fixed_mask[self.find(labels)]

    def reasons(self) -> dict[int, str]:
        """{root that is fixed: the reason, the first where there are several}."""
        reasons: dict[int, str] = {}
        for labels, why in self._fixed:
            for root in np.unique(self.find(labels)):
                reasons.setdefault(int(root), why)
        return reasons
