"""A depot as it is at one moment, as text, and a depot again: where a replay can begin (controller.recorder).

Owns how the core's memory is kept: Python's own pickle, because a replay is asked of the same version only, and because
nothing may be forgotten in it. A recording may come from somebody else, so reading one back makes values of the core, of
time and of containers, and nothing else: it can call no function of the system.
"""

from __future__ import annotations

import base64
import io
import pickle
import zlib
from enum import EnumType
from typing import Any
from zoneinfo import ZoneInfo

from controller.core.depot import Depot
from controller.recorder import Checkpoint

FORMAT = "depot"
CORE = "controller.core."
_BUILT_IN = frozenset({"set", "frozenset", "dict", "list", "tuple", "object", "bytearray", "complex"})
_OTHERS = frozenset(
    {
        ("collections", "deque"),
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        ("collections", "Counter"),
        ("datetime", "datetime"),
        ("datetime", "date"),
        ("datetime", "time"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("copyreg", "_reconstructor"),
        ("zoneinfo", "ZoneInfo"),
    }
)


def _member(owner: Any, name: str) -> Any:
    """In place of getattr: a method that some part of the core keeps of another part, or a member of an enumeration."""
    if (owner, name) == (ZoneInfo, "_unpickle"):
        return ZoneInfo._unpickle  # type: ignore[attr-defined]
    kind = owner if isinstance(owner, EnumType) else type(owner)
    if not kind.__module__.startswith(CORE) or name.startswith("_"):
        raise pickle.UnpicklingError(f"a recording must not hold {kind.__name__}.{name}")
    return getattr(owner, name)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _member
        own = module.startswith(CORE) and "." not in name
        if own or (module, name) in _OTHERS or (module == "builtins" and name in _BUILT_IN):
            found = super().find_class(module, name)
            # a module of the core also holds what it imports; only what it defines may be made
            if not own or (isinstance(found, type) and found.__module__.startswith(CORE)):
                return found
        raise pickle.UnpicklingError(f"a recording must not hold {module}.{name}")


def saved(depot: Depot) -> Checkpoint:
    """Plain values for `Recorder.anchor`."""
    return {FORMAT: base64.b64encode(zlib.compress(pickle.dumps(depot, protocol=5), 1)).decode()}


def restored(checkpoint: Checkpoint) -> Depot:
    """Raises ValueError when it is of another version, or not what it should be."""
    try:
        depot = _Reader(io.BytesIO(zlib.decompress(base64.b64decode(checkpoint[FORMAT])))).load()
    except (
        pickle.UnpicklingError,
        zlib.error,
        AttributeError,
        ImportError,
        EOFError,
        KeyError,
        TypeError,
    ) as error:
        raise ValueError(f"this checkpoint cannot be read by this version: {error}") from None
    if not isinstance(depot, Depot):
        raise ValueError("this checkpoint holds no depot")
    return depot
