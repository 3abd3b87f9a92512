"""Local lists: which tokens go into a station, whole or as a difference, in pieces, and what its answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.core.commands import StoreTokens
from controller.core.model import EvseId, IdToken, Moment, StationId, VehicleId
from drivers.errors import DriverError, Nonsense, Refused, Unreachable
from drivers.ocpp.lists import Kept, ListWords, ranked, store
from drivers.ocpp.lists_words import Lists2, Lists16, type_of
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.settings import Policy
from drivers.ocpp.station import CallError

NOW = Moment(1000.0, datetime(2026, 11, 22, 18, 0, tzinfo=UTC))
CP1 = StationId("CP1")
BUS = VehicleId("BUS-07")
Json = dict[str, Any]


@dataclass
class Station:
    """Keeps a list by the book of its version. `says`: answers instead, by action."""

    words: ListWords
    at_once: int | None = None
    most: int | None = None
    available: bool | None = None
    enabled: bool = True
    version: int = 0
    listed: dict[str, Json] = field(default_factory=dict)
    says: dict[str, Callable[[Json], Json]] = field(default_factory=dict)
    heard: list[tuple[str, Json]] = field(default_factory=list)

    @property
    def is_16(self) -> bool:
        return isinstance(self.words, Lists16)

    async def send(self, action: str, payload: Json) -> Json:
        Schemas("v16" if self.is_16 else "v201").check(action, payload)
        self.heard.append((action, payload))
        if action in self.says:
            return self.says[action](payload)
        match action:
            case "GetConfiguration":
                return self._configuration()
            case "GetVariables":
                return self._variables(payload)
            case "ChangeConfiguration" | "SetVariables":
                self.enabled = True
                result = [
                    {**row, "attributeStatus": "Accepted"} for row in payload.get("setVariableData", ())
                ]
                return {"status": "Accepted", "setVariableResult": result}
            case "GetLocalListVersion":
                version = self.version if self.enabled else -1
                return {"listVersion": version, "versionNumber": max(version, 0)}
            case "SendLocalList":
                return {"status": self._take(payload)}
            case _:
                return {"status": "Accepted"}

    def _configuration(self) -> Json:
        told = {"LocalAuthListEnabled": str(self.enabled), "LocalAuthListMaxLength": self.most}
        told["SendLocalListMaxLength"] = self.at_once
        if self.available is not None:
            told = {"SupportedFeatureProfiles": "Core, LocalAuthListManagement" if self.available else "Core"}
        rows = [{"key": key, "value": str(value)} for key, value in told.items() if value is not None]
        return {"configurationKey": rows}

    def _variables(self, payload: Json) -> Json:
        told = {"Available": self.available, "Enabled": self.enabled, "ItemsPerMessage": self.at_once}
        results = []
        for row in payload["getVariableData"]:
            value = told[row["variable"]["name"]]
            known = value is not None
            result = {**row, "attributeStatus": "Accepted" if known else "UnknownVariable"}
            results.append({**result, "attributeValue": str(value).lower()} if known else result)
        return {"getVariableResult": results}

    def _take(self, payload: Json) -> str:
        version = payload["listVersion" if self.is_16 else "versionNumber"]
        entries = payload.get("localAuthorizationList", [])
        assert self.at_once is None or len(entries) <= self.at_once
        if payload["updateType"] == "Full":
            self.listed = {}
        elif version <= self.version:
            return "VersionMismatch"
        for entry in entries:
            name = entry["idTag"] if self.is_16 else entry["idToken"]["idToken"]
            info = entry.get("idTagInfo" if self.is_16 else "idTokenInfo")
            self.listed.pop(name, None)
            if info is not None:
                self.listed[name] = info
        self.version = version
        return "Accepted"

    def sent(self, action: str) -> list[Json]:
        return [payload for name, payload in self.heard if name == action]

    def updates(self) -> list[tuple[str, int]]:
        key = "listVersion" if self.is_16 else "versionNumber"
        return [(payload["updateType"], payload[key]) for payload in self.sent("SendLocalList")]


def push(
    station: Station, version: int, *tokens: IdToken, kept: Kept | None = None, policy: Policy = "list"
) -> None:
    command = StoreTokens("c-1", EvseId("CP1/1"), "ocpp", version, tokens)
    asyncio.run(store(command, CP1, kept or Kept(), station.words, station.send, policy, NOW))


BOTH = pytest.mark.parametrize("words", [Lists16(), Lists2()], ids=["1.6", "2.x"])


def test_fields_of_1_6() -> None:
    station = Station(Lists16())
    until = NOW.utc + timedelta(days=1)
    push(
        station, 9,
        IdToken("OPEN", group="night", expires=until),
        IdToken("SHUT", blocked=True),
        IdToken("LATE", expires=NOW.utc, group="g" * 21),
    )  # fmt: skip
    assert station.listed == {
        "OPEN": {"status": "Accepted", "expiryDate": "2026-11-23T18:00:00Z", "parentIdTag": "night"},
        "SHUT": {"status": "Blocked"},
        "LATE": {"status": "Expired", "expiryDate": "2026-11-22T18:00:00Z"},
    }


def test_fields_of_2() -> None:
    station = Station(Lists2())
    push(station, 9, IdToken("04A2B3C4", group="night", expires=NOW.utc + timedelta(days=1)))
    assert station.listed == {
        "04A2B3C4": {
            "status": "Accepted",
            "cacheExpiryDateTime": "2026-11-23T18:00:00Z",
            "groupIdToken": {"idToken": "night", "type": "Central"},
        }
    }
    assert station.sent("SendLocalList")[0]["localAuthorizationList"][0]["idToken"]["type"] == "ISO14443"


@pytest.mark.parametrize(
    ("token", "kind"),
    [("04A2B3C4", "ISO14443"), ("04a2b3c4d5e680", "ISO14443"), ("E004015012345678", "ISO15693"),
     ("NL-TNM-C00012345-6", "eMAID"), ("DEPOT17", "Central"), ("04A2B3C", "Central")],
)  # fmt: skip
def test_the_type_of_a_token_shows_in_its_form(token: str, kind: str) -> None:
    assert type_of(token) == kind


@BOTH
def test_first_whole_then_what_differs_then_nothing(words: ListWords) -> None:
    station, kept = Station(words), Kept()
    many = [IdToken(f"T{number}") for number in range(5)]
    push(station, 10, *many, kept=kept)
    push(station, 13, *many[1:], IdToken("NEW"), kept=kept)
    assert station.updates() == [("Full", 10), ("Differential", 13)]
    assert list(station.listed) == ["T1", "T2", "T3", "T4", "NEW"]
    push(station, 14, *many[1:], IdToken("NEW", note="only for us"), kept=kept)
    assert station.updates()[2:] == []
    push(station, 15, kept=kept)
    assert (station.updates()[2:], station.listed) == ([("Full", 15)], {})


@BOTH
def test_a_list_that_is_not_ours_is_replaced_as_a_whole(words: ListWords) -> None:
    station, kept = Station(words), Kept()
    push(station, 10, IdToken("A"), IdToken("B"), IdToken("C"), kept=kept)
    station.version = 4  # somebody set it back
    push(station, 11, IdToken("A"), IdToken("B"), IdToken("C"), IdToken("D"), kept=kept)
    assert station.updates() == [("Full", 10), ("Full", 11)]


@BOTH
def test_in_pieces_of_the_size_it_takes(words: ListWords) -> None:
    station, kept = Station(words, at_once=2), Kept()
    push(station, 5, *(IdToken(f"T{number}") for number in range(5)), kept=kept)
    assert station.updates() == [("Full", 3), ("Differential", 4), ("Differential", 5)]
    assert len(station.listed) == 5
    push(station, 8, *(IdToken(f"T{number}", group="g") for number in (0, 1, 2)), IdToken("T3"), IdToken("T4"),
         *(IdToken(f"U{number}") for number in range(3)), kept=kept)  # fmt: skip
    assert station.updates()[3:] == [("Differential", 6), ("Differential", 7), ("Differential", 8)]
    assert station.listed.keys() == {"T0", "T1", "T2", "T3", "T4", "U0", "U1", "U2"}


@BOTH
def test_a_version_mismatch_brings_the_whole_list_once(words: ListWords) -> None:
    station, kept = Station(words), Kept()
    tokens = [IdToken(f"T{number}") for number in range(4)]
    push(station, 5, *tokens, kept=kept)
    answers = iter(["VersionMismatch", "Accepted"])
    station.says["SendLocalList"] = lambda payload: {"status": next(answers)}
    push(station, 6, *tokens, IdToken("NEW"), kept=kept)
    assert station.updates()[1:] == [("Differential", 6), ("Full", 6)]
    # one that wants a whole list to be newer than its own gets that too, and one that wants none is left alone
    station.version, kept.version = 40, 0
    answers = iter(["VersionMismatch", "Accepted"])
    push(station, 7, *tokens, kept=kept)
    assert station.updates()[3:] == [("Full", 7), ("Full", 41)]
    station.says["SendLocalList"] = lambda payload: {"status": "VersionMismatch"}
    with pytest.raises(Refused, match="takes no version"):
        push(station, 8, *tokens)


@BOTH
@pytest.mark.parametrize(
    ("action", "answer", "error"),
    [
        ("SendLocalList", {"status": "NotSupported"}, Refused),
        ("SendLocalList", {"status": "Failed"}, Nonsense),
        ("SendLocalList", {}, Nonsense),
        ("GetLocalListVersion", {"listVersion": -1, "versionNumber": -1}, Refused),
        ("GetLocalListVersion", {}, Refused),
    ],
)
def test_answers(words: ListWords, action: str, answer: Json, error: type[DriverError]) -> None:
    station, kept = Station(words), Kept()
    station.says[action] = lambda payload: answer
    with pytest.raises(error):
        push(station, 5, IdToken("A"), kept=kept)
    assert kept.version == 0


@BOTH
def test_a_list_that_failed_twice_is_not_tried_for_ever(words: ListWords) -> None:
    station, kept = Station(words), Kept()
    station.says["SendLocalList"] = lambda payload: {"status": "Failed"}
    for version, error in ((5, Nonsense), (5, Refused), (6, Nonsense), (6, Refused)):
        with pytest.raises(error):
            push(station, version, IdToken("A"), kept=kept)


@BOTH
def test_a_list_that_is_switched_off_is_switched_on(words: ListWords) -> None:
    station = Station(words, enabled=False)
    push(station, 5, IdToken("A"))
    assert station.listed
    station.enabled = False
    for action in ("ChangeConfiguration", "SetVariables"):
        station.says[action] = lambda payload: {"status": "Rejected", "setVariableResult": []}
    with pytest.raises(Refused, match="switched off"):
        push(station, 6, IdToken("A"))


@BOTH
def test_a_station_without_lists_says_so(words: ListWords) -> None:
    station = Station(words, available=False)
    with pytest.raises(Refused, match="keeps no local list"):
        push(station, 5, IdToken("A"))
    assert not station.sent("SendLocalList")
    assert station.sent("ClearCache"), "who is blocked may be in its cache all the same"


def test_vehicles_first_and_the_forbidden_last_unless_anyone_may_charge() -> None:
    tokens = [
        IdToken("b"), IdToken("A"), IdToken("OUT", blocked=True), IdToken("OLD", expires=NOW.utc),
        IdToken("Z", vehicle=BUS),
    ]  # fmt: skip
    names = [token.id for token, _ in ranked(tokens, "list", NOW)]
    assert names == ["Z", "A", "b", "OLD", "OUT"]
    assert names == [token.id for token, _ in ranked(reversed(tokens), "list", NOW)]
    assert [token.id for token, _ in ranked(tokens, "anyone", NOW)] == ["OLD", "OUT", "Z", "A", "b"]
    untrusted = Moment(0.0, NOW.utc, utc_trusted=False)
    assert "Accepted" in {status for token, status in ranked(tokens, "list", untrusted) if token.id == "OLD"}


def test_more_than_fit_is_refused_with_the_number_and_the_rest_is_kept() -> None:
    station, kept = Station(Lists16(), most=2), Kept()
    tokens = [IdToken("A"), IdToken("B"), IdToken("BUS", vehicle=BUS), IdToken("x" * 21)]
    with pytest.raises(
        Refused, match=r"2 of 4 id tokens left out: 1 are longer than 20 .*, 1 do not fit, it holds 2"
    ):
        push(station, 5, *tokens, kept=kept)
    assert list(station.listed) == ["BUS", "A"]
    assert kept.version == 5


@BOTH
def test_the_cache_is_emptied_when_somebody_in_it_may_not_charge_any_more(words: ListWords) -> None:
    station, kept = Station(words), Kept()

    def cleared(version: int, *tokens: IdToken) -> bool:
        station.heard.clear()
        push(station, version, *tokens, kept=kept)
        return bool(station.sent("ClearCache"))

    assert cleared(2, IdToken("A"), IdToken("B")), "what happened before this process began is not known"
    assert not cleared(3, IdToken("A"), IdToken("B"), IdToken("C"))
    assert cleared(4, IdToken("A"), IdToken("B", blocked=True), IdToken("C"))
    assert station.heard[0][0] == "ClearCache", "before the list: a lost answer repeats both"
    assert not cleared(5, IdToken("A"), IdToken("B"), IdToken("C"))
    assert cleared(6, IdToken("A"), IdToken("B"))


def test_a_station_that_refuses_to_empty_its_cache_gets_its_list_and_silence_is_no_answer() -> None:
    def no(payload: Json) -> Json:
        raise CallError("NotSupported", "")

    def silence(payload: Json) -> Json:
        raise Unreachable("no answer")

    station, kept = Station(Lists16(), says={"ClearCache": no}), Kept()
    push(station, 2, IdToken("A"), kept=kept)
    assert station.listed
    station.says["ClearCache"] = silence
    with pytest.raises(Unreachable):
        push(station, 3, kept=kept)
    del station.says["ClearCache"]
    station.heard.clear()
    push(station, 3, kept=kept)
    assert station.sent("ClearCache")
