// Random small networks of every supported pattern: what is left after pruning gives what the masked network gave.
#include <ATen/Parallel.h>
#include <transformers/utils/pruning/pruners.h>

#include <random>

#include "support/tensor_assertions.h"
#include "utils/pruning/layers.h"
#include "utils/pruning/tensors.h"

namespace transformers {
namespace {

using testing::LSTMLinear;
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

  std::string activation() {
    const auto& names = testing::activation_names();
    return names[static_cast<size_t>(from(0, static_cast<int64_t>(names.size()) - 1))];
  }

 private:
  std::mt19937_64 engine_;
};

/// Layers in the form of `sequential_of`, an input, and which layers may be masked.
struct Network {
  Json layers = Json::array();
  at::Tensor input{};
  std::vector<SparsityConfig> config{};
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
      network.layers.push_back({draw.activation()});
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

void add_steps(Network& network, Draw& draw) {
  if (draw.coin()) {
    network.layers.push_back({draw.activation()});
  }
  if (draw.coin()) {
    network.layers.push_back({draw.coin() ? "max_pool2d" : "avg_pool2d", 2, draw.from(0, 1)});
  }
  if (draw.coin()) {
    network.layers.push_back({draw.activation()});
  }
}

int64_t add_convolutions(Network& network, Draw& draw, int64_t channels) {
  for (int64_t depth = draw.from(1, 3); depth > 0; --depth) {
    const auto outputs = draw.from(2, 5);
    add_layer(network, draw, {"conv2d", channels, outputs, draw.from(1, 2), draw.from(0, 1), draw.coin()});
    channels = outputs;
    add_steps(network, draw);
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

/// The masked network's outputs that stay: those of the last layer, when it is masked.
at::Tensor kept_outputs(const at::Tensor& outputs, const Network& network) {
  for (size_t i = network.layers.size(); i-- > 0;) {
    const auto kind = network.layers[i][0].get<std::string>();
    if (kind != "linear" && kind != "conv2d") {
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

void check(const Network& network) {
  const at::NoGradGuard no_grad;
  auto model = sequential_of(network.layers);
  SaliencyPruner pruner;
  pruner.prepare(model.ptr(), network.config);
  const auto masked = model->forward(network.input);
  pruner.prune();
  EXPECT_TRUE(testing::tensors_close_to_largest(model->forward(network.input), kept_outputs(masked, network), 1e-5));
  EXPECT_TRUE(pruner.groups().empty());
}

template <typename Make>
void check_many(uint64_t first_seed, int64_t count, const Make& make) {
  for (uint64_t seed = first_seed; seed < first_seed + static_cast<uint64_t>(count); ++seed) {
    torch::manual_seed(seed);
    Draw draw(seed);
    const Network network = make(draw);
    SCOPED_TRACE("seed " + std::to_string(seed) + ": " + network.layers.dump());
    check(network);
  }
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
