#include <ATen/ATen.h>
#include <transformers/utils/data/batch_loader.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/training/dataset_check.h>

#include <algorithm>
#include <fstream>

#include "support/golden.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"

namespace transformers::testing {
namespace {

at::Tensor ids(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }

/// One token a byte, no special tokens but an end, 256.
class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int64_t> encode(std::string_view text, bool) const override { return {text.begin(), text.end()}; }
  std::vector<int64_t> encode_parts(const std::vector<PromptPart>&) const override { return {}; }
  std::unique_ptr<StreamingDecoder> streaming_decoder(bool) const override { return nullptr; }
  int64_t vocab_size() const override { return 257; }
  std::optional<int64_t> token_to_id(std::string_view) const override { return std::nullopt; }
  std::optional<std::string> id_to_token(int64_t) const override { return std::nullopt; }
  bool is_special(int64_t id) const override { return id == 256; }
  SpecialTokenIds special_token_ids() const override { return {std::nullopt, 256, std::nullopt, std::nullopt}; }
};

class DataTest : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) const {
    const auto path = (folder_.path() / name).string();
    std::ofstream(path) << text;
    return path;
  }
  JsonLinesDataset lines(const std::string& text, JsonLinesOptions options = {}) const {
    return {file("lines.jsonl", text), std::make_shared<ByteTokenizer>(), options};
  }

  TemporaryFolder folder_;
  std::shared_ptr<const Tokenizer> tokenizer_ = std::make_shared<ByteTokenizer>();
};

TEST_F(DataTest, ATextIsCutIntoWholeBlocks) {
  const TextBlockDataset blocks(file("a.txt", "abcdefgh\n"), ByteTokenizer(), 4);
  EXPECT_EQ(blocks.size(), 2);
  EXPECT_TENSORS_EQUAL(blocks.get(1).at("input_ids"), ids({'e', 'f', 'g', 'h'}));
  EXPECT_TENSORS_EQUAL(blocks.get(1).at("labels"), ids({'e', 'f', 'g', 'h'}));
  EXPECT_ERROR(TextBlockDataset(file("b.txt", "abc"), ByteTokenizer(), 4), "b.txt", "3 tokens", "4");
  EXPECT_ERROR(TextBlockDataset(file("c.txt", ""), ByteTokenizer(), 4), "c.txt", "0 tokens");
}

TEST_F(DataTest, ATextLineIsLearnedWholeAndEnds) {
  const auto data = lines("\n{\"text\": \"ab\"}\r\n  \n{\"text\": \"c\"}");
  EXPECT_EQ(data.size(), 2);
  EXPECT_TENSORS_EQUAL(data.get(0).at("input_ids"), ids({'a', 'b', 256}));
  EXPECT_TENSORS_EQUAL(data.get(1).at("labels"), ids({'c', 256}));
}

TEST_F(DataTest, OfAPromptAndItsCompletionTheCompletionIsLearned) {
  const auto sample = lines(R"({"prompt": "ab", "completion": "cd"})").get(0);
  EXPECT_TENSORS_EQUAL(sample.at("input_ids"), ids({'a', 'b', 'c', 'd', 256}));
  EXPECT_TENSORS_EQUAL(sample.at("labels"), ids({-100, -100, 'c', 'd', 256}));
}

TEST_F(DataTest, ALabelledLineHasAClass) {
  const auto sample = lines(R"({"text": "abc", "label": 2})", {.max_length = 2, .num_labels = 3}).get(0);
  EXPECT_TENSORS_EQUAL(sample.at("input_ids"), ids({'a', 'b'}));
  EXPECT_TENSORS_EQUAL(sample.at("labels"), at::scalar_tensor(2, at::kLong));
}

TEST_F(DataTest, ABadLineIsNamed) {
  const auto expect = [this](const std::string& line, JsonLinesOptions options, std::string_view fragment) {
    SCOPED_TRACE(line);
    const auto data = lines("{\"text\": \"a\", \"label\": 0}\n" + line, options);
    EXPECT_ERROR(data.get(1), "lines.jsonl line 2", fragment);
  };
  expect("{\"text\": 3}", {}, "\"text\", found number");
  expect("{\"txt\": \"a\"}", {}, "\"text\", it is missing");
  expect("[1]", {}, "found array");
  expect("{\"text\": \"a\"", {}, "");
  expect("{\"prompt\": \"a\"}", {}, "\"completion\"");
  expect("{\"text\": \"a\", \"label\": 2}", {.num_labels = 2}, "from 0 to 1, found 2");
  expect("{\"text\": \"a\", \"label\": -1}", {.num_labels = 2}, "found -1");
  expect("{\"text\": \"a\", \"label\": \"x\"}", {.num_labels = 2}, "found \"x\"");
  expect("{\"text\": \"a\"}", {.num_labels = 2}, "\"label\"");
  expect("{\"text\": \"\", \"label\": 0}", {.num_labels = 2}, "no token");
  EXPECT_ERROR(lines(" \n\n"), "lines.jsonl", "no sample");
}

TEST_F(DataTest, ATensorFileGivesRowsAndItsIdsAsLabels) {
  const auto save = [this](at::Tensor tensor, const char* name) {
    const auto path = (folder_.path() / "ids.safetensors").string();
    torch::OrderedDict<std::string, at::Tensor> tensors;
    tensors.insert(name, std::move(tensor));
    save_safetensors(path, tensors);
    return path;
  };
  const auto data = TensorDataset::from_file(save(at::arange(6).view({2, 3}), "input_ids"));
  EXPECT_EQ(data->size(), 2);
  EXPECT_TENSORS_EQUAL(data->get(1).at("labels"), ids({3, 4, 5}));
  EXPECT_ERROR(TensorDataset::from_file(save(at::zeros({2, 3}), "input_ids")), "ids.safetensors", "int64", "Float");
  EXPECT_ERROR(TensorDataset::from_file(save(at::zeros({2, 3}), "ids")), "input_ids", "missing");
  EXPECT_ERROR(TensorDataset::from_file(save(at::zeros({0, 3}, at::kLong), "input_ids")), "rows", "[0, 3]");
  EXPECT_ERROR(TensorDataset({{"a", at::zeros({2})}, {"b", at::zeros({3})}}), "\"a\"", "\"b\"", "2 and 3");
}

TEST_F(DataTest, PaddingGoesToTheRight) {
  const auto collate = padding_collator(9, 4);
  const auto batch = collate({{{"input_ids", ids({1, 2, 3})}, {"labels", ids({-100, 2, 3})}},
                              {{"input_ids", ids({4})}, {"labels", ids({4})}}});
  EXPECT_TENSORS_EQUAL(batch.at("input_ids"), at::stack({ids({1, 2, 3, 9}), ids({4, 9, 9, 9})}));
  EXPECT_TENSORS_EQUAL(batch.at("labels"), at::stack({ids({-100, 2, 3, -100}), ids({4, -100, -100, -100})}));
  EXPECT_TENSORS_EQUAL(batch.at("attention_mask"), at::stack({ids({1, 1, 1, 0}), ids({1, 0, 0, 0})}));
  EXPECT_EQ(count_items(batch), 2);
}

TEST_F(DataTest, ClassesAreStacked) {
  const auto sample = [](int64_t label) {
    return Batch{{"input_ids", ids({1})}, {"labels", at::scalar_tensor(label, at::kLong)}};
  };
  EXPECT_TENSORS_EQUAL(padding_collator(0)({sample(2), sample(0)}).at("labels"), ids({2, 0}));
  EXPECT_ERROR(padding_collator(0)({sample(2), {{"input_ids", ids({1})}}}), "same tensors");
  EXPECT_ERROR(padding_collator(0)({}), "input_ids");
}

TEST_F(DataTest, SeveralLabelsOfATextAreStacked) {
  const auto first = at::tensor({1.0F, 0.0F}), second = at::tensor({0.0F, 1.0F});
  const auto batch = padding_collator(0)(
      {{{"input_ids", ids({1, 2, 3})}, {"labels", first}}, {{"input_ids", ids({4})}, {"labels", second}}});
  EXPECT_TENSORS_EQUAL(batch.at("labels"), at::stack({first, second}));
  EXPECT_TENSORS_EQUAL(batch.at("input_ids"), at::stack({ids({1, 2, 3}), ids({4, 0, 0})}));
}

TEST_F(DataTest, FlattenedSamplesBeginAgainAtPosition0) {
  const auto batch = flattening_collator()({{{"input_ids", ids({1, 2, 3})}}, {{"input_ids", ids({4, 5})}}});
  EXPECT_TENSORS_EQUAL(batch.at("input_ids"), ids({1, 2, 3, 4, 5}).unsqueeze(0));
  EXPECT_TENSORS_EQUAL(batch.at("position_ids"), ids({0, 1, 2, 0, 1}).unsqueeze(0));
  EXPECT_TENSORS_EQUAL(batch.at("labels"), ids({-100, 2, 3, -100, 5}).unsqueeze(0));
}

std::shared_ptr<TensorDataset> numbers(int64_t count) {
  return std::make_shared<TensorDataset>(Batch{{"input_ids", at::arange(count).unsqueeze(1)}});
}

std::vector<int64_t> drain(BatchLoader& loader, int batches) {
  std::vector<int64_t> seen;
  for (int i = 0; i < batches; ++i) {
    const auto batch = loader.next().at("input_ids").flatten();
    for (int64_t j = 0; j < batch.numel(); ++j) {
      seen.push_back(batch[j].item<int64_t>());
    }
  }
  return seen;
}

TEST_F(DataTest, BatchesAreFullAndBeginAgainAtTheFirstSample) {
  BatchLoader loader(numbers(3), padding_collator(0), {.batch_size = 2, .shuffle = false});
  EXPECT_EQ(drain(loader, 3), (std::vector<int64_t>{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(loader.position(), 3);
  EXPECT_EQ(loader.sample_indices(1), (std::vector<int64_t>{2, 0}));
}

TEST_F(DataTest, EveryEpochHoldsEachSampleOnceInANewOrder) {
  BatchLoader loader(numbers(10), padding_collator(0), {.batch_size = 5});
  auto first = drain(loader, 2), second = drain(loader, 2);
  EXPECT_NE(first, second);
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  EXPECT_EQ(first, second);
  EXPECT_EQ(first.back(), 9);
}

TEST_F(DataTest, ALoaderGoesOnWhereAnotherStopped) {
  BatchLoader whole(numbers(7), padding_collator(0), {.batch_size = 3});
  const auto head = drain(whole, 4);
  BatchLoader rest(numbers(7), padding_collator(0), {.batch_size = 3, .first_batch = whole.position()});
  EXPECT_EQ(drain(rest, 5), drain(whole, 5));
}

TEST_F(DataTest, RanksShareEveryGlobalBatch) {
  BatchLoader one(numbers(11), padding_collator(0), {.batch_size = 4});
  BatchLoader a(numbers(11), padding_collator(0), {.batch_size = 2, .rank = 0, .world_size = 2});
  BatchLoader b(numbers(11), padding_collator(0), {.batch_size = 2, .rank = 1, .world_size = 2});
  for (int i = 0; i < 6; ++i) {
    auto shared = drain(a, 1);
    const auto other = drain(b, 1);
    shared.insert(shared.end(), other.begin(), other.end());
    EXPECT_EQ(drain(one, 1), shared);
  }
}

TEST_F(DataTest, WhatAReaderThrowsComesOutOfNextAfterTheGoodBatches) {
  const auto path = file("lines.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}\n");
  BatchLoader loader(std::make_shared<JsonLinesDataset>(path, std::make_shared<ByteTokenizer>(), JsonLinesOptions{}),
                     padding_collator(0), {.batch_size = 1, .shuffle = false});
  EXPECT_EQ(drain(loader, 1), (std::vector<int64_t>{'a', 256}));
  EXPECT_ERROR(loader.next(), "line 2");
  EXPECT_ERROR(loader.next(), "line 2");
}

TEST_F(DataTest, LoaderOptionsThatCannotBeAreRefused) {
  const auto load = [](BatchLoaderOptions options) { BatchLoader(numbers(2), padding_collator(0), options); };
  EXPECT_ERROR(load({.batch_size = 0}), "batch_size", "0");
  EXPECT_ERROR(load({.rank = 2, .world_size = 2}), "rank", "2");
  EXPECT_ERROR(load({.first_batch = -1}), "first_batch", "-1");
}

TEST_F(DataTest, AnArrayOfObjectsIsReadAsLinesAre) {
  const auto listed = file("lines.jsonl", "{\"text\": \"a, [b] \\\" c\"}\n{\"text\": \"d\"}\n");
  const auto array = file("array.JSON", " [\n {\"text\": \"a, [b] \\\" c\"} , {\"text\":\n \"d\"}\n]\n ");
  const JsonLinesDataset expected(listed, tokenizer_, {.max_length = 64}), found(array, tokenizer_, {.max_length = 64});
  ASSERT_EQ(found.size(), 2);
  for (int64_t i = 0; i < 2; ++i) {
    EXPECT_TENSORS_EQUAL(found.get(i).at("input_ids"), expected.get(i).at("input_ids"));
  }
}

TEST_F(DataTest, AnArrayThatIsNoneIsRefused) {
  const auto open = [&](const std::string& text) {
    const JsonLinesDataset data(file("array.json", text), tokenizer_, {.max_length = 64});
    for (int64_t i = 0; i < data.size(); ++i) {
      data.get(i);
    }
  };
  EXPECT_ERROR(open("[{\"text\": \"a\"}"), "array.json", "no end");
  EXPECT_ERROR(open("[{\"text\": \"a\"}] x"), "array.json", "goes wrong at byte 16");
  EXPECT_ERROR(open("[{\"text\": \"a\"},, {}]"), "array.json", "goes wrong");
  EXPECT_ERROR(open("[{\"text\": \"a\"},]"), "array.json", "goes wrong");
  EXPECT_ERROR(open("[]"), "array.json", "no sample");
  EXPECT_ERROR(open("[{\"text\": \"a\"}, 7]"), "array.json element 2", "object");
  EXPECT_ERROR(open("[{\"text\": \"a\"} {\"text\": \"b\"}]"), "array.json element 1");
}

TEST_F(DataTest, SamplesInWhichNothingCountsAreFoundBeforehand) {
  // Of the second one the prompt alone fills the two tokens.
  const auto path = file("pairs.jsonl",
                         "{\"prompt\": \"\", \"completion\": \"b\"}\n{\"prompt\": \"a b c\", \"completion\": \"d\"}\n");
  const auto data = std::make_shared<JsonLinesDataset>(path, tokenizer_, JsonLinesOptions{.max_length = 2});
  const TrainingTask task{.count_items = count_items};
  const auto checked = check_dataset(data, padding_collator(0), task);
  EXPECT_EQ(checked.left_out, 1);
  ASSERT_EQ(checked.dataset->size(), 1);
  EXPECT_TENSORS_EQUAL(checked.dataset->get(0).at("input_ids"), data->get(0).at("input_ids"));
  EXPECT_EQ(checked.checksum, check_dataset(checked.dataset, padding_collator(0), task).checksum);
  EXPECT_ERROR(check_dataset(data, padding_collator(0), task, [](const Batch&) { TORCH_CHECK(false, "blue"); }),
               "sample 0", "blue");
  const auto nothing = std::make_shared<TensorDataset>(
      Batch{{"input_ids", at::ones({2, 3}, at::kLong)}, {"labels", at::full({2, 3}, -100, at::kLong)}});
  EXPECT_ERROR(check_dataset(nothing, padding_collator(0), task), "no label counts in any of the 2 samples");
}

TEST_F(DataTest, AFileThatIsNoTextIsNotLearned) {
  const auto open = [&](const std::string& bytes) { TextBlockDataset(file("text.txt", bytes), *tokenizer_, 2); };
  EXPECT_ERROR(open(std::string("abc\0def ghi", 11)), "text.txt", "no text", "byte 3");
  EXPECT_ERROR(open("\xEB\xCF\xC6\xC5 \xD3 \xCD\xCF\xCC\xCF\xCB\xCF\xCD"), "text.txt", "UTF-8",
               "12 of the first 14 bytes");  // KOI8-R
  EXPECT_ERROR(open("PK\x03\x04 what is packed here"), "text.txt", "no text");
  open("caf\xC3\xA9 au lait \xF0\x9F\x98\x80 and more");
}

}  // namespace
}  // namespace transformers::testing
