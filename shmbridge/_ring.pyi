from typing import Any, Optional

import numpy as np

_Array = np.ndarray[Any, np.dtype[Any]]

class CallLock:
    """A lock that one call of one thread holds. The subclass raises for a nested call.

    Call `acquire` or `acquire_now` within a `try`, and then `release` once, also if that failed: a signal
    handler may raise in between. `with` works too, but costs more.

    Attributes:
        is_wanted: whether another thread waits for it.
    """

    @property
    def is_wanted(self) -> bool: ...
    def acquire(self) -> None:
        """Wait for the lock, and take it.

        Raises:
            UsageError: this thread holds it: a call nests in another one.
        """

    def acquire_in_turn(self) -> None:
        """Like acquire, but let threads that wait already go first."""

    def acquire_now(self) -> bool:
        """Take the lock if nobody holds it. Return whether that succeeded."""

    def release(self) -> None:
        """Release the lock if this thread holds it."""

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

class End:
    """One process's end of a ring. Thread-safe.

    Attributes:
        last_answer: the sequence number of the last record that was received, features excepted.
    """

    last_answer: int

    def _own(self, address: int) -> None:
        """Take ownership of a shmb_ring_end, which is freed with this object."""

    def claim_record(
        self, kind: int, dtype: int, rows: int, columns: int, sequence: int, name: bytes
    ) -> Optional[Claim]:
        """Claim a record whose matrix is (rows, columns).

        Returns:
            The claim, or None if there is no room until the consumer releases records.

        Raises:
            SegmentTooLargeError, BufferError, ProtocolError: as `Producer.claim`.
        """

    def oldest_open(self) -> Optional[tuple[int, bytes]]:
        """Return the sequence number and name of the oldest open claim, or None."""

    def receive(self) -> Optional[Record]:
        """Return the next record, or None if there is none.

        Raises:
            ProtocolError: the producer wrote an invalid value. The ring is unusable from then on.
        """

class Claim:
    """A record that the producer fills. If it is dropped before `commit`, it is aborted.

    Attributes:
        sequence: the number that the answer carries.
        position: in the ring.
        shape: (rows, columns) of the matrix.
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
        """The array to fill.

        It may be kept: after `commit` it shows the sent content, and the ring does not reuse its space.

        Raises:
            UsageError: the claim was committed or aborted.
        """

    def expect_allocation(self, in_place: bool = ..., /) -> None:
        """Use the float32 matrix for numpy's next array of its size in this thread.

        The expectation ends with that array, with the next claim that expects one, with a call of another
        method of this claim but `matrix`, or with the claim. This sets numpy's allocation handler (NEP 49) in
        the current context (PEP 567); it passes all other allocations to the previous handler. If other code
        has set a handler in the context, that one stays, and numpy allocates the array elsewhere.

        Args:
            in_place: False only observes the array, for `allocation_lives`: it is allocated elsewhere.

        Raises:
            UsageError: the claim was committed or aborted.
            ValueError: the matrix is not float32.
        """

    def allocation_lives(self) -> Optional[bool]:
        """Return whether the array that the claim expected lives; None if numpy allocated none."""

    def holds(self, array: _Array) -> bool:
        """Return whether the array is this claim's matrix: same address, shape, dtype and order."""

    def commit(self, status: int = ..., loss: float = ..., states: int = ..., /) -> None:
        """Send the record. The consumer receives records in the order of their claims.

        Raises:
            UsageError: the claim was committed or aborted.
            TypeError, ValueError, OverflowError: an argument is invalid. The claim stays open.
        """

    def commit_when_freed(self, loss: float, /) -> None:
        """Send the record when numpy frees the array that it allocated in it; now if there is none.

        Until then, code that holds the array may still write to it.

        Raises:
            UsageError: the claim was committed or aborted.
        """

    def take_back(self) -> bool:
        """Undo `commit_when_freed` if the array still lives: the claim is then open again.

        Returns:
            Whether that was so. If not, the record was sent, or was not to be sent.
        """

    def abort(self) -> None:
        """Abandon the record; the consumer skips it.

        Raises:
            UsageError: the claim was committed or aborted.
        """

class Record:
    """A received record. It is released when this object and all arrays over it are gone.

    Attributes:
        name: the segment name, as bytes.
        sequence: the number of the request.
        kind, status, dtype, loss, states: as in csrc/declarations.h.
        shape: (rows, columns) of the matrix.
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
        """An array over the matrix, (rows, columns), or None once released."""

    def is_answer(self, sequence: int, kind: int, rows: int, columns: int, /) -> bool:
        """Return whether this answers the request: status ANSWERED, and a float32 matrix of this shape.

        Raises:
            TypeError, OverflowError: an argument is not an integer from 0 to 2^64 - 1.
        """

    def release(self) -> None:
        """Return the record's space to the producer.

        Raises:
            BufferError: an array still views the record, which is released when array and record are gone.
        """

def copy(target: _Array, source: _Array, dtype: int, check: int, use_second_thread: bool, /) -> Optional[int]:
    """Convert (rows, columns) to float32 in one pass, without the GIL: shmb_copy.

    Args:
        target: float32, with contiguous rows.
        source: of the same shape, any strides, any float dtype in this machine's byte order.
        dtype: the source's dtype, an SHMB_ constant.
        check: which values are invalid, an SHMB_CHECK_ constant.
        use_second_thread: share large matrices with a second thread.

    Returns:
        The index (row * columns + column) of the first invalid value, at which the copy ended; or None.

    Raises:
        ValueError: target and source do not match.
    """

def find_invalid(array: _Array, /) -> Optional[int]:
    """Return the index of the first NaN or plus infinity in a C-ordered float32 array, or None."""

def sum_of_exponentials(array: _Array, /) -> float:
    """Return the sum of the exponentials of the middle row, to within 0.4 %.

    Args:
        array: C-ordered float32 (rows, columns), with elements.
    """
