#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/utils/distributed/data_parallel.h>
#include <transformers/utils/nn/module.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/data_parallel_models.h"
#include "utils/distributed/rank_launcher.h"

namespace transformers {
namespace {

using namespace std::chrono_literals;
using testing::BranchesImpl;
using testing::loss_of;
using testing::Rank;
using testing::run_on_ranks;
using testing::share_of;
using testing::tiny_gptj;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;

constexpr testing::Tolerance kSameMath = {1e-6, 1e-6};
constexpr int kDied = 9;

void scramble(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  for (auto& parameter : module.parameters()) {
    parameter.normal_();
  }
}

/// Three steps of replicas on their shares against three steps of one model on the whole batch.
void expect_equal_to_one_process(const PretrainedConfig& config, const Rank& rank, const DataParallelOptions& options) {
  const auto batch = tiny_ids(4, 12);
  const auto alone = tiny_model(config);
  const auto replica = tiny_model(config);
  if (rank.rank != 0) {
    scramble(*replica);
  }
  alone->train();
  replica->train();
  DistributedDataParallel model(replica, options);
  torch::optim::SGD alone_steps(alone->parameters(), 0.1), replica_steps(replica->parameters(), 0.1);
  for (int step = 0; step < 3; ++step) {
    alone_steps.zero_grad();
    replica_steps.zero_grad();
    loss_of(*alone, batch).backward();
    model.run([&](auto& causal_lm) { return loss_of(causal_lm, share_of(batch, rank)); }).backward();
    for (const auto& parameter : alone->named_parameters()) {
      EXPECT_TENSORS_CLOSE(replica->named_parameters()[parameter.key()].grad(), parameter->grad(), kSameMath)
          << parameter.key() << " in step " << step;
    }
    alone_steps.step();
    replica_steps.step();
  }
  for (const auto& parameter : alone->named_parameters()) {
    EXPECT_TENSORS_CLOSE(replica->named_parameters()[parameter.key()], *parameter, kSameMath) << parameter.key();
  }
}

void expect_equal_on_ranks(int64_t ranks, const PretrainedConfig& config, const DataParallelOptions& options = {}) {
  run_on_ranks(ranks, [&](const Rank& rank) {
    rank.join();
    expect_equal_to_one_process(config, rank, options);
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, LlamaOnTwoRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(2, tiny_llama());
}

TEST(DistributedDataParallelTest, LlamaOnFourRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(4, tiny_llama());
}

TEST(DistributedDataParallelTest, GptjOnTwoRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(2, tiny_gptj());
}

TEST(DistributedDataParallelTest, GptjOnFourRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(4, tiny_gptj());
}

TEST(DistributedDataParallelTest, TiedEmbeddingsAreReducedOnce) {
  auto config = tiny_llama();
  config.tie_word_embeddings = true;
  expect_equal_on_ranks(2, config);
}

TEST(DistributedDataParallelTest, ManySmallBucketsGiveTheSame) {
  expect_equal_on_ranks(2, tiny_llama(), {.bucket_cap_mb = 0.002});
}

TEST(DistributedDataParallelTest, GradientsInsideTheBucketsGiveTheSame) {
  expect_equal_on_ranks(2, tiny_llama(), {.bucket_cap_mb = 0.002, .gradient_as_bucket_view = true});
}

TEST(DistributedDataParallelTest, OneRankAloneEqualsOneProcess) { expect_equal_on_ranks(1, tiny_llama()); }

TEST(DistributedDataParallelTest, LookingForUnusedParametersGivesTheSame) {
  expect_equal_on_ranks(2, tiny_gptj(), {.find_unused_parameters = true});
}

TEST(DistributedDataParallelTest, GradientsLieInsideTheBucketsWhenAsked) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto layer = std::make_shared<torch::nn::LinearImpl>(2, 3);
    DistributedDataParallel model(layer, {.gradient_as_bucket_view = true});
    model(torch::ones({1, 2})).sum().backward();
    EXPECT_TRUE(layer->weight.grad().storage().is_alias_of(layer->bias.grad().storage()));
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, UnusedParametersCountAsZeroWhereOthersUsedThem) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto branches = std::make_shared<BranchesImpl>();
    DistributedDataParallel model(branches, {.find_unused_parameters = true});
    for (int step = 0; step < 3; ++step) {
      branches->zero_grad();
      model(torch::full({1, 3}, rank.rank + 1.0), rank.rank)[0].sum().backward();
      EXPECT_TENSORS_EQUAL(branches->first->weight.grad(), torch::full({3, 3}, 0.5));
      EXPECT_TENSORS_EQUAL(branches->second->weight.grad(), torch::full({3, 3}, 1.0));
      EXPECT_FALSE(branches->never->weight.grad().defined());
    }
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, OutputsTheLossDoesNotUseHoldNobodyUp) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto branches = std::make_shared<BranchesImpl>();
    DistributedDataParallel model(branches, {.find_unused_parameters = true});
    for (int step = 0; step < 3; ++step) {
      branches->zero_grad();
      model(torch::ones({1, 3}), 2)[0].sum().backward();
      EXPECT_TENSORS_EQUAL(branches->first->weight.grad(), torch::ones({3, 3}));
      EXPECT_FALSE(branches->second->weight.grad().defined());
    }
    destroy_process_group();
  });
}

/// Some other struct, of which nothing is known.
struct OpaqueOutput {
  at::Tensor tensor{};
};

TEST(DistributedDataParallelTest, LooksIntoTheOutputsOfModelsAndSaysWhenItCannot) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto replica = tiny_model(tiny_llama());
    DistributedDataParallel model(replica, {.find_unused_parameters = true});
    const auto ids = share_of(tiny_ids(4, 12), rank);
    for (int step = 0; step < 2; ++step) {
      const auto output = model.run(
          [&](auto& causal_lm) { return causal_lm.forward({.input_ids = ids, .use_cache = false}, {.labels = ids}); });
      output.loss.backward();
    }
    EXPECT_TRUE(replica->parameters()[0].grad().defined());
    EXPECT_ERROR(model.run([&](auto& causal_lm) { return OpaqueOutput{loss_of(causal_lm, ids)}; }),
                 "find_unused_parameters", "visit_fields");
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, UnusedParametersAreAnErrorWhenNobodyLooksForThem) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto branches = std::make_shared<BranchesImpl>();
    DistributedDataParallel model(branches);
    model(torch::ones({1, 3}), 0)[0].sum().backward();
    EXPECT_ERROR(model(torch::ones({1, 3}), 0), "rank " + std::to_string(rank.rank) + " of 2", "finished reduction",
                 "find_unused_parameters");
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, ARankThatAloneSkippedAParameterSaysSoAtOnce) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto branches = std::make_shared<BranchesImpl>();
    DistributedDataParallel model(branches, {.parameters_to_ignore = {"never.weight", "never.bias"}});
    const auto step = [&](int64_t branch) {
      const auto outputs = model(torch::ones({1, 3}), branch);
      (outputs[0].sum() + outputs.back().sum()).backward();
    };
    step(2);
    const auto differ = [&] {
      for (int i = 0; i < 2; ++i) {
        step(rank.rank == 0 ? 2 : 0);
      }
    };
    const auto start = std::chrono::steady_clock::now();
    if (rank.rank == 0) {  // waits for the gradient until rank 1 has ended
      EXPECT_ERROR(differ(), "rank 0 of 2", "averaging gradients");
    } else {
      EXPECT_ERROR(differ(), "rank 1 of 2", "finished reduction", "find_unused_parameters");
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
  });
}

TEST(DistributedDataParallelTest, TwoBackwardsMayBringAForwardsGradientsTogether) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto branches = std::make_shared<BranchesImpl>();
    DistributedDataParallel model(branches, {.parameters_to_ignore = {"never.weight", "never.bias"}});
    for (int step = 0; step < 3; ++step) {
      branches->zero_grad();
      const auto outputs = model(torch::full({1, 3}, rank.rank + 1.0), 2);
      outputs[0].sum().backward();
      outputs[1].sum().backward();
      EXPECT_TENSORS_EQUAL(branches->first->weight.grad(), torch::full({3, 3}, 1.5));
      EXPECT_TENSORS_EQUAL(branches->second->weight.grad(), torch::full({3, 3}, 1.5));
    }
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, NoSyncAccumulatesLocallyAndTheNextStepSendsTheSum) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto layer = std::make_shared<torch::nn::LinearImpl>(2, 1);
    DistributedDataParallel model(layer);
    for (int round = 0; round < 3; ++round) {
      layer->zero_grad();
      const auto input = torch::full({1, 2}, rank.rank + 1.0);
      {
        const auto local = model.no_sync();
        model(input).sum().backward();
        EXPECT_TENSORS_EQUAL(layer->weight.grad(), input);
      }
      model(10 * input).sum().backward();
      EXPECT_TENSORS_EQUAL(layer->weight.grad(), torch::full({1, 2}, 11 * 1.5));
    }
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, BuffersFollowRankZeroBeforeEachForward) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto branches = std::make_shared<BranchesImpl>();
    branches->calls.fill_(100 * rank.rank);
    DistributedDataParallel model(branches, {.find_unused_parameters = true});
    EXPECT_EQ(branches->calls.item<float>(), 0);
    branches->calls.fill_(7 + rank.rank);
    model(torch::ones({1, 3}), 0)[0].sum().backward();
    EXPECT_EQ(branches->calls.item<float>(), 8);
    {
      const auto local = model.no_sync();
      model(torch::ones({1, 3}), 0)[0].sum().backward();
      branches->calls.fill_(rank.rank);
      model(torch::ones({1, 3}), 0)[0].sum().backward();
      EXPECT_EQ(branches->calls.item<float>(), rank.rank + 1);
    }
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, IgnoredParametersStayEachRanksOwn) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto layer = std::make_shared<torch::nn::LinearImpl>(2, 1);
    {
      const torch::NoGradGuard no_grad;
      layer->bias.fill_(rank.rank);
    }
    DistributedDataParallel model(layer, {.parameters_to_ignore = {"bias"}});
    (model(torch::ones({1, 2})) * (rank.rank + 1)).sum().backward();
    EXPECT_EQ(layer->bias.item<float>(), rank.rank);
    EXPECT_EQ(layer->bias.grad().item<float>(), rank.rank + 1);
    EXPECT_TENSORS_EQUAL(layer->weight.grad(), torch::full({1, 2}, 1.5));
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, FrozenParametersAreNotReduced) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto layer = std::make_shared<torch::nn::LinearImpl>(2, 1);
    layer->bias.set_requires_grad(false);
    DistributedDataParallel model(layer);
    model(torch::full({1, 2}, 1.0 * rank.rank)).sum().backward();
    EXPECT_FALSE(layer->bias.grad().defined());
    EXPECT_TENSORS_EQUAL(layer->weight.grad(), torch::full({1, 2}, 0.5));
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, SparseGradientsAreReduced) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto table = std::make_shared<torch::nn::EmbeddingImpl>(torch::nn::EmbeddingOptions(4, 2).sparse(true));
    DistributedDataParallel model(table);
    model(torch::tensor({rank.rank, int64_t{3}})).sum().backward();
    EXPECT_TRUE(table->weight.grad().is_sparse());
    EXPECT_TENSORS_EQUAL(table->weight.grad().to_dense().select(1, 0), torch::tensor({0.5, 0.5, 0.0, 1.0}, at::kFloat));
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, RunsInASubGroup) {
  run_on_ranks(4, [](const Rank& rank) {
    rank.join();
    const auto even = new_group({0, 2});
    const auto odd = new_group({1, 3});
    const auto layer = std::make_shared<torch::nn::LinearImpl>(2, 1);
    DistributedDataParallel model(layer, even ? *even : *odd);
    model(torch::full({1, 2}, 1.0 * rank.rank)).sum().backward();
    EXPECT_TENSORS_EQUAL(layer->weight.grad(), torch::full({1, 2}, even ? 1.0 : 2.0));
    destroy_process_group();
  });
}

// The last layer's bucket is averaged while the backward still stands at the first layer.
TEST(DistributedDataParallelTest, SendsGradientsWhileTheBackwardGoesOn) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    torch::nn::Sequential layers(torch::nn::Linear(4, 4), torch::nn::Linear(4, 4));
    const auto first = layers[0]->as<torch::nn::Linear>();
    const auto last = layers[1]->as<torch::nn::Linear>();
    DistributedDataParallel model(layers.ptr(), {.bucket_cap_mb = 1e-6, .gradient_as_bucket_view = true});
    bool averaged_in_time = false;
    int step = 0;  // the first has one bucket for all
    first->weight.register_hook([&](const at::Tensor& gradient) {
      const auto deadline = std::chrono::steady_clock::now() + 5s;
      while (step == 1 && !averaged_in_time && std::chrono::steady_clock::now() < deadline) {
        averaged_in_time = (last->bias.grad() == 1.5).all().item<bool>();
      }
      return gradient;
    });
    for (; step < 2; ++step) {
      layers->zero_grad();
      model.run([&](auto& module) { return module.forward(torch::ones({1, 4})) * (rank.rank + 1); }).sum().backward();
    }
    EXPECT_TRUE(averaged_in_time);
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, SaysInWhichOrderGradientsCameAndTakesThatOfAnotherRun) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto batch = tiny_ids(4, 12);
    const auto run_and_order = [&](const std::vector<int64_t>& known) {
      DistributedDataParallel model(tiny_model(tiny_llama()));
      model.module().train();
      model.set_gradient_order(known);
      EXPECT_EQ(model.gradient_order(), known);
      model.run([&](auto& causal_lm) { return loss_of(causal_lm, share_of(batch, rank)); }).backward();
      return model.gradient_order();
    };
    const auto order = run_and_order({});
    EXPECT_EQ(order.size(), tiny_model(tiny_llama())->parameters().size());
    EXPECT_NE(order, std::vector<int64_t>(order.size(), 0));
    EXPECT_EQ(run_and_order(order), order);

    DistributedDataParallel model(tiny_model(tiny_llama()));
    EXPECT_ERROR(model.set_gradient_order({0, 1}), "must have each of the", "trained parameters once");
    EXPECT_ERROR(model.set_gradient_order(std::vector<int64_t>(order.size(), 0)), "trained parameters once");
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, RefusesWhatCannotBeReplicated) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto build = [](const std::shared_ptr<torch::nn::LinearImpl>& layer,
                          const DataParallelOptions& options = {}) { DistributedDataParallel model(layer, options); };
    const auto layer = std::make_shared<torch::nn::LinearImpl>(2, 1);
    EXPECT_ERROR(build(nullptr), "needs a module");
    EXPECT_ERROR(build(layer, {.bucket_cap_mb = 0.0}), "bucket_cap_mb");
    EXPECT_ERROR(build(layer, {.mixed_precision = {.param_dtype = at::kLong}}), "param_dtype", "Long");
    EXPECT_ERROR(build(layer, {.parameters_to_ignore = {"weight", "bias"}}), "requires a gradient");
    const auto frozen = std::make_shared<torch::nn::LinearImpl>(2, 1);
    for (auto& parameter : frozen->parameters()) {
      parameter.set_requires_grad(rank.rank == 0);
    }
    EXPECT_ERROR(build(frozen), "rank " + std::to_string(rank.rank) + " of 2", "requires a gradient");
    const auto odd = std::make_shared<torch::nn::LinearImpl>(2, 1 + rank.rank);
    EXPECT_ERROR(build(odd), "rank " + std::to_string(rank.rank) + " of 2", "weight", "Float [2, 2]", "Float [1, 2]");
    build(layer);  // every rank came out of it able to go on
    destroy_process_group();
  });
}

TEST(DistributedDataParallelTest, NamesThisRankWhenAnotherDiesBetweenSteps) {
  run_on_ranks(2,
               [](const Rank& rank) {
                 rank.join();
                 DistributedDataParallel model(std::make_shared<torch::nn::LinearImpl>(2, 1));
                 model(torch::ones({1, 2})).sum().backward();
                 if (rank.rank == 1) {
                   std::_Exit(kDied);
                 }
                 EXPECT_ERROR(model(torch::ones({1, 2})), "rank 0 of 2", "DistributedDataParallel forward 1");
               },
               {.expected_status = {{1, kDied}}});
}

TEST(DistributedDataParallelTest, NamesThisRankWhenAnotherDiesInTheBackward) {
  run_on_ranks(2,
               [](const Rank& rank) {
                 rank.join();
                 DistributedDataParallel model(std::make_shared<torch::nn::LinearImpl>(2, 1));
                 const auto loss = model(torch::ones({1, 2})).sum();
                 if (rank.rank == 1) {
                   std::_Exit(kDied);
                 }
                 EXPECT_ERROR(loss.backward(), "rank 0 of 2", "averaging gradients");
               },
               {.expected_status = {{1, kDied}}});
}

TEST(DistributedDataParallelTest, ARankThatDoesSomethingElseIsNamed) {
  run_on_ranks(2, [](const Rank& rank) {
    const auto group = rank.join();
    DistributedDataParallel model(std::make_shared<torch::nn::LinearImpl>(2, 1));
    const auto differ = [&] {
      if (rank.rank == 0) {
        model(torch::ones({1, 2}));
      } else {
        group.barrier();
      }
    };
    EXPECT_ERROR(differ(), "disagree", "rank " + std::to_string(rank.rank), "DistributedDataParallel forward 0",
                 "barrier");
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers
