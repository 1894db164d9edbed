"""Read secrets from a file of lines `NAME=value`, as python-dotenv reads it; config: `location`, by default `.env`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from nectar import errors


class DotenvSecrets:
    """Gives the values in a file, which is read anew for each question; a relative path is one in the project."""

    options: ClassVar[Mapping[str, type]] = {"location": str}

    def __init__(self, root: Path, location: str = ".env") -> None:
        self._path = root / os.path.expanduser(location)
        self._shown = location

    def get(self, name: str) -> str:
        """Return the value in the file.

        Raises:
            SecretNotFound: when there is no such file, or nothing of this name in it.
            SecretStoreUnreachable: when the file cannot be read.
        """
        import dotenv  # late: only who asks for a secret needs it

        try:
            with open(self._path, encoding="utf-8") as file:
                values = dotenv.dotenv_values(stream=file)
        except FileNotFoundError:
            raise errors.SecretNotFound(
                f"no secret `{name}`: there is no file `{self._shown}`",
                hint="write it, or set `location` in `[secrets]` of configuration/nectar.toml",
            ) from None
        except UnicodeDecodeError:
            raise errors.SecretStoreUnreachable(
                f"the secrets in `{self._shown}` cannot be read: it is no UTF-8", hint="save the file as UTF-8"
            ) from None  # the error would hold the whole file
        except OSError as error:
            raise errors.SecretStoreUnreachable(
                f"the secrets in `{self._shown}` cannot be read: {os.strerror(error.errno or 0).lower()}",
                hint="look at the file and the right to read it",
            ) from error
        value = values.get(name)
        if value is None:
            near = errors.did_you_mean(name, values)
            raise errors.SecretNotFound(
                f"no secret `{name}` in `{self._shown}`", hint=near or f"write a line `{name}=...` there"
            )
        return value
