"""`limit` and `fuse`: what a circuit carries, in amperes and, beside them, in kilowatts.

Owns that grammar. A limit in kW is one more limit (a transformer, a contract) and never takes the place of the amperes:
copper and fuses know no watts. Source: INTERFACE section 3, README.
"""

from __future__ import annotations

from controller.config.table import Table
from controller.config.values import IN_WATTS, per_phase, positive_current_ma, power_w
from controller.core.model import PerPhase


def read_limit(table: Table, example: str) -> tuple[PerPhase[int] | None, int | None]:
    """Amperes per phase (None: missing or wrong, and noted) and the limit in W, if there is one."""
    amps = per_phase(positive_current_ma)
    if not table.matches("limit", IN_WATTS):
        if "fuse" in table:
            table.note("fuse", "belongs to a limit in kW", f"write the smaller of both as limit = {example}")
        return table.required("limit", amps, example), None
    most_w = table.optional("limit", power_w, None)
    if "fuse" not in table:
        table.note("limit", "in kW alone protects no fuse", f"write fuse = {example} beside it")
    return table.optional("fuse", amps, None), most_w
