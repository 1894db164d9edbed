"""List all chains of a project with what they offer, from the cache or from importer processes."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nectar.chain import cache, finder, isolation
from nectar.chain.description import BrokenChain, ChainDescription, broken_error
from nectar.chain.finder import ChainName
from nectar.settings import Settings


@dataclass(frozen=True, slots=True)
class Catalog:
    """The chains of a project, in the order of names."""

    chains: tuple[ChainDescription, ...]
    broken: tuple[BrokenChain, ...]  #: what cannot be imported, and folders that cannot hold chains

    def by_type(self) -> dict[str, tuple[ChainDescription, ...]]:
        """Return the chains of each chain type that has one."""
        types = dict.fromkeys(chain.name.type for chain in self.chains)
        return {one: tuple(chain for chain in self.chains if chain.name.type == one) for one in types}


def discover(settings: Settings, *, limit_s: float = isolation.LIMIT_S) -> Catalog:
    """Return all chains of the project; those that changed are imported, one process each, one per processor at a time.

    A chain whose import fails, dies or takes longer than `limit_s` is among the broken ones and harms no other.

    Raises:
        ProjectNotFound: there is no `chains/` folder.
    """
    found = finder.find(settings.chains_dir)
    answers: dict[ChainName, ChainDescription | BrokenChain] = {}
    unknown: list[ChainName] = []
    for chain in found.chains:
        kept = cache.load(settings, chain)
        if kept is None:
            unknown.append(chain)
        else:
            answers[chain] = kept
    answers.update(_import_all(settings, unknown, limit_s))
    described = [answers[chain] for chain in found.chains]
    broken = [BrokenChain(place.path, place.reason, "") for place in found.misplaced]
    broken += [answer for answer in described if isinstance(answer, BrokenChain)]
    return Catalog(
        chains=tuple(answer for answer in described if isinstance(answer, ChainDescription)),
        broken=tuple(sorted(broken, key=lambda one: one.path)),
    )


def describe(settings: Settings, chain: ChainName, *, limit_s: float = isolation.LIMIT_S) -> ChainDescription:
    """Return the description of one chain.

    Raises:
        ChainNotFound: the chain does not exist.
        ProjectNotFound: there is no `chains/` folder.
        ChainBroken: it cannot be imported; the message has the traceback's last line, the hint the file and line.
    """
    if not chain.is_in(settings.root):
        finder.find_chain(settings.chains_dir, chain.path)
    answer = cache.load(settings, chain) or _import(settings, chain, limit_s, threading.Event())
    if isinstance(answer, BrokenChain):
        raise broken_error(answer)
    return answer


def _import_all(
    settings: Settings, chains: list[ChainName], limit_s: float
) -> dict[ChainName, ChainDescription | BrokenChain]:
    if not chains:
        return {}
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=min(len(chains), os.cpu_count() or 1)) as pool:
        futures = {chain: pool.submit(_import, settings, chain, limit_s, stop) for chain in chains}
        try:
            return {chain: future.result() for chain, future in futures.items()}
        except BaseException:  # a person's Ctrl-C does not reach the importers' own sessions
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _import(
    settings: Settings, chain: ChainName, limit_s: float, stop: threading.Event
) -> ChainDescription | BrokenChain:
    answer = isolation.import_chain(settings.root, chain, limit_s=limit_s, stop=stop)
    if isinstance(answer, BrokenChain):
        return answer
    cache.save(settings, chain, answer)
    return answer.description
