"""No library that the program loads defines a symbol that another one defines too.

The loader gives every library the definition it finds first. Where two libraries mean different things by one name, one
of them then writes over the other's data. Weak symbols are meant to be shared: inline functions, tables of classes.

    symbols_test.py PROGRAM
"""
import collections
import re
import subprocess
import sys

# Parts of the C and C++ runtime define some symbols together, and are made to.
RUNTIME = re.compile(r"/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|util|gcc_s|stdc\+\+|gomp[^/]*))\.so")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def loaded_libraries(program):
    """Those of the program itself; plug-ins are loaded apart, which is what they are for."""
    paths = re.findall(r"(?:=> )?(/\S+) \(0x", run("ldd", program))
    return [path for path in paths if not RUNTIME.search(path)]


def strong_definitions(library):
    for line in run("nm", "--dynamic", "--defined-only", "--print-size", library).splitlines():
        fields = line.split()
        # BDGRST: data, read-only data and code that is neither weak nor unique.
        if len(fields) == 4 and fields[2] in "BDGRST":
            yield fields[3].split("@")[0]


def main(program):
    owners = collections.defaultdict(list)
    libraries = loaded_libraries(program)
    assert any("libc10" in library for library in libraries), libraries
    for library in libraries:
        for name in strong_definitions(library):
            owners[name].append(library)
    clashes = {name: found for name, found in owners.items() if len(found) > 1}
    for name, found in sorted(clashes.items())[:20]:
        print(f"{name} is defined by {' and '.join(found)}")
    print(f"{len(libraries)} libraries, {len(owners)} symbols, {len(clashes)} defined twice")
    return 1 if clashes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
