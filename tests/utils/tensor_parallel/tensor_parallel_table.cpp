// One row of the table in docs/distributed.md:
//
//     torchrun --no-python --nproc-per-node 2 build/release/tests/tensor_parallel_table
//
// The ranks read their slices of a LLaMA's folder and take steps on one batch. Printed: peak memory of a rank above
// what it held before the model, bytes a rank sent in a step as the kernel counted them, and how far gradients and
// weights are from those of one process.
#include <torch/optim/sgd.h>
#include <torch/torch.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/distributed/torchrun.h>
#include <transformers/utils/tensor_parallel/tensor_parallel.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "utils/distributed/process_counters.h"
#include "utils/tensor_parallel/slices.h"

namespace {

using namespace transformers;
using testing::own_slice;
using testing::process_bytes;
using testing::sent_bytes;

constexpr int kSteps = 5;

LlamaConfig config() {
  LlamaConfig config;
  config.vocab_size = 2000;
  config.hidden_size = 256;
  config.intermediate_size = 688;
  config.num_hidden_layers = 8;
  config.num_attention_heads = 4;
  return config;
}

/// Written by rank 0, then there for all.
std::string saved_folder(const ProcessGroup& group) {
  const auto process = torch::full({1}, static_cast<int64_t>(getpid()), torch::kLong);
  group.broadcast(process, 0).wait();
  const auto parent =
      std::filesystem::temp_directory_path() / ("tensor_parallel_table_" + std::to_string(process.item<int64_t>()));
  const auto folder = (parent / "model").string();
  if (group.rank() == 0) {
    std::filesystem::create_directories(parent);
    torch::manual_seed(1);
    LlamaForCausalLM(config())->save_pretrained(folder);
  }
  group.barrier();
  return folder;
}

void train(LlamaForCausalLM& model, const at::Tensor& ids) {
  model->train();
  torch::optim::SGD optimizer(model->parameters(), 0.1);
  for (int step = 0; step < kSteps; ++step) {
    optimizer.zero_grad();
    model->forward({.input_ids = ids, .use_cache = false}, {.labels = ids, .loss_chunk_rows = 256}).loss.backward();
    optimizer.step();
  }
}

double largest_difference(const torch::nn::Module& whole, const torch::nn::Module& split,
                          const TensorParallel& parallel, bool of_gradients) {
  double largest = 0;
  const auto slices = split.named_parameters();
  for (const auto& parameter : whole.named_parameters()) {
    const auto& slice = slices[parameter.key()];
    const auto expected = own_slice(of_gradients ? parameter->grad() : *parameter, parameter.key(), parallel);
    const auto difference = (of_gradients ? slice.grad() : slice) - expected;
    largest = std::max(largest, difference.abs().max().item<double>());
  }
  return largest;
}

/// The largest over the ranks.
double over_ranks(const ProcessGroup& group, double value) {
  const auto tensor = torch::full({1}, value, torch::kDouble);
  group.all_reduce(tensor, ReduceOp::kMax).wait();
  return tensor.item<double>();
}

int print_row() {
  const auto group = init_process_group();
  const auto folder = saved_folder(group);
  torch::manual_seed(2);
  const auto batch = torch::randint(config().vocab_size, {8, 64}, torch::kLong);
  testing::forget_peak();
  const auto before = process_bytes("VmRSS");
  auto [model, parallel] = load_tensor_parallel<LlamaForCausalLM>(folder, group);
  const auto sent_before = sent_bytes();
  train(model, batch);
  const auto sent = over_ranks(group, static_cast<double>(sent_bytes() - sent_before) / kSteps);
  const auto memory = over_ranks(group, static_cast<double>(process_bytes("VmHWM") - before));

  auto alone = LlamaForCausalLM::from_pretrained(folder);
  train(alone, batch);
  const auto gradients = over_ranks(group, largest_difference(*alone, *model, parallel, /*of_gradients=*/true));
  const auto weights = over_ranks(group, largest_difference(*alone, *model, parallel, /*of_gradients=*/false));
  if (group.rank() == 0) {
    std::printf("| tensor-parallel | %d | %.1f MB | %.2f MB | %.1e | %.1e |\n", static_cast<int>(group.size()),
                memory / 1e6, sent / 1e6, gradients, weights);
    std::filesystem::remove_all(std::filesystem::path(folder).parent_path());
  }
  destroy_process_group();
  return gradients < 1e-6 && weights < 1e-6 ? 0 : 1;
}

}  // namespace

int main() { return transformers::record(print_row); }
