"""Every test in tests/ is registered with ctest: a file that no one runs proves nothing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

SUFFIXES = {".cpp", ".py", ".sh"}
WITHOUT_MPI = {"kernels", "lib", "architecture", "consumer"}  # all that a build without MPI registers


def name_of(file):
    """tests/kernels/cpu/matmul_test.cpp -> kernels.cpu.matmul_test"""
    return ".".join(file.with_suffix("").parts)


def missing(files, registered, without_mpi):
    """Of `files` (paths below tests/), those that have no test, nor tests for several numbers of ranks."""
    programs = {re.sub(r"\.np\d+$", "", name) for name in registered}
    expected = [file for file in files if not without_mpi or file.parts[0] in WITHOUT_MPI]
    return [str(file) for file in expected if name_of(file) not in programs]


def self_test():
    files = [Path("lib/a_test.cpp"), Path("dist/moe/b_mpi_test.cpp"), Path("launch/c_test.sh")]
    assert missing(files, ["lib.a_test", "dist.moe.b_mpi_test.np3", "launch.c_test"], False) == []
    assert missing(files, ["lib.a_test2", "launch.c_test"], False) == ["lib/a_test.cpp", "dist/moe/b_mpi_test.cpp"]
    assert missing(files, ["lib.a_test"], True) == []
    assert missing(files, [], True) == ["lib/a_test.cpp"]


def main():
    self_test()
    build, tests = Path(os.environ["NEMO_BUILD_DIR"]), Path(os.environ["NEMO_SOURCE_DIR"], "tests")
    shown = subprocess.run(["ctest", "--show-only=json-v1"], cwd=build, check=True, capture_output=True)
    registered = [test["name"] for test in json.loads(shown.stdout)["tests"]]
    files = [path.relative_to(tests) for path in sorted(tests.rglob("*_test.*")) if path.suffix in SUFFIXES]
    assert len(files) > 5, f"no tests under {tests}"
    without_mpi = "NEMO_MPI:BOOL=OFF" in (build / "CMakeCache.txt").read_text().splitlines()
    unregistered = missing(files, registered, without_mpi)
    for file in unregistered:
        print(f"tests/{file}: not registered; see tests/CMakeLists.txt")
    sys.exit(1 if unregistered else 0)


main()
