"""Say in which shapes the value of a secret can turn up in what is written: escaped, quoted, encoded."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator

SHORTEST = 4  #: characters of a value that can be masked: shorter ones are in every text
_OF_A_LINE = 8  #: characters of a line of a value that is masked by itself: it may stand in a message of one line
_INNER = 8  #: characters of base64 that are a value's own wherever in the encoded bytes it begins


def forms_of(value: str) -> frozenset[bytes]:
    """Return the bytes by which a value is known: as it is, and its JSON, repr, percent and base64 encodings.

    Of a value of several lines each longer line counts by itself, too; of one that is too short there is nothing.
    """
    if len(value) < SHORTEST:
        return frozenset()
    lines = [line.strip() for line in value.splitlines()] if "\n" in value or "\r" in value else []
    texts = [value, *(line for line in lines if len(line) >= _OF_A_LINE)]
    if value.strip() != value and len(value.strip()) >= SHORTEST:
        texts.append(value.strip())
    return frozenset(form for text in texts for form in _forms(text))


def _forms(text: str) -> Iterator[bytes]:
    for escaped in (
        text,
        repr(text)[1:-1],
        repr(text + "'")[1:-2],  # in the other quotes
        repr(f"{text}'\"")[1:-4],  # with both kinds in the text around it
        ascii(text)[1:-1],
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        urllib.parse.quote(text, safe="", errors="surrogatepass"),
        urllib.parse.quote(text, errors="surrogatepass"),
        urllib.parse.quote_plus(text, errors="surrogatepass"),
    ):
        yield escaped.encode("utf-8", "surrogatepass")
    raw = text.encode("utf-8", "surrogatepass")
    yield repr(raw)[2:-1].encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).rstrip(b"=")
        for before in (1, 2):  # it may stand behind other bytes, as in `user:password`
            inner = encode(b"\0" * before + raw)[2 if before == 1 else 3 :]
            whole = inner.rstrip(b"=")
            whole = whole if (before + len(raw)) % 3 == 0 else whole[:-1]
            if len(whole) >= _INNER:
                yield whole
        if len(raw) % 3 and len(raw) >= _INNER:  # and before other bytes
            yield encode(raw).rstrip(b"=")[:-1]
