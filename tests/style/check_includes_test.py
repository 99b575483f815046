"""scripts/check/check_includes.py accepts the allowed and names each fault, on small trees made here."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CHECKER = Path(__file__).resolve().parents[2] / "scripts" / "check" / "check_includes.py"
EXISTING = [
    "include/utils/nn/linear.h",
    "include/utils/io/safetensors.h",
    "include/utils/modeling/rope.h",
    "include/llama/modeling_llama.h",
]
EXISTING += ["include/gptj/modeling_gptj.h", "src/utils/json/strict_json.h", "include/utils/model_pruning/importance.h"]
EXISTING += ["src/utils/nn/internal/parallel_for.h", "src/utils/nn/dnn_linear.h"]
LEVELS = """set(levels
  "utils/json utils/nn"
  "utils/io utils/pytorch_utils utils/pruning"
  "utils/modeling"
  "gptj llama utils/model_pruning")
"""


def check(file: str, line: str) -> str:
    """The checker's output for a tree with the EXISTING headers and one more file that holds one line."""
    with tempfile.TemporaryDirectory() as folder:
        for path in EXISTING + [file]:
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_text("")
        (Path(folder) / "src" / "CMakeLists.txt").write_text(LEVELS)
        (Path(folder) / file).write_text(f"#pragma once\n{line}\n")
        return subprocess.run([sys.executable, CHECKER, folder], capture_output=True, text=True).stdout


class CheckIncludesTest(unittest.TestCase):
    def assert_accepted(self, file: str, line: str):
        self.assertEqual(check(file, line), "all includes point downward\n")

    def assert_refused(self, file: str, line: str, fault: str):
        self.assertIn(f"{file}:2: ", check(file, line))
        self.assertIn(fault, check(file, line))

    def test_a_room_may_include_itself_and_lower_rooms(self):
        self.assert_accepted("include/utils/nn/module.h", "#include <transformers/utils/nn/linear.h>")
        self.assert_accepted("src/llama/modeling_llama.cpp", "#include <transformers/utils/modeling/rope.h>")
        self.assert_accepted("src/utils/io/index.cpp", '#include "utils/json/strict_json.h"')
        self.assert_accepted("include/utils/pytorch_utils.h", "#include <ATen/core/Tensor.h>")
        self.assert_accepted("src/cli/main.cpp", "#include <torch/torch.h>")

    def test_upward_and_sideways_includes_are_refused(self):
        self.assert_refused(
            "src/utils/io/a.cpp", "#include <transformers/utils/modeling/rope.h>", "may not include room 'modeling'"
        )
        self.assert_refused(
            "src/gptj/a.cpp", "#include <transformers/llama/modeling_llama.h>", "may not include room 'llama'"
        )
        self.assert_refused(
            "include/utils/nn/a.h", "#  include <transformers/utils/io/safetensors.h>", "may not include room 'io'"
        )
        self.assert_refused(
            "src/utils/pytorch_utils.cpp", "#include <transformers/utils/io/safetensors.h>", "may not include room 'io'"
        )

    def test_the_umbrella_header_names_every_public_header(self):
        lines = "\n".join(f"#include <transformers/{path.removeprefix('include/')}>" for path in EXISTING if "include/" in path)
        self.assert_accepted("include/transformers.h", lines)
        self.assertIn("utils/io/safetensors.h is missing", check("include/transformers.h", lines.split("\n")[0]))

    def test_model_pruning_is_a_room_of_its_own_above_pruning(self):
        self.assert_accepted("src/utils/model_pruning/importance.cpp", "#include <transformers/utils/modeling/rope.h>")
        line = "#include <transformers/utils/model_pruning/importance.h>"
        self.assert_refused("src/utils/pruning/pruners.cpp", line, "may not include room 'model_pruning'")

    def test_private_headers_of_other_rooms_are_refused_but_for_internal_ones(self):
        self.assert_accepted("src/utils/nn/linear.cpp", '#include "utils/nn/dnn_linear.h"')
        self.assert_accepted("src/utils/io/a.cpp", '#include "utils/nn/internal/parallel_for.h"')
        self.assert_accepted("src/llama/a.cpp", '#include "utils/json/strict_json.h"')
        self.assert_refused("src/llama/a.cpp", '#include "utils/nn/dnn_linear.h"', "private to its room")
        self.assert_refused("src/examples/a.cpp", '#include "utils/nn/internal/parallel_for.h"', "public headers alone")

    def test_rooms_outside_the_table_are_refused(self):
        self.assert_refused(
            "src/utils/misc/a.cpp", "#include <transformers/utils/nn/linear.h>", "'misc' is not in the level table"
        )

    def test_public_headers_stay_free_of_json_and_private_headers(self):
        self.assert_refused("include/llama/a.h", "#include <nlohmann/json_fwd.hpp>", "no JSON type")
        self.assert_refused("include/llama/a.h", '#include "utils/json/strict_json.h"', "private")

    def test_the_whole_of_torch_is_refused_in_the_library(self):
        self.assert_refused("src/llama/a.cpp", "#include <torch/torch.h>", "narrow header")

    def test_headers_that_do_not_exist_are_refused(self):
        self.assert_refused(
            "src/llama/a.cpp", "#include <transformers/utils/nn/liner.h>", "there is no include/utils/nn/liner.h"
        )


if __name__ == "__main__":
    unittest.main()
