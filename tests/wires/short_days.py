"""`depot demo --days` with a day that is over after half an hour: what stands on the command line is `demo`'s.

Run as a program, so that the loop, the signals and the log are the real command's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from controller.cli import demo_days, main
from drivers.sim import site
from drivers.sim.duty import Stay
from drivers.sim.evse import SimEvse
from drivers.sim.vehicle import Vehicle

# when it comes, when it leaves, what it needs, when it was to come and to leave
STAYS = ((60, 1200, 2_000, 0, 1260), (180, 1560, 1_200, 240, 1500))


def stays_of(
    pairs: Sequence[tuple[Vehicle, SimEvse]], days: int, began: datetime, zone: ZoneInfo, seed: int
) -> list[Stay]:
    return [
        Stay(vehicle, evse, float(arrives), float(leaves), float(need), float(back), float(away), need * 1.1)
        for (vehicle, evse), (arrives, leaves, need, back, away) in zip(pairs, STAYS, strict=False)
    ]


if __name__ == "__main__":
    site.stays_of = stays_of  # type: ignore[attr-defined]
    # within the dear hours and by daylight, so that nothing is worth waiting for
    demo_days.BEGINS = demo_days.BEGINS + timedelta(hours=-2)
    sys.exit(main())
