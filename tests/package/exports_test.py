"""The shared library exports what its public headers declare, and nothing of what is private to it.

    exports_test.py LIBRARY INCLUDE_FOLDER
"""
import re
import subprocess
import sys
from pathlib import Path

# "vtable for transformers::Tokenizer", "non-virtual thunk to ...", "guard variable for ..."
NAME = re.compile(r"(?:[a-z -]+ (?:for|to) )?(?:[\w:<>*&, ]+ )?(transformers(?:::~?\w+)+)")


def exported(library):
    listing = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--demangle", library], check=True, capture_output=True, text=True
    ).stdout
    return [line.split(" ", 2)[2] for line in listing.splitlines()]


def fault(symbol, declared):
    if re.match(r"(?:[a-z -]+ (?:for|to) )?(?:\w+ )?nlohmann::", symbol):
        return "is of a private package"
    found = NAME.match(symbol)
    if found is None or " std::" in symbol.split("(")[0]:
        return None  # of the standard library or LibTorch, made from templates
    parts = found[1].split("::")[1:]
    missing = [part for part in parts if part.lstrip("~") not in declared]
    return f"names {missing[0]}, which no public header does" if missing else None


def main(library, include):
    headers = "\n".join(path.read_text(encoding="utf-8") for path in Path(include).rglob("*.h"))
    declared = set(re.findall(r"\w+", re.sub(r"//.*", "", headers)))
    symbols = exported(library)
    own = [symbol for symbol in symbols if "transformers::" in symbol]
    assert len(own) > 500, f"only {len(own)} symbols of the library are exported"
    faults = [(symbol, reason) for symbol in symbols if (reason := fault(symbol, declared))]
    for symbol, reason in faults[:30]:
        print(f"{symbol[:200]}: {reason}")
    print(f"{len(symbols)} symbols are exported, {len(own)} of the library, {len(faults)} that should not be")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
