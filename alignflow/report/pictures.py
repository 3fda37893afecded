"""Images as they stand in a page: PNG in a data URI, small ones enlarged pixel by pixel."""

import base64
import io

from PIL import Image
from torch import Tensor

from alignflow.results import ReportError

__all__ = ["COLUMNS", "episode_rows", "is_pixel_art", "png_uri", "same_noise_rows"]

COLUMNS = 8
SHOWN = 128  # px; browsers keep the pixels of what they enlarge themselves, printers do not


def png_uri(image: Tensor) -> str:
    """An image (C, H, W) in [0, 1], gray or RGB, as a data URI."""
    times = max(SHOWN // max(image.shape[-2:]), 1)
    image = image.repeat_interleave(times, -2).repeat_interleave(times, -1)
    pixels = (image.float().clamp(0, 1) * 255).round().byte().movedim(0, -1).squeeze(-1).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def same_noise_rows(samples: dict[str, Tensor]) -> list[list[tuple[str, list[str]]]]:
    """Blocks of `COLUMNS` noises, each a row of images for each model, in the order drawn.

    Args:
        samples: (n, C, H, W) by model; the i-th of each is of the same noise.

    Raises:
        ReportError: If the samples are no gray or RGB images.
    """
    for name, images in samples.items():
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ReportError(
                f"samples of {name!r} must be images (n, 1 or 3, H, W), got {tuple(images.shape)}"
            )
    uris = {name: [png_uri(image) for image in images] for name, images in samples.items()}
    count = min(map(len, uris.values()), default=0)
    return [
        [(name, row[start : start + COLUMNS]) for name, row in uris.items()]
        for start in range(0, count, COLUMNS)
    ]


def episode_rows(
    states: dict[str, Tensor], steps: list[int], count: int
) -> list[list[tuple[str, list[str]]]]:
    """Blocks of episodes, each a row of images for each model, from its noise to its end.

    Args:
        states: (n, T + 1, C, H, W) by model.
        steps: Which of the T + 1, at most `COLUMNS`.
        count: Episodes.
    """
    return [
        [(name, [png_uri(image) for image in path[i, steps]]) for name, path in states.items()]
        for i in range(min(count, *map(len, states.values())))
    ]


def is_pixel_art(samples: dict[str, Tensor]) -> bool:
    """Whether the images are so small that enlarging should keep their pixels."""
    return all(max(images.shape[-2:]) <= 64 for images in samples.values())
