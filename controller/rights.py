"""Who may look and who may act: the roles of the control socket, by user and groups of its peer.

Owns how a peer becomes a viewer, an operator or nobody. What the kernel says about the other end (SO_PEERCRED and
SO_PEERGROUPS, socket(7)) is all it goes by; nothing a client sends can change it. Knows no call.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass

OPERATORS = "depot-operators"
VIEWERS = "depot-viewers"
EVERYONE = "everyone"

_SO_PEERGROUPS = 59  # asm-generic/socket.h; the socket module has no name for it
_MOST_BYTES = 1024  # what Python lets getsockopt fetch: 256 groups


@dataclass(frozen=True, slots=True)
class Peer:
    """An operator may look too."""

    name: str
    operator: bool
    viewer: bool = True


@dataclass(frozen=True, slots=True)
class Rights:
    """Names of groups. Root and the controller's own user may always act. viewers: EVERYONE is every user of this box;
    a group that does not exist has no members."""

    operators: str = OPERATORS
    viewers: str = VIEWERS

    def peer(self, sock: socket.socket) -> Peer:
        """Who is at the other end."""
        _, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        groups = {gid, *_groups(sock)}
        try:
            user = pwd.getpwuid(uid)
            name = user.pw_name
            groups.add(user.pw_gid)
        except KeyError:
            name = str(uid)
        acts = uid in (0, os.getuid()) or _is_in(self.operators, name, groups)
        looks = acts or self.viewers == EVERYONE or _is_in(self.viewers, name, groups)
        return Peer(name, acts, looks)

    def lacks(self, peer: Peer) -> str:
        """What to tell whoever is refused, in one line."""
        if peer.viewer:
            return f"{peer.name} may look but not act; join the group {self.operators}"
        return f"{peer.name} may not look; join the group {self.viewers}, or {self.operators} to act"


DEFAULT = Rights()


def _groups(sock: socket.socket) -> tuple[int, ...]:
    """Those its process had when it connected, the primary one apart."""
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES)
    except OSError:
        return ()  # more of them, or Linux before 4.13: the groups of the user database still count
    return struct.unpack(f"{len(packed) // 4}I", packed)


def _is_in(group: str, name: str, groups: set[int]) -> bool:
    """By the groups of the process, or as its user's groups are now: no new login needed after `usermod -aG`."""
    try:
        found = grp.getgrnam(group)
    except KeyError:
        return False
    return found.gr_gid in groups or name in found.gr_mem
