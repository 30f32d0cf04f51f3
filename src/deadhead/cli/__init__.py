"""The command line. Imports everything below; nothing imports it. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; deadhead's own errors are one line on standard error and exit status 2."""
    from deadhead.cli.app import app
    from deadhead.errors import DeadheadError

    try:
        app()
    except DeadheadError as error:
        print(f"deadhead: {error}", file=sys.stderr)
        raise SystemExit(2) from None
