"""What is sealed is described as it lies there."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nectar.recording.sealing import seal


def test_each_file_has_its_size_and_its_sha256_unless_it_is_hashed_while_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for name, size in (("at.bin", 1000), ("above.bin", 1001)):
        (tmp_path / name).write_bytes(b"x" * size)
    above, at = seal(str(tmp_path), ("at.bin",), "task", unhashed_above=1000)
    assert (at.size, at.sha256) == (1000, hashlib.sha256(b"x" * 1000).hexdigest())
    assert (above.size, above.sha256) == (1001, "")
    assert all(one.sha256 for one in seal(str(tmp_path), (), "task"))
    assert not any(path.stat().st_mode & 0o222 for path in tmp_path.glob("*.bin"))
