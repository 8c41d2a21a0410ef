"""Contents of files of all formats: the choice of an array, and the checks before and while it is read."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refused

from sciml_bounds.errors import InputError
from sciml_bounds.store.reading.contents import ArrayInfo, Contents, printable

FIELD = np.arange(12.0).reshape(3, 4)


def holding(*arrays: np.ndarray, dtype: str = "float64", shape: tuple[int, ...] = (3, 4)) -> Contents:
    """A file with one array without a name, which arrives in the given pieces."""
    return Contents("pieces", {"": ArrayInfo(shape, dtype)}, lambda name, sample: iter(arrays))


def named(**roles: str) -> Contents:
    """A file with an array of each name and role; nothing in it can be read."""
    return Contents("names", {name: ArrayInfo((3,), "float64", role=role) for name, role in roles.items()}, None)


# --- which array is meant ---------------------------------------------------------------------------------------------


def test_the_only_array_is_meant_whatever_links_and_coordinates_are_beside_it():
    contents = named(x="coordinate", a="array", elsewhere="link")
    assert contents.choose(None) == "a"
    assert contents.choose("x") == "x"  # by its name


def test_names_may_be_written_with_slashes_at_their_ends():
    contents = Contents("paths", {"group/a": ArrayInfo((), "float64"), "b/": ArrayInfo((), "float64")}, None)
    assert contents.choose("/group/a/") == "group/a"
    assert contents.choose("b/") == "b/"  # as it stands in the file


@pytest.mark.parametrize(
    ("contents", "name", "words"),
    [
        (named(), None, "no arrays"),
        (named(), "a", "no arrays"),
        (named(x="coordinate"), None, "no arrays"),
        (named(a="array", x="coordinate", b="array"), None, "several arrays colon (a, b)"),
        (named(a="array", x="coordinate"), "b", "array 'b' a"),
        (holding(), "a", "without name ':a'"),
        (named(b="link"), "b", "'b' link not followed"),
    ],
)
def test_an_invalid_choice_is_refused(contents, name, words):
    refused(words, contents.choose, name)


@pytest.mark.parametrize(("count", "more"), [(20, ""), (21, ", ...")])
def test_at_most_twenty_names_are_listed(count, more):
    contents = named(**dict.fromkeys((f"a{i}" for i in range(count)), "array"))
    listing = ", ".join(f"a{i}" for i in range(20)) + more
    for name, end in ((None, f"({listing})."), ("b", f"its arrays are {listing}.")):
        with pytest.raises(InputError) as caught:
            contents.choose(name)
        assert str(caught.value).endswith(end)


def test_names_cannot_break_the_line():
    refused("(a\\nb", lambda: named(**{"a\nb": "array", "c": "array"}).choose(None))


# --- reading ----------------------------------------------------------------------------------------------------------


def test_pieces_are_put_together_in_their_order_and_shape():
    array = holding(FIELD[0, :3], FIELD.reshape(-1)[3:10].reshape(7, 1), FIELD[2, 2:]).read("")
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, FIELD)


def test_one_sample_has_the_other_axes():
    asked = []
    contents = Contents("samples", {"a": ArrayInfo((3, 4), ">f4")}, lambda *what: (asked.append(what), [FIELD[1]])[1])
    array = contents.read("a", 1)
    assert (asked, array.shape, array.dtype) == ([("a", 1)], (4,), np.dtype(">f4"))
    np.testing.assert_array_equal(array, FIELD[1])


def test_a_number_and_an_empty_array_are_arrays():
    assert holding(np.array([2.5]), shape=()).read("") == 2.5
    assert holding(shape=(0, 4)).read("").shape == (0, 4)


def test_fewer_numbers_than_declared_are_refused():
    refused("truncated", lambda: holding(FIELD[:2]).read(""))


def test_more_numbers_than_declared_are_an_error():
    with pytest.raises(ValueError, match="broadcast"):
        holding(FIELD, FIELD).read("")


@pytest.mark.parametrize(("sample", "needed"), [(None, 1000 + 8 * 12), (2, 1000 + 8 * 4)])
def test_the_memory_is_asked_for_the_array_and_the_work_before_a_piece_is_read(monkeypatch, sample, needed):
    read = []

    def blocks(name, sample):
        read.append(sample)
        yield FIELD if sample is None else FIELD[sample]

    contents = Contents("large", {"a": ArrayInfo((3, 4), "float64", working=1000)}, blocks)
    monkeypatch.setattr("sciml_bounds.memory.available_memory", lambda: needed - 1)
    refused("memory", contents.read, "a", sample)
    assert read == []
    monkeypatch.setattr("sciml_bounds.memory.available_memory", lambda: needed)
    contents.read("a", sample)
    assert read == [sample]


@pytest.mark.parametrize("dtype", ["pickled object", "cell", "complex128", "<U3", "datetime64[s]", "object", "|S4"])
def test_what_is_no_real_number_is_never_read(dtype):
    contents = Contents("words", {"a": ArrayInfo((3,), dtype)}, lambda *_: pytest.fail("this has been read"))
    assert not contents.arrays["a"].is_numeric
    refused(f"{dtype} values never loaded real numbers", contents.read, "a")


@pytest.mark.parametrize("dtype", ["float64", ">f4", "float16", "int8", "uint64", "bool"])
def test_real_numbers_are_numeric(dtype):
    assert ArrayInfo((3,), dtype).is_numeric


def test_booleans_that_are_neither_become_true():
    array = holding(np.array([0, 1, 2, 255], np.uint8).view(bool), dtype="bool", shape=(4,)).read("")
    np.testing.assert_array_equal(array.view(np.uint8), [0, 1, 1, 1])


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("porosity φ", "porosity φ"),
        ("two\nlines\t", r"two\nlines\t"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202eabc", r"\u202eabc"),  # turns the direction of writing
        ("\udcff", r"\udcff"),  # a byte that is not UTF-8
    ],
)
def test_words_from_a_file_cannot_command_a_terminal(text, shown):
    assert printable(text) == shown
    assert printable(text).isprintable()
