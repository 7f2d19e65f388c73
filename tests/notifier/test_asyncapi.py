"""docs/asyncapi.yaml says what the protocol is: every message, field, bound, close code and error code, and no other."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
import yaml
from pydantic import TypeAdapter

from afresh_cache.messages import (
    PROTOCOL,
    ClientMessage,
    ResyncReason,
    ServerMessage,
    encode,
    read_client_message,
    read_server_message,
)
from afresh_notifier import websocket
from afresh_notifier.errors import QueryError
from afresh_notifier.websocket import MAX_SUBSCRIPTIONS

DOCUMENT: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
)
MESSAGES: dict[str, dict[str, Any]] = DOCUMENT["components"]["messages"]
CLASSES: dict[str, type] = {
    str(typing.get_args(typing.get_type_hints(kind)["type"])[0]): kind
    for union in (ClientMessage, ServerMessage)
    for kind in typing.get_args(union)
}
SAID_BY_CLIENTS = {kind for kind in CLASSES if CLASSES[kind] in typing.get_args(ClientMessage)}


def resolved(reference: dict[str, str]) -> Any:
    """What a reference leads to; itself through further ones."""
    place: Any = DOCUMENT
    for part in reference["$ref"].removeprefix("#/").split("/"):
        place = place[part]
    return resolved(place) if "$ref" in place else place


def schema(kind: str) -> dict[str, Any]:
    """A message's schema, with what it refers to."""
    return {**MESSAGES[kind]["payload"], "components": DOCUMENT["components"]}


def required(kind: type) -> set[str]:
    """The fields that the protocol cannot do without: `type`, and what has no default."""
    return {"type"} | {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }


def test_it_is_asyncapi_3_of_this_protocol() -> None:
    assert DOCUMENT["asyncapi"].startswith("3.")
    assert DOCUMENT["info"]["version"] == PROTOCOL
    assert DOCUMENT["channels"]["stream"]["address"] == "/ws"


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> list[dict[str, str]]:
        if isinstance(value, dict):
            own = [value] if "$ref" in value else []
            return own + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    found = references(DOCUMENT)
    assert len(found) >= 16
    for reference in found:
        assert resolved(reference)


def test_every_message_is_there_and_on_its_side() -> None:
    assert MESSAGES.keys() == DOCUMENT["channels"]["stream"]["messages"].keys() == CLASSES.keys()
    sides = {
        operation["action"]: {reference["$ref"].rsplit("/", 1)[1] for reference in operation["messages"]}
        for operation in DOCUMENT["operations"].values()
    }
    assert sides == {"receive": SAID_BY_CLIENTS, "send": CLASSES.keys() - SAID_BY_CLIENTS}


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_every_field_is_there_and_required_as_it_is(kind: str) -> None:
    described = MESSAGES[kind]["payload"]
    jsonschema.Draft202012Validator.check_schema(described)
    assert described["properties"].keys() == {field.name for field in dataclasses.fields(CLASSES[kind])}
    assert set(described["required"]) == required(CLASSES[kind])
    assert described["properties"]["type"] == {"const": kind}
    assert (described.get("additionalProperties") is False) == (kind in SAID_BY_CLIENTS)


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_every_field_has_the_type_and_the_bounds_that_are_checked(kind: str) -> None:
    """Compared with the JSON schema that pydantic makes of the class by which messages are read."""
    made = TypeAdapter(CLASSES[kind]).json_schema()

    def plain(value: Any, defs: dict[str, Any]) -> Any:
        """A schema reduced to what it allows: no words, no defaults, one way to write a choice."""
        if "$ref" in value:
            name = value["$ref"]
            return plain(defs[name.rsplit("/", 1)[1]] if name.startswith("#/$defs/") else resolved(value), defs)
        choice = value.get("oneOf") or value.get("anyOf")
        if choice is None and isinstance(value.get("type"), list):
            choice = [{"type": one} for one in value["type"]]
        if choice is not None:
            return sorted((plain(one, defs) for one in choice), key=repr)
        kept = {
            name: rule
            for name, rule in value.items()
            if name in ("const", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum")
        }
        if "type" in value and "const" not in value and "enum" not in value:
            kept["type"] = value["type"]
        if "enum" in value:
            kept["enum"] = sorted(value["enum"])
        if "items" in value:
            kept["items"] = plain(value["items"], defs)
        if "properties" in value:
            kept["properties"] = {name: plain(inner, defs) for name, inner in value["properties"].items()}
        return kept

    defs = made.get("$defs", {})
    ours = {name: plain(field, {}) for name, field in MESSAGES[kind]["payload"]["properties"].items()}
    theirs = {name: plain(field, defs) for name, field in made["properties"].items()}
    assert ours == theirs


@pytest.mark.parametrize(
    ("kind", "number"), [(kind, n) for kind in sorted(CLASSES) for n in range(len(MESSAGES[kind]["examples"]))]
)
def test_every_example_can_be_read_and_is_valid(kind: str, number: int) -> None:
    payload = MESSAGES[kind]["examples"][number]["payload"]
    jsonschema.validate(payload, schema(kind))
    text = orjson.dumps(payload)
    read = read_client_message(text) if kind in SAID_BY_CLIENTS else read_server_message(text)
    assert type(read) is CLASSES[kind]
    assert read is not None
    jsonschema.validate(orjson.loads(encode(read)), schema(kind))


def test_every_reason_for_a_resync_is_explained() -> None:
    reason = MESSAGES["resync"]["payload"]["properties"]["reason"]
    assert set(reason["enum"]) == set(typing.get_args(ResyncReason))
    for name in reason["enum"]:
        assert f"`{name}`:" in reason["description"]


def test_every_error_code_is_there_and_no_other() -> None:
    written = set(re.findall(r'code="(\w+)"', Path(websocket.__file__).read_text(encoding="utf-8")))
    assert len(written) >= 3
    kinds: list[type[QueryError]] = [QueryError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    written |= {kind.code for kind in kinds}
    assert set(MESSAGES["error"]["payload"]["properties"]["code"]["x-known-codes"]) == written


def test_every_close_code_is_there_and_in_the_modules_own_words_too() -> None:
    listed = set(DOCUMENT["channels"]["stream"]["x-close-codes"])
    assert websocket.__doc__ is not None
    paragraph = next(part for part in websocket.__doc__.split("\n\n") if part.startswith("Close codes:"))
    assert {int(code) for code in re.findall(r"\b1\d{3}\b", paragraph)} == listed == {1000, 1001, 1003, 1007, 1009}


def test_the_number_of_subscriptions_is_the_one_that_is_held() -> None:
    text = MESSAGES["subscribe"]["payload"]["properties"]["id"]["description"]
    assert f"at most {MAX_SUBSCRIPTIONS}" in text
