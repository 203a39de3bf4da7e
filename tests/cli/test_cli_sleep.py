"""engram sleep and engram nights: the plan, the night, the record of it and the exit codes, on a real store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cli_support import SCOPE, Cli

from engram_core import Engram

TEA = (
    "I drink green tea every morning.",
    "Green tea with jasmine is my favourite drink.",
    "I bought 3 kinds of green tea.",
    "My green tea pot broke in May.",
    "I prefer green tea to black tea.",
)
OTHER = ("My train leaves at nine.", "It rained a bit.", "Bea plays the cello on Sundays.")
CLUSTER = "5 facts are at least 0.48 similar to one of them."


@pytest.fixture
def tired(cli: Cli) -> Cli:
    """A store with five facts about one matter, and three others."""
    cli("add", SCOPE, *TEA, *OTHER, "--speaker", "Ana")
    return cli


@contextmanager
def another_night(store: Cli) -> Iterator[None]:
    """Somebody else's claim on the scope, for longer than a night waits for one that may have been killed."""
    with Engram.open(store.store) as engram:
        ledger = engram.context.ledger
        (state,) = ledger.scopes([engram.memory(SCOPE).scope])
        assert ledger.lease(f"sleep/{state.id}", "another night", 60.0)
        yield


def statuses(cli: Cli) -> list[str]:
    return [fact["status"] for fact in cli.json("list", SCOPE, "--status", "all")["facts"]]


def test_a_plan_says_what_and_why_and_changes_nothing(tired: Cli) -> None:
    tired("policy", "set", SCOPE, "max_facts=7", "auto_forget=true", "protect_days=0")
    view = tired.json("sleep", "--dry-run")
    (night,) = view["scopes"]
    assert (view["dry_run"], night["scope"], night["state"]) == (True, SCOPE, "done")
    assert night["forget"]["by_rule"] == {"max_facts": 1}
    assert view["totals"]["forgotten"] == len(night["forget"]["proposals"]) == 1
    assert night["live"][0] - view["totals"]["vectors_saved"] == night["live"][1]
    said = tired("sleep", "--dry-run")
    assert f"{SCOPE}: would be archived" in said.out
    assert "max_facts: The scope holds more than max_facts 7, and this is missed least" in said.out
    assert "1 fact to be forgotten" in said.err
    assert "Nothing was changed." in said.err
    assert statuses(tired) == ["live"] * 8
    assert tired.json("nights")["nights"] == []
    assert "There was no night yet." in tired("nights").err


def test_a_plan_shows_the_clusters_and_what_merging_costs(tired: Cli) -> None:
    said = tired("sleep", SCOPE, "--dry-run")
    assert said.rows == [
        {"scope": SCOPE, "state": "done", "facts": "8", "after": "4", "forget": "0", "clusters": "1"}
        | {"brief": said.rows[0]["brief"]}
    ]
    assert f"{SCOPE}: would be consolidated. Merging changed evidence recall" in said.out
    assert CLUSTER in said.out
    assert "1 cluster to be consolidated: 4 live facts" in said.err


def test_a_night_does_what_was_planned_and_stays_on_record(tired: Cli) -> None:
    planned = tired.json("sleep", "--dry-run")
    said = tired("sleep")
    assert "0 facts forgotten, 1 cluster consolidated: 4 live facts" in said.err
    assert statuses(tired).count("archived") == 5
    (kept,) = tired.json("nights")["nights"]
    assert kept["totals"] == planned["totals"]
    assert kept["id"] in said.err
    assert kept["principal"] == "user:owner"
    assert kept["scopes"][0]["consolidate"]["clusters"][0]["line"] == CLUSTER
    assert tired("nights").rows[0] == {
        "at": kept["at"][:16], "scope": "(all)", "forgotten": "0", "clusters": "1",
        "tokens": str(kept["totals"]["tokens_saved"]), "state": "done", "id": kept["id"],
    }  # fmt: skip


def test_what_a_night_did_can_be_taken_back(tired: Cli) -> None:
    tired("policy", "set", SCOPE, "max_facts=7", "auto_forget=true", "protect_days=0", "cluster_size=3")
    tired("sleep")
    facts = tired.json("list", SCOPE, "--status", "all")["facts"]
    (forgotten,) = (fact for fact in facts if (fact["archived_reason"] or "").startswith("max_facts"))
    (merged,) = (fact for fact in facts if fact["is_consolidated"])
    said = tired("explain", forgotten["id"])
    assert "max_facts: The scope holds more than max_facts 7" in said.out
    assert "is live" in tired("restore", forgotten["id"]).err
    tired("split", merged["id"])
    assert statuses(tired).count("live") == 8


def test_the_latest_nights_come_first(tired: Cli) -> None:
    ids = [tired.json("sleep", *scope)["id"] for scope in ([], [SCOPE], ["acme"])]
    assert [night["id"] for night in tired.json("nights")["nights"]] == ids[::-1]
    assert [row["scope"] for row in tired("nights", "-n", "2").rows] == ["acme", SCOPE]
    said = tired.run("nights", "-n", "0")
    assert (said.code, said.out) == (2, "")
    assert "limit must be a whole number from 1 to 1000" in said.err


def test_a_busy_scope_is_left_alone_and_the_exit_code_says_so(tired: Cli) -> None:
    with another_night(tired):
        said = tired.run("sleep")
    assert said.code == 1
    assert [row["state"] for row in said.rows] == ["busy"]
    assert "1 scope was left alone: another night is at work there. Run it again later." in said.err
    (kept,) = tired.json("nights")["nights"]
    assert kept["totals"] | {"busy": 1, "failed": 0, "forgotten": 0, "clusters": 0} == kept["totals"]
    assert [night["state"] for night in kept["scopes"]] == ["busy"]
    assert tired("nights").rows[0]["state"] == "1 busy"
    assert statuses(tired) == ["live"] * 8


def test_a_plan_needs_no_claim(tired: Cli) -> None:
    with another_night(tired):
        assert tired.json("sleep", "--dry-run")["totals"]["clusters"] == 1


def test_a_scope_that_is_not_there_is_told(tired: Cli) -> None:
    said = tired("sleep", "acme/suport")
    assert "There is no scope at or below acme/suport: nothing to do. `engram list` shows the scopes." in said.err


def test_without_a_store_there_is_no_night(cli: Cli) -> None:
    for command in (["sleep"], ["sleep", "--dry-run"], ["nights"]):
        said = cli.run(*command)
        assert (said.code, said.out) == (2, "")
    assert not cli.store.exists()


def test_terminals_get_tables_in_which_nothing_is_cut_off(tired: Cli) -> None:
    plan = tired.terminal("sleep", "--dry-run", columns=100, NO_COLOR="1")
    rows = [line for line in plan.splitlines() if "green tea" in line]
    assert rows
    assert all(len(line) <= 100 for line in rows)
    id_ = tired.json("sleep")["id"]
    assert id_ in tired.terminal("nights", columns=100, NO_COLOR="1")
