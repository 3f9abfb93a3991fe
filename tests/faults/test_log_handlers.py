"""A logging handler that raises: only the lines that it receives are lost."""

from __future__ import annotations

import logging
import os
import signal
import threading

import pytest

import shmbridge
from support.internals import children, kill_child, watch_descriptor


class Raising(logging.Handler):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def emit(self, _record):
        raise self.error


# The last two are not an Exception: sys.exit, and an outcome of pytest.
ERRORS = [OSError("the log's disk is full"), SystemExit("enough"), pytest.fail.Exception("a line is wrong")]


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def handler(request):
    logger, handler = logging.getLogger("shmbridge.sprint"), Raising(request.param)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_sprint_continues_and_its_end_is_noticed(sprint_env, handler, capfd):
    body = """
        print("what Sprint says", flush=True)
        init().run_control_loop(callback=callback)
        """
    with sprint_env.scripted_pool(body) as pool:
        for _ in range(2):
            claim = pool.claim("c/s1", 3, 4)
            claim.posteriors[:] = 1
            assert claim.send().result().loss == 1.5
        (child,) = children(pool)
        claim = pool.claim("c/s1", 3, 4)
        claim.posteriors[:] = 1
        os.kill(child.pid, signal.SIGSTOP)
        sent = claim.send()
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(shmbridge.PeerGoneError, match="SIGKILL") as caught:
            sent.result()
        assert "what Sprint says" in caught.value.last_output
    assert str(handler.error) in capfd.readouterr().err


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_failing_handler_does_not_end_the_watcher_thread(sprint_env, capfd, error):
    called = threading.Event()

    def fail():
        called.set()
        raise error

    logger, handler = logging.getLogger("shmbridge"), Raising(error)
    with sprint_env.scripted_pool("init().run_control_loop(callback=callback)") as pool:
        logger.addHandler(handler)
        try:
            readable, written = os.pipe()
            os.write(written, b"x")
            watch_descriptor(pool, readable, fail)  # and owns it
            assert called.wait(60)
            kill_child(pool)
        finally:
            logger.removeHandler(handler)
            os.close(written)
    assert str(error) in capfd.readouterr().err
