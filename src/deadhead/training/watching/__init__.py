"""What happens to units while a network trains: `watch`, and `Attack`, which makes them die.

`measuring` decides when, `probe` takes one pass for `tallies` and `histograms`, `vitality` says which units are dead or
frozen and why, `history`, `panels` and `events` keep, draw and write it. Imports `deadhead.training`'s own files, no
other folder of it.
"""
