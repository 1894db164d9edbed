"""Whatever happens to a worker process is the failure of the one task that it was at, and of nothing else."""

from __future__ import annotations

import os
import signal
import time

import pytest

CHAIN = """
    QUICK = 20


    class StepTask(nectar.Task):
        n = luigi.IntParameter()
        deed = luigi.Parameter(default="nothing", significant=False)

        def run(self):
            with open("began", "a") as file:
                file.write(f"{self.n}\\n")
            DEEDS.get(self.deed, lambda task: None)(self)
            self.dump(str(self.n))

        def on_success(self):
            self.note_end()

        def on_failure(self, exception):
            self.note_end()
            return super().on_failure(exception)

        def note_end(self):
            with open("ended", "a") as file:
                file.write(f"{self.n}\\n")


    class QuickTask(nectar.Task):
        n = luigi.IntParameter()

        def run(self):
            with open("began", "a") as file:
                file.write(f"{self.n}\\n")
            place = pathlib.Path("hurt")
            if self.n == 10 and place.exists():
                place.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            self.dump(str(self.n))


    class FirstTask(QuickTask):
        n = luigi.IntParameter(default=-1)


    class BatchTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [BatchMemberTask(n=n) for n in range(-4, QUICK)]


    class BatchMemberTask(QuickTask):
        def requires(self):
            return [BatchMemberTask(n=n) for n in range(-4, 0)] if self.n >= 0 else []


    def hard_exit(task):
        os._exit(0)


    def kill_myself(task):
        os.kill(os.getpid(), signal.SIGKILL)


    def segfault(task):
        import ctypes

        print("soon gone", flush=True)
        ctypes.string_at(0)


    def out_of_memory(task):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
        bytearray(4 << 30)


    def flood(task):
        block = "x" * 1023 + "\\n"
        for _ in range(100 * 1024):
            sys.stdout.write(block)


    def not_utf8(task):
        os.write(1, b"\\xff\\xfe broken \\xc3\\x28\\n")
        sys.stdout.buffer.write(b"\\x80\\x81\\n")
        raise ValueError("not utf-8 \\udcff either")


    def become_a_daemon():
        if os.fork():
            os.wait()
            return False
        os.setsid()
        if os.fork():
            os._exit(0)
        return True


    def leave_a_daemon(task):
        if become_a_daemon():
            os.execvp("sleep", ["sleep", "1000"])


    def leave_a_daemon_of_subprocess(task):
        subprocess.Popen(["sleep", "1000"], start_new_session=True, close_fds=False)


    def leave_a_forked_daemon(task):
        if become_a_daemon():
            time.sleep(1000)


    def leave_a_silent_daemon(task):
        if become_a_daemon():
            for descriptor in range(3):
                os.close(descriptor)
            time.sleep(1000)


    def leave_a_child(task):
        subprocess.Popen(["sleep", "1000"])


    def fork_and_exit_politely(task):
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        os.waitpid(pid, 0)


    def fork_and_return(task):
        if os.fork():
            os.wait()


    def multiprocess(task):
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing

        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
            assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]


    def trackers():
        mark = f"ENGINE_TEST_MARK={os.environ['ENGINE_TEST_MARK']}".encode()
        found = 0
        for place in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                ours = mark in (place / "environ").read_bytes()
                found += ours and b"resource_tracker" in (place / "cmdline").read_bytes()
            except OSError:  # it has just ended
                pass
        return found


    def share_memory_with_a_child(task):
        import multiprocessing
        from multiprocessing.shared_memory import SharedMemory

        def make(pipe):
            made = SharedMemory(create=True, size=10)
            made.buf[:5] = b"honey"
            pipe.send(made.name)

        here, there = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=make, args=(there,))
        child.start()
        name = here.recv()
        child.join()
        while trackers() > 1:  # one of the child's own would free the memory with its own end
            time.sleep(0.02)
        given = SharedMemory(name=name)
        assert bytes(given.buf[:5]) == b"honey"
        given.close()
        given.unlink()


    def die_with_shared_memory(task):
        from multiprocessing.shared_memory import SharedMemory

        pathlib.Path("shared").write_text(SharedMemory(create=True, size=10).name)
        kill_myself(task)


    def tell_from_a_child(task):
        task.set_status_message("from the task")
        pid = os.fork()
        if pid == 0:
            task.set_status_message("from its child")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0


    def chatter_in_threads(task):
        def chat(number):
            for count in range(300):
                task.set_status_message(f"{number} {count} " + "x" * 40_000)

        threads = [threading.Thread(target=chat, args=(number,)) for number in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()


    def leave_a_thread(task):
        threading.Thread(target=time.sleep, args=(1000,), daemon=False).start()


    def exit_by_exception(task):
        sys.exit(0)


    DEEDS = {name: deed for name, deed in list(globals().items()) if callable(deed)}


    class AllTask(nectar.Task, luigi.WrapperTask):
        deed = luigi.Parameter()

        def requires(self):
            return [StepTask(n=n, deed=self.deed if n == 3 else "nothing") for n in range(8)]


    class AfterTask(nectar.Task):
        deed = luigi.Parameter()

        def requires(self):
            return StepTask(n=3, deed=self.deed)

        def run(self):
            self.dump("after")


    class DeedTask(nectar.Task, luigi.WrapperTask):
        deed = luigi.Parameter()

        def requires(self):
            return [AllTask(deed=self.deed), AfterTask(deed=self.deed)]


    class PlainForkTask(luigi.Task):
        n = luigi.IntParameter()

        def output(self):
            return luigi.LocalTarget(f"plain.{self.n}")

        def run(self):
            if self.n == 0:
                fork_and_return(self)
            with self.output().open("w") as file:
                file.write("made")

        def on_success(self):
            with open("ended", "a") as file:
                file.write(f"{self.n}\\n")


    class PlainForksTask(luigi.WrapperTask):
        def requires(self):
            return [PlainForkTask(n=n) for n in range(4)]


    class TimedTask(nectar.Task):
        worker_timeout = 1

        def run(self):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 1000; sleep 1000"])
            print("hanging", flush=True)
            while True:
                time.sleep(1)


    class LateTask(nectar.Task):
        worker_timeout = 1

        def run(self):
            asked = threading.Event()
            signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
            while not asked.wait(0.02):
                pass
            self.dump("late, but in time for the grace")


    class InnocentTask(nectar.Task):
        def run(self):
            pathlib.Path("innocent").touch()
            time.sleep(1.5)
            self.dump("innocent")


    class BesideTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [TimedTask(), *(StepTask(n=n) for n in range(4))]


    class LateAndInnocentTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [LateTask(), InnocentTask()]


    class WaitTask(nectar.Task):
        n = luigi.IntParameter()

        def run(self):
            pathlib.Path(f"pid.{self.n}").write_text(str(os.getpid()))
            while not pathlib.Path("go").exists():
                time.sleep(0.02)
            self.dump(str(self.n))


    class WaitsTask(nectar.Task, luigi.WrapperTask):
        def requires(self):
            return [WaitTask(n=n) for n in range(4)]
"""

FAILED = "StepTask(n=3)"
OTHERS = [f"StepTask(n={n})" for n in range(8) if n != 3]


@pytest.fixture
def chain(project):
    project.chain(CHAIN)
    return project


def begun_anew(chain):
    """Return the tasks of a batch that had run, and not been committed, when the worker died."""
    began = chain.lines("began")
    return {n for n in began if began.count(n) == 2}


def failed_alone(chain, deed, **options):
    """Run a chain in which one task does a deed; check that it alone fails, and return its step."""
    ended = chain.run("DeedTask", params={"deed": deed}, workers=2, **options)
    statuses = ended.statuses
    assert ended.code == 1
    assert statuses[FAILED] == "failed", ended.err
    assert [name for name in OTHERS if statuses[name] != "succeeded"] == []
    assert [name for name, status in statuses.items() if status == "not run"] == [
        f"AllTask(deed={deed})",
        f"AfterTask(deed={deed})",
        f"DeedTask(deed={deed})",
    ]
    assert chain.lines("began").count("3") == 1
    assert len(chain.failures("StepTask")) - len(begun_anew(chain)) == 1
    assert chain.staged() == []
    chain.check_store()
    chain.nothing_runs()
    return ended.steps[FAILED]


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("hard_exit", "exit code 0"),
        ("kill_myself", "SIGKILL"),
        ("segfault", "SIGSEGV"),
        ("out_of_memory", "MemoryError"),
        ("exit_by_exception", "SystemExit"),
        ("not_utf8", "ValueError: not utf-8"),
    ],
)
def test_a_task_that_ends_its_worker_or_raises_fails_alone(chain, deed, words):
    step = failed_alone(chain, deed)
    assert words in step["error"]
    assert (chain.store / step["logs"]).is_dir()


def test_output_that_is_not_utf8_is_kept_byte_for_byte(chain):
    step = failed_alone(chain, "not_utf8")
    assert (chain.store / step["logs"] / "stdout.log").read_bytes() == b"\xff\xfe broken \xc3\x28\n\x80\x81\n"
    shown = chain.nectar("logs", "etl/engine_chain", "StepTask", "--n", "3")
    assert "broken" in shown.out + shown.err


def test_what_a_crashed_task_had_printed_is_kept(chain):
    step = failed_alone(chain, "segfault")
    assert (chain.store / step["logs"] / "stdout.log").read_text() == "soon gone\n"


def test_a_crash_in_the_middle_of_a_batch_costs_one_job(chain):
    (chain.root / "hurt").touch()
    ended = chain.run("BatchTask", executor="processes")
    assert ended.counts == {"succeeded": 23, "failed": 1, "not run": 1}
    assert ended.statuses["BatchMemberTask(n=10)"] == "failed"
    assert chain.lines("began").count("10") == 1
    chain.check_store()
    assert chain.staged() == []
    again = chain.run("BatchTask", executor="processes").ok()
    assert again.statuses["BatchMemberTask(n=10)"] == "succeeded"


def test_a_worker_killed_from_outside_is_replaced(chain, until):
    run = chain.start_run("WaitsTask", workers=2)
    pids = until(lambda: [place.read_text() for place in sorted(chain.root.glob("pid.*")) if place.read_text()][1:])
    os.kill(int(pids[0]), signal.SIGKILL)
    until(lambda: len(list(chain.root.glob("pid.*"))) >= 3)  # another worker has begun another task
    (chain.root / "go").touch()
    ended = run.ended()
    assert ended.counts == {"succeeded": 3, "failed": 1, "not run": 1}
    chain.nothing_runs()


def test_a_hang_that_ignores_term_ends_with_its_children_as_the_failure_of_its_task(chain):
    ended = chain.run("BesideTask", grace_s=1.0)
    assert ended.counts == {"succeeded": 4, "failed": 1, "not run": 1}
    step = ended.steps["TimedTask()"]
    assert step["error"] == "it ran longer than its time limit of 1 s"
    assert (chain.store / step["logs"] / "stdout.log").read_text() == "hanging\n"
    chain.nothing_runs()


def test_a_task_that_ends_within_the_grace_does_not_take_the_next_one_with_it(chain):
    ended = chain.run("LateAndInnocentTask", grace_s=0.7)
    assert ended.statuses["InnocentTask()"] == "succeeded", ended.steps


def test_of_a_hundred_megabytes_of_output_head_and_tail_are_in_the_log(chain):
    ended = chain.run("AllTask", params={"deed": "flood"}, workers=2).ok()
    log = (chain.target("StepTask", n=3) / "log" / "stdout.log").read_bytes()
    assert 16 << 20 < len(log) < 36 << 20
    assert b"MiB of this log were left out]" in log
    assert len(ended.out) < 1000


@pytest.mark.parametrize("deed", ["leave_a_child", "multiprocess", "leave_a_thread"])
def test_children_and_threads_of_a_task_harm_nobody_and_end_with_the_run(chain, deed):
    began = time.monotonic()
    ended = chain.run("DeedTask", params={"deed": deed}, workers=2, grace_s=1.0).ok()
    assert time.monotonic() - began < 10
    assert ended.counts == {"succeeded": 11}
    chain.nothing_runs()


@pytest.mark.parametrize(
    "deed", ["leave_a_daemon", "leave_a_daemon_of_subprocess", "leave_a_forked_daemon", "leave_a_silent_daemon"]
)
def test_a_daemon_that_a_task_leaves_behind_holds_nothing_up(chain, until, deed):
    began = time.monotonic()
    chain.run("DeedTask", params={"deed": deed}, workers=2).ok()
    assert time.monotonic() - began < 8
    until(lambda: len(chain.processes()) == 1, 3.0)  # the daemon, which left its group on purpose
    chain.end_all()
    assert chain.nectar("run", "etl/engine_chain", "DeedTask", "--deed", deed).code == 0


def test_shared_memory_of_a_child_of_a_task_outlives_the_child(chain):
    chain.run("DeedTask", params={"deed": "share_memory_with_a_child"}, workers=2).ok()
    chain.nothing_runs()


def test_shared_memory_of_a_task_that_died_is_freed_with_the_run(chain, until):
    failed_alone(chain, "die_with_shared_memory")
    [name] = chain.lines("shared")
    until(lambda: not os.path.exists(f"/dev/shm/{name}"))


def test_a_forked_child_of_a_task_cannot_talk_to_the_engine(chain):
    ended = chain.run("DeedTask", params={"deed": "tell_from_a_child"}, workers=2).ok()
    words = [event["detail"] for event in ended.answer["events"] if event["event"] == "step message"]
    assert words == ["from the task"]


@pytest.mark.parametrize("executor", ["inline", "processes"])
@pytest.mark.parametrize("deed", ["fork_and_exit_politely", "fork_and_return"])
def test_a_forked_child_that_comes_back_is_no_second_engine(chain, deed, executor):
    ended = chain.run("DeedTask", params={"deed": deed}, executor=executor, grace_s=1.0)
    assert ended.counts == {"succeeded": 11}
    chain.nothing_runs()
    assert sorted(chain.lines("began")) == sorted(chain.lines("ended")) == sorted(map(str, range(8)))
    assert chain.record("StepTask", n=3)["attempt"]["number"] == 1
    assert chain.failures() == []


@pytest.mark.parametrize(
    "executor",
    [
        "processes",
        "inline",
    ],
)
def test_a_child_that_a_plain_luigi_task_forks_is_no_second_engine(chain, executor):
    chain.run("PlainForksTask", executor=executor).ok()
    chain.nothing_runs()
    assert sorted(chain.lines("ended")) == ["0", "1", "2", "3"]


def test_words_of_progress_from_many_threads_all_arrive(chain):
    ended = chain.run("DeedTask", params={"deed": "chatter_in_threads"}, workers=2)
    assert ended.counts == {"succeeded": 11}
    words = [event["detail"] for event in ended.answer["events"] if event["event"] == "step message"]
    assert sorted(word.split()[:2] for word in words) == sorted([str(n), str(c)] for n in range(8) for c in range(300))
