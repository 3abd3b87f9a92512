"""`depot version --sbom`: what this installation is made of, as a CycloneDX 1.5 document.

Owns the walk from our own package over what it needs, as installed here: the versions that run, not those that were
planned. What is only needed to develop is not in it. Source: CycloneDX 1.5 JSON; purl-spec for packages of Python.
"""

from __future__ import annotations

import platform
import re
from importlib import metadata
from typing import Any

ROOT = "depot-controller"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Json = dict[str, Any]


def document() -> Json:
    needs = _closure(ROOT)
    root, *others = (_component(name) for name in needs)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": root | {"type": "application"}},
        "components": [*others, _python()],
        "dependencies": [
            {"ref": _ref(name), "dependsOn": sorted(_ref(each) for each in below)} for name, below in needs.items()
        ],
    }  # fmt: skip


def _closure(root: str) -> dict[str, set[str]]:
    """Every package reached, ours first, with those it needs itself."""
    found: dict[str, set[str]] = {}
    waiting = [_normal(root)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _needed(name)
            waiting += sorted(found[name])
    return found


def _needed(name: str) -> set[str]:
    """What is not installed was not needed here: another system's, or another Python's."""
    wanted = set()
    for line in metadata.requires(name) or ():
        match = _NAME.match(line)
        if match is not None and "extra ==" not in line and _installed(match[0]):
            wanted.add(_normal(match[0]))
    return wanted


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _ref(name: str) -> str:
    return f"pkg:pypi/{name}@{metadata.version(name)}"


def _component(name: str) -> Json:
    about = metadata.metadata(name)
    made: Json = {
        "type": "library",
        "bom-ref": _ref(name),
        "name": name,
        "version": metadata.version(name),
        "purl": _ref(name),
    }
    told = [about[key] for key in ("License-Expression", "License") if key in about]
    if told and "License-Expression" in about:
        made["licenses"] = [{"expression": told[0]}]
    elif told and len(told[0]) < 60 and "\n" not in told[0]:
        made["licenses"] = [{"license": {"name": told[0]}}]
    return made


def _python() -> Json:
    version = platform.python_version()
    return {"type": "platform", "bom-ref": f"python@{version}", "name": "python", "version": version}
