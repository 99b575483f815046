"""The program's `tokenize` and `detokenize`. Ids are compared with Python's in tests/utils/tokenization."""

import json
import unittest

from program import GOLDEN, ProgramTest


class TextTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.add_tokenizer(self.folder)  # no model: the tokenizer's files are enough
        self.rows = json.loads((GOLDEN / "tokenization/smollm2/expected.json").read_text())["rows"]
        self.texts = json.loads((GOLDEN / "tokenization/corpus.json").read_text())

    def ids(self, *options) -> list:
        stdout = self.run_program("tokenize", "--model", self.folder, *options)
        return [json.loads(line)["ids"] for line in stdout.splitlines()]

    def file(self, data: bytes):
        path = self.folder / "text.txt"
        path.write_bytes(data)
        return path

    def test_a_text_is_one_json_object(self):
        self.assertEqual(self.ids("--text", self.texts[0]), [self.rows[0]["ids"]])
        self.assertEqual(self.ids("--text", ""), [[]])

    def test_a_file_is_one_text_byte_for_byte(self):
        text = "one\r\ntwo\n\n"
        self.assertEqual(self.ids("--file", self.file(text.encode())), self.ids("--text", text))
        self.assertEqual(len(self.ids("--file", self.file(text.encode()))), 1)

    def test_lines_end_at_lf_only(self):
        lines = ["one\r", "two\u2028three\x0b\x0c\x85", "", "last"]
        whole = [self.ids("--text", line)[0] for line in lines]
        self.assertEqual(self.ids("--lines", "--file", self.file("\n".join(lines).encode())), whole)
        self.assertEqual(self.ids("--lines", "--file", self.file(("\n".join(lines) + "\n").encode())), whole)

    def test_special_tokens_around_a_text_can_be_left_out(self):
        self.add_tokenizer(self.folder, "llama3")
        with_them, without = self.ids("--text", "Hello")[0], self.ids("--text", "Hello", "--no-special-tokens")[0]
        self.assertEqual(with_them[1:], without)

    def test_detokenize_prints_the_text_and_one_newline(self):
        for row in self.rows[:20]:
            ids = ",".join(map(str, row["ids"]))
            with self.subTest(text=row["decoded"]):
                stdout = self.start("detokenize", "--model", self.folder, "--ids", ids).stdout.decode()
                self.assertEqual(stdout, row["decoded"] + "\n")

    def test_special_tokens_are_printed_when_asked_for(self):
        arguments = ("detokenize", "--model", self.folder, "--ids", "1,2")
        self.assertEqual(self.run_program(*arguments), "\n")
        self.assertEqual(self.run_program(*arguments, "--keep-special-tokens"), "<|im_start|><|im_end|>\n")

    def test_tokenizer_model_files_give_pythons_ids_and_texts(self):
        for kind in ("spm", "tiktoken"):
            folder = self.folder / kind
            folder.mkdir()
            self.add_tokenizer(folder, kind)
            self.assertTrue((folder / "tokenizer.model").exists())
            self.assertFalse((folder / "tokenizer.json").exists())
            rows = json.loads((GOLDEN / f"tokenization/{kind}/expected.json").read_text())["rows"]
            for text, row in list(zip(self.texts, rows))[:6]:
                with self.subTest(kind=kind, text=text):
                    found = json.loads(self.run_program("tokenize", "--model", folder, "--text", text))
                    self.assertEqual(found, {"ids": row["ids"]})
                    ids = ",".join(map(str, row["ids"]))
                    decoded = self.run_program("detokenize", "--model", folder, "--ids", ids)
                    self.assertEqual(decoded, row["decoded"] + "\n")

    def test_failures_name_the_file_or_the_id(self):
        cases = [
            (("tokenize", "--model", self.folder / "none", "--text", "a"), str(self.folder / "none")),
            (("tokenize", "--model", self.folder, "--file", self.folder / "none"), str(self.folder / "none")),
            (("detokenize", "--model", self.folder, "--ids", "99999"), "99999"),
        ]
        for arguments, says in cases:
            with self.subTest(arguments=arguments):
                self.assert_fails(*arguments, says=(says,))


if __name__ == "__main__":
    unittest.main()
