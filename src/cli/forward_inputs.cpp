// Reads the input file of `forward` and checks names, dtypes, shapes and value ranges against the model's config, so
// that every error names the file and the tensor.
#include "cli/forward_inputs.h"

#include <ATen/ATen.h>
#include <transformers/utils/io/safetensors.h>
#include <transformers/utils/modeling/losses.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "utils/text/printable.h"

namespace transformers::cli {
namespace {

const std::string kCachePrefix = "past_key_values.";

std::set<std::string> names_taken(Task task, const PretrainedConfig& config) {
  std::set<std::string> names{"input_ids", "attention_mask", "position_ids", "inputs_embeds"};
  for (const auto& name : config.additional_inputs()) {
    names.insert(name);
  }
  if (task == Task::kQuestionAnswering) {
    names.insert({"start_positions", "end_positions"});
  } else if (task != Task::kBase) {
    names.insert("labels");
  }
  return names;
}

bool is_cache_entry(const std::string& name) {
  const bool ends = name.ends_with(".key") || name.ends_with(".value");
  if (!name.starts_with(kCachePrefix) || !ends) {
    return false;
  }
  const auto number = name.substr(kCachePrefix.size(), name.rfind('.') - kCachePrefix.size());
  return !number.empty() && number.size() < 7 && number.find_first_not_of("0123456789") == std::string::npos;
}

void check_names(const SafetensorsFile& file, Task task, const PretrainedConfig& config) {
  const auto taken = names_taken(task, config);
  std::string list;
  for (const auto& name : taken) {
    list += name + ", ";
  }
  for (const auto& info : file.tensors()) {
    TORCH_CHECK(taken.contains(info.name) || is_cache_entry(info.name), printable(file.path()),
                ": the model takes no \"", printable(info.name), "\"; it takes ", list,
                "past_key_values.{i}.key, past_key_values.{i}.value");
  }
}

/// Reads tensors of the file: checks the kind of those that exist, and moves them to the model's device.
class Reader {
 public:
  Reader(const SafetensorsFile& file, c10::Device device) : file_(file), device_(device) {}

  at::Tensor ids(const std::string& name, int64_t low, int64_t high) const {
    auto tensor = get(name);
    if (!tensor.defined()) {
      return tensor;
    }
    TORCH_CHECK(tensor.scalar_type() == at::kLong || tensor.scalar_type() == at::kInt, where(name),
                "must be int64, got ", tensor.scalar_type());
    check_ids(where(name), tensor, low, high);
    return tensor.to(device_, at::kLong);
  }

  at::Tensor floats(const std::string& name, c10::ScalarType dtype) const {
    const auto tensor = get(name);
    TORCH_CHECK(!tensor.defined() || tensor.is_floating_point(), where(name), "must be floating, got ",
                tensor.defined() ? tensor.scalar_type() : at::kFloat);
    return tensor.defined() ? tensor.to(device_, dtype) : tensor;
  }

  at::Tensor any(const std::string& name) const {
    const auto tensor = get(name);
    return tensor.defined() ? tensor.to(device_) : tensor;
  }

  std::string where(const std::string& name) const { return printable(file_.path()) + ": " + name + " "; }

 private:
  at::Tensor get(const std::string& name) const { return file_.contains(name) ? file_.tensor(name) : at::Tensor(); }

  const SafetensorsFile& file_;
  c10::Device device_;
};

std::shared_ptr<Cache> read_cache(const SafetensorsFile& file, const Reader& reader, const PretrainedConfig& config,
                                  c10::ScalarType dtype) {
  std::vector<KeyValue> layers;
  for (int64_t i = 0; i < config.get_num_hidden_layers(); ++i) {
    const auto prefix = kCachePrefix + std::to_string(i);
    auto key = reader.floats(prefix + ".key", dtype);
    auto value = reader.floats(prefix + ".value", dtype);
    if (!key.defined() && !value.defined() && layers.empty()) {
      continue;
    }
    TORCH_CHECK(key.defined() && value.defined(), reader.where(prefix), "must have key and value for every layer");
    TORCH_CHECK(key.dim() == 4 && key.sizes() == value.sizes(), reader.where(prefix),
                "must have shape [batch, kv_heads, past, head_dim], got ", key.sizes(), " and ", value.sizes());
    layers.emplace_back(key, value);
  }
  for (const auto& info : file.tensors()) {
    const bool beyond = is_cache_entry(info.name) &&
                        std::stoll(info.name.substr(kCachePrefix.size())) >= config.get_num_hidden_layers();
    TORCH_CHECK(!beyond, reader.where(info.name), "is beyond the model's ", config.get_num_hidden_layers(), " layers");
  }
  return layers.empty() ? nullptr : DynamicCache::from_legacy_cache(layers);
}

/// -1 stands for any size.
using Shape = std::vector<int64_t>;

bool fits(const at::Tensor& tensor, const Shape& shape) {
  return std::equal(shape.begin(), shape.end(), tensor.sizes().begin(), tensor.sizes().end(),
                    [](int64_t wanted, int64_t found) { return wanted == -1 || wanted == found; });
}

void expect_shape(const std::string& where, const at::Tensor& tensor, std::initializer_list<Shape> shapes) {
  if (!tensor.defined()) {
    return;
  }
  std::ostringstream wanted;
  for (const auto& shape : shapes) {
    wanted << (wanted.tellp() > 0 ? " or " : "") << c10::IntArrayRef(shape);
  }
  const bool one_fits = std::ranges::any_of(shapes, [&](const Shape& s) { return fits(tensor, s); });
  TORCH_CHECK(one_fits, where, "must have shape ", wanted.str(), " (-1: any size), got ", tensor.sizes());
}

/// The tensor that says how many rows and tokens a call has: input_ids or inputs_embeds.
const at::Tensor& checked_tokens(const ModelInputs& inputs, const Reader& reader, const PretrainedConfig& config) {
  const bool by_ids = inputs.input_ids.defined();
  TORCH_CHECK(by_ids != inputs.inputs_embeds.defined(), reader.where("input_ids"),
              "or inputs_embeds must be given, one of the two, got ", by_ids ? "both" : "neither");
  const auto& tokens = by_ids ? inputs.input_ids : inputs.inputs_embeds;
  const auto where = reader.where(by_ids ? "input_ids" : "inputs_embeds");
  expect_shape(where, tokens, {by_ids ? Shape{-1, -1} : Shape{-1, -1, config.get_hidden_size()}});
  TORCH_CHECK(tokens.numel() > 0, where, "must not be empty, got shape ", tokens.sizes());
  return tokens;
}

/// tokens: what `checked_tokens` returns.
void check_label_shapes(const ForwardInputs& read, const Reader& reader, Task task, const PretrainedConfig& config,
                        const at::Tensor& tokens) {
  const auto batch = tokens.size(0), seq = tokens.size(1);
  const auto where = reader.where("labels");
  if (task != Task::kSequenceClassification) {
    expect_shape(where, read.labels, {{batch, seq}});
  } else if (read.labels.defined() && read.labels.is_floating_point() && config.num_labels() > 1) {
    expect_shape(where, read.labels, {{batch, config.num_labels()}});
  } else {
    expect_shape(where, read.labels, {{batch}, {batch, 1}});
  }
  expect_shape(reader.where("start_positions"), read.start_positions, {{batch}, {batch, 1}});
  expect_shape(reader.where("end_positions"), read.end_positions, {{batch}, {batch, 1}});
}

/// Checks every shape against batch, sequence and cache, so that the message can name the file.
void check_shapes(const ForwardInputs& read, const Reader& reader, Task task, const PretrainedConfig& config) {
  const auto& inputs = read.inputs;
  const auto expect = [&](const char* name, const at::Tensor& tensor, std::initializer_list<Shape> shapes) {
    expect_shape(reader.where(name), tensor, shapes);
  };
  const auto& tokens = checked_tokens(inputs, reader, config);
  const auto batch = tokens.size(0), seq = tokens.size(1);
  const auto past = inputs.past_key_values ? inputs.past_key_values->get_seq_length() : 0;
  const auto key = past + seq;
  const auto heads = config.sizes().num_attention_heads, head_dim = config.sizes().head_dim;
  for (int64_t i = 0; past > 0 && i < config.get_num_hidden_layers(); ++i) {
    expect((kCachePrefix + std::to_string(i) + ".key").c_str(), inputs.past_key_values->layer(i).first,
           {{batch, config.num_key_value_heads_left(i), past, head_dim}});
  }
  expect("attention_mask", inputs.attention_mask,
         {{batch, key}, {batch, 1, seq, key}, {1, 1, seq, key}, {batch, heads, seq, key}, {1, heads, seq, key}});
  expect("head_mask", inputs.head_mask, {{heads}, {config.get_num_hidden_layers(), heads}});
  expect("position_ids", inputs.position_ids, {{batch, seq}, {1, seq}});
  expect("token_type_ids", inputs.token_type_ids, {{batch, seq}});
  check_label_shapes(read, reader, task, config, tokens);
}

at::Tensor read_labels(const Reader& reader, Task task, const PretrainedConfig& config) {
  if (task == Task::kSequenceClassification) {
    const auto labels = reader.any("labels");
    const bool single = config.problem_type == ProblemType::kSingleLabelClassification;
    if (!labels.defined() || (labels.is_floating_point() && !single)) {
      return labels.defined() ? labels.to(at::kFloat) : labels;
    }
    return config.num_labels() == 1 ? labels.to(at::kFloat) : reader.ids("labels", 0, config.num_labels());
  }
  const auto high = task == Task::kTokenClassification ? config.num_labels() : config.vocab_size;
  const auto labels = reader.ids("labels", kIgnoreIndex, high);
  TORCH_CHECK(!labels.defined() || labels.lt(0).logical_and(labels.ne(kIgnoreIndex)).sum().item<int64_t>() == 0,
              reader.where("labels"), "must be in [0, ", high, ") or ", kIgnoreIndex);
  return labels;
}

}  // namespace

void check_ids(const std::string& where, const at::Tensor& ids, int64_t low, int64_t high) {
  if (ids.numel() == 0) {
    return;
  }
  const auto [least, most] = at::aminmax(ids);
  const auto allowed = [&](int64_t v) { return v >= low && v < high; };
  TORCH_CHECK(allowed(least.item<int64_t>()) && allowed(most.item<int64_t>()), where, "must be in [", low, ", ", high,
              "), got values from ", least.item<int64_t>(), " to ", most.item<int64_t>());
}

ForwardInputs read_forward_inputs(const std::string& path, Task task, const PretrainedConfig& config,
                                  c10::ScalarType dtype, c10::Device device) {
  const SafetensorsFile file(path);
  check_names(file, task, config);
  const Reader reader(file, device);
  constexpr auto kAny = std::numeric_limits<int64_t>::max(), kLeast = std::numeric_limits<int64_t>::min();
  ForwardInputs read;
  auto& inputs = read.inputs;
  inputs.input_ids = reader.ids("input_ids", 0, config.vocab_size);
  inputs.attention_mask = reader.any("attention_mask");
  inputs.position_ids =
      reader.ids("position_ids", 0, config.has_last_position() ? config.get_max_position_embeddings() : kAny);
  inputs.token_type_ids = reader.ids("token_type_ids", 0, config.vocab_size);
  inputs.inputs_embeds = reader.floats("inputs_embeds", dtype);
  inputs.head_mask = reader.floats("head_mask", dtype);
  inputs.past_key_values = read_cache(file, reader, config, dtype);
  read.labels = read_labels(reader, task, config);
  // The loss clamps positions outside the text, as in HF.
  read.start_positions = reader.ids("start_positions", kLeast, kAny);
  read.end_positions = reader.ids("end_positions", kLeast, kAny);
  check_shapes(read, reader, task, config);
  return read;
}

}  // namespace transformers::cli
