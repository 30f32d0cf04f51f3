"""Looking at networks: their layers as a graph, and pictures of it.

Files here import anything of the package but the command line; a picture is drawn from plain values.
"""

from deadhead.explore.layers import layered_graph
from deadhead.explore.picture import draw_layers

__all__ = ["draw_layers", "layered_graph"]
