#!/usr/bin/env python3
"""Runs clang-tidy over the library and the program; any remark is a failure.

    scripts/check/check_tidy.py            files that differ from the branch's base (on the base itself: from the commit before)
    scripts/check/check_tidy.py --all      everything
    scripts/check/check_tidy.py FILE...

Nearly all of clang-tidy's time goes into LibTorch's headers. Files of one folder are therefore looked at as one translation unit; where
their private names collide, the unit is halved until they do not. The compile commands are those of the preset dev, without GCC's precompiled
header, which clang cannot read.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "dev"
TIDY = ROOT / ".venv" / "bin" / "clang-tidy"
MOST_FILES = 12


def git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else ""


def changed_files() -> set[Path]:
    base = git("merge-base", "HEAD", "origin/main")
    if base in ("", git("rev-parse", "HEAD")):
        base = git("rev-parse", "HEAD~1")
    names = git("diff", "--name-only", base).splitlines() + git("ls-files", "--others", "--exclude-standard").splitlines()
    # A header is looked at through the source of its name.
    sources = [name.replace("include/", "src/", 1).removesuffix(".h") + ".cpp" for name in names if name.endswith(".h")]
    return {ROOT / name for name in names + sources}


def compile_commands() -> dict[Path, list[str]]:
    # Each time: files may have come and gone since the folder was configured.
    subprocess.run(["cmake", "--preset", "dev"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    entries = json.loads((BUILD / "compile_commands.json").read_text())
    commands = {Path(entry["file"]): shlex.split(entry["command"]) for entry in entries}
    return {file: command for file, command in commands.items() if file.is_relative_to(ROOT / "src")}


def flags(command: list[str]) -> list[str]:
    """What decides how a file is read: include folders, definitions, the language."""
    kept = []
    for word, following in zip(command, command[1:] + [""]):
        if word == "-isystem":
            kept += [word, following]
        elif word.startswith(("-I", "-D", "-std=")):
            kept.append(word)
    return kept


def batches(files: list[Path]) -> list[list[Path]]:
    by_folder = defaultdict(list)
    for file in sorted(files):
        by_folder[file.parent].append(file)
    return [group[i : i + MOST_FILES] for group in by_folder.values() for i in range(0, len(group), MOST_FILES)]


def look_at(batch: list[Path], commands: dict[Path, list[str]]) -> str:
    """clang-tidy's remarks on the files; empty when there are none."""
    unit, left_out, extra = batch[0], [], []
    if len(batch) > 1:
        unit = BUILD / "tidy" / f"{batch[0].parent.name}_{batch[0].stem}_{len(batch)}.cpp"
        unit.parent.mkdir(exist_ok=True)
        unit.write_text("".join(f'#include "{file}"\n' for file in batch))
        left_out, extra = ["bugprone-suspicious-include"], [r"--header-filter=(include/transformers|/src)/.*"]
    if batch[0].parent.name == "kernels":
        left_out = [*left_out, "modernize-avoid-c-arrays"]  # a std::array of vectors loses the attribute of their type
    checks = "--checks=" + ",".join("-" + check for check in left_out)
    options = ["--quiet", *extra, *([checks] if left_out else []), str(unit), "--", *flags(commands[batch[0]])]
    result = subprocess.run([TIDY, *options], cwd=ROOT, capture_output=True, text=True)
    if "clang-diagnostic-error" in result.stdout and len(batch) > 1:
        half = len(batch) // 2
        return look_at(batch[:half], commands) + look_at(batch[half:], commands)
    return result.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    commands = compile_commands()
    wanted = {file.resolve() for file in arguments.files} or (set(commands) if arguments.all else changed_files())
    files = [file for file in commands if file in wanted]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        remarks = [text for text in pool.map(lambda batch: look_at(batch, commands), batches(files)) if text.strip()]
    print("\n".join(remarks) or f"{len(files)} files: nothing to say")
    return 1 if remarks else 0


if __name__ == "__main__":
    sys.exit(main())
