"""CUT and VERIFY: from a plan to the user's own module, smaller.

`provable` shows by trial cuts what the class can follow, `repairer` finds the numbers that its forward reads,
`surgery` cuts (`changes` is what it does as plain data), `optimizer` and `configuration` follow, `verify` compares with
the gated original, `saved` writes and reads results. Imports `compensate/` and what comes before it.
"""
