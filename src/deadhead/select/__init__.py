"""SELECT: from scores and a budget to a plan, the units that are removed and their order.

Rankings under constraints, budgets and their allocation to groups, the knapsack that spends a size, rounds of
re-ranking, groups that are tied; `brute_force/` measures every candidate instead. Imports `scores/` and what comes
before it.
"""
