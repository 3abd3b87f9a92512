"""Lawful payloads made from the JSON schemas inside the `ocpp` package: every message at its shortest and its fullest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

TIME = "2026-11-22T11:59:50Z"


def requests(folder: str) -> dict[str, dict[str, Any]]:
    """The schema of every request of a version, by action."""
    found = {}
    for file in (files("ocpp") / folder / "schemas").iterdir():
        if file.name.endswith("Request.json"):
            found[file.name.removesuffix("Request.json")] = json.loads(file.read_text("utf-8-sig"))
    return found


def payloads(schema: dict[str, Any]) -> Iterator[Any]:
    """Only what is required; everything; and everything with each enumeration turned to its next words."""
    for full, turn in ((False, 0), (True, 0), (True, 1), (True, 2), (True, 5)):
        yield _made(schema, schema, full, turn)


def _made(part: dict[str, Any], root: dict[str, Any], full: bool, turn: int) -> Any:
    if "$ref" in part:
        return _made(root["definitions"][part["$ref"].rpartition("/")[2]], root, full, turn)
    if "enum" in part:
        return part["enum"][turn % len(part["enum"])]
    match part.get("type"):
        case "object":
            required = part.get("required", [])
            names = part.get("properties", {})
            return {
                name: _made(inner, root, full, turn)
                for name, inner in names.items()
                if name in required or (full and name != "customData")
            }
        case "array":
            count = max(part.get("minItems", 0), 1 if full else 0)
            return [_made(part["items"], root, full, turn) for _ in range(count)]
        case "string":
            return TIME if part.get("format") == "date-time" else "x" * min(part.get("maxLength", 3), 3)
        case "integer":
            return min(max(int(part.get("minimum", 1)), 1), int(part.get("maximum", 1)))
        case "number":
            return min(max(part.get("minimum", 1.5), 1.5), part.get("maximum", 1.5))
        case "boolean":
            return bool(turn % 2 == 0)
        case _:
            return {"any": "thing"}
