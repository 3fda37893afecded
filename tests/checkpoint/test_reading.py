"""A folder is whole or refused by name, whatever it is, and reading it writes nothing."""

import json
import os
import random
import shutil
from hashlib import sha256

import pytest
import torch
from fuzzing.damage import POLICY_DAMAGES, damage, make_policy, sign

import alignflow as af
from alignflow.checkpoint import (
    CheckpointError,
    build_without_memory,
    fact,
    is_saved,
    load_folder,
    save_folder,
)
from alignflow.policies import MLP, FlowMapPolicy, UNet

DAMAGED = 250


@pytest.fixture
def folder(tmp_path):
    return save_folder(tmp_path / "model", {"a": torch.arange(6.0)}, {"name": "x", "steps": 3})


def age(folder):
    """Make a folder what older versions wrote, which hashed the tensors alone."""
    facts = json.loads((folder / "facts.json").read_text())
    facts["sha256"] = facts["sha256"]["tensors"]
    (folder / "facts.json").write_text(json.dumps(facts, indent=2))


def test_any_flipped_bit_of_either_file_is_refused(folder):
    for path in folder.iterdir():
        content = path.read_bytes()
        for place in range(8 * len(content)):
            changed = bytearray(content)
            changed[place // 8] ^= 1 << place % 8
            path.write_bytes(changed)
            with pytest.raises(CheckpointError, match=str(folder)):
                load_folder(folder)
        path.write_bytes(content)
    assert load_folder(folder)[1] == {"name": "x", "steps": 3}


def test_facts_and_tensors_of_two_saves_do_not_pass_for_one(folder, tmp_path):
    other = save_folder(tmp_path / "other", {"a": torch.arange(6.0)}, {"name": "x", "steps": 4})
    facts = json.loads((folder / "facts.json").read_text())
    facts["sha256"]["facts"] = json.loads((other / "facts.json").read_text())["sha256"]["facts"]
    (folder / "facts.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match=r"facts.json is altered"):
        load_folder(folder)


def test_folders_of_older_versions_open(folder):
    age(folder)
    assert load_folder(folder)[1] == {"name": "x", "steps": 3}
    save_folder(folder, {"b": torch.zeros(1)}, {})
    assert load_folder(folder)[1] == {}


def test_a_folder_between_the_two_renames_of_a_save_is_read_as_the_new_one(folder, tmp_path):
    new = save_folder(tmp_path / "new", {"b": torch.ones(2)}, {"steps": 4})
    digest = sha256((new / "tensors.safetensors").read_bytes()).hexdigest()
    shutil.copy(new / "tensors.safetensors", folder / f".{digest}.tensors.safetensors")
    shutil.copy(new / "facts.json", folder / "facts.json")
    before = sorted(folder.iterdir()), folder.stat().st_mtime_ns
    tensors, facts = load_folder(folder)
    assert set(tensors) == {"b"} and facts == {"steps": 4}
    assert (sorted(folder.iterdir()), folder.stat().st_mtime_ns) == before


def test_what_a_first_save_left_that_was_killed_is_nothing_saved(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / f".{64 * '0'}.tensors.safetensors.part").write_text("half")
    assert not is_saved(folder)
    (folder / "tensors.safetensors").write_text("a whole file without its facts")
    assert is_saved(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": 1e999}', "1e999 is no number"),
        ('{"a": 1, "a": 2}', "key 'a' twice"),
        ('{"a": ' + "9" * 5000 + "}", "4300 digits"),
        ('{"sha256": {"tensors": "../../etc", "facts": ""}}', "no checksum"),
        (" " * (2**24 + 1), "longer than"),
    ],
    ids=["deep", "NaN", "infinite", "twice", "digits", "path", "long"],
)
def test_json_with_surprises_is_refused(text, reason, folder):
    (folder / "facts.json").write_text(text)
    with pytest.raises(CheckpointError, match=f"{folder}/facts.json .*{reason}"):
        load_folder(folder)


@pytest.mark.parametrize("name", ["facts.json", "tensors.safetensors"])
@pytest.mark.parametrize("kind", ["FIFO", "folder", "/dev/zero", "loop"])
def test_only_regular_files_are_read(kind, name, folder):
    path = folder / name
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind if kind == "/dev/zero" else name)
    with pytest.raises(CheckpointError, match=str(path)):
        load_folder(folder)


@pytest.mark.parametrize("value", [None, "3", 3.0, True, [3]], ids=repr)
def test_a_fact_of_another_type_is_refused_by_name(value):
    assert fact({"step": 3}, "step", int, "run") == 3 and fact({"rate": 3}, "rate", float, "r") == 3
    with pytest.raises(CheckpointError, match="run/facts.json: step must be of type int, got"):
        fact({"step": value}, "step", int, "run")
    with pytest.raises(CheckpointError, match="run/facts.json lacks 'step'"):
        fact({}, "step", int, "run")


def test_damaged_and_hostile_models_are_all_refused_by_their_path(tmp_path):
    for number in range(8):
        make_policy(number).save(tmp_path / f"sound{number}")
    for case in range(DAMAGED):
        chance = random.Random(case)
        number, folder = chance.randrange(8), tmp_path / f"damaged{case}"
        shutil.copytree(tmp_path / f"sound{number}", folder)
        other = tmp_path / f"sound{(number + 4) % 8}"
        what = damage(folder, other, chance, POLICY_DAMAGES)
        with pytest.raises(CheckpointError, match=str(folder)):
            af.load(folder)
            pytest.fail(f"{case}, {what}: loaded")
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("arguments", [{"width": 16_000}, {"depth": 10**9}, {"classes": 10**9}])
def test_a_network_larger_than_its_file_is_refused_before_it_takes_memory(arguments, tmp_path):
    folder = FlowMapPolicy(MLP(2, 8, 2), (2,)).save(tmp_path / "model")
    facts = json.loads((folder / "facts.json").read_text())
    facts["arguments"] |= arguments
    sign(folder, facts)
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Linear, "reset_parameters", lambda layer: made.append(layer))
        with pytest.raises(CheckpointError, match=f"{folder} (does not fit|names no network)"):
            af.load(folder)
    assert len(made) < 1000 and all(layer.weight.is_meta for layer in made)


def test_a_network_that_is_refused_leaves_torch_as_it_was(tmp_path):
    # more tensors than are allowed, each number of them more, so that it ends at any of its calls
    for limit in range(40):
        shapes = {str(number): (1,) for number in range(limit)}
        with pytest.raises(CheckpointError, match="larger than the file"):
            build_without_memory(lambda: UNet(widths=(8,) * 30, attention=(True,) * 30), shapes, "")
        assert torch.is_grad_enabled() and torch.empty(1).device.type == "cpu"
