"""`depot version --sbom`: every package that runs, its version, and what needs it."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest

from controller.cli import main
from controller.cli.sbom import document

ROOT = Path(__file__).parents[2]


def test_the_document_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--sbom"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["bomFormat"], printed["specVersion"], printed["version"]) == ("CycloneDX", "1.5", 1)
    assert printed["metadata"]["component"]["version"] == metadata.version("depot-controller")


def test_it_holds_what_the_lock_holds_in_the_versions_that_run() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9._-]+)==", lock, flags=re.M)) - {"pip", "setuptools"}
    found = {part["name"]: part["version"] for part in document()["components"] if part["type"] == "library"}
    assert {"aiohttp", "websockets", "aiomqtt", "paho-mqtt"} <= set(found)
    assert set(found) <= locked | {"pip", "setuptools"}, "nothing that is for development only"
    assert all(metadata.version(name) == version for name, version in found.items())
    assert "pytest" not in found


def test_every_reference_leads_somewhere() -> None:
    made = document()
    refs = [part["bom-ref"] for part in (made["metadata"]["component"], *made["components"])]
    assert len(refs) == len(set(refs))
    pointed = {ref for each in made["dependencies"] for ref in (each["ref"], *each["dependsOn"])}
    assert pointed <= set(refs)
    reached = {ref for each in made["dependencies"] for ref in each["dependsOn"]}
    libraries = {part["bom-ref"] for part in made["components"] if part["type"] == "library"}
    assert reached == libraries
