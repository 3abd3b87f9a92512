"""Every call of the control socket declares its arguments, reads no others, and is refused with others.

Declared and read are compared in the syntax tree, so that a call no test makes cannot hide. The rules can fail (below).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_depot import A1, caller, small_depot

from controller.calls import Refusal, refuse_untaken, takes
from controller.core.commands import StartCharging

ROOT = Path(__file__).parents[2]
READERS = {"_text", "_whole", "_time"}  # of controller.console: (args, name)
# It takes whatever the orders it foresees take; for how long changes nothing that it foresees.
UNREAD = {"preview": {"duration_s"}}
Function = ast.FunctionDef | ast.AsyncFunctionDef
SENDERS = {"ask", "call", "_order"}


class Source:
    """One module with calls; names that come from the console are looked up there."""

    def __init__(self, source: str, console: Source | None = None) -> None:
        self.tree = ast.parse(source)
        defined = [node for node in ast.walk(self.tree) if isinstance(node, Function)]
        self.functions = {node.name: node for node in self.tree.body if isinstance(node, Function)}
        self.methods = {
            node.name: node for node in defined if node.args.args and node.args.args[0].arg == "self"
        }
        self.console = console

    def table(self) -> dict[str, str]:
        """Call -> method, out of every `"name": (operators only, self._method)`."""
        found = {}
        for node in ast.walk(self.tree):
            for key, value in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
                match key, value:
                    case ast.Constant(str() as name), ast.Tuple(
                        [ast.Constant(bool()), ast.Attribute() as method]
                    ):
                        found[name] = method.attr
        return found

    def declared(self, method: str) -> set[str] | None:
        for each in self.methods[method].decorator_list:
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id == "takes":
                return set(" ".join(ast.literal_eval(arg) for arg in each.args).split())
        return None

    def read(self, function: Function) -> set[str]:
        """Names that are looked up in `args`, also by what it is handed on to."""
        parents = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
        found: set[str] = set()
        for node in ast.walk(function):
            if not (isinstance(node, ast.Name) and node.id == "args"):
                continue
            parent = parents[node]
            match parent, parents.get(parent):
                case ast.Attribute(attr="get"), ast.Call(args=[ast.Constant(str() as name), *_]):
                    found.add(name)
                case ast.Subscript(slice=ast.Constant(str() as name)), _:
                    found.add(name)
                case ast.Compare(left=ast.Constant(str() as name)), _:
                    found.add(name)
                case ast.Call(func=ast.Name(id=reader), args=[_, ast.Constant(str() as name), *_]), _ if (
                    reader in READERS
                ):
                    found.add(name)
                case ast.Call(func=ast.Name(id=called), args=given), _ if node in given:
                    found |= self.read_by(called)
                case ast.Call(func=ast.Attribute(ast.Name("self"), called), args=given), _ if node in given:
                    found |= self.read(self.methods[called])
                case _:
                    raise AssertionError(f"line {node.lineno}: what is read of args here cannot be seen")
        return found

    def read_by(self, called: str) -> set[str]:
        if called in self.functions:
            return self.read(self.functions[called])
        assert self.console is not None, called
        return self.console.read_by(called)


def problems(module: Source) -> Iterator[str]:
    for name, method in module.table().items():
        declared = module.declared(method)
        if declared is None:
            yield f"{name}: {method} has no @takes"
            continue
        read = module.read(module.methods[method]) | UNREAD.get(name, set())
        if declared != read:
            yield f"{name}: takes {sorted(declared)}, reads {sorted(read)}"


def modules() -> dict[str, Source]:
    folder = ROOT / "controller"
    console = Source((folder / "console.py").read_text())
    paths = sorted(folder.glob("*_calls.py"))
    return {"console": console} | {path.stem: Source(path.read_text(), console) for path in paths}


MODULES = modules()


@pytest.mark.parametrize("name", MODULES)
def test_a_call_declares_what_it_reads(name: str) -> None:
    assert list(problems(MODULES[name])) == []


def test_no_table_is_overlooked() -> None:
    for name, module in MODULES.items():
        assert module.table(), f"{name} has no table of calls that this test can read"
    assert len({call for module in MODULES.values() for call in module.table()}) > 50


def test_commands_and_screens_send_nothing_else() -> None:
    """Only what is written out where it is sent; the rest is for their own tests."""
    known: dict[str, set[str]] = {}
    for module in MODULES.values():
        for name, method in module.table().items():
            known.setdefault(name, set()).update(module.declared(method) or ())
    wrong, seen = [], 0
    for path in [*(ROOT / "controller" / "cli").glob("*.py"), *(ROOT / "ui").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)) if called in SENDERS:
                    said = [each.value for each in node.args if isinstance(each, ast.Constant)]
                    sent = {each.arg for each in node.keywords if each.arg is not None}
                case ast.Tuple([ast.Constant(str() as name), ast.Dict(keys=keys)]):
                    said, sent = [name], {each.value for each in keys if isinstance(each, ast.Constant)}
                case _:
                    continue
            for name in known.keys() & {each for each in said if isinstance(each, str)}:
                seen += 1
                wrong += [f"{path.name}:{node.lineno}: {name} takes no {each}" for each in sent - known[name]]
    assert wrong == []
    assert seen > 60


# --- the rules can fail -------------------------------------------------------------------------------------------------

CALLS = """
class Calls:
    def __init__(self):
        self.table = {"do": (True, self._do)}

    %s
    async def _do(self, args, peer):
        %s

    def _named(self, args):
        return args["name"]

def _other(args):
    return args.get("other")
"""


@pytest.mark.parametrize(
    ("takes", "body"),
    [
        ("", "return {}"),
        ("@takes()", "return args.get('limit')"),
        ("@takes()", "return _whole(args, 'limit')"),
        ("@takes()", "return 'limit' in args"),
        ("@takes()", "return self._named(args)"),
        ("@takes('limit')", "return _other(args)"),
        ("@takes('limit evse')", "return args['limit']"),
    ],
)
def test_a_wrong_declaration_is_found(takes: str, body: str) -> None:
    assert list(problems(Source(CALLS % (takes, body))))


@pytest.mark.parametrize(
    "body", ["return dict(args)", "return args.items()", "return args[peer]", "x = args"]
)
def test_what_cannot_be_seen_is_not_let_pass(body: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        list(problems(Source(CALLS % ("@takes('name')", body))))


def test_a_right_declaration_is_left_alone() -> None:
    body = "return self._named(args), _other(args), _text(args, 'limit')"
    assert not list(problems(Source(CALLS % ("@takes('name other limit')", body))))


# --- what a client is told ----------------------------------------------------------------------------------------------


def test_what_it_takes_is_told_in_one_short_line() -> None:
    @takes("evse limit_ma")
    def call() -> None: ...

    def told(call: Callable[..., Any], *given: str) -> str:
        with pytest.raises(Refusal) as refusal:
            refuse_untaken("limit", call, given)
        return str(refusal.value)

    refuse_untaken("limit", call, ["limit_ma"])
    assert told(call, "evse", "amps") == 'limit takes no "amps"; it takes evse, limit_ma'
    assert told(print, "evse") == 'limit takes no "evse"; it takes no arguments'
    many = told(call, *("\n\ud800" * 9_000 + str(number) for number in range(900)))
    assert len(many) < 1_000 and many.isprintable() and many.isascii()


@pytest.mark.parametrize(
    ("name", "args", "part"),
    [
        ("start", {"evse": A1, "limit": 6_000, "preview": True}, 'start takes no "limit", "preview"; it takes evse'),
        ("stop", {"evse": A1, "soc": 1}, 'stop takes no "soc"; it takes evse'),
        ("status", {"evse": A1}, 'status takes no "evse"; it takes no arguments'),
        ("watch", {"evse": A1}, 'watch takes no "evse"; it takes no arguments'),
    ],
)  # fmt: skip
async def test_a_call_with_an_unknown_argument_is_not_made(
    tmp_path: Path, name: str, args: dict[str, Any], part: str
) -> None:
    async with small_depot(tmp_path) as depot, caller(depot.socket) as client:
        await depot.connect_stations()
        code, text = await client.refusal(name, **args)
        assert code == "bad-request" and text.startswith(part)
        await depot.clock.advance(5.0)
        assert not any(isinstance(each, StartCharging) for each in depot.charger.sent)
        assert (await client.call("status"))["orders"] == []
