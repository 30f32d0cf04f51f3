"""Training after a cut: `recover`, on labels or towards the intact network's outputs.

`objective` is what is lowered, `batches` and `loaders` the order of the data, `recovery` the loop, `checkpoint` what
makes it go on after a kill. Imports `deadhead.training`'s own files, no other folder of it.
"""
