"""A program that is forked ends, says and sees what the same program says and sees when it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ready_python
from guard import wait_until

LIMIT_S = 60.0
PROGRAMS = {
    "nothing": "pass",
    "streams": "import sys; print('out'); print('err', file=sys.stderr)",
    "input": "import sys; print(repr(sys.stdin.read()))",
    "code": "import sys; sys.exit(7)",
    "negative code": "import sys; sys.exit(-1)",
    "words at the end": "import sys; sys.exit('no')",
    "no code": "raise SystemExit",
    "error": "raise ValueError('bad')",
    "interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('never')",
    "killed": "import os, signal; print('lost'); os.kill(os.getpid(), signal.SIGKILL)",
    "os._exit": "import os; os._exit(3)",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()",
    "at exit": "import atexit; atexit.register(print, 'bye'); print('hello')",
    "place": "import os, sys; print(os.getcwd(), sys.argv, sys.path, os.environ['A_WORD'], 'PAGER' in os.environ)",
    "main": "import __main__, sys; x = 1; print(__main__.x, __name__, sorted(n for n in globals() if n[0] != '_'))",
    "anew": "import sys; print([n for n in sys.modules if n.partition('.')[0] in ('nectar', 'luigi', 'chains')])",
    "files": "import os; print(sorted(os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')))",
    "spawned": """
import multiprocessing, os
if __name__ == '__main__':
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        print(pool.apply(os.getcwd), pool.apply(abs, (-1,)))
""",
    "signals": "import signal; print([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)])",
}


def started(words: list[str], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(words, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S)


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PAGER", "PYTHONPATH")}
    return kept | {"A_WORD": "ünï", "PYTHONPATH": str(folder)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_ends_and_says_what_it_does_when_it_is_started(name: str, tmp_path: Path) -> None:
    env, words = environment(tmp_path), [sys.executable, "-c", PROGRAMS[name], "a", "b c"]
    one, other = ready_python.run(words, cwd=tmp_path, env=env, timeout=LIMIT_S), started(words, tmp_path, env)
    assert one.args == words
    assert (one.returncode, one.stdout) == (other.returncode, other.stdout)
    said = [raw.decode().splitlines() for raw in (one.stderr, other.stderr)]
    assert said[0][-1:] == said[1][-1:] and bool(one.stderr) == bool(other.stderr)


def test_a_script_is_run_with_its_words_and_the_code_of_its_environment(tmp_path: Path) -> None:
    words = [str(Path(sys.executable).with_name("nectar")), "plan", "no/such_chain", "NoTask"]
    env = {**os.environ, "NECTAR_PROJECT": str(tmp_path)}
    one, other = ready_python.run(words, cwd=tmp_path, env=env, timeout=LIMIT_S), started(words, tmp_path, env)
    assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)
    assert one.returncode == 2 and one.stderr.startswith(b"error: ")


def test_two_programs_in_a_row_have_different_hashes(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "print(hash('a word'))"]
    seen = {ready_python.run(words, cwd=tmp_path, env=environment(tmp_path), timeout=LIMIT_S).stdout for _ in range(2)}
    assert len(seen) == (1 if os.environ.get("PYTHONHASHSEED", "random") != "random" else 2)


def test_what_python_heeds_only_at_its_start_is_heeded(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import sys; print(sys.flags.dev_mode)"]
    env = environment(tmp_path) | {"PYTHONDEVMODE": "1"}
    assert ready_python.run(words, cwd=tmp_path, env=env, timeout=LIMIT_S).stdout == b"True\n"


def test_a_program_that_takes_too_long_is_killed_and_what_it_said_is_told(tmp_path: Path) -> None:
    script = "import os, sys; print(os.getpid(), flush=True); sys.stderr.write('x' * 200_000); sys.stdin.read(); "
    words = [sys.executable, "-c", script + "import threading; threading.Event().wait()"]
    with pytest.raises(subprocess.TimeoutExpired) as late:
        ready_python.run(words, cwd=tmp_path, env=environment(tmp_path), timeout=0.5)
    assert late.value.stdout and late.value.stderr
    place = Path("/proc", late.value.stdout.decode().strip())
    wait_until(lambda: not place.exists(), "the process is gone")


def test_programs_run_side_by_side(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    talk = ["open('pipe', 'w').write('heard')", "print(open('pipe').read())"]
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(
            lambda code: (
                ready_python.run(
                    [sys.executable, "-c", code], cwd=tmp_path, env=environment(tmp_path), timeout=LIMIT_S
                ).stdout
            ),
            [talk[1], talk[0]],
        )
        assert list(answers) == [b"heard\n", b""]
