#!/usr/bin/env python3
"""Writes a corpus of good, odd and broken safetensors files: hand-made cases and seeded mutations of good files.

    make_malformed_files.py FOLDER [--mutations N] [--seed S]
"""

import argparse
import json
import pathlib
import random
import struct

DTYPES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2,
          "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "C64": 8, "F64": 8, "I64": 8, "U64": 8}


def file_of(header, data=b""):
    header = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(header)) + header + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def file_with(tensors, data=bytes(8), pad=0):
    return file_of(json.dumps(tensors) + " " * pad, data)


def header_cases():
    good = json.dumps({"a": entry()})
    yield "good", file_of(good, bytes(8))
    for pad in range(1, 9):
        yield f"padding_{pad}", file_of(good + " " * pad, bytes(8))
    for name, space in {"tab": "\t", "newline": "\n", "return": "\r", "vertical": "\v", "nbsp": "\u00a0"}.items():
        yield f"before_{name}", file_of(space + good, bytes(8))
        yield f"after_{name}", file_of(good + space, bytes(8))
    for length in (0, 1, 7, 8, len(good) - 1, len(good) + 1, len(good) + 8, len(good) + 9, 1 << 31, 1 << 63,
                   (1 << 64) - 1, (1 << 64) - 8, 100_000_001):
        yield f"length_{length}", struct.pack("<Q", length) + good.encode() + bytes(8)
    for size in range(len(file_of(good, bytes(8)))):
        yield f"cut_{size}", file_of(good, bytes(8))[:size]
    for name, text in {"empty_object": "{}", "array": "[]", "text": '"x"', "null": "null", "number": "1", "two": "{}{}",
                       "bom": "\ufeff{}", "nul_after": "{}\0", "nul_inside": "{\0}", "comment": "{}//",
                       "block_comment": "{/**/}", "trailing_comma": '{"a":' + json.dumps(entry()) + ",}",
                       "unterminated": '{"a', "escape": '{"a\\', "bad_escape": '{"\\x":1}', "single_quotes": "{'a':1}",
                       "control": '{"a\n":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
                       "lone_surrogate": '{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
                       "surrogate_pair": '{"\\ud83d\\ude00":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
                       "escaped_nul": '{"\\u0000":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'}.items():
        yield f"json_{name}", file_of(text)
    yield "invalid_utf8", file_of(b'{"\xff":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    yield "overlong_utf8", file_of(b'{"\xc0\xaf":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    for depth in (10, 60, 123, 124, 125, 126, 127, 128, 129, 1000, 100_000):
        nested = "[" * depth + "]" * depth
        yield f"depth_{depth}", file_of('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":' + nested + "}}")
        yield f"depth_top_{depth}", file_of(nested)


def metadata_cases():
    for name, text in {"null": "null", "empty": "{}", "text": '"pt"', "array": "[]", "number": '{"a":1}',
                       "null_value": '{"a":null}', "object_value": '{"a":{}}', "good": '{"format":"pt","b":""}',
                       "duplicate": '{"a":"1","a":"2"}'}.items():
        yield f"metadata_{name}", file_of('{"__metadata__":' + text + "}")
    yield "metadata_twice", file_of('{"__metadata__":{},"__metadata__":{}}')
    yield "metadata_is_tensor", file_with({"__metadata__": entry()})


def entry_cases():
    for dtype in [*DTYPES, "F4", "F6_E2M3", "F6_E3M2", "f32", "F23", "", "float32", "F8_E4M3FNUZ", "F8_E5M2FNUZ"]:
        size = DTYPES.get(dtype, 1)
        yield f"dtype_{dtype or 'none'}", file_with({"a": entry(dtype, [2], [0, 2 * size])}, bytes(2 * size))
    for field in ("dtype", "shape", "data_offsets"):
        for name, value in {"null": None, "number": 1, "text": "2", "object": {}, "array": [], "bool": True,
                            "nested": [[2]], "floats": [0.0, 8.0], "texts": ["0", "8"], "negative": [-1, 7]}.items():
            yield f"{field}_{name}", file_with({"a": {**entry(), field: value}})
        yield f"{field}_missing", file_with({"a": {k: v for k, v in entry().items() if k != field}})
        text = json.dumps(entry())
        yield f"{field}_twice", file_of('{"a":' + text[:-1] + f',"{field}":' + json.dumps(entry()[field]) + "}}", bytes(8))
    yield "unknown_field", file_with({"a": {**entry(), "x": [1, {"y": None}]}})
    yield "unknown_field_twice", file_of('{"a":' + json.dumps(entry())[:-1] + ',"x":1,"x":2}}', bytes(8))
    yield "entry_is_list", file_with({"a": ["F32", [2], [0, 8]]})
    for name, value in {"null": None, "number": 1, "text": "x", "empty": {}}.items():
        yield f"entry_{name}", file_with({"a": value})
    for shape in ([], [8], [2, 1], [1, 2], [3], [2**32, 2**32], [2**63 - 1, 4], [2**62 + 1, 4], [2, 2**64 - 2],
                  [2, 2**63 - 1], [2**64], [0, 2**63], [2**40, 2**40, 0], [0, 2**40, 2**40], [2.0], ["2"], [-2], [True]):
        yield f"shape_{shape}".replace(" ", ""), file_with({"a": entry(shape=shape)})
    for shape in ("[2e0]", "[-0]", "[02]", "[+2]", "[2.]", "[0x2]", "[2,]", "[,2]"):
        yield f"shape_text_{shape}", file_of('{"a":{"dtype":"F32","shape":' + shape + ',"data_offsets":[0,8]}}', bytes(8))
    for count in (63, 64, 65, 100_000):
        yield f"dimensions_{count}", file_with({"a": entry(shape=[1] * (count - 1) + [2])})
    for offsets in ([], [0], [0, 8, 8], [8, 0], [0, 9], [0, 7], [1, 9], [-8, 0], [2**64 - 8, 2**64], [2**63, 2**63 + 8],
                    [0, 2**64 - 1], [0, 8.0], [None, 8]):
        yield f"offsets_{offsets}".replace(" ", ""), file_with({"a": entry(offsets=offsets)})
    yield "bool_bytes", file_with({"a": entry("BOOL", [4], [0, 4])}, b"\0\1\2\xff")


def layout_cases():
    def two(first, second, size):
        return file_with({"a": entry(offsets=first), "b": entry(offsets=second)}, bytes(range(size)))

    yield "two_good", two([0, 8], [8, 16], 16)
    yield "two_permuted", two([8, 16], [0, 8], 16)
    yield "overlap", two([0, 8], [4, 12], 12)
    yield "same_region", two([0, 8], [0, 8], 8)
    yield "hole_at_start", two([4, 12], [12, 20], 20)
    yield "hole_in_the_middle", two([0, 8], [12, 20], 20)
    yield "bytes_after", two([0, 8], [8, 16], 17)
    yield "bytes_missing", two([0, 8], [8, 16], 14)
    yield "bytes_after_nothing", file_of("{}", b"x")
    yield "misaligned", file_with({"a": entry("U8", [1], [0, 1]), "b": entry("F64", [1], [1, 9])}, bytes(range(9)))
    yield "empty_everywhere", file_with({"e1": entry(shape=[0], offsets=[0, 0]), "a": entry(),
                                         "e2": entry(shape=[2, 0], offsets=[8, 8])}, bytes(range(8)))
    yield "empty_in_the_middle_of_data", file_with({"e": entry(shape=[0], offsets=[4, 4]), "a": entry()}, bytes(range(8)))
    yield "empty_with_range", file_with({"e": entry(shape=[0])})
    yield "name_twice", file_of('{"a":' + json.dumps(entry()) + ',"a":' + json.dumps(entry(offsets=[8, 16])) + "}", bytes(16))
    yield "odd_names", file_with({"": entry("U8", [1], [0, 1]), "a/b.ü\u0001\"": entry("U8", [1], [1, 2])}, b"ab")


def cases():
    yield from header_cases()
    yield from metadata_cases()
    yield from entry_cases()
    yield from layout_cases()


def mutated(content, random_source):
    """A copy with one to three small changes, of the kind that parsers get wrong."""
    content = bytearray(content)
    for _ in range(random_source.randint(1, 3)):
        position = random_source.randrange(len(content))
        kind = random_source.randrange(5)
        if kind == 0:
            content[position] = random_source.randrange(256)
        elif kind == 1:
            content[position] ^= 1 << random_source.randrange(8)
        elif kind == 2:
            del content[position : position + random_source.randint(1, 4)]
        elif kind == 3:
            content[position:position] = random_source.choice([b'"', b"{", b"}", b"[", b"]", b",", b":", b"0", b"-", b"e", b"\\"])
        else:
            end = position + random_source.randint(1, 8)
            content[position:position] = content[position:end]
        if not content:
            return bytes(8)
    # Keep the length of the header honest most of the time, so that changes reach the later checks.
    if len(content) > 16 and random_source.random() < 0.7:
        end = content.rfind(b"}") + 1
        if end > 8:
            content[:8] = struct.pack("<Q", end - 8)
    return bytes(content)


def mutations(count, seed):
    random_source = random.Random(seed)
    bases = [content for name, content in cases()
             if name in ("good", "two_good", "metadata_good", "misaligned", "empty_everywhere", "odd_names", "bool_bytes")]
    for number in range(count):
        yield f"mutation_{number}", mutated(random_source.choice(bases), random_source)


def write_corpus(folder, mutation_count, seed):
    """Returns the paths, in a fixed order."""
    folder = pathlib.Path(folder)
    paths = []
    for number, (name, content) in enumerate([*cases(), *mutations(mutation_count, seed)]):
        plain = "".join(c if c.isalnum() or c in "-_.," else "_" for c in name)[:80]
        paths.append(folder / f"{number:05}_{plain}.safetensors")
        paths[-1].write_bytes(content)
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(len(write_corpus(arguments.folder, arguments.mutations, arguments.seed)), "files")


if __name__ == "__main__":
    main()
