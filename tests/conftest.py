"""What all tests rely on."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from support.packages import describe_left_out

# In the background of a shell SIGINT is ignored, and Python does not raise KeyboardInterrupt: tests
# of Ctrl-C would wait for ever. Under nohup it is SIGHUP. Processes that the tests start get the default
# again by this.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# What decides whether a change lands always tries the same examples; everybody else looks for new ones.
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
