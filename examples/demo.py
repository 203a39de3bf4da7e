"""The demo: one real conversation, remembered through a LangChain agent and a LlamaIndex chat engine, across a restart.

    python examples/demo.py                 # offline: a stand-in that reads the prompt's memory block plays the model
    ENGRAM_CHAT_MODEL=openai:gpt-5.5 python examples/demo.py         # any name that init_chat_model knows

It takes conversation 1 of ../shared/data if that is there, else examples/conversation.json (or `--file YOURS`), and a
temporary store unless `--store DIR` names one to keep.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uuid_utils
from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, CompletionResponseGen
from llama_index.core.base.llms.types import LLMMetadata as Metadata
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

import engram_langchain
import engram_llamaindex
from engram_core import Engram, FactNotFound, Memory, RecallExplanation
from engram_core.cli.conversation import Conversation, Question, load
from engram_core.cli.progress import bar

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data" / "locomo-dev.json"
EXAMPLE = ROOT / "examples" / "conversation.json"
SCOPE = "demo/conversation"
INSTRUCTION = "Answer the question in one short sentence, from what memory says. Say so if it does not say."
TOLD = "By the way, the spare key lies under the blue flowerpot."
TOLD_QUESTION = Question("Where does the spare key lie?", "Under the blue flowerpot.")
BATCH = 50
WIDTH = 118


# --- the model -------------------------------------------------------------------------------------------------------

BLOCK = re.compile(r"<memory-([0-9a-f]{8})>\n(.*?)\n</memory-\1>", re.DOTALL)
DAY = re.compile(r"\d{1,2} [A-Z][a-z]{2}( \d{4})?")
COMMON = frozenset(
    "a an and are as at be been by can did do does for from get go had has have how i in is it its many much not of on "
    "or since than that the there they this to was were what when where which who whom whose why will with would you "
    "your".split()
)
NOTHING = "Memory does not say."


NOTICE = (
    "ENGRAM_CHAT_MODEL is not set, so a stand-in plays the language model. It has no access to the store and "
    "understands nothing: it reads the memory block in its prompt and answers with the statement there that shares "
    "most words with the question, short ones first. Its answers show what memory put into the prompt, not what a "
    "model makes of it."
)


class StandIn(BaseChatModel):
    """A chat model that quotes its prompt; see NOTICE. Questions and an assistant's words are no statements to it."""

    @property
    def _llm_type(self) -> str:
        return "stand-in"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        question = str(messages[-1].text)
        prompt = "\n".join(str(message.text) for message in messages)
        answer = best_line(question, memory_lines(prompt)) if question.endswith("?") else "Noted."
        return ChatResult(generations=[ChatGeneration(message=AIMessage(answer))])


def memory_lines(prompt: str) -> list[str]:
    """The statements in a prompt's memory block, each followed by the day it stands under, if it stands under one."""
    lines, day = [], ""
    for line in (line for block in BLOCK.finditer(prompt) for line in block[2].splitlines()):
        if DAY.fullmatch(line):
            year = line[-4:] if line[-4:].isdigit() else day[-5:-1]
            day = f" ({line.removesuffix(year).rstrip()} {year})"
        elif not line.startswith("Assistant:") and not line.endswith("?"):
            lines.append(f"{line}{day}")
    return lines


def best_line(question: str, lines: Sequence[str]) -> str:
    """The line that shares most words with the question, rare ones first; of equals the last, which is the newest."""
    held = [words(line) for line in lines]
    spread = Counter(word for line in held for word in line)
    asked = words(question)
    weights = [sum(1 / spread[word] ** 0.5 for word in asked & line) / (len(line) + 8) ** 0.5 for line in held]
    best = max(range(len(lines)), key=lambda place: (weights[place], place), default=None)
    return lines[best] if best is not None and len(asked & held[best]) > 1 else NOTHING


def words(text: str) -> set[str]:
    # Four letters stand for a stem: it is a stand-in, not a language model.
    return {word[:4] for word in re.findall(r"[^\W_]+", text.lower()) if word not in COMMON}


def chat_model() -> BaseChatModel:
    name = os.environ.get("ENGRAM_CHAT_MODEL")
    return init_chat_model(name) if name else StandIn()


class SameModel(CustomLLM):
    """The LangChain model as a LlamaIndex LLM, so that both frameworks ask the same one."""

    model: Any

    @property
    def metadata(self) -> Metadata:
        return Metadata(model_name=type(self.model).__name__, is_chat_model=True)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        reply = self.model.invoke([(message.role.value, message.content or "") for message in messages])
        return ChatResponse(message=ChatMessage(role="assistant", content=str(reply.text)))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=str(self.model.invoke(prompt).text))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        yield self.complete(prompt)


# --- the two agents: one line of memory each -------------------------------------------------------------------------


def ask_langchain(engram: Engram, model: BaseChatModel, text: str) -> str:
    memory = engram_langchain.EngramMemory(scope=SCOPE, engram=engram)
    agent = engram_langchain.create_agent(model, system_prompt=INSTRUCTION, memory=memory)
    return str(agent.invoke({"messages": [("user", text)]})["messages"][-1].text)


def ask_llamaindex(engram: Engram, model: BaseChatModel, text: str) -> str:
    memory = engram_llamaindex.EngramMemory(scope=SCOPE, engram=engram)
    chat = SimpleChatEngine.from_defaults(llm=SameModel(model=model), system_prompt=INSTRUCTION, memory=memory)
    return str(chat.chat(text))


ASK = {"LangChain agent": ask_langchain, "LlamaIndex chat engine": ask_llamaindex}


# --- the demo --------------------------------------------------------------------------------------------------------


class Ids:
    """Ids for the store that also say which ones were given out: so the demo finds the very recalls its agents made."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def __call__(self) -> str:
        self.given.append(str(uuid_utils.uuid7()))
        return self.given[-1]

    def recalls(self, memory: Memory) -> list[RecallExplanation]:
        """The recalls made since the last call, explained."""
        given, self.given = self.given, []
        found = []
        for id_ in given:
            try:
                found.append(memory.explain(id_))
            except FactNotFound:
                continue
        return [item for item in found if isinstance(item, RecallExplanation)]


@dataclass
class Stage:
    """An open store, the model, and what the demo prints about each answer."""

    engram: Engram
    ids: Ids
    model: BaseChatModel

    @property
    def memory(self) -> Memory:
        return self.engram.memory(SCOPE)

    def ask(self, framework: str, question: Question, *, shown: int) -> str:
        """Ask through one framework; print the answer, what was recalled for it and why, and what was dropped."""
        self.ids.given.clear()
        answer = ASK[framework](self.engram, self.model, question.text)
        print(f"\n{framework}: {question.text}")
        told("answers", answer)
        told("expected", question.answer)
        for recall in self.ids.recalls(self.memory):
            self.show(recall, question, shown)
        return answer

    def show(self, recall: RecallExplanation, question: Question, shown: int) -> None:
        told("recalled", f"{len(recall.shown)} facts, {recall.tokens} tokens{self.place_of(question, recall)}")
        for item in recall.shown[:shown]:
            point(f"{item['score']:.3f}", f"{item['text']} [{item['verdict'] or 'not observed'}]")
            point("", terms(item["terms"]))
        rules = Counter(item["rule"] for item in recall.dropped)
        told("dropped", ", ".join(f"{count} by {rule}" for rule, count in rules.most_common()) or "nothing")
        for item in recall.dropped[: shown - 1]:
            point(f"{item['score']:.3f}", item["text"])
            point("", f"{item['rule']}: {item['line']}")

    def place_of(self, question: Question, recall: RecallExplanation) -> str:
        """Where in the recall the messages stand that hold the answer."""
        if not question.evidence:
            return ""
        sources = [set(self.memory.get(item["id"]).origin.message_ids) for item in recall.shown]
        ranks = [str(rank) for rank, ids in enumerate(sources, 1) if ids & set(question.evidence)]
        return f"; the answer stands at rank {' and '.join(ranks)}" if ranks else "; the answer is not among them"


def told(label: str, text: str) -> None:
    lines = textwrap.wrap(" ".join(text.split()), WIDTH - 12, max_lines=3, placeholder=" …") or [""]
    print(f"  {label:<9} {lines[0]}")
    for line in lines[1:]:
        print(f"  {'':<9} {line}")


def point(score: str, text: str) -> None:
    for line in textwrap.wrap(" ".join(text.split()), WIDTH - 12, max_lines=2, placeholder=" …"):
        print(f"  {score:>9} {line}")
        score = ""


def terms(values: dict[str, float]) -> str:
    return " ".join(f"{name} {value:+.3f}" for name, value in sorted(values.items(), key=lambda item: -abs(item[1])))


def title(text: str) -> None:
    print(f"\n=== {text}")


def conversation(path: Path | None) -> Conversation:
    """The given one, else number 1 of the shared data, else the example."""
    if path is None and not SHARED.is_file():
        return load(EXAMPLE)
    if path is not None and path != SHARED:
        return load(path)
    sys.path.insert(0, str(ROOT))
    from benchmarks import locomo  # noqa: PLC0415 - lies beside the package, not in it

    real = locomo.load(SHARED)[0]
    # The ones that one message answers; a stand-in cannot put two and two together.
    plain = [item for item in real.questions if len(item.evidence) == 1 and item.category in {"single-hop", "temporal"}]
    questions = [Question(item.text, item.answer, item.category, item.evidence) for item in plain]
    return Conversation(f"LoCoMo {real.id}", tuple(real.messages), tuple(questions))


def spread(questions: Sequence[Question], count: int) -> list[Question]:
    """`count` of the questions, evenly over the whole list: chosen by place, not by how well they go."""
    count = min(count, len(questions))
    return [questions[place * len(questions) // count] for place in range(count)]


def first_half(stage: Stage, talk: Conversation, questions: Sequence[Question]) -> list[str]:
    title(f"Remembering {talk.id}: {len(talk.messages)} messages")
    outcomes: Counter[str] = Counter()
    with bar("Remembering", shown=True) as move:
        for start in range(0, len(talk.messages), BATCH):
            batch = talk.messages[start : start + BATCH]
            outcomes.update(stage.memory.add(batch).counts)
            move(start + len(batch), len(talk.messages))
    print(", ".join(f"{count} {action}" for action, count in outcomes.items()))
    title(f"Asking {len(questions)} of the conversation's {len(talk.questions)} questions, evenly spread")
    answers = [stage.ask(framework_of(n), question, shown=3) for n, question in enumerate(questions)]
    title("Telling the LangChain agent something new")
    told("said", TOLD)
    told("answers", ask_langchain(stage.engram, stage.model, TOLD))
    return answers


def second_half(stage: Stage, questions: Sequence[Question], before: Sequence[str]) -> None:
    title(f"A new process ({os.getpid()}) on the same store: the same questions again")
    again = [stage.ask(framework_of(n), question, shown=2) for n, question in enumerate(questions)]
    same = sum(first == second for first, second in zip(before, again, strict=True))
    print(f"\n{same} of {len(again)} answers are word for word those from before the restart.")
    title("What the LangChain agent was told before the restart, asked through LlamaIndex")
    stage.ask("LlamaIndex chat engine", TOLD_QUESTION, shown=2)
    title("And why: where that fact came from, and what happened to it")
    fact = next(fact for fact in reversed(stage.memory.list(limit=10_000)) if fact.text == TOLD)
    print(stage.memory.explain(fact.id))


def framework_of(number: int) -> str:
    return list(ASK)[number % len(ASK)]


def restart(arguments: argparse.Namespace, store: Path, answers: Sequence[str]) -> None:
    """Run the second half in a process of its own; the first one has closed the store."""
    options = ["--store", str(store), "--questions", str(arguments.questions)]
    options += ["--file", str(arguments.file)] if arguments.file else []
    command = [sys.executable, str(Path(__file__).resolve()), *options, "--again", json.dumps(answers)]
    sys.stdout.flush()
    subprocess.run(command, check=True)


def open_stage(store: Path) -> Stage:
    ids = Ids()
    return Stage(Engram.open(store, ids=ids), ids, chat_model())


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory across frameworks and restarts.")
    parser.add_argument("--store", type=Path, help="keep the store in this directory; default: a temporary one")
    parser.add_argument("--file", type=Path, help="a conversation of your own in the format of conversation.json")
    parser.add_argument("--questions", type=int, default=10, help="how many questions to ask, default 10")
    parser.add_argument("--again", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    talk = conversation(arguments.file)
    questions = spread(talk.questions, arguments.questions)
    if arguments.again is not None:
        stage = open_stage(arguments.store)
        with stage.engram:
            second_half(stage, questions, json.loads(arguments.again))
        return
    began = time.monotonic()
    name = os.environ.get("ENGRAM_CHAT_MODEL")
    print(f"The model is {name}." if name else textwrap.fill(NOTICE, WIDTH))
    with tempfile.TemporaryDirectory(prefix="engram-demo-") as directory:
        store = arguments.store or Path(directory) / "store"
        stage = open_stage(store)
        with stage.engram:
            answers = first_half(stage, talk, questions)
        restart(arguments, store, answers)
    kept = f"The store is kept in {arguments.store}: engram -s {arguments.store} list" if arguments.store else ""
    print(f"\nDone in {time.monotonic() - began:.0f} seconds. {kept}".rstrip())


if __name__ == "__main__":
    main()
