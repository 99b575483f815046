// Random small networks of every supported pattern: what is left after pruning gives what the masked network gave.
#include <ATen/Parallel.h>
#include <transformers/utils/pruning/pruners.h>

#include <functional>
#include <random>

#include "support/tensor_assertions.h"
#include "utils/pruning/layers.h"
#include "utils/pruning/tensors.h"

namespace transformers {
namespace {

using testing::LSTMLinear;
using testing::OwnLinears;
using testing::sequential_of;
using Json = nlohmann::json;

class Draw {
 public:
  explicit Draw(uint64_t seed) : engine_(seed) {}

  int64_t from(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }
  bool coin() { return from(0, 1) == 1; }

  /// bool [size] that keeps at least one.
  at::Tensor mask(int64_t size) {
    std::vector<int64_t> keep;
    for (int64_t i = 0; i < size; ++i) {
      keep.push_back(from(0, 1));
    }
    keep[static_cast<size_t>(from(0, size - 1))] = 1;
    return testing::bools(keep);
  }

  /// A layer that acts on each element. A PReLU by channels takes those of dimension 1.
  Json elementwise(int64_t channels, bool channels_are_second) {
    const auto kind = from(0, 5);
    if (kind == 0) {
      return Json::array({"dropout"});
    }
    if (kind == 1 && channels_are_second) {
      return Json::array({"channel_prelu", channels});
    }
    const auto& names = testing::activation_names();
    return Json::array({names[static_cast<size_t>(from(0, static_cast<int64_t>(names.size()) - 1))]});
  }

 private:
  std::mt19937_64 engine_;
};

/// Layers in the form of `sequential_of`, an input, and which layers may be masked.
struct Network {
  Json layers = Json::array();
  at::Tensor input{};
  std::vector<SparsityConfig> config{};
  bool has_own_linears = false;
};

void add_layer(Network& network, Draw& draw, const Json& layer) {
  // The last one too: its outputs become fewer.
  if (network.layers.empty() || draw.from(0, 3) > 0) {
    network.config.push_back({.tensor_fqn = std::to_string(network.layers.size()) + ".weight",
                              .prune_bias = draw.coin(),
                              .mask = draw.mask(layer[2].get<int64_t>())});
  }
  network.layers.push_back(layer);
}

void add_linears(Network& network, Draw& draw, int64_t features) {
  for (int64_t depth = draw.from(1, 4); depth > 0; --depth) {
    const auto outputs = draw.from(2, 6);
    add_layer(network, draw, {"linear", features, outputs, draw.coin()});
    features = outputs;
    if (draw.coin()) {
      network.layers.push_back(draw.elementwise(features, network.input.dim() != 3));
    }
  }
}

Network linear_network(Draw& draw) {
  Network network;
  const auto features = draw.from(1, 5);
  network.input = draw.coin() ? at::randn({3, features}) : at::randn({2, 3, features});
  add_linears(network, draw, features);
  return network;
}

Network own_linear_network(Draw& draw) {
  auto network = linear_network(draw);
  network.has_own_linears = true;
  return network;
}

void add_steps(Network& network, Draw& draw, int64_t channels) {
  if (draw.coin()) {
    network.layers.push_back(draw.elementwise(channels, true));
  }
  if (draw.coin()) {
    network.layers.push_back({draw.coin() ? "max_pool2d" : "avg_pool2d", 2, draw.from(0, 1)});
  }
  if (draw.coin()) {
    network.layers.push_back(draw.elementwise(channels, true));
  }
}

int64_t add_convolutions(Network& network, Draw& draw, int64_t channels) {
  for (int64_t depth = draw.from(1, 3); depth > 0; --depth) {
    const auto outputs = draw.from(2, 5);
    add_layer(network, draw, {"conv2d", channels, outputs, draw.from(1, 2), draw.from(0, 1), draw.coin()});
    channels = outputs;
    add_steps(network, draw, channels);
  }
  return channels;
}

Network convolution_network(Draw& draw) {
  Network network;
  const auto channels = draw.from(1, 3);
  network.input = at::randn({2, channels, 16, 16});
  add_convolutions(network, draw, channels);
  return network;
}

Network flattened_network(Draw& draw) {
  Network network;
  auto channels = draw.from(1, 3);
  network.input = at::randn({2, channels, 16, 16});
  channels = add_convolutions(network, draw, channels);
  const auto size = draw.from(1, 2);
  network.layers.push_back({draw.coin() ? "adaptive_avg_pool2d" : "adaptive_max_pool2d", size});
  network.layers.push_back({"flatten"});
  add_linears(network, draw, channels * size * size);
  return network;
}

bool is_layer(const Json& layer) { return layer[0] == "linear" || layer[0] == "conv2d"; }

/// The masked network's outputs that stay: those of the last layer, when it is masked.
at::Tensor kept_outputs(const at::Tensor& outputs, const Network& network) {
  for (size_t i = network.layers.size(); i-- > 0;) {
    const auto kind = network.layers[i][0].get<std::string>();
    if (!is_layer(network.layers[i])) {
      continue;
    }
    const auto name = std::to_string(i) + ".weight";
    for (const auto& config : network.config) {
      if (config.tensor_fqn == name) {
        return outputs.index_select(kind == "linear" ? -1 : 1, config.mask.nonzero().flatten());
      }
    }
    return outputs;
  }
  return outputs;
}

/// A network as a model, and the chains it needs.
struct Built {
  std::shared_ptr<torch::nn::Module> model;
  std::function<at::Tensor(const at::Tensor&)> forward;
  std::vector<Chain> chains{};
};

Built build(const Network& network) {
  if (network.has_own_linears) {
    OwnLinears model(network.layers);
    return {model.ptr(), [model](const at::Tensor& input) { return model->forward(input); }, {model->chain}};
  }
  auto model = sequential_of(network.layers);
  return {model.ptr(), [model](const at::Tensor& input) mutable { return model->forward(input); }};
}

int64_t numbers_of(const torch::nn::Module& model) {
  int64_t count = 0;
  for (const auto& parameter : model.parameters()) {
    count += parameter.numel();
  }
  return count;
}

enum class Narrowing { kSure, kNone, kEither };

/// Whether layer `i` gets smaller by its mask. Before padding it does only without a bias, and then, as where a pooling
/// averages its padding, if the constants of hidden channels are zero there.
Narrowing narrowing_of(const Json& layers, size_t i) {
  bool averages_padding = false;
  for (size_t next = i + 1; next < layers.size(); ++next) {
    averages_padding = averages_padding || (layers[next][0] == "avg_pool2d" && layers[next][2] > 0);
    if (is_layer(layers[next])) {
      const bool is_padded = layers[next][0] == "conv2d" && layers[next][4] > 0;
      const bool has_bias = layers[i].back().get<bool>();
      const bool hangs_on_constants = is_padded || averages_padding;
      return is_padded && has_bias ? Narrowing::kNone : hangs_on_constants ? Narrowing::kEither : Narrowing::kSure;
    }
  }
  return Narrowing::kSure;
}

/// Returns how many layers had to get smaller.
int64_t check_rows(const torch::nn::Module& model, const Network& network) {
  const auto parameters = model.named_parameters();
  int64_t expected = 0;
  for (const auto& config : network.config) {
    const auto narrowing = narrowing_of(network.layers, std::stoul(config.tensor_fqn));
    const auto rows = parameters[config.tensor_fqn].size(0), kept = config.mask.sum().item<int64_t>();
    const bool may_stay = narrowing != Narrowing::kSure, may_go = narrowing != Narrowing::kNone;
    EXPECT_TRUE((may_go && rows == kept) || (may_stay && rows == config.mask.size(0)))
        << config.tensor_fqn << " has " << rows << " rows, the mask keeps " << kept;
    expected += !may_stay && kept < config.mask.size(0) ? 1 : 0;
  }
  return expected;
}

int64_t check(const Network& network) {
  const at::NoGradGuard no_grad;
  const auto built = build(network);
  SaliencyPruner pruner;
  pruner.prepare(built.model, network.config);
  const auto masked = built.forward(network.input);
  auto numbers = numbers_of(*built.model);
  for (const auto& added : pruner.prune(built.chains).added) {
    numbers += added.parameter.numel();
  }
  EXPECT_TRUE(testing::tensors_close_to_largest(built.forward(network.input), kept_outputs(masked, network), 1e-5));
  EXPECT_TRUE(pruner.groups().empty());
  const auto smaller = check_rows(*built.model, network);
  EXPECT_LE(numbers_of(*built.model) + (smaller > 0 ? 1 : 0), numbers);
  return smaller;
}

template <typename Make>
void check_many(uint64_t first_seed, int64_t count, const Make& make) {
  int64_t smaller = 0;
  for (uint64_t seed = first_seed; seed < first_seed + static_cast<uint64_t>(count); ++seed) {
    torch::manual_seed(seed);
    Draw draw(seed);
    const Network network = make(draw);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + network.layers.dump());
    smaller += check(network);
  }
  EXPECT_GT(smaller, count / 2);
}

/// Networks this small spend their time on waking threads.
class PruningPropertyTest : public ::testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
  void TearDown() override { at::set_num_threads(threads_); }

 private:
  int threads_ = at::get_num_threads();
};

TEST_F(PruningPropertyTest, LinearNetworksGiveTheirMaskedOutputs) { check_many(0, 400, linear_network); }

TEST_F(PruningPropertyTest, NetworksOfOurLinearGiveTheirMaskedOutputs) { check_many(5'000, 200, own_linear_network); }

TEST_F(PruningPropertyTest, ConvolutionNetworksGiveTheirMaskedOutputs) { check_many(10'000, 300, convolution_network); }

TEST_F(PruningPropertyTest, FlattenedNetworksGiveTheirMaskedOutputs) { check_many(20'000, 200, flattened_network); }

TEST_F(PruningPropertyTest, LSTMsGiveTheirMaskedOutputsWhenGatesAgree) {
  for (uint64_t seed = 30'000; seed < 30'100; ++seed) {
    SCOPED_TRACE(seed);
    torch::manual_seed(seed);
    Draw draw(seed);
    const at::NoGradGuard no_grad;
    const auto inputs = draw.from(1, 4), hidden = draw.from(2, 6), layers = draw.from(1, 3);
    LSTMLinear model(inputs, hidden, draw.from(2, 4), layers, /*with_norm=*/false);
    std::vector<SparsityConfig> config;
    const auto first = draw.mask(hidden);
    for (int64_t layer = 0; layer < layers; ++layer) {
      // Layers keep equally many units, not the same ones.
      const auto keep = first.index_select(0, at::randperm(hidden)).repeat({4});
      for (const char* kind : {"lstm.weight_ih_l", "lstm.weight_hh_l"}) {
        config.push_back({.tensor_fqn = kind + std::to_string(layer), .mask = keep});
      }
    }
    const auto last = draw.mask(model->linear->weight.size(0));
    config.push_back({.tensor_fqn = "linear.weight", .prune_bias = draw.coin(), .mask = last});
    SaliencyPruner pruner;
    pruner.prepare(model.ptr(), config);
    const auto input = at::randn({4, 2, inputs});
    const auto masked = model(input);
    pruner.prune({{"lstm", "linear", kOutput}});
    EXPECT_TRUE(
        testing::tensors_close_to_largest(model(input), masked.index_select(-1, last.nonzero().flatten()), 1e-5));
  }
}

}  // namespace
}  // namespace transformers
