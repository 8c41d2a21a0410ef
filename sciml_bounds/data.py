"""Data sets: generation from recipes, reading, export to other formats, and files of results and weights."""

from sciml_bounds.recipes._array_datasets import from_arrays
from sciml_bounds.recipes._contract import check_recipe
from sciml_bounds.recipes._elliptic_samples import DiffusionRecipe
from sciml_bounds.recipes._recipe import Recipe, Variable, sample_rng
from sciml_bounds.recipes._registry import recipe_names, register_recipe
from sciml_bounds.recipes.generation import consolidate, make_dataset, make_shard
from sciml_bounds.store.datasets.dataset_files import open_dataset
from sciml_bounds.store.datasets.network_classes import register_model
from sciml_bounds.store.datasets.saved_results import read, write
from sciml_bounds.store.datasets.torch_dataset import TorchDataset
from sciml_bounds.store.datasets.weights import load_model, save_model
from sciml_bounds.store.formats.foreign import import_dataset
from sciml_bounds.store.formats.pdebench import export_pdebench
from sciml_bounds.store.formats.the_well import export_the_well
from sciml_bounds.store.formats.vtk_export import export_vtk

__all__ = [
    "DiffusionRecipe",
    "Recipe",
    "TorchDataset",
    "Variable",
    "check_recipe",
    "consolidate",
    "export_pdebench",
    "export_the_well",
    "export_vtk",
    "from_arrays",
    "import_dataset",
    "load_model",
    "make_dataset",
    "make_shard",
    "open_dataset",
    "read",
    "recipe_names",
    "register_model",
    "register_recipe",
    "sample_rng",
    "save_model",
    "write",
]
