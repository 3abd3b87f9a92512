"""What the on-site host answers to bad requests, byte by byte where it matters; its tokens and quotas."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from drivers.openplatform.answers import HTTP_STATUS, ApiError, error, guard, ok, read_json
from drivers.openplatform.tokens import Quota, Tokens, bearer, is_same_secret

HEAD = "POST /take HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"


@asynccontextmanager
async def host() -> AsyncIterator[int]:
    """A host with one operation that takes a body and one that breaks; yields its port."""

    async def take(request: web.Request) -> web.Response:
        return ok(await read_json(request, ("name",), limit_bytes=1000, within_s=0.1))

    async def large(request: web.Request) -> web.Response:
        return ok(len((await read_json(request, limit_bytes=10**9))["name"]))

    async def fall(request: web.Request) -> web.Response:
        raise KeyError("what only\nwe know")

    async def refuse(request: web.Request) -> web.Response:
        raise web.HTTPConflict

    app = web.Application(middlewares=[guard])
    app.add_routes([web.post("/take", take), web.put("/take", take), web.post("/large", large)])
    app.add_routes([web.get("/fall", fall), web.get("/refuse", refuse)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, lingering_time=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def raw(port: int, sent: bytes, then_close: bool = False) -> tuple[int, Any]:
    """The status and the document of whatever comes back; (0, None) when nothing does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        await writer.drain()
        if then_close:
            writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]), json.loads(body)) if head else (0, None)


def post(body: bytes, *headers: str) -> bytes:
    return (
        HEAD + "".join(f"{h}\r\n" for h in headers) + f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def test_a_good_body_is_taken_with_fields_nobody_knows() -> None:
    async with host() as port:
        status, document = await raw(port, post(b' {"name": "x", "new": {"a": [1]}} '))
        assert (status, document["code"]) == (200, 0)
        assert document["data"] == {"name": "x", "new": {"a": [1]}}


@pytest.mark.parametrize(
    ("body", "code", "details"),
    [
        (b"", 1002, {"field": "name"}),
        (b"{}", 1002, {"field": "name"}),
        (b'{"name": null}', 1002, {"field": "name"}),
        (b"<html>Welcome to the guest network</html>", 1001, None),
        (b'{"name": "x"', 1001, None),
        (b'["name"]', 1001, None),
        (b"null", 1001, None),
        (b'"name"', 1001, None),
        (b'{"name": NaN}', 1001, None),
        (b'{"name": -Infinity}', 1001, None),
        (b'{"name": ' + b"9" * 900 + b"}", 0, None),
        (b"\xff\xfe\x00", 1001, None),
        (b"\x00" * 20, 1001, None),
        (b"[" * 999, 1001, None),
        (b'{"name": "' + b"x" * 1000 + b'"}', 1001, None),
    ],
)
async def test_bodies(body: bytes, code: int, details: Any) -> None:
    async with host() as port:
        status, document = await raw(port, post(body))
        assert (status, document["code"]) == (HTTP_STATUS.get(code, 200), code)
        assert document.get("details") == details


async def test_nesting_and_numbers_without_end_are_refused() -> None:
    async with host() as port:
        for body in (b'{"name":' * 60_000, b'{"name": ' + b"9" * 50_000 + b"}"):
            sent = post(body).replace(b"/take", b"/large")
            assert (await raw(port, sent))[1]["code"] == 1001


async def test_no_operation_can_take_more_than_a_megabyte() -> None:
    async with host() as port:
        fits = b'{"name": "' + b"x" * 1_000_000 + b'"}'
        assert (await raw(port, post(fits).replace(b"/take", b"/large")))[1]["data"] == 1_000_000
        sent = HEAD.replace("/take", "/large").encode() + b"Content-Length: 1048577\r\n\r\n{"
        assert (await raw(port, sent))[1]["code"] == 1001


async def test_a_body_of_unknown_length_is_cut_off() -> None:
    async with host() as port:
        chunk = b"200\r\n" + b" " * 512 + b"\r\n"
        status, document = await raw(port, HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3)
        assert (status, document["code"]) == (400, 1001)
        assert "larger than 1000 bytes" in document["message"]


async def test_a_slow_body_is_not_waited_for() -> None:
    async with host() as port:
        status, document = await raw(port, HEAD.encode() + b"Content-Length: 10\r\n\r\n{")
        assert (status, document["code"]) == (400, 1001)
        assert "longer than" in document["message"]


async def test_a_compressed_body_is_refused() -> None:
    async with host() as port:
        status, document = await raw(port, post(b"\x1f\x8b\x08", "Content-Encoding: gzip"))
        assert (status, document["code"]) == (400, 1001)


async def test_a_body_that_breaks_off_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with host() as port:
        await raw(port, HEAD.encode() + b"Content-Length: 10\r\n\r\n{", then_close=True)
        assert (await raw(port, post(b'{"name": 1}')))[0] == 200
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_paths_and_methods_nobody_offers() -> None:
    async with host() as port, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{port}/v1/cp/start_charging") as answer:
            assert (answer.status, (await answer.json())["code"]) == (404, 3001)
        async with http.delete(f"http://127.0.0.1:{port}/take") as answer:
            assert (answer.status, (await answer.json())["code"]) == (405, 1001)
            assert answer.headers["Allow"] == "POST, PUT"
        async with http.get(f"http://127.0.0.1:{port}/refuse") as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, 1001)


async def test_a_failure_of_ours_is_9001_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with host() as port, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{port}/fall?token=hush") as answer:
            assert answer.status == 500
            assert await answer.json() == {"code": 9001, "message": "internal error", "data": None}
        [record] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "GET /fall failed in host.<locals>.fall:" in record.message and "KeyError" in record.message
        assert "\n" not in record.message and record.exc_info is None and "hush" not in record.message


async def test_the_same_complaint_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with host() as port:
        for body in (b"<html>", b"{", b"{}", b"[]"):
            await raw(port, post(body))
        lines = [record.message for record in caplog.records if "refused" in record.message]
        assert len(lines) == 2  # 1001 and 1002 of one peer
        assert "POST /take of 127.0.0.1: 1001" in lines[0]


def test_every_error_has_the_documented_status_and_wait() -> None:
    expected = {
        1001: 400,
        1002: 400,
        2001: 401,
        2002: 401,
        2003: 403,
        3001: 404,
        4001: 409,
        5001: 429,
        9001: 500,
    }
    assert {code: error(code, "x").status for code in HTTP_STATUS} == expected
    assert error(5001, "x", retry_after_seconds=7).headers["Retry-After"] == "7"
    with pytest.raises(ValueError):
        ok(float("nan"))


# --- tokens ---------------------------------------------------------------------------------------------------------


def code_of(call: Any, *args: Any) -> int:
    try:
        call(*args)
    except ApiError as refusal:
        return refusal.code
    return 0


def test_a_token_opens_its_scopes_until_it_expires() -> None:
    tokens = Tokens()
    token = str(tokens.issue("ems", frozenset({"read"}), 10.0)["access_token"])
    grant = tokens.check(token, 11.0, "read")
    assert (grant.holder, grant.scopes, grant.expires_s) == ("ems", frozenset({"read"}), 86410.0)
    assert code_of(tokens.check, token, 11.0, "write") == 2003
    assert code_of(tokens.check, token, 86410.0, "read") == 2002
    assert code_of(tokens.check, token, 86410.0, "write") == 2002
    for wrong in (None, "", token[:-1], token + "x", "é\ud800", "x" * 10_000):
        assert code_of(tokens.check, wrong, 11.0) == 2001
    assert token not in repr(vars(tokens))


def test_tokens_of_a_holder_are_bounded_and_can_be_revoked() -> None:
    tokens = Tokens(keep=3)
    issued = [str(tokens.issue("ems", frozenset(), n)["access_token"]) for n in range(5)]
    other = str(tokens.issue("console", frozenset(), 5)["access_token"])
    assert [code_of(tokens.check, token, 6.0) for token in issued] == [2001, 2001, 0, 0, 0]
    tokens.revoke("ems")
    assert [code_of(tokens.check, token, 6.0) for token in issued] == [2001] * 5
    assert code_of(tokens.check, other, 6.0) == 0
    tokens.revoke("nobody")


def test_a_quota_comes_back_evenly_and_says_when() -> None:
    quota = Quota(30)
    assert [code_of(quota.spend, "a", 0.0) for _ in range(31)] == [0] * 30 + [5001]
    assert code_of(quota.spend, "b", 0.0) == 0
    with pytest.raises(ApiError) as refused:
        quota.spend("a", 0.5)
    assert refused.value.details == {"retry_after_seconds": 2}
    assert code_of(quota.spend, "a", 2.0) == 0
    assert code_of(quota.spend, "a", 2.0) == 5001
    assert [code_of(quota.spend, "a", 1000.0) for _ in range(31)] == [0] * 30 + [5001]


def test_a_quota_may_be_looked_at_and_its_burst_bounded() -> None:
    quota = Quota(600, burst=2)
    assert [code_of(quota.spend, "a", 0.0, 0) for _ in range(9)] == [0] * 9
    assert [code_of(quota.spend, "a", 0.0) for _ in range(3)] == [0, 0, 5001]
    assert code_of(quota.spend, "a", 0.0, 0) == 5001
    assert code_of(quota.spend, "a", 0.1, 0) == 0


def test_a_quota_remembers_a_bounded_number_of_keys() -> None:
    quota = Quota(1, keep=2)
    assert [code_of(quota.spend, key, 0.0) for key in ("a", "b", "c")] == [0, 0, 0]
    assert code_of(quota.spend, "c", 0.0) == 5001
    assert code_of(quota.spend, "a", 0.0) == 0  # the one idle longest was forgotten


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("", None),
        (None, None),
    ],
)
def test_bearer(header: str | None, token: str | None) -> None:
    assert bearer(header) == token


def test_secrets_compare_whole() -> None:
    assert is_same_secret("é\ud800", "é\ud800")
    assert not is_same_secret("secret", "secre")
