#pragma once

#include <transformers/auto/modeling_auto.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cli/task.h"

namespace transformers::cli {

/// Writes one line to stderr. Whatever came into the message, a name from a file among it, cannot move the cursor or
/// break the line.
void print_line(const std::string& message);

/// Says on stderr what a user may want to know; silent with --quiet.
void inform(const std::string& line);
void set_quiet(bool value);
bool is_quiet();
/// A line on stderr that the next one replaces; on a terminal alone. Whatever else is said there begins a new line.
void redraw(const std::string& line);
/// Ends such a line, if one stands.
void end_drawn_line();

/// Ends the program with exit status 2: the command line itself is wrong, whatever the files hold.
void require_usage(bool holds, const std::string& message);

/// What `read` makes of options; what it throws is wrong usage.
template <typename Read>
auto from_options(const Read& read) {
  try {
    return read();
  } catch (const c10::Error& error) {
    throw CLI::ValidationError(error.what_without_backtrace());
  }
}

/// The most memory this process has held, in bytes. (getrusage also counts what a parent held before it started us.)
int64_t peak_rss_bytes();

/// The options of every subcommand that runs a model.
struct ModelOptions {
  std::string model, config;
  std::string dtype = "auto", device = "cpu", attn = "auto";
  std::string quantize;  // "int8" or "int4": the layers of the base model, once loaded
  std::optional<uint64_t> seed;
  int num_threads = 0;
};

/// Adds --model, --config, --dtype, --device, --attn, --seed and --num-threads.
void add_model_options(CLI::App& command, ModelOptions& options);
/// Adds --quantize.
void add_quantize_option(CLI::App& command, ModelOptions& options);

/// Throws before any work is done when a tensor file cannot go there: no such folder, or something else than a tensor
/// file, which is not overwritten.
void check_output(const std::string& path);

/// Threads, seed and device as the options say; call before the first tensor.
void apply(const ModelOptions& options);
/// Starts the random numbers anew from --seed, where it was given.
void seed(const ModelOptions& options);

/// The model in eval mode: from the folder of --model, or newly initialized from the file of --config. `Auto` is one of
/// the auto classes; `folder` is that of --model, where it has been opened already.
template <typename Auto>
auto load_model(const ModelOptions& options, const std::optional<ModelFolder>& folder = std::nullopt);

// One function a subcommand; each adds itself with its options and its action.
void add_bench(CLI::App& app);
void add_convert(CLI::App& app);
void add_detokenize(CLI::App& app);
void add_finetune(CLI::App& app);
void add_forward(CLI::App& app);
void add_generate(CLI::App& app);
void add_inspect(CLI::App& app);
void add_plot(CLI::App& app);
void add_prune(CLI::App& app);
void add_tokenize(CLI::App& app);

// --- implementation ---

LoadOptions load_options(const ModelOptions& options);
std::unique_ptr<PretrainedConfig> config_of_file(const ModelOptions& options);
/// How --config builds: in the asked dtype on the asked device.
ConstructionOptions construction_for(const ModelOptions& options, const PretrainedConfig& config);

/// Adds --task; `trainable`: the tasks that can be trained alone. The value that is there is the default.
void add_task_option(CLI::App& command, Task& task, const std::string& description, bool trainable);

/// Rounds the weights as --quantize says.
void quantize_loaded(PreTrainedModel& model, const ModelOptions& options);

template <typename Auto>
auto fresh_model(const ModelOptions& options) {
  auto config = config_of_file(options);
  const ConstructionGuard guard(construction_for(options, *config));
  auto model = Auto::from_config(*config);
  model->eval();
  return model;
}

template <typename Auto>
auto load_model(const ModelOptions& options, const std::optional<ModelFolder>& folder) {
  auto model = options.model.empty() ? fresh_model<Auto>(options)
                                     : Auto::from_pretrained(folder.value_or(options.model), load_options(options));
  quantize_loaded(*model, options);
  return model;
}

}  // namespace transformers::cli
