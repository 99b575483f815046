"""The program's `prune`: what stays is chosen as an own computation chooses, and Python loads what is written."""

import json
import unittest
from pathlib import Path

import torch
from program import ProgramTest
from safetensors.torch import load_file, save_file

try:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
except ImportError:
    transformers = None

IDS = torch.tensor([[5, 9, 3, 17, 8, 4], [7, 7, 12, 6, 3, 10]])


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def lowest(scores: torch.Tensor, count: int) -> list:
    """What stays when the `count` lowest go."""
    return sorted(torch.argsort(scores, stable=True)[count:].tolist())


def rows_of(parts: list, size: int) -> torch.Tensor:
    return torch.tensor([part * size + i for part in parts for i in range(size)])


class PruneTest(ProgramTest):
    def prune(self, model: Path, *options, output: str = "pruned") -> Path:
        self.table = self.run_program("prune", "--model", model, "--output", self.folder / output, *options)
        return self.folder / output

    def logits(self, model: Path, ids: torch.Tensor = IDS) -> torch.Tensor:
        out = self.folder / "out.safetensors"
        self.run_program("forward", "--model", model, "--inputs", self.tensors(input_ids=ids), "--output", out)
        return load_file(out)["logits"]

    def assert_same_in_python(self, folder: Path, ids: torch.Tensor = IDS) -> None:
        if transformers is None:
            return
        model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        self.assertFalse(any(report.values()), report)
        with torch.no_grad():
            expected = model(input_ids=ids).logits
        torch.testing.assert_close(self.logits(folder, ids), expected, rtol=1e-4, atol=1e-5)

    def assert_weights(self, folder: Path, expected: dict) -> None:
        found = load_file(folder / "model.safetensors")
        self.assertEqual(sorted(found), sorted(expected))
        for name, tensor in expected.items():
            self.assertTrue(torch.equal(found[name], tensor), name)

    def test_channels_of_least_l2_norm_go(self):
        model = self.model()
        weights = load_file(model / "model.safetensors")
        layers = config_of(model)["num_hidden_layers"]
        width = config_of(model)["intermediate_size"]
        for i in range(layers):
            gate, up, down = (f"model.layers.{i}.mlp.{name}_proj.weight" for name in ("gate", "up", "down"))
            squares = weights[gate].square().sum(1) + weights[up].square().sum(1) + weights[down].square().sum(0)
            kept = lowest(squares, int(0.3 * width))
            weights |= {gate: weights[gate][kept], up: weights[up][kept], down: weights[down][:, kept]}
        pruned = self.prune(model, "--intermediate", 0.3)
        self.assert_weights(pruned, weights)
        self.assertEqual(config_of(pruned)["intermediate_size"], width - int(0.3 * width))
        self.assert_same_in_python(pruned)

    def test_groups_go_with_their_query_heads(self):
        model = self.model()
        weights, config = load_file(model / "model.safetensors"), config_of(model)
        size, heads, groups = config["head_dim"], config["num_attention_heads"], config["num_key_value_heads"]
        for i in range(config["num_hidden_layers"]):
            q, k, v, o = (f"model.layers.{i}.self_attn.{name}_proj.weight" for name in "qkvo")
            together = heads // groups * size
            scores = weights[q].abs().sum(1).view(groups, together).sum(1)
            scores += weights[o].abs().sum(0).view(groups, together).sum(1)
            scores += (weights[k].abs().sum(1) + weights[v].abs().sum(1)).view(groups, size).sum(1)
            kept = lowest(scores, groups // 2)
            queries, keys = rows_of(kept, together), rows_of(kept, size)
            weights |= {q: weights[q][queries], o: weights[o][:, queries], k: weights[k][keys], v: weights[v][keys]}
        pruned = self.prune(model, "--heads", 0.5, "--criterion", "l1")
        self.assert_weights(pruned, weights)
        left = config_of(pruned)
        self.assertEqual((left["num_attention_heads"], left["num_key_value_heads"]), (heads // 2, groups // 2))
        self.assertEqual(left["head_dim"], size)
        self.assertNotIn("pruned_heads", left)
        self.assert_same_in_python(pruned)

    @unittest.skipIf(transformers is None, "needs transformers")
    def test_channels_of_least_activation_go(self):
        for golden, place in (("models/llama_gqa", "down_proj"), ("models/gptj_rotary_partial", "fc_out")):
            with self.subTest(golden=golden):
                model = self.model(golden, name=place)
                reference = transformers.AutoModelForCausalLM.from_pretrained(model)
                seen = {}
                for name, module in reference.named_modules():
                    if name.endswith(place):
                        hook = lambda _, x, name=name: seen.__setitem__(name, x[0].abs().mean((0, 1)))
                        module.register_forward_pre_hook(hook)
                with torch.no_grad():
                    reference(input_ids=IDS)
                calibration = self.tensors("calibration.safetensors", input_ids=IDS)
                options = ("--criterion", "activation", "--calibration", calibration)
                pruned = self.prune(model, "--intermediate", 0.25, *options, output=f"pruned_{place}")
                found, before = load_file(pruned / "model.safetensors"), load_file(model / "model.safetensors")
                for name, score in seen.items():
                    kept = lowest(score, int(0.25 * len(score)))
                    self.assertTrue(torch.equal(found[f"{name}.weight"], before[f"{name}.weight"][:, kept]), name)
                self.assert_same_in_python(pruned)

    def test_layers_are_renumbered(self):
        for golden, prefix in (("models/llama_gqa", "model.layers"), ("models/gptj_rotary_partial", "transformer.h")):
            with self.subTest(golden=golden):
                model = self.model(golden, name=prefix)
                pruned = self.prune(model, "--layers", "0", output="pruned_" + prefix)
                left = {}
                for name, tensor in load_file(model / "model.safetensors").items():
                    if not name.startswith(f"{prefix}.0."):
                        left[name.replace(f"{prefix}.1.", f"{prefix}.0.")] = tensor
                self.assert_weights(pruned, left)
                self.assert_same_in_python(pruned)

    def test_everything_at_once(self):
        keep = self.folder / "keep.txt"
        keep.write_text("".join(f"{i}\n" for i in range(19)))
        options = ("--heads", 0.5, "--intermediate", 0.5, "--layers", 1, "--vocab", keep)
        pruned = self.prune(self.model(), *options)
        self.assert_same_in_python(pruned)
        numbers = [int(word) for word in self.table.split("parameters")[1].split()[:2]]
        self.assertEqual(numbers[1], sum(t.numel() for t in load_file(pruned / "model.safetensors").values()))
        self.assertLess(numbers[1], numbers[0])

    def test_the_table_tells_sizes_before_and_after(self):
        model = self.model()
        pruned = self.prune(model, "--heads", 0.5, "--intermediate", 0.5, "--layers", 0)
        lines = [line.split() for line in self.table.splitlines()]
        states = [load_file(folder / "model.safetensors") for folder in (model, pruned)]
        for word, size in (("parameters", torch.Tensor.numel), ("bytes", lambda t: t.numel() * t.element_size())):
            self.assertIn([word, *(str(sum(map(size, state.values()))) for state in states)], lines)
        self.assertIn(["layers", "2", "1"], lines)
        self.assertIn(["vocabulary", *[str(config_of(model)["vocab_size"])] * 2], lines)
        rows = [self.layer_row(states[0], config_of(model), i) for i in (0, 1)]
        self.assertIn(["layer", "0", *rows[0], "-"], lines)
        self.assertIn(["layer", "1", *rows[1], *self.layer_row(states[1], config_of(pruned), 0)], lines)

    def layer_row(self, state: dict, config: dict, number: int) -> list:
        """Heads, MLP channels and parameters of a layer, as the table words them."""
        heads = f"{config['num_attention_heads']}/{config['num_key_value_heads']}"
        of_layer = [tensor for name, tensor in state.items() if name.startswith(f"model.layers.{number}.")]
        return [heads, str(config["intermediate_size"]), str(sum(map(torch.Tensor.numel, of_layer)))]

    def test_gptj_heads_are_refused_zeroed_or_kept_in_the_extended_form(self):
        model, pruned = self.model("models/gptj_rotary_partial"), self.folder / "pruned"
        heads = ("--heads", 0.5)
        arguments = ("prune", "--model", model, "--output", pruned, *heads)
        self.assert_fails(*arguments, says=("head_dim", "--zero", "--extended"), output=pruned)
        zeroed = self.prune(model, *heads, "--zero", output="zeroed")
        self.assert_same_in_python(zeroed)
        extended = self.prune(model, *heads, "--extended", output="extended")
        self.assertIn("pruned_heads", config_of(extended))
        torch.testing.assert_close(self.logits(extended), self.logits(zeroed), rtol=1e-4, atol=1e-5)
        self.assertEqual(self.prune_nothing(extended), self.table_of(extended))

    def table_of(self, folder: Path) -> int:
        return sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())

    def prune_nothing(self, folder: Path) -> int:
        """The library-only form is read and converted by the program, and can be inspected."""
        again = self.folder / "again"
        self.run_program("convert", "--model", folder, "--output", again)
        self.assertEqual(json.loads(self.run_program("inspect", again, "--json"))["mismatched"], [])
        return self.table_of(again)

    def test_unequal_layers_need_the_extended_form(self):
        model, pruned = self.model(), self.folder / "pruned"
        arguments = ("prune", "--model", model, "--output", pruned, "--intermediate", 0.5, "--global")
        self.assert_fails(*arguments, says=("one number of MLP channels", "--extended"), output=pruned)
        extended = self.prune(model, "--intermediate", 0.5, "--global", "--extended")
        widths = config_of(extended)["intermediate_sizes"]
        for i, width in enumerate(widths):
            weight = load_file(extended / "model.safetensors")[f"model.layers.{i}.mlp.down_proj.weight"]
            self.assertEqual(weight.shape[1], width)
        self.logits(extended)

    def test_tokens_go_with_their_tokenizer(self):
        model = self.talking_model()
        config = config_of(model) | {"bos_token_id": 1, "eos_token_id": [2, 16], "pad_token_id": 2}
        (model / "config.json").write_text(json.dumps(config))
        (model / "generation_config.json").write_text(
            json.dumps({"bos_token_id": 1, "eos_token_id": [2, 16], "pad_token_id": 2, "suppress_tokens": [15, 16]})
        )
        vocab = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
        kept = sorted(i for token, i in vocab.items() if len(token) == 1 or (i % 3 == 0 and i > 20) or i in (0, 1))
        keep = self.folder / "keep.txt"
        keep.write_text("\n".join(map(str, kept)) + "\n")
        kept = sorted({*kept, 2, 16})
        result = self.start("prune", "--model", model, "--output", self.folder / "pruned", "--vocab", keep)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(b"special token", result.stderr)
        pruned = self.folder / "pruned"
        new = {old: i for i, old in enumerate(kept)}
        for file in ("config.json", "generation_config.json"):
            ids = json.loads((pruned / file).read_text())
            self.assertEqual(ids["bos_token_id"], new[1], file)
            self.assertEqual(ids["eos_token_id"], [new[2], new[16]], file)
            self.assertEqual(ids["pad_token_id"], new[2], file)
        self.assertEqual(json.loads((pruned / "generation_config.json").read_text())["suppress_tokens"], [new[16]])
        self.assertEqual(config_of(pruned)["vocab_size"], len(kept))
        self.assertEqual(json.loads((pruned / "vocab_map.json").read_text()), {str(o): n for o, n in new.items()})
        before, after = load_file(model / "model.safetensors"), load_file(pruned / "model.safetensors")
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            self.assertTrue(torch.equal(after[name], before[name][kept]), name)
        ids = torch.tensor([[3, 50, 20, 9]])
        self.assert_same_in_python(pruned, ids)
        text = "The library reads 42 tensors."
        found = json.loads(self.run_program("tokenize", "--model", pruned, "--text", text))["ids"]
        self.assertLess(max(found), len(kept))
        joined = ",".join(map(str, found))
        self.assertEqual(self.run_program("detokenize", "--model", pruned, "--ids", joined).rstrip("\n"), text)
        if transformers is not None:
            tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(pruned / "tokenizer.json"))
            self.assertEqual(tokenizer.encode(text), found)

    def test_a_tokenizer_that_cannot_be_pruned_leaves_the_map(self):
        model, keep = self.talking_model(), self.folder / "keep.txt"
        keep.write_text("\n".join(map(str, range(30))))
        (self.folder / "pruned").mkdir()
        self.add_tokenizer(self.folder / "pruned")  # of an earlier save
        result = self.start("prune", "--model", model, "--output", self.folder / "pruned", "--vocab", keep)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(b"no tokenizer is written", result.stderr)
        names = {path.name for path in (self.folder / "pruned").iterdir()}
        self.assertEqual(names, {"config.json", "generation_config.json", "model.safetensors", "vocab_map.json"})

    def test_a_broken_tokenizer_is_found_before_anything_is_written(self):
        model, keep, out = self.talking_model(), self.folder / "keep.txt", self.folder / "pruned"
        keep.write_text("\n".join(map(str, range(30))))
        tokenizer = model / "tokenizer.json"
        tokenizer.write_bytes(tokenizer.read_bytes()[:100])
        arguments = ("prune", "--model", model, "--output", out, "--vocab", keep)
        self.assert_fails(*arguments, says=("tokenizer.json",), output=out)

    def test_the_tokenizer_comes_along_when_all_tokens_stay(self):
        model = self.talking_model()
        pruned = self.prune(model, "--intermediate", 0.2)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            self.assertEqual((pruned / name).read_bytes(), (model / name).read_bytes())

    def test_calibration_may_be_text(self):
        model, text = self.talking_model(), self.folder / "text.txt"
        text.write_text("The library reads tensors. " * 40)
        for criterion in ("activation", "taylor"):
            options = ("--intermediate", 0.2, "--heads", 0.5, "--criterion", criterion, "--calibration", text)
            self.assert_same_in_python(self.prune(model, *options, output=criterion))

    def test_a_dry_run_prints_the_plan_and_writes_nothing(self):
        model = self.model()
        before = sorted(path.name for path in self.folder.rglob("*"))
        arguments = ("--intermediate", 0.2, "--layers", "1", "--dry-run")
        text = self.run_program("prune", "--model", model, *arguments)
        self.assertIn("layers go: 1", text)
        self.assertIn("layer 0: ", text)
        self.assertIn("parameters", text)
        self.run_program("prune", "--model", model, "--output", self.folder / "pruned", *arguments)
        self.assertEqual(sorted(path.name for path in self.folder.rglob("*")), before)

    def test_the_plan_is_saved_as_json(self):
        plan = self.folder / "plan.json"
        self.run_program("prune", "--model", self.model(), "--heads", 0.5, "--dry-run", "--save-plan", plan)
        saved = json.loads(plan.read_text())
        self.assertEqual(saved["model"]["model_type"], "llama")
        self.assertEqual(set(saved["heads"]), {"0", "1"})

    def test_a_dry_run_shows_also_what_the_config_cannot_express(self):
        model, plan = self.model("models/gptj_rotary_partial"), self.folder / "plan.json"
        result = self.start("prune", "--model", model, "--heads", 0.5, "--dry-run", "--save-plan", plan)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"heads go: ", result.stdout)
        self.assertTrue(json.loads(plan.read_text())["heads"])
        self.assertTrue(result.stderr.splitlines()[-1].startswith(b"error: "))
        self.assertIn(b"--extended", result.stderr)

    def test_a_saved_plan_is_carried_out(self):
        model, plan, keep = self.model(), self.folder / "plan.json", self.folder / "keep.txt"
        keep.write_text("".join(f"{i}\n" for i in range(19)))
        options = ("--heads", 0.5, "--intermediate", 0.5, "--layers", 1, "--vocab", keep)
        at_once = self.prune(model, *options, "--save-plan", plan, output="at_once")
        again = self.prune(model, "--plan", plan, output="again")
        self.assert_weights(again, load_file(at_once / "model.safetensors"))
        for name in ("config.json", "vocab_map.json"):
            self.assertEqual((again / name).read_text(), (at_once / name).read_text())
        arguments = ("prune", "--model", model, "--plan", plan)
        self.assert_fails(*arguments, "--output", model, says=("in place",))
        out = self.folder / "pruned"
        unfit = ("prune", "--model", again, "--plan", plan, "--output", out)
        self.assert_fails(*unfit, says=("the plan is for",), output=out)
        plan.write_text("{}")
        self.assert_fails(*arguments, "--output", out, says=("plan.json",), output=out)
        for more in (("--heads", 0.5), ("--intermediate", 0.5), ("--layers", 1), ("--vocab", keep)):
            self.assert_fails(*arguments, "--output", out, *more, status=2, output=out)

    def test_random_choices_hang_on_the_seed(self):
        model = self.model()
        options = ("prune", "--model", model, "--intermediate", 0.5, "--criterion", "random", "--dry-run", "--seed")
        self.assertEqual(self.run_program(*options, 1), self.run_program(*options, 1))
        self.assertNotEqual(self.run_program(*options, 1), self.run_program(*options, 2))

    def test_a_share_too_small_for_one_part_takes_nothing(self):
        model = self.model()
        pruned = self.prune(model, "--heads", 0.1)
        self.assert_weights(pruned, load_file(model / "model.safetensors"))

    def test_a_share_too_small_for_one_part_is_said(self):
        heads = ("--heads", "0.25", "--dry-run")
        model = self.model(name="said")
        count = json.loads((model / "config.json").read_text())["num_key_value_heads"]
        error = self.start("prune", "--model", model, *heads).stderr.decode()
        self.assertIn(f"warning: --heads 0.25 of {count} key/value heads is less than one: none is removed", error)
        self.assertNotIn("less than one", self.start("prune", "--model", model, "--heads", "0", "--dry-run").stderr.decode())

    def test_heads_of_other_tasks_are_kept(self):
        model = self.model("models/llama_token_classification")
        pruned = self.prune(model, "--intermediate", 0.5)
        before, after = load_file(model / "model.safetensors"), load_file(pruned / "model.safetensors")
        self.assertTrue(torch.equal(before["score.weight"], after["score.weight"]))
        self.assertEqual(config_of(pruned)["architectures"], ["LlamaForTokenClassification"])

    def test_failures_write_nothing(self):
        model, keep, out = self.model(), self.folder / "keep.txt", self.folder / "pruned"
        short = self.tensors("short.safetensors", other=IDS)
        wild = self.tensors("wild.safetensors", input_ids=IDS + 1000)
        activation = ("--intermediate", 0.5, "--criterion", "activation", "--calibration")
        vocab = ("--vocab", keep)
        cases = [
            (("--layers", "2"), ("layers", "[0, 2)", "got 2")),
            (("--layers", "0,1"), ("layers", "all 2")),
            (("--layers", "0,0"), ("layers", "0 is listed twice")),
            (("--layers=-1",), ("layers", "got -1")),
            ((*activation, short), ("short.safetensors", "input_ids")),
            ((*activation, wild), ("input_ids",)),
            ((*activation, self.folder / "none.txt"), ("none.txt",)),
            (vocab, ("keep.txt",)),
        ]
        for arguments, says in cases:
            with self.subTest(arguments=arguments):
                self.assert_fails("prune", "--model", model, "--output", out, *arguments, says=says, output=out)
        for content, says in (
            ("1\n2\nx\n", ("line 3", "found x")),
            ("1\n-2\n", ("line 2",)),
            ("1\n2\n99999\n", ("line 3", "99999")),
            ("1\n1\n", ("line 2", "twice")),
            ("\n\n", ("lists no token",)),
        ):
            keep.write_text(content)
            with self.subTest(content=content):
                self.assert_fails("prune", "--model", model, "--output", out, *vocab, says=says, output=out)
        keep.write_text("1\n2\n")
        self.assert_fails("prune", "--model", model, "--output", model, *vocab, says=("in place",))

    def test_pruning_in_place_replaces_the_folder(self):
        model = self.model()
        self.run_program("prune", "--model", model, "--output", model, "--layers", "1")
        self.assertEqual(config_of(model)["num_hidden_layers"], 1)
        self.logits(model)

    def test_wrong_usage_is_status_2(self):
        model, out = self.model(), self.folder / "pruned"
        for arguments in (
            (),
            ("--heads", "1"),
            ("--heads", "-0.1"),
            ("--intermediate", "half"),
            ("--intermediate", "1.5"),
            ("--layers", "a"),
            ("--intermediate", "0.5", "--criterion", "taste"),
            ("--intermediate", "0.5", "--criterion", "activation"),
            ("--intermediate", "0.5", "--calibration", model / "config.json"),
        ):
            with self.subTest(arguments=arguments):
                self.assert_fails("prune", "--model", model, "--output", out, *arguments, status=2, output=out)
        self.assert_fails("prune", "--model", model, "--layers", "1", status=2)


if __name__ == "__main__":
    unittest.main()
