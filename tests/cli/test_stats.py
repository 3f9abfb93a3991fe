"""`shmbridge stats` shows pools of other processes, to their own user only."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from shmbridge import ProtocolError
from shmbridge.parent import stats_socket


def children(report):
    return report["pools"][0]["children"]


def test_a_running_pool_shows_its_counts_and_children(run, trainer):
    process = trainer()
    process.do("batch")
    done = run("stats", process.pid, "--json")
    assert done.code == 0, done.err
    (pool,) = done.json["pools"]
    assert pool["pid"] == process.pid
    assert pool["executable"] == f"{sys.executable} -m shmbridge.refsprint"
    assert (pool["segments"], pool["skipped"], pool["failed"], pool["restarts"]) == (6, 0, 0, 0)
    assert pool["posteriors_bytes"] == pool["error_signal_bytes"] > 0
    assert 0 < pool["wait_seconds"] < pool["seconds"]
    assert 0 < pool["copy_seconds"] < pool["seconds"]
    assert 0 < pool["start_seconds"] < pool["seconds"]
    assert [child["pid"] for child in pool["children"]] == process.children
    assert [child["state"] for child in pool["children"]] == ["ready", "ready"]
    assert sum(child["answered"] for child in pool["children"]) == 6
    assert all(child["ring_size"] == 1 << 20 for child in pool["children"])


def test_a_held_result_occupies_its_ring(run, trainer):
    process = trainer()
    process.do("batch")
    before = children(run("stats", process.pid, "--json").json)
    assert [child["error_signals_used"] for child in before] == [0, 0]
    process.do("hold")
    after = children(run("stats", process.pid, "--json").json)
    # A header of 64 bytes, and a float32 matrix with ten labels.
    full = 64 + -(-process.frames * 10 * 4 // 64) * 64
    assert sorted(child["error_signals_used"] for child in after) == [0, full]


def test_a_killed_child_shows_as_ended_and_then_as_restarted(run, trainer):
    process = trainer()
    os.kill(process.children[0], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while children(run("stats", process.pid, "--json").json)[0]["state"] != "ended":
        assert time.monotonic() < deadline
    process.do("batch")
    first, second = children(run("stats", process.pid, "--json").json)
    assert first["restarts"] == 1
    assert first["state"] in ("starting", "ready")  # the other child may have answered the whole batch
    assert first["pid"] != process.children[0]
    assert (second["pid"], second["restarts"]) == (process.children[1], 0)


def test_without_a_pid_all_pools_of_the_user_are_shown(run, trainer):
    one, other = trainer(), trainer(2)
    found = [pool["pid"] for pool in run("stats", "--json").json["pools"]]
    assert found.count(one.pid) == 1
    assert found.count(other.pid) == 2


def test_without_a_terminal_the_table_is_shown_once(run, trainer):
    process = trainer()
    process.do("batch")
    done = run("stats", process.pid)
    assert done.code == 0, done.err
    assert f"process {process.pid}" in done.out
    assert all(str(pid) in done.out for pid in process.children)
    assert "ring to Sprint" in done.out


def test_without_rich_the_pools_are_printed_as_plain_lines(run, without_rich, trainer):
    process = trainer()
    process.do("batch")
    done = run("stats", process.pid, python=without_rich)
    assert done.code == 0, done.err
    first, statistics, *lines = done.out.splitlines()
    assert first == f"process {process.pid}: {sys.executable} -m shmbridge.refsprint"
    assert statistics.startswith("  6 segments in ")
    for pid, line in zip(process.children, lines):
        assert line.startswith(f"  child {pid}: ready, ")


def test_scored_segments_are_shown_in_json_and_in_the_table(run, trainer):
    process = trainer()
    before = run("stats", process.pid).out
    assert "scored" not in before
    process.do("score")
    (pool,) = run("stats", process.pid, "--json").json["pools"]
    assert (pool["scored"], pool["scored_frames"], pool["segments"]) == (12, 60, 0)
    assert [child["scored"] for child in pool["children"]] == [6, 6]
    assert 0 < pool["score_seconds"] < pool["seconds"]
    out = run("stats", process.pid).out
    for row in (
        r"segments scored +│ +12 ",
        r"frames +│ +60 ",
        r"in the score function",
        r"answered +┃ +scored",
    ):
        assert re.search(row, out), out


def test_every_prints_a_line_each_time_until_the_pool_is_closed(trainer):
    process = trainer()
    command = [sys.executable, "-m", "shmbridge.cli", "stats", str(process.pid), "--json", "--every", "0.01"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as viewer:
        assert viewer.stdout is not None
        assert json.loads(viewer.stdout.readline())["pools"][0]["segments"] == 0
        process.do("batch")
        for line in viewer.stdout:
            if json.loads(line)["pools"][0]["segments"] == 6:
                break
        process.do("close")
        viewer.communicate(timeout=60)
    assert viewer.returncode == 0


@pytest.mark.parametrize("close", [True, False])
def test_a_closed_pool_and_a_killed_trainer_leave_no_socket(run, trainer, close):
    process = trainer()
    (found,) = stats_socket.list_sockets(process.pid)
    assert not names_of_files(process.pid)
    if close:
        process.do("close")
        assert not links_to(found.name, process.pid)
    else:
        process.process.kill()
        process.process.wait()
    assert stats_socket.list_sockets(process.pid) == []
    assert not names_of_files(process.pid)
    done = run("stats", process.pid)
    assert done.code == 3
    assert f"process {process.pid} has no pool" in done.err


def names_of_files(pid):
    """Return the names that a socket of this process has left in a folder."""
    folders = (Path(tempfile.gettempdir()), Path("/dev/shm"))
    return [path for folder in folders for path in folder.glob(f"shmbridge-stats-{pid}-*")]


def links_to(name, pid):
    """Return the descriptors of a process that refer to the file of a socket."""
    found = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if name in os.readlink(f"/proc/{pid}/fd/{descriptor}"):
                found.append(descriptor)
    return found


def test_a_fork_does_not_keep_the_socket(trainer):
    process = trainer()
    (found,) = stats_socket.list_sockets(process.pid)
    process.do("fork")
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        (fork,) = {int(word) for word in file.read().split()} - set(process.children)
    deadline = time.monotonic() + 30
    # The fork closes its copies when it first runs.
    while links_to(found.name, fork):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert stats_socket.query(found).pid == process.pid


def connect(found):
    """Return a client with an address."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.setblocking(False)
    client.connect(found.path)
    client.bind("")
    return client


def test_clients_that_never_read_do_not_disturb_the_pool(run, trainer):
    process = trainer()
    (found,) = stats_socket.list_sockets(process.pid)
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(connect(found))
            with contextlib.suppress(BlockingIOError):  # the queue is full
                while client.send(b"x" * 100):
                    pass
        process.do("batch")
        assert run("stats", process.pid, "--json").json["pools"][0]["segments"] == 6


def test_a_client_without_an_address_is_ignored(run, trainer):
    process = trainer()
    (found,) = stats_socket.list_sockets(process.pid)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(found.path)
        client.send(b"")
        client.send(b"?")
    assert stats_socket.query(found).pid == process.pid


def test_a_trainer_without_free_descriptors_answers(trainer):
    process = trainer()
    (found,) = stats_socket.list_sockets(process.pid)
    for action in ("exhaust", "recover", "batch"):
        process.do(action)
        for _ in range(3):
            segments = stats_socket.query(found).statistics.segments
    assert segments == 6


AS_NOBODY = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
try:
    client.connect(sys.argv[1])
except PermissionError:
    print("refused")
"""


def test_another_user_cannot_reach_the_socket(trainer):
    if os.geteuid() != 0:
        pytest.skip("only root can switch to another user")
    process = trainer()
    (found,) = stats_socket.list_sockets(process.pid)
    # The path is refused, and so is the file: an open descriptor of it does not help.
    descriptor = os.open(found.path, os.O_PATH)
    try:
        for path in (found.path, f"/proc/self/fd/{descriptor}"):
            done = subprocess.run(
                [sys.executable, "-c", AS_NOBODY, path],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
                pass_fds=(descriptor,),
            )
            assert done.stdout == "refused\n"
        assert stat.S_IMODE(os.stat(descriptor).st_mode) == 0o600
    finally:
        os.close(descriptor)
    assert stats_socket.query(found).pid == process.pid


@contextlib.contextmanager
def impostor(answer):
    """Listen as a pool does, and send `answer` to the first client."""
    listener, file = stats_socket.open_socket()
    pid = os.fork()
    if pid == 0:
        with socket.socket(fileno=listener) as server:
            server.setblocking(True)
            _, client = server.recvfrom(1)
            server.sendto(answer, client)
            os._exit(0)
    try:
        yield stats_socket.Socket("name", os.getpid(), f"/proc/self/fd/{file}")
    finally:
        os.close(listener)
        os.close(file)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_copy_in_another_process_is_not_listed():
    listener, file = stats_socket.open_socket()
    try:
        assert len(stats_socket.list_sockets(os.getpid())) == 1
        with subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(file,)
        ) as other:
            assert stats_socket.list_sockets(other.pid) == []
            other.kill()
    finally:
        os.close(listener)
        os.close(file)


def test_nobody_but_the_pool_can_send_an_answer():
    listener, file = stats_socket.open_socket()
    try:
        found = stats_socket.Socket("name", os.getpid(), f"/proc/self/fd/{file}")
        with connect(found) as client, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            address = client.getsockname()
            with pytest.raises(PermissionError):
                other.sendto(b"{}", address)
    finally:
        os.close(listener)
        os.close(file)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'{"format": 2}',
        b'{"format": 2, "children": [1]}',
        b'{"format": 3, "children": []}',
        b'{"format": 2, "children": [], "seconds": "long"}',
        b"[" * 100000,
        b"\xff",
    ],
)
def test_an_invalid_answer_raises_a_protocol_error(answer):
    with impostor(answer) as found, pytest.raises(ProtocolError, match="is invalid"):
        stats_socket.query(found)
