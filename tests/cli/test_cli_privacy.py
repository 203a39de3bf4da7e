"""The commands that erase, hold, move and restore: what they refuse, and what they say of what they found."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from cli_support import SCOPE, Cli

from engram_core import InvalidInput
from engram_core.cli.command import Place

EVE = ("--principal", "user:eve")
STORE_WIDE = [
    ["backup", "b.engram"], ["restore", "--backup", "b.engram", "--replace"], ["migrate", "store", "copy"], ["reindex"],
    ["verify"], ["residue", "--text", "Lisbon"], ["holds"], ["erasures"], ["doctor"], ["nights"], ["audit"],
    ["grants"], ["group", "list"], ["group", "add", "group:a", "user:eve"], ["who-can", "read", SCOPE],
    ["why", "user:owner", "read", SCOPE], ["break-glass", SCOPE, "--reason", "x"], ["gaps"], ["proposals"],
    ["quarantine", "list"], ["scan"], ["lab", "archive"], ["lab", "run", "--evaluations", "1"],
]  # fmt: skip


def test_a_restore_says_what_it_kept(filled: Cli, tmp_path: Path) -> None:
    filled("grant", "user:bob", "reader", SCOPE)
    filled("backup", str(tmp_path / "b.engram"))
    filled("revoke", "user:bob", "reader", SCOPE)
    filled("hold", SCOPE, "--reason", "case 7")
    said = filled("restore", "--backup", str(tmp_path / "b.engram"), "--replace")
    assert "1 grants revoked since stay revoked." in said.out
    assert "1 legal holds placed since stay in force." in said.out
    assert filled.json("grants")["grants"] == []
    assert [item["reason"] for item in filled.json("holds")["holds"]] == ["case 7"]
    said = filled("restore", "--backup", str(tmp_path / "b.engram"), "--store", str(tmp_path / "new"))
    assert "No store stood there: grants, groups, private scopes and legal holds are as of the backup." in said.err


@pytest.mark.parametrize("arguments", STORE_WIDE, ids=" ".join)
def test_what_concerns_the_store_is_its_owners(filled: Cli, arguments: list[str]) -> None:
    run = filled.program if arguments[0] == "migrate" else filled.run
    said = run(*arguments, *EVE)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("engram: ")
    assert "nly the" in said.err
    assert "owner" in said.err
    assert not Path("b.engram").exists()
    assert not Path("copy").exists()


@pytest.mark.parametrize("listing", ["gaps", "proposals", "quarantine list"])
def test_others_list_what_they_may_decide(filled: Cli, listing: str) -> None:
    said = filled.run(*listing.split(), SCOPE, *EVE)
    assert said.code == 2
    assert "user:eve may not" in said.err
    filled("grant", "user:eve", "curator", SCOPE)
    filled(*listing.split(), SCOPE, *EVE)


def test_an_id_that_is_hidden_is_an_id_that_is_not_there(filled: Cli) -> None:
    there, not_there = filled.ids()[0], "01a21631-ee50-7234-a25b-66dc02137fe8"
    for arguments in (["erase", "--yes"], ["hold", "--reason", "x"], ["quarantine", "release"]):
        told = []
        for id_ in (there, not_there):
            said = filled.run(*arguments, id_, *EVE)
            assert said.code == 2
            told.append(said.err.replace(id_, "ID"))
        assert told[0] == told[1]
    told = [filled.run("erase", "--subject", name, "--yes", *EVE).err for name in ("alice", "nobody")]
    assert told[0] == told[1]
    assert "only the store's owner erases wherever something stands" in told[0]
    told = [filled.run("erase", "--scope", f"acme/support/{name}", "--yes", *EVE).err for name in ("alice", "nobody")]
    assert told[0] == told[1].replace("nobody", "alice")


@pytest.mark.parametrize("change", [lambda id_: id_[:-1], lambda id_: id_ + "0", lambda id_: "z" + id_[1:], str.upper])
def test_a_hold_on_a_mistyped_fact_is_an_error(filled: Cli, change: object) -> None:
    id_ = filled.ids()[0]
    said = filled.run("hold", change(id_), "--reason", "case 7")  # type: ignore[operator]
    assert said.code == 2
    assert filled.json("holds")["holds"] == []
    filled("hold", id_, "--reason", "case 7")
    assert filled.json("holds")["holds"][0]["fact"] == id_


def test_a_hold_on_a_scope_that_holds_nothing_says_so(filled: Cli) -> None:
    said = filled("hold", "acme/nowhere", "--reason", "case 7")
    assert "Nothing is stored in acme/nowhere yet" in said.err
    assert "Nothing is stored" not in filled("hold", "acme", "--reason", "case 8").err
    assert filled.json("hold", "acme/else", "--reason", "case 9")["is_empty"] is True


@pytest.mark.parametrize("what", [["--subject", "nobody"], ["--scope", "acme/nowhere"]])
@pytest.mark.parametrize("how", ["--yes", "--dry-run"])
def test_erasing_what_is_not_there_finds_nothing(filled: Cli, what: list[str], how: str) -> None:
    said = filled.run("erase", *what, how)
    assert (said.code, said.out) == (2, "")
    assert "Nothing was found" in said.err
    assert filled.json("erasures")["erasures"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", "bad.jsonl"],
        ["import", "missing.jsonl"],
        ["import", "bad.jsonl", "--from", "nobody", "--scope", "acme"],
        ["restore", "--backup", "bad.jsonl"],
        ["add", SCOPE, "x", "--importance", "2"],
        ["add", SCOPE, "Said by a stranger.", *EVE],
        ["grant", "nobody", "reader", SCOPE],
        ["private", SCOPE, *EVE],
        ["policy", "set", SCOPE, "max_facts=-1"],
        ["lab", "run", "--task", "nothing"],
    ],
    ids=" ".join,
)
def test_a_command_that_fails_leaves_no_store(cli: Cli, arguments: list[str]) -> None:
    Path("bad.jsonl").write_text("rubbish\n")
    said = cli.run(*arguments)
    assert said.code == 2
    assert said.err.startswith("engram: ")
    assert not cli.store.exists()
    cli.store.mkdir()
    (cli.store / "index").mkdir()
    (cli.store / "index" / "notes.txt").write_text("mine")
    assert cli.run(*arguments).code == 2
    assert [path.relative_to(cli.store).as_posix() for path in sorted(cli.store.rglob("*"))] == [
        "index", "index/notes.txt",
    ]  # fmt: skip


def test_a_search_of_what_is_not_there_is_an_error(filled: Cli, tmp_path: Path) -> None:
    said = filled.run("residue", "--text", "Lisbon", str(tmp_path / "no-log.txt"))
    assert (said.code, said.out) == (2, "")
    assert "no-log.txt" in said.err


def test_promoting_takes_the_right_to_decide_there(filled: Cli) -> None:
    filled("lab", "run", "--task", "forgetting", "--evaluations", "1", "--starts", "1", "--alone")
    design = filled.json("lab", "archive")["rows"][0]["id"]
    said = filled.run("lab", "promote", design, SCOPE, "--task", "forgetting", *EVE)
    assert said.code == 2
    assert "user:eve may not read" in said.err


def test_a_gap_that_is_hidden_is_a_gap_that_is_not_there(filled: Cli) -> None:
    asked = ["What's my parking space?", "I'm sorry, I don't have that information."]
    lines = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), asked, strict=True)]
    filled("add", SCOPE, "--file", "-", stdin=json.dumps(lines))
    filled("reflect", SCOPE)
    (gap,) = filled.json("gaps")["gaps"]
    told = [filled.run("dismiss", id_, *EVE).err.replace(id_, "ID") for id_ in (gap["id"], "no-gap")]
    assert told[0] == told[1]
    assert "There is no gap" in told[0]
    filled("dismiss", gap["id"])


def test_a_new_store_that_somebody_else_uses_stays(cli: Cli) -> None:
    with pytest.raises(InvalidInput), Place(str(cli.store)).made():
        other = sqlite3.connect(cli.store / "engram.db")
        other.execute("SELECT COUNT(*) FROM facts").fetchone()
        raise InvalidInput("a file that is none")
    assert (cli.store / "engram.db").exists()
    other.close()
