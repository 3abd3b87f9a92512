"""What a meter has signed: kept as it came, for those who can check it. Nothing here looks into it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignedValue:
    """One sampled value as the station sent it, signature and all. at: its stamp, and `context`, in the station's own
    words ("" = it said none); text: the JSON of it."""

    at: str
    context: str
    text: str
