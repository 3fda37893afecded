"""A save replaces a saved folder or fills an empty one, and touches nothing else."""

import errno
import os

import pytest
import torch

from alignflow.checkpoint import CheckpointError, is_saved, load_folder, save_folder
from alignflow.checkpoint import writing as module

ONE, TWO = {"a": torch.zeros(3)}, {"b": torch.ones(2)}
FILES = {"facts.json", "tensors.safetensors"}


def names(folder):
    return {path.name for path in folder.iterdir()}


def everything(root):
    """Every path under a folder with what stands there."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[path] = os.readlink(path)
        else:
            found[path] = path.read_bytes() if path.is_file() else path.stat().st_mode
    return found


def a_folder_with_a_thesis(path):
    path.mkdir()
    (path / "thesis.tex").write_text("ten years")


def a_file(path):
    path.write_text("ten years")


def a_model_with_a_readme(path):
    save_folder(path, ONE, {})
    (path / "README.md").write_text("mine")


def a_run_folder(path):
    path.mkdir()
    (path / "metrics.jsonl").write_text("{}")
    save_folder(path / "checkpoint", ONE, {})
    save_folder(path / "model", ONE, {})


def facts_of_somebody_else(path):
    path.mkdir()
    (path / "facts.json").write_text('{"sha256": "of something"}')
    (path / "tensors.safetensors").write_bytes(b"theirs")


def tensors_without_facts(path):
    path.mkdir()
    (path / "tensors.safetensors").write_bytes(b"theirs")


def links_to_files(path):
    save_folder(path.with_name("elsewhere"), ONE, {})
    path.mkdir()
    for name in FILES:
        (path / name).symlink_to(path.with_name("elsewhere") / name)


def folders_named_like_files(path):
    (path / "facts.json").mkdir(parents=True)


@pytest.mark.parametrize(
    "stand",
    [
        *(a_folder_with_a_thesis, a_file, a_model_with_a_readme, a_run_folder),
        *(facts_of_somebody_else, tensors_without_facts, links_to_files, folders_named_like_files),
        *(os.mkfifo, lambda path: path.symlink_to(path.name), lambda path: path.symlink_to("gone")),
        lambda path: path.symlink_to(os.devnull),
    ],
)
def test_whatever_is_no_saved_folder_is_refused_by_name_and_left_as_it_is(stand, tmp_path):
    folder = tmp_path / "here"
    stand(folder)
    before = everything(tmp_path)
    with pytest.raises(CheckpointError, match=f"{folder} .*it is left as it is"):
        save_folder(folder, TWO, {})
    assert everything(tmp_path) == before


def test_a_device_is_left_as_it_is():
    before = os.stat(os.devnull)
    with pytest.raises(CheckpointError, match=f"{os.devnull} is no folder"):
        save_folder(os.devnull, TWO, {})
    assert os.stat(os.devnull).st_rdev == before.st_rdev


@pytest.mark.parametrize("name", ["", "a\0b", 3, None, b"bytes", ["a"]], ids=repr)
def test_what_is_no_path_is_refused(name):
    for call in (lambda: save_folder(name, ONE, {}), lambda: load_folder(name)):
        with pytest.raises(CheckpointError, match="must be given by its path, got"):
            call()


def test_an_absent_an_empty_and_a_saved_folder_are_filled_with_parents_made(tmp_path):
    folder = tmp_path / "some" / "where"
    assert not is_saved(folder)
    save_folder(folder, ONE, {})
    (tmp_path / "empty").mkdir()
    assert not is_saved(tmp_path / "empty")
    for place in (folder, tmp_path / "empty"):
        assert save_folder(place, TWO, {"n": 1}) == place
        assert is_saved(place) and names(place) == FILES
        assert load_folder(place)[1] == {"n": 1}
    assert names(tmp_path) == {"some", "empty"} and names(folder.parent) == {"where"}


@pytest.mark.parametrize("name", [".", "./", "../model", "../model/.", "../model/"])
def test_a_folder_may_be_where_one_stands_and_stays_the_same_folder(name, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    monkeypatch.chdir(folder)
    inode = folder.stat().st_ino
    for tensors in (ONE, TWO):
        save_folder(name, tensors, {})
        assert set(load_folder(name)[0]) == set(tensors)
        assert set(load_folder(folder)[0]) == set(tensors)
    assert folder.stat().st_ino == inode and names(folder) == FILES and names(tmp_path) == {"model"}


def test_a_link_to_a_saved_folder_stays_one(tmp_path):
    save_folder(tmp_path / "model", ONE, {})
    (tmp_path / "link").symlink_to("model")
    save_folder(tmp_path / "link", TWO, {})
    assert os.readlink(tmp_path / "link") == "model"
    assert set(load_folder(tmp_path / "model")[0]) == {"b"}


def test_hidden_files_that_kills_left_do_not_count_and_are_removed_but_no_others(tmp_path):
    folder = save_folder(tmp_path / "model", ONE, {})
    left = [f".{64 * '0'}.{name}" for name in ("tensors.safetensors", "facts.json.part")]
    for name in left:
        (folder / name).write_text("left")
    save_folder(folder, TWO, {})
    assert names(folder) == FILES
    (folder / f".{63 * '0'}.facts.json.part").write_text("mine")
    with pytest.raises(CheckpointError, match="holds more than a saved checkpoint"):
        save_folder(folder, ONE, {})


@pytest.mark.parametrize("call", range(4))
def test_a_full_disk_leaves_the_old_folder_or_the_new_one(call, tmp_path, monkeypatch):
    folder, calls = save_folder(tmp_path / "model", ONE, {}), []

    def replace(*paths):
        calls.append(paths)
        if len(calls) == call + 1:
            raise OSError(errno.ENOSPC, "no space left on device")
        os.rename(*paths)

    monkeypatch.setattr(module.os, "replace", replace)
    if call < 3:
        with pytest.raises(OSError, match="no space left"):
            save_folder(folder, TWO, {})
    else:
        save_folder(folder, TWO, {})
    monkeypatch.undo()
    assert set(load_folder(folder)[0]) == ({"a"} if call < 2 else {"b"})
    save_folder(folder, ONE, {})
    assert names(folder) == FILES


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_numbers_that_are_none_are_refused_by_name_unless_they_are_meant(value, dtype, tmp_path):
    tensors = ONE | {"bad": torch.tensor([1.0, value], dtype=dtype)}
    with pytest.raises(CheckpointError, match="model: bad has 1 of 2 numbers that are NaN or inf"):
        save_folder(tmp_path / "model", tensors, {})
    assert names(tmp_path) == set()
    folder = save_folder(tmp_path / "model", tensors, {}, allow_nonfinite=True)
    with pytest.raises(CheckpointError, match="model: bad has 1 of 2 numbers that are NaN or inf"):
        load_folder(folder)
    loaded, _ = load_folder(folder, allow_nonfinite=True)
    torch.testing.assert_close(loaded["bad"], tensors["bad"], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "facts",
    [
        *({"a": float("nan")}, {"a": float("inf")}, {"a": torch.zeros(1)}, {"a": {1, 2}}),
        *({"sha256": "mine"}, {1: "a", "1": "b"}, {"a": "x" * 2**24}),
    ],
    ids=["NaN", "inf", "tensor", "set", "checksum", "one key twice", "long"],
)
def test_facts_that_could_not_be_read_again_are_refused(facts, tmp_path):
    with pytest.raises(ValueError, match="facts must"):
        save_folder(tmp_path / "model", ONE, facts)
    assert names(tmp_path) == set()
