"""Discover the chains of a project by naming convention, without running any of their code in this process.

`load_module` is the exception: it is for the processes that run tasks.
"""

from nectar.chain.catalog import Catalog, describe, discover
from nectar.chain.description import (
    BrokenChain,
    ChainDescription,
    ParameterDescription,
    TaskDescription,
    find_task,
)
from nectar.chain.finder import ChainName, find_chain
from nectar.chain.project import load_module

__all__ = [
    "BrokenChain",
    "Catalog",
    "ChainDescription",
    "ChainName",
    "ParameterDescription",
    "TaskDescription",
    "describe",
    "discover",
    "find_chain",
    "find_task",
    "load_module",
]
