"""Describe work as data: a graph of tasks whose output ids change when a task or any of its inputs do."""

from __future__ import annotations

from nectar.description.dag import Dag, Task
from nectar.description.printing import pp

__all__ = ["Dag", "Task", "pp"]
