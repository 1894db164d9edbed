"""Put the parts of a service together: settings, books, importers, supervisor."""

from __future__ import annotations

from nectar import errors
from nectar.runs import RunStore, open_books
from nectar.service.importers import Importers
from nectar.service.supervisor import Supervisor
from nectar.settings import Settings

BOOKS_S = 10.0  #: for which books that are locked or away are waited for: a request waits as long, and then says so


class Service:
    """What answers for the chains of one project, and carries their runs out."""

    def __init__(self, settings: Settings) -> None:
        """Open the books; nothing is started yet.

        Raises:
            RunStoreUnreachable, RunStoreInvalid, RunStoreNotSupported: when they cannot be opened.
        """
        self.settings = settings
        self.books: RunStore = open_books(settings.run_store_url, patience_s=BOOKS_S)
        self.books.take_in(settings.journals_dir)
        self.importers = Importers(settings)
        self.supervisor = Supervisor(settings, self.books, at_once=settings.serve.runs)

    def start(self) -> None:
        """Begin to carry out what waits in the queue."""
        self.supervisor.start()

    def check_open(self) -> None:
        """Make sure that runs are still taken.

        Raises:
            ServerBusy: when the server is about to end.
        """
        if self.supervisor.draining:
            raise errors.ServerBusy("the server is about to end, and takes no more runs", hint="ask the next one")

    def close(self) -> None:
        """End everything but the runs that are at work."""
        self.supervisor.stop()
        self.importers.close()
        self.books.close()
