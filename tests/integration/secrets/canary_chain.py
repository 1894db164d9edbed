"""Chains that try to give secrets away, each task in its own way."""

CHAIN = '''
"""Tasks that show what they should not."""

import base64
import ctypes
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import urllib.parse
import warnings
from pathlib import Path

import luigi

import nectar


class OddError(Exception):
    def __init__(self, value):
        self.parts = (object(), value)

    def __str__(self):
        return f"odd {self.parts[1]}"


def fetch_and_print(name):
    print("in a process of its own", nectar.get_secret(name), flush=True)


def before_the_others(name):
    value = nectar.get_secret(name)
    print("a child of a fork", value, flush=True)
    raise ValueError(value)


class NeededTask(nectar.Task):
    case = luigi.Parameter()

    def run(self):
        self.dump("needed")


class LeakTask(nectar.Task):
    """Gives its secret away."""

    case = luigi.Parameter()
    secret = nectar.SecretParameter()
    retry_count = 2
    folder = luigi.Parameter(significant=False, default=".")

    @property
    def worker_timeout(self):
        return 3 if self.case == "limit" else None

    def run(self):
        if self.case == "yields":
            return self.yields()
        getattr(self, self.case)(self.secret.reveal())
        if self.case != "unwritten":
            self.dump("made")

    def raises(self, value):
        raise RuntimeError(f"cannot log in with {value}", {"password": value})

    def chained(self, value):
        try:
            {}[value]
        except KeyError as error:
            raise ConnectionError(2, "no way", f"/{value}") from error

    def odd(self, value):
        raise OddError(value)

    def prints(self, value):
        print("the secret is", value, [value], json.dumps(value))
        print("the secret is", value, file=sys.stderr)

    def child(self, value):
        subprocess.run(["sh", "-c", 'echo "out $S"; echo "err $S" >&2'], env={**os.environ, "S": value}, check=True)

    def exits(self, value):
        os.write(1, f"before the end {value}".encode())
        os._exit(3)

    def killed(self, value):
        print("before the kill", value, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def limit(self, value):
        print("before the limit", value, flush=True)
        threading.Event().wait()

    def again(self, value):
        mark = Path(f"{self.secret}.{os.environ['CANARY_RUN']}")
        print("attempt", value)
        if not mark.exists():
            mark.write_text("tried")
            raise RuntimeError(f"first {value}")

    def unwritten(self, value):
        print(value)

    def flood(self, value):
        line = 'i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo "$S"; done | tee /dev/stderr'
        subprocess.run(["sh", "-c", line], env={**os.environ, "S": value * 20}, check=True)
        lines = "(b'xyz%b ' % os.environb[b'S'] + b'.' * 900 + bytes([10])) * 500"
        many = f"import os; [os.write(1, {lines}) for _ in range(80)]"
        subprocess.run([sys.executable, "-c", many], env={**os.environ, "S": value}, check=True)

    def bytes(self, value):
        os.write(1, b"\\xff\\xfe\\xc3" + value.encode() + b"\\xc3\\n" + repr(value.encode()).encode())

    def split(self, value):
        raw = value.encode()
        for at in range(len(raw)):
            os.write(1, raw[at : at + 1])
        os.write(2, raw[:5])
        subprocess.run(["sh", "-c", 'printf %s "$S" >&2'], env={**os.environ, "S": value[5:]}, check=True)

    def yields(self):
        print("before", self.secret.reveal())
        yield NeededTask(case="yields")
        print("after", self.secret.reveal())
        yield NeededTask(case=f"{self.secret.reveal()}")

    def on_failure(self, error):
        if self.case in ("handler", "raises"):
            print("handler", error, self.secret.reveal())
            return f"explained {error!r} {self.secret.reveal()}"
        return super().on_failure(error)

    def on_success(self):
        if self.case == "prints":
            print("it went well", self.secret.reveal())

    def handler(self, value):
        raise ValueError(value)

    def status(self, value):
        self.set_status_message(f"logged in with {value}")
        self.set_tracking_url(f"https://user:{urllib.parse.quote(value, safe='')}@host/")
        self.set_status_message("done")

    def metric(self, value):
        nectar.track_this(password=value, deep={value: [value]})

    def logs(self, value):
        logging.getLogger("a.chain").error("as %s", value)
        logging.getLogger("luigi-interface").warning(f"luigi's own {value}")
        try:
            raise ValueError(value)
        except ValueError:
            logging.getLogger("a.chain").exception("it failed")
        warnings.warn(value)

    def thread(self, value):
        def fail():
            raise ValueError(value)

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    def forks(self, value):
        context = multiprocessing.get_context("fork")
        process = context.Process(target=before_the_others, args=(f"{self.secret}_2",))
        process.start()
        process.join()

    def spawns(self, value):
        context = multiprocessing.get_context("spawn")
        for name in (str(self.secret), f"{self.secret}_2"):
            process = context.Process(target=fetch_and_print, args=(name,))
            process.start()
            process.join()

    def spawns_first(self):
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=fetch_and_print, args=(str(self.secret),))
        process.start()
        process.join()

    def c_code(self, value):
        ctypes.CDLL(None).printf(b"%s\\n", ctypes.c_char_p(value.encode()))

    def shapes(self, value):
        print(base64.b64encode(value.encode()).decode(), base64.b64encode(b"user:" + value.encode()).decode())
        print(base64.urlsafe_b64encode(b"me:" + value.encode()).decode(), ascii(value), repr(value), json.dumps(value))
        print(urllib.parse.quote(value), urllib.parse.quote_plus(value), urllib.parse.urlencode({"p": value}))

    def daemon(self, value):
        later = 'while [ ! -e "$0" ]; do sleep 0.05; done; echo "a daemon $S"; echo "a daemon $S" >&2'
        words = ["sh", "-c", later, f"{os.getcwd()}/go.{os.environ['CANARY_RUN']}"]
        subprocess.Popen(words, env={**os.environ, "S": value}, start_new_session=True)

    def parameter(self, value):
        NeededTask(case=value)


@nectar.Task.event_handler(luigi.Event.FAILURE)
def told(task, error):
    print("told of", error, file=sys.stderr)


class SpawnFirstTask(LeakTask):
    def run(self):
        self.spawns_first()
        self.dump("made")


class AllTask(luigi.WrapperTask):
    cases = luigi.Parameter()

    def requires(self):
        return [SpawnFirstTask(case="spawns_first", secret="spawns_first")] + [
            LeakTask(case=case, secret=case) for case in self.cases.split("-")
        ]
'''

#: what must not end the process that carries tasks out
MILD = (
    "raises", "chained", "odd", "prints", "child", "again", "unwritten", "bytes", "split", "yields", "handler",
    "status", "metric", "logs", "thread", "forks", "spawns", "c_code", "shapes", "daemon", "parameter",
)  # fmt: skip
HARD = ("exits", "killed", "limit")
LONG = ("flood",)  #: what takes seconds

BROKEN = '''
"""A chain that cannot be imported, and tells why."""

import nectar

print("importing with", nectar.get_secret("broken"), flush=True)
raise RuntimeError(nectar.get_secret("broken"))
'''

DEAD = '''
"""A chain whose import ends the process, after a last word."""

import os

import nectar

os.write(1, f"the last word is {nectar.get_secret('dead')}\\n".encode())
os._exit(3)
'''

DEFAULTS = '''
"""A chain with a secret as the default of a parameter, and a task whose requires() raises."""

import luigi

import nectar


class DefaultTask(nectar.Task):
    password = luigi.Parameter(default=nectar.get_secret("default"))

    def run(self):
        self.dump("made")


class RequiresTask(nectar.Task):
    def requires(self):
        raise ValueError(nectar.get_secret("requires"))
'''
