"""`engram policy`: see, set, compare, go back; for people and as JSON, on a real store."""

from __future__ import annotations

import pytest
from cli_support import SCOPE, Cli

from engram_core.domain.policy import PRESETS, MemoryPolicy


def test_show_lists_every_field_and_its_source(cli: Cli) -> None:
    cli("add", SCOPE, "Tea.")
    shown = cli("policy", "show", SCOPE)
    assert [row["field"] for row in shown.rows] == list(MemoryPolicy.model_fields)
    assert "built-in default" in shown.err
    cli("grant", "user:ann", "curator", "acme")
    cli("policy", "set", "acme", "max_facts=50", "--principal", "user:ann")
    view = cli.json("policy", "show", SCOPE)
    assert (view["source"], view["version"], view["principal"], view["policy"]["max_facts"]) == (
        "acme", 1, "user:ann", 50,
    )  # fmt: skip
    assert "Version 1 of acme, set by user:ann" in cli("policy", "show", SCOPE).err


def test_set_takes_fields_presets_and_versions(cli: Cli) -> None:
    first = cli.json("policy", "set", SCOPE, "max_facts=500", "auto_forget=true", "prioritize_types=error,decision")
    assert first["version"] == 1
    assert first["changes"]["prioritize_types"] == {"before": [], "after": ["error", "decision"]}
    assert first["changes"]["auto_forget"] == {"before": False, "after": True}
    cli("policy", "set", SCOPE, "--preset", "coding")
    assert cli.json("policy", "show", SCOPE)["policy"] == PRESETS["coding"].model_dump(mode="json")
    back = cli("policy", "set", SCOPE, "--version", "1")
    assert "is at version 3 now" in back.err
    assert cli.json("policy", "show", SCOPE)["policy"]["max_facts"] == 500


def test_a_dry_run_sets_nothing(cli: Cli) -> None:
    cli("policy", "set", SCOPE, "max_facts=500")
    view = cli.json("policy", "set", SCOPE, "max_facts=7", "--dry-run")
    assert view["changes"] == {"max_facts": {"before": 500, "after": 7}}
    assert cli.json("policy", "show", SCOPE)["policy"]["max_facts"] == 500


def test_history_and_diff(cli: Cli) -> None:
    cli("policy", "set", "acme", "--preset", "support")
    cli("policy", "set", SCOPE, "max_facts=9")
    rows = cli("policy", "history", SCOPE).rows
    assert [(row["scope"], row["version"]) for row in rows] == [("acme", "1"), (SCOPE, "1")]
    assert rows[1]["change"] == "max_facts: 10000 → 9"
    assert cli.json("policy", "diff", SCOPE, "acme")["changes"] == {"max_facts": {"before": 10_000, "after": 9}}
    assert cli.json("policy", "diff", SCOPE, "1")["changes"] == {}
    assert "before: version 1 of" in cli("policy", "diff", SCOPE, "1").err
    assert "before: in force in the scope codng (the built-in default)" in cli("policy", "diff", SCOPE, "codng").err
    assert set(cli.json("policy", "diff", SCOPE)["changes"]) == {
        "max_facts", "decay_rate", "prioritize_types", "recency_weight",
    }  # fmt: skip


def test_presets(cli: Cli) -> None:
    view = cli.json("policy", "presets")
    assert set(view["presets"]) == set(PRESETS)
    assert view["presets"]["default"] == {}
    rows = cli("policy", "presets").rows
    assert {
        "preset": "coding",
        "field": "prioritize_types",
        "default": "none",
        "value": "error, decision, instruction",
    } in rows


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["max_facts"], "is not FIELD=VALUE"),
        ([], "Say what to set"),
        (["max_facs=3"], "did you mean max_facts?"),
        (["max_facts=none"], "max_facts must be a whole number"),
        (["--preset", "zen"], "Unknown policy preset"),
        (["--version", "4"], "has no policy version 4"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(cli: Cli, arguments: list[str], words: str) -> None:
    said = cli.run("policy", "set", SCOPE, *arguments)
    assert said.code == 2
    assert words in said.err
    assert said.err.count("\n") == 1
