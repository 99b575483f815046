#pragma once

#include <transformers/auto/modeling_auto.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cli/task.h"

namespace transformers::cli {

/// Writes one line to stderr. The message is escaped, so that names from files cannot move the cursor or break the
/// line.
void print_line(const std::string& message);

/// Prints information for the user on stderr; silent with --quiet.
void inform(const std::string& line);
void set_quiet(bool value);
bool is_quiet();
/// Draws a line on stderr that the next call replaces; only on a terminal. Other output begins a new line.
void redraw(const std::string& line);
/// Ends such a line, if there is one.
void end_drawn_line();

/// Unless `holds`, ends the program with exit status 2: the command line itself is wrong, whatever the files contain.
void require_usage(bool holds, const std::string& message);

/// Returns the result of `read`, which reads options; its errors are reported as wrong usage.
template <typename Read>
auto from_options(const Read& read) {
  try {
    return read();
  } catch (const c10::Error& error) {
    throw CLI::ValidationError(error.what_without_backtrace());
  }
}

/// The peak memory of this process in bytes. (getrusage also counts the peak of the parent process from before the
/// start.)
int64_t peak_rss_bytes();

/// The options that all subcommands with a model share.
struct ModelOptions {
  std::string model, config;
  std::string dtype = "auto", device = "cpu", attn = "auto";
  std::string quantize;  // "int8" or "int4": the layers of the base model, once loaded
  bool float_activations = false;
  std::optional<uint64_t> seed;
  int num_threads = 0;
};

/// Adds --model, --config, --dtype, --device, --attn, --seed and --num-threads.
void add_model_options(CLI::App& command, ModelOptions& options);
/// Adds --quantize and --float-activations.
void add_quantize_option(CLI::App& command, ModelOptions& options);

/// Throws before any work is done when a tensor file cannot be written to the path: the folder does not exist, or the
/// path is a file of another kind, which is not overwritten.
void check_output(const std::string& path);

/// Sets threads, seed and device according to the options. Call it before the first tensor is made.
void apply(const ModelOptions& options);
/// Resets the random number generators to --seed, if it was given.
void seed(const ModelOptions& options);

/// The model in eval mode: loaded from the folder of --model, or newly initialized from the file of --config. `Auto` is
/// one of the auto classes. `folder` is that of --model, if it has been opened already.
template <typename Auto>
auto load_model(const ModelOptions& options, const std::optional<ModelFolder>& folder = std::nullopt);

// One function per subcommand, which adds it with its options and its action.
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
/// Construction options of --config: the requested dtype and device.
ConstructionOptions construction_for(const ModelOptions& options, const PretrainedConfig& config);

/// Adds --task; `trainable`: offer only tasks that can be trained. The present value of `task` is the default.
void add_task_option(CLI::App& command, Task& task, const std::string& description, bool trainable);

/// Quantises the weights according to --quantize.
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
