"""The path of a prune: `prune` runs the steps, `Pruning` is the steps, `Options` every argument of them.

`candidates` are networks after some plan, measured before anything is cut; `predict` and `measure` say what a prune
should and does cost; `record` is the plain data that reports are made from. Imports every folder of the path before it.
"""
