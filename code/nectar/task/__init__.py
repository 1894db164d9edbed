"""The task classes, and what makes luigi's own command and scheduler carry them out as ours does."""

from __future__ import annotations

from nectar.task.base import CODE, LocalTask, S3Task, Task
from nectar.task.source import FileSource

__all__ = ["CODE", "FileSource", "LocalTask", "S3Task", "Task"]
