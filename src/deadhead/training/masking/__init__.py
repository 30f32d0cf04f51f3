"""Units and weights that are closed while a network trains: `Masks`, and `Gradual`, which closes them by a `Schedule`.

`entries` says which entries of which tensors a unit owns, `held` and `holding` keep them at zero, `closed` is what is
closed and how to undo it, `choose` what a round closes, `cutting` and `cuts` what is cut. Imports `deadhead.training`'s
own files, no other folder of it.
"""
