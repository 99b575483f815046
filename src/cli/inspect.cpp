// The subcommand `inspect`: prints what a model folder holds and whether it would load, in particular which keys of
// config.json are read, ignored or defaulted.
#include <transformers/utils/files/model_folder.h>
#include <transformers/utils/io/checkpoint.h>

#include <algorithm>
#include <array>
#include <iomanip>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/common.h"
#include "utils/files/internal/folder_json.h"
#include "utils/files/internal/save_journal.h"
#include "utils/text/printable.h"

namespace transformers::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string stored_dtype(const Checkpoint& checkpoint) {
  for (const auto& info : checkpoint.tensors()) {
    if (c10::isFloatingType(info.dtype)) {
      return c10::toString(info.dtype);
    }
  }
  return "none";
}

/// A key that this library reads, and another key of the file that says the same, completely or in part.
struct Spelling {
  std::string_view key, also;
};
constexpr std::array kSpellings{
    Spelling{"dtype", "torch_dtype"},
    Spelling{"rope_parameters", "rope_theta"},
    Spelling{"rope_parameters", "rope_scaling"},
    Spelling{"rope_parameters", "partial_rotary_factor"},
    Spelling{"n_positions", "max_position_embeddings"},
    Spelling{"n_embd", "hidden_size"},
    Spelling{"n_layer", "num_hidden_layers"},
    Spelling{"n_head", "num_attention_heads"},
    Spelling{"id2label", "num_labels"},
    Spelling{"label2id", "num_labels"},
    Spelling{"label2id", "id2label"},
};

bool is_said_otherwise(const Json& given, std::string_view key) {
  return std::ranges::any_of(kSpellings, [&](const Spelling& spelling) {
    const auto entry = spelling.key == key ? given.find(spelling.also) : given.end();
    return entry != given.end() && !entry->is_null();
  });
}

/// Whether generation reads a key of config.json, which it does when there is no generation_config.json.
bool serves_generation(const ModelFolder& folder, const std::string& key) {
  const auto known = GenerationConfig::from_json(Json{{key, nullptr}}.dump()).unknown_keys.empty();
  return known && !folder.contains("generation_config.json");
}

bool is_read(const ModelFolder& folder, const PretrainedConfig& config, const std::string& key) {
  return is_generation_key(key) ? serves_generation(folder, key) : !config.unknown_keys.contains(key);
}

/// Every key of the file and every key that this library reads, with what was done with it.
Json config_keys(const ModelFolder& folder, const PretrainedConfig& config) {
  const auto& given = folder_json(folder, "config.json");
  const auto used = Json::parse(config.to_json());
  Json keys = Json::object();
  for (const auto& [key, value] : given.items()) {
    keys[key] = {{"value", value}, {"state", is_read(folder, config, key) ? "read" : "ignored"}};
  }
  for (const auto& [key, value] : used.items()) {
    if (!given.contains(key)) {
      keys[key] = {{"value", value}, {"state", is_said_otherwise(given, key) ? "read" : "defaulted"}};
    }
  }
  return keys;
}

Json tensor_list(const Checkpoint& checkpoint) {
  Json tensors = Json::array();
  for (const auto& info : checkpoint.tensors()) {
    tensors.push_back({{"name", info.name},
                       {"dtype", std::string(c10::toString(info.dtype))},
                       {"shape", info.shape},
                       {"bytes", info.bytes},
                       {"file", info.file}});
  }
  return tensors;
}

struct Inspection {
  Json json;
  std::string problem;  // why the folder would not load; empty when it would
};

Inspection inspect(const ModelFolder& folder) {
  const auto config = AutoConfig::from_pretrained(folder);
  const auto checkpoint = open_checkpoint(folder, *config, {});
  const auto head = AutoModelByArchitecture::head_for(*config, *checkpoint, folder.path());
  const auto model = build_for(*config, *checkpoint, folder.path(), [&](const PretrainedConfig& fitting) {
    return AutoModelByArchitecture::from_config(fitting, head);
  });
  const auto report = match_weights(*model, *checkpoint);
  Json mismatched = Json::array();
  for (const auto& key : report.mismatched) {
    mismatched.push_back({{"name", key.name}, {"found", key.found}, {"expected", key.expected}});
  }
  Inspection result;
  result.json = {{"architecture", model->architecture()},
                 {"model_type", config->model_type()},
                 {"parameters", model->num_parameters()},
                 {"bytes", checkpoint->bytes()},
                 {"dtype", stored_dtype(*checkpoint)},
                 {"shards", checkpoint->files()},
                 {"tensors", tensor_list(*checkpoint)},
                 {"config", config_keys(folder, *config)},
                 {"missing", report.missing},
                 {"unexpected", report.unexpected},
                 {"mismatched", mismatched}};
  try {
    check_fit(report, *model, folder.path());
  } catch (const c10::Error& error) {
    result.problem = error.what_without_backtrace();
  }
  return result;
}

std::string human_bytes(double bytes) {
  const char* unit = "B";
  for (const char* next : {"kB", "MB", "GB"}) {
    if (bytes < 1000) {
      break;
    }
    bytes /= 1000;
    unit = next;
  }
  std::ostringstream text;
  text << std::setprecision(4) << bytes << " " << unit;
  return text.str();
}

void print_list(const char* title, const Json& list) {
  if (!list.empty()) {
    std::cout << title << "\n";
    for (const auto& entry : list) {
      std::cout << "  " << printable(entry.is_string() ? entry.get<std::string>() : entry.dump()) << "\n";
    }
  }
}

void print_table(const Json& j) {
  std::cout << "architecture  " << printable(j["architecture"].get<std::string>()) << " ("
            << j["model_type"].get<std::string>() << ")\n"
            << "parameters    " << j["parameters"] << "\n"
            << "weights       " << human_bytes(j["bytes"].get<double>()) << ", " << j["dtype"].get<std::string>()
            << ", " << j["tensors"].size() << " tensors in " << j["shards"].size() << " file(s)\n";
  print_list("shards", j["shards"]);
  std::cout << "config\n";
  for (const auto& [key, entry] : j["config"].items()) {
    std::cout << "  " << std::left << std::setw(28) << printable(key) << std::setw(11)
              << entry["state"].get<std::string>() << printable(entry["value"].dump()) << "\n";
  }
  std::cout << "tensors\n";
  for (const auto& tensor : j["tensors"]) {
    std::cout << "  " << std::left << std::setw(56) << printable(tensor["name"].get<std::string>()) << std::setw(10)
              << tensor["dtype"].get<std::string>() << std::setw(16) << tensor["shape"].dump()
              << human_bytes(tensor["bytes"].get<double>()) << "\n";
  }
  print_list("missing", j["missing"]);
  print_list("unexpected", j["unexpected"]);
  print_list("wrong shape", j["mismatched"]);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto* command = app.add_subcommand("inspect", "Show what a model folder holds and whether it would load");
  auto path = std::make_shared<std::string>();
  auto as_json = std::make_shared<bool>(false);
  command->add_option("folder", *path, "Hugging Face folder")->required();
  command->add_flag("--json", *as_json, "one JSON object instead of a table");
  command->footer("Example: transformers-cpp inspect models/SmolLM2-135M-Instruct");
  command->callback([path, as_json] {
    Inspection result;
    const ModelFolder folder(*path);
    folder.read_one_save([&] { result = inspect(folder); });
    if (*as_json) {
      std::cout << result.json.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/true) << std::endl;
    } else {
      print_table(result.json);
    }
    TORCH_CHECK(result.problem.empty(), result.problem);
  });
}

}  // namespace transformers::cli
