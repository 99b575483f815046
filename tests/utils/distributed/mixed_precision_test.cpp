#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/distributed/data_parallel.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/data_parallel_models.h"
#include "utils/distributed/rank_launcher.h"

namespace transformers {
namespace {

using testing::BranchesImpl;
using testing::loss_of;
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

TEST(MixedPrecisionTest, ReducesInTheDtypeAskedFor) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    for (const auto dtype : {at::kBFloat16, at::kHalf}) {
      const auto layer = std::make_shared<torch::nn::LinearImpl>(3, 3);
      DistributedDataParallel model(layer, {.mixed_precision = {.reduce_dtype = dtype}});
      const auto input = torch::full({1, 3}, 0.1 + rank.rank);
      const auto output = model(input);
      EXPECT_EQ(output.scalar_type(), at::kFloat);
      output.sum().backward();
      EXPECT_TENSORS_EQUAL(layer->weight.grad(), averaged(group, input.expand({3, 3}).to(dtype)).to(at::kFloat));
    }
    destroy_process_group();
  });
}

TEST(MixedPrecisionTest, ComputesInTheLowDtypeAndKeepsParametersInTheirOwn) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    const auto batch = tiny_ids(4, 12);
    const auto low = tiny_model(tiny_llama(), at::kBFloat16);
    const auto replica = tiny_model(tiny_llama());
    const auto before = state_dict(*tiny_model(tiny_llama()));
    DistributedDataParallel model(replica, {.mixed_precision = {.param_dtype = at::kBFloat16}});
    for (int step = 0; step < 3; ++step) {  // the second rebuilds the buckets
      low->zero_grad();
      replica->zero_grad();
      loss_of(*low, share_of(batch, rank)).backward();
      const auto output = model.run([&](auto& causal_lm) {
        const auto ids = share_of(batch, rank);
        return causal_lm.forward({.input_ids = ids, .use_cache = false}, {.labels = ids});
      });
      EXPECT_EQ(output.logits.scalar_type(), at::kBFloat16);
      output.loss.backward();
      for (const auto& parameter : low->named_parameters()) {
        const auto own = replica->named_parameters()[parameter.key()];
        EXPECT_TENSORS_EQUAL(own.detach(), before[parameter.key()]);
        EXPECT_TENSORS_EQUAL(own.grad(), averaged(group, parameter->grad()).to(at::kFloat)) << parameter.key();
      }
    }
    destroy_process_group();
  });
}

TEST(MixedPrecisionTest, AccumulatesOverNoSyncAndForwardsWithoutGradient) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto layer = std::make_shared<torch::nn::LinearImpl>(2, 1);
    DistributedDataParallel model(layer, {.mixed_precision = {.param_dtype = at::kBFloat16}});
    const auto input = torch::full({1, 2}, rank.rank + 1.0);
    for (int round = 0; round < 2; ++round) {
      layer->zero_grad();
      {
        const auto local = model.no_sync();
        model(input).sum().backward();
        EXPECT_TENSORS_EQUAL(layer->weight.grad(), input);
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

TEST(MixedPrecisionTest, WorksInsideTheBucketsAndWithUnusedParameters) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto branches = std::make_shared<BranchesImpl>();
    DistributedDataParallel model(branches, {.find_unused_parameters = true,
                                             .gradient_as_bucket_view = true,
                                             .mixed_precision = {.param_dtype = at::kHalf, .buffer_dtype = at::kHalf}});
    EXPECT_EQ(branches->calls.scalar_type(), at::kHalf);
    for (int step = 0; step < 3; ++step) {
      branches->zero_grad();
      model(torch::full({1, 3}, rank.rank + 1.0), rank.rank)[0].sum().backward();
      EXPECT_TENSORS_EQUAL(branches->first->weight.grad(), torch::full({3, 3}, 0.5));
      EXPECT_FALSE(branches->never->weight.grad().defined());
    }
    destroy_process_group();
  });
}

TEST(MixedPrecisionTest, TrainsAsFullPrecisionDoesWithinItsRounding) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto ids = share_of(tiny_ids(4, 12), rank);
    const auto train = [&](const MixedPrecision& precision) {
      const auto replica = tiny_model(tiny_gptj());
      DistributedDataParallel model(replica, {.mixed_precision = precision});
      torch::optim::AdamW steps(replica->parameters(), 1e-2);
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
