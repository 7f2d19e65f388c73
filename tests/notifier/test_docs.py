"""The documents say what is so: every setting, command and flag is in them, and nothing that is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from afresh_notifier.cli import cli
from afresh_notifier.settings_table import table, written

ROOT = Path(__file__).parents[2]
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


def commands(group: click.Group, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command of the tree, with its words."""
    for name, command in group.commands.items():
        yield (*prefix, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*prefix, name))


def flags(command: click.Command) -> set[str]:
    """What the command takes."""
    options = (parameter for parameter in command.params if isinstance(parameter, click.Option))
    return {flag for option in options for flag in (*option.opts, *option.secondary_opts) if flag.startswith("--")}


def section(name: str) -> str:
    """What is written about one command."""
    found = re.search(rf"^## `{name}`\n(.*?)(?=^## |\Z)", COMMANDS, re.DOTALL | re.MULTILINE)
    assert found, f"docs/commands.md has no section about {name}"
    return found[1]


def test_the_table_of_settings_is_that_of_the_settings() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert text == written(text), "run: python -m afresh_notifier.settings_table docs/settings.md"


def test_the_table_has_a_line_for_each_setting_and_a_description_in_each() -> None:
    lines = table().splitlines()[2:]
    assert '| `refresh.debounce` | `"100ms"` | Quiet time after a change before a busy view is refreshed. |' in lines
    assert "| `views[].every` |  | Refresh at least this often, for views that read the clock. |" in lines
    for line in lines:
        assert re.fullmatch(r"\| `[a-z_\[\].]+` \| [^|]* \| [^|]+\.[^|]* \|", line), line
        assert "None" not in line


def test_a_document_without_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected <!-- settings -->"):
        written("# Nothing")


@pytest.mark.parametrize(("words", "command"), [pytest.param(*found, id=" ".join(found[0])) for found in commands(cli)])
def test_every_command_and_flag_is_documented(words: tuple[str, ...], command: click.Command) -> None:
    text = section(words[0])
    assert len(words) == 1 or f"`{' '.join(words)}`" in text
    for flag in flags(command) - flags(cli):
        assert flag in text, f"{flag} of {' '.join(words)} is not documented"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} of {' '.join(words)} has no help"


def test_every_documented_flag_exists() -> None:
    for name, command in cli.commands.items():
        known = flags(command) | {"--help"}
        if isinstance(command, click.Group):
            known |= {flag for inner in command.commands.values() for flag in flags(inner)}
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", section(name)):
            assert flag in known, f"{name} has no {flag}"


def test_the_general_options_are_documented() -> None:
    introduction = COMMANDS.partition("\n## ")[0]
    for flag in flags(cli):
        assert flag in introduction
