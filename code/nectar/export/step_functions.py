"""Write a state machine for AWS Step Functions: each node is a message to a queue, whose readers run the command.

The Amazon States Language is described at https://states-language.net. A state waits for the answer to its task token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from nectar.export.work import PAUSE_S, TRIES_MORE, ChainWork, Node

LIMIT = 1_000_000  #: bytes of a definition: AWS takes 1 MiB
MOST_NODES = 3000  #: a history has at most 25,000 events, and a node makes about eight
MESSAGE_LIMIT = 250_000  #: bytes of a message: a state's input and SQS take 256 KiB
STORE_FAILED_ERROR = "Nectar.StoreUnreachable"  #: what a reader of the queue calls the exit code 5
MADE, FAILED = "made", "failed"  #: how a branch has ended
TASK_FAILED_ERROR = "Nectar.TaskFailed"  #: what it calls all others

State = dict[str, Any]


def chain(work: ChainWork) -> str:
    """Return a state machine that makes each node of a chain's graph.

    The language knows no graph, only what comes one after the other and what goes on side by side: so the nodes are
    made level by level. A node that fails is passed over, and the command refuses those that need it. The ends, which
    all others lead to, are on the last level: the execution fails if one of them does.
    """
    levels = _levels(work)
    states: dict[str, State] = {}
    for number, nodes in enumerate(levels, 1):
        last = number == len(levels)
        onward: State = {"Next": _first(levels[number], number + 1)} if not last else {"End": True}
        if last and len(nodes) == 1:
            states[nodes[0].name] = {**_task(work, nodes[0]), **onward}
        elif last:
            states |= _ends(work, nodes, number)
        elif len(nodes) == 1:
            states[nodes[0].name] = {**_task(work, nodes[0]), "Catch": caught(onward["Next"]), **onward}
        else:
            branches = [_branch(work, node) for node in nodes]
            states[_level(number)] = {"Type": "Parallel", "Branches": branches, "ResultPath": None, **onward}
    machine = {"Comment": _comment(work), "StartAt": _first(levels[0], 1), "States": states}
    text = json.dumps(machine, indent=1, ensure_ascii=False)
    if len(text) > LIMIT // 2:  # blanks count
        text = json.dumps(machine, separators=(",", ":"), ensure_ascii=False)
    return text + "\n"


def message(words: Iterable[str], *, queue: str | None = None, attempts: int = 1, **more: Any) -> State:
    """Return the part of a state that has the command run with these words, and waits for how it ends.

    The queue is named in the input of the execution, or here. With more than one attempt a node that fails is tried
    again, whatever it was; otherwise only one whose store could not be reached.
    """
    place = {"QueueUrl": queue} if queue is not None else {"QueueUrl.$": "$$.Execution.Input.queue"}
    again = {"ErrorEquals": [STORE_FAILED_ERROR], "IntervalSeconds": PAUSE_S, "BackoffRate": 2.0}
    if attempts > 1:
        again = {"ErrorEquals": [STORE_FAILED_ERROR, TASK_FAILED_ERROR], "IntervalSeconds": 1, "BackoffRate": 1.0}
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {**place, "MessageBody": {"token.$": "$$.Task.Token", "words": list(words), **more}},
        "Retry": [{**again, "MaxAttempts": attempts - 1 if attempts > 1 else TRIES_MORE}],
    }


def caught(onward: str) -> list[State]:
    """Return what leads on from a state that fails, with the data as it was before."""
    return [{"ErrorEquals": ["States.ALL"], "ResultPath": None, "Next": onward}]


def _task(work: ChainWork, node: Node) -> State:
    return {**message(work.command(node)), "Comment": node.title, "ResultPath": None}


def _branch(work: ChainWork, node: Node) -> State:
    """Return one node beside others: it ends well in any case, and says whether it did."""
    good, bad = f"{node.name} made", f"{node.name} failed"
    states = {
        node.name: {**_task(work, node), "Catch": caught(bad), "Next": good},
        good: {"Type": "Pass", "Result": MADE, "End": True},
        bad: {"Type": "Pass", "Result": FAILED, "End": True},
    }
    return {"StartAt": node.name, "States": states}


def _ends(work: ChainWork, nodes: list[Node], number: int) -> dict[str, State]:
    branches = [_branch(work, node) for node in nodes]
    asked = "all ends"
    return {
        _level(number): {"Type": "Parallel", "Branches": branches, "ResultPath": "$.outcomes", "Next": asked},
        **decide(asked, "all made?", "all made", "not all made"),
        "all made": {"Type": "Succeed"},
        "not all made": {"Type": "Fail", "Error": TASK_FAILED_ERROR, "Cause": "a task that was asked for failed"},
    }


def decide(asked: str, decided: str, good: str, bad: str) -> dict[str, State]:
    """Return the states that look at how branches have ended, and lead on; `asked` is the first of them.

    The outcomes are in `$.outcomes`, each `MADE` or `FAILED`.
    """
    found = {"failed.$": f"States.ArrayContains($.outcomes, '{FAILED}')"}
    choice = {"Variable": "$.ended.failed", "BooleanEquals": True, "Next": bad}
    return {
        asked: {"Type": "Pass", "Parameters": found, "ResultPath": "$.ended", "Next": decided},
        decided: {"Type": "Choice", "Choices": [choice], "Default": good},
    }


def _levels(work: ChainWork) -> list[list[Node]]:
    """Return the nodes by how long the longest way is that leads to them; the ends are on the last level."""
    depth: dict[str, int] = {}
    for node in work.nodes:
        depth[node.name] = max((depth[one] + 1 for one in node.needs), default=0)
    last = max(depth.values())
    depth |= {node.name: last for node in work.ends}
    levels: list[list[Node]] = [[] for _ in range(last + 1)]
    for node in work.nodes:
        levels[depth[node.name]].append(node)
    return levels


def _first(nodes: list[Node], number: int) -> str:
    return nodes[0].name if len(nodes) == 1 else _level(number)


def _level(number: int) -> str:
    return f"level {number}"


def _comment(work: ChainWork) -> str:
    return "; ".join((work.title, *work.warnings))
