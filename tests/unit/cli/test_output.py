"""Tables fit a terminal, and are whole where a program reads."""

import io
import sys

import pytest

from tq.cli.output import document, table
from tq.model import TaskStatus


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_aligned_and_never_cut_where_a_program_reads(capsys: pytest.CaptureFixture[str]) -> None:
    table(("ID", "ERROR"), [("a" * 100, "x" * 100), ("b", None)], empty="nothing")
    head, first, second = capsys.readouterr().out.splitlines()
    assert head == f"ID{' ' * 100}ERROR"
    assert first == f"{'a' * 100}  {'x' * 100}"
    assert second == "b"


def test_a_terminal_gets_colours_and_whole_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    table(("ID", "STATUS", "ERROR"), [("i" * 40, "failed", "[red]x[/] " + "e" * 200)], empty="nothing")
    shown = terminal.getvalue()
    assert "i" * 40 in shown
    assert "\x1b[31mfailed" in shown
    assert "e" * 60 not in shown


def test_json_holds_names_and_instants_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    document({"status": TaskStatus.FAILED, "raw": b"\xff", "name": "größer"})
    assert capsys.readouterr().out == '{\n  "status": "failed",\n  "raw": "\\\\xff",\n  "name": "größer"\n}\n'
