"""Tests of what is not in the repository."""

from __future__ import annotations

import os

import pytest

needs_data = pytest.mark.skipif(not os.environ.get("DEADHEAD_DATA"), reason="DEADHEAD_DATA is not set")
"""Marks a test that reads MNIST or CIFAR-10."""
