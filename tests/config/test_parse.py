"""Values are read as people mean them, and nothing that is written can do harm."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lidcli.config.parse import UnreadableError, parse
from lidcli.config.read import load_files, parse_override
from lidcli.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-2.5e+1", -25.0),
        ("1_000", 1000),
        ("+3", 3),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("2001-01-01", "2001-01-01"),
        ("2001-99-99", "2001-99-99"),
        ("true", True),
        ("null", None),
        ("", None),
        ("=", "="),
        ("{1: a, on: b}", {"1": "a", "on": "b"}),
        ("{a: &x {b: 1, c: 2}, d: {<<: *x, c: 3}}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
    ],
)
def test_values_are_read_as_they_are_meant(text: str, value: Any) -> None:
    found = parse(text)
    assert found == value
    assert type(found) is type(value)


def test_infinities_are_read() -> None:
    high, low, none = parse("[.inf, -.inf, .nan]")
    assert (high, low) == (math.inf, -math.inf)
    assert math.isnan(none)


TENFOLD = "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}' if before else '1'] * 10)}]"
    for before, name in zip(["", *"abcdefgh"], "abcdefghi", strict=True)
)

BAD = {
    "a tag that its value does not fit": ("x: !!int x", "no number"),
    "a boolean that is none": ("x: !!bool x", "does not fit its tag"),
    "a date by tag": ("x: !!timestamp 2001-99-99", "is not used here"),
    "a set": ("x: !!set {a}", "is not used here"),
    "an object": ("x: !!python/object/apply:os.getcwd []", "is not used here"),
    "a number of 5,000 digits": ("x: " + "9" * 5000, "at most 40 digits"),
    "nesting of 3,000": ("x: " + "[" * 3000, "nested more than 40 deep"),
    "closed nesting": ("x: " + "[" * 100 + "]" * 100, "nested more than 40 deep"),
    "a list in itself": ("x: &a [*a]", "an alias refers to what it is part of"),
    "a mapping in itself": ("x: &a {b: *a}", "an alias refers to what it is part of"),
    "a merge of itself": ("x: &a {<<: *a}", "an alias refers to what it is part of"),
    "a bomb of aliases": (TENFOLD, "more than 100,000 values"),
    "a key given twice": ("x: 1\ny: 2\nx: 3", "'x' is given twice"),
    "a key given twice inside": ("y: {x: 1, x: 1}", "'x' is given twice"),
    "a list as key": ("{[1]: 2}", "a key must be a name"),
    "two documents": ("x: 1\n---\ny: 2", "another document"),
    "no end": ("x: [", "did not find|expected"),
    "a control character": ("x: \x00", "special characters are not allowed"),
    "a lone half of a pair": ("x: \ud800", "special characters are not allowed"),
}


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD)
def test_what_cannot_be_meant_is_refused_at_once(text: str, told: str) -> None:
    with pytest.raises(UnreadableError, match=told):
        parse(text)
    with pytest.raises(ConfigError) as caught:
        parse_override(f"train.epochs={text}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_duplicate_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("models:\n  vae: {}\n  gmvae: {}\n  vae: {latent: 3}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml, line 4 is not valid YAML: 'vae' is given"):
        load_files([path])


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**30), 10**30)
        | st.text("abc:-+.e_0 #*&<=", max_size=9)
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("ab1", min_size=1), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_json_is_read_as_json(value: Any) -> None:
    assert parse(json.dumps(value)) == value


@given(st.text(max_size=40))
def test_any_text_is_a_value_or_one_error(text: str) -> None:
    with contextlib.suppress(UnreadableError):
        parse(text)
