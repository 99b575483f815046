"""The program's `inspect` and `convert`."""

import json
import unittest

import torch
from program import ProgramTest, read_golden, under
from safetensors.torch import load_file, save_file

KEYS = "architecture model_type parameters bytes dtype shards tensors config missing unexpected mismatched".split()


class InspectTest(ProgramTest):
    def test_json_holds_the_promised_keys(self):
        found = json.loads(self.run_program("inspect", self.model(extra_key=[1]), "--json"))
        weights = under(read_golden("models/llama_gqa")[1], "weights.")
        self.assertEqual(list(found), KEYS)
        self.assertEqual((found["architecture"], found["model_type"]), ("LlamaForCausalLM", "llama"))
        self.assertEqual(found["parameters"], sum(tensor.numel() for tensor in weights.values()))
        self.assertEqual(found["bytes"], sum(tensor.nbytes for tensor in weights.values()))
        shapes = {name: list(tensor.shape) for name, tensor in weights.items()}
        self.assertEqual({tensor["name"]: tensor["shape"] for tensor in found["tensors"]}, shapes)
        self.assertEqual(found["config"]["hidden_size"]["state"], "read")
        self.assertEqual(found["config"]["extra_key"], {"value": [1], "state": "ignored"})
        self.assertEqual([found["missing"], found["unexpected"], found["mismatched"]], [[], [], []])

    def states(self, folder) -> dict:
        found = json.loads(self.run_program("inspect", folder, "--json"))
        return {key: entry["state"] for key, entry in found["config"].items()}

    def rewrite(self, folder, remove: tuple, **add) -> None:
        config = json.loads((folder / "config.json").read_text())
        config = {key: value for key, value in config.items() if key not in remove} | add
        (folder / "config.json").write_text(json.dumps(config))

    def test_keys_that_the_file_lacks_are_defaulted_unless_it_says_them_otherwise(self):
        llama, gptj = self.model(name="llama"), self.model("models/gptj_base_model", name="gptj")
        self.rewrite(llama, ("dtype", "rope_parameters", "rms_norm_eps"), torch_dtype="float32", rope_theta=10000.0)
        states = self.states(llama)
        self.assertEqual(states["rms_norm_eps"], "defaulted")
        for key in ("torch_dtype", "dtype", "rope_theta", "rope_parameters"):
            self.assertEqual(states[key], "read", key)
        self.rewrite(llama, ("rope_theta",), rope_scaling=None)
        self.assertEqual(self.states(llama)["rope_parameters"], "defaulted")

        width = json.loads((gptj / "config.json").read_text())["n_embd"]
        self.rewrite(gptj, ("n_embd", "layer_norm_epsilon"), hidden_size=width)
        states = self.states(gptj)
        self.assertEqual((states["hidden_size"], states["n_embd"]), ("read", "read"))
        self.assertEqual(states["layer_norm_epsilon"], "defaulted")

    def test_generation_keys_are_read_until_their_own_file_speaks(self):
        folder = self.model(temperature=0.5, diversity_penalty=1.0)
        states = self.states(folder)
        self.assertEqual((states["temperature"], states["diversity_penalty"]), ("read", "ignored"))
        (folder / "generation_config.json").write_text("{}")
        self.assertEqual(self.states(folder)["temperature"], "ignored")

    def test_the_table_says_it_for_people(self):
        table = self.run_program("inspect", self.model())
        for word in ("LlamaForCausalLM", "Float", "hidden_size", "model.layers.1.mlp.up_proj.weight"):
            self.assertIn(word, table)

    def test_a_folder_that_would_not_load_is_a_failure_with_the_list(self):
        folder = self.model()
        weights = load_file(folder / "model.safetensors")
        del weights["model.norm.weight"]
        weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:7].clone()
        save_file(weights | {"strange": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
        result = self.start("inspect", folder, "--json")
        self.assertEqual(result.returncode, 1)
        found = json.loads(result.stdout)
        self.assertEqual((found["missing"], found["unexpected"]), (["model.norm.weight"], ["strange"]))
        self.assertEqual([entry["name"] for entry in found["mismatched"]], ["model.embed_tokens.weight"])
        errors = result.stderr.decode().splitlines()
        self.assertEqual(len(errors), 1)
        for part in ("error: ", str(folder), "model.norm.weight", "model.embed_tokens.weight"):
            self.assertIn(part, errors[0])

    def test_a_missing_head_is_filled_with_a_warning(self):
        folder = self.model()
        weights = load_file(folder / "model.safetensors")
        del weights["lm_head.weight"]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        inputs, output = self.tensors(input_ids=torch.ones(1, 2, dtype=torch.int64)), self.folder / "out.safetensors"
        arguments = ("forward", "--model", folder, "--inputs", inputs, "--output", output)
        self.assertIn("lm_head.weight", self.start(*arguments).stderr.decode())
        self.assertEqual(self.start(*arguments, "--quiet").stderr, b"")
        self.assertTrue(output.exists())


class ConvertTest(ProgramTest):
    def convert(self, model, *options):
        output = self.folder / "converted"
        self.assertEqual(self.run_program("convert", "--model", model, "--output", output, *options), "")
        return output

    def test_every_weight_and_every_config_key_comes_through(self):
        model = self.model(extra_key={"a": [1, 2.5, None]})
        output = self.convert(model)
        for name, tensor in load_file(model / "model.safetensors").items():
            self.assertTrue(torch.equal(load_file(output / "model.safetensors")[name], tensor), name)
        before, after = (json.loads((folder / "config.json").read_text()) for folder in (model, output))
        for key in before.keys() - {"transformers_version"}:
            self.assertEqual(after.get(key), before[key], key)

    def test_dtype_is_cast_and_stated(self):
        output = self.convert(self.model(), "--dtype", "bfloat16")
        self.assertEqual({t.dtype for t in load_file(output / "model.safetensors").values()}, {torch.bfloat16})
        self.assertEqual(json.loads((output / "config.json").read_text())["dtype"], "bfloat16")

    def test_the_config_may_have_the_form_of_transformers_4(self):
        rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}
        output = self.convert(self.model(rope_parameters=rope), "--config-format", "4.x")
        config = json.loads((output / "config.json").read_text())
        old = {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4.0}, "torch_dtype": "float32"}
        self.assertEqual({key: config.get(key) for key in old}, old)
        self.assertEqual(config.keys() & {"rope_parameters", "dtype"}, set())
        inputs, outputs = self.tensors(input_ids=torch.arange(6)[None]), []
        for folder in (self.folder / "model", output):
            out = self.folder / "out.safetensors"
            self.run_program("forward", "--model", folder, "--inputs", inputs, "--output", out)
            outputs.append(load_file(out)["logits"])
        self.assertTrue(torch.equal(*outputs))

    def test_shards_hold_no_more_than_asked_and_an_index_names_them(self):
        output = self.convert(self.model(), "--max-shard-size", "8KB")
        weight_map = json.loads((output / "model.safetensors.index.json").read_text())["weight_map"]
        self.assertGreater(len(set(weight_map.values())), 1)
        for file in set(weight_map.values()):
            self.assertLessEqual(sum(t.nbytes for t in load_file(output / file).values()), 8000)

    def test_tokenizer_files_and_the_generation_config_are_copied(self):
        model = self.talking_model()
        (model / "generation_config.json").write_text('{"max_new_tokens": 4, "our_own": 1}')
        output = self.convert(model)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            self.assertEqual((output / name).read_bytes(), (model / name).read_bytes())
        written = json.loads((output / "generation_config.json").read_text())
        self.assertEqual((written["max_new_tokens"], written["our_own"]), (4, 1))

    def test_ties_are_stored_once(self):
        output = self.convert(self.model("models/llama_tied_embeddings"))
        self.assertNotIn("lm_head.weight", load_file(output / "model.safetensors"))

    def test_a_folder_may_be_converted_in_place(self):
        model = self.model()
        self.run_program("convert", "--model", model, "--output", model, "--dtype", "float16")
        self.assertEqual({t.dtype for t in load_file(model / "model.safetensors").values()}, {torch.float16})

    def test_other_files_in_the_output_folder_stay(self):
        output = self.folder / "converted"
        output.mkdir()
        (output / "notes.txt").write_text("mine")
        self.convert(self.model())
        self.assertEqual((output / "notes.txt").read_text(), "mine")

    def test_a_failure_writes_nothing(self):
        model, output = self.model(), self.folder / "converted"
        (model / "model.safetensors").write_bytes(b"\xff" * 64)
        self.assert_fails("convert", "--model", model, "--output", output, says=(str(model),), output=output)

    def test_a_tokenizer_that_cannot_be_copied_leaves_nothing_of_the_model(self):
        model, output = self.model(), self.folder / "converted"
        (model / "tokenizer.json").mkdir()
        self.assert_fails("convert", "--model", model, "--output", output, says=("tokenizer.json",), output=output)

    def test_an_output_that_is_a_file_is_refused_and_left_alone(self):
        output = self.folder / "converted"
        output.write_text("mine")
        self.assert_fails("convert", "--model", self.model(), "--output", output, says=(str(output),))
        self.assertEqual(output.read_text(), "mine")


if __name__ == "__main__":
    unittest.main()
