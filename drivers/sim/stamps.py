"""How OCPP writes moments. Nothing else."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_time(text: str | None) -> datetime | None:
    """None stays None; a stamp without a zone is UTC. Raises ValueError."""
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
