"""The example of fully sharded training runs under torchrun, learns, goes on from its checkpoint, and saves for Python."""

import os
import subprocess
import sys
import unittest
from pathlib import Path

import torch

try:
    from transformers import AutoModelForCausalLM
except ImportError:
    AutoModelForCausalLM = None

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cli"))
from program import ProgramTest  # noqa: E402

EXAMPLES = Path(os.environ.get("EXAMPLES", ROOT / "build/release/examples"))
TORCHRUN = Path(sys.executable).parent / "torchrun"


@unittest.skipUnless(TORCHRUN.exists(), "there is no torchrun")
class ShardedFinetuneExampleTest(ProgramTest):
    def run_example(self, ranks: int, *arguments) -> subprocess.CompletedProcess:
        rendezvous = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]  # a free port, whatever else runs
        command = [TORCHRUN, "--no-python", *rendezvous, "--nproc-per-node", ranks, EXAMPLES / "example_sharded_finetune"]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*map(str, command), *map(str, arguments)],
            capture_output=True, text=True, timeout=120, cwd=self.folder, env=environment,
        )

    def losses(self, ranks: int, *arguments) -> list[float]:
        result = self.run_example(ranks, *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return [float(line.split()[-1]) for line in result.stdout.splitlines()]

    @unittest.skipIf(AutoModelForCausalLM is None, "there is no transformers")
    def test_two_ranks_learn_and_one_goes_on_from_their_checkpoint(self):
        model = self.model()
        before = AutoModelForCausalLM.from_pretrained(model)
        losses = self.losses(2, self.folder / "out", model)
        self.assertEqual(len(losses), 20)
        self.assertLess(losses[-1], 0.8 * losses[0])
        again = self.losses(1, self.folder / "out", model)
        torch.testing.assert_close(torch.tensor(again), torch.tensor(losses[10:]), rtol=1e-4, atol=1e-4)
        after = AutoModelForCausalLM.from_pretrained(self.folder / "out" / "model")
        self.assertEqual(before.state_dict().keys(), after.state_dict().keys())
        ids = torch.arange(16)[None]
        with torch.no_grad():
            self.assertLess(after(ids, labels=ids).loss, before(ids, labels=ids).loss)

    def test_it_starts_anew_after_a_run_that_died_in_its_first_save(self):
        checkpoint = self.folder / "out" / "checkpoint"
        checkpoint.mkdir(parents=True)
        (checkpoint / "part-0123456789abcdef-00001-of-00002.safetensors").write_bytes(b"cut")
        self.assertEqual(len(self.losses(2, self.folder / "out")), 20)
        self.assertEqual(len(self.losses(2, self.folder / "out")), 10)

    def test_a_folder_that_is_not_there_is_reported_with_its_rank(self):
        result = self.run_example(2, self.folder / "out", self.folder / "none")
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, r"error: rank [01]: .*none")


if __name__ == "__main__":
    unittest.main()
