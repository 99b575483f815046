"""The example of data-parallel training runs under torchrun, learns, saves, and says which rank failed and why."""

import os
import subprocess
import sys
import unittest
from pathlib import Path

import safetensors.torch
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cli"))
from program import ProgramTest  # noqa: E402

EXAMPLES = Path(os.environ.get("EXAMPLES", ROOT / "build/release/examples"))
TORCHRUN = Path(sys.executable).parent / "torchrun"


@unittest.skipUnless(TORCHRUN.exists(), "there is no torchrun")
class DataParallelExampleTest(ProgramTest):
    def run_example(self, ranks: int, *arguments) -> subprocess.CompletedProcess:
        rendezvous = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]  # a free port, whatever else runs
        command = [TORCHRUN, "--no-python", *rendezvous, "--nproc-per-node", ranks, EXAMPLES / "example_data_parallel"]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*map(str, command), *map(str, arguments)],
            capture_output=True, text=True, timeout=120, cwd=self.folder, env=environment,
        )

    def test_two_ranks_learn(self):
        result = self.run_example(2)
        self.assertEqual(result.returncode, 0, result.stderr)
        losses = [float(line.split()[-1]) for line in result.stdout.splitlines()]
        self.assertEqual(len(losses), 20)
        self.assertLess(losses[-1], 0.8 * losses[0])

    def test_a_model_folder_is_trained_and_saved(self):
        model = self.model()
        result = self.run_example(2, model, self.folder / "trained")
        self.assertEqual(result.returncode, 0, result.stderr)
        before, after = (safetensors.torch.load_file(folder / "model.safetensors")
                         for folder in (model, self.folder / "trained"))
        self.assertEqual(before.keys(), after.keys())
        self.assertFalse(torch.equal(before["model.norm.weight"], after["model.norm.weight"]))

    def test_a_folder_that_is_not_there_is_reported_with_its_rank(self):
        result = self.run_example(2, self.folder / "none")
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, r"error: rank [01]: .*none")


if __name__ == "__main__":
    unittest.main()
