"""The command `nectar`: what a person types, and what the shell is told."""

from __future__ import annotations

from nectar.cli.entry import main

__all__ = ["main"]
