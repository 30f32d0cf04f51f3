"""Ops that are several steps to relevance, or whose constants have to be told apart: one file per family.

They know `program` and `operations`, and of each other only `common`.
"""

from deadhead.relevance.lowering import attention, choices, normalisations, products, sums  # noqa: F401
