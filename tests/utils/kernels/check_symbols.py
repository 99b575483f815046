"""Checks the objects compiled for one instruction set: check_symbols.py NM OBJECT...

Such an object may define its table and nothing else that the linker sees. The linker keeps one of several functions of
one name, and the copy compiled for AVX-512 could then run on every machine.
"""

import re
import subprocess
import sys

COMPILED_FOR_ONE_SET = re.compile(r"(quantized_|matmul_|integer_)?(baseline|avx2|avx512|avx512vnni)\.cpp\.o(bj)?$")
TABLE = re.compile(r"^transformers::kernels::(baseline|avx2|avx512|avx512vnni)::k(Training|Quantized|Matmul|Integer)$")


def main() -> int:
    nm, *objects = sys.argv[1:]
    objects = [name for name in objects if COMPILED_FOR_ONE_SET.search(name)]
    faults = [] if objects else ["no object was given"]
    for name in objects:
        command = [nm, "-C", "--extern-only", "--defined-only", name]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        symbols = [line.split(maxsplit=2)[2] for line in lines if line.strip() and "__odr_asan." not in line]
        faults += [f"{name} defines {symbol}" for symbol in symbols if not TABLE.match(symbol)]
        faults += [] if any(TABLE.match(symbol) for symbol in symbols) else [f"{name} defines no table"]
    print("\n".join(faults) if faults else f"{len(objects)} objects define their tables alone")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
