"""Write results as VTK files: one image (.vti), or a collection of images over time (.pvd)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from sciml_bounds.errors import InputError
from sciml_bounds.store.safety.writer import check_target, replacing
from sciml_bounds.vtk_images import frame_image, list_frames, require_pyvista

if TYPE_CHECKING:
    import pyvista
    import xarray

__all__ = ["VTK_SUFFIXES", "check_vtk_target", "write_collection", "write_image", "write_series", "write_vtk"]

#: Endings of VTK files.
VTK_SUFFIXES = (".vti", ".pvd")


def check_vtk_target(path: Path | str) -> Path:
    """Check before the work that a VTK file can be written, and return its path with links resolved.

    Raises
    ------
    InputError
        If the file cannot be written, or exists and is not a VTK file.
    MissingExtraError
        If pyvista is not installed.
    """
    require_pyvista()
    target = check_target(path, VTK_SUFFIXES)
    if target.exists() and b"<VTKFile" not in target.read_bytes()[:200]:
        raise InputError(f"{path} already exists and is not a VTK file; remove it, or choose another name.")
    return target


def write_vtk(dataset: xarray.Dataset, path: Path | str) -> None:
    """Write a data set as VTK images; existing VTK files are replaced.

    Parameters
    ----------
    dataset : xarray.Dataset
        Fields with the axes x, y, z or x_node, y_node, z_node; for .pvd also one axis `time`, or samples.
    path : Path or str
        A file that ends in .vti for one image, or in .pvd for one image per frame, which lie next to it in a folder of
        the same name.

    Raises
    ------
    InputError
        If the data set does not fit into images, has several frames and `path` ends in .vti, or the files cannot be
        written.
    """
    target = check_vtk_target(path)
    frames = list_frames(dataset)
    if target.suffix.lower() == ".pvd":
        write_series(target, [time for time, _ in frames], lambda number: frame_image(dataset, frames[number][1]))
    elif len(frames) == 1:
        write_image(target, frame_image(dataset, frames[0][1]))
    else:
        raise InputError(
            f"{path} would have {len(frames)} frames; choose a name that ends in .pvd, or select one sample."
        )


def write_series(target: Path, times: Sequence[float], image: Callable[[int], pyvista.ImageData]) -> None:
    """Write a .pvd file, and one image per time into a folder of the same name next to it.

    Images are written first and the collection last, so that it never names a missing file. Then images that remain
    from an earlier, longer series are removed.

    Parameters
    ----------
    target : Path
        The .pvd file.
    times : sequence of float
        Time of each image.
    image : callable
        Function of the number of a time that returns its image.

    Raises
    ------
    InputError
        If the folder cannot be made, or a file cannot be written.
    """
    folder = target.with_suffix("")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, but the images of {target.name} need a folder of this name; rename it.")
    folder.mkdir(exist_ok=True)
    names = [f"{target.stem}_{number:04d}.vti" for number in range(len(times))]
    for number, name in enumerate(names):
        write_image(folder / name, image(number))
    write_collection(target, [(time, f"{folder.name}/{name}") for time, name in zip(times, names)])
    for entry in folder.iterdir():
        if re.fullmatch(rf"{re.escape(target.stem)}_\d{{4,}}\.vti", entry.name) and entry.name not in names:
            entry.unlink()


def write_image(path: Path, image: pyvista.ImageData) -> None:
    """Write one image, atomically.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    from vtkmodules.vtkIOXML import vtkXMLImageDataWriter

    with replacing(path) as part:
        writer = vtkXMLImageDataWriter()
        writer.SetFileName(str(part))
        writer.SetInputData(image)
        if not writer.Write():
            raise OSError("VTK could not write the image")


def write_collection(path: Path, entries: Sequence[tuple[float, str]]) -> None:
    """Write a collection, atomically: for each entry its time and its file, relative to the collection.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    lines = [f'    <DataSet timestep="{time!r}" file={quoteattr(name)}/>' for time, name in entries]
    head = ['<?xml version="1.0"?>', '<VTKFile type="Collection" version="0.1">', "  <Collection>"]
    with replacing(path) as part:
        part.write_text("\n".join([*head, *lines, "  </Collection>", "</VTKFile>"]) + "\n")
