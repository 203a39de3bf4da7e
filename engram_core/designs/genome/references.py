"""Reference genomes: the designs every search starts from and is compared with. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engram_core.designs.genome.genome import Genome

DEFAULT: Final = "pipeline"

REFERENCES: Final[Mapping[str, tuple[Genome, str]]] = {
    "pipeline": (Genome.of(update=["statements"], retrieve=["relevance"]), "The default design, word for word."),
    "no_memory": (Genome(), "Remembers nothing: the level any memory has to beat."),
    "nearest_episode": (
        Genome.of(update=["verbatim"], retrieve=["episode"]),
        "Shows the whole session that lies nearest: the idea of trajectory retrieval.",
    ),
    "recency": (Genome.of(update=["verbatim"], retrieve=["newest"]), "A sliding window over what was said last."),
    "supersede": (
        Genome.of(
            update=["commands", "supersede_slot"], retrieve=["relevance", ("keep_newest", {"by": "slot"}), "top"]
        ),
        "One fact per run or statement; the newest word on a goal or slot replaces older ones.",
    ),
    "consolidate": (
        Genome.of(
            update=["statements", "merge_repeats"],
            retrieve=["relevance"],
            sleep=["archive_older_slots", "archive_repeats", "archive_expired"],
        ),
        "Merges repeats as they come, and archives at night what newer facts say again.",
    ),
}
