"""getSegmentList: Sprint's order of segments is that in which the parent asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .control import connect
from .output import report


def getSegmentList(  # noqa: N802 - the name that Sprint calls
    corpusName: str,  # noqa: N803
    segmentList: list[str],  # noqa: N803
    config: str,
    **_kwargs: Any,
) -> Iterator[str]:
    """Yield the full names of the segments that the parent asks for, until it asks to exit.

    Called by Sprint's PythonSegmentOrder, possibly before `init`, which it calls itself then. Sprint
    works on the segment between two items.

    Args:
        corpusName: the root corpus.
        segmentList: all segments of the corpus; a request for any other is refused.
        config: the config string.

    Raises:
        OptionError: the config string lacks what the connection needs.
    """
    control = connect(name="shmbridge.PythonSegmentOrder", reference=corpusName, config=config)
    report(f"getSegmentList: corpus {corpusName!r}, {len(segmentList)} segments")
    if control.asking_sprint:
        # To answer its callback, Sprint collects the orthographies of the whole corpus.
        yield from segmentList
        return
    control.check_control_loop_running()
    yield from control.segment_list_iterator(known=frozenset(segmentList))
