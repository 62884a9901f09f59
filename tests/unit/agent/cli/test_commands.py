"""The command line as a whole."""

import pytest

from agent import __version__
from agent.cli import main
from agent.cli.commands import make_parser


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"shorthaul {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["topolgy"], ["topology", "--nothing"], ["scrub", "stop"], ["explain"]]
)
def test_wrong_usage_is_2_and_says_what_is_right(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("usage: shorthaul")
    assert "error:" in told


def test_the_parser_of_one_command_takes_what_that_of_all_takes() -> None:
    for argv in (["agent", "--config", "x"], ["scrub", "start"], ["configure", "--dry-run"], ["ready"]):
        assert vars(make_parser(argv).parse_args(argv)) == vars(make_parser().parse_args(argv))


def test_help_names_every_command_and_the_exit_statuses() -> None:
    text = make_parser().format_help()
    for command in ("agent", "topology", "explain", "probe", "verify", "doctor", "scrub"):
        assert f"\n    {command}" in text
    assert "141" in text


@pytest.mark.parametrize("command", ["topology", "explain", "verify", "doctor", "scrub", "probe"])
def test_every_command_that_shows_something_has_json(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--json" in capsys.readouterr().out
