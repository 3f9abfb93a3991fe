"""Posteriors of any float dtype and layout into the ring, and the first NaN on the way."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shmbridge.parent.copying import copy_rejecting_nan, find_nan, is_float

DTYPES = [np.dtype(code) for code in ("f2", "f4", "f8", "g")]
try:
    import ml_dtypes

    DTYPES.append(np.dtype(ml_dtypes.bfloat16))
except ImportError:
    pass


def in_c_order(values, dtype):
    return values.astype(dtype)


def in_f_order(values, dtype):
    return np.asfortranarray(values.astype(dtype))


def backwards(values, dtype):
    return values.astype(dtype)[::-1, ::-1].copy()[::-1, ::-1]


def with_gaps(values, dtype):
    wide = np.full((values.shape[0] * 2, values.shape[1] * 3), np.nan, dtype)  # what must not be looked at
    wide[::2, 1::3] = values
    return wide[::2, 1::3]


def rows_apart(values, dtype):
    wide = np.full((values.shape[0], values.shape[1] + 5), np.nan, dtype)
    wide[:, 2:-3] = values
    return wide[:, 2:-3]


def rows_backwards(values, dtype):
    return values.astype(dtype)[::-1].copy()[::-1]


def unaligned(values, dtype):
    source = np.zeros(values.size * dtype.itemsize + 1, np.uint8)[1:].view(dtype).reshape(values.shape)
    source[...] = values
    return source


def byte_swapped(values, dtype):
    return values.astype(dtype.newbyteorder() if dtype.kind == "f" else dtype)


def one_row_for_all(values, dtype):
    return np.broadcast_to(values[:1].astype(dtype), values.shape)


def read_only(values, dtype):
    source = values.astype(dtype)
    source.flags.writeable = False
    return source


LAYOUTS = [
    in_c_order,
    in_f_order,
    backwards,
    with_gaps,
    rows_apart,
    rows_backwards,
    unaligned,
    byte_swapped,
    one_row_for_all,
    read_only,
]


def fresh_target(shape):
    """Between two guards that must not be written."""
    size = shape[0] * shape[1]
    guarded = np.full(size + 32, -77, np.float32)
    return guarded, guarded[16 : 16 + size].reshape(shape)


def check_guards(guarded):
    assert (guarded[:16] == -77).all()
    assert (guarded[-16:] == -77).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 17), (7, 2048), (2, 5000), (700, 131)])
def test_every_dtype_and_layout_arrives_as_numpy_would_convert_it(layout, dtype, shape):
    values = -np.random.default_rng(2).exponential(5, shape)
    source = layout(values, dtype)
    before = source.astype(np.float32)
    guarded, target = fresh_target(shape)
    assert copy_rejecting_nan(target, source) is None
    np.testing.assert_array_equal(target, before)
    np.testing.assert_array_equal(source.astype(np.float32), before)
    check_guards(guarded)
    assert find_nan(target) is None


@settings(max_examples=600, deadline=None)
@given(
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from(DTYPES),
    rows=st.one_of(st.integers(1, 6), st.integers(1, 90)),
    columns=st.one_of(
        st.integers(1, 6), st.integers(1, 400), st.sampled_from([2047, 2048, 2049, 4096, 4097])
    ),
    places=st.lists(st.integers(0, 1 << 30), max_size=4),
)
@example(layout=in_c_order, dtype=np.dtype(np.float32), rows=1, columns=2049, places=[2047, 2048])
@example(layout=in_c_order, dtype=np.dtype(np.float16), rows=90, columns=4096, places=[90 * 4096 - 1])
def test_the_first_nan_is_found_exactly_where_it_is(layout, dtype, rows, columns, places):
    values = -np.random.default_rng(rows * columns).exponential(5, (rows, columns))
    for place in places:
        values[divmod(place % values.size, columns)] = np.nan
    source = layout(values, dtype)
    where = np.argwhere(np.isnan(source.astype(np.float32)))
    expected = tuple(int(index) for index in where[0]) if len(where) else None
    guarded, target = fresh_target(values.shape)
    assert copy_rejecting_nan(target, source) == expected
    check_guards(guarded)
    if expected is None:
        np.testing.assert_array_equal(target, source.astype(np.float32))
    np.testing.assert_equal(find_nan(np.array(source, np.float32, order="C")), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [in_c_order, in_f_order, unaligned])
def test_infinities_and_extremes_are_no_nan(dtype, layout):
    values = np.array([[np.inf, -np.inf, 0.0], [-0.0, 1e-7, -6e4]])
    _, target = fresh_target(values.shape)
    source = layout(values, dtype)
    assert copy_rejecting_nan(target, source) is None
    np.testing.assert_array_equal(target, source.astype(np.float32))
    assert np.signbit(target[1, 0])


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF])
def test_every_kind_of_nan_is_one(bits):
    source = np.zeros((3, 4), np.float32)
    source.view(np.uint32)[1, 2] = bits
    for array in (source, np.asfortranarray(source)):
        _, target = fresh_target(array.shape)
        assert copy_rejecting_nan(target, array) == (1, 2)
    assert find_nan(source) == (1, 2)


def test_doubles_that_floats_cannot_hold_become_infinite():
    source = np.array([[1e300, -1e300], [1e-300, 5.0]])
    for array in (source, np.asfortranarray(source)):
        _, target = fresh_target(array.shape)
        assert copy_rejecting_nan(target, array) is None
        np.testing.assert_array_equal(target, np.array([[np.inf, -np.inf], [0, 5]], np.float32))


def test_the_longest_doubles_do_too():
    source = np.array([[1e300, -5.0]], np.longdouble)
    _, target = fresh_target(source.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of the overflow
        assert copy_rejecting_nan(target, source) is None
    np.testing.assert_array_equal(target, np.array([[np.inf, -5]], np.float32))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_matrices_without_elements_have_no_nan(dtype, shape):
    _, target = fresh_target(shape)
    assert copy_rejecting_nan(target, np.zeros(shape, dtype)) is None
    assert find_nan(target) is None


def test_the_copy_goes_straight_into_a_claim(ring):
    claim = ring.producer.claim(2, 3, 5)
    source = np.arange(15.0).reshape(5, 3).T
    assert copy_rejecting_nan(claim.matrix, source) is None
    claim.commit()
    np.testing.assert_array_equal(ring.consumer.receive().matrix, source)


def test_what_counts_as_float():
    assert all(is_float(dtype) for dtype in DTYPES)
    for dtype in (np.int32, np.uint8, np.bool_, np.complex64, np.object_, "U3", "M8[s]"):
        assert not is_float(np.dtype(dtype))
