import json

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from refusals import complaint

import sciml_bounds as sb
from sciml_bounds.cli.main import run

FIELD = np.ones((3, 4))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def inspected(capsys, name: str) -> dict:
    assert run(["inspect", name, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_weights_are_checked_and_show_their_card(folder, capsys):
    network = sb.LearnedDirections("multigrid", dim=2, levels=1)
    network.save("net.safetensors", recipe="ritz-poisson-2d", metrics={"test line-search": 0.25}, note="of a test")
    record = inspected(capsys, "net.safetensors")
    assert record["format"] == "safetensors"
    about = record["sciml_bounds"]
    assert (about["class"], about["arguments"]["levels"], about["checksum"]) == ("LearnedDirections", 1, "verified")
    assert {array["name"]: array["shape"] for array in record["arrays"]} == {
        name: list(value.shape) for name, value in network.state_dict().items()
    }
    assert run(["inspect", "net.safetensors"]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("LearnedDirections", "ritz-poisson-2d", "0.25", "of a test", "verified"))
    assert inspected(capsys, "cycle2d")["sciml_bounds"]["recipe"] == "pressure-2d"
    whole = (folder / "net.safetensors").read_bytes()
    (folder / "net.safetensors").write_bytes(whole[:-4])
    assert run(["inspect", "net.safetensors"]) == 2
    complaint(capsys, "file")


def test_a_result(folder, capsys):
    solve = ["solve", "--coefficient", "1", "--source", "1", "--shape", "8,6", "--certify", "--out", "u.nc"]
    assert run(solve) == 0
    capsys.readouterr()
    record = inspected(capsys, "u.nc")
    assert (record["command"], record["file"], record["format"]) == ("inspect", "u.nc", "HDF5")
    assert record["bytes"] == (folder / "u.nc").stat().st_size
    about = record["sciml_bounds"]
    assert (about["content"], about["format_version"], about["checksum"]) == ("Solution", "0.1", "verified")
    assert about["sciml_bounds_version"] == sb.__version__
    assert (about["asked"]["command"], about["asked"]["shape"]) == ("solve", "8,6")
    arrays = {array["name"]: array for array in record["arrays"]}
    expected = {"shape": [9, 7], "dtype": "float64", "dims": ["x_node", "y_node"], "units": "1", "role": "array"}
    assert arrays["solution"] == expected | {"name": "solution"}
    assert arrays["x"]["role"] == "coordinate"
    assert run(["inspect", "u.nc"]) == 0
    printed = capsys.readouterr().out
    for word in ("Solution", "verified", "x_node 9", "(9, 7)", "float64", "solution", '"command": "solve"'):
        assert word in printed, word


def test_a_result_that_changed(folder, capsys):
    sb.data.write(sb.solve(sb.Diffusion(sb.Grid((4, 4)), source=1.0)), "u.nc")
    with h5py.File("u.nc", "r+") as file:
        file["solution"][0, 0] = 1.0
    assert run(["inspect", "u.nc"]) == 2
    complaint(capsys, "u.nc checksum damaged")


def test_a_newer_format(folder, capsys):
    with h5py.File("u.nc", "w") as file:
        file.attrs["format_version"], file.attrs["sciml_bounds_version"] = "3.1", "9.0.0"
    assert run(["inspect", "u.nc"]) == 2
    error = capsys.readouterr().err
    assert all(words in error for words in ("it has format 3.1", "reads formats up to 0", "install"))
    assert "(9.0.0)" in error


def test_foreign_files(folder, capsys):
    np.save("a.npy", FIELD.astype(">f4"))
    np.save("o.npy", np.array([print], dtype=object), allow_pickle=True)
    np.savez("a.npz", a=FIELD, b=FIELD > 0)
    torch.save({"w": torch.ones(2, 5).bfloat16()}, "a.pt")
    scipy.io.savemat("a.mat", {"k": FIELD, "s": {"x": 1.0}})
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("g/huge", (10**6, 10**7), dtype="f8", chunks=(10, 10))
        file["g/link"] = h5py.SoftLink("/g/huge")
    expected = {
        "a.npy": [("", [3, 4], ">f4", "array")],
        "o.npy": [("", [1], "pickled object", "array")],
        "a.npz": [("a", [3, 4], "float64", "array"), ("b", [3, 4], "bool", "array")],
        "a.pt": [("w", [2, 5], "bfloat16", "array")],
        "a.mat": [("k", [3, 4], "float64", "array"), ("s", [1, 1], "struct", "array")],
        "a.h5": [("g/huge", [10**6, 10**7], "float64", "array"), ("g/link", [], "link", "link")],
    }
    for name, arrays in expected.items():
        record = inspected(capsys, name)
        assert record["sciml_bounds"] is None
        found = [(array["name"], array["shape"], array["dtype"], array["role"]) for array in record["arrays"]]
        assert sorted(found) == arrays, name
    assert run(["inspect", "a.npy"]) == 0
    assert "(without name)" in capsys.readouterr().out


def test_what_nests_and_what_is_complex_is_told(folder, capsys):
    torch.save({"a": torch.ones(2), "nest": {"b": torch.ones(3)}, "l": [torch.ones(4)]}, "a.pt")
    assert {array["name"] for array in inspected(capsys, "a.pt")["arrays"]} == {"a", "nest.b", "l.0"}
    scipy.io.savemat("a.mat", {"z": FIELD + 1j})
    assert inspected(capsys, "a.mat")["arrays"][0]["dtype"] == "complex float64"


def test_names_are_whole_in_eighty_columns(folder, capsys, monkeypatch):
    """They are what is typed after a colon; columns that would say nothing are left out."""
    monkeypatch.setenv("COLUMNS", "80")
    names = ("algebraic_error_lower", "boundary_conditions/x_wall/mask", "dimensions/time")
    with h5py.File("a.h5", "w") as file:
        for name in names:
            file[name] = np.ones((10, 20, 30))
        for axis, long in enumerate(("trajectory", "x_node", "y_node")):
            file[long] = np.ones(10 * (axis + 1))
            file[long].make_scale(long)
            file[names[0]].dims[axis].attach_scale(file[long])
    assert run(["inspect", "a.h5"]) == 0
    printed = capsys.readouterr().out
    for word in (*names, "trajectory,", "(coordinate)"):
        assert word in printed, word
    assert "units" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    with h5py.File("a.h5", "r+") as file:
        file[names[0]].attrs["units"] = "m"
    assert run(["inspect", "a.h5"]) == 0
    assert "units" in capsys.readouterr().out


def test_a_matrix_of_matrix_market(folder, capsys):
    """Its header only: the entries may be more than the memory takes."""
    head = "%%MatrixMarket matrix coordinate real symmetric\n"
    (folder / "A.mtx").write_text(f"{head}9000000000 9000000000 1234\n1 1 1.0\n")
    record = inspected(capsys, "A.mtx")
    assert record["format"] == "MatrixMarket (coordinate, symmetric, 1,234 entries stored)"
    (array,) = record["arrays"]
    assert (array["shape"], array["dtype"], array["role"]) == ([9000000000, 9000000000], "real", "matrix")


def test_names_are_shown_without_commanding_the_terminal(folder, capsys):
    with h5py.File("a.h5", "w") as file:
        file["red\x1b[31m\nline"] = FIELD
        file["red\x1b[31m\nline"].attrs["units"] = "[bold]m\x07"
    assert run(["inspect", "a.h5"]) == 0
    printed = capsys.readouterr().out
    assert not {"\x1b", "\x07"} & set(printed)
    assert "[bold]" in printed
    assert inspected(capsys, "a.h5")["arrays"][0]["name"] == "red\x1b[31m\nline"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.npy", "file"),
        ("folder.h5", "folder.h5 file"),
        ("a.csv", "extension"),
        ("bad.npy", "bad.npy"),
        ("bad.h5", "bad.h5"),
        ("bad.pt", "file"),
        ("bad.mat", "bad.mat"),
        ("bad.mtx", "matrix"),
        ("none.mtx", "file"),
    ],
)
def test_bad_input_is_one_sentence(folder, capsys, name, words):
    (folder / "folder.h5").mkdir()
    for bad in ("a.csv", "bad.npy", "bad.h5", "bad.pt", "bad.mat", "bad.mtx"):
        (folder / bad).write_text("hello")
    assert run(["inspect", name]) == 2
    complaint(capsys, words)
