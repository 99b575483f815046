#!/usr/bin/env python3
"""Weights that Python wrote, read and written again by us, bit by bit the same; and what we wrote, read by Python.

    round_trip_weights.py PATH_OF_resave_weights

Exit status: 0 all equal, 1 not, 77 the Python packages are not installed.
"""

import collections
import filecmp
import json
import pathlib
import pickle
import subprocess
import sys
import tempfile
import warnings

try:
    import huggingface_hub
    import safetensors.torch
    import torch
except ImportError as error:
    print("skipped:", error)
    sys.exit(77)

DTYPES = (torch.bool, torch.uint8, torch.int8, torch.float8_e5m2, torch.float8_e4m3fn, torch.float8_e5m2fnuz,
          torch.float8_e4m3fnuz, torch.float8_e8m0fnu, torch.int16, torch.uint16, torch.float16, torch.bfloat16, torch.int32,
          torch.uint32, torch.float32, torch.complex64, torch.float64, torch.int64, torch.uint64)


def random_tensor(dtype, shape):
    count = int(torch.tensor(shape).prod()) if shape else 1
    if dtype == torch.bool:
        return torch.randint(0, 2, shape).bool()
    return torch.randint(0, 256, (count * dtype.itemsize,), dtype=torch.uint8).view(dtype).view(shape)


def every_kind():
    """Every dtype, and shapes and names that are easy to get wrong."""
    tensors = {f"{dtype}".removeprefix("torch."): random_tensor(dtype, (3, 5)) for dtype in DTYPES}
    tensors |= {f"empty.{i}": torch.zeros(shape, dtype=torch.float16) for i, shape in enumerate([(0,), (2, 0, 3)])}
    return tensors | {"scalar": torch.tensor(1.5), "": torch.ones(2), 'größe/模型."\\\n\x01\x7f': torch.ones(3, dtype=torch.uint8)}


class Program:
    def __init__(self, path):
        self.path = path

    def __call__(self, source, target, max_shard_size=""):
        request = f"{source}\t{target}\t{max_shard_size}\n"
        return subprocess.run([self.path], input=request, capture_output=True, text=True, check=True).stdout.strip()


def expect(condition, what):
    if not condition:
        sys.exit(f"failed: {what}")


def same_bits(a, b):
    # contiguous() of a tensor of one element may keep strides that view() refuses.
    bits = [t.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)
            for t in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)


def check_safetensors(program, folder):
    cases = {"every_kind": every_kind(), "nothing": {}, "many": {f"layer.{i}.w": torch.full((3,), i) for i in range(2000)}}
    for name, tensors in cases.items():
        source, target = folder / f"{name}.safetensors", folder / f"{name}.ours.safetensors"
        for metadata in ({"format": "pt"}, {"note": 'ü"\\\n\x01'}, None):
            safetensors.torch.save_file(tensors, source, metadata=metadata)
            expect(program(source, target) == "ok", f"reading {name}")
            expect(filecmp.cmp(source, target, shallow=False), f"{name} with metadata {metadata}: not the same bytes")


def check_shards(program, folder):
    """The order of the state is that of the data here, so that our shards must be those of huggingface_hub."""
    state = {f"{i:03}.weight": torch.rand(11 + i % 7, 5) for i in range(60)} | {"large": torch.rand(100, 50)}
    source = folder / "state.safetensors"
    safetensors.torch.save_file(state, source, metadata={"format": "pt"})
    for limit in (1000, 3000, 12345, 10**6):
        expected, actual, again = (folder / f"{kind}{limit}" for kind in ("expected", "actual", "again"))
        expected.mkdir()
        huggingface_hub.save_torch_state_dict(state, expected, max_shard_size=limit)
        program_reads(program, source, folder / f"single{limit}", actual, limit)
        names = sorted(path.name for path in expected.iterdir())
        expect(names == sorted(path.name for path in actual.iterdir()), f"limit {limit}: other files than {names}")
        for name in names:
            if name.endswith(".json"):
                index = [json.loads((side / name).read_text()) for side in (expected, actual)]
                count = index[1]["metadata"].pop("total_parameters")
                expect(count == sum(t.numel() for t in state.values()), "total_parameters")
                expect(index[0] == index[1], f"limit {limit}: another index")
                text = json.dumps(json.loads((actual / name).read_text()), indent=2, sort_keys=True) + "\n"
                expect((actual / name).read_text() == text, "the index is not formatted as HF's")
            else:
                expect(filecmp.cmp(expected / name, actual / name, shallow=False), f"limit {limit}: {name} differs")
        expect(program(actual, again, "1TB") == "ok", "reading shards")
        loaded = safetensors.torch.load_file(again / "model.safetensors")
        expect(loaded.keys() == state.keys() and all(same_bits(loaded[k], state[k]) for k in state), "shards joined")


def program_reads(program, source, folder, target, limit):
    """Saves `source` as the shards of `target`, going through a folder of its own."""
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(source)
    expect(program(folder, target, limit) == "ok", f"saving shards of {limit}")


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
        self.b.weight = self.a.weight
        self.register_buffer("mask", torch.ones(3, dtype=torch.bool))


def good_torch_files():
    kinds = every_kind()
    yield "plain_dict", kinds, kinds
    yield "ordered_dict", collections.OrderedDict(kinds), kinds
    module = Tied().half()
    yield "state_dict", module.state_dict(), module.state_dict()
    base = torch.arange(60, dtype=torch.float32).view(3, 4, 5)
    views = {"whole": base, "t": base.transpose(0, 2), "row": base[1], "step": base[:, ::2, 1:], "one": base[2, 3, 4]}
    yield "views", views, views
    parameters = {"p": torch.nn.Parameter(torch.rand(2, 2)), "q": torch.rand(2, requires_grad=True)}
    yield "parameters", parameters, parameters
    plain = {"step": 3, "big": 2**80, "lr": 0.1, "name": "x", "none": None, "flag": True, "list": [1, [2, (3,)]],
             "dtype": torch.bfloat16, "size": torch.Size([1, 2]), "device": torch.device("cpu")}
    yield "plain_values", {"w": base, **plain}, {"w": base}
    yield "nested", {"model": module.state_dict(), "opt": {0: {"m": base}}, **plain}, {
        **{f"model.{k}": v for k, v in module.state_dict().items()}, "opt.0.m": base}
    many = {f"{i}": torch.full((2,), i) for i in range(3000)}
    yield "many", many, many


def check_torch_files(program, folder):
    for name, saved, expected in good_torch_files():
        source, target = folder / f"{name}.bin", folder / f"{name}.safetensors"
        torch.save(saved, source)
        answer = program(source, target)
        expect(answer == "ok", f"reading {name}.bin: {answer}")
        loaded = safetensors.torch.load_file(target)
        expect(loaded.keys() == expected.keys(), f"{name}.bin: other names: {loaded.keys() ^ expected.keys()}")
        wrong = [key for key in expected if not same_bits(loaded[key], expected[key])]
        expect(not wrong, f"{name}.bin: other tensors {wrong}")


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def check_refused_torch_files(program, folder):
    module, path = Tied(), folder / "refused.bin"
    warnings.simplefilter("ignore")

    def refused(fragment):
        answer = program(path, folder / "never.safetensors")
        expect(answer.startswith("error: ") and fragment in answer, f"expected a refusal with {fragment!r}, got {answer}")

    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)
    refused("re-save it with torch >= 1.6")
    torch.save(module, path)
    refused("it names the Python object")
    torch.save({"w": torch.ones(1), "x": Evil()}, path)
    refused("it names the Python object __builtin__ print")
    torch.save({"w": torch.ones(1).numpy()}, path)
    refused("it names the Python object numpy")
    torch.save({"c": torch.ones(1, dtype=torch.complex64).conj()}, path)
    refused("resolve_conj()")
    torch.save({"w": torch.ones(1).expand(1000)}, path)
    refused("more elements than its storage")
    torch.save([torch.ones(1)], path)
    refused("expected a pickled dictionary of tensors, found a list")
    torch.save({"w": torch.ones(1)}, path, pickle_protocol=4)
    refused("protocol 2")
    torch.jit.save(torch.jit.script(module.a), path)
    refused("TorchScript")
    path.write_bytes(pickle.dumps({"w": 1}, protocol=2))
    refused("this is a pickle")


def main():
    program = Program(sys.argv[1])
    torch.manual_seed(0)
    for check in (check_safetensors, check_shards, check_torch_files, check_refused_torch_files):
        with tempfile.TemporaryDirectory() as folder:
            check(program, pathlib.Path(folder))
        print(check.__name__, "passed")


if __name__ == "__main__":
    main()
