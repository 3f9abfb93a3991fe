"""Fixtures for pools."""

from support.fixtures import module_sprint_env, sprint_env, sprint_log, watch_over_the_test

__all__ = ["module_sprint_env", "sprint_env", "sprint_log", "watch_over_the_test"]
