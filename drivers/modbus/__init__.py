"""Modbus meters. The folder is the registry: a module with a `KIND` is a meter, nothing else needs to know of it.

Owns the lookup from a kind to its file. Talks to nobody: the wire is in `bus`.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from typing import cast

from drivers.errors import Misconfigured
from drivers.modbus.registers import MeterFile, MeterMap
from drivers.modbus.sunspec import ModelFile

# not looked into: reading a config should not load the protocol library
_MACHINERY = {
    "bus", "device", "discover", "installed", "line", "plausible", "probe", "registers", "sunspec", "sunspec_output", "turns",
}  # fmt: skip


@cache
def _files() -> dict[str, MeterFile | ModelFile]:
    names = [module.name for module in pkgutil.iter_modules(__path__) if module.name not in _MACHINERY]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in sorted(names)]
    return {module.KIND: cast(MeterFile | ModelFile, module) for module in modules if hasattr(module, "KIND")}


def kinds() -> tuple[str, ...]:
    """Every kind of meter we can read, sorted."""
    return tuple(sorted(_files()))


def find(kind: str) -> MeterFile | ModelFile:
    """The file of a kind of meter. Raises Misconfigured, naming the closest kinds we know."""
    files = _files()
    if kind in files:
        return files[kind]
    close = difflib.get_close_matches(kind.lower(), kinds(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known kinds: {', '.join(kinds())}"
    raise Misconfigured(f'no meter of kind "{kind}"; {hint}')


def maps(file: MeterFile | ModelFile) -> tuple[MeterMap, ...]:
    """The map of a kind; several where the device may have one of several models."""
    return tuple(file.MODELS.values()) if isinstance(file, ModelFile) else (file.MAP,)


def guards(kind: str) -> bool:
    """Whether this kind tells the currents by which a circuit is kept below its fuse."""
    return all(meter.current for meter in maps(find(kind)))
