"""The scripts that make the published figures still fit what they import."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = sorted({*BENCHMARKS.glob("*.py"), *BENCHMARKS.glob("papers/*.py")})
LOAD = """
import importlib, sys
sys.path[:0] = sys.argv[1:3]
missing = []
for name in sys.argv[3:]:
    try:
        importlib.import_module(name)
    except (ImportError, AttributeError, SystemExit) as fault:
        missing.append(f"{name}: {fault}")
sys.exit("\\n".join(missing) or 0)
"""


def test_every_script_can_be_started():
    names = [path.stem for path in SCRIPTS]
    assert len(names) > 20
    command = [sys.executable, "-c", LOAD, str(BENCHMARKS / "papers"), str(BENCHMARKS), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
