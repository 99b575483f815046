// Code that all subcommands share: lines on stderr, the options that choose and place a model, and checks before any
// work.
#include "cli/common.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/utils.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/nn/device.h>
#include <transformers/utils/quantization/weight_only.h>

#include <filesystem>
#include <fstream>
#include <iostream>

#include "cli/usage.h"
#include "utils/files/internal/file_status.h"
#include "utils/files/internal/regular_file.h"
#include "utils/text/printable.h"

namespace transformers::cli {
namespace {

bool quiet = false;
bool line_is_drawn = false;

}  // namespace

void set_quiet(bool value) { quiet = value; }
bool is_quiet() { return quiet; }

void redraw(const std::string& line) {
  std::cerr << "\r\x1b[K" << line << std::flush;
  line_is_drawn = true;
}

void end_drawn_line() {
  if (line_is_drawn) {
    std::cerr << std::endl;
    line_is_drawn = false;
  }
}

void print_line(const std::string& message) { std::cerr << printable_line(message) << std::endl; }

void inform(const std::string& line) {
  if (!quiet) {
    end_drawn_line();
    print_line(line);
  }
}

void require_usage(bool holds, const std::string& message) {
  if (!holds) {
    throw CLI::ValidationError(message);
  }
}

void check_output(const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path().string();
  TORCH_CHECK(folder.empty() || is_folder(folder), printable(path), ": there is no folder ", printable(folder));
  if (!path_exists(path)) {
    return;
  }
  try {
    if (!is_regular_file(path) || RegularFile(path).size() > 0) {
      SafetensorsFile{path};
    }
  } catch (const c10::Error&) {
    TORCH_CHECK(false, printable(path), ": is not a safetensors file and is not overwritten");
  }
}

int64_t peak_rss_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) {
      return std::stoll(line.substr(6)) * 1024;
    }
  }
  return 0;
}

void add_quantize_option(CLI::App& command, ModelOptions& options) {
  command.add_option("--quantize", options.quantize, "keep the weights of the layers in 8 or 4 bits")
      ->check(CLI::IsMember({"int8", "int4"}));
  command.add_flag("--float-activations", options.float_activations, "with --quantize: round no activations to 8 bits");
}

void add_task_option(CLI::App& command, Task& task, const std::string& description, bool trainable) {
  command
      .add_option_function<std::string>(
          "--task", [&task](const std::string& name) { task = task_from_name(name); }, description)
      ->check(CLI::IsMember(task_names(trainable)))
      ->default_str(std::string(kind_of(task).name));
}

void quantize_loaded(PreTrainedModel& model, const ModelOptions& options) {
  if (!options.quantize.empty()) {
    quantize(model.base_model(),
             {.format = weight_format_from_name(options.quantize),
              .activations = options.float_activations ? ActivationFormat::kFloat : ActivationFormat::kInt8});
  }
}

void add_model_options(CLI::App& command, ModelOptions& options) {
  auto* source = command.add_option_group("source");
  source->add_option("--model", options.model, "Hugging Face folder: config.json, weights, tokenizer");
  source->add_option("--config", options.config, "config.json of a model with random weights; see --seed");
  source->require_option(1);
  command.add_option("--dtype", options.dtype, "auto: the dtype stated in config.json, else that of the weights")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16", "float16"}))
      ->capture_default_str();
  command.add_option("--device", options.device, "cpu, cuda or cuda:I")->capture_default_str();
  command.add_option("--attn", options.attn, "attention kernel")
      ->check(CLI::IsMember({"auto", "eager", "sdpa", "flash"}))
      ->capture_default_str();
  command.add_option("--seed", options.seed, "random seed");
  command.add_option("--num-threads", options.num_threads, "CPU threads; 0: LibTorch's default")
      ->check(not_negative_number())
      ->capture_default_str();
}

void apply(const ModelOptions& options) {
  if (options.num_threads > 0) {
    at::set_num_threads(options.num_threads);
  }
  const auto device = from_options([&] { return c10::Device(options.device); });
  require_usage(device.is_cpu() || device.is_cuda(), "--device must be cpu, cuda or cuda:I, got " + options.device);
  require_device(device);
  seed(options);
}

void seed(const ModelOptions& options) {
  if (options.seed) {
    torch::manual_seed(*options.seed);
  }
}

LoadOptions load_options(const ModelOptions& options) {
  LoadOptions load;
  if (options.dtype != "auto") {
    load.dtype = dtype_from_name(options.dtype);
  }
  load.device = c10::Device(options.device);
  load.attn_implementation = attn_implementation_from_name(options.attn);
  return load;
}

std::unique_ptr<PretrainedConfig> config_of_file(const ModelOptions& options) {
  auto config = AutoConfig::from_json(read_regular_file(options.config, 1 << 20), options.config);
  config->attn_implementation = attn_implementation_from_name(options.attn);
  return config;
}

ConstructionOptions construction_for(const ModelOptions& options, const PretrainedConfig& config) {
  return {.dtype = options.dtype == "auto" ? config.dtype.value_or(c10::kFloat) : dtype_from_name(options.dtype),
          .device = c10::Device(options.device),
          .initialize = true};
}

}  // namespace transformers::cli
