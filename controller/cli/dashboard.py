"""`depot ui`: the dashboard of a running controller. Loads nothing of the controller: it opens over SSH, on slow boxes."""

from __future__ import annotations

import argparse

from controller.cli.looks import socket_path
from ui.app import run_dashboard


def dashboard(options: argparse.Namespace) -> int:
    return run_dashboard(socket_path(options), read_only=options.read_only)
