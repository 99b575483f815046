// The checks at a model's door.
#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "support/warning_recorder.h"

namespace transformers::testing {
namespace {

class ModelInputsTest : public ::testing::TestWithParam<std::string> {
 protected:
  void refuses(const ModelInputs& inputs, std::initializer_list<std::string_view> fragments) const {
    EXPECT_TRUE(throws_error([&] { model_->forward(inputs); }, fragments));
  }

  const std::shared_ptr<CausalLM> model_ = GetParam() == "llama" ? tiny_model(tiny_llama()) : tiny_model(tiny_gptj());
  const at::Tensor ids_ = tiny_ids(2, 5);
};

TEST_P(ModelInputsTest, RefusesWrongIds) {
  refuses({}, {"exactly one of input_ids and inputs_embeds", "neither"});
  refuses({.input_ids = ids_, .inputs_embeds = at::zeros({2, 5, 24})}, {"exactly one", "both"});
  refuses({.input_ids = ids_.to(at::kFloat)}, {"input_ids", "int64 or int32", "Float"});
  refuses({.input_ids = ids_[0]}, {"input_ids", "[batch, seq]", "[5]"});
  refuses({.input_ids = at::empty({0, 5}, at::kLong)}, {"input_ids", "empty", "[0, 5]"});
  refuses({.input_ids = at::empty({2, 0}, at::kLong)}, {"input_ids", "empty", "[2, 0]"});
  refuses({.input_ids = at::full({1, 2}, 40, at::kLong)}, {"input_ids", "[0, 40)", "40"});
  refuses({.input_ids = at::full({1, 2}, -1, at::kLong)}, {"input_ids", "[0, 40)", "-1"});
}

TEST_P(ModelInputsTest, RefusesWrongEmbeddingsMasksAndPositions) {
  refuses({.inputs_embeds = at::zeros({2, 5, 23})}, {"inputs_embeds", "[batch, seq, 24]", "[2, 5, 23]"});
  refuses({.inputs_embeds = at::zeros({2, 24})}, {"inputs_embeds", "[2, 24]"});
  refuses({.input_ids = ids_, .attention_mask = at::ones({2, 4})}, {"attention_mask", "[2, 5]", "[2, 4]"});
  refuses({.input_ids = ids_, .attention_mask = at::ones({2, 5, 5})}, {"attention_mask", "2 or 4", "got 3"});
  refuses({.input_ids = ids_, .attention_mask = at::ones({2, 1, 5, 4})}, {"attention_mask", "[2, 1, 5, 4]"});
  refuses({.input_ids = ids_, .position_ids = at::zeros({2, 4}, at::kLong)}, {"position_ids", "[2 or 1, 5]", "[2, 4]"});
  refuses({.input_ids = ids_, .position_ids = at::zeros({3, 5}, at::kLong)}, {"position_ids", "[3, 5]"});
  refuses({.input_ids = ids_, .position_ids = at::zeros({2, 5})}, {"position_ids", "integers", "Float"});
}

TEST_P(ModelInputsTest, RefusesACacheOfAnotherBatch) {
  const auto cache = std::make_shared<DynamicCache>();
  model_->forward({.input_ids = ids_, .past_key_values = cache});
  refuses({.input_ids = tiny_ids(3, 1), .past_key_values = cache}, {"cache", "layer 0"});
  const auto full = std::make_shared<StaticCache>(4);
  refuses({.input_ids = ids_, .past_key_values = full}, {"StaticCache", "4", "5"});
}

TEST_P(ModelInputsTest, RefusesWrongLabelsAndLogitsToKeep) {
  EXPECT_ERROR(model_->forward({.input_ids = ids_}, {.labels = tiny_ids(2, 4)}), "labels", "10", "8");
  EXPECT_ERROR(model_->forward({.input_ids = ids_}, {.logits_to_keep = -1}), "logits_to_keep", "-1");
}

INSTANTIATE_TEST_SUITE_P(, ModelInputsTest, ::testing::Values("llama", "gptj"),
                         [](const auto& info) { return info.param; });

TEST(LlamaModelInputsTest, RefusesWhatOnlyGptjTakes) {
  const auto model = tiny_model(tiny_llama());
  const auto ids = tiny_ids(1, 3);
  EXPECT_ERROR(model->forward({.input_ids = ids, .token_type_ids = ids}), "LLaMA", "token_type_ids");
  EXPECT_ERROR(model->forward({.input_ids = ids, .head_mask = at::ones({4})}), "LLaMA", "head_mask");
}

TEST(GPTJModelInputsTest, RefusesWrongPositionsTypesAndHeads) {
  const auto model = tiny_model(tiny_gptj());
  const auto ids = tiny_ids(1, 3);
  const auto refuses = [&](const ModelInputs& inputs, std::initializer_list<std::string_view> fragments) {
    EXPECT_TRUE(throws_error([&] { model->forward(inputs); }, fragments));
  };
  refuses({.input_ids = ids, .position_ids = at::tensor({62, 63, 64}).unsqueeze(0)},
          {"position_ids", "[0, 64)", "n_positions", "64"});
  refuses({.input_ids = ids, .position_ids = at::tensor({-1, 0, 1}).unsqueeze(0)}, {"position_ids", "-1"});
  refuses({.input_ids = tiny_ids(1, 65)}, {"position_ids", "n_positions"});
  refuses({.input_ids = ids, .token_type_ids = ids + 40}, {"token_type_ids", "[0, 40)"});
  refuses({.input_ids = ids, .token_type_ids = tiny_ids(1, 4)}, {"token_type_ids", "[1, 3]", "[1, 4]"});
  refuses({.input_ids = ids, .head_mask = at::ones({4})}, {"head_mask", "[3]", "[2, 3]", "[4]"});
  refuses({.input_ids = ids, .head_mask = at::ones({3, 3})}, {"head_mask", "[2, 3]", "[3, 3]"});
  refuses({.input_ids = ids, .head_mask = at::ones({1, 1, 1})}, {"head_mask", "[1, 1, 1]"});
  refuses({.input_ids = ids, .past_key_values = std::make_shared<SinkCache>(8, 2)}, {"neighbouring pairs"});
}

TEST(GPTJModelInputsTest, IdsOfHigherRankAreFlattened) {
  const at::NoGradGuard no_grad;
  const auto model = tiny_model(tiny_gptj());
  const auto ids = tiny_ids(4, 3);
  EXPECT_TENSORS_EQUAL(model->forward({.input_ids = ids.view({2, 2, 3})}).logits,
                       model->forward({.input_ids = ids}).logits);
}

TEST(GPTJModelInputsTest, WarnsOnceOfPaddingWithoutAMask) {
  auto config = tiny_gptj();
  config.pad_token_id = 3;
  const auto model = tiny_model(config);
  const auto ids = at::tensor({3, 5, 6}).unsqueeze(0);
  const WarningRecorder warnings;
  model->forward({.input_ids = ids, .attention_mask = at::ones_like(ids)});
  model->forward({.input_ids = at::tensor({5, 3, 6}).unsqueeze(0)});
  EXPECT_TRUE(warnings.messages().empty());
  model->forward({.input_ids = ids});
  model->forward({.input_ids = ids});
  ASSERT_EQ(warnings.messages().size(), 1);
  EXPECT_NE(warnings.messages()[0].find("attention_mask"), std::string::npos);
}

TEST(ClassificationInputsTest, SeveralRowsNeedAPaddingToken) {
  auto config = tiny_llama();
  config.pad_token_id.reset();
  LlamaForSequenceClassification model(config);
  EXPECT_ERROR(model->forward({.input_ids = tiny_ids(2, 3)}), "2 rows", "pad_token_id");
  EXPECT_EQ(model->forward({.input_ids = tiny_ids(1, 3)}).logits.sizes(), (at::IntArrayRef{1, 2}));
}

TEST(ClassificationInputsTest, TheProblemFoundIsWrittenIntoTheConfig) {
  LlamaForSequenceClassification model(tiny_llama());
  model->forward({.input_ids = tiny_ids(2, 3)}, at::tensor({0, 1}, at::kLong));
  EXPECT_EQ(model->config().problem_type, ProblemType::kSingleLabelClassification);
}

TEST(ClassificationInputsTest, GptjAnswersNeedTwoLabels) {
  auto config = tiny_gptj();
  config.set_num_labels(3);
  EXPECT_ERROR(GPTJForQuestionAnswering{config}, "num_labels 2", "got 3");
}

}  // namespace
}  // namespace transformers::testing
