"""Pytest plugins: the tests of other libraries, run through the engine."""
