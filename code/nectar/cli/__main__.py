"""Let `python -m nectar.cli` be the command `nectar`."""

from __future__ import annotations

import sys

from nectar.cli.entry import main

sys.exit(main())
