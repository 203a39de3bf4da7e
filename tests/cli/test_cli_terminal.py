"""Terminals get tables that fit and colours unless they mind; pipes get whole rows; neither gets control sequences."""

from __future__ import annotations

import json
import re
import subprocess

from cli_support import PROGRAM, SCOPE, Cli

from engram_core import Engram

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def test_a_terminal_gets_a_table_with_ids_under_their_facts(filled: Cli) -> None:
    shown = _COLOUR.sub("", filled.terminal("list", SCOPE))
    lines = shown.splitlines()
    place = next(n for n, line in enumerate(lines) if "I moved to Lisbon in May." in line)
    assert filled.ids()[0] in lines[place + 1]
    assert all(len(line) <= 100 for line in lines)


def test_a_narrow_terminal_loses_no_words(filled: Cli) -> None:
    shown = _COLOUR.sub("", filled.terminal("recall", SCOPE, "Which city?", columns=60))
    flat = " ".join(shown.split())
    for word in ("Lisbon", "peanuts", "bees", "dense"):
        assert word in flat


def test_no_color_is_obeyed(filled: Cli) -> None:
    assert _COLOUR.search(filled.terminal("recall", SCOPE, "Lisbon"))
    plain = filled.terminal("recall", SCOPE, "Lisbon", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)


def test_long_texts_are_cut_on_terminals_only(cli: Cli) -> None:
    cli("add", SCOPE, "I keep bees and " + "honey " * 80)
    assert "…" in cli.terminal("list", SCOPE)
    (row,) = cli("list", SCOPE).rows
    assert row["fact"].count("honey") >= 79


def test_a_bar_moves_on_a_terminal_and_stays_out_of_pipes(cli: Cli, tmp_path: object) -> None:
    lines = "".join(f"The shelf number {n} holds {n} books.\n" for n in range(150))
    piped = cli.program("add", SCOPE, "-", stdin=lines.encode())
    assert "Remembering" not in piped.err
    source = cli.store.parent / "lines.json"
    source.write_text(json.dumps([{"content": line} for line in lines.splitlines()]))
    assert "150/150" in cli.terminal("add", "acme/other", "--file", str(source))


def test_a_row_is_one_line_in_a_pipe(cli: Cli) -> None:
    cli("add", SCOPE, "I keep\tbees\nand [bold]goats[/bold] :bee:.")
    (row,) = cli("list", SCOPE).rows
    assert row["fact"] == "User: I keep bees and [bold]goats[/bold] :bee:."


def test_control_sequences_never_reach_the_terminal(cli: Cli) -> None:
    with Engram.open(cli.store) as engram:
        recall = engram.memory(SCOPE).recall("who\x1b]0;pwned\x07 is \u202egnp")
    for shown in (cli("explain", recall.id).out, cli.terminal("explain", recall.id, NO_COLOR="1")):
        assert "pwned" in shown
        assert "\x1b]" not in shown
        assert "\x07" not in shown
        assert "\u202e" not in shown


def test_json_is_whole_on_a_terminal_and_in_any_encoding(cli: Cli) -> None:
    cli("add", SCOPE, "Die Töpferin heißt Zoë 🐝.")
    on_terminal = cli.terminal("list", SCOPE, "--json", columns=40)
    ascii_only = cli.program("list", SCOPE, "--json", PYTHONIOENCODING="ascii")
    for text in (on_terminal, ascii_only.out):
        assert json.loads(text)["facts"][0]["text"] == "Die Töpferin heißt Zoë 🐝."
    assert ascii_only.out.isascii()


def test_a_table_survives_an_encoding_that_lacks_its_letters(cli: Cli) -> None:
    cli("add", SCOPE, "Zoë keeps 🐝.")
    said = cli.program("list", SCOPE, PYTHONIOENCODING="ascii")
    assert said.code == 0
    assert "Zo\\xeb keeps" in said.out


def test_a_reader_that_stops_early_ends_it_quietly(cli: Cli) -> None:
    lines = "".join(f"The shelf number {n} holds {n} books and a lamp that stands on it.\n" for n in range(2000))
    cli("add", SCOPE, "-", stdin=lines)
    command = f"{' '.join(PROGRAM)} -s {cli.store} list {SCOPE} -n 2000 | head -n 1"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.startswith("said\t")
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
