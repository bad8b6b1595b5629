"""A server's clients: each has a place, until it leaves, falls silent or does nothing for long."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field

from synthfm.evaluation.interactive.remote import RemoteSession

IDLE = 3600.0
"""Seconds without a prompt after which a client's session ends."""
SILENT = 60.0
"""Seconds without a heartbeat after which it does; clients send one in half that time."""


@dataclass
class Lease:
    """A client's place: its session, if it has sent an image, and when it was last heard of, in seconds."""

    heard: float
    active: float
    session: RemoteSession | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)
    ended: bool = False


class Leases:
    """The clients, by the token that each was given; at most so many.

    Parameters
    ----------
    most
        Clients at once.
    idle, silent
        See :data:`IDLE`, :data:`SILENT`.
    """

    def __init__(self, most: int, idle: float = IDLE, silent: float = SILENT) -> None:
        self.most, self.idle, self.silent = most, idle, silent
        self._held: dict[str, Lease] = {}
        self._guard = threading.Lock()

    def claim(self) -> str | None:
        """A new lease's token; None where all are held."""
        self.sweep()
        now = time.monotonic()
        with self._guard:
            if len(self._held) >= self.most:
                return None
            token = secrets.token_hex(16)
            self._held[token] = Lease(now, now)
            return token

    def get(self, token: str | None) -> Lease | None:
        """Whose token it is."""
        with self._guard:
            return self._held.get(token or "")

    def release(self, token: str | None) -> None:
        """End a lease, if it is one; what is being computed for it is ended."""
        with self._guard:
            lease = self._held.pop(token or "", None)
        if lease is not None:
            lease.ended = True

    def sweep(self) -> None:
        """End the leases of clients that are not heard of, or do nothing, and are not being answered."""
        now = time.monotonic()
        with self._guard:
            held = list(self._held.items())
        for token, lease in held:
            late = now - lease.heard > self.silent or now - lease.active > self.idle
            if late and not lease.turn.locked():
                self.release(token)
