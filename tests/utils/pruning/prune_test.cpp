#include <torch/torch.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/nn/linear.h>
#include <transformers/utils/nn/state_dict.h>
#include <transformers/utils/pruning/base_structured_sparsifier.h>
#include <transformers/utils/pruning/parametrization.h>
#include <transformers/utils/pruning/prune.h>
#include <transformers/utils/pruning/pruners.h>

#include <limits>

#include "support/golden_collection.h"
#include "support/temporary_folder.h"
#include "support/tensor_assertions.h"
#include "utils/pruning/tensors.h"

namespace transformers {
namespace {

using testing::golden_cases;
using testing::GoldenCase;
using testing::ramp;
using Json = nlohmann::json;

/// A module with one parameter of any shape.
struct HolderImpl : torch::nn::Module {
  explicit HolderImpl(const at::Tensor& value) : weight(register_parameter("weight", value.clone())) {}
  at::Tensor weight;
};
TORCH_MODULE(Holder);

at::Tensor mask_of(const torch::nn::Module& module) { return module.named_buffers()["weight_mask"]; }

prune::Amount amount_of(const Json& amount) {
  return amount.is_number_integer() ? prune::Amount(amount.get<int64_t>()) : prune::Amount(amount.get<double>());
}

double order_of(const Json& n) {
  const double infinity = std::numeric_limits<double>::infinity();
  return n.is_string() ? (n == "inf" ? infinity : -infinity) : n.get<double>();
}

void call(torch::nn::Module& module, const Json& step, const GoldenCase& golden) {
  const auto function = step[0].get<std::string>();
  const auto& arguments = step[1];
  const auto scores = arguments.contains("scores") ? golden.tensor("scores") : at::Tensor();
  const auto amount = arguments.contains("amount") ? amount_of(arguments["amount"]) : prune::Amount(0.0);
  if (function == "identity") {
    prune::identity(module, "weight");
  } else if (function == "random_unstructured") {
    prune::random_unstructured(module, "weight", amount);
  } else if (function == "l1_unstructured") {
    prune::l1_unstructured(module, "weight", amount, scores);
  } else if (function == "random_structured") {
    prune::random_structured(module, "weight", amount, arguments["dim"]);
  } else if (function == "ln_structured") {
    prune::ln_structured(module, "weight", amount, order_of(arguments["n"]), arguments["dim"], scores);
  } else {
    ASSERT_EQ(function, "custom_from_mask");
    prune::custom_from_mask(module, "weight", golden.tensor("custom"));
  }
}

TEST(PruneGoldenTest, EveryFunctionGivesPythonsMasksAlsoWhenRepeated) {
  for (const auto& golden : golden_cases("pruning", "unstructured")) {
    if (golden.name.starts_with("global")) {
      continue;
    }
    SCOPED_TRACE(golden.name);
    Holder module(golden.tensor("weight"));
    torch::manual_seed(golden.get<uint64_t>("seed"));
    const auto& calls = golden.arguments.at("calls");
    for (size_t i = 0; i < calls.size(); ++i) {
      call(*module, calls[i], golden);
      EXPECT_TENSORS_EQUAL(mask_of(*module), golden.tensor("mask." + std::to_string(i)));
    }
    EXPECT_TENSORS_EQUAL(module->weight.detach().abs(), golden.tensor("pruned").abs());  // Python's zeros have signs
    EXPECT_TRUE(prune::is_pruned(*module));
  }
}

TEST(PruneGoldenTest, GlobalPruningGivesPythonsMasks) {
  for (const auto& golden : golden_cases("pruning", "unstructured")) {
    if (!golden.name.starts_with("global")) {
      continue;
    }
    SCOPED_TRACE(golden.name);
    Holder first(golden.tensor("weight.0")), second(golden.tensor("weight.1"));
    torch::manual_seed(golden.get<uint64_t>("seed"));
    for (const auto& step : golden.arguments.at("calls")) {
      const prune::Parameters parameters = {{first.get(), "weight"}, {second.get(), "weight"}};
      const auto amount = amount_of(step[1]["amount"]);
      const auto scores = step[1].contains("scores")
                              ? std::vector<at::Tensor>{golden.tensor("scores.0"), golden.tensor("scores.1")}
                              : std::vector<at::Tensor>{};
      if (step[0] == "L1Unstructured") {
        prune::global_unstructured(parameters, prune::L1Unstructured(amount), scores);
      } else {
        prune::global_unstructured(parameters, prune::RandomUnstructured(amount), scores);
      }
    }
    EXPECT_TENSORS_EQUAL(mask_of(*first), golden.tensor("mask.0"));
    EXPECT_TENSORS_EQUAL(mask_of(*second), golden.tensor("mask.1"));
  }
}

TEST(PruneTest, RemoveMakesPruningPermanentAndLeavesNoTrace) {
  torch::nn::Linear layer(4, 3);
  prune::l1_unstructured(*layer, "weight", 0.5);
  const auto pruned = layer->weight.detach().clone();
  EXPECT_ERROR(layer->clone(), "buffers");  // LibTorch's check; docs/pruning.md says so
  prune::remove(*layer, "weight");
  EXPECT_FALSE(prune::is_pruned(*layer));
  EXPECT_TRUE(layer->named_buffers().is_empty());
  EXPECT_FALSE(ParameterMask::on(layer->weight));
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), pruned);
  layer->forward(at::ones({1, 4})).sum().backward();
  EXPECT_TRUE(layer->weight.grad().ne(0).all().item<bool>());
  EXPECT_EQ(std::dynamic_pointer_cast<torch::nn::LinearImpl>(layer->clone())->weight.sizes(), layer->weight.sizes());
}

TEST(PruneTest, PrunesParametersOfAnyModuleAndSeesThemFromOutside) {
  torch::nn::Sequential model(torch::nn::Linear(4, 4), torch::nn::LSTM(torch::nn::LSTMOptions(4, 3)));
  EXPECT_FALSE(prune::is_pruned(*model));
  const auto lstm = model->ptr<torch::nn::LSTMImpl>(1);
  prune::l1_unstructured(*lstm, "weight_hh_l0", 10);
  prune::random_unstructured(*lstm, "bias_ih_l0", 0.5);
  EXPECT_TRUE(prune::is_pruned(*model));
  EXPECT_EQ(lstm->named_parameters()["weight_hh_l0"].eq(0).sum().item<int64_t>(), 10);
  EXPECT_EQ(lstm->named_parameters()["bias_ih_l0"].eq(0).sum().item<int64_t>(), 6);
}

TEST(PruneTest, PrunedEntriesGetNoGradient) {
  Linear layer(4, 3);
  prune::l1_unstructured(*layer, "weight", 0.5);
  layer(at::ones({1, 4})).sum().backward();
  EXPECT_TENSORS_EQUAL(layer->weight.grad().ne(0).to(at::kFloat), mask_of(*layer));
}

TEST(PruneTest, AStateDictCarriesThePruningIntoAnotherProcess) {
  const testing::TemporaryFolder folder;
  torch::nn::Linear layer(4, 3);
  prune::l1_unstructured(*layer, "weight", 0.5);
  save_safetensors(folder / "pruned.safetensors", state_dict(*layer));

  const SafetensorsFile file(folder / "pruned.safetensors");
  StateDict state;
  for (const auto& info : file.tensors()) {
    state.insert(info.name, file.tensor(info.name));
  }
  torch::nn::Linear other(4, 3);
  prune::identity(*other, "weight");
  load_state_dict(*other, state);
  prune::apply_masks(*other);
  EXPECT_TENSORS_EQUAL(other->weight.detach(), layer->weight.detach());
  other->forward(at::ones({1, 4})).sum().backward();
  EXPECT_TENSORS_EQUAL(other->weight.grad().ne(0).to(at::kFloat), mask_of(*layer));
}

TEST(PruneTest, ApplyMasksZeroesWhatSomethingWroteAndAttachesToBareBuffers) {
  Holder module(ramp({2, 2}));
  module->register_buffer("weight_mask", at::tensor({1.F, 0.F, 0.F, 1.F}).reshape({2, 2}));
  prune::apply_masks(*module);
  EXPECT_TENSORS_EQUAL(module->weight.detach(), at::tensor({1.F, 0.F, 0.F, 4.F}).reshape({2, 2}));
  {
    const at::NoGradGuard no_grad;
    module->weight.add_(1);
  }
  prune::apply_masks(*module);
  EXPECT_TENSORS_EQUAL(module->weight.detach(), at::tensor({2.F, 0.F, 0.F, 5.F}).reshape({2, 2}));
}

TEST(PruneTest, ABufferThatHappensToEndInMaskIsNoPruning) {
  Holder module(ramp({2, 2}));
  module->register_buffer("attention_mask", at::ones({2, 2}));
  module->register_buffer("weight_mask", at::ones({5}));
  EXPECT_FALSE(prune::is_pruned(*module));
}

TEST(PruneTest, FollowsTheModuleToAnotherDtype) {
  torch::nn::Linear layer(4, 3);
  prune::l1_unstructured(*layer, "weight", 0.5);
  const auto mask = mask_of(*layer).clone();
  layer->to(at::kDouble);
  layer->forward(at::ones({1, 4}, at::kDouble)).sum().backward();
  EXPECT_TENSORS_EQUAL(layer->weight.grad().ne(0), mask.to(at::kBool));
  prune::l1_unstructured(*layer, "weight", 0.5);
  EXPECT_EQ(mask_of(*layer).sum().item<double>(), 3);
}

class KeepsTheFirst : public prune::BasePruningMethod {
 public:
  prune::PruningType type() const override { return prune::PruningType::kUnstructured; }
  at::Tensor compute_mask(const at::Tensor& t, const at::Tensor& default_mask) const override {
    return default_mask * at::arange(t.numel()).eq(0);
  }
};

TEST(PruneTest, TakesAMethodOfOnesOwn) {
  Holder module(ramp({2, 2}));
  prune::custom_from_mask(*module, "weight", at::tensor({0, 1, 1, 1}).reshape({2, 2}));
  prune::apply(*module, "weight", KeepsTheFirst());
  EXPECT_TENSORS_EQUAL(module->weight.detach(), at::tensor({0.F, 2.F, 0.F, 0.F}).reshape({2, 2}));
}

TEST(SemiStructuredTest, KeepsTheLargestTwoOfEachFour) {
  Holder module(at::tensor({1.F, -5.F, 3.F, 2.F, 0.5F, 0.25F, -0.125F, 4.F}).reshape({2, 4}));
  prune::semi_structured(*module, "weight");
  EXPECT_TENSORS_EQUAL(mask_of(*module), at::tensor({0.F, 1.F, 1.F, 0.F, 1.F, 0.F, 0.F, 1.F}).reshape({2, 4}));
}

TEST(SemiStructuredTest, ChoosesByScoresAndAmongWhatIsLeft) {
  Holder scored(ramp({1, 4}));
  prune::semi_structured(*scored, "weight", 1, 4, at::tensor({9.F, 1.F, 1.F, 1.F}).reshape({1, 4}));
  EXPECT_TENSORS_EQUAL(mask_of(*scored), at::tensor({1.F, 0.F, 0.F, 0.F}).reshape({1, 4}));

  Holder pruned(ramp({1, 4}));
  prune::custom_from_mask(*pruned, "weight", at::tensor({1, 1, 1, 0}).reshape({1, 4}));
  prune::semi_structured(*pruned, "weight", 2, 4);
  EXPECT_TENSORS_EQUAL(mask_of(*pruned), at::tensor({0.F, 1.F, 1.F, 0.F}).reshape({1, 4}));
}

struct BadCall {
  const char* name;
  std::function<void(torch::nn::Module&)> call;
  std::vector<std::string_view> fragments;
};
void PrintTo(const BadCall& bad, std::ostream* out) { *out << bad.name; }

class PruneErrorTest : public ::testing::TestWithParam<BadCall> {};

TEST_P(PruneErrorTest, IsNamedAndChangesNothing) {
  torch::nn::Linear layer(6, 4);
  const auto before = layer->weight.detach().clone();
  for (const auto fragment : GetParam().fragments) {
    EXPECT_ERROR(GetParam().call(*layer), fragment);
  }
  EXPECT_FALSE(prune::is_pruned(*layer));
  EXPECT_TENSORS_EQUAL(layer->weight.detach(), before);
}

using torch::nn::Module;
INSTANTIATE_TEST_SUITE_P(
    All, PruneErrorTest,
    ::testing::Values(
        BadCall{"unknown_name", [](Module& m) { prune::l1_unstructured(m, "wight", 0.5); }, {"wight", "weight, bias"}},
        BadCall{"fraction_above_one", [](Module& m) { prune::l1_unstructured(m, "weight", 1.5); }, {"[0, 1]", "1.5"}},
        BadCall{"negative_fraction", [](Module& m) { prune::random_unstructured(m, "weight", -0.1); }, {"-0.1"}},
        BadCall{"nan", [](Module& m) { prune::l1_unstructured(m, "weight", std::nan("")); }, {"[0, 1]", "nan"}},
        BadCall{"negative_count", [](Module& m) { prune::l1_unstructured(m, "weight", -1); }, {"negative", "-1"}},
        BadCall{"count_too_large", [](Module& m) { prune::l1_unstructured(m, "weight", 25); }, {"25", "24"}},
        BadCall{"rows_too_many", [](Module& m) { prune::ln_structured(m, "weight", 5, 2, 0); }, {"5", "4"}},
        BadCall{"wrong_dim", [](Module& m) { prune::random_structured(m, "weight", 0.5, 2); }, {"dim 2", "[4, 6]"}},
        BadCall{"wrong_negative_dim", [](Module& m) { prune::ln_structured(m, "weight", 1, 2, -3); }, {"-3"}},
        BadCall{"channels_of_a_vector", [](Module& m) { prune::random_structured(m, "bias", 0.5, 0); }, {"[4]"}},
        BadCall{"norm_nan", [](Module& m) { prune::ln_structured(m, "weight", 1, std::nan(""), 0); }, {"nan"}},
        BadCall{"scores_of_another_shape",
                [](Module& m) {
                  prune::l1_unstructured(m, "weight", 0.5, at::ones({6, 4}));
                },
                {"[4, 6]", "[6, 4]"}},
        BadCall{"mask_of_another_shape",
                [](Module& m) { prune::custom_from_mask(m, "weight", at::ones({4})); },
                {"[4, 6]", "[4]"}},
        BadCall{"mask_of_halves",
                [](Module& m) {
                  prune::custom_from_mask(m, "weight", at::full({4, 6}, 0.5));
                },
                {"0 and 1"}},
        BadCall{"not_a_multiple_of_four", [](Module& m) { prune::semi_structured(m, "weight"); }, {"multiple of 4"}},
        BadCall{"five_of_four", [](Module& m) { prune::semi_structured(m, "weight", 5, 4); }, {"5"}},
        BadCall{"remove_without_mask", [](Module& m) { prune::remove(m, "weight"); }, {"weight", "not pruned"}},
        BadCall{"global_structured",
                [](Module& m) {
                  prune::global_unstructured({{&m, "weight"}}, prune::LnStructured(1, 2));
                },
                {"unstructured"}},
        BadCall{"global_twice",
                [](Module& m) {
                  prune::global_unstructured({{&m, "weight"}, {&m, "weight"}}, prune::L1Unstructured(0.5));
                },
                {"twice"}},
        BadCall{"global_without_parameters",
                [](Module&) { prune::global_unstructured({}, prune::L1Unstructured(0.5)); },
                {"parameters"}},
        BadCall{"global_scores_count",
                [](Module& m) {
                  prune::global_unstructured({{&m, "weight"}}, prune::L1Unstructured(0.5),
                                             {at::ones({4, 6}), at::ones({4})});
                },
                {"1", "2"}}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(PruneTest, RefusesAParameterThatASparsifierMasks) {
  torch::nn::Sequential model(torch::nn::Linear(4, 3));
  SaliencyPruner pruner;
  pruner.prepare(model.ptr());
  EXPECT_ERROR(prune::l1_unstructured(*model->ptr(0), "weight", 0.5), "weight", "something else");
}

}  // namespace
}  // namespace transformers
