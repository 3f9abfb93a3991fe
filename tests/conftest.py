"""Signals, hypothesis profiles and the summary of all tests."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from support.packages import describe_left_out

# A shell ignores SIGINT in its background jobs, and nohup ignores SIGHUP: Python then raises no
# KeyboardInterrupt, and tests of Ctrl-C hang. Processes that the tests start inherit the default from here.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# CI always tries the same examples; other runs look for new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say, below the summary, which tests were left out for lack of a large package."""
    yield
    left_out = describe_left_out(str(report.longrepr) for report in terminalreporter.stats.get("skipped", []))
    if left_out:
        terminalreporter.line(left_out, yellow=True)
