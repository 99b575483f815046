#include <transformers/utils/io/checkpoint.h>

#include <memory>

#include "cli/common.h"
#include "cli/tokenizer_files.h"
#include "utils/json/file_status.h"

namespace transformers::cli {
namespace {

struct ConvertOptions {
  std::string model, output, dtype = "auto", max_shard_size = "5GB", config_format = "5.x";
};

void convert(const ConvertOptions& options) {
  const auto max_shard_size = from_options([&] { return parse_size(options.max_shard_size); });
  LoadOptions load;
  if (options.dtype != "auto") {
    load.dtype = dtype_from_name(options.dtype);
  }
  const auto model = AutoModelByArchitecture::from_pretrained(options.model, load);
  SaveTransaction save(options.output);
  if (!is_same_file(options.model, options.output)) {
    copy_tokenizer(options.model, save);
  }
  // A folder in the extended form stays one.
  model->save_pretrained(save, {.max_shard_size = max_shard_size,
                                .extended = true,
                                .config_format = options.config_format == "4.x" ? ConfigFormat::kTransformers4
                                                                                : ConfigFormat::kTransformers5});
  save.commit();
}

}  // namespace

void add_convert(CLI::App& app) {
  auto* command =
      app.add_subcommand("convert", "Write a model folder anew: safetensors, resharded, cast, ties stored once");
  auto options = std::make_shared<ConvertOptions>();
  command->add_option("--model", options->model, "Hugging Face folder to read")->required();
  command->add_option("--output", options->output, "folder to write; made when missing")->required();
  command->add_option("--dtype", options->dtype, "auto: what config.json or the weights say")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16", "float16"}))
      ->capture_default_str();
  command->add_option("--max-shard-size", options->max_shard_size, "bytes a file may hold, e.g. 500MB, 2GiB")
      ->capture_default_str();
  command->add_option("--config-format", options->config_format, "config.json as transformers 5.x or 4.x writes it")
      ->check(CLI::IsMember({"5.x", "4.x"}))
      ->capture_default_str();
  command->footer("Example: transformers-cpp convert --model old --output new --dtype bfloat16");
  command->callback([options] { convert(*options); });
}

}  // namespace transformers::cli
