"""Demo: a tour of the core with a conversation: remember, reopen, recall, explain. It uses no framework, no model.

`examples/demo.py` in the repository does the same through a LangChain agent and a LlamaIndex chat engine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from engram_core.cli import render, views
from engram_core.cli.command import Place
from engram_core.cli.conversation import Conversation, Question, example, load
from engram_core.cli.paper import Paper
from engram_core.cli.progress import bar
from engram_core.cli.views import View
from engram_core.domain.errors import InvalidInput
from engram_core.domain.recall import AddResult, Recall
from engram_core.engram import Memory

SCOPE = "demo"
_FACTS = 3
_BATCH = 50


def run(place: Place, file: Path | None, questions: int) -> View:
    """Do it all and return what there was to see.

    Args:
        place: Used only where `--store` chose it: a demo must not write into the store of the day.
        file: A conversation with questions; None for the example.
        questions: How many to ask at most.

    Raises:
        InvalidInput: The conversation cannot be read or has no questions.
    """
    conversation = example() if file is None else load(file)
    asked = conversation.questions[: max(questions, 1)]
    if not asked:
        raise InvalidInput(f"{conversation.id} has no `questions`; docs/cli.md shows how to write some.")
    with _place(place) as home:
        with home.open(create=True) as engram:
            results = _remember(engram.memory(SCOPE, principal=home.principal), conversation)
        # Closed and opened again: what follows comes from disk.
        with home.open() as engram:
            memory = engram.memory(SCOPE, principal=home.principal)
            answers = [_ask(memory, question) for question in asked]
            best = next((answer["recall"]["facts"][0]["id"] for answer in answers if answer["recall"]["facts"]), None)
            why = views.explained(memory.explain(best)) if best else None
    return {
        "store": place.shown if place.is_chosen else None,
        "conversation": conversation.id,
        "messages": len(conversation.messages),
        "counts": views.added(SCOPE, results)["counts"],
        "questions": answers,
        "explanation": why,
    }


@contextmanager
def _place(place: Place) -> Iterator[Place]:
    if place.is_chosen:
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="engram-demo-") as directory:
        yield replace(place, url=directory)


def _remember(memory: Memory, conversation: Conversation) -> list[AddResult]:
    messages = conversation.messages
    results = []
    with bar("Remembering") as move:
        for start in range(0, len(messages), _BATCH):
            results.append(memory.add(messages[start : start + _BATCH]))
            move(min(start + _BATCH, len(messages)), len(messages))
    return results


def _ask(memory: Memory, question: Question) -> View:
    recall = memory.recall(question.text, k=_FACTS)
    return {
        "question": question.text,
        "answer": question.answer,
        "evidence": list(question.evidence),
        "evidence_recalled": _found(recall, question.evidence),
        "recall": views.recalled(SCOPE, recall, with_dropped=True),
    }


def _found(recall: Recall, evidence: Sequence[str]) -> list[str]:
    said = {id_ for item in recall.facts for id_ in item.fact.origin.message_ids}
    return [id_ for id_ in evidence if id_ in said]


def draw(paper: Paper, view: View) -> None:
    """The tour for people."""
    counts = ", ".join(f"{count} {action}" for action, count in view["counts"].items())
    paper.line(f"Remembered {view['messages']} messages of {view['conversation']}: {counts}.", "bold")
    paper.line("Then the store was closed and opened again. No model, no network; what follows is recall alone.")
    for answer in view["questions"]:
        _draw_answer(paper, answer)
    if view["explanation"]:
        paper.line()
        paper.line("And why the first of these facts is there at all:")
        paper.line()
        render.explained(paper, view["explanation"], with_all=False)
    paper.line()
    where = f"is kept in {view['store']}" if view["store"] else "was temporary (--store DIR keeps one)"
    paper.line(f"The store {where}. The same memory under a LangChain agent and a LlamaIndex chat engine:")
    paper.line("examples/demo.py in Engram's repository, or `make demo` there.")


def _draw_answer(paper: Paper, answer: View) -> None:
    recall = answer["recall"]
    evidence = answer["evidence"]
    found = f" ({len(answer['evidence_recalled'])} of {len(evidence)} source messages recalled)" if evidence else ""
    paper.line()
    paper.line(f"? {answer['question']}", "bold")
    paper.line(f"expected: {answer['answer']}{found}")
    render.ranking(paper, recall)
    dropped = ", ".join(f"{count} by {rule}" for rule, count in recall["dropped_by_rule"].items())
    paper.line(f"dropped: {dropped or 'nothing'}")
