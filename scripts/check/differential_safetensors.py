#!/usr/bin/env python3
"""Compares our safetensors reader with the Python library: the same files accepted, the same tensors read.

    differential_safetensors.py PATH_OF_resave_weights [--mutations N] [--seed S]

Exit status: 0 they agree, 1 they do not, 77 the library is not installed.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import make_malformed_files

# Where we are stricter than the library, by our message.
STRICTER = (
    "duplicate tensor name",  # it keeps one of them
    "a bool must be 0 or 1",  # it hands the byte on
    "holds more than 64 numbers",  # dimensions
    "the size of the shape overflows",  # behind a zero dimension
    "expected an object",  # it takes an entry that is a list of its fields
    "is not supported",  # F4 and F6, which torch cannot hold
)


def reference(path):
    """(name, dtype, shape, bytes) of each tensor, or the library's error."""
    import safetensors

    try:
        return sorted((name, info["dtype"], tuple(info["shape"]), bytes(info["data"]))
                      for name, info in safetensors.deserialize(path.read_bytes()))
    except safetensors.SafetensorError as error:
        return error


def ours(program, paths, folder):
    outputs = [folder / f"{number}.out" for number in range(len(paths))]
    request = "".join(f"{path}\t{output}\n" for path, output in zip(paths, outputs))
    answers = subprocess.run([program], input=request, capture_output=True, text=True, check=True).stdout.splitlines()
    if len(answers) != len(paths):
        sys.exit(f"{len(answers)} answers for {len(paths)} files")
    return list(zip(answers, outputs))


def disagreement(path, answer, output):
    expected = reference(path)
    rejected = isinstance(expected, Exception)
    if answer != "ok":
        documented = any(rule in answer for rule in STRICTER)
        return None if rejected or documented else f"we refuse it ({answer}), the library does not"
    if rejected:
        return f"we accept it, the library says: {expected}"
    return None if reference(output) == expected else "the tensors differ"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        import safetensors
    except ImportError:
        print("skipped: the Python package safetensors is not installed")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        paths = make_malformed_files.write_corpus(folder, arguments.mutations, arguments.seed)
        accepted, failures = 0, 0
        for path, (answer, output) in zip(paths, ours(arguments.program, paths, folder)):
            accepted += answer == "ok"
            if problem := disagreement(path, answer, output):
                failures += 1
                print(f"{path.name}: {problem}")
        print(f"{len(paths)} files, {accepted} accepted, {failures} disagreements with safetensors {safetensors.__version__}")
        sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
