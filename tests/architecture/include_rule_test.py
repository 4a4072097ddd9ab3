"""The rule of the house: kernels <- lib <- dist <- launch, each includes only what stands to its left, and the
big foreign headers stay in the rooms made for them. Checks the tree, after checking that it would notice."""

import os
import re
import sys
import tempfile
from pathlib import Path

FOLDERS = ["kernels", "lib", "dist", "launch"]
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}

# Header (a pattern for the whole include) -> the folders that may include it. CUDA's: see ONE_CUDA_SOURCE.
CUDA = r"(cuda|cublas|cufft|curand|cub/|thrust/|nvtx|mma\.h|device_launch).*"
ROOMS = [
    (r"(mpi|mpi-ext|nccl)\.h", ["dist/comm"]),
    (r"(H5|hdf5).*", ["lib/weights", "lib/output"]),
    (r"yaml-cpp/.*", ["lib/config"]),
    (r"(boost/)?asio(\.hpp|/.*)", ["launch"]),
    (CUDA, ["kernels/cuda"]),
]
ONE_CUDA_SOURCE = "one more source of kernels/ may include CUDA headers; there are already"

LONG, TOO_LONG = 400, 600  # lines of a file: the aim, and the limit
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def sources(root):
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                yield path.relative_to(root)


def lies_in(path, folders):
    return any(path.as_posix().startswith(folder + "/") for folder in folders)


def breaches_of_order(file, quote, header):
    """`header` is ours if it starts with a folder of ours, or is quoted: then its path starts at the root."""
    if ".." in Path(header).parts:
        return [f"{file}: includes {header}; write the path from the root"]
    top = Path(header).parts[0]
    if top == "tests":
        return [f"{file}: includes {header}; nothing includes tests"]
    if top not in FOLDERS:
        beside = quote == '"' and "/" not in header
        return [f"{file}: includes \"{header}\"; write the path from the root"] if beside else []
    if FOLDERS.index(top) > FOLDERS.index(file.parts[0]):
        return [f"{file}: includes {header}; {file.parts[0]} stands to the left of {top}"]
    return []


def check(root):
    """All breaches of the rule under `root`, as lines for people."""
    breaches, cuda_sources = [], []
    for file in sources(root):
        text = (root / file).read_text(encoding="utf-8")
        for quote, header in INCLUDE.findall(text):
            breaches += breaches_of_order(file, quote, header)
            for pattern, rooms in ROOMS:
                if not re.fullmatch(pattern, header) or lies_in(file, rooms):
                    continue
                if pattern == CUDA and file.parts[0] == "kernels" and file.suffix == ".cpp":
                    cuda_sources.append(str(file))
                    continue
                breaches.append(f"{file}: includes {header}, which only {' and '.join(rooms)} may")
        lines = text.count("\n")
        if lines > TOO_LONG:
            breaches.append(f"{file}: {lines} lines, the limit is {TOO_LONG}; find the two things that it is")
        elif lines > LONG:
            print(f"note: {file} has {lines} lines, the aim is {LONG}")
    if len(set(cuda_sources)) > 1:
        breaches.append(f"{ONE_CUDA_SOURCE} {', '.join(sorted(set(cuda_sources)))}")
    return breaches


BREACHES = {  # each alone must be caught
    "kernels/a.h": '#include "lib/config/model_config.h"\n',
    "lib/a.cpp": "#  include <dist/plan/plan.h>\n",
    "dist/a.cpp": '#include "launch/runner.h"\n',
    "lib/b/a.cpp": '#include "../../dist/plan/plan.h"\n',
    "lib/b/c.cpp": '#include "neighbour.h"\n',
    "launch/a.cpp": '#include "tests/helper.h"\n',
    "dist/plan/a.cpp": "#include <mpi.h>\n",
    "dist/moe/a.h": '#include "nccl.h"\n',
    "lib/config/a.cpp": "#include <hdf5.h>\n",
    "lib/output/a.cpp": "#include <yaml-cpp/yaml.h>\n",
    "dist/schedule/a.cpp": "#include <asio.hpp>\n",
    "lib/model/a.cpp": "#include <cuda_runtime.h>\n",
    "kernels/cpu/a.h": "#include <cuda_runtime_api.h>\n",
    "launch/long.cpp": "\n" * (TOO_LONG + 1),
}
ALLOWED = {
    "kernels/context.cpp": '#include "kernels/context.h"\n#include <cuda_runtime.h>\n#include <vector>\n',
    "kernels/cuda/a.cu": "#include <cuda_runtime.h>\n",
    "lib/output/a.cpp": '#include "kernels/types.h"\n#include <hdf5.h>\n#include <sys/stat.h>\n',
    "lib/config/a.cpp": "#include <yaml-cpp/yaml.h>\n#include <nlohmann/json.hpp>\n",
    "dist/comm/a.cpp": '#include <mpi.h>\n#include "lib/config/job_config.h"\n',
    "launch/a.cpp": '#include <asio.hpp>\n#include "dist/plan/plan.h"\n',
}


def breaches_of(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check(Path(folder))


def self_test():
    for name, text in BREACHES.items():
        assert len(breaches_of({name: text})) >= 1, f"a breach goes unnoticed: {name}: {text[:60]}"
    assert breaches_of(ALLOWED) == [], breaches_of(ALLOWED)
    second = {"kernels/thread_pool.cpp": "#include <cuda_runtime.h>\n"}
    assert len(breaches_of(ALLOWED | second)) == 1, "a second CUDA source goes unnoticed"


def main():
    self_test()
    root = Path(os.environ["NEMO_SOURCE_DIR"])
    assert len(list(sources(root))) > 10, f"no sources under {root}"
    breaches = check(root)
    print("\n".join(breaches))
    sys.exit(1 if breaches else 0)


main()
