"""The config groups, and what Hydra must know before it composes them.

The keys of a part that goes by a method are the options of that method, which stand in its class
and not in a YAML; so Hydra lets any be set, and the pipeline refuses an unknown one.
"""

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

OPEN_PARTS = ("steerer", "finetuner")

_OPEN = {part: DictConfig({}, flags={"struct": False}) for part in OPEN_PARTS}
ConfigStore.instance().store("open_parts", DictConfig(_OPEN))
