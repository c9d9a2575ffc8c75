"""Pytest plugin for skrub's own tests: the engine is on. Used by test_skrub.py in a process of its own."""

import stratum  # noqa: F401
