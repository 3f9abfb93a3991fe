"""The error signal lands in the ring: numpy allocates Sprint's array where it is to be sent from.

Sprint has numpy allocate the array that it returns, and fills it with one memcpy. While our allocation
handler (NEP 49; csrc/landing.c) is active, the one allocation of the expected size is the claimed record, and
nothing has to be copied. Where that does not come about, the error signal is copied as ever.
"""

from __future__ import annotations

from .._ring import install_landing, stop_landing
from ..ring import Claim


class Landing:
    """Numpy's allocation handler in the thread in which Sprint calls.

    Not thread-safe: one for that thread. The handler stays from the first `expect` on: but for the array
    that is expected, it leaves everything to the handler that was there before.
    """

    def __init__(self) -> None:
        self._installed = False

    def expect(self, claim: Claim) -> None:
        """From now on, the next array of the claim's size is to be allocated in the claim."""
        if not self._installed:
            install_landing()
            self._installed = True
        claim.expect_landing()

    def stop(self) -> None:
        """No longer. An array that has landed stays where it is until it is freed."""
        if self._installed:
            stop_landing()
