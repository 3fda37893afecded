"""Run folders of earlier versions are read in the words of this one."""

import yaml

from alignflow.pipeline.folder import RunFolder
from alignflow.pipeline.older import TARGETS, modernized
from alignflow.pipeline.targets import shipped_targets


def test_targets_that_moved_are_found_where_they_are_now(tmp_path):
    config = {"data": {"_target_": "alignflow.targets.avatars", "n": 8}, "stages": ["report"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "targets.json").write_text('["alignflow.targets.avatars"]')
    folder = RunFolder(tmp_path)
    assert folder.config() == config | {"data": {"_target_": "alignflow.data.avatars", "n": 8}}
    assert folder.targets() == {"alignflow.data.avatars"}
    assert (tmp_path / "config.yaml").read_text() == yaml.safe_dump(config)


def test_what_this_version_ships_is_left_as_it_is():
    targets = shipped_targets()
    assert not set(targets) & set(TARGETS) and modernized(list(targets)) == list(targets)


def test_renamed_keys_are_renamed_in_nodes_of_the_package_alone():
    node = {"_target_": "alignflow.targets.bump_reward", "deviation": 2.0}
    assert modernized(node) == {"_target_": "alignflow.targets.bump_reward", "std": 2.0}
    custom = {"_target_": "my_module.my_reward", "deviation": 2.0}
    assert modernized({"reward": custom}) == {"reward": custom}
