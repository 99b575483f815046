#include <torch/torch.h>
#include <transformers/auto/modeling_auto.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/fully_sharded/fully_sharded.h>
#include <transformers/utils/generation/generate.h>
#include <transformers/utils/optim/optimizer.h>
#include <transformers/utils/optim/parameter_groups.h>

#include "support/tensor_assertions.h"
#include "support/tiny_models.h"
#include "utils/distributed/data_parallel_models.h"
#include "utils/distributed/rank_launcher.h"
#include "utils/fully_sharded/own_rows.h"
#include "utils/fully_sharded/two_layers.h"

namespace transformers {
namespace {

using testing::each_layer;
using testing::loss_of;
using testing::own_rows;
using testing::Rank;
using testing::run_on_ranks;
using testing::share_of;
using testing::tiny_gptj;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;
using testing::two_layers;
using testing::TwoLayersImpl;

constexpr testing::Tolerance kSameMath = {1e-6, 1e-6};

struct Training {
  FullyShardedOptions options{};
  bool checkpointing = false;
  int64_t micro_batches = 1;
  bool frozen_embeddings = false;
};

std::shared_ptr<CausalLM> model_for(const PretrainedConfig& config, const Training& training) {
  auto model = tiny_model(config);
  model->train();
  model->get_input_embeddings()->weight.requires_grad_(!training.frozen_embeddings);
  if (training.checkpointing) {
    model->gradient_checkpointing_enable();
  }
  return model;
}

AdamW adamw_for(const torch::nn::Module& model) {
  const auto options = torch::optim::AdamWOptions(1e-3).weight_decay(0.1);
  return AdamW(decay_groups(model, options), options);
}

/// The mean loss over a rank's micro-batches, whose gradients it leaves.
double accumulated_loss(FullyShardedDataParallel<CausalLM>& model, const at::Tensor& share, int64_t micro_batches) {
  const auto backward = [&](const at::Tensor& ids) {
    const auto loss = model.run([&](auto& causal_lm) { return loss_of(causal_lm, ids); }) / micro_batches;
    loss.backward();
    return loss.template item<double>();
  };
  const auto parts = share.chunk(micro_batches);
  double loss = 0;
  {
    const auto local = model.no_sync();
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      loss += backward(parts[i]);
    }
  }
  return loss + backward(parts.back());
}

void expect_equal_rows(const FullyShardedModule& model, const torch::nn::Module& alone, bool gradients) {
  const auto whole = alone.named_parameters();
  for (const auto& own : model.sharded_parameters()) {
    const auto& parameter = whole[own.name];
    const auto expected = gradients ? parameter.grad() : parameter.detach();
    const auto actual = gradients ? own.parameter.grad() : own.parameter.detach();
    ASSERT_EQ(actual.defined(), expected.defined()) << own.name;
    if (expected.defined()) {
      EXPECT_TENSORS_CLOSE(actual, own_rows(expected, own), kSameMath) << own.name << (gradients ? " gradient" : "");
    }
  }
}

/// Three AdamW steps of a sharded model on shares against those of one model on the whole batch.
void expect_equal_to_one_process(const PretrainedConfig& config, const Rank& rank, const Training& training) {
  const auto batch = tiny_ids(8, 12);
  const auto alone = model_for(config, training), module = model_for(config, training);
  FullyShardedDataParallel model(module, training.options);
  auto alone_steps = adamw_for(*alone), steps = adamw_for(*module);
  for (int step = 0; step < 3; ++step) {
    alone_steps.zero_grad();
    steps.zero_grad();
    const auto expected = loss_of(*alone, batch);
    expected.backward();
    const auto own_loss = accumulated_loss(model, share_of(batch, rank), training.micro_batches);
    const auto loss = torch::full({1}, own_loss);
    model.group().all_reduce(loss.div_(rank.size)).wait();
    EXPECT_TENSORS_CLOSE(loss[0], expected.detach(), kSameMath);
    expect_equal_rows(model, *alone, /*gradients=*/true);
    model.clip_grad_norm_(0);  // measures
    EXPECT_NEAR(model.clip_grad_norm_(0.5).item<double>(),
                clip_grad_norm_(all_parameters(alone_steps), 0.5).item<double>(), 1e-6);
    alone_steps.step();
    steps.step();
    expect_equal_rows(model, *alone, /*gradients=*/false);
  }
}

void expect_equal_on_ranks(int64_t ranks, const PretrainedConfig& config, const Training& training = {}) {
  run_on_ranks(ranks, [&](const Rank& rank) {
    rank.join();
    expect_equal_to_one_process(config, rank, training);
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, LlamaOnTwoRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(2, tiny_llama());
}

TEST(FullyShardedDataParallelTest, LlamaOnFourRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(4, tiny_llama());
}

TEST(FullyShardedDataParallelTest, GptjOnTwoRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(2, tiny_gptj());
}

TEST(FullyShardedDataParallelTest, GptjOnFourRanksEqualsOneProcessOnTheWholeBatch) {
  expect_equal_on_ranks(4, tiny_gptj());
}

TEST(FullyShardedDataParallelTest, OneRankAloneEqualsOneProcess) { expect_equal_on_ranks(1, tiny_llama()); }

TEST(FullyShardedDataParallelTest, CheckpointedLayersGiveTheSame) {
  expect_equal_on_ranks(2, tiny_llama(), {.checkpointing = true});
}

TEST(FullyShardedDataParallelTest, TiedEmbeddingsGiveTheSame) {
  auto config = tiny_gptj();
  config.tie_word_embeddings = true;
  expect_equal_on_ranks(2, config, {.checkpointing = true});
}

TEST(FullyShardedDataParallelTest, AccumulationOverNoSyncGivesTheSame) {
  expect_equal_on_ranks(2, tiny_llama(), {.micro_batches = 2});
}

TEST(FullyShardedDataParallelTest, FrozenParametersGiveTheSame) {
  expect_equal_on_ranks(2, tiny_llama(), {.frozen_embeddings = true});
}

TEST(FullyShardedDataParallelTest, KeepingWholeParametersAndNoPrefetchGiveTheSame) {
  expect_equal_on_ranks(
      2, tiny_llama(),
      {.options = {.reshard_after_forward = false, .forward_prefetch = false, .backward_prefetch = false}});
}

at::Tensor own_gradient(const torch::nn::Module& alone, const ShardedParameter& own) {
  return own_rows(alone.named_parameters()[own.name].grad(), own);
}

TEST(FullyShardedDataParallelTest, MakesUnitsOfLayersAndOneOfTheRest) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    FullyShardedDataParallel llama(tiny_model(tiny_llama())), gptj(tiny_model(tiny_gptj()));
    EXPECT_EQ(llama.unit_names(), (std::vector<std::string>{"model.layers.0", "model.layers.1", ""}));
    EXPECT_EQ(gptj.unit_names(), (std::vector<std::string>{"transformer.h.0", "transformer.h.1", ""}));
    FullyShardedDataParallel by_name(
        two_layers(), {.auto_wrap_policy = [](const std::string& name, const auto&) { return name == "second"; }});
    EXPECT_EQ(by_name.unit_names(), (std::vector<std::string>{"second", ""}));
    EXPECT_EQ(by_name.sharded_parameters()[0].name, "scale");
    EXPECT_EQ(by_name.sharded_parameters()[0].parameter.size(0), rank.rank == 0 ? 2 : 1);
    EXPECT_EQ(by_name.sharded_parameters()[0].start, 2 * rank.rank);
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, ParametersHoldRowsAloneWheneverNothingComputes) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto module = tiny_model(tiny_llama());
    const auto shapes = [&] {
      std::vector<std::vector<int64_t>> shapes;
      for (const auto& parameter : module->parameters()) {
        shapes.push_back(parameter.sizes().vec());
      }
      return shapes;
    };
    const auto whole = shapes();
    FullyShardedDataParallel model(module);
    auto rows = whole;
    for (auto& shape : rows) {
      shape[0] /= 2;  // all are even
    }
    EXPECT_EQ(shapes(), rows);
    bool was_whole = false;
    auto& layer = dynamic_cast<LlamaForCausalLMImpl&>(*module).model->layers[0]->as<LlamaDecoderLayerImpl>()->mlp;
    layer->register_forward_pre_hook([&](const at::Tensor&) {
      was_whole = layer->gate_proj->weight.size(0) == 20;
      return at::Tensor();
    });
    const auto loss = model.run([&](auto& causal_lm) { return loss_of(causal_lm, tiny_ids(2, 6)); });
    EXPECT_TRUE(was_whole);
    EXPECT_EQ(layer->gate_proj->weight.size(0), 10);
    loss.backward();
    EXPECT_EQ(shapes(), rows);
    EXPECT_EQ(layer->gate_proj->weight.grad().size(0), 10);
    {
      const torch::NoGradGuard no_grad;
      model.run([&](auto& causal_lm) { return loss_of(causal_lm, tiny_ids(2, 6)); });
    }
    EXPECT_EQ(shapes(), rows);
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, GeneratesWhatOneProcessDoes) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    for (const auto& config : testing::config_grid()) {
      const auto alone = tiny_model(*config.config), module = tiny_model(*config.config);
      FullyShardedDataParallel model(module);
      const auto prompt = tiny_ids(2, 5);
      const torch::NoGradGuard no_grad;
      const auto tokens = [&](CausalLM& causal_lm) {
        return generate(causal_lm, {.input_ids = prompt}, {.max_new_tokens = 6}).sequences;
      };
      EXPECT_TENSORS_EQUAL(model.run(tokens), tokens(*alone)) << config.name;
    }
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, ForwardsBeforeTheirBackwardsAndTwoBackwardsOfOneGiveTheSame) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto alone = two_layers(), module = two_layers();
    FullyShardedDataParallel model(module, each_layer());
    const auto first = torch::rand({2, 3}), second = torch::rand({4, 3});
    const auto train = [&](auto& call) {
      auto one = call(first).square().sum();
      auto other = call(second, 1).square().sum();
      (one + other).backward({}, /*retain_graph=*/true);
      other.backward({}, /*retain_graph=*/true);
      one.backward();
    };
    const auto call = [&](const auto&... arguments) { return alone->forward(arguments...); };
    train(call);
    train(model);
    for (const auto& own : model.sharded_parameters()) {
      EXPECT_TENSORS_CLOSE(own.parameter.grad(), own_gradient(*alone, own)) << own.name;
    }
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, LossesOfAttentionsAndHiddenStatesGiveTheSame) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    auto config = tiny_llama();
    config.attn_implementation = AttnImplementation::kEager;
    const auto alone = tiny_model(config), module = tiny_model(config);
    FullyShardedDataParallel model(module);
    const auto ids = tiny_ids(2, 6);
    const auto backward = [&](const auto& run) {
      const auto output = run([&](auto& causal_lm) {
        return causal_lm.forward(
            {.input_ids = ids, .use_cache = false, .output_attentions = true, .output_hidden_states = true});
      });
      (output.attentions[1].square().sum() + output.hidden_states[1].square().sum()).backward();
    };
    backward([&](const auto& forward) { return forward(*alone); });
    backward([&](const auto& forward) { return model.run(forward); });
    for (const auto& own : model.sharded_parameters()) {
      const auto expected = alone->named_parameters()[own.name].grad();
      ASSERT_EQ(own.parameter.grad().defined(), expected.defined()) << own.name;
      if (expected.defined()) {
        EXPECT_TENSORS_CLOSE(own.parameter.grad(), own_rows(expected, own)) << own.name;
      }
    }
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, ZeroGradBetweenForwardAndBackwardForgetsEarlierGradients) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto module = two_layers();
    FullyShardedDataParallel model(module, each_layer());
    torch::optim::SGD optimizer(module->parameters(), 0.1);
    const auto input = torch::ones({1, 3});
    model(input).sum().backward();
    const auto once = module->scale.grad().clone();
    const auto loss = model(input).sum();
    optimizer.zero_grad();
    loss.backward();
    EXPECT_TENSORS_EQUAL(module->scale.grad(), once);
    model(input).sum().backward();
    EXPECT_TENSORS_EQUAL(module->scale.grad(), 2 * once);
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, WhatNoRankUsedHasNoGradientAndWhatSomeUsedCountsAsZeroElsewhere) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto module = two_layers();
    FullyShardedDataParallel model(module);  // the root unit alone
    for (int step = 0; step < 2; ++step) {
      module->zero_grad();
      model(torch::ones({1, 3}), int64_t{-1}).sum().backward();
      EXPECT_FALSE(module->second->weight.grad().defined());
      EXPECT_TRUE(module->first->weight.grad().defined());
    }
    module->zero_grad();
    const auto order = rank.rank == 0 ? int64_t{-1} : int64_t{0};
    model(torch::ones({1, 3}), order).sum().backward();
    const auto alone = two_layers();
    (alone->forward(torch::ones({1, 3})).sum() / 2).backward();
    const auto& own = model.sharded_parameters()[3];
    EXPECT_EQ(own.name, "second.weight");
    EXPECT_TENSORS_CLOSE(own.parameter.grad(), own_gradient(*alone, own));
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, IgnoredParametersStayWholeAndEachRanksOwn) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto module = two_layers(rank.rank);
    const auto bias = module->second->bias.detach().clone();
    FullyShardedDataParallel model(
        module, {.sync_module_states = true, .ignored_modules = {"second"}, .ignored_parameters = {"scale"}});
    EXPECT_EQ(model.sharded_parameters().size(), 2U);
    (model(torch::ones({1, 3})) * (rank.rank + 1)).sum().backward();
    EXPECT_TENSORS_EQUAL(module->second->bias.detach(), bias);
    EXPECT_TENSORS_EQUAL(module->second->bias.grad(), torch::full({3}, rank.rank + 1.0));
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, TakesRankZerosValuesAlsoOntoTheMetaDevice) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto alone = two_layers();
    std::shared_ptr<TwoLayersImpl> module;
    if (rank.rank == 0) {
      module = two_layers();
    } else {
      module = std::make_shared<TwoLayersImpl>();
      const ConstructionGuard guard({.device = c10::kMeta, .initialize = false});
      module->first = module->replace_module("first", Linear(3, 3));
    }
    FullyShardedDataParallel model(module, {.sync_module_states = true});
    for (const auto& own : model.sharded_parameters()) {
      EXPECT_TENSORS_EQUAL(own.parameter.detach(), own_rows(alone->named_parameters()[own.name].detach(), own));
    }
    model(torch::ones({1, 3})).sum().backward();
    alone->forward(torch::ones({1, 3})).sum().backward();
    EXPECT_TENSORS_CLOSE(module->first->weight.grad(), own_gradient(*alone, model.sharded_parameters()[1]));
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, SummonedParametersAreWholeAndKeepWhatIsWritten) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto alone = two_layers(), module = two_layers();
    FullyShardedDataParallel model(module, {.mixed_precision = {.param_dtype = at::kBFloat16}});
    for (const bool writeback : {false, true}) {
      {
        const auto whole = model.summon_full_params(writeback);
        for (const auto& parameter : alone->named_parameters()) {
          EXPECT_TENSORS_EQUAL(module->named_parameters()[parameter.key()].detach(), parameter->detach());
        }
        EXPECT_ERROR(model(torch::ones({1, 3})), "summon_full_params");
        const torch::NoGradGuard no_grad;
        module->scale += 1;
      }
      const auto& own = model.sharded_parameters()[0];
      EXPECT_TENSORS_EQUAL(own.parameter.detach(), own_rows(torch::full({3}, writeback ? 2.0 : 1.0), own));
    }
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, NothingStaysWholeWhenNotAllCouldBeSummoned) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto module = two_layers();
    FullyShardedDataParallel model(module, each_layer());
    const auto rows = module->first->weight.detach().clone();
    module->second->to(at::kBFloat16);
    EXPECT_ERROR((void)model.summon_full_params(), "second", "replaced");
    EXPECT_TENSORS_EQUAL(module->first->weight.detach(), rows);
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, RefusesWhatCannotBeSharded) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto own = "rank " + std::to_string(rank.rank) + " of 2";
    const auto build = [](const std::shared_ptr<torch::nn::Module>& module, const FullyShardedOptions& options = {}) {
      FullyShardedDataParallel model(module, options);
    };
    EXPECT_ERROR(build(nullptr), "needs a module");
    EXPECT_ERROR(build(two_layers(), {.mixed_precision = {.param_dtype = at::kLong}}), "param_dtype", "Long");
    EXPECT_ERROR(build(two_layers(), {.ignored_modules = {"third"}}), "ignored_modules", "third");
    EXPECT_ERROR(build(two_layers(), {.ignored_parameters = {"bias"}}), "ignored_parameters", "bias");
    EXPECT_ERROR(build(torch::nn::Sequential(torch::nn::Linear(2, 2)).ptr(),
                       {.auto_wrap_policy = wrap_modules<torch::nn::LinearImpl>()}),
                 "forward hooks");
    EXPECT_ERROR(build(std::make_shared<LinearImpl>(2, 1 + rank.rank)), own, "weight", "[2, 2]", "[1, 2]");
    const auto uneven = rank.rank == 0 ? each_layer() : FullyShardedOptions{};
    EXPECT_ERROR(build(two_layers(), uneven), own, "units of rank 1 are not those of rank 0");
    auto scalar = two_layers();
    if (rank.rank == 1) {
      scalar->register_parameter("one", torch::ones({}));
    }
    EXPECT_ERROR(build(scalar), own, "scalar one");
    build(two_layers());  // every rank came out of it able to go on
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, AParameterWhoseDataWasReplacedIsNamed) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    const auto module = two_layers();
    FullyShardedDataParallel model(module);
    module->to(at::kBFloat16);
    EXPECT_ERROR(model(torch::ones({1, 3})), "scale", "replaced");
    destroy_process_group();
  });
}

struct Opaque {
  at::Tensor tensor{};
};

TEST(FullyShardedDataParallelTest, SaysWhenItCannotSeeTheOutput) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    FullyShardedDataParallel model(two_layers());
    const auto run = [&] { model.run([](auto& module) { return Opaque{module.forward(torch::ones({1, 3}))}; }); };
    EXPECT_ERROR(run(), "visit_fields");
    const torch::NoGradGuard no_grad;
    run();
    destroy_process_group();
  });
}

TEST(FullyShardedDataParallelTest, RanksThatRunTheirUnitsInAnotherOrderAreTold) {
  run_on_ranks(2, [](const Rank& rank) {
    rank.join();
    FullyShardedDataParallel model(two_layers(), each_layer());
    EXPECT_ERROR(model(torch::ones({1, 3}), rank.rank), "rank " + std::to_string(rank.rank) + " of 2", "disagree",
                 "unit 'first'", "unit 'second'");
    model(torch::ones({1, 3})).sum().backward();  // all of it left the model usable
    destroy_process_group();
  });
}

}  // namespace
}  // namespace transformers
