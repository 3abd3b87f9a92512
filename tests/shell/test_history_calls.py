"""What an EVSE was set to and drew, over the real socket, out of the real telemetry file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from small_depot import A1, B1, B2, caller, small_depot

from controller.core.wire import instant
from controller.history_calls import BACK
from controller.storage import TELEMETRY


async def test_half_an_hour_of_one_evse(tmp_path: Path) -> None:
    async with small_depot(tmp_path) as depot:
        now_s = int(depot.clock.now().utc.timestamp())
        old_s = now_s - int(BACK.total_seconds()) - 1
        still_s = now_s // 60 * 60 - 120  # said twice in its minute, and not in the one after it

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR IGNORE INTO points (kind, name) VALUES ('evse', ?), ('evse', ?), ('evse', ?)",
                (A1, B1, B2),
            )
            ids = dict(db.execute("SELECT name, id FROM points WHERE kind = 'evse'").fetchall())
            db.execute("DELETE FROM evse_samples")
            for at_s, point, set_ma, l1_ma, l2_ma in (
                (old_s, ids[A1], 9_000, 9_000, 9_000),
                (now_s - 20, ids[A1], 16_000, 15_800, -15_900),
                (now_s - 10, ids[A1], None, None, None),
                (now_s - 10, ids[B1], 6_000, 6_000, 6_000),
                (still_s, ids[B2], 6_000, 6_000, 6_000),
                (still_s + 40, ids[B2], 7_000, 7_000, 7_000),
            ):
                row = (
                    at_s,
                    point,
                    "charging",
                    None,
                    set_ma,
                    None,
                    l1_ma,
                    l2_ma,
                    None,
                    None,
                    6_000,
                    None,
                    None,
                )
                db.execute(f"INSERT INTO evse_samples VALUES ({', '.join('?' * len(row))})", row)

        depot.storage.write(TELEMETRY, write)
        async with caller(depot.socket) as console:
            code, text = await console.refusal("history", evse="Z/9")
            told = await console.call("history", evse=A1)
            still = await console.call("history", evse=B2)
    assert code == "unknown-evse" and "Z/9" in text
    assert told["evse"] == A1
    assert [(point["commanded_a"], point["measured_a"]) for point in told["points"]] == [
        (16.0, -15.9),
        (None, None),
    ]
    assert all(point["time"].endswith("Z") for point in told["points"])
    held = [(instant(point["time"]).timestamp() - still_s, point["measured_a"]) for point in still["points"]]
    assert held == [(0, 6.0), (10, 6.0), (20, 6.0), (30, 6.0), (40, 7.0), (50, 7.0)]
