"""Every command, for people and as JSON, on a real store."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_support import SCOPE, Cli

from engram_core import Engram, Message

QUESTION = "Which city did I move to?"


class Flat:
    """An embedder other than the default one."""

    name = "flat"
    dimension = 4

    def __call__(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, float(len(text)), 0.0, 1.0] for text in texts]


def test_add_says_what_became_of_each_message_and_why(cli: Cli) -> None:
    said = cli("add", SCOPE, "I moved to Lisbon.", "Thanks!", "I moved to Lisbon.")
    assert [(row["outcome"], row["message"], row["why"].split(":")[0]) for row in said.rows] == [
        ("stored", "User: I moved to Lisbon.", "verbatim"),
        ("ignored", "User: Thanks!", "small_talk"),
        ("merged", "User: I moved to Lisbon.", "duplicate"),
    ]
    assert said.rows[0]["id"] == said.rows[2]["id"] == cli.ids()[0]
    assert said.err == f"{SCOPE}: 1 stored, 1 ignored, 1 merged.\n"


def test_add_as_json(cli: Cli) -> None:
    view = cli.json("add", SCOPE, "I moved to Lisbon.", "Thanks!", "--session", "monday", "--speaker", "Alice")
    assert view["counts"] == {"stored": 1, "ignored": 1}
    stored, ignored = view["outcomes"]
    assert (stored["action"], stored["rule"], stored["facts"]) == ("stored", "verbatim", cli.ids())
    assert (stored["message"]["speaker"], stored["message"]["session"]) == ("Alice", "monday")
    assert (ignored["action"], ignored["rule"], ignored["facts"]) == ("ignored", "small_talk", [])


def test_add_sets_kind_importance_session_and_speaker(cli: Cli) -> None:
    cli("add", SCOPE, "Tea.", "--kind", "preference", "--importance", "0.9", "--session", "s1", "--speaker", "Ana")
    (fact,) = cli.json("list", SCOPE)["facts"]
    assert (fact["kind"], fact["importance"], fact["origin"]["session"], fact["speaker"]) == (
        "preference",
        0.9,
        "s1",
        "Ana",
    )


def test_add_sums_up_many_messages_unless_asked_for_all(cli: Cli) -> None:
    lines = "".join(f"The shelf number {n} holds {n} books.\n" for n in range(30))
    said = cli("add", SCOPE, "-", stdin=lines)
    assert said.rows == [{"outcome": "stored", "messages": "30", "why": "verbatim: Kept word for word."}]
    assert len(cli("add", SCOPE, "-", "--all", stdin=lines).rows) == 30


def test_recall_shows_rank_score_text_and_terms(filled: Cli) -> None:
    said = filled("recall", SCOPE, QUESTION)
    best = said.rows[0]
    assert (best["#"], best["fact"], best["id"]) == ("1", "User: I moved to Lisbon in May.", filled.ids()[0])
    terms = [float(term) for term in best["terms"].split()[1::2]]
    assert sum(terms) == pytest.approx(float(best["score"]), abs=0.01)
    assert "dropped" not in said.out
    assert "engram explain" in said.err


def test_recall_takes_the_question_in_several_words_or_from_stdin(filled: Cli) -> None:
    assert filled.json("recall", SCOPE, "Which", "city?")["query"] == "Which city?"
    assert filled.json("recall", SCOPE, "-", stdin="Which city?\n")["query"] == "Which city?"


def test_recall_explains_what_it_dropped(filled: Cli) -> None:
    said = filled("recall", SCOPE, QUESTION, "-k", "1", "--explain")
    assert "dropped" in said.out
    assert "rank: 1 better facts are shown already." in said.out
    view = filled.json("recall", SCOPE, QUESTION, "-k", "1", "--explain")
    assert len(view["facts"]) == 1
    assert {item["rule"] for item in view["dropped"]} == {"rank"}
    assert view["dropped_by_rule"] == {"rank": len(view["dropped"])}
    assert view["facts"][0]["score"] == pytest.approx(sum(view["facts"][0]["terms"].values()))
    assert "dropped" not in filled.json("recall", SCOPE, QUESTION, "-k", "1")


def test_recall_shows_the_first_dropped_and_counts_the_rest(cli: Cli) -> None:
    cli("add", SCOPE, "-", stdin="".join(f"The shelf number {n} holds {n} books.\n" for n in range(30)))
    few = cli("recall", SCOPE, "Which shelf holds 7 books?", "-k", "2", "--explain")
    every = cli("recall", SCOPE, "Which shelf holds 7 books?", "-k", "2", "--explain", "--all")
    assert few.out.count("rank:") == 10
    assert every.out.count("rank:") == 28
    assert "The best 10 of 28 dropped (28 by rank)" in few.err


def test_recall_limits(filled: Cli) -> None:
    assert filled.json("recall", SCOPE, QUESTION, "--min-score", "0.4")["dropped_by_rule"] == {"min_score": 2}
    assert filled.json("recall", SCOPE, QUESTION, "--max-tokens", "1")["facts"] == []
    kinds = {fact["kind"] for fact in filled.json("list", SCOPE)["facts"]}
    assert len(kinds) > 1
    for kind in kinds:
        assert {fact["kind"] for fact in filled.json("recall", SCOPE, QUESTION, "--kind", kind)["facts"]} == {kind}


def test_recall_prints_the_context_alone(filled: Cli) -> None:
    said = filled("recall", SCOPE, QUESTION, "-k", "1", "--context", "--session", "s9")
    assert said.out.startswith("<memory-")
    assert said.out.count("\n") >= 3
    assert "I moved to Lisbon in May." in said.out
    assert said.err == ""


def test_list_shows_facts_page_by_page(filled: Cli) -> None:
    first = filled("list", SCOPE, "--limit", "2")
    ids = filled.ids()
    assert [row["id"] for row in first.rows] == ids[:2]
    assert f"--after {ids[1]}" in first.err
    rest = filled.json("list", SCOPE, "--limit", "2", "--after", ids[1])
    assert [fact["id"] for fact in rest["facts"]] == ids[2:]
    assert rest["next"] is None


def test_list_filters(filled: Cli) -> None:
    first, *_ = filled.ids()
    filled("forget", first)
    assert [fact["id"] for fact in filled.json("list", SCOPE, "--status", "archived")["facts"]] == [first]
    assert first not in {fact["id"] for fact in filled.json("list", SCOPE)["facts"]}
    kind = filled.json("list", SCOPE)["facts"][0]["kind"]
    assert {fact["kind"] for fact in filled.json("list", SCOPE, "--kind", kind)["facts"]} == {kind}


def test_list_without_a_scope_lists_scopes(filled: Cli) -> None:
    filled("add", "acme/sales", "We sell bees.")
    assert [row["scope"] for row in filled("list").rows] == ["acme/sales", SCOPE]
    assert filled.json("list") == {"store": str(filled.store), "scopes": ["acme/sales", SCOPE]}


def test_explain_a_recall_with_verdicts_and_an_absence(filled: Cli) -> None:
    forgotten = filled.ids()[1]
    filled("forget", forgotten, "--reason", "She was wrong.")
    with Engram.open(filled.store) as engram:
        memory = engram.memory(SCOPE)
        recall = memory.recall(QUESTION, k=1)
        memory.observe(recall.id, "You moved to Lisbon in May.")
    said = filled("explain", recall.id, "--about", forgotten)
    assert QUESTION in said.out
    assert "\tused\t" in said.out
    assert "rank: 1 better facts are shown already." in said.out
    assert "She was wrong." in said.out
    view = filled.json("explain", recall.id, "--about", forgotten)
    assert (view["about"], view["shown"][0]["verdict"]) == ("recall", "used")
    assert "archived" in view["absent"]


def test_explain_a_fact(filled: Cli) -> None:
    fact_id = filled.ids()[0]
    recall_id = filled.json("recall", SCOPE, QUESTION)["id"]
    said = filled("explain", fact_id)
    for part in ("I moved to Lisbon in May.", "made of message", "verbatim", recall_id):
        assert part in said.out
    view = filled.json("explain", fact_id)
    assert (view["about"], view["fact"]["id"], view["recalls"][0]["id"]) == ("fact", fact_id, recall_id)


def test_history_forget_and_restore(filled: Cli) -> None:
    fact_id = filled.ids()[0]
    assert filled("forget", fact_id, "--reason", "Moved again.").out.startswith("Archived: User: I moved")
    assert filled.json("recall", SCOPE, QUESTION)["facts"][0]["id"] != fact_id
    assert filled.json("restore", fact_id)["fact"]["status"] == "live"
    said = filled("history", fact_id)
    assert [line.split("\t")[1] for line in said.out.splitlines()[-3:]] == ["add", "archive", "restore"]
    assert "status: live → archived" in said.out
    view = filled.json("history", fact_id)
    assert [item["action"] for item in view["history"]] == ["add", "archive", "restore"]
    assert view["history"][1]["line"] == "Moved again."
    assert filled("restore", filled.json("forget", fact_id)["fact"]["id"]).out.startswith("Restored: ")


def test_forget_can_be_tried(filled: Cli) -> None:
    fact_id = filled.ids()[0]
    said = filled("forget", fact_id, "--dry-run")
    assert said.out.startswith("Nothing was changed")
    assert filled.json("forget", fact_id, "--dry-run")["dry_run"] is True
    assert filled.json("history", fact_id)["fact"]["status"] == "live"


def test_doctor_of_a_healthy_store(filled: Cli) -> None:
    said = filled("doctor")
    assert "3 live, 0 pending, in 1 scope" in said.out
    assert said.out.endswith("Healthy: no problems found.\n")
    view = filled.json("doctor")
    assert (view["healthy"], view["problems"], view["advice"], view["store"]) == (True, [], [], str(filled.store))


def test_doctor_finds_problems_and_says_what_to_do(filled: Cli) -> None:
    with Engram.open(filled.store) as engram:
        engram.note_failure(SCOPE, "recall", RuntimeError("the cable was cut"))
    said = filled.run("doctor")
    assert said.code == 1
    for part in ("Problem:", "To do:", "the cable was cut"):
        assert part in said.out
    assert "Healthy" not in said.out
    as_json = filled.run("doctor", "--json")
    assert as_json.code == 1
    assert '"healthy": false' in as_json.out


def test_doctor_tries_the_index_before_it_speaks(filled: Cli) -> None:
    filled("reindex")  # a store that has an index expects one; nothing listens on port 1
    said = filled.run("--index", "http://127.0.0.1:1", "doctor")
    assert said.code == 1
    assert "engram reindex" in said.out


def test_reindex_builds_the_index_of_large_scopes(cli: Cli) -> None:
    with Engram.open(cli.store, exact_limit=10) as engram:
        engram.memory(SCOPE).add([Message("user", f"The shelf number {n} holds {n} books.") for n in range(40)])
        engram.flush()
    # The command line opens the store with the default limit, below which a scope is searched whole.
    said = cli("reindex")
    assert said.out == "Built anew from the ledger: vectors 0.\n"
    assert "need no index" in said.err
    assert cli.json("reindex") == {"store": str(cli.store), "vectors": 0}


def test_reindex_embeds_anew_after_a_change_of_embedder(cli: Cli) -> None:
    with Engram.open(cli.store, embedder=Flat()) as engram:
        engram.memory(SCOPE).add("I moved to Lisbon.")
    refused = cli.run("recall", SCOPE, "Lisbon")
    assert refused.code == 2
    assert "engram reindex --embed" in refused.err
    view = cli.json("reindex", "--embed")
    assert (view["facts"], view["vectors"]) == (1, 0)
    assert "wordllama" in view["embedder"]
    assert "vectors" not in cli.json("reindex", "--embed", "--index", "exact")
    assert cli.json("recall", SCOPE, "Lisbon")["facts"][0]["text"].endswith("I moved to Lisbon.")
    assert "facts 1" in cli("reindex", "--embed").out


def test_options_may_stand_before_or_after_the_command(cli: Cli, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    cli("add", SCOPE, "I moved to Lisbon.", "--store", other)
    assert not cli.store.exists()
    after = cli.json("list", "-s", other)
    before = cli("--json", "--store", other, "list")
    assert f'"{SCOPE}"' in before.out
    assert after == {"store": other, "scopes": [SCOPE]}


def test_the_environment_names_the_store_and_the_option_wins(cli: Cli, tmp_path: Path) -> None:
    assert cli.program("add", SCOPE, "I moved to Lisbon.").code == 0
    assert (cli.store / "engram.db").is_file()
    unset = cli.program("add", SCOPE, "I moved to Porto.", ENGRAM_URL="")
    assert unset.code == 0
    assert (tmp_path / ".engram" / "engram.db").is_file()


def test_a_principal_is_noted_and_reads_what_it_was_granted_only(filled: Cli) -> None:
    filled("add", "acme/support", "The office closes at eight.")
    filled("grant", "agent:helpdesk", "contributor", SCOPE)
    filled("add", SCOPE, "The lift is broken.", "--principal", "agent:helpdesk")
    assert filled.json("list", SCOPE)["facts"][-1]["origin"]["principal"] == "agent:helpdesk"
    question = ("recall", SCOPE, "When does the office close?")
    assert "acme/support" in {fact["scope"] for fact in filled.json(*question)["facts"]}
    as_agent = filled.json(*question, "--principal", "agent:helpdesk")
    assert {fact["scope"] for fact in as_agent["facts"]} == {SCOPE}


TEA = (
    "I drink green tea every morning.",
    "Green tea with jasmine is my favourite drink.",
    "I bought 3 kinds of green tea.",
    "My green tea pot broke in May.",
    "I prefer green tea to black tea.",
)


def test_brief_prints_the_text_and_says_what_it_costs(cli: Cli) -> None:
    cli("add", SCOPE, "I prefer tea to coffee.", "We decided to use PostgreSQL.")
    said = cli("brief", SCOPE, "--max-tokens", "200")
    assert "preference:\nUser: I prefer tea to coffee." in said.out
    assert said.err.startswith("2 facts, ")
    view = cli.json("brief", SCOPE)
    assert cli("brief", SCOPE, "--context").out.splitlines()[1:-1] == view["text"].splitlines()[1:-1]
    assert view["tokens"] <= 1_000
    assert [fact["text"] for fact in view["facts"]]


def test_split_and_explain_show_what_a_consolidated_fact_stands_for(cli: Cli) -> None:
    cli("add", SCOPE, *TEA)
    with Engram.open(cli.store) as engram:
        engram.memory(SCOPE).consolidate()
    (fact,) = cli.json("list", SCOPE)["facts"]
    assert fact["form"] == "merged"
    told = cli("explain", fact["id"]).out
    assert "merged of 5 originals:" in told
    assert f"({fact['consolidated_from'][0]}, archived)" in told
    assert "stands for it" in cli("explain", fact["consolidated_from"][0]).out
    assert cli.json("recall", SCOPE, "tea pot")["facts"][0]["members"]
    assert [row["fact"] for row in cli("split", fact["id"]).rows] == [f"User: {text}" for text in TEA]
    assert len(cli.json("list", SCOPE)["facts"]) == 5
