// The one file that sees gloo_declarations/, see gloo/algorithm.h there.
#include <sstream>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "utils/distributed/backends.h"
#include "utils/distributed/environment.h"

namespace transformers {
namespace {

using Gloo = c10d::ProcessGroupGloo;

/// As torch.distributed reads the variable: one device for each interface, separated by commas.
std::vector<std::shared_ptr<gloo::transport::Device>> devices() {
  const auto interfaces = environment_variable("GLOO_SOCKET_IFNAME");
  if (!interfaces) {
    return {Gloo::createDefaultDevice()};
  }
  std::vector<std::shared_ptr<gloo::transport::Device>> found;
  std::istringstream names(*interfaces);
  for (std::string name; std::getline(names, name, ',');) {
    found.push_back(Gloo::createDeviceForInterface(name));
  }
  return found;
}

}  // namespace

c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const BackendPlan& plan) {
  auto options = Gloo::Options::create(plan.timeout);
  options->devices = devices();
  options->threads = static_cast<int>(2 * options->devices.size());
  return c10::make_intrusive<Gloo>(plan.store, static_cast<int>(plan.rank), static_cast<int>(plan.size),
                                   std::move(options));
}

}  // namespace transformers
