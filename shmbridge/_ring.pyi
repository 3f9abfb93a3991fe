from typing import Any, Optional

import numpy as np

_Array = np.ndarray[Any, np.dtype[Any]]

class End:
    """One process' end of a ring. Thread-safe."""

    def _own(self, address: int) -> None:
        """Take over a shmb_ring_end; it is freed with this object."""

    def claim_record(
        self, kind: int, dtype: int, rows: int, columns: int, sequence: int, name: bytes
    ) -> Optional[Claim]:
        """Claim a record whose matrix is (rows, columns).

        Returns:
            None where there is no room now, but the consumer will make some.

        Raises:
            SegmentTooLargeError, BufferError, ProtocolError: as `Producer.claim`.
        """

    def oldest_open(self) -> Optional[tuple[int, bytes]]:
        """Sequence number and name of the oldest claim that is neither committed nor aborted."""

    def receive(self) -> Optional[Record]:
        """The next record, or None where there is none.

        Raises:
            ProtocolError: the producer has written nonsense. The ring cannot be used any more.
        """

class Claim:
    """A record that is being filled. Dropping it unsent aborts it.

    Attributes:
        sequence: the number that the answer will carry.
        position: in the ring.
        shape: of the matrix: (rows, columns).
        open: whether it is neither committed nor aborted.
    """

    sequence: int
    position: int
    open: bool
    rows: int
    columns: int
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def matrix(self) -> _Array:
        """An array to fill.

        It may be kept: after the commit it shows what was sent, and its place in the ring stays taken.

        Raises:
            UsageError: the claim was committed or aborted.
        """

    def expect_landing(self) -> None:
        """Let numpy's next array of this float32 matrix's size, in this thread, be the matrix.

        Until it has come, another claim is expected, `holds` was asked in this thread, or the claim is
        finished. Numpy's allocation handler (NEP 49) is ours from then on in this context (PEP 567); but for
        that array it leaves all to the one before it. In a context with a handler of somebody else's nothing
        lands.

        Raises:
            UsageError: the claim was committed or aborted.
            ValueError: its matrix is not float32.
        """

    def holds(self, array: _Array) -> bool:
        """Whether the array is this claim's matrix: the same address, shape, dtype and order."""

    def commit(self, status: int = ..., loss: float = ..., states: int = ..., /) -> None:
        """Hand the record to the consumer. Claims reach it in the order in which they were claimed.

        Raises:
            UsageError: the claim was committed or aborted.
            TypeError, ValueError, OverflowError: an argument cannot be. The claim stays open.
        """

    def abort(self) -> None:
        """Give the record up; the consumer passes it over.

        Raises:
            UsageError: the claim was committed or aborted.
        """

class Record:
    """A record that was received. It is released when this object and all arrays over it are gone.

    Attributes:
        name: the segment name, as bytes.
        sequence: the number of the request.
        kind, status, dtype, loss, states: as in csrc/shmbridge.h.
        shape: of the matrix: (rows, columns).
    """

    kind: int
    status: int
    dtype: int
    sequence: int
    loss: float
    states: int
    name: bytes
    rows: int
    columns: int
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def matrix(self) -> Optional[_Array]:
        """An array over it, (rows, columns); None once released."""

    def is_answer(self, sequence: int, kind: int, rows: int, columns: int, /) -> bool:
        """Whether it is a good answer to this: status ANSWERED, and a float32 matrix of this shape.

        Raises:
            TypeError, OverflowError: an argument is no number from 0 to 2^64 - 1.
        """

    def release(self) -> None:
        """Give the record's place back.

        Raises:
            BufferError: an array still views the record; it is released when array and record are gone.
        """

def copy(target: _Array, source: _Array, dtype: int, look: bool, two_threads: bool, /) -> Optional[int]:
    """shmb_copy: convert (rows, columns) to float32, in one pass, without the GIL.

    Args:
        target: float32, the elements of its rows contiguous.
        source: of the same shape, any strides, of any float dtype in this machine's byte order.
        dtype: that dtype, an SHMB_ constant.
        look: for NaN.
        two_threads: share large matrices with a second thread.

    Returns:
        The index (row * columns + column) of the first NaN, with which the copy ended; else None.

    Raises:
        ValueError: the two do not fit together.
    """

def find_nan(array: _Array, /) -> Optional[int]:
    """The index of the first NaN in a C-ordered float32 array, or None."""
