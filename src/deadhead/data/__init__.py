"""What a network is judged on: batches of data, their split into calibration and held-out samples, and losses.

`prepared_network` gives what every question starts with: a loss, batches, and a network that can replay them. Imports
`graph/`.
"""
