"""Imported by sibling_module.py."""

NAME = "helper"
