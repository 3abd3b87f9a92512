"""The tables in the customer's database, and how a session of ours becomes a row of theirs.

Owns the schema `depot`: what stands in it, its version, and the order in which a database of an older version is brought up to
date. A step that has been released is never edited: the next change is a new one below it. Must not connect anywhere.
Times are timestamptz, energy whole Wh, unknown is NULL.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

STEPS = (
    """CREATE SCHEMA IF NOT EXISTS depot;
CREATE TABLE depot.version (number integer NOT NULL);
INSERT INTO depot.version VALUES (0);
CREATE TABLE depot.exports (
    books text PRIMARY KEY, depot text NOT NULL, revision bigint NOT NULL, exported timestamptz NOT NULL);
COMMENT ON TABLE depot.exports IS 'up to which change the sessions of a depot are in depot.sessions';
CREATE TABLE depot.sessions (
    books text NOT NULL, id text NOT NULL, depot text NOT NULL, evse text NOT NULL, transaction_id text NOT NULL,
    token text, vehicle text, started timestamptz NOT NULL, ended timestamptz, energy_wh bigint NOT NULL,
    register_start_wh bigint, register_wh bigint, stop_reason text, marks text[] NOT NULL,
    cost numeric(18, 6), currency text, record_wh bigint, gap_wh bigint,
    revision bigint NOT NULL, exported timestamptz NOT NULL, PRIMARY KEY (books, id));
COMMENT ON COLUMN depot.sessions.books IS 'whose books: a depot that starts with empty books gets another';
COMMENT ON COLUMN depot.sessions.gap_wh IS 'what the charger''s own records hold above ours';
CREATE INDEX sessions_by_start ON depot.sessions (started);
""",
)
VERSION = len(STEPS)
_RIGHTS = """-- and for the user of the export:
-- GRANT USAGE ON SCHEMA depot TO ...;
-- GRANT SELECT ON depot.version TO ...;
-- GRANT SELECT, INSERT, UPDATE ON depot.exports, depot.sessions TO ...;
"""


def script() -> str:
    """What a database administrator runs where the user of the export may not create tables."""
    return "BEGIN;\n" + "\n".join(step_to(number) for number in range(1, VERSION + 1)) + "COMMIT;\n" + _RIGHTS


def step_to(number: int) -> str:
    return f"{STEPS[number - 1]}UPDATE depot.version SET number = {number};\n"


COLUMNS = (
    "books", "id", "depot", "evse", "transaction_id", "token", "vehicle", "started", "ended", "energy_wh",
    "register_start_wh", "register_wh", "stop_reason", "marks", "cost", "currency", "record_wh", "gap_wh", "revision",
)  # fmt: skip

PUT_SESSION = (
    f"INSERT INTO depot.sessions ({', '.join(COLUMNS)}, exported)"
    f" VALUES ({', '.join(f'%({name})s' for name in COLUMNS)}, now())"
    " ON CONFLICT (books, id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in (*COLUMNS[2:], "exported"))
)
PUT_EXPORT = (
    "INSERT INTO depot.exports (books, depot, revision, exported) VALUES (%s, %s, %s, now())"
    " ON CONFLICT (books) DO UPDATE SET depot = excluded.depot, revision = excluded.revision, exported = now()"
)


def row(books: str, depot: str, session: Mapping[str, Any]) -> dict[str, Any]:
    """A session as the control socket tells it. Raises KeyError when it lacks a field."""
    cost = session["cost"]
    kept = {name: session[name] for name in COLUMNS[3:] if name not in ("transaction_id", "cost")}
    return {
        **{name: _storable(value) for name, value in kept.items()},
        "books": books,
        "depot": _storable(depot),
        "id": session["id"],
        "transaction_id": _storable(session["transaction"]),
        "cost": None if cost is None else Decimal(str(cost)),
    }


def _storable(value: Any) -> Any:
    """PostgreSQL's text holds no NUL; a station may send one."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return [_storable(each) for each in value] if isinstance(value, list) else value
