"""`depot export`: the sessions of a running controller into a database of the customer, what changed since the last time.

Owns the order: ask where the database is, ask the controller for what came after, store a page, go on. Can be killed anywhere.
The driver of the database is loaded here and nowhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from controller.cli.looks import _moment, socket_path
from drivers.errors import Misconfigured
from drivers.postgres import address, tables
from ui.client import Client

PAGE = 500  # sessions in one transaction: a slow line gets them through in time

Session = dict[str, Any]


def export(options: argparse.Namespace) -> int:
    if options.sql:
        print(tables.script(), end="")
        return 0
    place = address.read(options.to)
    done = asyncio.run(_export(options, place))
    if options.json:
        print(json.dumps(done, indent=2))
    elif done["sent"] or done["left_out"]:
        older = f", {done['left_out']} older ones left out" if done["left_out"] else ""
        print(f"{done['to']}: {done['sent']} sessions{older}")
    else:
        print(f"{done['to']}: nothing new")
    return 0


async def _export(options: argparse.Namespace, place: address.Address) -> dict[str, Any]:
    from drivers.postgres.sink import Sink

    client = Client(socket_path(options))
    own = await client.call("books")
    books, depot = own["books"], own["depot"]
    since = _moment(options.since, own["timezone"])
    sent = left_out = 0
    async with Sink.opened(place) as sink:
        there = await sink.reached(books)
        if there is not None and there.depot != depot and not options.renamed:
            raise Misconfigured(
                f'{place.where}: these books are there as "{there.depot}", this site is "{depot}": --renamed if it was '
                "renamed; a box that began as a copy of that one needs books of its own"
            )
        reached = None if there is None else there.revision
        # books that were put back from a copy while the clock was behind: what they say now lies below what was exported
        again = options.again or (reached is not None and reached > own["revision"])
        after = 0 if again or reached is None else reached
        async for page, revision in _pages(client, after, options.plain_tokens):
            wanted = [each for each in page if _lasted_until(each, since)]
            await sink.put(books, depot, wanted, reached, revision)
            reached = revision
            sent, left_out = sent + len(wanted), left_out + len(page) - len(wanted)
    return {
        "to": place.where, "depot": depot, "books": books, "sent": sent, "left_out": left_out, "again": again,
        "revision": reached,
    }  # fmt: skip


async def _pages(client: Client, after: int, plain: bool) -> AsyncIterator[tuple[list[Session], int]]:
    """Pages of sessions in the order of their changes, each with the revision it reaches; one at least."""
    more = True
    while more:
        answer = await client.call("sessions-changed", after=after, tokens="plain" if plain else "hashed")
        found, more = answer["sessions"], answer["more"]
        for first in range(0, len(found) or 1, PAGE):
            page = found[first : first + PAGE]
            after = page[-1]["revision"] if page else after
            yield page, after


def _lasted_until(session: Session, since: str | None) -> bool:
    """Whether it still ran at that time, or later."""
    if since is None or session["ended"] is None:
        return True
    return datetime.fromisoformat(session["ended"]) >= datetime.fromisoformat(since)
