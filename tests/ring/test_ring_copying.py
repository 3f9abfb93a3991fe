"""The copy of posteriors of any float dtype and layout into the ring, and its check of the values."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shmbridge._native import lib
from shmbridge.parent.copying import copy_checked, find_invalid, is_float

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
    wide = np.full((values.shape[0] * 2, values.shape[1] * 3), np.nan, dtype)  # the gaps must not be read
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
    """Return an array with a guard on both sides, and the target between the guards."""
    size = shape[0] * shape[1]
    guarded = np.full(size + 32, -77, np.float32)
    return guarded, guarded[16 : 16 + size].reshape(shape)


def check_guards(guarded):
    assert (guarded[:16] == -77).all()
    assert (guarded[-16:] == -77).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 17), (7, 2048), (2, 5000), (700, 131)])
def test_every_dtype_and_layout_is_converted_as_numpy_converts_it(layout, dtype, shape):
    values = -np.random.default_rng(2).exponential(5, shape)
    source = layout(values, dtype)
    before = source.astype(np.float32)
    guarded, target = fresh_target(shape)
    assert copy_checked(target, source) is None
    np.testing.assert_array_equal(target, before)
    np.testing.assert_array_equal(source.astype(np.float32), before)
    check_guards(guarded)
    assert find_invalid(target) is None


@settings(max_examples=600, deadline=None)
@given(
    layout=st.sampled_from(LAYOUTS),
    dtype=st.sampled_from(DTYPES),
    rows=st.one_of(st.integers(1, 6), st.integers(1, 90)),
    columns=st.one_of(
        st.integers(1, 6), st.integers(1, 400), st.sampled_from([4095, 4096, 4097, 8192, 8193])
    ),
    places=st.lists(st.tuples(st.integers(0, 1 << 30), st.sampled_from([np.nan, np.inf])), max_size=4),
)
@example(
    layout=in_c_order,
    dtype=np.dtype(np.float32),
    rows=1,
    columns=4097,
    places=[(4095, np.inf), (4096, np.nan)],
)
@example(
    layout=in_c_order, dtype=np.dtype(np.float16), rows=90, columns=4096, places=[(90 * 4096 - 1, np.inf)]
)
def test_the_copy_and_the_search_return_the_index_of_the_first_nan_or_infinity(
    layout, dtype, rows, columns, places
):
    values = -np.random.default_rng(rows * columns).exponential(5, (rows, columns))
    for place, value in places:
        values[divmod(place % values.size, columns)] = value
    source = layout(values, dtype)
    indices = np.argwhere(~(source.astype(np.float32) < np.inf))
    expected = tuple(int(index) for index in indices[0]) if len(indices) else None
    guarded, target = fresh_target(values.shape)
    assert copy_checked(target, source) == expected
    check_guards(guarded)
    if expected is None:
        np.testing.assert_array_equal(target, source.astype(np.float32))
    np.testing.assert_equal(find_invalid(np.array(source, np.float32, order="C")), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", [in_c_order, in_f_order, unaligned])
@pytest.mark.parametrize("check", [lib.SHMB_CHECK_NAN, lib.SHMB_CHECK_NAN_INF])
def test_extremes_are_valid_and_plus_infinity_only_in_scores(dtype, layout, check):
    infinity = np.inf if check == lib.SHMB_CHECK_NAN else 6e4
    values = np.array([[infinity, -np.inf, 0.0], [-0.0, 1e-7, -6e4]])
    _, target = fresh_target(values.shape)
    source = layout(values, dtype)
    assert copy_checked(target, source, check=check) is None
    np.testing.assert_array_equal(target, source.astype(np.float32))
    assert np.signbit(target[1, 0])


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF])
def test_every_bit_pattern_of_nan_is_found(bits):
    source = np.zeros((3, 4), np.float32)
    source.view(np.uint32)[1, 2] = bits
    for array in (source, np.asfortranarray(source)):
        _, target = fresh_target(array.shape)
        assert copy_checked(target, array) == (1, 2)
    assert find_invalid(source) == (1, 2)


def test_finite_values_with_an_infinite_sum_are_valid():
    source = np.full((4, 1100), np.finfo(np.float32).max, np.float32)
    _, target = fresh_target(source.shape)
    assert copy_checked(target, source) is None
    np.testing.assert_array_equal(target, source)
    assert find_invalid(source) is None


def test_doubles_out_of_range_become_infinite():
    source = np.array([[-1e300, 1e300], [1e-300, 5.0]])
    for array in (source, np.asfortranarray(source)):
        _, target = fresh_target(array.shape)
        assert copy_checked(target, array, check=lib.SHMB_CHECK_NAN) is None
        np.testing.assert_array_equal(target, np.array([[-np.inf, np.inf], [0, 5]], np.float32))
        assert copy_checked(target, array) == (0, 1)


def test_long_doubles_out_of_range_become_infinite():
    source = np.array([[1e300, -5.0]], np.longdouble)
    _, target = fresh_target(source.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy warns of the overflow
        assert copy_checked(target, source, check=lib.SHMB_CHECK_NAN) is None
        assert copy_checked(target, source) == (0, 0)
    np.testing.assert_array_equal(target, np.array([[np.inf, -5]], np.float32))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_matrices_without_elements_have_no_nan(dtype, shape):
    _, target = fresh_target(shape)
    assert copy_checked(target, np.zeros(shape, dtype)) is None
    assert find_invalid(target) is None


def test_the_copy_can_write_into_a_claim(ring):
    claim = ring.producer.claim(2, 3, 5)
    source = np.arange(15.0).reshape(5, 3).T
    assert copy_checked(claim.matrix, source) is None
    claim.commit()
    np.testing.assert_array_equal(ring.consumer.receive().matrix, source)


def test_only_real_floating_dtypes_are_floats():
    assert all(is_float(dtype) for dtype in DTYPES)
    for dtype in (np.int32, np.uint8, np.bool_, np.complex64, np.object_, "U3", "M8[s]"):
        assert not is_float(np.dtype(dtype))
