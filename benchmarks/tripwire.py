"""What the tripwire catches, beside a list of keywords, and what it takes for an attack that is none.

    python -m benchmarks.tripwire [--data FILE] [--corpus FILE [--field NAME] [--channel web]]...

Prints the share of texts flagged: of our own planted statements (benchmarks/data/planted.jsonl, written by the author
of the rules) by sort, and of each corpus given: a text file (one text a line), JSON Lines, or a JSON list of strings or
of objects whose `--field` holds the text. False alarms are counted on conversations. It is a tripwire, not a guarantee.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.locomo import DEFAULT, load
from engram_core.floor.tripwire import tripped

SETS = Path(__file__).resolve().parent / "data" / "planted.jsonl"
_KEYWORDS = re.compile(
    r"ignore (?:all |the )?(?:previous|above)|disregard|system prompt|jailbreak|you are now|do anything now|"
    r"forget everything",
    re.IGNORECASE,
)

Flags = Callable[[str, str], bool]


def ours(text: str, channel: str) -> bool:
    return bool(tripped(text, channel))  # type: ignore[arg-type]


def keywords(text: str, channel: str) -> bool:
    return _KEYWORDS.search(text) is not None


def texts_of(path: Path, field: str) -> list[str]:
    """The texts of a corpus; see the module."""
    raw = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        items: list[Any] = json.loads(raw)
    elif path.suffix == ".jsonl":
        items = [json.loads(line) for line in raw.splitlines() if line.strip()]
    else:
        items = [line for line in raw.splitlines() if line.strip()]
    return [item if isinstance(item, str) else str(item[field]) for item in items]


def row(name: str, texts: Sequence[str], channel: str) -> None:
    shares = [sum(flags(text, channel) for text in texts) / len(texts) for flags in (ours, keywords)]
    print(f"{name:44}{channel:>10}{len(texts):>7}{shares[0]:>10.1%}{shares[1]:>10.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="conversations for false alarms")
    parser.add_argument("--corpus", type=Path, action="append", default=[], help="attacks; may be repeated")
    parser.add_argument("--field", default="user_input", help="the text's name in JSON objects")
    parser.add_argument("--channel", default="web", help="the channel the corpora are taken to come by")
    given = parser.parse_args()
    print(f"{'texts':44}{'channel':>10}{'n':>7}{'engram':>10}{'keywords':>10}")
    sorts: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for line in SETS.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        sorts[item["label"], item["sort"], item["channel"]].append(item["text"])
    for (label, sort, channel), texts in sorts.items():
        row(f"own, {label}: {sort}", texts, channel)
    for path in given.corpus:
        row(path.name, texts_of(path, given.field), given.channel)
    if given.data.exists():
        turns = [message.content for conversation in load(given.data) for message in conversation.messages]
        for channel in ("user", "web"):
            alarms = [sum(flags(text, channel) for text in turns) for flags in (ours, keywords)]
            started = time.process_time()
            for text in turns:
                ours(text, channel)
            spent = (time.process_time() - started) / len(turns) * 1e6
            print(
                f"false alarms on {len(turns)} turns as {channel}: {alarms[0]} (keywords: {alarms[1]}); {spent:.0f} µs"
            )


if __name__ == "__main__":
    main()
