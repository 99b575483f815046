#!/usr/bin/env python3
"""Refuses includes that break the layers of the library.

A room may include itself and rooms of a lower level. Public headers (include/) hold no JSON type and no private header;
torch/torch.h is for tests, the program and examples; every project header that is named exists; include/transformers.h
names every public header.

    check_includes.py [repository]      prints file:line: rule for each fault; exit status 1 when there is one
"""

import re
import sys
from pathlib import Path

# Lower levels first; README.md shows the same table.
LEVELS = [
    ["nn", "json", "kernels"],
    ["pytorch_utils", "io", "tokenization", "distributed"],
    ["modeling", "quantization", "pruning"],
    ["gptj", "llama", "generation", "training", "model_pruning", "tensor_parallel", "fully_sharded", "pipeline"],
    ["auto"],
    ["cli", "examples"],
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS, start=1) for room in rooms}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


def room_of(path: str) -> str | None:
    """The room of a path inside include/ or src/, such as utils/io/safetensors.h; None outside all rooms."""
    parts = path.split("/")
    if len(parts) == 1:
        return None
    return parts[1].split(".")[0] if parts[0] == "utils" else parts[0]


def target_of(quote: str, name: str) -> tuple[str, str] | None:
    """(folder, path inside it) of a project header, None for all others."""
    if quote == "<":
        return ("include", name.removeprefix("transformers/")) if name.startswith("transformers/") else None
    return ("src", name)


def direction_fault(own: str | None, other: str | None) -> str | None:
    if own is None or other is None or own == other:
        return None
    for room in (own, other):
        if room not in LEVEL:
            return f"room '{room}' is not in the level table"
    if LEVEL[other] >= LEVEL[own]:
        return f"room '{own}' (level {LEVEL[own]}) may not include room '{other}' (level {LEVEL[other]})"
    return None


def include_fault(root: Path, folder: str, path: str, quote: str, name: str) -> str | None:
    own = room_of(path)
    if name == "torch/torch.h" and own not in LEVELS[-1]:
        return "torch/torch.h is for tests, the program and examples; include the narrow header"
    if folder == "include" and name.startswith("nlohmann/"):
        return "a public header holds no JSON type"
    target = target_of(quote, name)
    if target is None or target == ("include", "version.h"):  # version.h is generated
        return None
    if folder == "include" and target[0] == "src":
        return f'a public header may not include the private "{name}"'
    if not (root / target[0] / target[1]).exists():
        return f"there is no {target[0]}/{target[1]}"
    return direction_fault(own, room_of(target[1]))


def faults(root: Path):
    for folder in ("include", "src"):
        for file in sorted(path for path in (root / folder).rglob("*") if path.suffix in SUFFIXES):
            path = file.relative_to(root / folder).as_posix()
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
                if (match := INCLUDE.match(line)) and (fault := include_fault(root, folder, path, *match.groups())):
                    yield f"{folder}/{path}:{number}: {fault}"


def umbrella_faults(root: Path):
    umbrella = root / "include" / "transformers.h"
    if not umbrella.exists():
        return
    named = set(re.findall(r"#include <transformers/([^>]+)>", umbrella.read_text(encoding="utf-8")))
    there = {path.relative_to(root / "include").as_posix() for path in (root / "include").rglob("*.h")}
    for header in sorted(there - named - {"transformers.h"}):
        yield f"include/transformers.h: {header} is missing"


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = [*faults(root), *umbrella_faults(root)]
    print("\n".join(found) if found else "all includes point downward")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
