"""Imported by sibling_module.py."""

from . import __doc__ as text


def double(x):
    """Twice x."""
    return 2 * x if text else None
