"""Imported by sibling_module.py."""
