// The subcommand `bench`: measures loading, prefill, decoding, training steps and the machine itself (memory bandwidth,
// speed of matmuls), and prints one JSON object per measurement.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <transformers/utils/nn/kernels.h>
#include <transformers/utils/optim/optimizer.h>
#include <transformers/utils/optim/parameter_groups.h>
#include <transformers/utils/training/keep_freed_memory.h>
#include <transformers/utils/training/training_tasks.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>

#include "cli/common.h"
#include "cli/usage.h"
#include "utils/nn/internal/parallel_for.h"

namespace transformers::cli {
namespace {

using Json = nlohmann::ordered_json;

struct TrainShape {
  int64_t batch, seq;
};

struct BenchOptions {
  ModelOptions model;
  std::vector<int64_t> prompt_tokens{128, 512};
  int64_t new_tokens = 64, context = 512, repetitions = 5, batch = 1;
  std::string cache = "dynamic";
  std::optional<TrainShape> train;
};

TrainShape train_shape(const std::string& text) {
  static const std::regex pattern("([1-9][0-9]{0,8})x([1-9][0-9]{0,8})");
  std::smatch match;
  require_usage(std::regex_match(text, match, pattern), "--train must be BATCHxSEQ, e.g. 4x256, got " + text);
  return {std::stoll(match[1]), std::stoll(match[2])};
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The seconds of each repetition, sorted. A first repetition is not counted.
std::vector<double> repeated(int64_t repetitions, const std::function<void()>& work) {
  work();
  std::vector<double> seconds;
  seconds.reserve(static_cast<size_t>(repetitions));
  for (int64_t i = 0; i < repetitions; ++i) {
    seconds.push_back(seconds_of(work));
  }
  std::ranges::sort(seconds);
  return seconds;
}

double median(const std::vector<double>& sorted) { return sorted[sorted.size() / 2]; }

Json per_second(double amount, const std::vector<double>& sorted_seconds) {
  return {{"min", amount / sorted_seconds.back()},
          {"median", amount / median(sorted_seconds)},
          {"max", amount / sorted_seconds.front()}};
}

void print(const Json& line) { std::cout << line.dump() << std::endl; }

/// The best of several passes over 1 GiB of anonymous memory, of which each thread reads its own part.
double read_bytes_per_second() {
  const auto words = at::ones({int64_t{1} << 27}, at::kLong);
  const auto* data = words.const_data_ptr<int64_t>();
  volatile int64_t kept = 0;  // keeps the compiler from removing the sum
  const auto pass = [&] {
    parallel_for(0, words.numel(), words.numel() / at::get_num_threads(), [&](int64_t begin, int64_t end) {
      int64_t sum = 0;
      for (int64_t i = begin; i < end; ++i) {
        sum += data[i];
      }
      kept = kept + sum;
    });
  };
  return static_cast<double>(words.nbytes()) / repeated(5, pass).front();
}

/// The best of several bf16 matmuls with 512 rows.
double bf16_flops_per_second() {
  const auto x = at::randn({512, 4096}, at::kBFloat16);
  const auto w = at::randn({4096, 4096}, at::kBFloat16);
  return 2.0 * 512 * 4096 * 4096 / repeated(5, [&] { at::linear(x, w); }).front();
}

/// The number of parameters that every token is multiplied with: all except an input embedding that is only looked up.
int64_t multiplied_parameters(CausalLM& model) {
  const auto embeddings = model.get_input_embeddings()->weight;
  const bool tied = model.get_output_embeddings()->weight.is_same(embeddings);
  return model.num_parameters() - (tied ? 0 : embeddings.numel());
}

/// The number of bytes that are read for every token.
int64_t multiplied_bytes(CausalLM& model) {
  const auto embeddings = model.get_input_embeddings()->weight;
  const bool tied = model.get_output_embeddings()->weight.is_same(embeddings);
  return model.get_memory_footprint(/*with_buffers=*/false) - (tied ? 0 : static_cast<int64_t>(embeddings.nbytes()));
}

std::shared_ptr<Cache> make_cache(const BenchOptions& options, int64_t tokens) {
  if (options.cache == "static") {
    return std::make_shared<StaticCache>(tokens);
  }
  return std::make_shared<DynamicCache>();
}

at::Tensor random_ids(const CausalLM& model, int64_t batch, int64_t tokens) {
  return at::randint(model.config().vocab_size, {batch, tokens}, at::kLong).to(model.device());
}

void bench_machine() {
  print({{"phase", "machine"},
         {"threads", at::get_num_threads()},
         {"kernels", kernels_in_use()},
         {"read_bytes_per_second", read_bytes_per_second()},
         {"bf16_flops_per_second", bf16_flops_per_second()}});
}

std::shared_ptr<CausalLM> bench_load(const BenchOptions& options) {
  const auto base_rss = peak_rss_bytes();
  std::shared_ptr<CausalLM> model;
  const auto seconds = seconds_of([&] { model = load_model<AutoModelForCausalLM>(options.model); });
  print({{"phase", "load"},
         {"seconds", seconds},
         {"tensors", model->parameters().size()},
         {"base_rss_bytes", base_rss},
         {"peak_rss_bytes", peak_rss_bytes()},
         {"weight_bytes", model->get_memory_footprint(/*with_buffers=*/false)}});
  return model;
}

void bench_prefill(CausalLM& model, const BenchOptions& options, int64_t tokens) {
  const c10::InferenceMode inference;
  const auto ids = random_ids(model, options.batch, tokens);
  const auto seconds = repeated(options.repetitions, [&] {
    model.forward({.input_ids = ids, .past_key_values = make_cache(options, tokens)}, {.logits_to_keep = 1});
  });
  const auto all = static_cast<double>(options.batch * tokens);
  const auto& config = model.config();
  const auto head = config.vocab_size * config.get_hidden_size();
  const auto per_token = 2.0 * static_cast<double>(multiplied_parameters(model) - head) +
                         2.0 * static_cast<double>(config.get_num_hidden_layers() * tokens * config.get_hidden_size());
  print({{"phase", "prefill"},
         {"tokens", tokens},
         {"batch", options.batch},
         {"tokens_per_second", per_second(all, seconds)},
         {"flops_per_second", per_token * all / median(seconds)}});
}

void bench_decode(CausalLM& model, const BenchOptions& options) {
  const c10::InferenceMode inference;
  const auto context = random_ids(model, options.batch, options.context);
  std::vector<double> seconds;
  for (int64_t i = 0; i <= options.repetitions; ++i) {
    const auto cache = make_cache(options, options.context + options.new_tokens);
    auto output = model.forward({.input_ids = context, .past_key_values = cache}, {.logits_to_keep = 1});
    seconds.push_back(seconds_of([&] {
      for (int64_t step = 0; step < options.new_tokens; ++step) {
        const auto next = output.logits.argmax(-1);
        output = model.forward({.input_ids = next, .past_key_values = cache}, {.logits_to_keep = 1});
      }
    }));
  }
  seconds.erase(seconds.begin());  // the first repetition warms up
  std::ranges::sort(seconds);
  const auto tokens = static_cast<double>(options.new_tokens * options.batch);
  print({{"phase", "decode"},
         {"tokens", options.new_tokens},
         {"batch", options.batch},
         {"context", options.context},
         {"tokens_per_second", per_second(tokens, seconds)},
         {"bytes_per_second", static_cast<double>(multiplied_bytes(model) * options.new_tokens) / median(seconds)},
         {"peak_rss_bytes", peak_rss_bytes()}});
}

void bench_train(CausalLM& model, const BenchOptions& options) {
  const auto [batch, seq] = *options.train;
  const auto ids = random_ids(model, batch, seq);
  keep_freed_memory();
  model.train();
  AdamW optimizer(trainable_parameters(model), torch::optim::AdamWOptions(1e-5));
  const auto task = causal_lm_task(model);
  const Batch samples{{"input_ids", ids}, {"labels", ids}};
  const auto items = static_cast<double>(task.count_items(samples));
  const auto seconds = repeated(options.repetitions, [&] {
    task.loss(samples, items).backward();
    optimizer.step();
    optimizer.zero_grad();
  });
  print({{"phase", "train_step"},
         {"tokens", batch * seq},
         {"batch", batch},
         {"tokens_per_second", per_second(static_cast<double>(batch * seq), seconds)},
         {"peak_rss_bytes", peak_rss_bytes()}});
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* command = app.add_subcommand("bench", "Measure machine, loading, prefill, decoding and training; JSON lines");
  auto options = std::make_shared<BenchOptions>();
  add_model_options(*command, options->model);
  add_quantize_option(*command, options->model);
  command->add_option("--prompt-tokens", options->prompt_tokens, "prompt lengths to measure")
      ->delimiter(',')
      ->check(positive_number())
      ->capture_default_str();
  const auto count = [&](const char* name, int64_t& field, const char* help) {
    command->add_option(name, field, help)->check(positive_number())->capture_default_str();
  };
  count("--new-tokens", options->new_tokens, "tokens decoded per repetition");
  count("--context", options->context, "tokens before decoding starts");
  count("--repetitions", options->repetitions, "measured runs of each phase, after one warm-up run");
  count("--batch", options->batch, "batch size");
  command->add_option("--cache", options->cache, "kind of key/value cache")
      ->check(CLI::IsMember({"dynamic", "static"}))
      ->capture_default_str();
  command->add_option_function<std::string>(
      "--train", [options](const std::string& text) { options->train = train_shape(text); },
      "also measure AdamW steps of BATCHxSEQ tokens, e.g. 4x256");
  command->footer("Example: transformers-cpp bench --config configs/bench-llama-1.1b.json --num-threads 2");
  command->callback([options] {
    apply(options->model);
    const auto model = bench_load(*options);
    for (const auto tokens : options->prompt_tokens) {
      bench_prefill(*model, *options, tokens);
    }
    bench_decode(*model, *options);
    if (options->train) {
      bench_train(*model, *options);
    }
    bench_machine();  // last, because its gigabyte would count in the peaks of the other phases
  });
}

}  // namespace transformers::cli
