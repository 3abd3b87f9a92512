"""What the Open Platform's dictionary says about a fault code, for whoever shows an alarm: the shell knows no driver."""

from __future__ import annotations

from typing import Any

from drivers.openplatform.dictionary import faults, runbooks_of


def entry(code: str) -> dict[str, Any] | None:
    """As JSON: code, title, effect, causes and actions (the likeliest first), and the steps of its runbooks."""
    fault = faults().get(code)
    if fault is None:
        return None
    steps = [f"{step.title}. {step.text}" for book in runbooks_of(fault) for step in book.steps]
    return {
        "code": fault.code,
        "title": fault.title,
        "effect": fault.effect,
        "causes": list(fault.causes),
        "actions": list(fault.actions),
        "runbook": steps,
    }
