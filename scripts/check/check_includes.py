#!/usr/bin/env python3
"""Refuses includes that break the layers of the library.

A room may include itself and rooms of a lower level; src/CMakeLists.txt has the
levels, and docs/images/layers.svg shows the same.
Of another room's private headers only those in its folder internal/ may be taken; a room without any public header is
private as a whole. Examples take public headers alone. Public headers (include/) hold no JSON type and no private header;
torch/torch.h is for tests, the program and examples; every project header that is named exists; include/transformers.h
names every public header.

    check_includes.py [repository]      prints file:line: rule for each fault; exit status 1 when there is one
"""

import re
import sys
from pathlib import Path

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


# What is built on the library.
PROGRAMS = ["cli", "examples"]


def levels_of(root: Path) -> list[list[str]]:
    """The rooms by level, lowest first, as src/CMakeLists.txt lists them."""
    text = (root / "src" / "CMakeLists.txt").read_text(encoding="utf-8")
    table = re.search(r"^set\(levels\n(.*?)\)", text, re.MULTILINE | re.DOTALL)
    if table is None:
        raise SystemExit("src/CMakeLists.txt: there is no set(levels ...)")
    levels = [[name.removeprefix("utils/") for name in line.split()] for line in re.findall(r'"(.*?)"', table[1])]
    return [*levels, PROGRAMS]


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


def direction_fault(own: str | None, other: str | None, level: dict[str, int]) -> str | None:
    if own is None or other is None or own == other:
        return None
    for room in (own, other):
        if room not in level:
            return f"room '{room}' is not in the level table"
    if level[other] >= level[own]:
        return f"room '{own}' (level {level[own]}) may not include room '{other}' (level {level[other]})"
    return None


def privacy_fault(root: Path, own: str | None, name: str) -> str | None:
    """Of an include of the private header src/<name>."""
    other = room_of(name)
    if own is None or own == other:
        return None
    if own == "examples":
        return "an example takes public headers alone"
    room = "/".join(name.split("/")[: 2 if name.startswith("utils/") else 1])
    if "/internal/" in name or not list((root / "include" / room).glob("**/*.h")):
        return None
    return f"{name} is private to its room; what others may take lies in {room}/internal/"


def include_fault(root: Path, level: dict[str, int], folder: str, path: str, quote: str, name: str) -> str | None:
    own = room_of(path)
    if name == "torch/torch.h" and own not in PROGRAMS:
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
    fault = direction_fault(own, room_of(target[1]), level)
    return fault or (privacy_fault(root, own, target[1]) if target[0] == "src" else None)


def faults(root: Path):
    level = {room: number for number, rooms in enumerate(levels_of(root), start=1) for room in rooms}
    for folder in ("include", "src"):
        for file in sorted(path for path in (root / folder).rglob("*") if path.suffix in SUFFIXES):
            path = file.relative_to(root / folder).as_posix()
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
                if (match := INCLUDE.match(line)) and (fault := include_fault(root, level, folder, path, *match.groups())):
                    yield f"{folder}/{path}:{number}: {fault}"


def picture_faults(root: Path):
    """docs/images/layers.svg shows the rooms of each level, from the highest down."""
    picture = root / "docs" / "images" / "layers.svg"
    if not picture.exists():
        return
    shown = {
        int(number): set(re.findall(r'class="name"[^>]*>(\w+)<', level))
        for number, level in re.findall(r"<!-- level (\d+) -->(.*?)(?=<!-- |\Z)", picture.read_text(encoding="utf-8"), re.DOTALL)
    }
    for number, rooms in enumerate(levels_of(root), start=1):
        for room in sorted(set(rooms) ^ shown.get(number, set())):
            yield f"docs/images/layers.svg: level {number}: room '{room}' is {'missing' if room in rooms else 'not there'}"


def umbrella_faults(root: Path):
    umbrella = root / "include" / "transformers.h"
    if not umbrella.exists():
        return
    named = set(re.findall(r"#include <transformers/([^>]+)>", umbrella.read_text(encoding="utf-8")))
    there = {path.relative_to(root / "include").as_posix() for path in (root / "include").rglob("*.h")}
    for header in sorted(there - named - {"transformers.h"}):
        yield f"include/transformers.h: {header} is missing"


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    found = [*faults(root), *umbrella_faults(root), *picture_faults(root)]
    print("\n".join(found) if found else "all includes point downward")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
