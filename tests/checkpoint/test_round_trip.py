"""Checkpoints are whole or refused."""

import json

import pytest
import torch

from alignflow.checkpoint import CheckpointError, load_folder, load_parameters, save_folder


@pytest.fixture
def folder(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7, dtype=torch.int64)}
    return save_folder(tmp_path / "model", tensors, {"name": "α", "steps": 3})


def test_what_was_saved_is_loaded(folder):
    tensors, facts = load_folder(folder)
    assert torch.equal(tensors["a"], torch.arange(6.0).reshape(2, 3))
    assert tensors["b"].item() == 7
    assert facts == {"name": "α", "steps": 3}


def test_saving_again_replaces_the_whole_folder_and_leaves_nothing_else(folder):
    save_folder(folder, {"c": torch.zeros(1)}, {})
    tensors, facts = load_folder(folder)
    assert set(tensors) == {"c"} and facts == {}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_folder_that_a_kill_of_an_older_version_left_renamed_is_read_and_put_back(folder):
    folder.rename(folder.with_name(".model-old"))
    assert load_folder(folder)[1] == {"name": "α", "steps": 3}
    assert [path.name for path in folder.parent.iterdir()] == [".model-old"]
    save_folder(folder, {"c": torch.zeros(1)}, {})
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_tensors_that_share_memory_are_stored_apart(tmp_path):
    shared = torch.zeros(3)
    save_folder(tmp_path / "model", {"a": shared, "b": shared}, {})
    loaded, _ = load_folder(tmp_path / "model")
    assert torch.equal(loaded["a"], shared) and torch.equal(loaded["b"], shared)
    assert loaded["a"].data_ptr() != loaded["b"].data_ptr()


@pytest.mark.parametrize("keep", [0, 10, -1])
def test_a_truncated_file_is_refused(folder, keep):
    path = folder / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated or altered"):
        load_folder(folder)


def test_an_altered_file_is_refused(folder):
    path = folder / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="truncated or altered"):
        load_folder(folder)


def test_a_missing_file_is_named(folder):
    (folder / "tensors.safetensors").unlink()
    with pytest.raises(CheckpointError, match="tensors.safetensors is missing"):
        load_folder(folder)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"name": 1})])
def test_broken_facts_are_refused(folder, text):
    (folder / "facts.json").write_text(text)
    with pytest.raises(CheckpointError, match="facts.json"):
        load_folder(folder)


def test_weights_of_another_network_are_refused(folder):
    tensors, _ = load_folder(folder)
    with pytest.raises(CheckpointError, match="does not fit Linear"):
        load_parameters(torch.nn.Linear(2, 2), tensors, "the folder")
