"""Features for RASR's trainer: a cache archive, and the flow network that reads it.

With a Python layer at the bottom of the network the features count for nothing but their number: RASR demands
some, and their frames have to be as many as those of the posteriors. Here they tell where they stand, so that
who gets them can see whether they are the right ones.

The archive, as RASR's Core/FileArchive.cc has it; all numbers are little-endian, strings are a u32 length and
their bytes. "SP_ARC1" and a zero, a byte that tells whether there is a table, then for each file

    u32 0xaa55aa55, string name, u32 size, u32 0 (not compressed), u32 checksum, data, u32 0x55aa55aa

and the table:

    u32 number of files, for each: string name, u64 position behind the name, u32 size, u32 0
    u32 number of empty files, u64 position of this line, u64 position of the line above

The file of a segment is a flow cache: string "vector-f32", u32 number of frames, for each frame

    u32 dimension, f32 for each dimension, f64 start, f64 end (seconds)

and beside it lies a file with ".attribs" behind its name: XML that names the type again.
"""

from __future__ import annotations

import struct
from typing import IO

from .bliss import FRAME_SHIFT
from .task import Task

__all__ = ["DIMENSION", "features", "flow_network", "write_cache"]

DIMENSION = 2
"""The number of features of a frame."""

_START, _END = 0xAA55AA55, 0x55AA55AA
_DATATYPE = "vector-f32"
_ATTRIBUTES = f"""<?xml version="1.0" encoding="utf-8"?>
<flow-attributes>
  <flow-attribute name="datatype" value="{_DATATYPE}"/>
</flow-attributes>
""".encode()


def flow_network(cache: str) -> str:
    """The flow network that gives a segment's features out of the cache."""
    return f"""<?xml version="1.0" encoding="utf-8"?>
<network>
  <out name="features"/>
  <param name="id"/>
  <node name="cache" filter="generic-cache" id="$(id)" path="{cache}"/>
  <link from="cache" to="network:features"/>
</network>
"""


def features(segment: int, frames: int) -> list[tuple[float, float]]:
    """Of each frame: the number of its segment in the corpus, and its own in the segment."""
    return [(float(segment), float(frame)) for frame in range(frames)]


def write_cache(file: IO[bytes], task: Task) -> None:
    """Write the archive with the features of all segments."""
    file.write(b"SP_ARC1\0" + b"\1")
    table = []
    first = 0
    for number, segment in enumerate(task.segments):
        for suffix, data in (
            ("", _frames(first, features(number, segment.frames))),
            (".attribs", _ATTRIBUTES),
        ):
            name = _string(segment.full_name + suffix)
            file.write(struct.pack("<I", _START) + name)
            table.append(name + struct.pack("<QII", file.tell(), len(data), 0))
            file.write(struct.pack("<III", len(data), 0, 0) + data + struct.pack("<I", _END))
        first += segment.frames
    position = file.tell()
    file.write(struct.pack("<I", len(table)) + b"".join(table))
    empty = file.tell()
    file.write(struct.pack("<IQQ", 0, empty, position))


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<I", len(encoded)) + encoded


def _frames(first: int, frames: list[tuple[float, float]]) -> bytes:
    rows = []
    for number, values in enumerate(frames, first):
        times = (number * FRAME_SHIFT, (number + 1) * FRAME_SHIFT)
        rows.append(struct.pack(f"<I{DIMENSION}fdd", DIMENSION, *values, *times))
    return _string(_DATATYPE) + struct.pack("<I", len(frames)) + b"".join(rows)
