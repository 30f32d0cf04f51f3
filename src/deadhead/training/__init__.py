"""Wing: what happens while the caller's own training loop runs. Imports the path, never another wing.

`masks` closes units and weights in place: `closed` is what is closed, `held` keeps it at zero, `choose` says what a
round closes, `cutting` cuts it. `gradual` runs rounds by a `schedule`, `recover` trains what was cut, `storage` weighs
forms. `watch` measures what happens to units, `attack` makes them die. All leave the loop's random state alone.
"""

from deadhead.training.forms.storage import Storage, storage
from deadhead.training.masking.gradual import Gradual
from deadhead.training.masking.masks import Masks
from deadhead.training.masking.schedule import Schedule
from deadhead.training.recovering.recover import recover
from deadhead.training.recovering.recovered import Recovered
from deadhead.training.undisturbed import undisturbed
from deadhead.training.watching.attack import Attack
from deadhead.training.watching.watch import Watch, watch

__all__ = [
    "Attack", "Gradual", "Masks", "Recovered", "Schedule", "Storage", "Watch", "recover", "storage", "undisturbed",
    "watch",
]  # fmt: skip
