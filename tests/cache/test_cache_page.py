"""The page about the cache: its examples run, and it names everything that the cache can do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from afresh_cache.store import PatternCache

PAGE = (Path(__file__).parents[2] / "docs" / "cache.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs(example: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", example], check=True, timeout=60)


def test_every_method_is_on_the_page() -> None:
    own = {name for name, value in vars(PatternCache).items() if callable(value) and not name.startswith("_")}
    assert {"get", "set", "load", "stats"} <= own
    for name in own - {"popitem", "items", "values"}:
        assert re.search(rf"`(await |async with )?{name}\b", PAGE), name
