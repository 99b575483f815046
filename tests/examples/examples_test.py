"""The programs of src/examples do what they say, and README.md holds the one it shows word for word."""

import os
import subprocess
import sys
import unittest
from pathlib import Path

import transformers

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cli"))
from program import ProgramTest  # noqa: E402

COMMITTED_MODEL = ROOT / "src/examples/gptj-bible"
EXAMPLES = Path(os.environ.get("EXAMPLES", ROOT / "build/release/examples"))


class ExamplesTest(ProgramTest):
    def example(self, name: str, *arguments, status: int = 0) -> str:
        command = [EXAMPLES / f"example_{name}", *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=self.folder)
        self.assertEqual(result.returncode, status, result.stderr)
        return result.stdout if status == 0 else result.stderr

    def test_load_and_generate_prints_what_the_program_prints(self):
        model, prompt = self.talking_model(), "The library reads"
        expected = self.run_program("generate", "--model", model, "--prompt", prompt, "--max-new-tokens", 16)
        self.assertEqual(self.example("load_and_generate", model, prompt), expected)

    def test_load_and_generate_says_what_is_wrong_with_a_folder(self):
        self.assertIn("error: ", self.example("load_and_generate", self.folder / "none", status=1))

    def test_the_readme_program_prints_prompt_and_continuation(self):
        model = self.talking_model()
        (self.folder / "models").mkdir()
        model.rename(self.folder / "models" / "SmolLM2-135M-Instruct")
        self.assertTrue(self.example("readme").startswith("The capital of France is"))

    def test_the_readme_shows_what_is_compiled(self):
        source = (ROOT / "src/examples/readme.cpp").read_text()
        self.assertIn(source[source.index("#include") :], (ROOT / "README.md").read_text())

    def test_training_steps_lower_the_loss(self):
        losses = [float(line.split()[-1]) for line in self.example("train_step").splitlines()]
        self.assertEqual(len(losses), 10)
        self.assertLess(losses[-1], losses[0])

    def test_a_pruned_model_recovers(self):
        lines = [line.split() for line in self.example("prune_and_recover").splitlines()]
        losses = {line[0]: float(line[1]) for line in lines}
        self.assertGreater(losses["pruned"], losses["before"])
        self.assertLess(losses["recovered"], (losses["before"] + losses["pruned"]) / 2)
        self.assertLess(int(lines[1][3]), int(lines[0][3]))

    def test_the_committed_model_writes_what_it_writes_in_python(self):
        self.assertLess(sum(file.stat().st_size for file in COMMITTED_MODEL.iterdir()), 12 << 20)
        tokenizer = transformers.AutoTokenizer.from_pretrained(COMMITTED_MODEL)
        model = transformers.AutoModelForCausalLM.from_pretrained(COMMITTED_MODEL, dtype="float32").eval()
        options = {"max_new_tokens": 40, "do_sample": False, "repetition_penalty": 1.2, "pad_token_id": 0}
        for prompt in ("And it came to pass", "The LORD is my shepherd", "Blessed are"):
            command = ("--prompt", prompt, "--dtype", "float32", "--repetition-penalty", 1.2, "--max-new-tokens", 40)
            written = self.run_program("generate", "--model", COMMITTED_MODEL, *command, "--quiet")
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            expected = tokenizer.decode(model.generate(ids, **options)[0, ids.shape[1] :], skip_special_tokens=True)
            self.assertEqual(written.rstrip("\n"), expected.rstrip("\n"))
        self.assertIn("that the LORD spake unto Moses", (COMMITTED_MODEL / "README.md").read_text())


if __name__ == "__main__":
    unittest.main()
