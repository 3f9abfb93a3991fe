"""The fuzz targets of the Python side: functions of bytes that raise only if they find a fault.

Each target passes its input to code that reads what others wrote, and lets the documented errors pass. Any
other exception is a finding, and so is a broken promise (an AssertionError). atheris drives them in
fuzz_python.py; test_corpora.py calls them with the kept inputs, and with hypothesis' ones.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

from shmbridge import config as config_strings
from shmbridge import protocol
from shmbridge.bliss.corpus import CorpusOptions, read_corpus
from shmbridge.bliss.lexicon import Lemma, Lexicon, Pronunciation, read_lexicon
from shmbridge.bliss.xml_reader import WHITESPACE
from shmbridge.child.connect import init
from shmbridge.child.output import Verbosity
from shmbridge.errors import FileFormatError, OptionError, ProtocolError
from shmbridge.memory import Geometry
from shmbridge.parent.options import Options
from shmbridge.refsprint.configuration import Configuration
from shmbridge.refsprint.console import CriticalError, FailedAssertionError
from shmbridge.refsprint.orthography import parse_orthography

Target = Callable[[bytes], None]


def _must(condition: bool) -> None:
    """For promises about errors."""
    if not condition:
        raise AssertionError


class _Input:
    """The bytes of an input, read from the front; zeros and empty strings after its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def bytes(self, count: int) -> bytes:
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def byte(self) -> int:
        return int.from_bytes(self.bytes(1), "big")

    def text(self) -> str:
        """Up to 255 bytes; surrogates replace bytes that are not UTF-8, as in Python's sys.argv."""
        return self.bytes(self.byte()).decode("utf-8", "surrogateescape")

    def rest(self) -> bytes:
        return self.bytes(len(self._data))

    def __bool__(self) -> bool:
        return bool(self._data)


# --- control messages


def control_messages(data: bytes) -> None:
    """Read the bytes of a pipe, whole and in pieces; the first byte is the length of a piece.

    Where the second byte is above 127, what follows is the messages' content, and gets its lengths here.
    """
    piece, framed, data = data[0] + 1 if data else 1, data[1:2] > b"\x7f", data[2:]
    if framed:
        bodies = [_spelled(body, _MESSAGE_WORDS) for body in data.split(b"\xfe")]
        data = b"".join(len(body).to_bytes(4, "little") + body for body in bodies)
    piece = max(piece, len(data) // 16)
    whole = _decoded([data])
    in_pieces = _decoded([data[i : i + piece] for i in range(0, len(data), piece)])
    assert in_pieces == whole
    for message in whole[0]:
        kind = message["kind"]
        for name, expected in protocol._FIELDS[kind].items():
            assert isinstance(message[name], expected)
        if kind == "hello":
            with contextlib.suppress(ProtocolError):
                protocol.check_versions(message)
            sizes = [message.get(name) for name in ("posteriors_size", "error_signals_size")]
            if all(isinstance(size, int) for size in sizes):
                with contextlib.suppress(OptionError):
                    assert Geometry(*sizes).total_size < 1 << 46
        again = protocol.Decoder().feed(
            protocol.encode(kind, **{key: value for key, value in message.items() if key != "kind"})
        )
        assert json.dumps(again) == json.dumps([{"kind": kind, **message}])


def _decoded(pieces: list[bytes]) -> tuple[list[protocol.Message], str]:
    decoder = protocol.Decoder()
    messages: list[protocol.Message] = []
    for piece in pieces:
        try:
            messages += decoder.feed(piece)
        except ProtocolError as error:
            _must(len(str(error)) < 1000)
            # In one piece, the messages before the wrong one are lost; the end of the pipe is the same.
            return [], str(error)
        assert len(decoder._buffer) <= protocol.MAX_MESSAGE + 4
    return messages, ""


# --- config strings and options


def config_string(data: bytes) -> None:
    """Parse the child's config string, without opening descriptors."""
    text = _spelled(data, _STRING_WORDS).decode("utf-8", "surrogateescape")
    Verbosity.quiet = True
    try:
        config = config_strings.parse(text)
    except OptionError:
        config = {}
    else:
        with contextlib.suppress(OptionError):
            assert config_strings.parse(config_strings.compose(config)) == config
    for key in (*config, "quiet"):
        with contextlib.suppress(OptionError):
            assert isinstance(config_strings.get_int(config, key), int)
        with contextlib.suppress(OptionError):
            assert isinstance(config_strings.get_bool(config, key), bool)
    if not any(_may_be_open(value) for value in config.values()):
        try:
            init("Sprint.PythonControl", None, text, version_number=5)
        except OptionError:
            return
        raise AssertionError("a connection without descriptors")


def _may_be_open(text: str) -> bool:
    try:
        os.fstat(int(text))
    except (ValueError, OSError, OverflowError):
        return False
    return True


_NAMES = (
    *("sprint_exec_path", "sprint_config", "sprint_control_config", "min_python_control_version"),
    *(
        "use_python_segment_order",
        "num_instances",
        "ring_size",
        "num_labels",
        "start_timeout",
        "exit_timeout",
    ),
    *("env", "max_restarts", "skip_fatal_segments", "segment_timeout", "unnormalized_posteriors"),
    *("allow_zero_error_signal", "skip_warning_share"),
)


def options(data: bytes) -> None:
    """Parse the options of a pool: names and values of any kind."""
    source = _Input(data)
    given: dict[str, object] = {}
    given["sprint_exec_path"] = "true" if source.byte() % 4 else ""
    for _ in range(16):
        if not source:
            break
        choice = source.byte()
        name: object = _NAMES[choice] if choice < len(_NAMES) else _value(source, 2)
        value = _value(source, 0)
        if isinstance(name, str):  # Python itself refuses other keywords
            given[name] = value
    try:
        parsed = Options.parse(given)  # type: ignore[arg-type]
    except OptionError as error:
        _must(len(str(error)) < 100_000)
        return
    command = [*parsed.command_line.command, *parsed.command_line.options]
    assert all(isinstance(word, str) and "\0" not in word for word in command)
    assert parsed.num_instances >= 1
    for text in command:
        os.fsencode(text)
    for entry in (parsed.env or {}).items():
        assert all(isinstance(word, str) and "\0" not in word for word in entry)


def _value(source: _Input, depth: int) -> object:
    """Return a value of any type that a config file in Python may contain."""
    kind = source.byte() % 12
    if kind == 0:
        return None
    if kind == 1:
        return bool(source.byte() % 2)
    if kind == 2:
        return source.byte()
    if kind == 3:
        return int.from_bytes(source.bytes(9), "little", signed=True)
    if kind == 4:
        return (-1) ** source.byte() * 10 ** (source.byte() * 16)  # Python prints no more than 4300 digits
    if kind == 5:
        return (0.5, -1.0, 1e300, math.inf, -math.inf, math.nan)[source.byte() % 6]
    if kind == 6:
        return source.bytes(source.byte())
    if kind == 7 and depth < 4:
        return [_value(source, depth + 1) for _ in range(source.byte() % 4)]
    if kind == 8 and depth < 4:
        pairs = [(_value(source, 4), _value(source, depth + 1)) for _ in range(source.byte() % 4)]
        return dict(pairs)  # type: ignore[arg-type]
    if kind == 9:
        return Path("/usr") / source.text().replace("\0", "0")
    return source.text()


# --- files


# Files without a folder: their names are high descriptor numbers, so that they are always the same.
_FOLDER = "/proc/self/fd"
_FILES = ("240", "241")


@functools.cache
def _descriptors() -> list[int]:
    found = []
    for name in _FILES:
        descriptor = os.memfd_create("shmbridge-fuzz")
        found.append(os.dup2(descriptor, int(name), inheritable=False))
        os.close(descriptor)
    return found


def _file(*contents: bytes) -> str:
    """Return the path of a file with the first content; a second content goes into the file next to it."""
    for descriptor, content in zip(_descriptors(), contents):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)
    return f"{_FOLDER}/{_FILES[0]}"


def _spelled(data: bytes, words: str) -> bytes:
    """Return the bytes with words of the language for those from 0x80 on; unchanged after a 0xFF."""
    if data[:1] == b"\xff":
        return data[1:]
    return b"".join(map(_table(words).__getitem__, data))


@functools.cache
def _table(words: str) -> list[bytes]:
    spelled = [word.encode() for word in words.split("|")]
    assert len(spelled) < 0x7F
    return [*(bytes((byte,)) for byte in range(0x80)), *spelled, *[b"\xff"] * (0x80 - len(spelled))]


_CORPUS_WORDS = (
    '<corpus name="c">|</corpus>|<subcorpus name="|">|</subcorpus>|<recording audio="a" name="|'
    '</recording>|<segment>|<segment name="|" start="|" end="|</segment>|<orth>|</orth>|'
    '<speaker name="|"/>|<speaker-description name="|</speaker-description>|<include file=\'240\'/>|'
    "<include file='241'/>|<include file='x'/>|<!--|-->|<![CDATA[|]]>|&#x0d;|&amp;|&x;|<!DOCTYPE c [|"
    "]>|<!ENTITY x SYSTEM '/etc/passwd'>|<!ENTITY x '&y;&y;'>|<?xml version='1.0' encoding='|'?>|"
    "utf-16|utf-7|rot13|utf-8|<!DOCTYPE c SYSTEM 'c.dtd'>|<a>|</a>|inf|nan|1e999|-1|<condition/>|utf8"
)
_LEXICON_WORDS = (
    "<lexicon>|</lexicon>|<phoneme-inventory>|</phoneme-inventory>|<phoneme>|</phoneme>|<symbol>|"
    "</symbol>|<variation>none</variation>|<lemma>|<lemma special='|'>|</lemma>|<orth>|</orth>|"
    "<orth/>|<phon>|</phon>|<phon weight='|<phon score='|<synt>|</synt>|<eval/>|blank|unknown|"
    "silence|inf|nan|1e-320|1e308|-1e999|800|<a>|</a>|<!--|-->|<![CDATA[|]]>|<!DOCTYPE c [|]>|"
    "<!ENTITY x '&y;'>|&x;|&#160;|<phoneme><symbol>a</symbol></phoneme>|"
    "<phoneme><symbol>b</symbol></phoneme>"
)
_CONFIG_WORDS = (
    "[*.corpus]\n|[*]\n|[|]\n|*.|corpus.|neural-network-trainer.|nn-trainer.|file = |a = |b = |$(a)|"
    "$(b)|$(|)|$[|include 241\n|include 240\n|include $(a)\n|#|\"|'|--|--*.corpus.|true\n|yes|1\n|"
    "999999999999999999|.5|1e9|\n|a = $(b)$(b)\n|b = $(c)$(c)\n|c = $(d)$(d)\n|d = $(a)\n|d = xxxx\n|"
    "include"
)
_MESSAGE_WORDS = (
    '{"kind": "hello"|{"kind": "dimension"|{"kind": "no_room"|{"kind": "exception"|{"kind": "exit"|}|'
    ', "protocol": |, "abi": |, "num_labels": |, "sequence": |, "released": |, "exception_type": |'
    ', "message": |, "traceback": |, "posteriors_size": |, "error_signals_size": |"a"|true|null|[|]|'
    '1e999|NaN|65536|-1|"\\ud800"|[[[[[[[[[[[[[[[[|18446744073709551616|1|{'
)
_STRING_WORDS = (
    "c2p_fd:|p2c_fd:|shm_fd:|bell_fd:|parent_pidfd:|minPythonControlVersion:|quiet:|verbose:|,|True|"
    "False|-1|2147483648|9223372036854775808|99999999999999999999999|"
    "c2p_fd:9999999,p2c_fd:9999999,minPythonControlVersion:2,|shm_fd:9999999,bell_fd:9999999,|٣|1_0"
)
_ANOTHER_CORPUS = b'<corpus name="c"><recording name="r" audio="a"><segment/></recording></corpus>'


def corpus(data: bytes) -> None:
    """Read a Bliss corpus that includes itself, another corpus, or a missing file."""

    def within(name: str) -> str:
        return name if name in _FILES else "nothing"

    choice, data = data[0] if data else 0, data[1:]
    asked = CorpusOptions("c/" if choice & 1 else "", bool(choice & 2), bool(choice & 4), within)
    try:
        found = read_corpus(_file(_spelled(data, _CORPUS_WORDS), _ANOTHER_CORPUS), asked)
    except FileFormatError as error:
        _must(error.path.startswith(_FOLDER))
        return
    names = set()
    for segment in found.segments:
        assert segment.full_name.endswith("/" + segment.name)
        assert 0 <= segment.start <= segment.end
        names.add((segment.full_name, segment.path))
        words = segment.orthography.split(" ")
        assert words.pop() == ""
        assert not any(not word or set(word) & set(WHITESPACE) for word in words)


def lexicon(data: bytes) -> None:
    """Read a Bliss lexicon."""
    path = _file(_spelled(data, _LEXICON_WORDS))
    try:
        found = read_lexicon(path, normalize=len(data) % 2 == 0)
    except FileFormatError as error:
        _must(error.path == path)
        return
    for lemma in found.lemmas:
        for pronunciation in lemma.pronunciations:
            assert all(0 <= label < len(found.phonemes) for label in pronunciation.phonemes)
            assert -800 < pronunciation.score < math.inf
    with contextlib.suppress(FileFormatError):
        assert 0 <= found.blank() < len(found.phonemes)


def orthography(data: bytes) -> None:
    """Read an orthography with the lemmas of a lexicon.

    The first line is the lemmas, with `;` between them: labels from a to d, with `,` between pronunciations,
    then `=` and the words. A `!` makes it the lemma of unknown words.
    """
    first, _, text = data.decode("utf-8", "replace").partition("\n")
    lemmas = []
    for entry in first.split(";"):
        symbols, _, words = entry.partition("=")
        labels = [tuple("abcd".index(one) for one in part if one in "abcd") for part in symbols.split(",")]
        pronunciations = tuple(Pronunciation(part, 0.5) for part in labels if part)
        special = "unknown" if "!" in words else None
        lemmas.append(Lemma((tuple(word for word in words.split(" ") if word),), pronunciations, special))
    found = Lexicon("lexicon", "abcd", lemmas)
    for silence in (False, True):
        try:
            lattice = parse_orthography(text, found, optional_silence=silence)
        except (CriticalError, FailedAssertionError):
            continue
        assert set(lattice.skipped) <= set(text.split(" "))
        assert all(0 <= edge.source < edge.target < lattice.node_count for edge in lattice.edges)
        assert {edge.source for edge in lattice.edges} >= {0}
        assert lattice.node_count - 1 in {edge.target for edge in lattice.edges}


def sprint_config(data: bytes) -> None:
    """Read Sprint's config file, its includes and the arguments: parts that are separated by NUL."""
    first, _, rest = _spelled(data, _CONFIG_WORDS).partition(b"\0")
    second, _, rest = rest.partition(b"\0")
    arguments = [part.decode("utf-8", "surrogateescape") for part in rest.split(b"\0")]
    path = _file(first, second)
    # Another config file would be one of this machine's.
    given = [f"--config={path}", *(word for word in arguments if "config" not in word)]
    try:
        configuration = Configuration.from_arguments(given).select("corpus")
    except FileFormatError:
        return
    resources = list(configuration._resources)
    for name in (*[resource.split(".")[-1] for resource in resources][:4], "file"):
        for ask in (
            configuration.string,
            configuration.required,
            lambda name: configuration.boolean(name, True),
            lambda name: configuration.integer(name, 1),
            configuration.seconds,
            lambda name: configuration.choice(name, ("a", "b"), "a"),
        ):
            with contextlib.suppress(FileFormatError, OptionError):
                assert len(str(ask(name))) <= 1 << 21


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (control_messages, config_string, options, corpus, lexicon, orthography, sprint_config)
}
