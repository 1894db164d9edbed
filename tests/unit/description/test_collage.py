"""The published example of "a la mode" runs as it is written, and prints what is printed there, to the letter."""

from __future__ import annotations

import hashlib

from deepdiff import DeepDiff

from nectar.description import Dag, Task, pp

ENCODED = """\
{ 'meta': {'schedule': '@daily'},
  'tasks': { 'blur': { 'command': 'python transform_images.py blur',
                       'image': 'collage',
                       'inputs': { 'download_images': '6075b3951568e2f31df204a59eb92bbb17d84e6b49f1275216bc0b6deb0e223d'},
                       'output': '82695e5805a9cd091e42ae94469efe77a90907c96190c793cee3c7d58dc2bbe0',
                       'sha': '6f09d'},
             'collage': { 'command': 'python collage.py',
                          'image': 'collage',
                          'inputs': { 'blur': '82695e5805a9cd091e42ae94469efe77a90907c96190c793cee3c7d58dc2bbe0',
                                      'edge_enhance': '7a764d984ce66d23a69c87645b47fcf7be79711f40be95fb631308ee01ca2a04'},
                          'output': '566a13d45eeebdefc50de118f5031278b20171ce76deb51791a4f084668e6d16',
                          'sha': '1qe34'},
             'download_images': { 'command': 'python dl_images.py',
                                  'image': 'collage',
                                  'inputs': {},
                                  'output': '6075b3951568e2f31df204a59eb92bbb17d84e6b49f1275216bc0b6deb0e223d',
                                  'sha': '1qe34'},
             'edge_enhance': { 'command': 'python transform_images.py '
                                          'edge_enhance',
                               'image': 'collage',
                               'inputs': { 'download_images': '6075b3951568e2f31df204a59eb92bbb17d84e6b49f1275216bc0b6deb0e223d'},
                               'output': '7a764d984ce66d23a69c87645b47fcf7be79711f40be95fb631308ee01ca2a04',
                               'sha': '1qe34'}}}
"""  # noqa: E501  # as it was printed
CHANGED = (
    ENCODED.replace("6f09d", "qwetr3")
    .replace(
        "82695e5805a9cd091e42ae94469efe77a90907c96190c793cee3c7d58dc2bbe0",
        "4df7200d1f836f7372ce01761c9cb9e0d2bc7d1abc7ee9c1abe8dc7df9a67e5e",
    )
    .replace(
        "566a13d45eeebdefc50de118f5031278b20171ce76deb51791a4f084668e6d16",
        "25adad1924719ff4d5d2c3f4839f0ff1b4e21537c3c358f7d10b5e5d7c9c6de5",
    )
)
DIFFERENCE = """\
{ 'values_changed': { "root['tasks']['blur']['output']": { 'new_value': '4df7200d1f836f7372ce01761c9cb9e0d2bc7d1abc7ee9c1abe8dc7df9a67e5e',
                                                           'old_value': '82695e5805a9cd091e42ae94469efe77a90907c96190c793cee3c7d58dc2bbe0'},
                      "root['tasks']['blur']['sha']": { 'new_value': 'qwetr3',
                                                        'old_value': '6f09d'},
                      "root['tasks']['collage']['inputs']['blur']": { 'new_value': '4df7200d1f836f7372ce01761c9cb9e0d2bc7d1abc7ee9c1abe8dc7df9a67e5e',
                                                                      'old_value': '82695e5805a9cd091e42ae94469efe77a90907c96190c793cee3c7d58dc2bbe0'},
                      "root['tasks']['collage']['output']": { 'new_value': '25adad1924719ff4d5d2c3f4839f0ff1b4e21537c3c358f7d10b5e5d7c9c6de5',
                                                              'old_value': '566a13d45eeebdefc50de118f5031278b20171ce76deb51791a4f084668e6d16'}}}
"""  # noqa: E501


def collage() -> Dag:
    dag = Dag({"schedule": "@daily"})
    dag.task("download_images", {"image": "collage", "sha": "1qe34", "command": "python dl_images.py"})
    dag.task("blur", {"image": "collage", "sha": "6f09d", "command": "python transform_images.py blur"})
    dag.task("edge_enhance", {"image": "collage", "sha": "1qe34", "command": "python transform_images.py edge_enhance"})
    dag.task("collage", {"image": "collage", "sha": "1qe34", "command": "python collage.py"})
    for task in [dag.blur, dag.edge_enhance]:
        task.add_dep(dag.download_images)
    for task in [dag.blur, dag.edge_enhance]:
        dag.collage.add_dep(task)
    return dag


def test_the_example_prints_both_encodings_and_the_four_changes_between_them(capsys):
    dag = collage()
    encoded_dag = dag.encode()
    pp(encoded_dag)
    assert capsys.readouterr().out == ENCODED
    dag.blur.spec["sha"] = "qwetr3"
    encoded_changed_dag = dag.encode()
    pp(encoded_changed_dag)
    assert capsys.readouterr().out == CHANGED
    difference = DeepDiff(encoded_dag, encoded_changed_dag)
    assert len(difference["values_changed"]) == 4
    pp(difference)
    assert capsys.readouterr().out == DIFFERENCE


def test_the_example_is_1024_bytes_of_bencode_with_a_known_digest():
    raw = collage().bencode()
    assert len(raw) == 1024
    # changing this orphans what other engines made from descriptions
    assert hashlib.sha256(raw).hexdigest() == "715c0fe8bd9a43a6111bad3de8298d07fdb31e4bed5afeccdafbb2d99aec89d4"
    assert Dag.decode(raw).bencode() == raw


def test_tasks_are_reached_by_attribute_and_by_name():
    dag = collage()
    assert dag.blur is dag["blur"] and isinstance(dag.blur, Task)
    assert [task.name for task in dag] == ["download_images", "blur", "edge_enhance", "collage"]
    assert dict(dag.collage.inputs) == {"blur": dag.blur, "edge_enhance": dag.edge_enhance}
    assert "blur" in dag and "sharpen" not in dag and len(dag) == 4
