"""Give nodes names that every engine takes: `[a-z0-9-]`, at most 60 characters, no two the same.

The narrowest are Kubernetes' labels (RFC 1123, 63 characters): lower case, digits, dashes, none of these at an end.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

LONGEST = 60  #: characters of a name
_DIGITS = (8, 16, 48)  #: hex digits behind a name that several have; more where that, too, is somebody's


def slug(text: str, longest: int = LONGEST) -> str:
    """Return what is left of a text in a name; never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", plain).lower()
    kept = re.sub(r"[^a-z0-9]+", "-", apart).strip("-")
    return kept[:longest].rstrip("-") or "node"


def unique_names(titles: Mapping[str, str]) -> dict[str, str]:
    """Return a name for each key of a mapping key -> title.

    A name depends on its own title, and on whether others would have it too: then it ends in digits of the key's
    sha256, so that no name depends on the order.
    """
    names = {key: slug(title) for key, title in titles.items()}
    for digits in _DIGITS:
        count = Counter(names.values())
        if len(count) == len(names):
            break
        names = {key: name if count[name] == 1 else _with_digits(name, key, digits) for key, name in names.items()}
    return names


def _with_digits(name: str, key: str, digits: int) -> str:
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
    return f"{name[: LONGEST - digits - 1].rstrip('-')}-{digest}"
