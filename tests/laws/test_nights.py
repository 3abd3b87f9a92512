"""Two hundred virtual nights, each on a site of its own with mishaps of its own. More of them: `make soak`.

That the oracle sees what is wrong is shown by cores that are wrong in one place each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from virtual_oracle import Broken, judged

from controller.core import decide, dispatch
from controller.core.background import Background
from controller.core.commands import SetLimit
from controller.core.commitments import Account, Commitments
from controller.core.model import each_phase
from controller.core.plausible import Doubt, Fault
from controller.core.witness import Witness

NIGHTS = 200
ENOUGH = 60  # nights in which a broken core must be caught, from where it shows soon


@pytest.mark.parametrize("seed", range(NIGHTS))
def test_whatever_happens_in_a_night_the_invariants_hold(seed: int) -> None:
    list(judged(seed))


# --- broken cores -----------------------------------------------------------------------------------------------------


def _lost(self: Commitments, command: str, now_s: float) -> Any:
    return self.replaced(command)


def _drops(account: Account, before_ma: int, after_ma: int, now_s: float, phases: int | None = None) -> None:
    """Nobody needs time to come down."""


def _sees_nothing(original: Callable[..., Any]) -> Callable[..., Any]:
    def assumed(self: Background, now_s: float) -> Any:
        found = original(self, now_s)
        return type(found)(each_phase(0), each_phase(0), found.sight)

    return assumed


def _longer(id: str, *rest: Any) -> SetLimit:
    evse, channel, limit_ma, lease_s, transaction, raises, _ = rest
    return SetLimit(id, evse, channel, limit_ma, lease_s * 50, transaction, raises)


def _gives_up(original: Callable[..., bool]) -> Callable[..., bool]:
    return lambda account, now_s, *, decrease: (
        not account.refusals and original(account, now_s, decrease=decrease)
    )


def _blames(witness: Witness, *_: Any) -> None:
    witness._judge(Doubt(Fault.TENFOLD, (0,), "L1"), each_phase(1))


MUTANTS: list[tuple[str, int, object, str, object]] = [
    ("I2", 50, Commitments, "lost", _lost),
    ("I2", 0, Account, "settle", _drops),
    ("I", 0, dispatch, "committed_ma", lambda grid, *_: [0] * len(grid.resources)),
    ("I", 0, Background, "assumed", _sees_nothing(Background.assumed)),
    ("I8", 0, dispatch, "_may_write", _gives_up(dispatch._may_write)),
    ("I", 0, decide, "SetLimit", _longer),
    ("meter", 0, Witness, "_weigh", _blames),
]


@pytest.mark.parametrize(
    ("law", "first", "owner", "name", "wrong"),
    MUTANTS,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_core_is_seen(
    law: str, first: int, owner: object, name: str, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(Broken, match=f"^{law}"):
        for seed in range(first, first + ENOUGH):
            list(judged(seed))


def test_a_night_is_the_same_each_time() -> None:
    assert list(judged(7)) == list(judged(7))
