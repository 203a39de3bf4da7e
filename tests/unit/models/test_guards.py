"""The bridge from Microsoft Presidio to the guard hook, against the package itself where it is installed."""

from __future__ import annotations

from typing import Any

import pytest

from engram_core import Engram, InvalidInput, presidio_guard


@pytest.fixture(scope="module")
def analyzer() -> Any:
    """Presidio with its rules and no model: a blank pipeline of spaCy only splits words, and nothing is downloaded."""
    presidio = pytest.importorskip("presidio_analyzer", reason="presidio-analyzer is not installed here")
    spacy = pytest.importorskip("spacy")
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    class Blank(SpacyNlpEngine):
        def __init__(self) -> None:
            super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])
            self.nlp = {"en": spacy.blank("en")}

        def load(self) -> None:
            """There is nothing to load."""

    return presidio.AnalyzerEngine(nlp_engine=Blank(), supported_languages=["en"])


def test_personal_data_is_covered_before_it_is_stored(analyzer: Any) -> None:
    with Engram.open(":memory:", guards=[presidio_guard(analyzer)]) as engram:
        memory = engram.memory("acme/ana")
        memory.add(
            [
                "Mail me at ana@example.com or call +44 20 7946 0958.",
                "My account is DE89370400440532013000.",
                "The kitchen closes at nine.",
            ]
        )
        assert [fact.text for fact in memory.list()] == [
            "Mail me at [redacted: email address] or call [redacted: phone number].",
            "My account is [redacted: iban code].",
            "The kitchen closes at nine.",
        ]
        assert "example.com" not in str(engram.context.ledger.episode(memory.list()[0].origin.episode_id or ""))


def test_only_what_is_asked_for_is_covered(analyzer: Any) -> None:
    guard = presidio_guard(analyzer, entities=["IBAN_CODE"])
    assert guard("Mail me at ana@example.com.", None) is None  # type: ignore[arg-type]
    verdict = guard("It is DE89370400440532013000.", None)  # type: ignore[arg-type]
    assert verdict is not None
    assert (verdict.action, verdict.reason) == ("redact", "presidio: 1 iban code")


def test_what_cannot_analyze_is_refused() -> None:
    with pytest.raises(InvalidInput, match="AnalyzerEngine"):
        presidio_guard("presidio")

    class Analyzer:
        def analyze(self, **_asked: object) -> list[object]:
            return []

    with pytest.raises(InvalidInput, match="threshold"):
        presidio_guard(Analyzer(), threshold=2)
    assert presidio_guard(Analyzer())("nothing", None) is None  # type: ignore[arg-type]
