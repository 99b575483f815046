// The subcommand `prune`: makes a pruning plan or reads one, carries it out, and writes the smaller model with the
// tokenizer that fits it.
#include <ATen/ATen.h>
#include <transformers/utils/files/save_transaction.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/model_pruning/importance.h>
#include <transformers/utils/model_pruning/prune_tokenizer.h>
#include <transformers/utils/tokenization/tokenizer.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iomanip>
#include <iostream>
#include <memory>
#include <set>
#include <sstream>

#include "cli/common.h"
#include "cli/tokenizer_files.h"
#include "utils/files/internal/file_status.h"
#include "utils/files/internal/regular_file.h"
#include "utils/text/named_values.h"
#include "utils/text/printable.h"

namespace transformers::cli {
namespace {

using Numbers = std::vector<int64_t>;

constexpr size_t kMostText = size_t{1} << 28;
constexpr int64_t kCalibrationBlock = 512;  // tokens in a row

struct PruneOptions {
  std::string model, output, plan, vocab, criterion = "l2", calibration, dtype = "auto", save_plan;
  std::optional<double> heads, intermediate;
  Numbers layers;
  uint64_t seed = 0;
  bool global = false, zero = false, extended = false, dry_run = false;
};

constexpr std::array<NamedValue<PruningCriterion>, 5> kCriteria{{{"l1", PruningCriterion::kL1},
                                                                 {"l2", PruningCriterion::kL2},
                                                                 {"activation", PruningCriterion::kActivation},
                                                                 {"taylor", PruningCriterion::kTaylor},
                                                                 {"random", PruningCriterion::kRandom}}};

bool needs_calibration(const PruneOptions& options) {
  return options.criterion == "activation" || options.criterion == "taylor";
}

void check_usage(const PruneOptions& options) {
  const bool chosen_here = options.heads || options.intermediate || !options.layers.empty() || !options.vocab.empty();
  require_usage(chosen_here || !options.plan.empty(),
                "nothing to prune: give --heads, --intermediate, --layers, --vocab or --plan");
  require_usage(options.dry_run || !options.output.empty(), "--output is required unless --dry-run is given");
  const bool chooses = options.heads || options.intermediate;
  require_usage(!chooses || needs_calibration(options) == !options.calibration.empty(),
                "--calibration belongs to --criterion activation and taylor, which need it");
}

std::vector<at::Tensor> rows_of_ids(const std::string& path) {
  const SafetensorsFile file(path);
  TORCH_CHECK(file.contains("input_ids"), printable(path), ": there is no tensor input_ids");
  const auto ids = file.tensor("input_ids");
  TORCH_CHECK(ids.scalar_type() == at::kLong && ids.dim() == 2 && ids.numel() > 0, printable(path),
              ": input_ids must be int64 [samples, seq], got ", ids.scalar_type(), " ", ids.sizes());
  return ids.split(1);
}

/// A text in rows of at most `block` ids.
std::vector<at::Tensor> rows_of_text(const std::string& path, const std::string& model, int64_t block) {
  const auto text = read_regular_file(path, kMostText);
  const auto ids = load_tokenizer(model)->encode(text);
  TORCH_CHECK(ids.size() > 1, printable(path), ": the text has ", ids.size(), " tokens, at least 2 are needed");
  auto rows = at::tensor(ids, at::kLong).unsqueeze(0).split(block, 1);
  if (rows.back().size(1) == 1) {
    rows.pop_back();  // a single token has no next one to predict
  }
  return rows;
}

std::vector<at::Tensor> calibration_rows(const PruneOptions& options, const PretrainedConfig& config) {
  const auto block = std::min(kCalibrationBlock, config.get_max_position_embeddings());
  return options.calibration.ends_with(".safetensors") ? rows_of_ids(options.calibration)
                                                       : rows_of_text(options.calibration, options.model, block);
}

/// The ids of a file, one a line.
std::set<int64_t> listed_tokens(const std::string& path, int64_t vocab_size) {
  std::set<int64_t> listed;
  std::istringstream lines(read_regular_file(path, kMostText));
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    line.erase(std::remove(line.begin(), line.end(), '\r'), line.end());
    if (line.empty()) {
      continue;
    }
    int64_t id = -1;
    const auto [end, fault] = std::from_chars(line.data(), line.data() + line.size(), id);
    TORCH_CHECK(fault == std::errc() && end == line.data() + line.size() && id >= 0 && id < vocab_size, printable(path),
                ": line ", number, ": expected a token id in [0, ", vocab_size, "), found ", printable(line));
    TORCH_CHECK(listed.insert(id).second, printable(path), ": line ", number, ": token ", id, " is listed twice");
  }
  TORCH_CHECK(!listed.empty(), printable(path), ": lists no token");
  return listed;
}

/// Those special tokens of a config or a generation config that are in the vocabulary.
template <typename Config>
std::set<int64_t> special_tokens(const Config& config, int64_t vocab_size) {
  std::set<int64_t> ids(config.eos_token_id.begin(), config.eos_token_id.end());
  for (const auto& id : {config.pad_token_id, config.bos_token_id}) {
    ids.insert(id.value_or(-1));
  }
  std::erase_if(ids, [&](int64_t id) { return id < 0 || id >= vocab_size; });
  return ids;
}

/// The tokens of the file and those that the configs need.
Numbers kept_tokens(const PruneOptions& options, const PreTrainedModel& model) {
  const auto vocab_size = model.config().vocab_size;
  auto kept = listed_tokens(options.vocab, vocab_size);
  const auto listed = kept.size();
  kept.merge(special_tokens(model.config(), vocab_size));
  if (const auto* causal = dynamic_cast<const CausalLM*>(&model)) {
    kept.merge(special_tokens(causal->generation_config, vocab_size));
  }
  if (kept.size() > listed) {
    inform(std::to_string(kept.size() - listed) + " special token(s) of the configs are kept too");
  }
  return {kept.begin(), kept.end()};
}

/// Warns if a share is less than one part in every layer.
void warn_if_none(const std::string& option, const std::optional<double>& share, const HeadsByLayer& chosen,
                  const Numbers& counts, const std::string& what) {
  if (share && *share > 0 && chosen.empty() && !counts.empty()) {
    std::ostringstream line;
    line << "warning: " << option << " " << *share << " of " << *std::max_element(counts.begin(), counts.end()) << " "
         << what << " is less than one: none is removed";
    inform(line.str());
  }
}

PruningPlan make_plan(PreTrainedModel& model, const PruneOptions& options) {
  if (!options.plan.empty()) {
    return PruningPlan::load(options.plan);
  }
  PruningRequest request{
      .global = options.global,
      .importance = {.criterion = value_of_name(kCriteria, "criterion", options.criterion), .seed = options.seed}};
  if (options.heads) {
    request.shares[PrunablePart::kGroups] = *options.heads;
  }
  if (options.intermediate) {
    request.shares[PrunablePart::kChannels] = *options.intermediate;
  }
  if (!options.calibration.empty() && !request.shares.empty()) {
    request.importance.calibration = calibration_rows(options, model.config());
  }
  auto plan = plan_pruning(model, request);
  warn_if_none("--heads", options.heads, plan.heads, plan.model.key_value_heads, "key/value heads");
  warn_if_none("--intermediate", options.intermediate, plan.channels, plan.model.channels, "channels");
  plan.layers = options.layers;
  if (!options.vocab.empty()) {
    plan.vocabulary = kept_tokens(options, model);
  }
  return plan;
}

struct LayerSummary {
  int64_t heads, key_value_heads, channels, parameters;
};
struct Summary {
  int64_t parameters, bytes, vocabulary;
  std::vector<LayerSummary> layers;
};

Summary summary(PreTrainedModel& model) {
  Summary result{.parameters = model.num_parameters(),
                 .bytes = model.get_memory_footprint(/*with_buffers=*/false),
                 .vocabulary = model.config().vocab_size,
                 .layers = {}};
  const auto head_dim = model.config().sizes().head_dim;
  for (const auto& layer : model.structure().layers) {
    int64_t parameters = 0;
    for (const auto& parameter : layer.block->parameters()) {
      parameters += parameter.numel();
    }
    result.layers.push_back({.heads = layer.query->weight.size(0) / head_dim,
                             .key_value_heads = layer.key->weight.size(0) / head_dim,
                             .channels = layer.mlp_output->weight.size(1),
                             .parameters = parameters});
  }
  return result;
}

template <typename Before, typename After>
void print_row(const std::string& name, const Before& before, const After& after) {
  std::cout << std::left << std::setw(16) << name << std::right << std::setw(28) << before << std::setw(28) << after
            << '\n';
}

std::string described(const LayerSummary& layer) {
  return std::to_string(layer.heads) + "/" + std::to_string(layer.key_value_heads) + " " +
         std::to_string(layer.channels) + " " + std::to_string(layer.parameters);
}

/// gone: the layers of `before` that were removed.
void print_table(const Summary& before, const Summary& after, const Numbers& gone) {
  print_row("", "before", "after");
  print_row("parameters", before.parameters, after.parameters);
  print_row("bytes", before.bytes, after.bytes);
  print_row("layers", before.layers.size(), after.layers.size());
  print_row("vocabulary", before.vocabulary, after.vocabulary);
  std::cout << "each layer: query heads/key-value heads, MLP channels, parameters\n";
  auto left = after.layers.begin();
  for (size_t i = 0; i < before.layers.size(); ++i) {
    const bool is_gone = std::find(gone.begin(), gone.end(), static_cast<int64_t>(i)) != gone.end();
    print_row("layer " + std::to_string(i), described(before.layers[i]), is_gone ? "-" : described(*left));
    left += is_gone ? 0 : 1;
  }
}

/// Returns none if all tokens keep their ids.
std::optional<PrunedTokenizer> pruned_tokenizer(const PruneOptions& options, const PruningPlan& plan) {
  if (plan.vocabulary.empty() || options.zero) {
    return std::nullopt;
  }
  auto pruned = prune_tokenizer(options.model, plan.vocabulary);
  if (!pruned.refusal.empty()) {
    inform("warning: no tokenizer is written (" + pruned.refusal + "); vocab_map.json has the new id of each token");
  }
  return pruned;
}

void add_tokenizer(SaveTransaction& save, const PruneOptions& options, const std::optional<PrunedTokenizer>& pruned) {
  if (!pruned) {
    add_tokenizer_files(save, read_tokenizer_files(options.model));
    save.remove("vocab_map.json");  // may be there from an earlier save
    return;
  }
  for (const char* name : kTokenizerFiles) {
    save.remove(name);  // may be there from an earlier save and would not fit
  }
  for (const auto& [name, text] : pruned->files) {
    save.write(name, text);
  }
}

void check_output_folder(const PruneOptions& options) {
  TORCH_CHECK(!path_exists(options.output) || is_folder(options.output), printable(options.output),
              ": is not a folder");
}

/// In the same folder, files of the old vocabulary would remain beside the new weights.
void check_not_in_place(const PruneOptions& options, const PruningPlan& plan) {
  TORCH_CHECK(plan.vocabulary.empty() || !is_same_file(options.model, options.output), printable(options.output),
              ": a vocabulary cannot be pruned in place, choose another folder");
}

void show_plan(const PruneOptions& options, const PruningPlan& plan) {
  if (options.dry_run) {
    std::cout << plan.to_string();
  }
  if (!options.save_plan.empty()) {
    plan.save(options.save_plan);
  }
}

void save(PreTrainedModel& model, const PruneOptions& options, const PruningPlan& plan) {
  check_not_in_place(options, plan);
  const auto tokenizer = pruned_tokenizer(options, plan);
  SaveTransaction save(options.output);
  add_tokenizer(save, options, tokenizer);
  model.save_pretrained(save, {.extended = options.extended});
  save.commit();
}

void prune(const PruneOptions& options) {
  check_usage(options);
  if (!options.dry_run) {
    check_output_folder(options);
  }
  LoadOptions load;
  if (options.dtype != "auto") {
    load.dtype = dtype_from_name(options.dtype);
  }
  const auto model = AutoModelByArchitecture::from_pretrained(options.model, load);
  const auto plan = make_plan(*model, options);
  const auto mode = options.zero ? PruningMode::kZero : PruningMode::kRemove;
  plan.check(*model, mode);
  show_plan(options, plan);
  const auto before = summary(*model);
  prune_model(*model, plan, mode);
  const auto reason = model->config().inexpressible();
  TORCH_CHECK(reason.empty() || options.extended, printable(options.model), ": ", reason,
              "; --zero writes zeros instead, --extended a form that only this library reads");
  if (!options.dry_run) {
    save(*model, options, plan);
  }
  print_table(before, summary(*model), options.zero ? Numbers() : plan.layers);
}

}  // namespace

namespace {

/// The options that say what is removed, and how it is chosen.
void add_choices(CLI::App* command, const std::shared_ptr<PruneOptions>& options) {
  const auto share = [&](const char* name, std::optional<double>& field, const char* help) {
    command->add_option(name, field, help)->check([](const std::string& text) {
      double value = -1;
      const bool fits = CLI::detail::lexical_cast(text, value) && value >= 0 && value < 1;
      return fits ? std::string() : "must be in [0, 1), got " + text;
    });
  };
  share("--heads", options->heads, "share of key/value heads to remove from each layer, with their query heads");
  share("--intermediate", options->intermediate, "share of channels to remove from each MLP");
  command->add_option("--layers", options->layers, "layers to remove, counted from 0, e.g. 3,7")->delimiter(',');
  command->add_option("--vocab", options->vocab, "file of the token ids to keep, one per line");
  auto* plan = command->add_option("--plan", options->plan, "carry out a plan that --save-plan wrote for this model");
  for (const char* choice : {"--heads", "--intermediate", "--layers", "--vocab"}) {
    plan->excludes(command->get_option(choice));
  }
  command->add_option("--criterion", options->criterion, "how the importance of heads and channels is measured")
      ->check(CLI::IsMember(names_of(kCriteria)))
      ->capture_default_str();
  command->add_option("--calibration", options->calibration,
                      "text, or .safetensors with input_ids [samples, seq], for activation and taylor");
}

}  // namespace

void add_prune(CLI::App& app) {
  auto* command = app.add_subcommand("prune", "Remove heads, MLP channels, layers or tokens; write a smaller folder");
  auto options = std::make_shared<PruneOptions>();
  command->add_option("--model", options->model, "Hugging Face folder to read")->required();
  command->add_option("--output", options->output, "folder to write; created if missing");
  add_choices(command, options);
  command->add_option("--dtype", options->dtype, "auto: the dtype stated in config.json, else that of the weights")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16", "float16"}))
      ->capture_default_str();
  command->add_option("--seed", options->seed, "random seed of --criterion random")->capture_default_str();
  command->add_flag("--global", options->global, "choose among all layers together instead of a share of each");
  command->add_flag("--zero", options->zero, "set to zero instead of removing; all sizes stay");
  command->add_flag("--extended", options->extended,
                    "allow the library-only form, for what transformers' config cannot express");
  command->add_option("--save-plan", options->save_plan, "also write the plan as JSON");
  command->add_flag("--dry-run", options->dry_run, "print the plan, write no folder");
  command->footer(
      "Example: transformers-cpp prune --model models/SmolLM2-135M-Instruct --output small --intermediate 0.25");
  command->callback([options] { prune(*options); });
}

}  // namespace transformers::cli
