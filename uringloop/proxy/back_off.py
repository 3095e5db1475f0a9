"""How long to leave alone what fails again and again: twice as long each time.

Pure: the caller brings the clock's seconds.
"""

from __future__ import annotations


class BackOff:
    """Failures in a row, and the moment until which they ask for patience.

    first_s      after the first failure
    longest_s    never longer
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self.failures = 0  # in a row
        self.until = float("-inf")

    def failed(self, now: float) -> float:
        """One failure more. Returns the seconds to wait from now on.

        While it is being left alone already, a failure is of the same trouble: many clients
        that were refused at once are one refusal.
        """
        if not self.is_over(now):
            return self.until - now
        delay_s = self._longest_s
        if self.failures < 32:  # a larger power says nothing new, and would one day overflow
            delay_s = min(self._first_s * 2**self.failures, self._longest_s)
        self.failures += 1
        self.until = now + delay_s
        return delay_s

    def succeeded(self) -> None:
        """All is well again: the next failure is the first."""
        self.failures = 0
        self.until = float("-inf")

    def is_over(self, now: float) -> bool:
        return now >= self.until
