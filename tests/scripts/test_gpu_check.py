"""The script that checks a GPU tells what failed, and writes nothing where there is none."""

import sys

import gpu_check
import pytest
import torch


def failing(device, limit):
    raise RuntimeError("out of memory")


def check(monkeypatch, folder, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--folder", str(folder), *arguments])
    gpu_check.main()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_written(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        check(monkeypatch, tmp_path / "gpu")
    assert "no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "gpu").exists()


def test_a_part_that_fails_is_told_beside_the_others_and_fails_the_script(monkeypatch, tmp_path):
    parts = {"One": failing, "Two": lambda device, limit: f"on {device}"}
    monkeypatch.setattr(gpu_check, "PARTS", parts)
    with pytest.raises(SystemExit, match="something failed"):
        check(monkeypatch, tmp_path, "--device", "cpu")
    page = (tmp_path / "cpu.md").read_text()
    assert "## One\n\nfailed: RuntimeError: out of memory" in page and "## Two\n\non cpu" in page


def test_no_part_is_begun_when_the_time_is_over(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "PARTS", {"One": failing})
    check(monkeypatch, tmp_path, "--device", "cpu", "--minutes", "0")
    assert "Left out: no time was left" in (tmp_path / "cpu.md").read_text()


def test_a_method_that_fails_is_a_row_of_its_table():
    def run(method, place):
        if method == "bad":
            raise ValueError("no")
        return 1.0, None, torch.ones(2)

    table = gpu_check._beside(
        ["good", "bad"], run, torch.device("cpu"), gpu_check.Limit(1), "apart"
    )
    assert "| good | 1 | 1 |  | 0.0e+00 |" in table and "| bad | failed: ValueError: no |" in table


def test_some_parts_alone_are_chosen_by_how_they_begin(monkeypatch, tmp_path, capsys):
    parts = {name: lambda device, limit: f"on {device}" for name in ("One", "Two", "Two more")}
    monkeypatch.setattr(gpu_check, "PARTS", parts)
    check(monkeypatch, tmp_path, "--device", "cpu", "--parts", "two")
    page = (tmp_path / "cpu_two.md").read_text()
    assert "## Two\n" in page and "## Two more\n" in page and "## One" not in page
    with pytest.raises(SystemExit):
        check(monkeypatch, tmp_path, "--device", "cpu", "--parts", "three")
    assert "--parts must begin names of One, Two, Two more" in capsys.readouterr().err


def test_the_kernels_are_checked_and_timed():
    page = gpu_check.kernels(torch.device("cpu"), gpu_check.Limit(1))
    assert gpu_check.FAILED not in page
    assert page.count("| the kernel |") == 5


def test_a_step_of_training_text_has_one_loss_with_the_kernels_and_without():
    page = gpu_check.text_training(torch.device("cpu"), gpu_check.Limit(1))
    losses = [row.rpartition(" | ")[2] for row in page.splitlines() if "N, L, V" in row]
    assert len(losses) == 4 and losses[0] == losses[1] and losses[2] == losses[3]
