"""What Evci (2018), chapter 3, claims of frozen, dead and attacked units, and how it is judged."""

CLAIMS = ()
