"""What a network computes, and which of its units can be removed.

`trace` exports a module, `Network` holds it with its graph and replays it; `catalogue` says what each op is, `samples`
where the samples of a batch lie in a tensor, `costs` what a pass costs; `units/` runs labels through the graph and
finds the groups of units. Imports the ground only (errors, text, progress).
"""
