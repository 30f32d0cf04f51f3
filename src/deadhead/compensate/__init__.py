"""Compensations: how the remaining units take over for the removed ones; a file for each method. Imports select."""

from deadhead.compensate import gauss_newton, least_squares, mean, zero  # noqa: F401
from deadhead.compensate.method import COMPENSATIONS, Problem, compensate, compensation

__all__ = ["COMPENSATIONS", "Problem", "compensate", "compensation"]
