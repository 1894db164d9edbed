"""The layers hold: what the import contracts say, and what `import nectar` loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "boto3",
    "botocore",
    "click",
    "dask",
    "distributed",
    "flask",
    "matplotlib",
    "numpy",
    "pandas",
    "psycopg",
    "rich",
    "s3fs",
    "sqlalchemy",
}

LOADED_BY_IMPORT = """
import json, sys
before = set(sys.modules)
import nectar
print(json.dumps([nectar.__file__, sorted(set(sys.modules) - before)]))
"""


def python(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter that imports this tree's package."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "code")}
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, text=True)


def test_import_nectar_loads_nothing_that_only_some_runs_need():
    answer = python(LOADED_BY_IMPORT)
    assert answer.returncode == 0, answer.stderr
    origin, loaded = json.loads(answer.stdout)
    assert Path(origin) == ROOT / "code" / "nectar" / "__init__.py"
    assert HEAVY.isdisjoint(loaded), sorted(HEAVY.intersection(loaded))


def test_each_module_imports_only_what_its_layer_may():
    answer = python("import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))")
    assert answer.returncode == 0, answer.stdout + answer.stderr
