"""The modules of this folder import each other by name, as `python tests/fuzz/run.py` does."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# torch's tracer logs thousands of empty lines, which pytest would show for a test that fails.
logging.getLogger("torch.__trace").propagate = False
