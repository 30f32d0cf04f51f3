"""Findings as pages: one for each experiment (`page`) and an index of all claims (`index`), made from results.

`filled` puts numbers into the authors' sentences, `rows` names what the documents ask for. Verdicts and numbers come
from results alone.
"""

from __future__ import annotations

from deadhead.lab.findings.filled import filled
from deadhead.lab.findings.index import index
from deadhead.lab.findings.page import Found, drawn, judged, takeaway, write_page

__all__ = ["Found", "drawn", "filled", "index", "judged", "takeaway", "write_page"]
