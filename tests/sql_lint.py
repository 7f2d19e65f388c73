"""`python -m tests.sql_lint`: holds every SQL file under sql/ against squawk's rules, and against traps of our own.

A migration's apply section is what runs on databases with data in them, so it is that which is linted; its rollback
drops on purpose. Files that are no migrations (sample data, checks, the demo's statements) are linted whole.
Prints each finding and a closing line; exits with 1 if there is a finding.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from afresh_notifier.resources import sql_folder

#: The oldest PostgreSQL that the SQL must run on.
OLDEST = "14"

#: Rules of squawk that do not fit, and why.
EXCLUDED = {
    "require-lock-timeout": "a lock timeout is for who migrates to set; the engine makes no lock on users' tables",
    "require-statement-timeout": "likewise, and a long statement here is long for a reason",
    "require-concurrent-index-creation": "indexes are on tables and views that the same migration makes, still unused",
    "prefer-bigint-over-int": "columns of packs have the types that their applications ask for",
    "prefer-bigint-over-smallint": "likewise",
}

#: Rules that fit migrations only: a script may drop what it has made itself.
EXCLUDED_FROM_SCRIPTS = {"ban-drop-function": "sample data has helpers that it takes away again"}

APPLY, ROLLBACK = "-- migrate: apply", "-- migrate: rollback"


def linted_part(text: str) -> str:
    """What is linted of a file, with line numbers as in the file."""
    if APPLY not in text:
        return text
    head, _, rest = text.partition(APPLY)
    return "\n" * head.count("\n") + rest.partition(ROLLBACK)[0]


def squawk(path: Path, text: str, excluded: list[str]) -> list[str]:
    """What squawk says of ``text``, one line each."""
    result = subprocess.run(
        [
            Path(sys.executable).with_name("squawk"),
            f"--pg-version={OLDEST}",
            "--assume-in-transaction",
            "--reporter=json",
            f"--stdin-filepath={path}",
            *(f"--exclude={rule}" for rule in excluded),
        ],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(result.stdout)
    except json.JSONDecodeError:
        return [f"{path}: squawk failed: {(result.stderr or result.stdout).strip()}"]
    # It counts lines from 0.
    return [f"{path}:{one['line'] + 1}: {one['rule_name']}: {one['message']}" for one in found]


def traps(path: Path, text: str) -> list[str]:
    """What squawk does not know: what pogo-migrate does to a file, and what old databases cannot store."""
    findings = []
    inside: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if inside and line.startswith("--"):
            findings.append(f"{path}:{number}: the migration tool strips this comment from the body: indent it")
        for tag in re.findall(r"\$[A-Za-z_]\w*\$", line):
            inside = None if inside == tag else inside or tag
        if path.parent.name == "triggers" and not line.isascii():
            findings.append(f"{path}:{number}: not ASCII: a database in LATIN1, say, could not store every letter")
    return findings


def main() -> int:
    """Lint everything; the exit code."""
    root = sql_folder()
    files = sorted(root.rglob("*.sql"))
    findings = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        path = file.relative_to(root.parent)
        is_migration = APPLY in text
        if is_migration:
            findings += traps(path, text)
        excluded = [*EXCLUDED, *([] if is_migration else EXCLUDED_FROM_SCRIPTS)]
        findings += squawk(path, linted_part(text), excluded)
    for finding in findings:
        print(finding)
    print(f"SQL lint: {len(files)} files, {len(findings) or 'no'} findings")
    return 1 if findings or not files else 0


if __name__ == "__main__":
    sys.exit(main())
