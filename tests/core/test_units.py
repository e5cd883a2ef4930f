import pytest
from hashpress.core.errors import InputError
from hashpress.core.units import (
    format_bytes,
    format_ms,
    format_points,
    parse_bytes,
    parse_ms,
    parse_points,
    parse_share,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("900 kB", 900_000), ("1KiB", 1024), ("1.5 MiB", 1_572_864), ("0.5 kB", 500), ("12 B", 12), ("1e3 B", 1000)],
)
def test_bytes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(("text", "time"), [("12 ms", 12.0), ("250 us", 0.25), ("250 µs", 0.25), ("1.5 s", 1500.0)])
def test_milliseconds(text, time):
    assert parse_ms(text) == pytest.approx(time)


@pytest.mark.parametrize(("text", "share"), [("1 %", 0.01), ("0.5%", 0.005), ("0.02", 0.02), (0.02, 0.02), (1, 1.0)])
def test_shares(text, share):
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("spellings", "size"),
    [
        (("9 kB", "9 KB", "9 kb", "9 Kb", "9kB", "9e3 b"), 9000),
        (("9 MB", "9 mb", "9 Mb"), 9_000_000),
        (("9 KiB", "9 kib", "9 KIB", "9 kiB"), 9216),
        (("2 GiB", "2 gib"), 2_147_483_648),
    ],
)
def test_upper_and_lower_case_mean_the_same(spellings, size):
    assert {parse_bytes(text) for text in spellings} == {size}
    assert parse_ms("9 MS") == 9.0
    assert parse_ms("9 \u03bcs") == parse_ms("9 \u00b5s") == pytest.approx(0.009)


@pytest.mark.parametrize("text", ["1 point", "1 points", "1 pp", "1 %-points", "1 Percentage Points", "1points"])
def test_points(text):
    assert parse_points(text) == pytest.approx(0.01)
    assert parse_points("1 %") is None
    with pytest.raises(InputError):
        parse_points("one point")


@pytest.mark.parametrize(
    ("difference", "text"), [(0.01, "1 point"), (0.015, "1.5 points"), (-0.0001, "-0.01 points"), (0, "0 points")]
)
def test_format_points(difference, text):
    assert format_points(difference) == text


@pytest.mark.parametrize("text", ["900 kbit", "900 k", "9 ms", "9 furlongs"])
def test_unknown_units_are_answered_with_the_known_ones(text):
    with pytest.raises(InputError, match=r"storage.file: unknown unit .*kB.*MiB"):
        parse_bytes(text, "storage.file")


@pytest.mark.parametrize(
    "text", ["", "kB", "-3 kB", "1.2.3 kB", "1e999 kB", "nan B", "inf B", "1 2 kB", "९ kB", "1,000 kB"]
)
def test_what_is_no_quantity(text):
    with pytest.raises(InputError):
        parse_bytes(text)


@pytest.mark.parametrize("value", [900, 900.0, True, None, [], {}])
def test_bytes_need_a_unit(value):
    with pytest.raises(InputError):
        parse_bytes(value)


@pytest.mark.parametrize("value", [True, None, [1]])
def test_a_share_is_a_number(value):
    with pytest.raises(InputError):
        parse_share(value)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (67_484, "67.48 kB"), (1e6, "1 MB"), (2.5e9, "2.5 GB"), (-2000, "-2 kB")],
)
def test_format_bytes(size, text):
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("time", "text"), [(0.0123, "12.3 µs"), (1.0, "1 ms"), (12.345, "12.35 ms"), (2500.0, "2.5 s")]
)
def test_format_ms(time, text):
    assert format_ms(time) == text
