"""Hostile inputs under a limit on the address space: each ends with status 1 and one line, within seconds.

The limit is what the program takes to look at a small good model, and 768 MB more; docs/files.md has the table of what each
input may cost. Every case is a function that makes the input and returns the arguments.
"""

import json
import os
import resource
import struct
import subprocess
import time
import unittest
import zipfile

from program import PROGRAM, ProgramTest

ALLOWANCE = 768 << 20
SECONDS = 60
VALUES = 4_500_000  # more than the most JSON values of a file


def safetensors_bytes(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def pickle_text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def wide_tensors_pickle() -> bytes:
    """Tensors of 64 sizes each, made again and again from the same arguments."""
    storage = b"(" + pickle_text("storage") + b"ctorch\nFloatStorage\n" + pickle_text("0") + pickle_text("cpu") + b"K\x06tQq\x01"
    parts = b"](" + storage + b"(" + b"K\x01" * 64 + b"tq\x02" + b"ctorch._utils\n_rebuild_tensor_v2\nq\x03"
    parts += b"ccollections\nOrderedDict\n)Rq\x04e"
    tensor = b"h\x03(h\x01K\x00h\x02h\x02\x89h\x04tR"
    return b"\x80\x02}(" + pickle_text("parts") + parts + b"".join(pickle_text(str(i)) + tensor for i in range(150_000)) + b"u."


class BudgetsTest(ProgramTest):
    def run_limited(self, limit: int, *arguments) -> subprocess.CompletedProcess:
        def lower_limit():
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        command = [str(PROGRAM), *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, timeout=SECONDS, preexec_fn=lower_limit, env=environment)

    def address_space(self) -> int:
        """What `inspect` of a good model takes: found by halving, to 32 MB."""
        model = self.model(name="good")
        low, high = 64 << 20, 64 << 30
        while high - low > 32 << 20:
            middle = (low + high) // 2
            if self.run_limited(middle, "inspect", model).returncode == 0:
                high = middle
            else:
                low = middle
        return high

    # ---- inputs

    def header_of_many_tensors(self):
        entries = ",".join(f'"{i}":{{"dtype":"U8","shape":[],"data_offsets":[0,0]}}' for i in range(1_100_000))
        return self.with_weights(safetensors_bytes(b"{" + entries.encode() + b"}"))

    def header_of_much_metadata(self):
        entries = ",".join(f'"{i}":""' for i in range(2_000_000))
        return self.with_weights(safetensors_bytes(b'{"__metadata__":{' + entries.encode() + b"}}"))

    def header_that_claims_more_than_the_file(self):
        return self.with_weights(struct.pack("<Q", 99_000_000) + b"{}")

    def tensor_of_a_terabyte(self):
        size = 1 << 40
        header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        model = self.model(name=f"sparse-{len(list(self.folder.iterdir()))}")
        path = model / "model.safetensors"
        path.write_bytes(safetensors_bytes(header))
        os.truncate(path, 8 + len(header) + size)
        return "inspect", model

    def pickle_of_wide_tensors(self):
        model = self.model(name="pickle")
        (model / "model.safetensors").unlink()
        with zipfile.ZipFile(model / "pytorch_model.bin", "w") as archive:
            archive.writestr("a/data.pkl", wide_tensors_pickle())
            archive.writestr("a/data/0", bytes(24))
        return "inspect", model

    def config_of_many_values(self):
        model = self.model(name="config")
        (model / "config.json").write_text('{"model_type":"llama","x":[' + ",".join(["[]"] * 340_000) + "]}")
        return "inspect", model

    def index_of_many_values(self):
        model = self.model(name="index")
        (model / "model.safetensors").unlink()
        values = ",".join(["0"] * VALUES)
        (model / "model.safetensors.index.json").write_text('{"weight_map":{},"x":[' + values + "]}")
        return "inspect", model

    def tokenizer_of_many_values(self):
        (self.folder / "tokenizer.json").write_text('{"model":[' + ",".join(["[]"] * VALUES) + "]}")
        return "tokenize", "--model", self.folder, "--text", "a"

    def plan_of_many_values(self):
        model = self.model(name="planned")
        (self.folder / "plan.json").write_text('{"vocabulary":[' + ",".join(["0"] * VALUES) + "]}")
        return "prune", "--model", model, "--plan", self.folder / "plan.json", "--dry-run"

    def log_of_one_long_line(self):
        path = self.folder / "log.jsonl"
        path.write_text('{"step":1,"loss":[' + ",".join(["[]"] * VALUES) + "]}")
        return "plot", path

    def inputs_of_a_terabyte(self):
        _, model = self.tensor_of_a_terabyte()
        inputs = (model / "model.safetensors").rename(self.folder / "in.safetensors")
        return "forward", "--model", self.model(name="other"), "--inputs", inputs, "--output", self.folder / "out"

    def with_weights(self, content: bytes):
        model = self.model(name=f"weights-{len(content)}")
        (model / "model.safetensors").write_bytes(content)
        return "inspect", model

    def test_hostile_inputs_are_one_error_within_their_budget(self):
        limit = self.address_space() + ALLOWANCE
        cases = [
            (self.header_of_many_tensors, "model.safetensors"),
            (self.header_of_much_metadata, "model.safetensors"),
            (self.header_that_claims_more_than_the_file, "model.safetensors"),
            (self.tensor_of_a_terabyte, "model.safetensors"),
            (self.pickle_of_wide_tensors, "pytorch_model.bin"),
            (self.config_of_many_values, "config.json"),
            (self.index_of_many_values, "model.safetensors.index.json"),
            (self.tokenizer_of_many_values, "tokenizer.json"),
            (self.plan_of_many_values, "plan.json"),
            (self.log_of_one_long_line, "log.jsonl"),
            (self.inputs_of_a_terabyte, "in.safetensors"),
        ]
        for make, names in cases:
            with self.subTest(make.__name__):
                arguments = make()
                start = time.monotonic()
                result = self.run_limited(limit, *arguments)
                error = result.stderr.decode()
                self.assertEqual(result.returncode, 1, error)
                self.assertEqual(len(error.splitlines()), 1, error)
                self.assertTrue(error.startswith("error: ") and names in error, error)
                self.assertLess(time.monotonic() - start, SECONDS)


if __name__ == "__main__":
    unittest.main()
