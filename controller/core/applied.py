"""What a fact caused at once, as `Depot.apply` hands it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controller.core.commands import Entry
from controller.core.model import Verdict


@dataclass(frozen=True, slots=True)
class Applied:
    """`urgent`: step now, do not wait for the next second. `group`, `expires`: of the token that was presented."""

    entries: tuple[Entry, ...] = ()
    verdict: Verdict = Verdict.ACCEPTED
    transaction: str | None = None
    urgent: bool = False
    group: str | None = None
    expires: datetime | None = None


NOTHING = Applied()
URGENT = Applied(urgent=True)
