"""What Python's standard library is about, found in its own docstrings by latent Dirichlet allocation (LDA).

    nectar run ds/topics_chain ReportTask
    nectar run ds/topics_chain ReportTask --topics 20 --words 5

The report follows from the words alone: no task knows what a socket or a thread is.
"""

from __future__ import annotations

import ast
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import luigi
from luigi.util import requires

import nectar

# scikit-learn is imported where it works, so that planning the chain does not wait for it.
if TYPE_CHECKING:
    import pandas as pd

LEFT_OUT = {"distutils", "encodings", "idlelib", "lib2to3", "pydoc_data", "test", "turtledemo"}
MIN_WORDS = 40  # who says less has no topic to speak of
MIN_TEXTS = 5  # a word in fewer texts is a name, not a subject
MAX_SHARE = 0.1  # a word in more of the texts says little about any of them
WORDS_KEPT = 30  # of each topic


class CorpusTask(nectar.Task):
    """The docstrings of the standard library, class by class: read from its source, nothing imported."""

    filename = "corpus.jsonl"
    version = f"Python {platform.python_version()}"  # another Python is another corpus, so it makes another target

    def run(self):
        self.dump({"name": name, "text": text} for name, text in read_corpus(sysconfig.get_path("stdlib")))


@requires(CorpusTask)
class CountTask(nectar.Task):
    """The vocabulary, and how often each text uses each word."""

    outputs = {"vocabulary": "vocabulary.json", "counts": "counts.parquet"}

    def run(self):
        names, words, counts = count_words(self.input().load())
        self.dump({"texts": names, "words": words}, "vocabulary")
        self.dump(counts, "counts")


@requires(CountTask)
class TopicsTask(nectar.Task):
    """The topics: the words of each, and the classes that are most about it."""

    topics = luigi.IntParameter(default=12, description="how many topics to look for")
    seed = luigi.IntParameter(default=0, description="where the search starts; another one finds other topics")
    filename = "topics.json"

    def run(self):
        vocabulary, counts = self.input()["vocabulary"].load(), self.input()["counts"].load()
        self.dump(find_topics(vocabulary["texts"], vocabulary["words"], counts, self.topics, self.seed))


@requires(TopicsTask)
class ReportTask(nectar.Task):
    """The topics as a page to read."""

    words = luigi.IntParameter(default=10, description=f"how many words to show of each topic, up to {WORDS_KEPT}")

    def run(self):
        self.dump(describe(self.input().load(), self.words))


# What the tasks do, on plain values.


def read_corpus(stdlib: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each public module, class and function of the standard library in the folder `stdlib`.

    A module's text is its own docstring; that of a class or function has those of all within it.

    Raises:
        ValueError: when there is none, as with a Python whose library is one zip file.
    """
    found = 0
    for module, path in sorted(module_files(Path(stdlib))):
        for name, text in docstrings(path.read_bytes()):
            if len(split(text)) >= MIN_WORDS:
                found += 1
                yield f"{module}.{name}".rstrip("."), text
    if not found:
        raise ValueError(f"there are no docstrings in `{stdlib}`")


def module_files(stdlib: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and source file of each public module of the standard library, in no certain order."""
    for package in sys.stdlib_module_names - LEFT_OUT:
        for path in [stdlib / f"{package}.py", *(stdlib / package).rglob("*.py")]:
            name = ".".join(path.relative_to(stdlib).with_suffix("").parts).removesuffix(".__init__")
            if path.is_file() and not re.search(r"\b_|\btest\b", name):
                yield name, path


def docstrings(source: bytes) -> Iterator[tuple[str, str]]:
    """Yield `""` and a module's docstring, then the name of each public class and function with all of theirs."""
    module = ast.parse(source)
    yield "", ast.get_docstring(module) or ""
    documented = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in module.body:
        if isinstance(node, documented) and not node.name.startswith("_"):
            inner = (ast.get_docstring(each) for each in ast.walk(node) if isinstance(each, documented))
            yield node.name, "\n\n".join(text for text in inner if text)


def split(text: str) -> list[str]:
    """Return the words of a text in lower case; names_with_underscores fall apart."""
    return re.findall(r"[a-z]{3,}", text.lower())


def count_words(corpus: Iterable[Mapping[str, str]]) -> tuple[list[str], list[str], pd.DataFrame]:
    """Return the texts' names, the vocabulary, and a row (text, word, count) for each word of it in each text.

    In the rows, texts and words are numbers: places in the two lists.
    """
    import pandas as pd
    from sklearn.feature_extraction.text import CountVectorizer

    texts = list(corpus)
    vectorizer = CountVectorizer(tokenizer=split, token_pattern=None, min_df=MIN_TEXTS, max_df=MAX_SHARE)
    matrix = vectorizer.fit_transform(each["text"] for each in texts).tocoo()
    counts = pd.DataFrame({"text": matrix.row, "word": matrix.col, "count": matrix.data}).astype("int32")
    return [each["name"] for each in texts], vectorizer.get_feature_names_out().tolist(), counts


def find_topics(
    texts: Sequence[str], words: Sequence[str], counts: pd.DataFrame, topics: int, seed: int
) -> list[dict[str, Any]]:
    """Return the topics, that with the largest share of all words first; the same for the same arguments.

    Each has its `share` (0 to 1), its `words` with their probabilities, and the `texts` that have most words in it,
    with their numbers.
    """
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import LatentDirichletAllocation

    matrix = csr_matrix((counts["count"], (counts["text"], counts["word"])), shape=(len(texts), len(words)))
    model = LatentDirichletAllocation(topics, topic_word_prior=0.05, max_iter=30, random_state=seed)
    lengths = matrix.sum(axis=1).A1
    spent = model.fit_transform(matrix) * lengths[:, None]  # words of each text on each topic
    weights = model.components_ / model.components_.sum(axis=1, keepdims=True)
    shares = spent.sum(axis=0) / lengths.sum()
    return [
        {
            "share": round(float(shares[topic]), 4),
            "words": largest(words, weights[topic], WORDS_KEPT),
            "texts": largest(texts, spent[:, topic], 5),
        }
        for topic in (-shares).argsort(kind="stable")
    ]


def largest(names: Sequence[str], weights: Any, count: int) -> dict[str, float]:
    """Return the names of the largest weights with these, largest first."""
    return {names[place]: round(float(weights[place]), 4) for place in (-weights).argsort(kind="stable")[:count]}


def describe(topics: Sequence[Mapping[str, Any]], words: int) -> str:
    """Return the report: a paragraph for each topic."""
    lines = [f"The standard library of Python {platform.python_version()} in {len(topics)} topics", ""]
    for number, topic in enumerate(topics, start=1):
        lines += [
            f"{number:>2}. {', '.join(list(topic['words'])[:words])}",
            f"    {topic['share']:.0%} of the text, most of it in {', '.join(topic['texts'])}",
            "",
        ]
    return "\n".join(lines)
