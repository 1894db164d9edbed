"""Task parameters follow the task's name, whatever they are called and whatever their values are."""

from __future__ import annotations

import json

import pytest

#: options of luigi, of nectar and of Python's and pytest's habits, and single letters
CLASHING = [
    *("workers", "json", "help", "module", "version", "local_scheduler", "scheduler_url", "log_level", "lock_pid_dir"),
    *("all", "url", "quiet", "echo", "attempt", "stdout", "from_", "tags", "force", "task", "chain", "words", "name"),
    *("n", "b", "e", "h", "l", "m", "p", "r", "s", "w", "q", "v"),
]
NAMES = "class NamesTask(nectar.Task):\n" + "".join(f"    {name} = luigi.Parameter(default='')\n" for name in CLASHING)
NAMES += "    def run(self):\n        import json\n        self.dump(json.dumps(self.param_kwargs))\n"

TYPES = """
import datetime, enum
import luigi
import nectar

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

class TypesTask(nectar.Task):
    text = luigi.Parameter(default="")
    number = luigi.IntParameter(default=0)
    share = luigi.FloatParameter(default=0.5)
    flag = luigi.BoolParameter()
    on = luigi.BoolParameter(default=True, parsing=luigi.BoolParameter.EXPLICIT_PARSING)
    day = luigi.DateParameter(default=datetime.date(2024, 1, 1))
    colour = luigi.EnumParameter(enum=Colour, default=Colour.RED)
    items = luigi.ListParameter(default=[])
    table = luigi.DictParameter(default={})
    def run(self):
        import json
        self.dump(json.dumps({name: str(value) for name, value in self.param_kwargs.items()}))
"""
VALUES = {
    "spaces": "  two  words ",
    "newline": "two\nlines\n",
    "shell": "$(id) `id` ; | & > < * ~ ! \\ '\"",
    "template": "{{7*7}} ${HOME} %s {0}",
    "markup": "[red]no[/red] :smile: [/]",
    "unicode": "ünï 日本 🎉 e\u0301 \u202e",
    "one dash": "-5",
    "two dashes": "--json",
    "dashes": "--",
    "equals": "a=b=c",
    "path": "../../etc/passwd",
    "empty": "",
    "long": "x" * 20_000,
    "control": "\x1b[31m\x07\x01",
}


@pytest.fixture
def typed(project):
    project.chain("etl/types_chain", TYPES)
    return project


def test_no_name_of_a_parameter_clashes_with_an_option(project):
    project.chain("etl/names_chain", NAMES)
    words = [word for name in CLASHING for word in (f"--{name.replace('_', '-')}", f"value of {name}")]
    folder = project.make("etl/names_chain", "NamesTask", *words)
    expected = {name: f"value of {name}" for name in CLASHING}
    assert json.loads((folder / "out.txt").read_text()) == expected
    assert json.loads((folder / "params.txt").read_text()) == expected
    for command in ("plan", "show", "path"):
        assert project.nectar(command, "--json", "etl/names_chain", "NamesTask", *words).code == 0


@pytest.mark.parametrize("joined", [True, False], ids=["--name=value", "--name value"])
def test_a_value_comes_through_as_it_is(project, joined):
    names = [name.replace(" ", "_") for name in VALUES]
    lines = [f"    {name} = luigi.Parameter(default='unset')" for name in names]
    lines += ["    def run(self):", "        import json", "        self.dump(json.dumps(self.param_kwargs))"]
    project.chain("etl/values_chain", "\n".join(["class ValuesTask(nectar.Task):", *lines]))
    expected = dict(zip(names, VALUES.values(), strict=True))
    pairs = [("--" + name.replace("_", "-"), value) for name, value in expected.items()]
    words = [word for name, value in pairs for word in ([f"{name}={value}"] if joined else [name, value])]
    folder = project.make("etl/values_chain", "ValuesTask", *words)
    assert json.loads((folder / "out.txt").read_text()) == expected
    assert json.loads((folder / "params.txt").read_text()) == expected
    assert len(folder.name) == 32
    assert {place.name for place in folder.parent.iterdir()} <= {folder.name, ".staging"}
    shown = project.nectar("show", "--json", "etl/values_chain", "ValuesTask", *words).json
    assert shown["record"]["identity"]["params"] == expected


def test_every_type_is_read_from_its_text(typed):
    words = ["--number", "-5", "--share=-0.25", "--flag", "--on", "false", "--day", "2024-02-29", "--colour", "BLUE"]
    words += ["--items", '[1, "b"]', "--table", '{"a": [1, 2]}']
    made = json.loads((typed.make("etl/types_chain", "TypesTask", *words) / "out.txt").read_text())
    assert (made["number"], made["share"], made["flag"], made["on"]) == ("-5", "-0.25", "True", "False")
    assert (made["day"], made["colour"]) == ("2024-02-29", "Colour.BLUE")


@pytest.mark.parametrize("words", [["--flag"], ["--flag", "true"], ["--flag=true"], ["--flag", "True"]])
def test_a_flag_needs_no_value_and_may_have_one(typed, words):
    with_flag = typed.nectar("path", "etl/types_chain", "TypesTask", *words).out
    assert with_flag == typed.nectar("path", "etl/types_chain", "TypesTask", "--flag", "--text", "").out
    assert with_flag != typed.nectar("path", "etl/types_chain", "TypesTask", "--flag", "false").out


def test_dashes_and_underscores_of_a_name_are_one(project):
    project.chain("etl/names_chain", NAMES)
    paths = {
        project.nectar("path", "etl/names_chain", "NamesTask", name, "x").out for name in ("--log-level", "--log_level")
    }
    assert len(paths) == 1


@pytest.mark.parametrize("command", ["run", "plan", "show", "adopt"])
def test_all_that_is_wrong_with_parameters_is_said_at_once_and_nothing_is_made(project, command):
    answer = project.nectar(command, "etl/daily_chain", "LoadTask", "--dya", "3", "--scheduler-url", "http://x")
    answer.failed(2, "`dya`", "did you mean `day`?", "scheduler_url", "needs a value for `day`", "give `day` a value")
    wrong = project.nectar(command, "etl/daily_chain", "ReportTask", "--day", "x", "--kind", "tiny", "--module", "os")
    wrong.failed(2, "`day` cannot be `x`", "`kind` cannot be `tiny`", "`module`")
    assert not project.store.exists()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["stray"], "`stray` belongs to no parameter"),
        (["-d", "3"], "`-d` belongs to no parameter"),
        (["--day"], "`--day` has no value"),
        (["--day", "1", "--day", "2"], "`day` is given twice"),
        (["--day", "1", "more"], "`more` belongs to no parameter"),
    ],
    ids=["stray", "one dash", "no value", "twice", "two values"],
)
def test_words_that_are_no_parameters_are_refused(project, words, what):
    project.nectar("run", "etl/daily_chain", "LoadTask", *words).failed(2, what)
    assert not project.store.exists()


def test_choices_are_named_when_a_value_is_none_of_them(project):
    answer = project.nectar("run", "etl/daily_chain", "ReportTask", "--kind", "tiny").failed(2)
    assert "long" in answer.err and "short" in answer.err


def test_private_values_are_masked_in_what_is_wrong_with_them_and_in_what_lies_on_disk(project):
    private = "visibility=luigi.parameter.ParameterVisibility.PRIVATE"
    project.chain(
        "etl/secret_chain",
        f"""
        class TokenTask(nectar.Task):
            token = luigi.IntParameter({private})
            def run(self):
                self.dump("made")
        """,
    )
    words = ("etl/secret_chain", "TokenTask", "--token")
    assert "swordfish" not in project.nectar("run", *words, "swordfish").failed(2, "token").err
    project.make(*words, "48151623")
    assert not [name for name, content in project.kept().items() if b"48151623" in content]


SECRET = """
class TokenTask(nectar.Task):
    token = luigi.Parameter(visibility=luigi.parameter.ParameterVisibility.PRIVATE, default="swordfish")
    def run(self):
        self.dump("made")

class UserTask(nectar.Task):
    def requires(self):
        return TokenTask(token="swordfish")
    def run(self):
        self.dump("made")

class FailingTask(nectar.Task):
    token = luigi.Parameter(visibility=luigi.parameter.ParameterVisibility.PRIVATE)
    def run(self):
        raise ValueError("no")
"""


def test_a_private_value_is_in_no_record_of_those_who_require_the_task(project):
    project.chain("etl/secret_chain", SECRET)
    project.make("etl/secret_chain", "UserTask")
    assert not [name for name, content in project.kept().items() if b"swordfish" in content]


@pytest.mark.parametrize("words", [["plan"], ["plan", "--json"], ["explain"], ["run"], ["show"]], ids=" ".join)
def test_a_private_value_is_never_printed(project, words):
    project.chain("etl/secret_chain", SECRET)
    if words == ["show"]:
        project.make("etl/secret_chain", "UserTask")
    answer = project.nectar(*words, "etl/secret_chain", "UserTask")
    assert "swordfish" not in answer.out + answer.err


def test_the_hint_after_a_failure_does_not_repeat_a_private_value(project):
    project.chain("etl/secret_chain", SECRET)
    answer = project.nectar("run", "etl/secret_chain", "FailingTask", "--token", "swordfish")
    assert answer.code == 1
    assert "swordfish" not in answer.err


def test_the_command_in_the_hint_after_a_failure_can_be_pasted_into_a_shell(project):
    import shlex

    project.chain(
        "etl/bad_chain",
        "class BadTask(nectar.Task):\n    text = luigi.Parameter()\n    def run(self):\n        1 / 0\n",
    )
    words = ["etl/bad_chain", "BadTask", "--text", "$(id) two words"]
    err = project.nectar("run", *words).err
    hint = next(line for line in err.splitlines() if line.startswith("hint:"))
    assert shlex.split(hint.partition("nectar run ")[2]) == words


def test_a_value_that_is_not_utf_8_is_refused_as_one(typed):
    typed.nectar("run", "etl/types_chain", "TypesTask", "--text", b"\xff").failed(2, "text")


def test_an_unknown_option_before_the_chain_is_called_one(project):
    project.nectar("run", "--frobnicate", "etl/daily_chain", "ReportTask").failed(2, "no", "option", "--frobnicate")


def test_help_after_a_task_shows_its_parameters(project):
    answer = project.nectar("run", "etl/daily_chain", "ReportTask", "--help")
    assert answer.code == 0
    assert "--title" in answer.out and "in capitals" in answer.out
