"""Whom to connect to next, and whom to leave alone for a while.

Health is passive: an upstream that cannot be connected to backs off, and is passed over as
long as another one is usable. When its time is over, one client tries it; the others go on
passing it over until that one has an answer. Where all back off, the one whose time ends
first is tried all the same: an upstream that has just been restarted serves at once.

Pure: nobody connects here. The clock is the caller's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from uringloop.proxy.addresses import Address
from uringloop.proxy.back_off import BackOff

BACK_OFF_FIRST_S = 1.0
BACK_OFF_LONGEST_S = 30.0


class Upstream:
    """One upstream and what is known of it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.back_off = BackOff(BACK_OFF_FIRST_S, BACK_OFF_LONGEST_S)
        self.open = 0  # connections, those being made included
        self.connecting = 0
        self.failures = 0  # ever

    def is_usable(self, now: float) -> bool:
        """Not left alone, and not being tried by somebody after it was."""
        is_on_trial = self.back_off.failures > 0 and self.connecting > 0
        return self.back_off.is_over(now) and not is_on_trial

    def begin(self) -> None:
        """Somebody connects; connected(), failed() or given_up() follows."""
        self.open += 1
        self.connecting += 1

    def connected(self) -> bool:
        """It answers. Returns whether it had been failing before; ended() follows."""
        had_failed = self.back_off.failures > 0
        self.connecting -= 1
        self.back_off.succeeded()
        return had_failed

    def failed(self, now: float) -> float:
        """It could not be connected to. Returns the seconds for which it is left alone."""
        self.given_up()
        self.failures += 1
        return self.back_off.failed(now)

    def given_up(self) -> None:
        """Nobody wants the connection any more; that says nothing of the upstream."""
        self.connecting -= 1
        self.open -= 1

    def ended(self) -> None:
        """A connection that had been made is over."""
        self.open -= 1


# Of the usable ones, in turn, the first with the smallest of these is taken.
BALANCES: dict[str, Callable[[Upstream], int]] = {
    "round-robin": lambda upstream: 0,
    "least-connections": lambda upstream: upstream.open,
}


class Upstreams:
    """All upstreams, and whose turn it is.

    balance   a key of BALANCES
    clock     seconds, monotonic
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        balance: str = "round-robin",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.all = [Upstream(address) for address in addresses]
        self.clock = clock
        self._weight = BALANCES[balance]
        self._turn = 0

    def choose(self, refused: Collection[Upstream] = ()) -> Upstream | None:
        """Whom a client is to try that `refused` have failed; its begin() has been called.

        returns    None when nobody is left to try
        """
        now = self.clock()
        in_turn = [*self.all[self._turn :], *self.all[: self._turn]]
        usable = [each for each in in_turn if each not in refused and each.is_usable(now)]
        if usable:
            chosen = min(usable, key=self._weight)
        elif not refused:
            chosen = min(in_turn, key=lambda each: each.back_off.until)
        else:
            return None
        self._turn = (self.all.index(chosen) + 1) % len(self.all)
        chosen.begin()
        return chosen
