#include <torch/torch.h>
#include <transformers/gptj/modeling_gptj.h>
#include <transformers/llama/modeling_llama.h>
#include <transformers/utils/placement/device_map.h>

#include "support/golden_collection.h"
#include "support/tensor_assertions.h"
#include "support/tiny_models.h"

namespace transformers::testing {
namespace {

using Json = nlohmann::json;

/// Places are numbers or names there.
Place place_of_json(const Json& place) {
  return place.is_number() ? Place(place.get<int>()) : Place(place.get<std::string>());
}

MaxMemory limits_of(const Json& pairs) {
  MaxMemory limits;
  for (const auto& pair : pairs) {
    limits[place_of_json(pair[0])] = pair[1].get<int64_t>();
  }
  return limits;
}

DeviceMap map_of(const Json& entries) {
  DeviceMap map;
  for (const auto& [name, place] : entries.items()) {
    map.insert_or_assign(name, place_of_json(place));
  }
  return map;
}

/// nlohmann's objects are sorted; the order of modules is in the text alone.
using OrderedJson = nlohmann::ordered_json;

ModuleSizes sizes_of(const OrderedJson& structure, const std::string& name = "") {
  ModuleSizes sizes{.name = name, .class_name = structure[0].get<std::string>()};
  for (const auto& [parameter, bytes] : structure[1].items()) {
    sizes.parameters.emplace_back(parameter, bytes.get<int64_t>());
  }
  sizes.buffer_bytes = structure[2].get<int64_t>();
  for (const auto& [child, below] : structure[3].items()) {
    sizes.children.push_back(sizes_of(below, child));
  }
  return sizes;
}

struct GoldenModel {
  ModuleSizes sizes;
  std::vector<std::vector<std::string>> tied;
  std::string config;
};

GoldenModel golden_model(const std::string& name) {
  const Golden file(golden_path("device_map", name));
  const auto model = OrderedJson::parse(file.metadata().at("cases"))["model"];
  return {sizes_of(model["structure"]), model["tied"].get<std::vector<std::vector<std::string>>>(),
          model["config"].get<std::string>()};
}

std::string text_of(const DeviceMap& map) {
  std::string text;
  for (const auto& [name, place] : map) {
    text += name + ": " + place.to_string() + "\n";
  }
  return text;
}

class InferAutoDeviceMapTest : public ::testing::TestWithParam<std::string> {};

TEST_P(InferAutoDeviceMapTest, GivesTheMapsOfAccelerateForEachStrategy) {
  const auto model = golden_model(GetParam());
  int cases = 0;
  for (const auto& item : golden_cases("device_map", GetParam())) {
    if (item.name == "model") {
      continue;
    }
    const auto no_split = item.get<std::vector<std::string>>("no_split_module_classes");
    const auto map = infer_auto_device_map(model.sizes, item.get<std::string>("strategy"),
                                           limits_of(item.arguments.at("max_memory")), no_split, model.tied);
    EXPECT_EQ(text_of(map), text_of(map_of(item.arguments.at("device_map")))) << item.name;
    ++cases;
  }
  EXPECT_EQ(cases, 24);
}

TEST_P(InferAutoDeviceMapTest, BalancesTheLimitsAsTransformersDoes) {
  const auto model = golden_model(GetParam());
  for (const auto& item : golden_cases("device_map", GetParam())) {
    if (item.name == "model" || item.get<std::string>("strategy") == "sequential") {
      continue;
    }
    const auto limits = get_balanced_memory(model.sizes, limits_of(item.arguments.at("max_memory")),
                                            item.get<std::vector<std::string>>("no_split_module_classes"),
                                            /*low_zero=*/item.get<std::string>("strategy") == "balanced_low_0");
    EXPECT_EQ(limits, limits_of(item.arguments.at("limits"))) << item.name;
  }
}

/// Names of parameters with their bytes, in order.
void list_parameters(const ModuleSizes& module, const std::string& prefix,
                     std::vector<std::pair<std::string, int64_t>>& list) {
  for (const auto& [name, bytes] : module.parameters) {
    list.emplace_back(prefix + name, bytes);
  }
  for (const auto& child : module.children) {
    list_parameters(child, prefix + child.name + ".", list);
  }
}

std::shared_ptr<CausalLM> meta_model(const GoldenModel& golden) {
  const ConstructionGuard guard({.device = c10::kMeta, .initialize = false});
  if (golden.sizes.class_name == "GPTJForCausalLM") {
    return GPTJForCausalLM(GPTJConfig::from_json(golden.config)).ptr();
  }
  return LlamaForCausalLM(LlamaConfig::from_json(golden.config)).ptr();
}

TEST_P(InferAutoDeviceMapTest, MeasuresOurModelsAsItDoesPythons) {
  const auto golden = golden_model(GetParam());
  const auto model = meta_model(golden);
  std::vector<std::pair<std::string, int64_t>> expected, found;
  list_parameters(golden.sizes, "", expected);
  list_parameters(module_sizes(*model), "", found);
  EXPECT_EQ(model->no_split_modules().size(), 1U);
  EXPECT_EQ(find_tied_parameters(*model), golden.tied);
  EXPECT_EQ(found, expected);
}

INSTANTIATE_TEST_SUITE_P(, InferAutoDeviceMapTest, ::testing::ValuesIn(golden_names("device_map", "")),
                         [](const auto& info) { return info.param; });

TEST(ModuleSizesTest, CountsFloatingTensorsInTheDtypeThatTheyWillHave) {
  const auto model = tiny_model(tiny_llama());
  const auto whole = module_sizes(*model), half = module_sizes(*model, at::kHalf);
  EXPECT_EQ(whole.children[0].children[0].parameters[0].second, 2 * half.children[0].children[0].parameters[0].second);
}

TEST(PlaceTest, ReadsTheNamesOfPythonsMaps) {
  EXPECT_EQ(Place("cpu").device(), c10::Device(c10::kCPU));
  EXPECT_EQ(Place("cuda:1"), Place(1));
  EXPECT_TRUE(Place("disk").is_disk());
  EXPECT_EQ(Place("disk").to_string(), "disk");
  EXPECT_LT(Place(1), Place("cpu"));
  EXPECT_LT(Place("cpu"), Place("disk"));
}

TEST(PlaceTest, RefusesUnknownPlaces) {
  EXPECT_ERROR(Place("gpu0"), "unknown place \"gpu0\"", "disk");
  EXPECT_ERROR(Place("cuda:"), "unknown place");
  EXPECT_ERROR(Place("cuda:1x"), "unknown place");
  EXPECT_ERROR(Place("cuda:123456"), "unknown place");
  EXPECT_ERROR(Place(-1), "[0, 128)", "-1");
  EXPECT_ERROR(DeviceMapOption("fastest"), "unknown place \"fastest\"");
  EXPECT_ERROR(Place("disk").device(), "the disk is no device");
}

TEST(DeviceMapTest, TheLongestNameDecides) {
  const DeviceMap map{{"", "cpu"}, {"model.layers.1", "disk"}, {"model", 0}};
  EXPECT_EQ(place_of(map, "lm_head.weight"), Place("cpu"));
  EXPECT_EQ(place_of(map, "model.layers.1.mlp.up_proj.weight"), Place("disk"));
  EXPECT_EQ(place_of(map, "model.layers.10.mlp.up_proj.weight"), Place(0));
  EXPECT_ERROR(place_of({{"model", 0}}, "lm_head.weight"), "no place", "lm_head.weight");
}

TEST(DeviceMapTest, NamesWhatTheModelLacksAndWhatTheMapLacks) {
  const auto model = tiny_model(tiny_llama());
  EXPECT_ERROR(check_device_map(*model, {{"", "cpu"}, {"model.layers.7", "cpu"}}), "no module model.layers.7");
  EXPECT_ERROR(check_device_map(*model, {{"model.layers", "cpu"}, {"lm_head", "cpu"}}), "gives no place",
               "model.embed_tokens.weight, model.norm.weight");
}

}  // namespace
}  // namespace transformers::testing
