#include <gtest/gtest.h>
#include <torch/torch.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/generation/generate.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>

#include "support/tiny_models.h"
#include "utils/distributed/rank_death.h"

// A rank that dies: the others end with an error that names them and the reason, in time.

namespace transformers {
namespace {

using testing::DeathCase;
using testing::die;
using testing::expect_errors_when_a_rank_dies;
using testing::Rank;
using testing::tiny_ids;
using testing::tiny_llama;
using testing::tiny_model;

struct Split {
  std::shared_ptr<CausalLM> model;
  TensorParallel parallel;
};
using Operation = std::function<void(const Split&, const Rank&)>;

at::Tensor loss_of(CausalLM& model) {
  const auto ids = tiny_ids(2, 6);
  return model.forward({.input_ids = ids, .use_cache = false}, {.labels = ids}).loss;
}

/// call: of the first layer's MLP on rank 1, in which it dies; 0: before the operation.
DeathCase dying(const std::string& name, const std::string& says, const Operation& operation, int call = 0) {
  const auto prepare = [=](const Rank& rank, const ProcessGroup& group) {
    auto model = tiny_model(tiny_llama());
    auto parallel = tensor_parallelize(*model, group);
    if (rank.rank == 1 && call > 0) {
      model->structure().layers[0].mlp_output->register_forward_pre_hook(
          [=, calls = 0](const at::Tensor&) mutable { return ++calls == call ? (die(), at::Tensor()) : at::Tensor(); });
    }
    return [operation, split = Split{model, parallel}, rank] { operation(split, rank); };
  };
  return {.name = name, .says = says, .prepare = prepare, .dies_inside = call > 0};
}

const Operation kForward = [](const Split& split, const Rank&) { loss_of(*split.model); };
const Operation kGenerate = [](const Split& split, const Rank&) {
  const torch::NoGradGuard no_grad;
  generate(*split.model, {.input_ids = tiny_ids(2, 4)}, {.max_new_tokens = 6});
};

TEST(TensorParallelFailureTest, ARankThatDiesEndsWhatTheOtherDoes) {
  expect_errors_when_a_rank_dies(
      2, 1,
      {dying("forward", "all_reduce", kForward),
       dying("inside forward", "all_reduce", kForward, 1),
       dying("inside generation", "all_reduce", kGenerate, 3),
       dying("gather", "recv from rank 1",
             [](const Split& split, const Rank&) { gather_state_dict(*split.model, split.parallel); }),
       dying(
           "save", "recv from rank 1",
           [](const Split& split, const Rank& rank) { save_pretrained(*split.model, split.parallel, rank / "saved"); }),
       dying("clip", "all_reduce",
             [](const Split& split, const Rank&) { clip_grad_norm_(*split.model, split.parallel, 1); }),
       {.name = "construction", .says = "broadcast from rank 0", .prepare = [](const Rank&, const ProcessGroup& group) {
          return [group] { tensor_parallelize(*tiny_model(tiny_llama()), group); };
        }}});
}

TEST(TensorParallelFailureTest, ARankThatDiesInsideAForwardEndsThoseOfThreeOthers) {
  auto four_heads = dying("inside forward", "all_reduce", kForward, 1);
  expect_errors_when_a_rank_dies(4, 1, {four_heads});
}

}  // namespace
}  // namespace transformers
