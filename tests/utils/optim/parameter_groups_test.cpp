#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/optim/adamw.h>
#include <transformers/utils/optim/parameter_groups.h>

#include <algorithm>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

TEST(ParameterGroupsTest, DecayedParametersAreThoseOfTheTrainer) {
  const auto cases = golden_cases("training", "decay");
  ASSERT_EQ(cases.size(), 2U);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const auto text = c.arguments.at("config").dump();
    const auto model =
        c.name == "llama" ? tiny_model(LlamaConfig::from_json(text)) : tiny_model(GPTJConfig::from_json(text));
    auto names = decay_parameter_names(*model);
    std::sort(names.begin(), names.end());
    EXPECT_EQ(names, c.get<std::vector<std::string>>("names"));
  }
}

TEST(ParameterGroupsTest, FrozenParametersAreInNoGroupAndTiedOnesInOne) {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  const auto model = tiny_model(config);
  const auto all = trainable_parameters(*model);
  EXPECT_EQ(all.size(), model->parameters().size());  // as Python's parameters()
  EXPECT_EQ(all.size() + 1, model->named_parameters().size());
  model->get_input_embeddings()->weight.set_requires_grad(false);
  EXPECT_EQ(trainable_parameters(*model).size() + 1, all.size());
}

TEST(ParameterGroupsTest, NormsAndBiasesGetNoDecay) {
  const auto model = tiny_model(tiny_gptj());
  const auto groups = decay_groups(*model, torch::optim::AdamWOptions(1e-3).weight_decay(0.1));
  ASSERT_EQ(groups.size(), 2U);
  const auto decay = [&groups](int i) {
    return static_cast<const torch::optim::AdamWOptions&>(groups[i].options()).weight_decay();
  };
  EXPECT_EQ(decay(0), 0.1);
  EXPECT_EQ(decay(1), 0);
  for (const auto& parameter : groups[0].params()) {
    EXPECT_EQ(parameter.dim(), 2);
  }
  for (const auto& parameter : groups[1].params()) {
    EXPECT_EQ(parameter.dim(), 1);
  }
}

TEST(ParameterGroupsTest, AnEmptyGroupIsLeftOut) {
  const torch::nn::LayerNorm norm(torch::nn::LayerNormOptions({4}));
  EXPECT_EQ(decay_groups(*norm, torch::optim::AdamWOptions(1e-3)).size(), 1U);
}

}  // namespace
}  // namespace transformers::testing
