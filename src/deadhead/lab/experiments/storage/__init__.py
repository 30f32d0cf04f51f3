"""Pruned weights zeroed, stored as a sparse matrix, or cut: memory, disk, and time to use and to train."""

from deadhead.lab.experiments.storage.experiment import storage_forms

__all__ = ["storage_forms"]
