"""The commands about who may do what, on a real store: granting, asking why, sharing, the audit and checking it."""

from __future__ import annotations

import sqlite3

from cli_support import SCOPE, Cli

ANN = "user:ann"


def test_granting_asking_and_taking_back(cli: Cli) -> None:
    cli("add", SCOPE, "I moved to Lisbon.")
    refused = cli.run("recall", SCOPE, "Where?", "--principal", ANN)
    assert refused.code == 2
    assert f"engram grant {ANN} read {SCOPE}" in refused.err
    assert cli.run("why", ANN, "read", SCOPE).code == 1
    made = cli.json(
        "grant", ANN, "contributor", SCOPE, "--shallow", "--hours", "2", "--max-trust", "0.5", "--reason", "x"
    )
    assert [(one["verb"], one["deep"], one["max_trust"], one["reason"]) for one in made["grants"]] == [
        ("read", False, 0.5, "x"), ("write", False, 0.5, "x"),
    ]  # fmt: skip
    assert cli.json("recall", SCOPE, "Where?", "--principal", ANN)["facts"]
    why = cli("why", ANN, "read", SCOPE)
    assert (why.code, "grant 1" in why.out) == (0, True)
    assert cli.json("who-can", "read", SCOPE)["principals"] == {ANN: "grant 1", "user:owner": "owner"}
    assert [row["verb"] for row in cli.json("grants", SCOPE, "--to", ANN)["grants"]] == ["read", "write"]
    assert cli.run("grant", ANN, "reader", "elsewhere", "--principal", ANN).code == 2
    assert len(cli.json("revoke", ANN)["revoked"]) == 2
    assert cli.run("recall", SCOPE, "Where?", "--principal", ANN).code == 2


def test_a_hidden_id_and_an_unknown_one_read_alike(cli: Cli) -> None:
    cli("add", SCOPE, "I moved to Lisbon.")
    id_ = cli.json("list", SCOPE)["facts"][0]["id"]
    hidden = cli.run("explain", id_, "--principal", ANN)
    unknown = cli.run("explain", "nothing", "--principal", ANN)
    assert hidden.code == unknown.code == 2
    assert hidden.err.replace(id_, "nothing") == unknown.err
    assert cli.json("list", "--principal", ANN)["scopes"] == []
    assert cli.json("usage", "--principal", ANN)["groups"] == []


def test_groups_barriers_and_broken_glass(cli: Cli) -> None:
    cli("add", SCOPE, "I moved to Lisbon.")
    assert cli.json("group", "add", "group:g", ANN) == {"group": "group:g", "members": [ANN], "changed": True}
    assert cli.json("group", "list")["groups"] == {"group:g": [ANN]}
    cli("grant", "group:g", "reader", "acme")
    assert cli.run("why", ANN, "read", SCOPE).code == 0
    assert cli.json("private", SCOPE)["changed"]
    assert cli.run("why", ANN, "read", SCOPE).code == 1
    assert cli.run("list", SCOPE).code == 2
    cli("break-glass", SCOPE, "--reason", "ticket 7", "--minutes", "5")
    assert cli.json("list", SCOPE)["facts"]
    assert cli.json("audit", "--decision", "alarm")["entries"][0]["operation"] == "break_glass"
    cli("private", SCOPE, "--off")
    assert cli.run("why", ANN, "read", SCOPE).code == 0
    assert cli.json("group", "remove", "group:g", ANN)["members"] == []


def test_sharing_and_the_audit_of_it(cli: Cli) -> None:
    cli("add", SCOPE, "I moved to Lisbon.")
    id_ = cli.json("list", SCOPE)["facts"][0]["id"]
    shared = cli.json("share", id_, "acme", "--reason", "everybody should know")
    assert shared["fact"]["sources"] == [id_]
    told = cli.json("audit", "--scope", "acme", "--verb", "curate", "--limit", "1")["entries"][0]
    assert (told["operation"], told["principal"], told["by"]) == ("share", "user:owner", "owner")
    table = cli("audit", "--who", "user:owner").rows
    assert [int(row["number"]) for row in table] == sorted((int(row["number"]) for row in table), reverse=True)


def test_verify_says_what_was_tampered_with(cli: Cli) -> None:
    cli("add", SCOPE, "I moved to Lisbon.")
    fine = cli.json("verify")
    assert fine["ok"]
    head = fine["head"]
    cli("add", SCOPE, "I work as a nurse.")
    assert cli.run("verify", "--expect", head).code == 0
    wrong = cli.run("verify", "--expect", f"{head[:-1]}{'0' if head[-1] != '0' else '1'}")
    assert (wrong.code, "expected_head" in wrong.out) == (1, True)
    assert cli.run("verify", "--expect", "latest").code == 2
    with sqlite3.connect(cli.store / "engram.db") as connection:
        connection.execute("UPDATE facts SET text = 'I moved to Rome.' WHERE text LIKE '%Lisbon%'")
    found = cli.run("verify")
    assert found.code == 1
    assert "row_changed: facts" in found.out
