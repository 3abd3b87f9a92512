"""A run of the simulated month: its time, the process of the controller, its deaths, and what operators were told.

Owns which moment it is and who is asked what; the truth about chargers is the yard's. A kill (SIGKILL) hits the controller
in the middle of a round of facts and of an operator's call; what had left it as an answer by then counts as acknowledged.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from tests.bench import month_box
from tests.bench.month_yard import DAY_S, ROWS, STATIONS, Yard

HOUR_S = 3600.0
DOWN_S = (10, 10, 20, 60, 600, 5400)  # how long nobody runs after a kill
ANSWER_S = 120.0  # real seconds; a round takes milliseconds


Json = dict[str, Any]


@dataclass(slots=True)
class Acknowledged:
    """What operators were told is done. tokens: the notes that each may have, more than one where a kill cut off the
    answer; rows: by `what` of the audit, at least."""

    tokens: dict[str, set[str | None]] = field(default_factory=dict)
    schedules: dict[str, str] = field(default_factory=dict)  # EVSE -> schedule id
    rows: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Day:
    """What one simulated day cost. by: bytes written by file; rss_kb: the highest of its hours."""

    by: Counter[str] = field(default_factory=Counter)
    rss_kb: int = 0
    kills: int = 0
    took_s: float = 0.0


class Month:
    """One run. `folder` holds the config and the state."""

    def __init__(
        self, folder: Path, days: float, kills: int, step_s: float, seed: int, calm_days: float = 0.0
    ) -> None:
        self.folder, self.step_s = folder, step_s
        self.ends_s = days * DAY_S
        self.yard = Yard(seed, days)
        self.random = Random(f"kills {seed}")
        span = (max(calm_days * DAY_S, 0.02 * self.ends_s), 0.98 * self.ends_s)
        self.kills = sorted(self.random.uniform(*span) for _ in range(kills))
        self.killed = 0
        self.days: list[Day] = []
        self.acknowledged = Acknowledged()
        self.config = configured(folder)
        self._connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._before: Counter[str] = Counter()
        self._day_began_s = time.monotonic()

    # --- time ---------------------------------------------------------------------------------------------------------

    def run(self) -> Iterator[Day]:
        """Lets the month pass; yields each day that is over."""
        self.days.append(Day())
        self._start()
        try:
            while self.yard.now_s < self.ends_s:
                self.yard.pass_to(self.yard.now_s + self.step_s)
                if self.kills and self.yard.now_s >= self.kills[0]:
                    self.kills.pop(0)
                    self._kill()
                else:
                    self._round()
                if self.yard.now_s >= len(self.days) * DAY_S:
                    self.days[-1].took_s = time.monotonic() - self._day_began_s
                    self._day_began_s = time.monotonic()
                    yield self.days[-1]
                    self.days.append(Day())
            self._stop()
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _round(self) -> None:
        """Facts out, commands back, answers out, until nothing more is asked of the chargers."""
        now_s = self.yard.now_s
        what = month_box.COUNTED if now_s % HOUR_S < self.step_s else month_box.FACTS
        errands = self._troubles() + self.yard.errands()
        self._send((now_s, what, errands))
        for again in range(3):
            commands, figures = self._said()
            if figures is not None:
                self._count(figures)
            if not commands:
                break
            self._send((now_s + 0.1 * (again + 1), month_box.ANSWERS, self.yard.obey(commands)))
        else:
            self._said()
        if self.yard.now_s % 1800 < self.step_s:
            self._operate()

    def _troubles(self) -> list[list[month_box.Errand]]:
        """Three stations a day lose their link for a while."""
        if self.random.random() > 3 * self.step_s / DAY_S:
            return []
        charger = self.random.choice(list(self.yard.chargers.values()))
        return [self.yard.cut(charger, self.random.uniform(300, 1800))]

    # --- the process --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, (self.folder / "depot.log").open("ab") as log:
            words = [str(self.config), str(theirs.fileno()), str(self.yard.now_s), str(self.step_s)]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.month_box", *words],
                pass_fds=(theirs.fileno(),), stdout=log, stderr=log, cwd=Path(__file__).parents[2],
            )  # fmt: skip
        self._connection = Connection(ours.detach())
        self._before = Counter()

    def _kill(self) -> None:
        """In the middle of a round, or of an operator's call."""
        assert self._process is not None and self._connection is not None
        self.killed += 1
        self.days[-1].kills += 1
        token, note = self._guest()
        with closing(self._console()) as operator:
            _ask(operator, "tokens-set", tokens=[{"token": token, "note": note}])
            self._connection.send((self.yard.now_s, month_box.FACTS, self.yard.errands()))
            time.sleep(self.random.choice((0.0, 0.001, 0.003, 0.01, 0.03)))
            self._process.kill()
            self._process.wait()
            self._noted(token, note, sure=_answered(operator))
        with suppress(EOFError, OSError):
            while self._connection.poll():
                said = self._connection.recv()  # what had left it was told
                if said[0] == "ack":
                    self.yard.acknowledged(said[1], said[2])
        self._connection.close()
        self.yard.controller_died()
        down_s = max(self.step_s, self.random.choice(DOWN_S) // self.step_s * self.step_s)
        for _ in range(int(down_s / self.step_s)):
            self.yard.pass_to(self.yard.now_s + self.step_s)
        self._start()

    def _stop(self) -> None:
        """As systemd would."""
        assert self._process is not None and self._connection is not None
        self._connection.send(month_box.STOP)
        self._process.wait(ANSWER_S)
        self._process = None

    def _send(self, said: month_box.Round) -> None:
        assert self._connection is not None
        self._connection.send(said)

    def _said(self) -> tuple[list[Any], dict[str, int] | None]:
        """Its commands, once everything until now has been done; what it acknowledges meanwhile is."""
        assert self._connection is not None
        while True:
            if not self._connection.poll(ANSWER_S):
                raise TimeoutError(f"{self.folder}/depot.log: no answer at {self.yard.utc()}")
            try:
                said = self._connection.recv()
            except EOFError:
                raise RuntimeError(f"{self.folder}/depot.log: it ended at {self.yard.utc()}") from None
            if said[0] == "said":
                return said[1], said[2]
            self.yard.acknowledged(said[1], said[2])

    def _count(self, figures: dict[str, int]) -> None:
        day = self.days[-1]
        day.rss_kb = max(day.rss_kb, figures.pop("rss_kb"))
        now = Counter(figures)
        day.by.update({name: now[name] - self._before[name] for name in now})
        self._before = now

    # --- operators ----------------------------------------------------------------------------------------------------

    def _operate(self) -> None:
        """One call over the real control socket, while time stands still."""
        if self.random.random() < 0.7:
            token, note = self._guest()
            self._call("tokens-set", tokens=[{"token": token, "note": note}])
            self._noted(token, note, sure=True)
        else:
            evse = self.random.choice(list(self.yard.chargers))
            name = f"n{self.yard.utc():%d%H%M}"
            self._call("schedule-set", evse=evse, text=SCHEDULE.format(name=name))
            if evse in self.acknowledged.schedules:
                self._call("schedule-clear", evse=evse, schedule=self.acknowledged.schedules[evse])
            self.acknowledged.schedules[evse] = name

    def _guest(self) -> tuple[str, str]:
        return f"GUEST{self.random.randrange(40):03}", f"set at {self.yard.utc():%d %H:%M}"

    def _noted(self, token: str, note: str, sure: bool) -> None:
        before = self.acknowledged.tokens.get(token, {None})
        self.acknowledged.tokens[token] = {note} if sure else before | {note}
        self.acknowledged.rows["token-set"] += sure

    def _call(self, name: str, **args: Any) -> None:
        with closing(self._console()) as client:
            _ask(client, name, **args)
            if not _answered(client):
                raise RuntimeError(f"{name} was not answered at {self.yard.utc()}")

    def _console(self) -> socket.socket:
        """Right after a start nobody listens yet."""
        until_s = time.monotonic() + ANSWER_S
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(ANSWER_S)
            try:
                client.connect(str(self.folder / "control.sock"))
                return client
            except OSError:
                client.close()
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.02)


def _ask(client: socket.socket, name: str, **args: Any) -> None:
    client.sendall(json.dumps({"id": 1, "call": name, "args": args}).encode() + b"\n")


def _answered(client: socket.socket) -> bool:
    """False: it died before it said yes."""
    with client.makefile("rb") as answers, suppress(ConnectionError):
        if line := answers.readline():
            answer: Json = json.loads(line)
            if "ok" not in answer:
                raise RuntimeError(str(answer))
            return True
    return False


# follows the vans' hours, so that it changes little but is carried along
SCHEDULE = """schedule_id = "{name}"
type = "daily"
[[time_slots]]
start = "00:00"
end = "23:59"
power_limit = "22 kW"
action = "charge"
"""


def configured(folder: Path) -> Path:
    """A depot of 50 chargers that want three times what its rows can carry."""
    lines = [
        "[site]", 'name = "Month"', 'timezone = "Europe/Amsterdam"', 'limit = "630 A"', 'meter = "main"',
        'assumed_load = "60 A"', "[meter.main]", 'kind = "sdm630"', 'address = "tcp://127.0.0.1:9/1"', 'poll = "1 s"',
        "[ocpp]", 'listen = "127.0.0.1:0"', 'unknown_tokens = "accept"', 'unqualified = "fallback"',
        "[tariff]", 'currency = "EUR"',
        'bands = [{ from = "07:00", to = "23:00", price = 0.31 }, { from = "23:00", to = "07:00", price = 0.22 }]',
        "[storage]", 'path = "state"', "[control]", 'socket = "control.sock"',
    ]  # fmt: skip
    for row in range(ROWS):
        lines += [f"[circuit.row_{row}]", 'parent = "site"', 'limit = "160 A"']
    for number in range(1, STATIONS + 1):
        lines += [
            f"[station.S{number:02}]", f'circuit = "row_{number % ROWS}"', 'fallback = "6 A"',
            "ocpp = { allow_insecure = true }",
            'evse.1 = { max = "32 A", min = "6 A", phases = "L1 L2 L3" }',
            f"[vehicle.VAN{number:02}]", 'battery = "60 kWh"', f'tokens = ["VAN{number:02}"]',
        ]  # fmt: skip
    path = folder / "depot.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
