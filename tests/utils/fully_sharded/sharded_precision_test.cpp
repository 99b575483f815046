#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/fully_sharded/fully_sharded.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/data_parallel_models.h"
#include "utils/distributed/rank_launcher.h"
#include "utils/fully_sharded/own_rows.h"

namespace transformers {
namespace {

using testing::BranchesImpl;
using testing::loss_of;
using testing::own_rows;
using testing::Rank;
using testing::run_on_ranks;
using testing::share_of;
using testing::tiny_gptj;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;

at::Tensor averaged(const ProcessGroup& group, at::Tensor gradient) {
  gradient = gradient.clone().div_(group.size());
  group.all_reduce(gradient).wait();
  return gradient;
}

TEST(ShardedPrecisionTest, ReducesInTheDtypeAskedFor) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    for (const auto dtype : {at::kBFloat16, at::kHalf}) {
      const auto layer = std::make_shared<torch::nn::LinearImpl>(3, 3);
      FullyShardedDataParallel model(layer, {.mixed_precision = {.reduce_dtype = dtype}});
      const auto input = torch::full({1, 3}, 0.1 + rank.rank);
      const auto output = model(input);
      EXPECT_EQ(output.scalar_type(), at::kFloat);
      output.sum().backward();
      const auto expected = averaged(group, input.expand({3, 3}).to(dtype)).to(at::kFloat);
      EXPECT_TENSORS_EQUAL(layer->weight.grad(), own_rows(expected, model.sharded_parameters()[0]));
    }
    destroy_process_group();
  });
}

TEST(ShardedPrecisionTest, ComputesInTheLowDtypeAndKeepsRowsInTheirOwn) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto ids = share_of(tiny_ids(4, 12), rank);
    const auto low = tiny_model(tiny_llama(), at::kBFloat16), module = tiny_model(tiny_llama());
    const auto before = state_dict(*tiny_model(tiny_llama()));
    FullyShardedDataParallel model(module, {.mixed_precision = {.param_dtype = at::kBFloat16}});
    for (int step = 0; step < 2; ++step) {
      low->zero_grad();
      module->zero_grad();
      loss_of(*low, ids).backward();
      const auto output = model.run(
          [&](auto& causal_lm) { return causal_lm.forward({.input_ids = ids, .use_cache = false}, {.labels = ids}); });
      EXPECT_EQ(output.logits.scalar_type(), at::kBFloat16);
      output.loss.backward();
      for (const auto& own : model.sharded_parameters()) {
        const auto expected = averaged(group, low->named_parameters()[own.name].grad()).to(at::kFloat);
        EXPECT_TENSORS_EQUAL(own.parameter.detach(), own_rows(before[own.name], own)) << own.name;
        EXPECT_TENSORS_EQUAL(own.parameter.grad(), own_rows(expected, own)) << own.name;
      }
    }
    destroy_process_group();
  });
}

TEST(ShardedPrecisionTest, AccumulatesOverNoSyncAndForwardsWithoutGradient) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto layer = std::make_shared<torch::nn::LinearImpl>(2, 2);
    FullyShardedDataParallel model(layer, {.mixed_precision = {.param_dtype = at::kBFloat16}});
    const auto input = torch::full({1, 2}, rank.rank + 1.0);
    for (int round = 0; round < 2; ++round) {
      layer->zero_grad();
      {
        const auto local = model.no_sync();
        model(input).sum().backward();
      }
      {
        const torch::NoGradGuard no_grad;
        EXPECT_EQ(model(input).scalar_type(), at::kBFloat16);
        EXPECT_EQ(layer->weight.scalar_type(), at::kFloat);
      }
      model(2 * input).sum().backward();
      EXPECT_TENSORS_EQUAL(layer->weight.grad(), torch::full({1, 2}, 4.5));
    }
    destroy_process_group();
  });
}

/// A layer in bfloat16 and a scale in float.
struct TwoDtypesImpl : Module {
  TwoDtypesImpl() {
    layer = register_module("layer", Linear(4, 4));
    layer->to(at::kBFloat16);
    scale = register_parameter("scale", torch::ones({4}));
  }
  at::Tensor forward(const at::Tensor& input) { return layer(input.to(at::kBFloat16)).to(at::kFloat) * scale; }
  Linear layer{nullptr};
  at::Tensor scale;
};

TEST(ShardedPrecisionTest, ParametersOfSeveralDtypesTravelApart) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    torch::manual_seed(3);
    const auto module = std::make_shared<TwoDtypesImpl>();
    torch::manual_seed(3);
    const auto alone = std::make_shared<TwoDtypesImpl>();
    FullyShardedDataParallel model(module);
    EXPECT_EQ(model.unit_names(), (std::vector<std::string>{"", ""}));
    const auto input = torch::rand({2, 4});
    const auto output = model(input), expected = alone->forward(input);
    EXPECT_TENSORS_EQUAL(output.detach(), expected.detach());
    output.square().sum().backward();
    expected.square().sum().backward();
    for (const auto& own : model.sharded_parameters()) {
      EXPECT_TENSORS_EQUAL(own.parameter.grad(), own_rows(alone->named_parameters()[own.name].grad(), own)) << own.name;
    }
    destroy_process_group();
  });
}

TEST(ShardedPrecisionTest, BuffersAreCastForGood) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto branches = std::make_shared<BranchesImpl>();
    FullyShardedDataParallel model(branches, {.mixed_precision = {.buffer_dtype = at::kHalf}});
    EXPECT_EQ(branches->calls.scalar_type(), at::kHalf);
    destroy_process_group();
  });
}

TEST(ShardedPrecisionTest, TrainsAsFullPrecisionDoesWithinItsRounding) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto ids = share_of(tiny_ids(4, 12), rank);
    const auto train = [&](const MixedPrecision& precision) {
      const auto module = tiny_model(tiny_gptj());
      FullyShardedDataParallel model(module, {.mixed_precision = precision});
      torch::optim::AdamW steps(module->parameters(), 1e-2);
      double loss = 0;
      for (int step = 0; step < 10; ++step) {
        steps.zero_grad();
        const auto current = model.run([&](auto& causal_lm) { return loss_of(causal_lm, ids); });
        current.backward();
        steps.step();
        loss = current.template item<double>();
      }
      return loss;
    };
    const auto full = train({});
    EXPECT_NEAR(train({.param_dtype = at::kBFloat16, .reduce_dtype = at::kFloat}), full, 0.02 * full);
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers
