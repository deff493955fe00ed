"""Random mutations of each stored file: refused in words, or read as they were."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzzing.py")


NAMES = ("run.h5", "checkpoint.h5", "checkpoint.prev.h5", ".lock", ".lease", "index", "cache")
UNREAD = (".lock", ".lease", "index", "cache")
COUNT, COUNT_UNREAD = 500, 200


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*NAMES, "mine.yaml"])
def test_no_damage_to_a_file_is_ever_a_crash_or_another_number(tmp_path: Path, name: str) -> None:
    count = COUNT_UNREAD if name in UNREAD else COUNT
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), str(tmp_path), name, "20210", str(count)],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    refused, as_before = found.get("refused", 0), found.get("as before", 0)
    assert refused + as_before == count
    if name in UNREAD:
        assert refused == 0
    elif name != "mine.yaml":
        assert as_before == 0
