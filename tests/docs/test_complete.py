"""Nothing public is undocumented, nothing documented is gone, and no link leads nowhere."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from docs_support import PAGES, ROOT, blocks, prose

import engram_core
import engram_langchain
import engram_llamaindex
from engram_core import EngramError, MemoryPolicy, binding, turns
from engram_core.designs import pipeline
from engram_core.designs.pipeline import Pipeline, rank
from engram_core.designs.pipeline.rank import Weights
from engram_core.domain import errors, policy
from engram_core.domain.fact import TRUST_BY_CHANNEL
from engram_core.engram import DEFAULT_EXACT_LIMIT
from engram_core.measure import attribution, words
from engram_core.operations import view
from engram_core.storage import projector

PACKAGES = (engram_core, engram_langchain, engram_llamaindex)
DOCS = ROOT / "docs"
EVERYTHING = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def rows(page: str, cell: int = 0) -> dict[str, list[str]]:
    """The table rows of a page whose first (or another) cell is one word of code: word → cells."""
    found = {}
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) > cell and (match := re.fullmatch(r"`(\w+)`", cells[cell])):
                found.setdefault(match[1], cells)
    return found


def sources() -> Iterator[Path]:
    """Every source file of the three packages."""
    for package in PACKAGES:
        yield from sorted(Path(package.__file__ or "").parent.rglob("*.py"))


def rules() -> set[str]:
    """Every rule name in the source: the first argument of a `Reason(...)`."""
    found = set()
    for path in sources():
        if "testing" in path.parts:
            continue  # contracts and fakes make reasons of their own
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Reason":
                named = [keyword.value for keyword in node.keywords if keyword.arg == "rule"]
                for argument in [*node.args[:1], *named]:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and argument.value:
                        found.add(argument.value)
    return found


# --- policy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MemoryPolicy.model_fields)
def test_every_policy_field_is_documented_with_its_default_and_range(name: str) -> None:
    """docs/policy.md: `field` | unit | range | default | meaning."""
    _, unit, span, default, meaning = rows("policy.md")[name]
    field = MemoryPolicy.model_fields[name]
    assert unit
    assert meaning
    assert default.strip("`") == str(field.default)
    limits = [str(limit) for item in field.metadata for limit in _limits(item)]
    assert limits == [number for number in re.findall(r"\d+", span) if limits], f"{name}: {span}"


def _limits(item: object) -> list[int]:
    names = ("ge", "le", "min_length", "max_length")
    return [int(getattr(item, name)) for name in names if getattr(item, name, None) is not None]


@pytest.mark.parametrize("preset", policy.PRESETS)
def test_every_preset_is_documented_as_it_is(preset: str) -> None:
    """What a preset changes stands in the table, and it changes nothing else."""
    listed = {"prioritize_types", "decay_rate", "recency_weight"}
    changed = {
        name for name, value in policy.PRESETS[preset].model_dump().items() if value != getattr(MemoryPolicy(), name)
    }
    assert changed <= listed
    _, kinds, decay, recency = rows("policy.md")[preset]
    assert kinds == (", ".join(policy.PRESETS[preset].prioritize_types) or "none")
    assert float(decay) == policy.PRESETS[preset].decay_rate
    assert float(recency) == policy.PRESETS[preset].recency_weight


# --- errors ----------------------------------------------------------------------------------------------------------

ERRORS = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, EngramError)]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_documented(error: type[EngramError]) -> None:
    """A row with what it also is, when it comes and what to do; internal ones are mentioned."""
    if error.__name__ not in engram_core.__all__:
        assert f"`{error.__name__}`" in prose(DOCS / "errors.md")
        return
    _, also, when, advice = rows("errors.md")[error.__name__]
    built_in = [base.__name__ for base in error.__bases__ if base.__module__ == "builtins" and base is not Exception]
    assert re.findall(r"\w+", also) == built_in
    assert when
    assert advice


def test_no_error_is_documented_that_does_not_exist() -> None:
    """A row for a class that is gone misleads."""
    assert set(rows("errors.md")) <= {error.__name__ for error in ERRORS}


# --- rules and terms -------------------------------------------------------------------------------------------------


def test_every_rule_is_documented_and_every_documented_rule_exists() -> None:
    """Rule names are stored with decisions, so people look them up."""
    assert len(rules()) > 30, "the scan finds rules"
    assert set(rows("rules.md")) == rules()


@pytest.mark.parametrize("weight", fields(Weights), ids=lambda weight: weight.name)
def test_every_ranking_term_is_documented_with_its_weight(weight: object) -> None:
    """docs/recall.md: order | `term` | weight | value."""
    name = weight.name  # type: ignore[attr-defined]
    order, _, shown, value = rows("recall.md", 1)[name]
    assert order.isdigit()
    assert float(shown) == getattr(Weights(), name)
    assert value


@pytest.mark.parametrize("term", ["importance", "usefulness", "recency", "priority"])
def test_every_policy_term_is_documented_with_its_weight(term: str) -> None:
    """The terms that a policy weighs."""
    shown = rows("recall.md", 1)[term][2]
    assert float(shown.removeprefix("policy, ")) == getattr(MemoryPolicy(), f"{term}_weight")


NUMBERS = [
    ("recall.md", f"(default {DEFAULT_EXACT_LIMIT:,}; an option of `Engram.open`)"),
    ("recall.md", f"the {Pipeline().breadth} nearest by context vector"),
    ("recall.md", f"up to {view.MAX_RARE_STEMS} words that together occur in at most {view.MAX_POSTINGS:,} facts"),
    ("recall.md", f"the neighbours of the best {view.WITH_NEIGHBOURS} of each search"),
    ("recall.md", f"the last {words.CONTEXT_WORDS} words of the statement before it"),
    ("recall.md", f"when it has more than {words.LONG_BODY_WORDS} words"),
    ("recall.md", f"max({pipeline.SPEAK_OF_MORE}, 4 k)"),
    ("recall.md", f"{rank.K1} * ({1 - rank.B} + {rank.B} * length / mean length)"),
    ("architecture.md", f"More than {projector.REMAINDER:,} such changes"),
    ("algorithms.md", f"| band `strict` | probability of {attribution.STRICT:.2f} or more |"),
    ("algorithms.md", f"| band `balanced` | probability of {attribution.BALANCED:.2f} or more |"),
    ("algorithms.md", f"for up to {attribution.MOST_SENTENCES} pieces of the answer"),
    *[("algorithms.md", f"| `{name}` | {weight:.2f} |") for name, weight in attribution.WEIGHTS.items()],
    ("algorithms.md", f"{attribution.LONGEST_RESPONSE:,} characters"),
    ("custom-adapter.md", f"beyond {binding.MAX_QUERY:,} characters"),
    ("api.md", f"{turns.DEFAULT_MAX_OPEN:,} turns, {turns.DEFAULT_TIMEOUT_S:.0f} seconds"),
]


@pytest.mark.parametrize(("page", "sentence"), NUMBERS)
def test_numbers_in_the_pages_are_the_numbers_of_the_code(page: str, sentence: str) -> None:
    """A constant that changes takes its sentence along."""
    assert sentence in " ".join((DOCS / page).read_text(encoding="utf-8").split())


def test_trust_by_channel_is_documented() -> None:
    """SECURITY.md and docs/concepts.md name the trust of each channel."""
    for channel, trust in TRUST_BY_CHANNEL.items():
        if channel != "derived":
            assert f"`{channel}` {trust}" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
            assert f"{channel} {trust}" in (DOCS / "concepts.md").read_text(encoding="utf-8")


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_is_mentioned(package: object) -> None:
    """Somewhere in the pages, in code."""
    code = "\n".join([*_CODE.findall(EVERYTHING), *(block.code for page in PAGES for block in blocks(page))])
    missing = [name for name in package.__all__ if not re.search(rf"\b{name}\b", code)]  # type: ignore[attr-defined]
    assert missing == []


ADAPTER_PAGES = {"engram_langchain": "langchain.md", "engram_llamaindex": "llamaindex.md"}


@pytest.mark.parametrize(
    ("module", "name"),
    [(package.__name__, name) for package in PACKAGES[1:] for name in package.__all__],
)
def test_every_option_of_the_adapters_is_mentioned(module: str, name: str) -> None:
    """Each constructor argument stands on the framework's page."""
    text = (DOCS / ADAPTER_PAGES[module]).read_text(encoding="utf-8")
    options = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    named = {option.name for option in options if option.kind in (option.POSITIONAL_OR_KEYWORD, option.KEYWORD_ONLY)}
    framework_own = {"metadata", "tags", "description", "priority", "accept_short_term_memory", "class_name"}
    framework_own |= {"recorder", "key", "model", "middleware", "memory_variables", "source"}
    missing = [option for option in sorted(named - framework_own) if not re.search(rf"\b{option}\b", text)]
    assert missing == []


def test_every_environment_variable_is_documented() -> None:
    """ENGRAM_… variables that the source or the examples read."""
    read = {
        name
        for path in [*sources(), *(ROOT / "examples").glob("*.py")]
        for name in re.findall(r"[\"'](ENGRAM_[A-Z_]+)[\"']", path.read_text(encoding="utf-8"))
    }
    assert "ENGRAM_URL" in read
    assert [name for name in sorted(read) if name not in EVERYTHING] == []


def test_every_make_target_that_is_named_exists_and_every_target_is_named() -> None:
    """CONTRIBUTING.md lists what the Makefile has."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(re.findall(r"\bmake ([a-z-]+)\b(?=`|\s+#)", EVERYTHING)) == set(phony[1].split())


def test_the_changelog_knows_the_version() -> None:
    """Keep a Changelog: an unreleased section, and the version it will be."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changelog
    assert engram_core.__version__ in changelog


# --- links -----------------------------------------------------------------------------------------------------------


def slug(heading: str) -> str:
    """The anchor GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", ""))
    return kept.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """The anchors of a page."""
    return {slug(heading) for heading in _HEADING.findall(prose(page))}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files that exist, and headings that exist in them."""
    for target in _LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def test_every_page_is_reachable_from_the_index() -> None:
    """docs/index.md links every page beside it."""
    linked = {(DOCS / target).resolve() for target in _LINK.findall(prose(DOCS / "index.md"))}
    assert [page.name for page in DOCS.glob("*.md") if page.resolve() not in linked and page.name != "index.md"] == []


def test_pages_that_the_source_refers_to_exist() -> None:
    """A docstring that says "see docs/…" must not lead nowhere. Decision records are named by number."""
    for path in sources():
        for named in re.findall(r"\bdocs/([\w/-]+)(?:\.md)?", path.read_text(encoding="utf-8")):
            found = [*DOCS.glob(f"{named}.md"), *DOCS.glob(f"{named}*.md")]
            assert found, f"{path.relative_to(ROOT)} refers to docs/{named}"
