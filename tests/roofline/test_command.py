"""`alignflow roofline`, as a user meets it."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from alignflow.cli import main
from alignflow.roofline import DEVICES

TINY = ["--layers", "1", "--width", "8", "--heads", "2", "--vocabulary", "5", "--length", "4"]


def found(capsys, *arguments):
    assert main(["roofline", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_table_shows_each_decoder_at_each_batch(capsys):
    assert main(["roofline", "--device", "h100", "l4", "--batch", "1", "7"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for word in ("H100 SXM: 990 TFLOP/s", "L4: 121 TFLOP/s", "ridge at 295", "datasheet"):
        assert word in shown
    for name in ("batch 1", "batch 7", "autoregressive", "speculative, 4", "flow map, 8 steps"):
        assert shown.count(name) == (2 if "batch" in name else 4)


def test_every_device_of_the_table_is_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["roofline", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in DEVICES)


def test_all_numbers_come_as_json(capsys):
    read = found(capsys, *TINY, "--kv-heads", "1", "--steps", "3", "--dtype", "float32")
    assert read["model"] == {
        "layers": 1, "width": 8, "heads": 2, "kv_heads": 1, "vocabulary": 5, "expansion": 4.0,
        "dtype": "float32",
    }  # fmt: skip
    assert [each["name"] for each in read["devices"]] == ["H100 SXM"]
    names = {each["decoder"] for each in read["estimates"]}
    assert names == {"autoregressive", "speculative, 4", "flow map, 3 steps"}
    for each in read["estimates"]:
        assert each["intensity"] == pytest.approx(each["flops"] / each["bytes"])
        assert each["flops"] == pytest.approx(sum(p["flops"] for p in each["parts"].values()))


def test_a_device_of_ones_own(capsys):
    read = found(capsys, "--peak", "2", "--bandwidth", "500")
    (device,) = read["devices"]
    assert device["peak"] == {"bfloat16": 2e12} and device["bandwidth"] == 5e11


def test_the_plot_is_a_picture(cwd):
    assert main(["roofline", "--device", "h100", "l4", "--plot", "deep/roofline.png"]) == 0
    assert Image.open("deep/roofline.png").width > 500


def test_this_machine_is_measured(capsys):
    arguments = ["--batch", "1", "2", "--steps", "1", "2", "--device", "l4", "--measure"]
    read = found(capsys, *TINY, *arguments)
    stated, machine = read["devices"]
    assert stated["name"] == "L4" and "measured" in machine["source"]
    assert len(read["measured"]) == 2 * 3
    for each in read["measured"]:
        rate = each["tokens_a_second"]
        assert 0 < rate["least"] <= rate["median"] <= rate["most"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_gpu_that_is_not_there_is_told(capsys):
    assert main(["roofline", "--measure", "cuda"]) == 1
    assert "--measure cuda needs a GPU, and torch finds none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--peak", "5"], "--peak and --bandwidth make a device together: give both"),
        (["--peak", "-5", "--bandwidth", "1"], "--peak must be a positive number"),
        (["--device", "h10"], "did you mean 'h100'"),
        (["--dtype", "bf16"], "did you mean 'bfloat16'"),
        (["--length", "0"], "--length must be a whole number of at least 1"),
        (["--batch", "1", "0"], "--batch must be a whole number of at least 1"),
        (["--steps", "0"], "steps must be a whole number of at least 1"),
        (["--heads", "3"], "heads must divide width"),
        (["--plot", "roofline.txt"], "a picture must end in .png"),
        (["--measure", "--context", "5"], "leave out --context"),
        (["--measure", "--dtype", "float8"], "got float8"),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_bad_options_are_told_in_a_line(arguments, said, capsys):
    assert main(["roofline", *arguments]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and said in shown
    assert not Path("roofline.txt").exists()
