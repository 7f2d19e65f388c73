"""What is generated in a document that a person has written: it stands between two markers.

In: a document, the name of a place in it, and what belongs there. Out: the document with that.
"""

from __future__ import annotations

import re


def replaced(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` between `<!-- name -->` and `<!-- end name -->`. Raises ValueError where these are not
    there, once."""
    begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    new, count = re.subn(
        rf"{re.escape(begin)}\n.*?{re.escape(end)}", lambda _: f"{begin}\n{content}\n{end}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"expected {begin} and {end}, once")
    return new
