#include <transformers/utils/tokenization/tokenizer.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/tokenization/golden_files.h"

namespace transformers {
namespace {

using Ids = std::vector<int64_t>;
using nlohmann::ordered_json;
using testing::golden_path;

/// A word-like tokenizer with four pieces, and whatever a test changes in it.
ordered_json tiny() {
  return ordered_json::parse(R"({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
    "post_processor": null, "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}, "merges": ["a b"]}})");
}

std::shared_ptr<Tokenizer> load(const ordered_json& json) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "tokenizer.json", json.dump());
  return load_tokenizer(folder.path());
}

std::shared_ptr<Tokenizer> load_text(std::string_view text) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "tokenizer.json", text);
  return load_tokenizer(folder.path());
}

ordered_json added_token(int64_t id, const std::string& content, bool special = false) {
  return {{"id", id}, {"content", content}, {"special", special}, {"normalized", false}};
}

struct BadFile {
  const char* pointer;
  const char* value;
  const char* message;
};

TEST(TokenizerJsonTest, RefusesBadFiles) {
  const std::vector<BadFile> table{
      // the model
      {"/model", "null", "the key model is missing"},
      {"/model", "7", "expected an object, found number"},
      {"/model/type", "\"Unigram\"", "vocab: expected an array, found object"},
      {"/model", R"({"type": "Unigram", "vocab": [["a"]]})", "vocab[0]: expected a piece and its score"},
      {"/model", R"({"type": "Unigram", "vocab": [["a", "b"]]})", "vocab[0]: expected a piece and its score"},
      {"/model", R"({"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 1})", "expected the id of a piece, below 1"},
      {"/model", R"({"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": -1})", "below 1, found -1"},
      {"/model/type", "\"WordPiece\"", "unsupported component model WordPiece"},
      {"/model/merges", "null", "unsupported component model without merges"},
      {"/model/vocab", "null", "the key vocab is missing"},
      {"/model/vocab", "[]", "vocab: expected an object"},
      {"/model/vocab/a", "-1", "token a: expected an id from 0 to 2^31 - 1, found -1"},
      {"/model/vocab/a", "2147483648", "found 2147483648"},
      {"/model/vocab/a", "18446744073709551615", "found 18446744073709551615"},
      {"/model/vocab/a", "1.0", "found 1.0"},
      {"/model/vocab/a", "null", "found null"},
      {"/model/vocab/a", "3", "gives id 3 to both"},
      {"/model/merges", "{}", "expected an array of merges"},
      {"/model/merges/0", "\"a\"", "merges[0]: expected two tokens with one space between, found a"},
      {"/model/merges/0", "\"a b c\"", "expected two tokens"},
      {"/model/merges/0", "[\"a\"]", "merges[0]: expected a merge as a string or as a pair"},
      {"/model/merges/0", "[\"a\", 1]", "as a pair of strings"},
      {"/model/merges/0", "\"a x\"", "names x, which is not in the vocabulary"},
      {"/model/merges/0", "\"b a\"", "names ba, which is not in the vocabulary"},
      {"/model/merges/1", "[\"a\", \"b\"]", "merge 1 (a b) is listed twice"},
      {"/model/dropout", "0.1", "unsupported component BPE dropout"},
      {"/model/continuing_subword_prefix", "\"##\"", "unsupported component BPE continuing_subword_prefix"},
      {"/model/end_of_word_suffix", "\"</w>\"", "unsupported component BPE end_of_word_suffix"},
      {"/model/fuse_unk", "1", "fuse_unk: expected true or false"},
      {"/model/unk_token", "5", "unk_token: expected a string"},
      // components
      {"/version", "\"2.0\"", "version: expected 1.0, found 2.0"},
      {"/normalizer", R"({"type": "BertNormalizer"})", "normalizer: unsupported component normalizer BertNormalizer"},
      {"/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": ""})",
       "precompiled_charsmap: expected a table of character rewrites, found none"},
      {"/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "CAAAAP//"})",
       "character rewrites is damaged"},
      {"/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "*"})", "expected base64"},
      {"/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "Nmt"}]})",
       "normalizers[0]: unsupported component normalizer Nmt"},
      {"/normalizer", R"({"type": "Replace", "pattern": {}, "content": ""})", "unsupported component pattern"},
      {"/normalizer", R"({"type": "Replace", "pattern": {"String": ""}, "content": ""})", "found an empty one"},
      {"/normalizer", "[]", "normalizer: expected an object, found array"},
      {"/pre_tokenizer", R"({"type": "BertPreTokenizer"})", "unsupported component pre_tokenizer BertPreTokenizer"},
      {"/pre_tokenizer", R"({"type": "Whitespace"})", "unsupported component pre_tokenizer Whitespace"},
      {"/pre_tokenizer", R"({"type": "ByteLevel"})", "the key add_prefix_space is missing"},
      {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "__"})", "expected one character, found __"},
      {"/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "x"})", "expected always"},
      {"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"})",
       "the regex ( does not compile"},
      {"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "[a&&b]"}, "behavior": "Isolated"})",
       "an intersection of classes"},
      {"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Sideways"})",
       "unsupported component split behavior Sideways"},
      {"/post_processor", R"({"type": "BertProcessing"})", "unsupported component post_processor BertProcessing"},
      {"/post_processor", R"({"type": "RobertaProcessing"})", "unsupported component post_processor Roberta"},
      {"/post_processor", R"({"type": "TemplateProcessing", "single": [], "special_tokens": {}})",
       "unsupported component template without the text"},
      {"/post_processor", R"({"type": "TemplateProcessing", "special_tokens": {},
       "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]})",
       "special_tokens: the key <s> is missing"},
      {"/post_processor", R"({"type": "TemplateProcessing", "special_tokens": {"<s>": {"ids": [99]}},
       "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]})",
       "there is no token with id 99"},
      {"/decoder", R"({"type": "WordPiece"})", "decoder: unsupported component decoder WordPiece"},
      {"/decoder", R"({"type": "CTC"})", "unsupported component decoder CTC"},
      {"/decoder", R"({"type": "Strip", "content": " ", "start": 0, "stop": 1})",
       "unsupported component decoder Strip"},
      {"/decoder", R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteFallback"}]})",
       "decoders[1]: unsupported component decoder ByteFallback after one that joins all tokens"},
      // added tokens
      {"/added_tokens", "{}", "added_tokens: expected an array"},
      {"/added_tokens/0", R"({"id": -1, "content": "x"})", "expected a token id from 0 to 2^31 - 1, found -1"},
      {"/added_tokens/0", R"({"id": 2147483648, "content": "x"})", "found 2147483648"},
      {"/added_tokens/0", R"({"id": 9223372036854775808, "content": "x"})", "id: expected an integer"},
      {"/added_tokens/0", R"({"id": 4})", "added_tokens[0]: the key content is missing"},
      {"/added_tokens/0", R"({"id": 3, "content": "x"})", "x has id 3, which the vocabulary gives to c"},
      {"/added_tokens/0", R"({"id": 9, "content": "c"})", "c has id 9, but the vocabulary gives it id 3"},
      {"/added_tokens", R"([{"id": 9, "content": "x"}, {"id": 9, "content": "y"}])", "id 9 is given to both x and y"},
      {"/added_tokens", R"([{"id": 8, "content": "x"}, {"id": 9, "content": "x"}])", "x has both id 8 and id 9"},
  };
  for (const auto& bad : table) {
    SCOPED_TRACE(std::string(bad.pointer) + " = " + bad.value);
    auto json = tiny();
    json[ordered_json::json_pointer(bad.pointer)] = ordered_json::parse(bad.value);
    EXPECT_ERROR(load(json), "tokenizer.json", bad.message);
  }
}

TEST(TokenizerJsonTest, RefusesByteTokensThatAreNone) {
  for (const auto* piece : {"<0x-1>", "<0x100>", "<0xZZ>", "<0xA>", "<0x>"}) {
    auto json = tiny();
    json["model"]["byte_fallback"] = true;
    json["model"]["vocab"][piece] = 4;
    EXPECT_ERROR(load(json), "expected byte tokens from <0x00> to <0xFF>, found", piece);
    json["model"]["byte_fallback"] = false;
    EXPECT_EQ(load(json)->vocab_size(), 5);
  }
}

TEST(TokenizerJsonTest, RefusesTextThatIsNotStrictJson) {
  EXPECT_ERROR(load_text(""), "tokenizer.json", "empty");
  EXPECT_ERROR(load_text(tiny().dump().substr(0, 100)), "not valid JSON");
  EXPECT_ERROR(load_text(R"({"model": {"vocab": {"a": 0, "a": 1}}})"), "duplicate key", "a");
  EXPECT_ERROR(load_text("{\"model\": {\"vocab\": {\"\xFF\": 0}}}"), "not valid JSON");
  EXPECT_ERROR(load_text(std::string(100000, '[')), "nested deeper than 64");
  EXPECT_ERROR(load_text("\xEF\xBB\xBF{}"), "byte order mark");
  EXPECT_ERROR(load_text(std::string((64U << 20) + 1, ' ')), "at most 67108864 bytes");
}

TEST(TokenizerJsonTest, RefusesAFolderWithoutTokenizer) {
  const testing::TemporaryFolder folder;
  EXPECT_ERROR(load_tokenizer(folder.path()), "holds neither tokenizer.json nor tokenizer.model nor vocab.json");
  EXPECT_ERROR(load_tokenizer(folder / "missing"), "missing: no such folder");
  EXPECT_ERROR(load_tokenizer("org/name"), "org/name: no such folder");
  testing::write_file(folder / "file", "x");
  EXPECT_ERROR(load_tokenizer(folder / "file"), "file: expected a folder, found a file");
}

TEST(TokenizerJsonTest, HugeIdsCostNoMemory) {
  auto json = tiny();
  json["model"]["vocab"]["c"] = 2147483647;
  const auto tokenizer = load(json);
  EXPECT_EQ(tokenizer->encode("c"), Ids{2147483647});
  EXPECT_EQ(tokenizer->vocab_size(), 4);
}

TEST(TokenizerTest, DecodeNamesAnUnknownId) {
  const auto tokenizer = load_tokenizer(golden_path("gpt2"));
  for (const int64_t id : {int64_t{-1}, tokenizer->vocab_size(), int64_t{1} << 40}) {
    EXPECT_ERROR(tokenizer->decode(Ids{0, id}), "there is no token with id " + std::to_string(id));
    EXPECT_ERROR(tokenizer->encode_parts({id}), "there is no token with id " + std::to_string(id));
    EXPECT_FALSE(tokenizer->id_to_token(id));
    EXPECT_FALSE(tokenizer->is_special(id));
  }
}

TEST(TokenizerTest, InvalidUtf8BecomesReplacementCharacters) {
  const auto tokenizer = load_tokenizer(golden_path("gpt2"));
  EXPECT_EQ(tokenizer->encode("a\xFF\xE2\x82z"), tokenizer->encode("a\uFFFD\uFFFDz"));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("\xC3")), "\uFFFD");
}

TEST(TokenizerTest, EmptyTextGivesOnlyWhatIsAdded) {
  EXPECT_EQ(load_tokenizer(golden_path("gpt2"))->encode(""), Ids{});
  const auto llama3 = load_tokenizer(golden_path("llama3"));
  EXPECT_EQ(llama3->encode(""), Ids{*llama3->special_token_ids().bos});
  EXPECT_EQ(llama3->encode("", /*add_special_tokens=*/false), Ids{});
  EXPECT_EQ(llama3->decode(Ids{}), "");
}

TEST(TokenizerTest, KnowsTokensByNameAndId) {
  const auto tokenizer = load_tokenizer(golden_path("smollm2"));
  EXPECT_EQ(tokenizer->token_to_id("<|im_start|>"), 1);
  EXPECT_EQ(tokenizer->id_to_token(1), "<|im_start|>");
  EXPECT_TRUE(tokenizer->is_special(1));
  EXPECT_FALSE(tokenizer->is_special(100));
  EXPECT_FALSE(tokenizer->token_to_id("no such token"));
  EXPECT_EQ(tokenizer->vocab_size(), 700);
  const auto special = tokenizer->special_token_ids();
  EXPECT_EQ(special.bos, 1);
  EXPECT_EQ(special.eos, 2);
  EXPECT_EQ(special.pad, 2);
  EXPECT_EQ(special.unk, 0);
}

TEST(TokenizerTest, LlamaPrefixesOnlyTheStartOfAPrompt) {
  const auto tokenizer = load_tokenizer(golden_path("llama2_metaspace"));
  const auto bos = *tokenizer->special_token_ids().bos;
  const auto alone = tokenizer->encode_parts({std::string("the")});
  const auto after = tokenizer->encode_parts({bos, std::string("the")});
  EXPECT_EQ(tokenizer->id_to_token(alone.front())->substr(0, 3), "▁");
  EXPECT_NE(tokenizer->id_to_token(after.at(1))->substr(0, 3), "▁");
}

TEST(TokenizerTest, PartsKeepSpecialTokensAsText) {
  const auto tokenizer = load_tokenizer(golden_path("gpt2"));
  const std::string name = "<|endoftext|>";
  const auto id = *tokenizer->token_to_id(name);
  EXPECT_EQ(tokenizer->encode(name), Ids{id});
  const auto ids = tokenizer->encode_parts({name, id});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), id), 1);
  EXPECT_EQ(tokenizer->decode(ids), name);
}

TEST(TokenizerTest, TokensThatStripTakeTheSpaceOfTheirNeighbours) {
  auto json = tiny();
  auto token = added_token(4, "<x>");
  token["lstrip"] = token["rstrip"] = true;
  json["added_tokens"] = {token};
  json["model"]["vocab"][" "] = 5;
  const auto tokenizer = load(json);
  EXPECT_EQ(tokenizer->encode("a <x> b"), (Ids{0, 4, 1}));
  EXPECT_EQ(tokenizer->encode_parts({std::string("a "), int64_t{4}, std::string(" b")}), (Ids{0, 4, 1}));
}

// transformers 5.23 and 4.37 both go by the file's own post-processor.
TEST(TokenizerTest, TheConfigDoesNotReplaceThePostProcessor) {
  const testing::TemporaryFolder folder;
  testing::copy_golden("llama2", folder.path());
  for (const auto* flags : {R"("add_eos_token": true)", R"("add_bos_token": false)"}) {
    testing::write_file(folder / "tokenizer_config.json",
                        R"({"bos_token": "<s>", "eos_token": "</s>", )" + std::string(flags) + "}");
    EXPECT_EQ(load_tokenizer(folder.path())->encode(""), Ids{1}) << flags;
  }
}

TEST(TokenizerTest, AUnigramModelWithoutUnkIdRefusesOnlyWhatItDoesNotKnow) {
  auto json = tiny();
  json["model"] = ordered_json::parse(R"({"type": "Unigram", "vocab": [["a", -1.0], ["ab", -1.5], ["b", -1.0]]})");
  const auto tokenizer = load(json);
  EXPECT_EQ(tokenizer->encode("abab"), (Ids{1, 1}));
  EXPECT_ERROR(tokenizer->encode("abc"), "tokenizer.json: model", "there is no unk_id");
}

TEST(TokenizerTest, VocabAndMergesAreReadForGpt2Alone) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
  testing::write_file(folder / "merges.txt", "#version: 0.2\r\na b\r\n");
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->encode("abb"), (Ids{2, 1}));
  testing::write_file(folder / "merges.txt", "a b c\n");
  EXPECT_ERROR(load_tokenizer(folder.path()), "merges.txt: line 1: expected two tokens");
  testing::write_file(folder / "merges.txt", "b a\n");
  EXPECT_ERROR(load_tokenizer(folder.path()), "merges.txt", "names ba, which is not in the vocabulary");
  testing::write_file(folder / "tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer"})");
  EXPECT_ERROR(load_tokenizer(folder.path()), "found tokenizer_class Qwen2Tokenizer");
}

TEST(TokenizerTest, AnUnknownTokenOutsideTheVocabularyIsAnErrorOnlyWhenNeeded) {
  auto json = tiny();
  json["model"]["unk_token"] = "<unk>";
  const auto tokenizer = load(json);
  EXPECT_EQ(tokenizer->encode("ab"), Ids{2});
  EXPECT_ERROR(tokenizer->encode("x"), "the unknown token <unk> is not in the vocabulary");
}

TEST(TokenizerTest, LongWordsAreNotQuadratic) {
  // A quadratic merge loop would need minutes for this.
  const auto tokenizer = load_tokenizer(golden_path("llama2"));
  const std::string text(1'000'000, 'a');
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST(TokenizerTest, DecodesTensorsOfIds) {
  const auto tokenizer = load_tokenizer(golden_path("gpt2"));
  const auto ids = at::tensor(tokenizer->encode("text of a model"), at::kLong);
  EXPECT_EQ(tokenizer->decode(ids), "text of a model");
  EXPECT_EQ(tokenizer->decode(ids.to(at::kInt)), "text of a model");
  EXPECT_EQ(tokenizer->decode(at::stack({ids, ids}, 1).select(1, 0)), "text of a model") << "strided";
  EXPECT_EQ(tokenizer->decode(at::empty({0}, at::kLong)), "");
  EXPECT_ERROR(tokenizer->decode(ids.unsqueeze(0)), "shape [n]", "[1, ");
  EXPECT_ERROR(tokenizer->decode(ids.to(at::kFloat)), "integers", "Float");
}

TEST(StreamingDecoderTest, HoldsBackUnfinishedCharacters) {
  const auto tokenizer = load_tokenizer(golden_path("gpt2"));
  ASSERT_EQ(tokenizer->encode("\xF0\x9F\x98\x80").size(), 4);  // an emoji the vocabulary has only as bytes
  const auto decoder = tokenizer->streaming_decoder();
  const auto emoji = tokenizer->encode("\xF0\x9F\x98\x80");
  EXPECT_EQ(decoder->push(emoji[0]), "");
  EXPECT_EQ(decoder->push(emoji[1]), "");
  EXPECT_EQ(decoder->push(emoji[2]), "");
  EXPECT_EQ(decoder->push(emoji[3]), "😀");
  EXPECT_EQ(decoder->push(emoji[0]), "");
  EXPECT_EQ(decoder->finish(), "\uFFFD");
}

TEST(StreamingDecoderTest, OutlivesItsTokenizer) {
  auto tokenizer = load_tokenizer(golden_path("gpt2"));
  const auto ids = tokenizer->encode("text");
  const auto decoder = tokenizer->streaming_decoder();
  tokenizer.reset();
  std::string text;
  for (const auto id : ids) {
    text += decoder->push(id);
  }
  EXPECT_EQ(text + decoder->finish(), "text");
}

}  // namespace
}  // namespace transformers
