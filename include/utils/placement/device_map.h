#pragma once

/// \file
/// The room utils/placement spreads one model over the GPUs, the CPU and the disk of one process. It decides where
/// parts lie and moves tensors between them; models that several processes share are in utils/tensor_parallel,
/// utils/pipeline and utils/fully_sharded.
///
///     auto model = LlamaForCausalLM::from_pretrained("llama-2-70b", {.device_map = "auto"});
///     for (const auto& [module, place] : model->hf_device_map()) {
///       std::cout << module << ": " << place.to_string() << '\n';
///     }

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <transformers/export.h>

#include <compare>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace torch::nn {
class Module;
}

namespace TRANSFORMERS_API transformers {

class PreTrainedModel;

// Device maps: on which device each part of a model is. Mirrors integrations/accelerate.py, transformers 5.23.0, and
// utils/modeling.py, accelerate 1.15.

/// A device, or the disk, i.e. the file that weights were read from. Converts from the values of Python's maps: numbers
/// of GPUs, and names. The order of places is: GPUs by number, then the CPU, then the disk.
class Place {
 public:
  Place(c10::Device device) : device_(device) {}
  Place(int cuda_index);
  /// "cpu", "disk", "cuda", "cuda:1"; "meta" stands for shapes without values. Throws on any other name.
  Place(const std::string& name);
  Place(const char* name) : Place(std::string(name)) {}

  bool is_disk() const { return !device_; }
  bool is_cpu() const { return device_ && device_->is_cpu(); }
  bool is_meta() const { return device_ && device_->is_meta(); }
  bool is_accelerator() const { return device_ && !device_->is_cpu() && !device_->is_meta(); }
  /// Throws for the disk.
  c10::Device device() const;
  std::string to_string() const;

  std::strong_ordering operator<=>(const Place& other) const { return order() <=> other.order(); }
  bool operator==(const Place& other) const { return order() == other.order(); }

 private:
  std::pair<int, int> order() const;

  std::optional<c10::Device> device_;  // unset: the disk
};

/// Places by module. A name covers everything below it, unless a longer name covers it too; "" is the whole model.
using DeviceMap = std::map<std::string, Place>;
/// The largest number of bytes of weights in each place.
using MaxMemory = std::map<Place, int64_t>;

/// The argument of `from_pretrained`: a strategy, a map, one place for everything, or a function that returns the map.
///
/// "auto" and "balanced" fill all GPUs about equally, "balanced_low_0" leaves room on the first, and "sequential" fills
/// each GPU before the next. Parts for which no GPU has room go to the CPU, then to the disk.
class DeviceMapOption {
 public:
  /// Receives the model before it has values, on the meta device.
  using MapOfModel = std::function<DeviceMap(PreTrainedModel&)>;

  DeviceMapOption() = default;
  DeviceMapOption(const char* strategy_or_place) : DeviceMapOption(std::string(strategy_or_place)) {}
  DeviceMapOption(const std::string& strategy_or_place);
  DeviceMapOption(DeviceMap map) : choice_(std::move(map)) {}
  DeviceMapOption(MapOfModel map) : choice_(std::move(map)) {}
  DeviceMapOption(std::initializer_list<DeviceMap::value_type> entries) : choice_(DeviceMap(entries)) {}

  /// Whether no option was given.
  bool empty() const { return std::holds_alternative<std::monostate>(choice_); }
  /// Null unless it is a map.
  const DeviceMap* map() const { return std::get_if<DeviceMap>(&choice_); }
  /// Null unless it is a strategy.
  const std::string* strategy() const { return std::get_if<std::string>(&choice_); }
  /// Null unless it is a function.
  const MapOfModel* map_of_model() const { return std::get_if<MapOfModel>(&choice_); }

 private:
  std::variant<std::monostate, std::string, DeviceMap, MapOfModel> choice_{};
};

/// The names and sizes of a module, from which a map is computed.
struct ModuleSizes {
  std::string name{};        // within the module that holds it; empty: the model
  std::string class_name{};  // HF's, e.g. LlamaDecoderLayer
  std::vector<std::pair<std::string, int64_t>>
      parameters{};          // of this module alone, in bytes; tied ones count under their first name
  int64_t buffer_bytes = 0;  // of this module alone
  std::vector<ModuleSizes> children{};
};

/// Sizes of a model whose floating tensors have `dtype`. The model may be on the meta device.
ModuleSizes module_sizes(const torch::nn::Module& model, std::optional<c10::ScalarType> dtype = std::nullopt);
/// Full names of parameters that share one tensor, group by group.
std::vector<std::vector<std::string>> find_tied_parameters(const torch::nn::Module& model);

/// The free memory of every GPU, and 90 % of that of the CPU.
MaxMemory get_max_memory();

/// Limits under which all GPUs hold about the same. low_zero: leave room on the first. Without GPUs returns max_memory.
MaxMemory get_balanced_memory(const ModuleSizes& model, MaxMemory max_memory,
                              const std::vector<std::string>& no_split_module_classes, bool low_zero = false);

/// Fills the places of `max_memory` one after the other, and the disk last. Modules of the named classes are not split.
/// The first GPU and the CPU keep room for the largest layer that may have to be loaded back. Tied parameters stay
/// together.
DeviceMap infer_auto_device_map(const ModuleSizes& model, const MaxMemory& max_memory,
                                const std::vector<std::string>& no_split_module_classes,
                                const std::vector<std::vector<std::string>>& tied_parameters = {});

/// Computes the map of a strategy.
DeviceMap infer_auto_device_map(const ModuleSizes& model, const std::string& strategy,
                                const std::optional<MaxMemory>& max_memory,
                                const std::vector<std::string>& no_split_module_classes,
                                const std::vector<std::vector<std::string>>& tied_parameters = {});

/// Throws, naming them, when the map names modules that do not exist, or leaves tensors of the model without a place.
void check_device_map(const torch::nn::Module& model, const DeviceMap& device_map);
/// The place of a tensor or module: that of the longest name that covers it. Throws when none does.
Place place_of(const DeviceMap& device_map, const std::string& name);

}  // namespace transformers
