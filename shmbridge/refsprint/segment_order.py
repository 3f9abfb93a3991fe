"""The order in which Sprint visits the segments: by default, the order of the corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Optional

from shmbridge.bliss.corpus import Corpus, CorpusOptions, Segment, read_corpus
from shmbridge.bliss.files import read_text
from shmbridge.bliss.xml_reader import WHITESPACE
from shmbridge.errors import FileFormatError

from .configuration import Configuration
from .console import CriticalError
from .python_calls import call, import_module, reporting_exceptions

__all__ = ["visit"]

_END = object()


def visit(config: Configuration) -> Iterator[Segment]:
    """Yield the segments in the order of visiting.

    The user's getSegmentList is called after the whole corpus was read. A generator runs only as far as
    segments are needed, so that calls to it alternate with calls to other parts of the module.

    Args:
        config: the options of the component ``corpus``.

    Raises:
        OptionError: no corpus is named.
        FileFormatError: a file is missing or malformed.
        CriticalError: the user's module failed, or named an unknown segment.
    """
    short_names = config.boolean("segment-order-look-up-short-name", False)
    module = None
    if config.boolean("python-segment-order", False):
        # RASR imports the module before it reads the corpus.
        module = import_module(config, "python-segment-order", "python-segment-order-")
    kept_file = config.select("segments").string("file")
    kept = _read_names(kept_file)
    if kept == []:
        raise FileFormatError(kept_file, None, "lists no segments [segment-list]")
    order_file = config.string("segment-order")
    corpus = _read_corpus(config)
    segments: Iterable[Segment] = corpus.segments
    if module is not None or order_file:
        segments = _ordered(module, config, corpus, short_names, _read_names(order_file))
    # RASR filters after ordering: getSegmentList receives all segments.
    keep = frozenset(kept or ())
    for segment in segments:
        if not keep or segment.full_name in keep or segment.name in keep:
            yield segment


def _read_corpus(config: Configuration) -> Corpus:
    options = CorpusOptions(
        remove_prefix=config.string("remove-corpus-name-prefix"),
        upper_case=config.boolean("capitalize-transcriptions", False),
        lower_case=config.boolean("gemenize-transcriptions", False),
        resolve=config.resolve,
    )
    return read_corpus(config.required("file"), options)


def _ordered(
    module: Any, config: Configuration, corpus: Corpus, short_names: bool, listed: Optional[list[str]]
) -> Iterator[Segment]:
    by_name: dict[str, Segment] = {}
    for segment in corpus.segments:
        name = segment.name if short_names else segment.full_name
        if name in by_name:
            raise segment.error(f"segment {name!r} is already defined [corpus]")
        by_name[name] = segment
    names: Iterable[str] = list(by_name) if listed is None else listed
    if module is not None:
        names = _call_get_segment_list(module, config, corpus, list(names), by_name)
    for name in names:
        # In RASR this error ends the process, unless the option on-error says otherwise.
        if name not in by_name:
            raise CriticalError(f"segment {name!r} not found [segment-list]")
        yield by_name[name]


def _call_get_segment_list(
    module: Any, config: Configuration, corpus: Corpus, names: list[str], by_name: dict[str, Segment]
) -> Iterator[str]:
    info = None
    if config.boolean("python-segment-order-with-segment-info", False):
        info = {name: {"time": by_name[name].end - by_name[name].start} for name in names}
    answer = call(
        module,
        "getSegmentList",
        corpusName=corpus.name,
        segmentList=names,
        segmentsInfo=info,
        config=config.string("python-segment-order-config"),
    )
    with reporting_exceptions("getSegmentList() did not return an iterable"):
        iterator = iter(answer)
    while True:
        with reporting_exceptions("getSegmentList() failed to give the next segment"):
            name = next(iterator, _END)
        if name is _END:
            return
        # RASR rejects subclasses of str.
        if type(name) is not str:
            problem = f"PYTHON ERROR: a segment name is of type {type(name).__name__}; it must be str"
            raise CriticalError(f"{problem} [python-error]")
        yield name


def _read_names(path: str) -> Optional[list[str]]:
    if not path:
        return None
    lines = [line.strip(WHITESPACE) for line in read_text(path).split("\n") if not line.startswith("#")]
    return [line for line in lines if line]
