"""Wing: what happens while the caller's own training loop runs. Imports the path, never another wing.

`masks` closes units and weights in place: `closed` is what is closed, `held` keeps it at zero, `choose` says what a
round closes, `cutting` cuts it. `gradual` runs rounds by a `schedule`, `recover` trains what was cut, `storage` weighs
forms. `watch` measures what happens to units, `attack` makes them die. All leave the loop's random state alone.
"""

from deadhead.training.attack import Attack
from deadhead.training.gradual import Gradual
from deadhead.training.masks import Masks
from deadhead.training.recover import recover
from deadhead.training.recovered import Recovered
from deadhead.training.schedule import Schedule
from deadhead.training.storage import Storage, storage
from deadhead.training.undisturbed import undisturbed
from deadhead.training.watch import Watch, watch

__all__ = [
    "Attack", "Gradual", "Masks", "Recovered", "Schedule", "Storage", "Watch", "recover", "storage", "undisturbed",
    "watch",
]  # fmt: skip
