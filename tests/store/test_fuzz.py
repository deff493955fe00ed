"""Five hundred random mutations of stored files: refused in a sentence, or read as they were."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzzing.py")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "count"),
    [("run.h5", 130), ("checkpoint.h5", 130), ("checkpoint.prev.h5", 70), (".lock", 60),
     ("mine.yaml", 110)],
)  # fmt: skip
def test_no_damage_to_a_file_is_ever_a_crash_or_another_number(
    tmp_path: Path, name: str, count: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), str(tmp_path), name, "20210", str(count)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    refused, as_before = found.get("refused", 0), found.get("as before", 0)
    assert refused + as_before == count
    if name == ".lock":
        assert refused == 0
    elif name != "mine.yaml":
        assert as_before == 0
