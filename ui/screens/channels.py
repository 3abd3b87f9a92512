"""Screen 6, channels: every link, who consented to it and for what, and exactly what left the site.

Turning a channel off takes a word, so that no elbow does it. Turning one on is the customer's decision: it takes a name,
purposes, and the channel's own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from controller.core.snapshot import ChannelView, MeterView, Snapshot
from ui import format as fmt
from ui.lines import BLANK, Line, Span, Tone, line, wrapped
from ui.picture import MARKS, NORMAL, TONES, troubled_channels
from ui.screens import frame
from ui.screens.base import Call
from ui.screens.confirming import ConfirmingScreen, Question
from ui.screens.rows import Row, RowsScreen

EGRESS = timedelta(minutes=10)
HEAD = "    CHANNEL              STATE         HOST / WHAT IT SAYS"
OFF = "stop"
METER = "meter "  # before a meter's id, in the keys of rows


class ChannelsScreen(ConfirmingScreen, RowsScreen):
    TITLE = "6 CHANNELS"
    DETAILS = 9
    FILTERS = "channel, state, host"
    HELP: ClassVar[str] = """\
 Links and meters. Below: who consented, for what, and the requests of the last
 ten minutes with every field that left the site (all of them: depot egress).
 d turn the channel off (type stop)   e turn it on (asks who consents and for
 what, then for its name)"""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("d", "disable"), Binding("e", "enable")]

    def wanted(self) -> Mapping[str, Call]:
        snapshot = self.picture.snapshot
        if snapshot is None:
            return {}
        since = (snapshot.time - EGRESS).replace(microsecond=0)
        return {"channels": ("channels", {}), "egress": ("egress", {"since": since.isoformat()})}

    # --- rows ------------------------------------------------------------------------------------------------------

    def rows(self, snapshot: Snapshot) -> list[Row]:
        troubled = troubled_channels(snapshot)
        links = [self._link(each, 2 if each in troubled else NORMAL) for each in snapshot.channels]
        meters = [self._meter(each) for each in snapshot.meters]
        return sorted([*links, *meters], key=lambda row: row.attention)

    def _link(self, each: ChannelView, rank: int) -> Row:
        said = "  ".join(filter(None, (each.host, each.region, each.text)))
        words = f"{each.id} {each.state} {said}"
        return Row(each.id, rank, words, self._painter(rank, each.id, each.state, said))

    def _meter(self, each: MeterView) -> Row:
        rank = NORMAL if each.error is None and each.quality == "good" else 2
        state = f"{each.quality} {fmt.doubted(fmt.age(each.age_s), self.picture.old)}"
        errors = f"  {each.errors} errors" if each.errors else ""
        latency = "" if each.latency_ms is None else f"  {each.latency_ms} ms"
        said = f"{each.kind}{latency}{errors}  {each.error or ''}".rstrip()
        name = METER + each.id
        return Row(name, rank, f"{name} {state} {said}", self._painter(rank, name, state, said))

    def _painter(self, rank: int, name: str, state: str, said: str) -> Any:
        def paint(width: int, under_cursor: bool) -> Line:
            quiet = Tone.STRONG if under_cursor else Tone.PLAIN
            tone = TONES.get(rank, quiet)
            text = f" {fmt.fit(said, max(0, width - 39))}"
            cursor = Span(">" if under_cursor else " ", quiet)
            mark = Span(f"{MARKS.get(rank, ''):2} ", tone)
            return line(
                cursor,
                mark,
                Span(f"{fmt.fit(name, 20)} ", quiet),
                Span(fmt.fit(state, 13), tone),
                Span(text, quiet),
            )

        return paint

    def head(self, width: int) -> list[Line]:
        return [line(Span(HEAD, Tone.STRONG))]

    def empty(self, snapshot: Snapshot) -> list[Line]:
        return [line("    no channel and no meter in the config: nothing comes in, nothing leaves")]

    # --- consent and egress ----------------------------------------------------------------------------------------

    def details(self, chosen: Row, width: int, room: int) -> list[Line]:
        channel = self._channel(chosen.key)
        if channel is None:
            return self._of_meter(chosen.key, width)
        texts = self._consent(channel)
        lines = [BLANK, *(row for text in texts for row in wrapped(text, width))]
        if not self._leaves_site(channel):
            return lines[:room]
        return [*lines, BLANK, *self._egress(channel, width, room - len(lines) - 1)][:room]

    def _consent(self, channel: ChannelView) -> list[str]:
        if not self._leaves_site(channel):
            return ["stays on site: nothing of it leaves over the internet, so nobody needs to consent"]
        by = channel.enabled_by
        consent = f"consent: enabled by {by}" if by else "consent: not enabled; nothing leaves the site"
        told = self.told("channels")
        found = next((each for each in told.rows("channels") if each.get("id") == channel.id), {})
        purposes = found.get("purposes")
        if told.loading:
            return [consent, "purposes: loading..."]
        return [consent, f"purposes: {', '.join(purposes) if purposes else told.trouble or 'none'}"]

    def _egress(self, channel: ChannelView, width: int, room: int) -> list[Line]:
        told = self.told("egress")
        if told.document is None:
            return [line(f" what left the site: {told.trouble or 'loading...'}")]
        found = [each for each in told.rows("egress") if each.get("channel", channel.id) == channel.id]
        if not found:
            return [line(" nothing left the site in the last 10 minutes")]
        total = sum(each.get("bytes") or 0 for each in found)
        more = " and more" if told.document.get("more") else ""
        lines = [
            line(
                Span(
                    f" left the site in 10 minutes: {len(found)} requests{more}, {total} bytes; newest first",
                    Tone.STRONG,
                )
            )
        ]
        for each in reversed(found):
            if len(lines) >= room:
                break
            lines.append(line(fmt.fit(f" {self._request(each)}", width)))
        return lines

    def _request(self, each: Mapping[str, Any]) -> str:
        at = fmt.clock(datetime.fromisoformat(each["time"]), self.picture.place)
        fields = " ".join(f"{name}={value}" for name, value in (each.get("fields") or {}).items())
        status = "..." if each.get("status") is None else each["status"]
        return f"{at} {each.get('method')} {each.get('path')} {status} {each.get('bytes')}B  {fields}"

    def _of_meter(self, key: str, width: int) -> list[Line]:
        meters = self.picture.snapshot.meters if self.picture.snapshot else ()
        meter = next((each for each in meters if METER + each.id == key), None)
        if meter is None:
            return []
        amps = "  ".join(
            f"L{n + 1} {fmt.drawn_amps(value, self.picture.old).strip()}"
            for n, value in enumerate(meter.current_ma)
        )
        text = f"{amps}   {fmt.kilo(meter.power_w, 7)} kW   import {fmt.kilo(meter.import_wh, 10)} kWh"
        trouble = [] if meter.error is None else wrapped(f"trouble: {meter.error}", width)
        return [BLANK, line(" ", frame.meter_age(meter, self.picture.old)), *wrapped(text, width), *trouble]

    # --- keys ------------------------------------------------------------------------------------------------------

    def verbs(self) -> str:
        row = self.row()
        channel = None if row is None else self._channel(row.key)
        if channel is None or not self._leaves_site(channel):
            return "/ filter   n/N next/previous abnormal   Esc back"
        words = "[d turn off]   [e turn on]" if self.barred() else "d turn off   e turn on"
        return f"{words}   / filter   n/N abnormal   Esc back"

    def action_disable(self) -> None:
        channel = self._switchable()
        if channel is None:
            return
        text = (
            f"DISABLE {channel.id}: its connection closes within 5 s and nothing leaves the site; stays off."
        )
        args = {"channel": channel.id}
        self.ask(Question("disable", channel.id, "channel-disable", args, lambda: text, word=OFF))

    def action_enable(self) -> None:
        channel = self._switchable()
        if channel is None or self.busy:
            return
        if reason := self.barred():
            self.say(f"enable is not possible: {reason}", Tone.HIGH)
        else:
            prompt = 'who consents, and for what ("J. de Vries for monitor, control"): Enter, Esc = cancel'
            self.ask_line("", prompt, lambda typed: self._enable(channel, typed))
        self.repaint()

    def _enable(self, channel: ChannelView, typed: str) -> None:
        by, _, purposes = typed.rpartition(" for ")
        names = [each.strip() for each in purposes.split(",") if each.strip()]
        if not by.strip() or not names:
            self.say("enable cancelled: it needs a name, the word for, and purposes", Tone.HIGH)
            return
        text = f"ENABLE {channel.id}: {by.strip()} consents that it is used to {', '.join(names)}; recorded for good."
        args = {"channel": channel.id, "by": by.strip(), "purposes": names}
        self.ask(Question("enable", channel.id, "channel-enable", args, lambda: text, word=channel.id))

    def _switchable(self) -> ChannelView | None:
        row = self.row()
        channel = None if row is None else self._channel(row.key)
        if channel is None or not self._leaves_site(channel):
            self.say("this one stays on site: there is nothing to turn off", Tone.LOW)
            self.repaint()
            return None
        return channel

    def _leaves_site(self, channel: ChannelView) -> bool:
        """The second backend: its channels have a switch, and only they."""
        return channel.id.startswith("open-platform") or channel.enabled_by is not None

    def _channel(self, key: str) -> ChannelView | None:
        channels = self.picture.snapshot.channels if self.picture.snapshot else ()
        return next((each for each in channels if each.id == key), None)
