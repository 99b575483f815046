#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/io/checkpoint.h>

#include <map>
#include <memory>
#include <optional>

#include "cli/common.h"
#include "cli/tokenizer_files.h"
#include "utils/files/internal/regular_file.h"
#include "utils/files/internal/save_journal.h"
#include "utils/json/strict_json.h"

namespace transformers::cli {
namespace {

struct ConvertOptions {
  std::string model, output, dtype = "auto", max_shard_size = "5GB", config_format = "5.x";
};

constexpr const char* kGenerationConfig = "generation_config.json";

/// The files that are copied unchanged.
struct SideFiles {
  std::map<std::string, std::string> tokenizer;
  std::optional<std::string> generation_config;
};

SideFiles read_side_files(const std::string& folder) {
  SideFiles files{.tokenizer = read_tokenizer_files(folder), .generation_config = std::nullopt};
  if (const auto path = folder + "/" + kGenerationConfig; file_exists(path)) {
    files.generation_config = read_regular_file(path, JsonLimits{}.max_bytes);
  }
  return files;
}

/// A generative model writes its own generation config.
void add_side_files(SaveTransaction& save, const SideFiles& files, const PreTrainedModel& model) {
  add_tokenizer_files(save, files.tokenizer);
  if (dynamic_cast<const CausalLM*>(&model) != nullptr) {
    return;
  }
  files.generation_config ? save.write(kGenerationConfig, *files.generation_config) : save.remove(kGenerationConfig);
}

void convert(const ConvertOptions& options) {
  const auto max_shard_size = from_options([&] { return parse_size(options.max_shard_size); });
  LoadOptions load;
  if (options.dtype != "auto") {
    load.dtype = dtype_from_name(options.dtype);
  }
  std::shared_ptr<PreTrainedModel> model;
  SideFiles side_files;
  const ModelFolder folder(options.model);
  folder.read_one_save([&] {
    model = AutoModelByArchitecture::from_pretrained(folder, load);
    side_files = read_side_files(options.model);
  });
  SaveTransaction save(options.output);
  add_side_files(save, side_files, *model);
  // A folder in the library-only form keeps that form.
  model->save_pretrained(save, {.max_shard_size = max_shard_size,
                                .extended = true,
                                .config_format = options.config_format == "4.x" ? ConfigFormat::kTransformers4
                                                                                : ConfigFormat::kTransformers5,
                                .keep_architectures = !model->config().architectures.empty() &&
                                                      !AutoModelByArchitecture::knows(model->config())});
  save.commit();
}

}  // namespace

void add_convert(CLI::App& app) {
  auto* command =
      app.add_subcommand("convert", "Rewrite a model folder: safetensors, resharded, cast, ties stored once");
  auto options = std::make_shared<ConvertOptions>();
  command->add_option("--model", options->model, "Hugging Face folder to read")->required();
  command->add_option("--output", options->output, "folder to write; created if missing")->required();
  command->add_option("--dtype", options->dtype, "auto: the dtype stated in config.json, else that of the weights")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16", "float16"}))
      ->capture_default_str();
  command->add_option("--max-shard-size", options->max_shard_size, "maximum size of a weight file, e.g. 500MB, 2GiB")
      ->capture_default_str();
  command->add_option("--config-format", options->config_format, "config.json as transformers 5.x or 4.x writes it")
      ->check(CLI::IsMember({"5.x", "4.x"}))
      ->capture_default_str();
  command->footer("Example: transformers-cpp convert --model old --output new --dtype bfloat16");
  command->callback([options] { convert(*options); });
}

}  // namespace transformers::cli
