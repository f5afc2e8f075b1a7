"""Mistakes on the command line are reported in one line."""

import pytest

from tests.support import zoo_fixtures

HOSTILE = "[/b][red]\x1b[2J\u202e\n" + "x" * 10_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian", "no command trian; did you mean train? (see `zoojax --help`)"),
        ("", "needs one of presets, train, sparsify"),
        ("--verison", "no option --verison; did you mean --version?"),
        ("sparsify", "sparsify needs one of list, magnitude-pruning, random-pruning"),
        ("sparsify magntude", "no command magntude; did you mean magnitude-pruning?"),
        ("train", "train needs PRESET and --out ZOO (see `zoojax train --help`)"),
        ("train p", "train needs --out ZOO"),
        ("train p --memebrs 4", "train has no option --memebrs; did you mean --members?"),
        ("train p --out z --memebrs=4", "did you mean --members?"),
        ("train p --out z --batch_sise 4", "did you mean --batch-size?"),
        ("train p --out z --cunk 4", "did you mean --chunk?"),
        ("train p --out z --num-process 4", "did you mean --num-processes?"),
        ("info z --chek", "info has no option --chek; did you mean --check?"),
        ("info z --ratios", "info has no option --ratios ("),
        ("convert from-torch a --out z --epoch 3", "from-torch has no option --epoch; did you "),
        ("represent sample r --out z", "sample needs --members N"),
        ("info a b", "info takes no further argument 'b'"),
        ("train p --out z --members many", "--members expects a whole number, not 'many'"),
        ("train p --out z --members=1.5", "--members expects a whole number, not '1.5'"),
        ("train p --out z --batch_size x", "--batch-size expects whole numbers, not 'x'"),
        ("train p --out z --learning-rate 0.1 fast", "--learning-rate expects numbers, not 'fast'"),
        ("sparsify magnitude-pruning a --out z --ratios 1 b", "--ratios expects numbers, not 'b'"),
        ("sparsify dense a --out z", "sparsify has no command dense"),
        ("presets --plugin", "--plugin needs a value: MODULE"),
        ("--plugin=", "--plugin needs a value: MODULE"),
        ("presets --plugins m", "presets has no option --plugins; did you mean --plugin?"),
        ("bench --seconds long", "--seconds expects a number, not 'long'"),
        ("train p --out z --data-order random", "--data-order is 'random'; give one of member, "),
        ("represent train a --out z --tokens q", "--tokens is 'q'; give one of chunk, neuron ("),
        ("train p --out", "--out needs a value: ZOO"),
        ("train p --out z --members", "--members needs a value: N"),
        ("info z --json=no", "--json takes no value"),
    ],
)
def test_mistakes_are_reported_in_one_line(refused, words, message):
    assert message in refused(*words.split())


def test_unprintable_text_in_a_mistake_is_escaped(refused):
    for words in (
        ("train", "p", "--out", "z", "--members", HOSTILE),
        ("info", "z", f"--x{HOSTILE}"),
    ):
        line = refused(*words)
        assert "\x1b" not in line and "\u202e" not in line and len(line) < 300
        assert "[/b][red]\\x1b[2J\\u202e\\nx" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("dance",),
        ("train",),
        ("train", "usps-s-seed"),
        ("train", "usps-s-seed", "--out", "x", "--epochs", "many"),
        ("train", "usps-s-seed", "--out", "x", "--data-order", "random"),
        ("sparsify", "magnitude-pruning", "x", "--out", "y", "--scope", "channel"),
        ("info", "x", "--jsn"),
    ],
)
def test_invalid_command_lines(run_cli, arguments):
    zoo_fixtures.assert_refused(run_cli(*arguments), "--help`)")
