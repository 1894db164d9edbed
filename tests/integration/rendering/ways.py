"""A pipeline with every kind of step, and of way; its functions note what they are called for."""

from __future__ import annotations

STEPS = """
import os


def note(word):
    with open("notes", "a") as file:
        file.write(word + "\\n")


def first(x):
    note(f"first {x}")
    return {"chunks": ["a", "b", "c d"], "y": 1}


def broken():
    note("broken")
    raise ValueError("as it was meant")


def thrice():
    note("thrice")
    if len([line for line in open("notes") if line.strip() == "thrice"]) < 3:
        raise ValueError("not yet")


def other(name="other"):
    note(name)


def each(v):
    note(f"each {v}")


def not_b(v):
    note(f"not_b {v}")
    if v == "b":
        raise ValueError(v)


def last(**values):
    note("last " + " ".join(sorted(values)))
    if os.path.exists("fails"):
        raise ValueError("in the end")
"""

PIPELINE = """
dag:
  description: every way
  start_at: first
  steps:
    first: {type: task, command: steps.first, next: it's thrice}
    it's thrice: {type: task, command: steps.thrice, retry: 3, next: bad, on_failure: fail}
    bad: {type: task, command: steps.broken, retry: 2, next: m, on_failure: par}
    par:
      type: parallel
      next: nothing
      branches:
        A:
          start_at: s
          steps:
            s: {type: task, command: steps.other, next: t}
            t: {type: task, command: steps.other, next: done}
            done: {type: success}
            fail: {type: fail}
        B b:
          start_at: s
          steps:
            s: {type: task, command: steps.broken, next: done, on_failure: mend}
            mend: {type: task, command: steps.other, next: done}
            done: {type: success}
            fail: {type: fail}
    nothing: {type: as-is, next: m}
    m:
      type: map
      iterate_on: chunks
      iterate_as: v
      next: sub
      branch:
        start_at: t
        steps:
          t: {type: task, command: steps.each, next: done}
          done: {type: success}
          fail: {type: fail}
    sub:
      type: dag
      next: m2
      dag_definition:
        start_at: z z
        steps:
          z z: {type: task, command_type: shell, command: 'echo "shell $NECTAR_PRM_x" >> notes', next: done}
          done: {type: success}
          fail: {type: fail}
    m2:
      type: map
      iterate_on: chunks
      iterate_as: v
      next: success
      on_failure: last
      branch:
        start_at: t
        steps:
          t: {type: task, command: steps.not_b, next: t2}
          t2: {type: task, command: steps.other, next: done}
          done: {type: success}
          fail: {type: fail}
    last: {type: task, command: steps.last, next: success}
    success: {type: success}
    fail: {type: fail}
run_log_store: {type: database}
"""
#: what is noted, in any order, where x is 3
ALL = sorted(
    [
        "first 3",
        *["thrice"] * 3,
        *["broken"] * 3,  # twice `bad`, once in a branch
        *["other"] * 5,  # two in branch A, one mends in branch B, two behind values of the second map
        *["each a", "each b", "each c d"],
        "shell 3",
        *["not_b a", "not_b b", "not_b c d"],
        "last chunks x y",
    ]
)
