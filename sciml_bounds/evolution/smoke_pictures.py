"""Images and animations of recorded smoke, drawn with matplotlib, which is imported on first use.

In three dimensions the view is along y. Smoke in front of a body dims the body, and a body hides the smoke behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from sciml_bounds.errors import InputError
from sciml_bounds.plot import new_figure
from sciml_bounds.store.reading.contents import Array, Contents
from sciml_bounds.store.reading.readers import open_file
from sciml_bounds.store.safety.writer import check_target, replacing

__all__ = ["ANIMATIONS", "PICTURES", "animate", "draw"]

#: File name endings of images and animations.
PICTURES, ANIMATIONS = (".png", ".pdf", ".svg"), (".gif",)

#: Extinction coefficient: smoke of density 1 along a path of length 1 transmits exp(-OPACITY) of the light.
OPACITY = 8.0

#: Number of frames in an image.
FRAMES_PER_IMAGE = 4

#: Colour map of smoke, and colour of bodies.
COLOUR_MAP, BODY_COLOUR = "inferno", (0.55, 0.6, 0.65)

#: Minimum number of pixels along the longer side of an animation, and duration of a frame in milliseconds.
MIN_PIXELS, FRAME_MILLISECONDS = 384, 80


def draw(recording: Path | str, path: Path | str) -> None:
    """Draw equally spaced frames of a recording side by side, the last frame included.

    Parameters
    ----------
    recording : path
        File written by `record`.
    path : path
        Image to write, ending in .png, .pdf or .svg.

    Raises
    ------
    InputError
        If the recording cannot be read, or the image cannot be written.
    """
    target = check_target(path, PICTURES)
    with ExitStack() as files:
        contents = _opened(recording, files)
        times = contents.read("time")
        shown = np.unique(np.linspace(0, len(times) - 1, FRAMES_PER_IMAGE + 1).round().astype(int)[1:])
        images = [_image(contents, int(index)) for index in shown]
        extent = [part for axis in _visible(contents) for part in contents.read(f"{axis}_face")[[0, -1]]]
    figure = new_figure(3.6 * len(shown), 3.9)
    for axes, image, time in zip(figure.subplots(1, len(shown), squeeze=False)[0], images, times[shown]):
        axes.imshow(image, extent=extent)
        axes.set(title=f"t = {time:.3g}", xticks=[], yticks=[])
    with replacing(target) as part:
        figure.savefig(part, format=target.suffix[1:].lower())


def animate(recording: Path | str, path: Path | str) -> None:
    """Write an animation of all frames of a recording.

    Parameters
    ----------
    recording : path
        File written by `record`.
    path : path
        Animation to write, ending in .gif.

    Raises
    ------
    InputError
        If the recording cannot be read, or the animation cannot be written.
    """
    from PIL import Image

    target = check_target(path, ANIMATIONS)
    with ExitStack() as files:
        contents = _opened(recording, files)
        frames = [Image.fromarray(image) for image in _enlarged(contents)]
    with replacing(target) as part:
        frames[0].save(
            part, format="GIF", save_all=True, append_images=frames[1:], duration=FRAME_MILLISECONDS, loop=0
        )  # fmt: skip


def _opened(recording: Path | str, files: ExitStack) -> Contents:
    """Open a file and check that it is a recording of smoke."""
    if not isinstance(recording, str | Path):
        raise InputError(f"the recording is {recording!r}; give the name of a file.")
    contents = open_file(Path(recording), "the recording", files)
    missing = [name for name in ("time", "density", "solid") if name not in contents.arrays]
    if missing:
        raise InputError(
            f"{recording} is not a recording of smoke, since it has no {', '.join(missing)}; give a file that "
            "sb.simulation.record has written."
        )
    return contents


def _enlarged(contents: Contents) -> Iterator[Array]:
    for index in range(len(contents.read("time"))):
        image = (255 * _image(contents, index)).round().astype(np.uint8)
        factor = -(-MIN_PIXELS // max(image.shape[:2]))
        yield image.repeat(factor, 0).repeat(factor, 1)


def _visible(contents: Contents) -> tuple[str, str]:
    """Return the names of the horizontal and vertical axes of the image."""
    return ("x", "z") if "z" in contents.arrays else ("x", "y")


def _image(contents: Contents, index: int) -> Array:
    """Render one frame as colours (vertical, horizontal, 3), with the top row first."""
    smoke, solid = contents.read("density", index), contents.read("solid", index) != 0
    bodies = solid.astype(np.float64)
    if smoke.ndim == 3:
        depth = float(np.ptp(contents.read("y_face")))
        in_front = np.cumsum(solid, 1) == 0
        through = np.exp(-OPACITY * depth * (smoke * in_front).mean(1))  # transmitted light
        smoke, bodies = 1.0 - through, np.where(solid.any(1), through, 0.0)
    return _coloured(smoke, bodies).swapaxes(0, 1)[::-1]


def _coloured(smoke: Array, bodies: Array) -> Array:
    """Return the colours of smoke blended with the colour of bodies; both arguments are in [0, 1]."""
    import matplotlib

    colours = matplotlib.colormaps[COLOUR_MAP](np.clip(smoke, 0.0, 1.0))[..., :3]
    mixed: Array = colours + bodies[..., None] * (np.array(BODY_COLOUR) - colours)
    return mixed
