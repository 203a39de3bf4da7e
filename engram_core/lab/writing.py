"""Writing: a chat model as proposer: reflect, plan and write, check, mend, in at most three rounds. It runs nothing.

A prompt holds the parent's text, its figures on the dev split, and traces of it with names, numbers and addresses taken
out; never a question of the gate split. What the model writes is text that is checked like anybody's; what cannot be
mended is kept as a failure, with the error.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from engram_core.domain.errors import EngramError, InvalidDesign, InvalidInput
from engram_core.domain.spec import Part
from engram_core.lab.archive import Archive, Member
from engram_core.lab.proposers import Idea, Proposer, Space
from engram_core.lab.tasks.base import Result

MAX_ROUNDS: Final = 3
MAX_TRACES: Final = 6
MAX_PROMPT: Final = 24_000
"""Characters of a prompt at most."""

_FENCED = re.compile(r"```(?:json|python)?\s*\n(.*?)```", re.DOTALL)
_ADDRESS = re.compile(r"\S+@\S+|https?://\S+|\b\d[\d .:/-]*\d\b|\d")
_NAME = re.compile(r"\b[A-Z][\w'’]+")


class Complete(Protocol):
    """What a model is here: `engram_core.LanguageModel`."""

    @property
    def name(self) -> str: ...
    def complete(self, prompt: str) -> str: ...


def redacted(text: str, most: int = 160) -> str:
    """A text without addresses, numbers and capitalised words; cut to `most` characters."""
    short = " ".join(text.split())[:most]
    return _NAME.sub("Name", _ADDRESS.sub("#", short))


@dataclass
class Traces:
    """What the dev split showed of each design: one line per task, words redacted. Only `dev` is ever kept."""

    lines: dict[str, list[str]] = field(default_factory=dict)

    def note(self, design: str, split: str, task: str, result: Result) -> None:
        """Keep what a task found; anything but dev is dropped."""
        if split != "dev":
            return
        told = ", ".join(f"{name} {value:.3f}" for name, value in sorted(result.metrics.items()))
        low = sum(row < 0.5 for row in result.rows)
        kept = self.lines.setdefault(design, [])
        kept.append(redacted(f"{task}", 60) + f": {told}; {low} of {len(result.rows)} questions below one half")
        kept += [f"  for example: {redacted(line)}" for line in result.traces[:2]]

    def of(self, design: str) -> list[str]:
        """At most a few lines about a design."""
        return self.lines.get(design, [])[: 4 * MAX_TRACES]


@dataclass
class ModelProposer:
    """A chat model writes the child.

    Args:
        model: Anything with `name` and `complete(prompt)`; `workshop.search(model=...)` wraps LangChain and LlamaIndex
            models and plain callables.
        space: The operators a genome may name.
        fallback: Proposes when the calls are spent or the model fails.
        level: `genome`, or `code` where code designs are allowed.
        max_calls: Calls of the whole run; 0 never asks.
        try_out: Runs a written design on a few questions of the dev split, and raises what it raised; None only checks
            the text.
        check_code: Checks the text of a code design. Raises InvalidDesign.
    """

    model: Complete
    space: Space
    fallback: Proposer
    traces: Traces
    level: Literal["genome", "code"] = "genome"
    max_calls: int = 60
    try_out: Callable[[str, str], None] | None = None
    check_code: Callable[[str], str] | None = None
    calls: int = 0

    def __post_init__(self) -> None:
        if self.level not in ("genome", "code"):
            raise InvalidInput(f"A model writes a genome or code, not {self.level!r}.")
        if self.level == "code" and self.check_code is None:
            raise InvalidInput("Code designs are off here; let the model write genomes.")

    def propose(self, rng: random.Random, parent: Member, archive: Archive) -> Idea:
        """Reflect on the parent, write a child, and mend it up to three times."""
        if self.calls + 2 > self.max_calls:
            return self.fallback.propose(rng, parent, archive)
        try:
            thoughts = self._asked(self._reflect(parent))
            reply = self._asked(self._write(parent, thoughts))
        except Exception:  # noqa: BLE001 - a model may raise anything, and the search goes on
            return self.fallback.propose(rng, parent, archive)
        written, error = "", ""
        for number in range(MAX_ROUNDS + 1):
            written = source_in(reply)
            try:
                checked = self._checked(written)
            except EngramError as failure:
                error = str(failure)
            except Exception as failure:  # noqa: BLE001 - whatever trying it raised is what the model is told
                error = f"{type(failure).__name__}: {failure}"
            else:
                return Idea(checked, (parent.spec.id,), "model", " ".join(thoughts.split())[:300], self.level)
            if number == MAX_ROUNDS or self.calls >= self.max_calls:
                break
            try:
                reply = self._asked(self._mend(written, error))
            except Exception:  # noqa: BLE001 - see above
                break
        # A failure is a stepping stone, too: it is kept as it is, and its trial will say what is wrong with it.
        return Idea(
            written or "{}", (parent.spec.id,), "model", f"It could not be mended: {redacted(error, 200)}", self.level
        )

    def _checked(self, source: str) -> str:
        if self.level == "code":
            assert self.check_code is not None
            text = self.check_code(source)
        else:
            text = self.space.checked(source)
        if self.try_out is not None:
            self.try_out(self.level, text)
        return text

    def _asked(self, prompt: str) -> str:
        self.calls += 1
        reply = self.model.complete(prompt[:MAX_PROMPT])
        if not isinstance(reply, str):
            raise InvalidDesign("The model answered no text.")
        return reply

    # --- the prompts ---

    def _reflect(self, parent: Member) -> str:
        seen = "\n".join(self.traces.of(parent.spec.id)) or json.dumps(parent.trial.metrics)
        failure = f"\nIt failed: {redacted(parent.trial.error, 300)}" if parent.trial.error else ""
        return (
            "You improve a memory design for agents. Below are a design and what trying it showed.\n"
            "Say in at most five sentences what its recalls lack or have too much of, which part causes it, and which "
            "one change would help most. Do not write the design yet.\n\n"
            f"DESIGN\n{parent.spec.source}\n\nTRIED{failure}\n{seen}\n"
        )

    def _write(self, parent: Member, thoughts: str) -> str:
        kind = "a genome as one JSON object" if self.level == "genome" else "one Python file"
        return (
            f"Write an improved design as {kind} and nothing else. Make the one change you planned.\n\n"
            f"PLAN\n{thoughts[:2_000]}\n\nPRESENT DESIGN\n{parent.spec.source}\n\n{self._manual()}\n"
        )

    def _mend(self, written: str, error: str) -> str:
        return (
            "The design you wrote does not work. Write it again, whole and corrected, and nothing else.\n\n"
            f"ERROR\n{redacted(error, 400)}\n\nWRITTEN\n{written[:6_000]}\n\n{self._manual()}\n"
        )

    def _manual(self) -> str:
        if self.level == "code":
            return _CODE_MANUAL
        lines = [f"{part.stage} {part.role}: {_line(part)}" for part in self.space.parts]
        return (
            'FORM\n{"format": 1, "update": [...], "retrieve": [...], "sleep": [...]}; each item is '
            '{"op": name, "params": {...}}. update and retrieve begin with one source, then refinements; sleep has '
            "sources only. Parameters left out have their defaults.\n\nOPERATORS\n" + "\n".join(lines)
        )


_CODE_MANUAL: Final = (
    "FORM\nThree pure functions: update(episode, view) returns [{'add': text, 'messages': [index], 'reason': text}]; "
    "retrieve(query, view) returns [[id, {term: number}]] over view['candidates']; sleep(view) returns "
    "[{'archive': id, 'reason': text}] over view['facts']. Facts are dictionaries with id, text, speaker, kind, slot, "
    "said_at, session, importance; candidates have score and terms as well. You may import math, re, json, "
    "collections, itertools, statistics, datetime, difflib. No files, no network, no state between calls."
)


def _line(part: Part) -> str:
    knobs = ", ".join(
        f"{knob.name} {'|'.join(knob.choices) if knob.choices else f'{knob.low:g}..{knob.high:g}'} = {knob.default}"
        for knob in part.knobs
    )
    return f"{part.name}({knobs}): {part.says}"


def source_in(reply: str) -> str:
    """The design in a model's reply: the last fenced block, else from the first brace to the last, else all of it."""
    blocks: Sequence[str] = _FENCED.findall(reply)
    if blocks:
        return blocks[-1].strip()
    first, last = reply.find("{"), reply.rfind("}")
    if 0 <= first < last and "def " not in reply:
        return reply[first : last + 1]
    return reply.strip()
