"""Files: all of several or none, written beside and renamed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files beside and rename them; where one fails, all are as they were."""
    beside = {path: path.with_name(path.name + ".part") for path in contents}
    before = {path: path.with_name(path.name + ".before") for path in contents}
    try:
        for path, content in contents.items():
            beside[path].write_bytes(content)
        try:
            for path in contents:
                if path.exists():
                    path.rename(before[path])
                os.replace(beside[path], path)
        except BaseException:
            for path in contents:
                if before[path].exists():
                    before[path].rename(path)
                elif not beside[path].exists():
                    path.unlink(missing_ok=True)
            raise
    finally:
        for path in (*beside.values(), *before.values()):
            path.unlink(missing_ok=True)
