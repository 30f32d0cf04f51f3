"""Wing: gradual pruning inside the training loops of other libraries, one file for each: `huggingface` for
`transformers.Trainer`, `lightning` for Lightning. They are imported by name, and `deadhead` imports none of them.
Imports the path and `training`."""
