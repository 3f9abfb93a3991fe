"""Types of the C part. csrc/declarations.h documents the functions."""

from collections.abc import Callable
from typing import Any

class CData:
    """A C pointer, struct or array."""

class FFI:
    NULL: CData
    def new(self, cdecl: str, init: Any = ...) -> Any: ...
    def gc(self, cdata: Any, destructor: Callable[[Any], Any], size: int = ...) -> Any: ...
    def buffer(self, cdata: Any, size: int = ...) -> Any: ...
    def cast(self, cdecl: str, value: Any) -> Any: ...
    def string(self, cdata: Any, maxlen: int = ...) -> bytes: ...
    errno: int

class Lib:
    SHMB_ABI: int
    SHMB_ALIGNMENT: int
    SHMB_HEADER_SIZE: int
    SHMB_NAME_MAX: int
    SHMB_PAGE: int
    SHMB_HEAD_OFFSET: int
    SHMB_STACK_SIGNAL: int
    SHMB_OK: int
    SHMB_EMPTY: int
    SHMB_FULL: int
    SHMB_HELD: int
    SHMB_TOO_LARGE: int
    SHMB_CORRUPT: int
    SHMB_DISOWNED: int
    SHMB_BAD_SPAN: int
    SHMB_NO_MEMORY: int
    SHMB_INTERRUPTED: int
    SHMB_TIMED_OUT: int
    SHMB_PRODUCER: int
    SHMB_CONSUMER: int
    SHMB_PADDING: int
    SHMB_POSTERIORS: int
    SHMB_ERROR_SIGNAL: int
    SHMB_AUTOMATON_REQUEST: int
    SHMB_AUTOMATON: int
    SHMB_FEATURES: int
    SHMB_SCORES: int
    SHMB_ANSWERED: int
    SHMB_SKIPPED: int
    SHMB_FAILED: int
    SHMB_FLOAT32: int
    SHMB_UINT32: int
    SHMB_UINT8: int
    SHMB_FLOAT64: int
    SHMB_FLOAT16: int
    SHMB_BFLOAT16: int
    def shmb_memory_create(self) -> int: ...
    def shmb_memory_seal(self, descriptor: int) -> int: ...
    def shmb_memory_map(self, descriptor: int, size: int) -> Any: ...
    def shmb_memory_free(self, memory: Any) -> None: ...
    def shmb_memory_at(self, memory: Any, offset: int, length: int) -> Any: ...
    def shmb_doorbell_open(self, memory: Any, offset: int, create: int) -> Any: ...
    def shmb_doorbell_free(self, doorbell: Any) -> None: ...
    def shmb_doorbell_poke(self, doorbell: Any) -> None: ...
    def shmb_spin(self, doorbell: Any, ends: Any, n_ends: int, max_spin_ns: int) -> int: ...
    def shmb_sleep(self, doorbell: Any, ends: Any, n_ends: int, timeout_ns: int) -> int: ...
    def shmb_waited(self, doorbell: Any) -> int: ...
    def shmb_ring_open(
        self,
        memory: Any,
        control_offset: int,
        data_offset: int,
        capacity: int,
        role: int,
        peer_doorbell: Any,
    ) -> Any: ...
    def shmb_ring_disown(self, end: Any) -> None: ...
    def shmb_ring_problem(self, end: Any, value: Any, limit: Any) -> Any: ...
    def shmb_record_size(self, dtype: int, rows: int, columns: int, name_length: int) -> int: ...
    def shmb_ring_released(self, end: Any) -> int: ...
    def shmb_ring_used(self, end: Any) -> int: ...
    def shmb_exit_with_parent(self, pidfd: int, pipe: int, grace_ms: int) -> int: ...

ffi: FFI
lib: Lib
