"""The books in a database: SQLite in a file, or PostgreSQL, through SQLAlchemy."""

from __future__ import annotations

from nectar.runs.sql.store import SqlRunStore

__all__ = ["SqlRunStore"]
